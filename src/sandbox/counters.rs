//! What the sandbox received, so that tests can assert on calls. Keeps no secret: of an `Authorization` header only its
//! presence.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::header::{AUTHORIZATION, PROXY_AUTHORIZATION};
use serde::Serialize;

/// API paths that are counted separately; more are counted under [`OTHER_PATHS`].
const MAX_PATHS: usize = 500;
const OTHER_PATHS: &str = "(other)";

/// Counts of requests received, whatever the answer was.
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
    /// Mutations carried out.
    pub graphql_mutations: u64,
    /// API calls answered 429 by the enforced limits (not by a fault).
    pub rate_limited: u64,
    /// Answers held by a `slow` fault now.
    pub held: usize,
}

/// Calls of the token endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounters {
    /// Attempts to redeem a code.
    pub authorization_code: u64,
    /// Refreshes.
    pub refresh_token: u64,
    /// Requests for a service token.
    pub client_credentials: u64,
    /// Anything else.
    pub other: u64,
}

impl Counters {
    pub(super) fn count_api(&mut self, path: &str) {
        let key = if self.api.len() < MAX_PATHS || self.api.contains_key(path) { path } else { OTHER_PATHS };
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

/// An API request as it arrived, without its credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// Path and query, byte for byte.
    pub target: String,
    /// Names in lower case and values, in the order received; of credentials only `present`.
    pub headers: Vec<(String, String)>,
}

impl ReceivedRequest {
    pub(super) fn of<B>(request: &http::Request<B>) -> Self {
        let target = request.uri().path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
        Self { method: request.method().to_string(), target, headers: without_credentials(request.headers()) }
    }

    /// The first value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn without_credentials(headers: &HeaderMap) -> Vec<(String, String)> {
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
    fn counted_paths_are_bounded() {
        let mut counters = Counters::default();
        for number in 0..2 * MAX_PATHS {
            counters.count_api(&format!("/api/{number}"));
        }
        assert_eq!(counters.api.len(), MAX_PATHS + 1);
        assert_eq!(counters.api[OTHER_PATHS], MAX_PATHS as u64);
    }
}
