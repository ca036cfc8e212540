//! Sessions.

use std::time::Duration;

/// The cookie's name and life: CONTRACT "session".
#[derive(Clone, Debug)]
pub struct Config {
    /// `__Host-upwarden` on https, `upwarden` on http.
    pub cookie: String,
    /// `Secure`: the public URL is https.
    pub secure: bool,
    /// After the last refresh.
    pub lifetime: Duration,
    /// A token that ended longer ago than this is refreshed before the app is reached.
    pub recheck: Duration,
}
