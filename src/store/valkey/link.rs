//! The connection to one server, or to a primary that its replicas can replace. It is shared, and reopened whenever it
//! breaks.
//!
//! Sends requests and returns the answers, or why there is none. A command on a broken connection waits briefly for the
//! next one and is sent once more. While the primary is unreachable, a replica answers reads. A durable write is
//! complete once a replica has it. `upkeep` opens the connections.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisError, RedisResult, cmd};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::address::Endpoint;
use super::confirm::Confirmations;
use super::dial::Dialer;
use super::refusal::{PATIENCE, Refusal, down, is_broken, is_readonly, reason};
use super::request::{Kind, Request};
use super::slots::Group;
use super::source::Source;
use super::upkeep::{self, Failure, State};
use crate::store::StoreError;

/// How long a primary with replicas may take to answer a read before a replica is asked.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a replica may take to confirm a write.
const CONFIRMATION: Duration = Duration::from_millis(1500);

/// The connection, shared by all clones. The task that opens it ends with the last of them.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    failures: mpsc::Sender<Failure>,
    source: Arc<Source>,
}

#[derive(Debug)]
pub(super) enum SendError {
    Server(RedisError, Endpoint),
    Down(String),
}

impl From<SendError> for StoreError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Server(error, _) => down(&error),
            SendError::Down(why) => Self::Down(why),
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

struct LiveConnection {
    connection: MultiplexedConnection,
    endpoint: Endpoint,
    number: u64,
    confirmations: Arc<Confirmations>,
}

impl Link {
    /// Its task runs on `control`.
    pub(super) fn new(source: Source, dialer: Dialer, control: &Handle) -> Self {
        let (sender, state) = watch::channel(State::new());
        let (failures, reported) = mpsc::channel(16);
        let source = Arc::new(source);
        control.spawn(upkeep::run(source.clone(), dialer, sender, reported));
        Self { state, failures, source }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { refusal: None, .. })
    }

    pub(super) async fn answered(&self) {
        // The sender lives as long as this link.
        let _ = self.state.clone().wait_for(|state| matches!(state, State::Up { .. })).await;
    }

    /// Why the server cannot be written, once the outage is more than momentary.
    pub(super) fn outage(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Up { refusal, .. } => {
                refusal.as_ref().filter(|refusal| !refusal.is_young()).map(|refusal| refusal.why.clone())
            }
            State::Down { why, since } => (since.elapsed() >= PATIENCE).then(|| why.clone()),
        }
    }

    /// The current connection and its server, if there is one.
    pub(super) fn current(&self) -> Option<(MultiplexedConnection, Endpoint)> {
        match &*self.state.borrow() {
            State::Up { connection, endpoint, .. } => Some((connection.clone(), endpoint.clone())),
            State::Down { .. } => None,
        }
    }

    pub(super) fn has_replicas(&self) -> bool {
        self.source.has_replicas()
    }

    /// The primary and its replicas, as currently known.
    pub(super) async fn group(&self) -> Result<Group, SendError> {
        self.source.locate().await.map_err(SendError::Down)
    }

    /// A key in this server's slots, if it has any.
    pub(super) fn probe_key(&self) -> String {
        self.source.probe_key()
    }

    /// Sends a request, and once more if the connection breaks: it may run twice. Runs on the control runtime.
    pub(super) async fn send<T: FromRedisValue>(&self, request: &Request) -> Result<T, SendError> {
        let mut connected = self.connection(None, request.kind).await?;
        let answer = match self.ask(request, &mut connected).await {
            Err(error) => {
                connected = self.after(error, connected, request.kind).await?;
                self.ask(request, &mut connected).await
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| SendError::Server(error, connected.endpoint.clone()))?;
        if request.kind == Kind::Durable && self.source.has_replicas() {
            let confirmations = connected.confirmations.clone();
            confirmations.share(self.confirm(connected)).await.map_err(SendError::Down)?;
        }
        Ok(answer)
    }

    async fn ask<T: FromRedisValue>(&self, request: &Request, to: &mut LiveConnection) -> RedisResult<T> {
        let answer = request.send(&mut to.connection);
        if request.kind == Kind::Read && self.source.has_replicas() {
            let late = || RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut));
            timeout(READ_TIMEOUT, answer).await.unwrap_or_else(|_| Err(late()))
        } else {
            answer.await
        }
    }

    /// A working connection other than `except`; waits briefly for it.
    async fn connection(&self, except: Option<u64>, kind: Kind) -> Result<LiveConnection, SendError> {
        let mut state = self.state.clone();
        let since = match &*state.borrow() {
            State::Down { since, .. } | State::Up { refusal: Some(Refusal { replica: true, since, .. }), .. } => *since,
            State::Up { .. } => Instant::now(),
        };
        let good = |state: &State| match state {
            State::Up { number, refusal, .. } => {
                except != Some(*number) && (kind == Kind::Read || !refusal.as_ref().is_some_and(|why| why.replica))
            }
            State::Down { .. } => false,
        };
        // The sender lives as long as this link.
        let _ = timeout_at(since + PATIENCE, state.wait_for(good)).await;
        match &*state.borrow() {
            State::Up { connection, endpoint, number, confirmations, refusal } => match refusal {
                Some(Refusal { replica: true, why, .. }) if kind != Kind::Read => Err(SendError::Down(why.clone())),
                Some(_) | None => Ok(LiveConnection {
                    connection: connection.clone(),
                    endpoint: endpoint.clone(),
                    number: *number,
                    confirmations: confirmations.clone(),
                }),
            },
            State::Down { why, .. } => Err(SendError::Down(why.clone())),
        }
    }

    /// A different connection after an error, if that may help.
    async fn after(&self, error: RedisError, from: LiveConnection, kind: Kind) -> Result<LiveConnection, SendError> {
        let broken = is_broken(&error);
        // A full channel already has such a report.
        let _ = self.failures.try_send(if broken { Failure::Broken(from.number) } else { Failure::Refused });
        // A write that timed out may still be carried out.
        let waits = error.is_timeout() && !(kind == Kind::Read && self.source.has_replicas());
        if !(broken || is_readonly(&error)) || waits {
            return Err(SendError::Server(error, from.endpoint));
        }
        self.connection(Some(from.number), kind).await
    }

    /// If there is a replica, waits until it has everything that was written on this connection.
    async fn confirm(&self, mut on: LiveConnection) -> Result<(), String> {
        let mut pause = Duration::from_millis(1);
        let mut deadline = None;
        loop {
            // WAIT blocks the connection, so it is short and repeated.
            match cmd("WAIT").arg(1).arg(2).query_async::<u64>(&mut on.connection).await {
                Ok(0) => {}
                Ok(_) => return Ok(()),
                Err(error) => {
                    let _ = self.failures.try_send(Failure::Broken(on.number));
                    return Err(reason(&error));
                }
            }
            let now = Instant::now();
            if deadline.is_none_or(|deadline| now >= deadline) {
                // Without a live replica, the primary alone is enough. But a server that was suspended may wrongly
                // believe that it is the primary, while its replicas follow another.
                let group = self.source.locate_without(&on.endpoint).await?;
                if group.primary != on.endpoint {
                    let _ = self.failures.try_send(Failure::Broken(on.number));
                    return Err("another server became the primary".to_owned());
                }
                if all_are_gone(&group.replicas).await {
                    return Ok(());
                }
                if deadline.is_some() {
                    return Err("no replica confirms the write".to_owned());
                }
                deadline = Some(now + CONFIRMATION);
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Whether none of them has a listening process. One that is slow or isolated may still become the primary.
async fn all_are_gone(replicas: &[Endpoint]) -> bool {
    for replica in replicas {
        let Endpoint::Tcp { host, port } = replica else { return false };
        let connected = timeout(CONFIRMATION, TcpStream::connect((host.as_str(), *port))).await;
        if !matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return false;
        }
    }
    true
}
