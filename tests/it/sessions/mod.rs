//! Sessions are never lost: the ways in which similar proxies lost sessions, tried against the whole server.
//!
//! `main_job` tests one session at one replica, `stores` each store by itself.

mod crowd;
mod failover;
mod identity;
mod implicit;
mod keys;
mod kills;
mod late;
mod outages;
mod recheck;
mod replicas;
mod secrets;
mod sign_out;
mod store_down;
pub(crate) mod stores;
mod tabs;
mod verify;

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
const ME: &str = "{ user { id } }";
