//! Sends a request to an upstream: its head, and its body as the client sends it, delayed while it waits for a 100
//! (Continue).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use super::socket::Socket;
use super::timer::Timer;
use crate::body;

/// How long to wait for the upstream's 100 (Continue): a client must not wait indefinitely (RFC 9110 section 10.1.1).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Upload {
    pub(super) request: Outgoing,
    stage: Stage,
    /// When something was last written.
    pub(super) moved: Instant,
    /// The upstream would take more, but the client has not sent it yet.
    pub(super) starved: bool,
    /// The upstream did not announce that it reads the body: no 100 (Continue) arrived.
    unasked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The body waits for a 100 (Continue) until then.
    Waiting(Instant),
    Sending,
    /// All of it is written.
    Done,
    /// The upstream reads no more, or has answered instead of asking for the body.
    Abandoned,
}

impl Upload {
    /// A body that expects a 100 (Continue) waits for [`Upload::proceed`], at most a second.
    pub(super) fn new(request: Outgoing) -> Self {
        let now = Instant::now();
        let stage = if request.expects { Stage::Waiting(now + CONTINUE_WAIT) } else { Stage::Sending };
        Self { unasked: request.expects, request, stage, moved: now, starved: false }
    }

    /// Whether the connection is between two requests: an upstream that should have sent 100 (Continue) but answered
    /// without it may take a body that was sent anyway for the next request (RFC 9110 section 10.1.1).
    pub(super) fn leaves_a_clean_connection(&self) -> bool {
        self.is_done() && !self.unasked
    }

    /// All of it is written.
    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Ready once there is nothing more to write, or with the error of the client's body.
    pub(super) fn poll(
        &mut self,
        socket: &mut Socket,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), body::Error>> {
        loop {
            match self.stage {
                Stage::Done | Stage::Abandoned => return Poll::Ready(Ok(())),
                Stage::Sending => match self.request.body.poll_fill(cx, &mut self.request.output) {
                    Poll::Ready(filled) => {
                        self.starved = false;
                        filled?;
                    }
                    Poll::Pending => self.starved = true,
                },
                Stage::Waiting(_) => {}
            }
            if !self.request.output.is_empty() {
                let before = self.request.output.len();
                let written = self.request.output.poll_write(socket, cx);
                if self.request.output.len() < before {
                    self.moved = Instant::now();
                }
                if ready!(written).is_err() {
                    self.stage = Stage::Abandoned;
                }
                continue;
            }
            if ready!(Pin::new(&mut *socket).poll_flush(cx)).is_err() {
                self.stage = Stage::Abandoned;
                continue;
            }
            match self.stage {
                Stage::Waiting(until) => {
                    ready!(timer.poll_until(cx, until));
                    self.stage = Stage::Sending;
                }
                Stage::Sending if self.request.body.has_ended() => self.stage = Stage::Done,
                Stage::Sending => return Poll::Pending,
                Stage::Done | Stage::Abandoned => {}
            }
        }
    }

    /// The upstream's 100 (Continue) has arrived.
    pub(super) fn proceed(&mut self) {
        self.unasked = false;
        if let Stage::Waiting(_) = self.stage {
            self.stage = Stage::Sending;
        }
    }

    /// The head of the final response has arrived. An upstream that answers instead of sending 100 (Continue) may read
    /// the following bytes as the next request (RFC 9110 section 10.1.1).
    pub(super) fn answered(&mut self) {
        if let Stage::Waiting(_) = self.stage {
            self.stage = Stage::Abandoned;
        }
    }
}
