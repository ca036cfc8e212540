//! The API, called with a token its caller never sees.

use std::time::Duration;

use url::Url;

use crate::oauth::Outbound;

/// Where the API is, and what callers may do: CONTRACT "upwork", "pace".
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://www.upwork.com`: an origin; `/upwork/api/…` is `{api_url}/api/…`.
    pub api_url: Url,
    /// `https://api.upwork.com/graphql`.
    pub graphql_url: Url,
    /// `X-Upwork-API-TenantId` where the caller sends none.
    pub organization: Option<String>,
    /// Bytes of a request body that are kept for one retry after a 401.
    pub retry_body: usize,
    /// How Upwork is reached.
    pub outbound: Outbound,
    /// Upwork's pace.
    pub pace: Pace,
}

/// CONTRACT "pace".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Calls a second.
    pub per_second: u32,
    /// Calls a minute.
    pub per_minute: u32,
    /// Calls a UTC day.
    pub per_day: u32,
    /// How long a call waits for its turn at the most.
    pub wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_second: 10, per_minute: 300, per_day: 40_000, wait: Duration::from_secs(10) }
    }
}
