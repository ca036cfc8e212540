//! Where a call may go: an allow-list, judged on every way the path could be read.
//!
//! In: a route of ours and its query. Out: an [`ApiTarget`], the only thing a call takes. The token endpoint is not
//! reachable in any spelling (docs/design.md "The brokered API").

use http::uri::PathAndQuery;

use crate::router::Route;

/// A host and a path that may be called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTarget {
    pub(super) graphql: bool,
    pub(super) path: PathAndQuery,
}

/// Why a target may not be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Upwork's OAuth endpoints are for the proxy alone.
    #[error("the OAuth endpoints are not part of the brokered API")]
    Forbidden,
    /// Not a route of the API, or no path that could be sent.
    #[error("it is not a path of the API")]
    NotApi,
}

/// Rounds of percent-decoding that are looked through.
const ROUNDS: usize = 4;

impl ApiTarget {
    /// What is asked for at its host.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path
    }

    /// `path` is what follows our prefix; `graphql_path` is the path of `upwork.graphql_url`.
    pub fn parse(route: Route, path: &str, query: Option<&str>, graphql_path: &str) -> Result<Self, TargetError> {
        let (graphql, path) = match route {
            Route::Graphql => (true, graphql_path),
            Route::Api if is_oauth(path) => return Err(TargetError::Forbidden),
            Route::Api => (false, path),
            Route::Auth(_) | Route::Unknown | Route::Ambiguous | Route::App { .. } => return Err(TargetError::NotApi),
        };
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let path = PathAndQuery::try_from(target).map_err(|_| TargetError::NotApi)?;
        Ok(Self { graphql, path })
    }
}

/// `/api/v3/oauth2/…` and `/api/auth/v1/oauth/…`, however encoded, cased or decorated with parameters.
fn is_oauth(path: &str) -> bool {
    let mut reading = path.as_bytes().to_vec();
    for _ in 0..ROUNDS {
        if names_oauth(&reading) {
            return true;
        }
        let decoded = decode(&reading);
        if decoded == reading {
            return false;
        }
        reading = decoded;
    }
    // Encoded more often than anybody honest would.
    true
}

fn names_oauth(path: &[u8]) -> bool {
    let mut segments = path
        .split(|byte| matches!(byte, b'/' | b'\\'))
        .map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default())
        .map(|segment| segment.trim_ascii().to_ascii_lowercase())
        .filter(|segment| !segment.is_empty() && segment != b".");
    segments.any(|segment| segment.starts_with(b"oauth"))
}

fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, more)) = rest.split_first() {
        let escape = more.split_at_checked(2).filter(|_| *first == b'%');
        let byte = escape.and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        if let (Some(byte), Some((_, after))) = (byte, escape) {
            decoded.push(byte);
            rest = after;
        } else {
            decoded.push(*first);
            rest = more;
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<ApiTarget, TargetError> {
        ApiTarget::parse(Route::Api, path, Some("a=%2F&b"), "/graphql")
    }

    #[test]
    fn a_call_keeps_its_path_and_query_byte_for_byte() {
        assert_eq!(parse("/api/hr/v2/users/me.json").unwrap().path, "/api/hr/v2/users/me.json?a=%2F&b");
        assert_eq!(ApiTarget::parse(Route::Graphql, "/api/graphql", None, "/graphql").unwrap().path, "/graphql");
        assert!(parse("/api/auth/v1/info.json").is_ok());
    }

    #[test]
    fn the_token_endpoint_is_unreachable_in_any_spelling() {
        for path in [
            "/api/v3/oauth2/token",
            "/api/v3/oauth2",
            "/api/v3/OAuth2/token",
            "/api/v3/oauth2;x=y/token",
            "/api/v3;a/oauth2/token",
            "/api/v3/%6fauth2/token",
            "/api/v3/%256fauth2/token",
            "/api/v3/%25256fauth2/token",
            "/api/auth/v1/oauth/token/access",
            "/api/auth/v1/oauth/token/request",
            "/api/x/../v3/oauth2/token",
            "/api//v3//oauth2//token",
            "/api/v3%2foauth2%2ftoken",
            "/api/%2525252525252541",
        ] {
            assert_eq!(parse(path), Err(TargetError::Forbidden), "{path}");
        }
    }

    #[test]
    fn what_is_not_the_api_is_no_target() {
        for route in [Route::Unknown, Route::Ambiguous, Route::App { public: true }] {
            assert_eq!(ApiTarget::parse(route, "/x", None, "/graphql"), Err(TargetError::NotApi));
        }
    }
}
