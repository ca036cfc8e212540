//! Whose path is it?

/// `prefix`, `app.public_paths`.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `/upwork`: begins with a slash, ends without one.
    pub prefix: String,
    /// Whole-segment prefixes that need no session.
    pub public_paths: Vec<String>,
}
