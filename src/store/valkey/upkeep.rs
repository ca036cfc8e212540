//! Keeps a link connected: connects with backoff, and probes every few seconds whether the server accepts writes.
//!
//! Publishes the [`State`]. A server that answers but refuses writes (memory or disk full, an ACL, a replica after a
//! failover) is still read from, but counts as down. If the primary cannot be reached, a replica replaces it until
//! there is a primary again. Never logs or quotes a command, since commands contain the stored data.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::address::Endpoint;
use super::confirm::Confirmations;
use super::dial::Dialer;
use super::probe;
use super::refusal::{RESPONSE_TIMEOUT, Refusal, is_broken, reason};
use super::source::Source;
use crate::store::jitter::jitter;

/// The time limit for connecting, including TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// The time limit for connecting and for a probe's answer if replicas could take over.
const HANDOVER: Duration = Duration::from_secs(1);
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// The minimum time between two probes, however many commands the server refuses.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
pub(super) enum State {
    Up {
        connection: MultiplexedConnection,
        endpoint: Endpoint,
        number: u64,
        confirmations: Arc<Confirmations>,
        refusal: Option<Refusal>,
    },
    Down {
        why: String,
        since: Instant,
    },
}

impl State {
    pub(super) fn new() -> Self {
        Self::Down { why: "it has not answered yet".to_owned(), since: Instant::now() }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Failure {
    Broken(u64),
    Refused,
}

struct ReachedNode {
    connection: MultiplexedConnection,
    endpoint: Endpoint,
    refusal: Option<Refusal>,
}

struct Upkeep {
    source: Arc<Source>,
    dialer: Dialer,
    state: watch::Sender<State>,
}

/// Connects, and reconnects whenever the connection breaks, until the last link is dropped.
pub(super) async fn run(
    source: Arc<Source>,
    dialer: Dialer,
    state: watch::Sender<State>,
    mut failures: mpsc::Receiver<Failure>,
) {
    let upkeep = Upkeep { source, dialer, state: state.clone() };
    tokio::select! {
        () = state.closed() => {}
        () = upkeep.keep_connected(&mut failures) => {}
    }
}

impl Upkeep {
    async fn keep_connected(&self, failures: &mut mpsc::Receiver<Failure>) {
        let store = &self.source;
        let mut pause = FIRST_PAUSE;
        let mut number = 0;
        let mut replacement = None;
        loop {
            let connected = match replacement.take() {
                Some(reached) => Ok(reached),
                None => self.connect().await,
            };
            match connected {
                Ok(ReachedNode { connection, endpoint, refusal }) => {
                    number += 1;
                    let began = Instant::now();
                    tracing::info!(%store, server = %endpoint, "the session store answers");
                    if let Some(Refusal { why, .. }) = &refusal {
                        tracing::warn!(%store, %why, "the session store cannot be written");
                    }
                    let confirmations = Arc::new(Confirmations::new());
                    self.state.send_replace(State::Up { connection, endpoint, number, confirmations, refusal });
                    let why = match self.watch_over(number, failures).await {
                        End::Lost(why) => why,
                        End::Replaced(reached) => {
                            replacement = Some(*reached);
                            continue;
                        }
                    };
                    tracing::warn!(%store, %why, "the connection to the session store was lost");
                    self.state.send_replace(State::Down { why, since: Instant::now() });
                    // After a connection that lasted, retry at once; after one that broke immediately, back off.
                    if began.elapsed() >= PROBE_EVERY {
                        pause = FIRST_PAUSE;
                        continue;
                    }
                }
                Err(why) => self.set_reason(why),
            }
            sleep(jitter(pause)).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Connects to the primary, or to a replica if the primary cannot be reached or has become a replica itself.
    async fn connect(&self) -> Result<ReachedNode, String> {
        let group = self.source.locate().await?;
        let limit = if group.replicas.is_empty() { CONNECT_TIMEOUT } else { HANDOVER };
        let primary = self.reach(group.primary, limit).await;
        let refusal = match &primary {
            Ok(ReachedNode { refusal: Some(refusal), .. }) if refusal.replica => refusal.clone(),
            Ok(_) => return primary,
            Err(why) => Refusal { why: why.clone(), replica: true, since: Instant::now() },
        };
        for endpoint in group.replicas {
            if let Ok(Ok(mut connection)) = timeout(HANDOVER, self.dialer.dial(&endpoint)).await
                && self.source.read_from(&mut connection).await
            {
                return Ok(ReachedNode { connection, endpoint, refusal: Some(refusal) });
            }
        }
        primary
    }

    async fn reach(&self, endpoint: Endpoint, limit: Duration) -> Result<ReachedNode, String> {
        let reached = async {
            let mut connection = self.dialer.dial(&endpoint).await?;
            let refusal = self.check(&mut connection).await.map_err(|error| reason(&error))?;
            Ok((connection, refusal))
        };
        match timeout(limit, reached).await {
            Ok(reached) => reached.map(|(connection, refusal)| ReachedNode { connection, endpoint, refusal }),
            Err(_) => Err(format!("no connection within {} seconds", limit.as_secs())),
        }
    }

    /// Why the server refuses writes; an error if the connection is useless.
    async fn check(&self, connection: &mut MultiplexedConnection) -> RedisResult<Option<Refusal>> {
        match probe::write(connection, self.source.probe_key(), self.source.has_replicas()).await {
            Ok(()) => Ok(None),
            Err(error) if self.source.is_moved(&error) => Ok(None),
            Err(error) if is_broken(&error) || error.code() == Some("LOADING") => Err(error),
            Err(error) => Ok(Some(Refusal::of(&error))),
        }
    }

    /// Keeps the state up to date until the connection breaks or another server replaces this one.
    async fn watch_over(&self, number: u64, failures: &mut mpsc::Receiver<Failure>) -> End {
        loop {
            let State::Up { mut connection, endpoint, refusal, .. } = self.state.borrow().clone() else {
                return End::Lost("it is no longer used".to_owned());
            };
            // This is a replica instead of the primary.
            let in_place = self.source.has_replicas() && refusal.as_ref().is_some_and(|refusal| refusal.replica);
            let every = if in_place { PROBE_PAUSE } else { PROBE_EVERY };
            let pause = tokio::select! {
                failure = failures.recv() => match failure {
                    Some(Failure::Broken(broken)) if broken == number => return End::broken(),
                    Some(Failure::Refused) => PROBE_PAUSE,
                    Some(Failure::Broken(_)) => continue,
                    None => return End::Lost("it is no longer used".to_owned()),
                },
                () = sleep(every) => Duration::ZERO,
            };
            let limit = if self.source.has_replicas() { HANDOVER } else { RESPONSE_TIMEOUT };
            let check = async {
                match refusal {
                    // The code below looks for the primary.
                    Some(refusal) if in_place => {
                        cmd("PING").query_async::<()>(&mut connection).await.map(|()| Some(refusal))
                    }
                    Some(_) | None => self.check(&mut connection).await,
                }
            };
            let checked = tokio::select! {
                () = broken(number, failures) => return End::broken(),
                checked = timeout(limit, check) => checked,
            };
            let refusal = match checked {
                Ok(Ok(refusal)) => refusal,
                Ok(Err(error)) => return End::Lost(reason(&error)),
                Err(_) => return End::Lost(format!("no answer within {} seconds", limit.as_secs())),
            };
            if let Some(replacement) = self.replacement(&endpoint, refusal.as_ref()).await {
                return End::Replaced(Box::new(replacement));
            }
            self.set_refusal(refusal);
            sleep(pause).await;
        }
    }

    /// The server that replaced this one, if there is one that accepts writes.
    async fn replacement(&self, endpoint: &Endpoint, refusal: Option<&Refusal>) -> Option<ReachedNode> {
        let replica = refusal.is_some_and(|refusal| refusal.replica);
        if !replica && !self.source.has_replicas() {
            return None;
        }
        // If no other is known, this one is still the primary.
        let group = self.source.locate().await.ok()?;
        if !replica && group.primary == *endpoint {
            return None;
        }
        let limit = if group.replicas.is_empty() { CONNECT_TIMEOUT } else { HANDOVER };
        self.reach(group.primary, limit).await.ok().filter(|reached| reached.refusal.is_none())
    }

    /// Logs each change once.
    fn set_refusal(&self, new: Option<Refusal>) {
        self.state.send_if_modified(|state| match state {
            State::Up { refusal, .. } if refusal.as_ref().map(|old| &old.why) != new.as_ref().map(|new| &new.why) => {
                if let Some(Refusal { why, .. }) = &new {
                    tracing::warn!(%why, "the session store cannot be written");
                } else {
                    tracing::info!("the session store can be written again");
                }
                *refusal = new;
                true
            }
            State::Up { .. } | State::Down { .. } => false,
        });
    }

    /// Logs each reason once.
    fn set_reason(&self, new: String) {
        self.state.send_if_modified(|state| match state {
            State::Down { why, .. } if *why != new => {
                tracing::warn!(store = %self.source, why = %new, "the session store cannot be reached");
                *why = new;
                true
            }
            State::Down { .. } | State::Up { .. } => false,
        });
    }
}

enum End {
    Lost(String),
    /// Its server became a replica, and this one accepts writes.
    Replaced(Box<ReachedNode>),
}

impl End {
    fn broken() -> Self {
        Self::Lost("the connection broke".to_owned())
    }
}

/// Waits for the report that this connection broke.
async fn broken(number: u64, failures: &mut mpsc::Receiver<Failure>) {
    loop {
        match failures.recv().await {
            Some(Failure::Broken(broken)) if broken == number => return,
            Some(Failure::Broken(_) | Failure::Refused) => {}
            None => return std::future::pending().await,
        }
    }
}
