//! Sessions that never lose a user: what issue by issue the peers lost them by, against the whole server.
//!
//! What one session does at one replica is held in `main_job`, what a store does by itself in `stores`.

#![expect(clippy::panic, reason = "a helper fails its test as a test does")]

mod crowd;
mod implicit;
mod keys;
mod kills;
mod late;
mod outages;
mod recheck;
mod replicas;
mod sign_out;
mod store_down;
mod stores;
mod tabs;
mod verify;

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
const SECOND: Duration = Duration::from_secs(1);
const ME: &str = "{ user { id } }";
