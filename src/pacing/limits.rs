//! Upwork's limits, the callers that share them, and the refusal of a call that exceeds them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::metrics::PaceRefusal;

/// docs/configuration.md "pace".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub per_second: u32,
    pub per_minute: u32,
    /// Per UTC day.
    pub per_day: u32,
    /// The longest time that a call waits for its turn.
    pub wait: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { per_second: 10, per_minute: 300, per_day: 40_000, wait: Duration::from_secs(10) }
    }
}

/// How long one of our own calls waits for its turn, whatever `pace.wait` is: a user waits for its result.
pub(crate) const OWN_WAIT: Duration = Duration::from_secs(10);
/// Kinds of calls, the most urgent first.
pub(super) const LANES: usize = 4;

/// The callers that share Upwork's limits fairly.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CallerId {
    /// The service identity: everyone at the neighbour door without a ticket.
    Service,
    /// A person by `user.id`, through any session, ticket or token.
    User(Arc<str>),
    /// Our own calls that a user waits for: a refresh, a revocation, or the question who a fresh token belongs to.
    Refresh,
    /// Our own calls to redeem the code of a callback, which anyone can invent; with the network, if it is known.
    SignIn(Option<IpAddr>),
    /// Our own: a refresh that no request waits for.
    Renewal,
}

impl CallerId {
    pub fn user(id: &str) -> Self {
        Self::User(id.into())
    }

    /// Its place among the kinds of calls.
    pub(super) fn lane(&self) -> usize {
        match self {
            Self::Refresh => 0,
            Self::SignIn(_) => 1,
            Self::Service | Self::User(_) => 2,
            Self::Renewal => 3,
        }
    }

    /// How long a call of this caller waits, if API calls wait for `wait`.
    pub(super) fn wait(&self, wait: Duration) -> Duration {
        match self {
            Self::Service | Self::User(_) => wait,
            Self::Refresh | Self::SignIn(_) | Self::Renewal => OWN_WAIT,
        }
    }
}

/// A call that would have to wait too long: 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; try again in {} s", self.cause(), self.retry_after_seconds())]
pub struct RateLimited {
    pub reason: PaceRefusal,
    /// After this time a call of this caller would currently get a permit.
    pub retry_after: Duration,
}

impl RateLimited {
    pub const fn cause(&self) -> &'static str {
        match self.reason {
            PaceRefusal::Busy => "too many calls are waiting for their turn under Upwork's limits",
            PaceRefusal::Paused => "Upwork has asked for a pause",
            PaceRefusal::Day => "today's calls to Upwork are used up",
        }
    }

    /// For `Retry-After` (RFC 9110 section 10.2.3): whole seconds, at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        whole_seconds(self.retry_after).max(1)
    }
}

/// Rounded up.
pub(super) fn whole_seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}
