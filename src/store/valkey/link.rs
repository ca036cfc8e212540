//! The connection to the server: one, shared, and made again whenever it breaks.
//!
//! Sends commands and returns the answers, or [`StoreError::Down`]. A task on the control runtime connects with backoff and
//! probes every few seconds whether the server accepts writes. A command that meets a broken connection waits a moment for
//! the next one and is sent once more. A server that answers and refuses writes (memory or disk full, an ACL) is still read
//! from, and counts as down. It never logs or quotes a command, since commands carry what is stored.

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
use crate::store::StoreError;
use crate::store::jitter::jitter;
use crate::tls;

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);
/// With TLS and login.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// The least time between two probes, however many commands the server refuses.
const PROBE_PAUSE: Duration = Duration::from_millis(200);
/// How long after the server went away commands still wait for it, before they fail at once.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
enum State {
    Up {
        connection: MultiplexedConnection,
        number: u64,
        /// Why the server refused the last probe.
        refusal: Option<String>,
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
            State::Up { refusal, .. } => refusal.clone(),
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
            State::Down { since, .. } => *since,
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
        if !broken || error.is_timeout() {
            return Err(down(error));
        }
        Ok(self.connection(Some(number)).await?.0)
    }
}

/// Whether another connection would help. That includes a primary that became a replica: the name may lead to another server
/// by now.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY")
}

/// Never the details of an error, which may quote a command.
fn down(error: &RedisError) -> StoreError {
    StoreError::Down(reason(error))
}

fn reason(error: &RedisError) -> String {
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
        Some("READONLY") => "the server is a replica and accepts no writes (READONLY)".to_owned(),
        Some(code) => format!("the server answered {code}"),
        None if error.is_timeout() => format!("no answer within {} seconds", RESPONSE_TIMEOUT.as_secs()),
        None if error.is_connection_refusal() => "the connection was refused".to_owned(),
        None if error.is_io_error() => "the connection broke".to_owned(),
        None => error.category().to_owned(),
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
async fn check(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match probe::write(connection).await {
        Ok(()) => Ok(None),
        Err(error) if is_broken(&error) || error.code() == Some("LOADING") => Err(error),
        Err(error) => Ok(Some(reason(&error))),
    }
}

/// Connects, and again whenever the connection breaks, until the last [`Link`] is dropped.
async fn maintain(dialer: Dialer, state: watch::Sender<State>, mut failures: mpsc::Receiver<Failure>) {
    let store = &dialer.address.endpoint;
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    loop {
        let connected = tokio::select! {
            () = state.closed() => return,
            connected = timeout(CONNECT_TIMEOUT, connect(&dialer)) => connected,
        };
        match connected {
            Ok(Ok((connection, refusal))) => {
                number += 1;
                let began = Instant::now();
                tracing::info!(%store, "the session store answers");
                if let Some(why) = &refusal {
                    tracing::warn!(%store, %why, "the session store cannot be written");
                }
                state.send_replace(State::Up { connection: connection.clone(), number, refusal });
                let why = tokio::select! {
                    () = state.closed() => return,
                    why = watch_over(connection, number, &mut failures, &state) => why,
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
async fn connect(dialer: &Dialer) -> Result<(MultiplexedConnection, Option<String>), String> {
    let mut connection = dialer.dial().await?;
    let refusal = check(&mut connection).await.map_err(|error| reason(&error))?;
    Ok((connection, refusal))
}

/// Keeps the state's refusal up to date; returns why the connection broke.
async fn watch_over(
    mut connection: MultiplexedConnection,
    number: u64,
    failures: &mut mpsc::Receiver<Failure>,
    state: &watch::Sender<State>,
) -> String {
    loop {
        let pause = tokio::select! {
            failure = failures.recv() => match failure {
                Some(Failure::Broken(broken)) if broken == number => return "the connection broke".to_owned(),
                Some(Failure::Refused) => PROBE_PAUSE,
                Some(Failure::Broken(_)) => continue,
                None => return "it is no longer used".to_owned(),
            },
            () = sleep(PROBE_EVERY) => Duration::ZERO,
        };
        match check(&mut connection).await {
            Ok(refusal) => set_refusal(state, refusal),
            Err(error) => return reason(&error),
        }
        sleep(pause).await;
    }
}

/// Logs each change once.
fn set_refusal(state: &watch::Sender<State>, new: Option<String>) {
    state.send_if_modified(|state| match state {
        State::Up { refusal, .. } if *refusal != new => {
            if let Some(why) = &new {
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
