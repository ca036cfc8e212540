//! Applies Upwork's rate limits across all replicas that share a server.
//!
//! Takes a [`RateRequest`], runs one atomic script, and returns a [`RateReply`]. Only the server's clock counts, so the
//! clocks of replicas need not agree: times are sent relative to the moment at which the script runs.

use std::sync::LazyLock;

use redis::Script;
use serde::{Deserialize, Serialize};

use super::Server;
use super::request::{Kind, Request};
use crate::store::StoreError;

pub const RATE_LIMIT_SCRIPT: &str = include_str!("rate_limit.lua");
/// The script's keys, which share a hash tag.
pub const RATE_LIMIT_KEYS: [&str; 3] = ["upwarden:{pace}:calls", "upwarden:{pace}:state", "upwarden:{pace}:replicas"];

static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(RATE_LIMIT_SCRIPT));

/// Upwork's limits, and how calls are counted in them (milliseconds).
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct RateLimits {
    pub(crate) per_second: u32,
    pub(crate) per_minute: u32,
    pub(crate) per_day: u32,
    pub(crate) second: u64,
    pub(crate) minute: u64,
    /// How much later than its release a call counts until its answer is known.
    pub(crate) slack: u64,
}

/// A replica's report and request. Times are in milliseconds; an id is unique within its replica, and never 0.
#[derive(Clone, Debug, Serialize)]
pub struct RateRequest {
    pub(crate) replica: String,
    #[serde(flatten)]
    pub(crate) limits: RateLimits,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) call: Option<u64>,
    /// A call that would have to wait longer is not reserved.
    pub(crate) patience: u64,
    pub(crate) view: bool,
    /// Calls of this replica, and how long ago they counted; negative where they count later.
    pub(crate) counted: Vec<(u64, i64)>,
    /// Reserved calls that were not made.
    pub(crate) cancelled: Vec<u64>,
    /// A UTC day, and its calls that were made without a reservation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unreported: Option<(i64, u64)>,
}

/// What all replicas have used.
#[derive(Clone, Debug, Deserialize)]
pub struct RateReply {
    /// The UTC day of the server, and its calls.
    pub(crate) day: i64,
    pub(crate) used: u64,
    pub(crate) replicas: u64,
    pub(crate) wait: Option<u64>,
    #[serde(default)]
    pub(crate) reserved: bool,
    /// How long ago each call counted, oldest first, and its id; the id is 0 for calls of other replicas.
    #[serde(default)]
    pub(crate) calls: Vec<(i64, u64)>,
}

impl Server {
    pub(in crate::store) async fn limit_rate(&self, request: &RateRequest) -> Result<RateReply, StoreError> {
        let unreadable = |_| StoreError::Down("the reply of the rate limit script cannot be read".to_owned());
        let run = Request::script(Kind::Write, &SCRIPT, &RATE_LIMIT_KEYS)
            .arg(serde_json::to_string(request).map_err(unreadable)?);
        let reply: String = self.send(run).await?;
        serde_json::from_str(&reply).map_err(unreadable)
    }
}
