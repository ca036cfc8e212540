//! A connection to an upstream, idle or in an exchange.

use std::task::{Context, Waker};
use std::time::Duration;

use bytes::BytesMut;

use super::poll_read;
use super::socket::Socket;
use super::timer::Timer;
use crate::framing::{Limits, ResponseReader};

/// How long a connection is kept idle if the upstream does not say.
pub(super) const KEEP_IDLE: Duration = Duration::from_secs(60);

/// A connection to an upstream. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Socket,
    pub(super) reader: ResponseReader,
    /// Bytes that were read and not consumed yet.
    pub(super) input: BytesMut,
    pub(super) timer: Timer,
    /// The upstream's own `Keep-Alive: timeout` less a second, or the default.
    pub(super) keep_idle: Duration,
    /// It belongs to one client, because a request or response on it authenticated the connection itself.
    pub(super) authenticates: bool,
}

impl Connection {
    pub fn new(socket: Socket, limits: Limits) -> Box<Self> {
        let (reader, timer) = (ResponseReader::new(limits), Timer::default());
        Box::new(Self { socket, reader, input: BytesMut::new(), timer, keep_idle: KEEP_IDLE, authenticates: false })
    }

    /// Whether an idle connection is still open and silent.
    pub(super) fn is_usable(&mut self) -> bool {
        // Without budget left, tokio does not look at the socket.
        tokio::task::coop::has_budget_remaining()
            && poll_read(&mut self.socket, &mut self.input, &mut Context::from_waker(Waker::noop())).is_pending()
    }
}
