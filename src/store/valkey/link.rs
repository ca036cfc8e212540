//! The connection to the server: one, shared, made again whenever it breaks.
//!
//! In: commands. Out: answers, or [`StoreError::Down`]. A keeper on the control runtime dials with backoff, tries every few
//! seconds whether the server still writes (`probe`), and says so; a command that meets a broken connection waits for the
//! next one, for a moment, and is sent once more. A server that answers and refuses to write (memory or disk full, an ACL)
//! is read from, and counts as down. Where and how to dial is asked anew each time, which is where Sentinel would come in.
//! It never logs or quotes a command, since commands carry what is kept.

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

use super::address::{Address, Place};
use super::probe;
use crate::seal::random;
use crate::store::StoreError;
use crate::tls;

/// An answer is waited for this long.
const RESPONSE: Duration = Duration::from_secs(3);
/// A connection, TLS and log-in included.
const CONNECT: Duration = Duration::from_secs(4);
/// A server is tried this often.
const PROBE_EVERY: Duration = Duration::from_secs(2);
/// And this soon after a command that it refused, however many it refuses.
const PROBE_AFTER_REFUSAL: Duration = Duration::from_millis(200);
/// How long after it went away commands wait for the server, before they fail at once.
const PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

#[derive(Clone)]
enum State {
    /// `refused` says why it would not write when it was last tried.
    Up {
        connection: MultiplexedConnection,
        number: u64,
        refused: Option<String>,
    },
    Down {
        why: String,
        since: Instant,
    },
}

/// What a command saw of the connection of this number.
#[derive(Clone, Copy)]
enum Seen {
    Broken(u64),
    Refused,
}

/// The connection, shared by all clones. The keeper ends with the last of them.
#[derive(Clone)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    seen: mpsc::Sender<Seen>,
    control: Handle,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(address: Address, ca_file: Option<&Path>, control: Handle) -> Result<Self, StoreError> {
        let tls = match address.place {
            Place::Tcp { tls: true, .. } => {
                let config =
                    tls::client(ca_file).map_err(|error| StoreError::Setup(format!("store.ca_file: {error}")))?;
                Some(TlsConnector::from(Arc::new(config)))
            }
            Place::Tcp { tls: false, .. } | Place::Unix(_) => None,
        };
        let why = "it has not answered yet".to_owned();
        let (told, state) = watch::channel(State::Down { why, since: Instant::now() });
        let (seen, heard) = mpsc::channel(16);
        control.spawn(keep(Dialer { address, tls }, told, heard));
        Ok(Self { state, seen, control })
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { refused: None, .. })
    }

    /// Why nothing can be written, where that is not the matter of a moment.
    pub(super) fn trouble(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Up { refused, .. } => refused.clone(),
            State::Down { why, since } => (since.elapsed() >= PATIENCE).then(|| why.clone()),
        }
    }

    /// Waits for a moment until the server writes.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        self.ask::<()>(probe::touch()).await?;
        self.trouble().map_or(Ok(()), |why| Err(StoreError::Down(why)))
    }

    /// Asks with a command.
    pub(super) async fn ask<T: FromRedisValue + Send + 'static>(&self, command: Cmd) -> Result<T, StoreError> {
        let this = self.clone();
        let task = self.control.spawn(async move {
            let (mut connection, number) = this.up(None).await?;
            match command.query_async(&mut connection).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    let (mut connection, _) = this.another(&error, number).await?;
                    command.query_async(&mut connection).await.map_err(|error| down(&error))
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    /// Runs a script.
    pub(super) async fn run<T>(&self, script: ScriptInvocation<'static>) -> Result<T, StoreError>
    where
        T: FromRedisValue + Send + 'static,
    {
        let this = self.clone();
        let task = self.control.spawn(async move {
            let (mut connection, number) = this.up(None).await?;
            match script.invoke_async(&mut connection).await {
                Ok(answer) => Ok(answer),
                Err(error) => {
                    let (mut connection, _) = this.another(&error, number).await?;
                    script.invoke_async(&mut connection).await.map_err(|error| down(&error))
                }
            }
        });
        task.await.unwrap_or_else(|_| Err(StoreError::stopping()))
    }

    /// The connection that works, other than `except`; waits for it for a moment.
    async fn up(&self, except: Option<u64>) -> Result<(MultiplexedConnection, u64), StoreError> {
        let mut state = self.state.clone();
        let since = match &*state.borrow() {
            State::Down { since, .. } => *since,
            State::Up { .. } => Instant::now(),
        };
        let good = |state: &State| matches!(state, State::Up { number, .. } if except != Some(*number));
        // The keeper lives as long as this link.
        let _ = timeout_at(since + PATIENCE, state.wait_for(good)).await;
        match &*state.borrow() {
            State::Up { connection, number, .. } => Ok((connection.clone(), *number)),
            State::Down { why, .. } => Err(StoreError::Down(why.clone())),
        }
    }

    /// After an error: another connection, where that would help; everything asked here may be asked twice.
    async fn another(&self, error: &RedisError, number: u64) -> Result<(MultiplexedConnection, u64), StoreError> {
        let broken = is_broken(error);
        // A full channel already holds word of it.
        let _ = self.seen.try_send(if broken { Seen::Broken(number) } else { Seen::Refused });
        if !broken {
            return Err(down(error));
        }
        if error.is_timeout() {
            return Err(down(error));
        }
        self.up(Some(number)).await
    }
}

/// Whether another connection would help. A replica that was a primary, too: the name may lead to another server by now.
fn is_broken(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error() || error.code() == Some("READONLY")
}

/// What is told of an error: never its details, which may quote a command.
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
        Some("OOM") => "the server has used up its memory, and writes nothing (OOM)".to_owned(),
        Some("MISCONF") => "the server cannot save to its disk, and writes nothing (MISCONF)".to_owned(),
        Some("READONLY") => "the server is a replica, which writes nothing (READONLY)".to_owned(),
        Some(code) => format!("the server answered {code}"),
        None if error.is_timeout() => format!("no answer within {} seconds", RESPONSE.as_secs()),
        None if error.is_connection_refusal() => "the connection was refused".to_owned(),
        None if error.is_io_error() => "the connection broke".to_owned(),
        None => error.category().to_owned(),
    }
}

/// How a connection is made.
struct Dialer {
    address: Address,
    tls: Option<TlsConnector>,
}

impl Dialer {
    async fn dial(&self) -> Result<MultiplexedConnection, String> {
        match &self.address.place {
            Place::Unix(path) => self.log_in(UnixStream::connect(path).await.map_err(|error| error.to_string())?).await,
            Place::Tcp { host, port, .. } => {
                let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(|error| error.to_string())?;
                // Commands are small and should leave at once; a socket that refuses the option works all the same.
                let _ = stream.set_nodelay(true);
                match &self.tls {
                    None => self.log_in(stream).await,
                    Some(tls) => {
                        let name = tls::server_name(host).ok_or("its host is no name for a certificate")?;
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
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(RESPONSE));
        let made = MultiplexedConnection::new_with_config(&self.address.login, stream, config).await;
        let (mut connection, driver) = made.map_err(|error| reason(&error))?;
        // It ends with the last handle of its connection.
        tokio::spawn(driver);
        redis::cmd("PING").query_async::<()>(&mut connection).await.map_err(|error| reason(&error))?;
        Ok(connection)
    }
}

/// Why the server would not write; an error where the connection is of no use.
async fn look(connection: &mut MultiplexedConnection) -> RedisResult<Option<String>> {
    match probe::write(connection).await {
        Ok(()) => Ok(None),
        Err(error) if is_broken(&error) || error.code() == Some("LOADING") => Err(error),
        Err(error) => Ok(Some(reason(&error))),
    }
}

/// Keeps a connection until nobody wants it any more.
async fn keep(dialer: Dialer, told: watch::Sender<State>, mut seen: mpsc::Receiver<Seen>) {
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    loop {
        let made = tokio::select! {
            () = told.closed() => return,
            made = timeout(CONNECT, connect(&dialer)) => made,
        };
        match made {
            Ok(Ok((connection, refused))) => {
                number += 1;
                let began = Instant::now();
                tracing::info!(store = %dialer.address.place, "the session store answers");
                if let Some(why) = &refused {
                    tracing::warn!(store = %dialer.address.place, %why, "the session store cannot be written");
                }
                told.send_replace(State::Up { connection: connection.clone(), number, refused });
                let why = tokio::select! {
                    () = told.closed() => return,
                    why = watch_over(connection, number, &mut seen, &told) => why,
                };
                tracing::warn!(store = %dialer.address.place, %why, "the session store is gone");
                told.send_replace(State::Down { why, since: Instant::now() });
                // One that lasted is dialed again at once; one that breaks as soon as it is made is not.
                if began.elapsed() >= PROBE_EVERY {
                    pause = FIRST_PAUSE;
                    continue;
                }
            }
            Ok(Err(why)) => tell(&told, &dialer.address.place, why),
            Err(_) => {
                tell(&told, &dialer.address.place, format!("no connection within {} seconds", CONNECT.as_secs()));
            }
        }
        tokio::select! {
            () = told.closed() => return,
            () = sleep(spread(pause)) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection, and why its server would not write.
async fn connect(dialer: &Dialer) -> Result<(MultiplexedConnection, Option<String>), String> {
    let mut connection = dialer.dial().await?;
    let refused = look(&mut connection).await.map_err(|error| reason(&error))?;
    Ok((connection, refused))
}

/// Says whether the server writes; ends, with the reason, when the connection is broken.
async fn watch_over(
    mut connection: MultiplexedConnection,
    number: u64,
    seen: &mut mpsc::Receiver<Seen>,
    told: &watch::Sender<State>,
) -> String {
    loop {
        let pause = tokio::select! {
            found = seen.recv() => match found {
                Some(Seen::Broken(found)) if found == number => return "the connection broke".to_owned(),
                Some(Seen::Refused) => PROBE_AFTER_REFUSAL,
                Some(Seen::Broken(_)) => continue,
                None => return "nobody asks any more".to_owned(),
            },
            () = sleep(PROBE_EVERY) => Duration::ZERO,
        };
        match look(&mut connection).await {
            Ok(found) => note(told, found),
            Err(error) => return reason(&error),
        }
        sleep(pause).await;
    }
}

/// Notes whether the server writes, in the log where that is new.
fn note(told: &watch::Sender<State>, found: Option<String>) {
    told.send_if_modified(|state| match state {
        State::Up { refused, .. } if *refused != found => {
            if let Some(why) = &found {
                tracing::warn!(%why, "the session store cannot be written");
            } else {
                tracing::info!("the session store can be written again");
            }
            *refused = found;
            true
        }
        State::Up { .. } | State::Down { .. } => false,
    });
}

/// Says why the server is away, in the log once for each reason.
fn tell(told: &watch::Sender<State>, place: &Place, why: String) {
    told.send_if_modified(|state| match state {
        State::Down { why: known, .. } if *known != why => {
            tracing::warn!(store = %place, %why, "the session store cannot be reached");
            *known = why;
            true
        }
        State::Down { .. } | State::Up { .. } => false,
    });
}

/// Half of it and up to half more, so that replicas do not come all at once.
fn spread(pause: Duration) -> Duration {
    let [spread] = random::<1>().unwrap_or([255]);
    pause / 2 + pause / 2 * u32::from(spread) / 255
}
