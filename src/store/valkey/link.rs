//! The connection to the server: one, shared, and made again whenever it breaks.
//!
//! Sends commands and returns the answers, or [`StoreError::Down`]. A task on the control runtime connects with backoff and
//! probes every few seconds whether the server accepts writes. A command that meets a broken connection waits a moment for
//! the next one and is sent once more. A server that answers and refuses writes (memory or disk full, an ACL, a replica after
//! a failover) is still read from, and counts as down. It never logs or quotes a command, since commands carry what is stored.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::address::{Address, Endpoint};
use super::probe;
use super::refusal::{PATIENCE, RESPONSE_TIMEOUT, Refusal, down, is_broken, is_readonly, reason};
use crate::store::StoreError;
use crate::store::jitter::jitter;
use crate::tls;

/// With TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// The least time between two probes, however many commands the server refuses.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
enum State {
    Up {
        connection: MultiplexedConnection,
        number: u64,
        /// Why the server refused the last probe.
        refusal: Option<Refusal>,
    },
    Down {
        why: String,
        since: Instant,
    },
}

/// How a command failed.
#[derive(Clone, Copy)]
enum Failure {
    /// The connection of this number broke.
    Broken(u64),
    Refused,
}

/// What can be sent to the server.
pub(super) trait Request: Send + Sync + 'static {
    fn send<T: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<T>> + Send;
}

impl Request for Cmd {
    fn send<T: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<T>> + Send {
        self.query_async(connection)
    }
}

impl Request for ScriptInvocation<'static> {
    fn send<T: FromRedisValue + Send>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> impl Future<Output = RedisResult<T>> + Send {
        self.invoke_async(connection)
    }
}

/// The connection, shared by all clones. The task that makes it ends with the last of them.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    failures: mpsc::Sender<Failure>,
    control: Handle,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(address: Address, ca_file: Option<&Path>, control: Handle) -> Result<Self, StoreError> {
        let tls = if matches!(address.endpoint, Endpoint::Tcp { tls: true, .. }) {
            let config = tls::client(ca_file).map_err(|error| StoreError::Setup(format!("store.ca_file: {error}")))?;
            Some(TlsConnector::from(Arc::new(config)))
        } else {
            None
        };
        let why = "it has not answered yet".to_owned();
        let (sender, state) = watch::channel(State::Down { why, since: Instant::now() });
        let (failures, reported) = mpsc::channel(16);
        control.spawn(maintain(Dialer { address, tls }, sender, reported));
        Ok(Self { state, failures, control })
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { refusal: None, .. })
    }

    /// Why the server cannot be written, once that is no longer a matter of moments.
    pub(super) fn outage(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Up { refusal, .. } => {
                refusal.as_ref().filter(|refusal| !refusal.is_young()).map(|refusal| refusal.why.clone())
            }
            State::Down { why, since } => (since.elapsed() >= PATIENCE).then(|| why.clone()),
        }
    }

    /// Waits a moment until the server accepts writes.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        self.send::<()>(probe::touch()).await?;
        self.outage().map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }

    /// Sends a command or a script, and once more if the connection breaks: it may run twice.
    pub(super) async fn send<T: FromRedisValue + Send + 'static>(
        &self,
        request: impl Request,
    ) -> Result<T, StoreError> {
        let this = self.clone();
        let task = self.control.spawn(async move {
            let (mut connection, number) = this.connection(None).await?;
            match request.send(&mut connection).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    let mut connection = this.after(&error, number).await?;
                    request.send(&mut connection).await.map_err(|error| down(&error))
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    /// A connection that works, other than `except`; waits a moment for it.
    async fn connection(&self, except: Option<u64>) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut state = self.state.clone();
        let since = match &*state.borrow() {
            State::Down { since, .. } | State::Up { refusal: Some(Refusal { replica: true, since, .. }), .. } => *since,
            State::Up { .. } => Instant::now(),
        };
        let good = |state: &State| matches!(state, State::Up { number, .. } if except != Some(*number));
        // The sender lives as long as this link.
        let _ = timeout_at(since + PATIENCE, state.wait_for(good)).await;
        match &*state.borrow() {
            State::Up { connection, number, .. } => Ok((connection.clone(), *number)),
            State::Down { why, .. } => Err(StoreError::Down(why.clone())),
        }
    }

    /// Another connection after an error, if that would help.
    async fn after(&self, error: &RedisError, number: u64) -> Result<MultiplexedConnection, StoreError> {
        let broken = is_broken(error);
        // A full channel holds such a report already.
        let _ = self.failures.try_send(if broken { Failure::Broken(number) } else { Failure::Refused });
        if !(broken || is_readonly(error)) || error.is_timeout() {
            return Err(down(error));
        }
        Ok(self.connection(Some(number)).await?.0)
    }
}

struct Dialer {
    address: Address,
    tls: Option<TlsConnector>,
}

impl Dialer {
    async fn dial(&self) -> Result<MultiplexedConnection, String> {
        match &self.address.endpoint {
            Endpoint::Unix(path) => {
                self.log_in(UnixStream::connect(path).await.map_err(|error| error.to_string())?).await
            }
            Endpoint::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
                // Commands are small and should leave at once. A socket that refuses the option works too.
                let _ = stream.set_nodelay(true);
                match &self.tls {
                    None => self.log_in(stream).await,
                    Some(tls) => {
                        let name =
                            tls::server_name(host).ok_or("its host is not a name that a certificate can have")?;
                        let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                        self.log_in(stream).await
                    }
                }
            }
        }
    }

    async fn log_in<C>(&self, stream: C) -> Result<MultiplexedConnection, String>
    where
        C: Unpin + AsyncRead + AsyncWrite + Send + 'static,
    {
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE_TIMEOUT));
        let new = MultiplexedConnection::new_with_config(&self.address.login, stream, config).await;
        let (mut connection, driver) = new.map_err(|error| reason(&error))?;
        // It ends with the last handle of its connection.
        tokio::spawn(driver);
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| reason(&error))?;
        Ok(connection)
    }
}

/// Why the server refuses writes; an error where the connection is useless.
async fn check(connection: &mut MultiplexedConnection) -> RedisResult<Option<Refusal>> {
    match probe::write(connection).await {
        Ok(()) => Ok(None),
        Err(error) if is_broken(&error) || error.code() == Some("LOADING") => Err(error),
        Err(error) => Ok(Some(Refusal::of(&error))),
    }
}

/// Connects, and again whenever the connection breaks, until the last [`Link`] is dropped.
async fn maintain(dialer: Dialer, state: watch::Sender<State>, mut failures: mpsc::Receiver<Failure>) {
    let store = &dialer.address.endpoint;
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    let mut replacement = None;
    loop {
        let connect = async {
            match replacement.take() {
                Some(connected) => Ok(Ok(connected)),
                None => timeout(CONNECT_TIMEOUT, connect(&dialer)).await,
            }
        };
        let connected = tokio::select! {
            () = state.closed() => return,
            connected = connect => connected,
        };
        match connected {
            Ok(Ok((connection, refusal))) => {
                number += 1;
                let began = Instant::now();
                tracing::info!(%store, "the session store answers");
                if let Some(Refusal { why, .. }) = &refusal {
                    tracing::warn!(%store, %why, "the session store cannot be written");
                }
                state.send_replace(State::Up { connection: connection.clone(), number, refusal });
                let why = tokio::select! {
                    () = state.closed() => return,
                    end = watch_over(connection, number, &mut failures, &state, &dialer) => match end {
                        End::Lost(why) => why,
                        End::Replaced(connection) => {
                            replacement = Some((connection, None));
                            continue;
                        }
                    },
                };
                tracing::warn!(%store, %why, "the connection to the session store was lost");
                state.send_replace(State::Down { why, since: Instant::now() });
                // After a connection that lasted the next attempt is made at once; one that broke at once is backed off.
                if began.elapsed() >= PROBE_EVERY {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            Ok(Err(why)) => set_reason(&state, store, why),
            Err(_) => set_reason(&state, store, format!("no connection within {} seconds", CONNECT_TIMEOUT.as_secs())),
        }
        tokio::select! {
            () = state.closed() => return,
            () = sleep(jitter(pause)) => {}
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// A connection, and why its server refuses writes.
async fn connect(dialer: &Dialer) -> Result<(MultiplexedConnection, Option<Refusal>), String> {
    let mut connection = dialer.dial().await?;
    let refusal = check(&mut connection).await.map_err(|error| reason(&error))?;
    Ok((connection, refusal))
}

/// How a connection ended.
enum End {
    Lost(String),
    /// Its server became a replica, and this one accepts writes.
    Replaced(MultiplexedConnection),
}

/// Keeps the state's refusal up to date until the connection breaks, or another server takes the place of its own.
async fn watch_over(
    mut connection: MultiplexedConnection,
    number: u64,
    failures: &mut mpsc::Receiver<Failure>,
    state: &watch::Sender<State>,
    dialer: &Dialer,
) -> End {
    loop {
        let pause = tokio::select! {
            failure = failures.recv() => match failure {
                Some(Failure::Broken(broken)) if broken == number => return End::Lost("the connection broke".to_owned()),
                Some(Failure::Refused) => PROBE_PAUSE,
                Some(Failure::Broken(_)) => continue,
                None => return End::Lost("it is no longer used".to_owned()),
            },
            () = sleep(PROBE_EVERY) => Duration::ZERO,
        };
        let refusal = match check(&mut connection).await {
            Ok(refusal) => refusal,
            Err(error) => return End::Lost(reason(&error)),
        };
        let replica = refusal.as_ref().is_some_and(|refusal| refusal.replica);
        set_refusal(state, refusal);
        if replica && let Ok(Ok((connection, None))) = timeout(CONNECT_TIMEOUT, connect(dialer)).await {
            return End::Replaced(connection);
        }
        sleep(pause).await;
    }
}

/// Logs each change once.
fn set_refusal(state: &watch::Sender<State>, new: Option<Refusal>) {
    state.send_if_modified(|state| match state {
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
fn set_reason(state: &watch::Sender<State>, store: &Endpoint, new: String) {
    state.send_if_modified(|state| match state {
        State::Down { why, .. } if *why != new => {
            tracing::warn!(%store, why = %new, "the session store cannot be reached");
            *why = new;
            true
        }
        State::Down { .. } | State::Up { .. } => false,
    });
}
