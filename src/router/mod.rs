//! Decides whether a path is the app's, the API's or one of our endpoints, on the same bytes that are forwarded.
//!
//! It never normalises a path: an ambiguous spelling is never one of ours (docs/reference.md "Ambiguous paths").

pub(crate) mod percent;
pub(crate) mod public_url;
pub(crate) mod return_to;
pub(crate) mod sign_out_to;

pub(crate) use public_url::PublicUrl;
pub use return_to::ReturnTo;
pub use sign_out_to::SignOutTo;

use http::Uri;

use crate::telemetry::RouteKind;
use percent::{Readings, escapes, readings};

/// A front appends the target of the request in question.
const VERIFY: &str = "/auth/verify";

/// The public keys of assertions, at a well-known location (RFC 8615) that does not depend on the prefix.
pub(crate) const JWKS: &str = "/.well-known/upwarden/jwks.json";

/// Rounds of percent-decoding that are checked.
const ROUNDS: usize = 4;

/// Which paths are ours.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `/upwork`: begins with a slash and does not end with one.
    pub prefix: String,
    /// `JWKS` is ours.
    pub jwks: bool,
}

/// The owner of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// `{prefix}/api/…`; [`Config::below_prefix`] returns the path to call at Upwork.
    Api,
    /// `{prefix}/graphql` or `{prefix}/api/graphql`.
    Graphql,
    /// `{prefix}/auth/…`, and `JWKS`.
    Auth(AuthPath),
    /// Under the prefix, but not one of our paths.
    Unknown,
    /// Under the prefix, in a spelling that servers could read differently: 400.
    Ambiguous,
    /// Everything else.
    App,
}

/// Our own endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthPath {
    /// The prefix itself, which leads to the account page.
    Home,
    Account,
    /// Begins a sign-in.
    Login,
    /// Where Upwork sends the browser back.
    Callback,
    /// Ends the session.
    Logout,
    /// The session as JSON.
    Session,
    /// For forward-auth.
    Verify,
    /// The same, with the target of the request in question appended.
    VerifyTarget,
    /// Personal access tokens.
    Tokens,
    /// One of them; its id is the last segment.
    Token,
    /// The stylesheet of our pages.
    Stylesheet,
    /// The public keys of assertions, at `JWKS`.
    Jwks,
    /// The operator's logo.
    Logo,
}

impl Config {
    /// The rest of one of our paths, without the prefix: `/api/…`, `/auth/…`.
    pub fn below_prefix<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(self.prefix.as_str()).unwrap_or(path)
    }

    /// The target that is appended to an address whose path is [`AuthPath::VerifyTarget`].
    pub fn verified<'a>(&self, uri: &'a Uri, endpoint: AuthPath) -> Option<&'a str> {
        let target = uri.path_and_query().filter(|_| endpoint == AuthPath::VerifyTarget)?;
        self.below_prefix(target.as_str()).strip_prefix(VERIFY)
    }
}

impl AuthPath {
    /// The token's id, in a path that is [`AuthPath::Token`].
    pub fn token_id(self, path: &str) -> Option<&str> {
        path.rsplit('/').next().filter(|_| self == Self::Token)
    }
}

impl Route {
    /// The name for metrics and logs.
    pub const fn kind(self) -> RouteKind {
        match self {
            Self::Api => RouteKind::Api,
            Self::Graphql => RouteKind::Graphql,
            Self::Auth(AuthPath::Verify | AuthPath::VerifyTarget) => RouteKind::Verify,
            Self::Auth(_) => RouteKind::Auth,
            Self::App => RouteKind::App,
            Self::Unknown | Self::Ambiguous => RouteKind::None,
        }
    }
}

/// The route of `path`, which must not have a query.
pub fn route(config: &Config, path: &str) -> Route {
    if config.jwks && path == JWKS {
        return Route::Auth(AuthPath::Jwks);
    }
    match below(&config.prefix, path) {
        // The appended target is not requested, so its spelling does not matter.
        Some(rest) if rest.strip_prefix(VERIFY).is_some_and(|target| target.starts_with('/')) => {
            Route::Auth(AuthPath::VerifyTarget)
        }
        Some(_) if is_ambiguous(path) => Route::Ambiguous,
        Some(rest) => ours(rest),
        None => Route::App,
    }
}

/// The rest after `prefix`, if `path` is the prefix itself or below it.
fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    // `\`, `%2f` and `%5c` end a segment for some servers: we refuse those spellings instead of forwarding them.
    let ends = rest.is_empty() || rest.starts_with(['/', '\\', ';']) || {
        let escape = rest.get(..3).unwrap_or_default();
        escape.eq_ignore_ascii_case("%2f") || escape.eq_ignore_ascii_case("%5c")
    };
    ends.then_some(rest)
}

fn ours(rest: &str) -> Route {
    match rest {
        "/graphql" | "/api/graphql" => Route::Graphql,
        "" | "/" => Route::Auth(AuthPath::Home),
        "/auth" | "/auth/" => Route::Auth(AuthPath::Account),
        "/auth/login" => Route::Auth(AuthPath::Login),
        "/auth/callback" => Route::Auth(AuthPath::Callback),
        "/auth/logout" => Route::Auth(AuthPath::Logout),
        "/auth/session" => Route::Auth(AuthPath::Session),
        VERIFY => Route::Auth(AuthPath::Verify),
        "/auth/tokens" => Route::Auth(AuthPath::Tokens),
        "/auth/style.css" => Route::Auth(AuthPath::Stylesheet),
        "/auth/logo" => Route::Auth(AuthPath::Logo),
        _ => match rest.strip_prefix("/auth/tokens/") {
            Some(id) if !id.is_empty() && !id.contains('/') => Route::Auth(AuthPath::Token),
            None if rest.starts_with("/api/") => Route::Api,
            Some(_) | None => Route::Unknown,
        },
    }
}

/// Whole segments only: `/health` covers `/health` and `/health/live`, not `/healthy`; `/assets/` covers what is below it.
pub(crate) fn covers(place: &str, path: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || place.ends_with('/'))
}

/// Whether two servers could read `path` as two paths: `.` and `..` segments (also with a `;` parameter), an encoded
/// dot, slash, backslash or NUL, a backslash, `//`, `#`, a control character, a broken escape, an overlong or otherwise
/// invalid UTF-8 escape (RFC 3986 sections 2.1 and 5.2.4; RFC 3629 section 3); and any of these after decoding the
/// escapes repeatedly, as a chain of careless servers might.
pub fn is_ambiguous(path: &str) -> bool {
    let bytes = path.as_bytes();
    // Most paths have none of these bytes.
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'\\' | b'#' | b'.' | 0..=0x20 | 0x7f))
        && memchr::memmem::find(bytes, b"//").is_none()
    {
        return false;
    }
    bytes.iter().any(|byte| matches!(byte, b'#' | b' ')) || has_two_readings(bytes) || has_ambiguous_escape(bytes)
}

fn has_two_readings(path: &[u8]) -> bool {
    path.iter().any(|byte| matches!(byte, b'\\' | 0..=0x1f | 0x7f))
        || memchr::memmem::find(path, b"//").is_some()
        || path.split(|byte| *byte == b'/').any(is_dot_segment)
}

/// Also with a parameter or surrounding spaces, which some servers drop first.
fn is_dot_segment(segment: &[u8]) -> bool {
    let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
    name.contains(&b'.') && matches!(String::from_utf8_lossy(name).trim(), "." | "..")
}

/// Whether an escape is broken, stands for a byte that separates or ends a path, or is not UTF-8 once decoded.
fn has_ambiguous_escape(path: &[u8]) -> bool {
    // In a decoded path a broken escape is a percent sign that the client meant (`100%25`).
    if escapes(path).any(|escape| escape.is_none()) {
        return true;
    }
    let separates = |escape: u8| matches!(escape, b'.' | b'/' | b'\\' | 0..=0x1f | 0x7f);
    let Readings { all, unfinished } = readings(path, ROUNDS);
    unfinished
        || all.iter().any(|reading| escapes(reading).flatten().any(separates))
        || all.iter().skip(1).any(|reading| std::str::from_utf8(reading).is_err() || has_two_readings(reading))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { prefix: "/upwork".to_owned(), jwks: false }
    }

    #[test]
    fn the_public_keys_are_at_one_path_if_at_all() {
        let on = Config { jwks: true, ..config() };
        assert_eq!(route(&config(), JWKS), Route::App);
        assert_eq!(route(&on, JWKS), Route::Auth(AuthPath::Jwks));
        assert_eq!(
            route(&Config { prefix: "/.well-known".to_owned(), ..on.clone() }, JWKS),
            Route::Auth(AuthPath::Jwks)
        );
        for path in ["/.well-known/upwarden/jwks.json/", "/.well-known/upwarden/", "/.well-known//upwarden/jwks.json"] {
            assert_eq!(route(&on, path), Route::App, "{path}");
        }
    }

    #[test]
    fn each_path_has_its_route() {
        let table = [
            ("/upwork/api/hr/v2/users/me.json", Route::Api),
            ("/upwork/api/", Route::Api),
            ("/upwork/api", Route::Unknown),
            ("/upwork/graphql", Route::Graphql),
            ("/upwork/api/graphql", Route::Graphql),
            ("/upwork/graphql/", Route::Unknown),
            ("/upwork", Route::Auth(AuthPath::Home)),
            ("/upwork/", Route::Auth(AuthPath::Home)),
            ("/upwork/auth", Route::Auth(AuthPath::Account)),
            ("/upwork/auth/", Route::Auth(AuthPath::Account)),
            ("/upwork/auth/login", Route::Auth(AuthPath::Login)),
            ("/upwork/auth/tokens/abc", Route::Auth(AuthPath::Token)),
            ("/upwork/auth/verify", Route::Auth(AuthPath::Verify)),
            ("/upwork/auth/verify/", Route::Auth(AuthPath::VerifyTarget)),
            ("/upwork/auth/verify/a//b/%2e", Route::Auth(AuthPath::VerifyTarget)),
            ("/upwork/auth/verify/upwork/api/x", Route::Auth(AuthPath::VerifyTarget)),
            ("/upwork/auth/verifya", Route::Unknown),
            ("/upwork/auth/tokens/", Route::Unknown),
            ("/upwork/auth/tokens/a/b", Route::Unknown),
            ("/upworks", Route::App),
            ("/UPWORK/auth/", Route::App),
            ("/%75pwork/auth/", Route::App),
            ("/", Route::App),
            ("*", Route::App),
        ];
        for (path, expected) in table {
            assert_eq!(route(&config(), path), expected, "{path}");
        }
    }

    #[test]
    fn a_route_returns_the_rest_of_the_path() {
        assert_eq!(config().below_prefix("/upwork/api/hr/v2/users/me.json"), "/api/hr/v2/users/me.json");
        assert_eq!(AuthPath::Token.token_id("/upwork/auth/tokens/abc"), Some("abc"));
        assert_eq!(AuthPath::Tokens.token_id("/upwork/auth/tokens"), None);
    }

    #[test]
    fn an_ambiguous_spelling_is_never_ours() {
        let tails = [
            "/..",
            "/../",
            "/.",
            "/./x",
            "/..;/x",
            "/..;a=b/x",
            "/%2e%2e/x",
            "/%2E/x",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "//x",
            "/%",
            "/%2",
            "/%zz",
            "/%c0%af",
            "/%c0%ae%c0%ae",
            "/%e0%80%af",
            "/%f0%80%80%af",
            "/%ff",
            "/%0d%0a",
            "/%09",
            "/a#b",
            "/.%2e/x",
            "/x/..",
            "/%ed%a0%80",
            // Decoded twice on the way, or decoded before parameters are read.
            "/%252e%252e/x",
            "/a%252fb",
            "/a%255Cb",
            "/a%2500",
            "/%25252e%25252e/x",
            "/%25c0%25af",
            "/..%3b/x",
            "/..%253bx/x",
            "/%20../x",
            "/..%20;x",
            "/%c2%a0../x",
            "/%2525252525252541",
        ];
        for tail in tails {
            let under = format!("/upwork{tail}");
            assert_eq!(route(&config(), &under), Route::Ambiguous, "{under}");
            let api = format!("/upwork/api{tail}");
            assert_eq!(route(&config(), &api), Route::Ambiguous, "{api}");
            assert!(is_ambiguous(&format!("/health{tail}")), "{tail}");
        }
        assert_eq!(route(&config(), "/upwork\\auth"), Route::Ambiguous);
        assert_eq!(route(&config(), "/upwork%2fauth/"), Route::Ambiguous);
        assert_eq!(route(&config(), "//upwork/auth/"), Route::App);
    }

    #[test]
    fn an_ordinary_spelling_is_not_ambiguous() {
        for path in [
            "/",
            "/a.b/c",
            "/a/...",
            "/a..b",
            "/.well-known/x",
            "/a;b=c",
            "/%C3%A4",
            "/ä",
            "/a%20b",
            "/~u",
            "/a:b@c",
            "/100%25",
            "/a%2520b",
            "/a%25zz",
            "/..a%3b",
        ] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }
}
