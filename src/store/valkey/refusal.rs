//! What a server's error means for the connection, and how it is reported. Never quotes a command.

use std::time::Duration;

use redis::RedisError;
use tokio::time::Instant;

use crate::store::StoreError;

pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// For this long after the server disappears or becomes a replica, commands wait for a new one. After that they fail at
/// once.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Why a server that answers accepts no writes.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) why: String,
    /// It is a replica, perhaps of the server that replaced it. It is read from until that one answers.
    pub(super) replica: bool,
    pub(super) since: Instant,
}

impl Refusal {
    pub(super) fn of(error: &RedisError) -> Self {
        Self { why: reason(error), replica: is_readonly(error), since: Instant::now() }
    }

    /// Whether it may be over soon, like a failover.
    pub(super) fn is_young(&self) -> bool {
        self.replica && self.since.elapsed() < PATIENCE
    }
}

pub(super) fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}

/// Whether a primary became a replica: it can still be read, and its name may lead to a different server by now.
pub(super) fn is_readonly(error: &RedisError) -> bool {
    error.code() == Some("READONLY")
}

/// Never the details of an error, which may quote a command.
pub(super) fn down(error: &RedisError) -> StoreError {
    StoreError::Down(reason(error))
}

pub(super) fn reason(error: &RedisError) -> String {
    if error.kind() == redis::ErrorKind::AuthenticationFailed {
        return "the server refuses the user and password of store.url".to_owned();
    }
    match error.code() {
        Some(code @ ("NOAUTH" | "WRONGPASS")) => {
            format!("the server refuses the user and password of store.url ({code})")
        }
        Some("NOPERM") => "the server's ACL does not allow this user what upwarden needs (NOPERM)".to_owned(),
        Some("LOADING") => "the server is loading its data".to_owned(),
        Some("OOM") => "the server is out of memory and accepts no writes (OOM)".to_owned(),
        Some("MISCONF") => "the server cannot save to its disk and accepts no writes (MISCONF)".to_owned(),
        Some("NOREPLICAS") => {
            "the server has too few replicas for its min-replicas-to-write and accepts no writes (NOREPLICAS)"
                .to_owned()
        }
        Some("CLUSTERDOWN") => "a part of the cluster is down (CLUSTERDOWN)".to_owned(),
        Some("READONLY") => "the server is a replica and accepts no writes (READONLY)".to_owned(),
        Some(code) => format!("the server answered {code}"),
        None if error.is_timeout() => format!("no answer within {} seconds", RESPONSE_TIMEOUT.as_secs()),
        None if error.is_connection_refusal() => "the connection was refused".to_owned(),
        None if error.is_io_error() => "the connection broke".to_owned(),
        None => error.category().to_owned(),
    }
}
