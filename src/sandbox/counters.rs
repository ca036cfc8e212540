//! What the sandbox received, so that tests can assert on calls made. Nothing secret is kept: no query, and of an
//! `Authorization` header only that it was there.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use serde::Serialize;

/// Distinct API paths that are counted apart; more go under [`OTHER_PATHS`].
const PATHS_KEPT: usize = 500;
/// The key under which the paths beyond the first ones are counted.
const OTHER_PATHS: &str = "(other)";

/// Requests received, whatever the answer was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Browsers sent to the authorize page (GET; the posted form is not counted).
    pub authorize: u64,
    /// Calls of the token endpoint by grant.
    pub token: TokenCounters,
    /// Calls of the revocation endpoint.
    pub revoke: u64,
    /// API calls by path, without query.
    pub api: BTreeMap<String, u64>,
    /// Mutations that were carried out.
    pub graphql_mutations: u64,
    /// API calls answered 429 by the enforced limits (not by a fault).
    pub rate_limited: u64,
    /// Answers held by a `slow` fault at this moment.
    pub held: usize,
}

/// Calls of the token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounters {
    /// Codes redeemed, or tried.
    pub authorization_code: u64,
    /// Refreshes.
    pub refresh_token: u64,
    /// Service tokens asked for.
    pub client_credentials: u64,
    /// Anything else.
    pub other: u64,
}

impl Counters {
    pub(super) fn count_api(&mut self, path: &str) {
        let key = if self.api.len() < PATHS_KEPT || self.api.contains_key(path) { path } else { OTHER_PATHS };
        *self.api.entry(key.to_owned()).or_default() += 1;
    }

    pub(super) fn count_token(&mut self, grant: Option<&str>) {
        let counter = match grant {
            Some("authorization_code") => &mut self.token.authorization_code,
            Some("refresh_token") => &mut self.token.refresh_token,
            Some("client_credentials") => &mut self.token.client_credentials,
            Some(_) | None => &mut self.token.other,
        };
        *counter += 1;
    }
}

/// An API request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Names (lower-case) and values; lines of one name in the order received; of credentials only `present`.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    pub(super) fn of<B>(request: &http::Request<B>) -> Self {
        let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Self { method: request.method().to_string(), target, headers: shown(request.headers()) }
    }

    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let secret = name == AUTHORIZATION || name == PROXY_AUTHORIZATION;
            let value = if secret { "present".into() } else { String::from_utf8_lossy(value.as_bytes()) };
            (name.to_string(), value.into_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seen_request_shows_no_credential() {
        let request = http::Request::get("http://x/api/a.json?b=c")
            .header("authorization", "Bearer oauth2v2_0123")
            .header("x-upwork-api-tenantid", "7")
            .body(())
            .unwrap();
        let seen = Seen::of(&request);
        assert_eq!(seen.target, "/api/a.json?b=c");
        assert_eq!(seen.header("authorization"), Some("present"));
        assert_eq!(seen.header("x-upwork-api-tenantid"), Some("7"));
        assert!(!format!("{seen:?}").contains("oauth2v2_"));
    }

    #[test]
    fn counted_paths_are_bounded() {
        let mut counters = Counters::default();
        for number in 0..2 * PATHS_KEPT {
            counters.count_api(&format!("/api/{number}"));
        }
        assert_eq!(counters.api.len(), PATHS_KEPT + 1);
        assert_eq!(counters.api[OTHER_PATHS], PATHS_KEPT as u64);
    }
}
