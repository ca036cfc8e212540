//! The targets that a call may have.
//!
//! Turns one of our routes and its query into an [`ApiTarget`], the only target that a call accepts. No spelling
//! reaches the token endpoint (docs/design.md "The brokered API").

use http::uri::PathAndQuery;

use crate::router::Route;
use crate::router::percent::readings;

/// A host and a path of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTarget {
    pub(super) graphql: bool,
    pub(super) path: PathAndQuery,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Only upwarden itself uses Upwork's OAuth endpoints.
    #[error("the OAuth endpoints are not part of the brokered API")]
    Forbidden,
    /// Not a route of the API, or not a valid path.
    #[error("it is not a path of the API")]
    NotApi,
}

/// Rounds of percent-decoding that are checked.
const ROUNDS: usize = 3;

impl ApiTarget {
    /// The request's target at its host.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path
    }

    /// `path`: the part after our prefix; `graphql_path`: the path of `upwork.graphql_url`; `oauth`: the paths of the
    /// configured OAuth endpoints.
    pub fn parse(
        route: Route,
        path: &str,
        query: Option<&str>,
        graphql_path: &str,
        oauth: &[String],
    ) -> Result<Self, TargetError> {
        let (graphql, path) = match route {
            Route::Graphql => (true, graphql_path),
            Route::Api if is_oauth(path, oauth) => return Err(TargetError::Forbidden),
            Route::Api => (false, path),
            Route::Auth(_) | Route::Unknown | Route::Ambiguous | Route::App => return Err(TargetError::NotApi),
        };
        let target = query.map_or_else(|| path.to_owned(), |query| [path, "?", query].concat());
        let path = PathAndQuery::try_from(target).map_err(|_| TargetError::NotApi)?;
        Ok(Self { graphql, path })
    }
}

/// `/api/v3/oauth2/…`, `/api/auth/v1/oauth/…` and the configured endpoints, in any encoding or case, with or without
/// parameters.
pub(super) fn is_oauth(path: &str, endpoints: &[String]) -> bool {
    let version = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let is_oauth = |segment: &str| {
        let (name, rest) = segment.as_bytes().split_at_checked(5).unwrap_or_default();
        name.eq_ignore_ascii_case(b"oauth") && version(rest)
    };
    any_reading(path, |path| {
        segments(path).any(is_oauth)
            || endpoints.iter().any(|endpoint| below(path, endpoint).is_some_and(|mut rest| rest.next().is_none()))
    })
}

/// Whether any segment of the path names GraphQL, or the path begins like the configured one.
pub(super) fn names_graphql(path: &str, configured: &str) -> bool {
    let named = segments(configured).next().is_some();
    let is_graphql = |segment: &str| segment.split('.').next().is_some_and(|name| name.eq_ignore_ascii_case("graphql"));
    any_reading(path, |path| segments(path).any(is_graphql) || (named && below(path, configured).is_some()))
}

/// Whether it holds for the path in any encoding. Also true if the path is encoded too often to tell.
fn any_reading(path: &str, holds: impl Fn(&str) -> bool) -> bool {
    // Most paths have no escapes, and so one reading.
    if memchr::memchr(b'%', path.as_bytes()).is_none() {
        return holds(path);
    }
    let readings = readings(path.as_bytes(), ROUNDS);
    readings.unfinished || readings.all.iter().any(|reading| holds(&String::from_utf8_lossy(reading)))
}

/// The segments of a path, without parameters and surrounding white space. Some servers strip all Unicode white space.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split(['/', '\\'])
        .map(|segment| segment.split([';', '\0']).next().unwrap_or_default().trim())
        .filter(|segment| !segment.is_empty() && *segment != ".")
}

/// The segments that follow `start` in a path that begins with it, in any case.
fn below<'a>(path: &'a str, start: &str) -> Option<impl Iterator<Item = &'a str>> {
    let mut path = segments(path);
    segments(start).all(|segment| path.next().is_some_and(|own| own.eq_ignore_ascii_case(segment))).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<ApiTarget, TargetError> {
        let endpoints = ["/api/v3/issue/", "/ab/authorize"].map(str::to_owned);
        ApiTarget::parse(Route::Api, path, Some("a=%2F&b"), "/graphql", &endpoints)
    }

    #[test]
    fn a_call_keeps_its_path_and_query_byte_for_byte() {
        assert_eq!(parse("/api/hr/v2/users/me.json").unwrap().path, "/api/hr/v2/users/me.json?a=%2F&b");
        assert_eq!(ApiTarget::parse(Route::Graphql, "/api/graphql", None, "/graphql", &[]).unwrap().path, "/graphql");
        assert!(parse("/api/auth/v1/info.json").is_ok());
    }

    #[test]
    fn the_token_endpoint_is_unreachable_in_any_spelling() {
        for path in [
            "/api/v3/oauth2/token",
            "/api/v3/oauth2",
            "/api/v3/OAuth2/token",
            "/api/v3/oauth2;x=y/token",
            "/api/v3/OAuth201\u{2003}",
            "/api/v3/oauth2%E2%80%83/token",
            "/api/v3/oauth2%00/token",
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
            "/api/v3/oauth",
            "/api/v3/oauth2.0/token",
            "/api/v3/issue",
            "/api/v3/Issue/;x=y",
            "/api/v3/%69ssue",
        ] {
            assert_eq!(parse(path), Err(TargetError::Forbidden), "{path}");
        }
    }

    #[test]
    fn a_path_that_only_begins_like_an_oauth_endpoint_is_called() {
        for path in ["/api/v3/oauth2things", "/api/v3/oauthors/1", "/api/v3/issues", "/api/v3/issue/1", "/api/v3"] {
            assert!(parse(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn a_graphql_segment_is_found_in_any_spelling() {
        for path in ["/api/graphql/", "/api/graphql/v1", "/api/v3/GraphQL", "/api/%67raphql;a=b/", "/api/graphql.json"]
        {
            assert!(names_graphql(path, "/graphql"), "{path}");
        }
        for path in ["/api/gql/v9", "/api/gql/v9/", "/api/GQL/v9/x", "/api/gql;a/%76%39", "/api//gql/v9"] {
            assert!(names_graphql(path, "/api/gql/v9"), "{path}");
        }
        assert!(!names_graphql("/api/gql/v90", "/api/gql/v9") && !names_graphql("/api/x", "/"));
        assert!(!names_graphql("/api/graphqls", "/graphql") && !names_graphql("/api/hr/v2/graph/ql", "/graphql"));
    }

    #[test]
    fn only_the_api_is_a_target() {
        for route in [Route::Unknown, Route::Ambiguous, Route::App] {
            assert_eq!(ApiTarget::parse(route, "/x", None, "/graphql", &[]), Err(TargetError::NotApi));
        }
    }
}
