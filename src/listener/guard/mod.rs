//! The guard: what stands between a client's socket and hyper.
//!
//! In: the socket's bytes. Out, towards hyper: the same bytes, as far as the strict reader of `framing` has found them to
//! have one reading. Heads, chunk-size lines and trailers are kept back until they are whole; a head that is refused is
//! replaced by a request of our own making, so that answers to the requests before it stay in order and the refusal is
//! answered by the same handler as everything else. It also keeps the times of a connection: head, idle, body, an answer
//! that nobody takes, a half that is closed. It never passes a byte it has not read, until the connection was upgraded.

mod writing;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

use super::io::Io;
use super::permits::Permit;
use super::timer::Timer;
use super::traffic::{Switch, Traffic};
use super::{Limits, Refused};
use crate::framing::{self, BodyLength, Refusal, RequestHead, RequestReader, Step};

/// A client that has closed its half is answered as long as something moves; after this long it is taken to be gone.
/// On the wire the two look alike.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// While draining, an idle connection may still bring the request that was on its way.
const DRAINING_IDLE: Duration = Duration::from_secs(1);
/// Bytes kept while an upgrade is not decided.
const EARLY: usize = 16 << 10;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";
const HEAD: &[u8] = b"HEAD / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

/// The socket as hyper sees it.
pub(super) struct Guard {
    io: Io,
    reader: RequestReader,
    /// Bytes that are not decided yet.
    held: BytesMut,
    /// Bytes that are decided and not taken yet.
    passed: BytesMut,
    course: Course,
    /// The body error to be told when `passed` is empty.
    fault: Option<Refused>,
    wait: Wait,
    since: Instant,
    /// When the client closed its half.
    ended: Option<Instant>,
    /// Since when the client takes no bytes.
    blocked: Option<Instant>,
    /// When it last took some; kept only once it has closed its half.
    written: Option<Instant>,
    lingering: Option<Instant>,
    timer: Timer,
    limits: Arc<Limits>,
    traffic: Arc<Traffic>,
    _permit: Permit,
}

/// Where the input stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Messages are read.
    Framed,
    /// In the body of a request that asks for an upgrade; `Deciding` comes after it.
    Asking,
    /// The answer decides whether a message or another protocol comes next.
    Deciding,
    /// Not HTTP any more.
    Opaque,
    /// Something was refused; nothing follows.
    Over,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    Nothing,
    Request,
    RestOfHead,
    Body,
    Answer,
}

impl Guard {
    pub(super) fn new(io: Io, limits: Arc<Limits>, traffic: Arc<Traffic>, permit: Permit) -> Self {
        let framing = framing::Limits {
            head_bytes: limits.head_bytes,
            head_fields: limits.head_fields,
            ..framing::Limits::default()
        };
        Self {
            io,
            reader: RequestReader::new(framing),
            held: BytesMut::new(),
            passed: BytesMut::new(),
            course: Course::Framed,
            fault: None,
            wait: Wait::Nothing,
            since: Instant::now(),
            ended: None,
            blocked: None,
            written: None,
            lingering: None,
            timer: Timer::default(),
            limits,
            traffic,
            _permit: permit,
        }
    }

    /// How many of `bytes`, which follow what was passed before, may pass.
    fn sift(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while matches!(self.course, Course::Framed | Course::Asking) {
            let rest = bytes.get(passed..).unwrap_or_default();
            let in_body = self.reader.in_body();
            match self.reader.step(rest) {
                Ok(Step::Head { head, .. }) if self.is_too_large(head) => self.refuse(Refused::BODY_TOO_LARGE, rest),
                Ok(Step::Head { len, head }) => {
                    passed += len;
                    self.traffic.passed(head.upgrade);
                    self.course = match (head.upgrade, head.body) {
                        (true, BodyLength::None) => Course::Deciding,
                        (true, _) => Course::Asking,
                        (false, _) => Course::Framed,
                    };
                }
                Ok(Step::Body { len, end }) => {
                    passed += len;
                    if end && self.course == Course::Asking {
                        self.course = Course::Deciding;
                    }
                }
                Ok(Step::More | Step::Opaque) => break,
                Err(refusal) if in_body => self.refuse_body(refusal.into()),
                Err(refusal) => self.refuse(refusal.into(), rest),
            }
        }
        if passed > 0 {
            self.wait = Wait::Nothing;
        }
        passed
    }

    fn is_too_large(&self, head: RequestHead) -> bool {
        matches!((head.body, self.limits.body_bytes), (BodyLength::Exact(bytes), Some(most)) if bytes > most)
    }

    /// In place of the request that begins with `start` comes one of ours, and nothing after it.
    fn refuse(&mut self, refused: Refused, start: &[u8]) {
        self.course = Course::Over;
        self.traffic.refuse(refused);
        self.passed.extend_from_slice(if start.starts_with(b"HEAD ") { HEAD } else { GET });
    }

    fn refuse_body(&mut self, refused: Refused) {
        self.course = Course::Over;
        self.traffic.refuse_body(refused);
        self.fault = Some(refused);
    }

    /// Reads into hyper's own buffer; only what is not decided is copied out of it. Ready with false at the end.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(false));
        }
        let passed = self.sift(fresh);
        if self.course != Course::Over {
            self.held.extend_from_slice(fresh.get(passed..).unwrap_or_default());
        }
        buf.set_filled(before + passed);
        Poll::Ready(Ok(true))
    }

    /// Reads behind what is held, and passes what is decided by it. Ready with false at the end.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [0; 4096];
        let mut space = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
        if space.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        self.held.extend_from_slice(space.filled());
        self.sift_held();
        Poll::Ready(Ok(true))
    }

    fn sift_held(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        // What a refusal passes on comes after what is passed here.
        let after = self.passed.len();
        let passed = self.sift(&held);
        let ours = self.passed.split_off(after);
        self.passed.extend_from_slice(&held.split_to(passed));
        self.passed.extend_from_slice(&ours);
        if self.course != Course::Over {
            self.held = held;
        }
    }

    fn awaited(&self) -> Wait {
        if self.course == Course::Deciding || self.blocked.is_some() {
            Wait::Answer
        } else if self.reader.in_body() {
            Wait::Body
        } else if self.traffic.in_flight() {
            // The time of the head behind it begins when this answer has ended.
            Wait::Answer
        } else if self.held.iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
            Wait::RestOfHead
        } else {
            // RFC 9112 section 2.2: an empty line behind a body is no beginning of a request.
            Wait::Request
        }
    }

    /// Nothing can be read now. Ready when that has lasted too long: with an end of input, an error, or a refusal passed.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let wait = self.awaited();
        if wait != self.wait {
            let quiet = wait == Wait::Request;
            (self.wait, self.since) = (wait, if quiet { self.traffic.quiet_since() } else { Instant::now() });
        }
        let deadline = match wait {
            Wait::Request if self.ended.is_some() => return Poll::Ready(()),
            Wait::Request => {
                let idle = self.since + self.limits.idle_timeout;
                self.traffic.draining().map_or(idle, |draining| idle.min(draining + DRAINING_IDLE))
            }
            Wait::RestOfHead => self.since + self.limits.head_timeout,
            Wait::Body => self.since + self.limits.body_idle_timeout,
            Wait::Answer => {
                if self.ended.is_some() || self.course == Course::Deciding || !self.held.is_empty() {
                    self.traffic.await_answer(cx.waker());
                }
                match self.ended {
                    Some(ended) => self.written.unwrap_or(ended) + HALF_CLOSED,
                    // Nobody tells when the answer has ended and the time of idleness begins: a look now and then does.
                    None => self.since + self.limits.idle_timeout,
                }
            }
            Wait::Nothing => return Poll::Pending,
        };
        ready!(self.timer.poll_until(cx, deadline));
        match wait {
            Wait::Answer if self.ended.is_none() => {
                self.since = Instant::now();
                return self.poll_wait(cx);
            }
            Wait::RestOfHead => {
                let held = std::mem::take(&mut self.held);
                self.refuse(Refused::HEAD_TIMEOUT, &held);
            }
            Wait::Body => self.refuse_body(Refused::BODY_TIMEOUT),
            Wait::Request | Wait::Answer | Wait::Nothing => {}
        }
        Poll::Ready(())
    }

    /// The client sends nothing more.
    fn end(&mut self) {
        self.ended = Some(Instant::now());
        if self.reader.in_body() {
            self.refuse_body(Refusal::Cut.into());
        } else if self.course == Course::Framed {
            self.held.clear();
        }
    }
}

impl AsyncRead for Guard {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        this.traffic.dry(false);
        loop {
            if !this.passed.is_empty() {
                let most = this.passed.len().min(buf.remaining());
                buf.put_slice(&this.passed.split_to(most));
                return Poll::Ready(Ok(()));
            }
            match (this.course, this.traffic.switch()) {
                (Course::Opaque, _) => return Pin::new(&mut this.io).poll_read(cx, buf),
                // Whoever waits behind a refusal waits for our answer, which ends the connection.
                (Course::Over, _) => {
                    return this.fault.take().map_or(Poll::Pending, |fault| Poll::Ready(Err(fault.into())));
                }
                (Course::Deciding, Switch::Accepted) => {
                    this.course = Course::Opaque;
                    this.passed = std::mem::take(&mut this.held);
                    continue;
                }
                (Course::Deciding, Switch::Declined) => {
                    this.course = Course::Framed;
                    this.sift_held();
                    continue;
                }
                (Course::Deciding, Switch::Undecided) | (Course::Framed | Course::Asking, _) => {}
            }
            let polled = match this.course {
                _ if this.ended.is_some() => Poll::Pending,
                Course::Deciding if this.held.len() >= EARLY => Poll::Pending,
                Course::Framed | Course::Asking if this.held.is_empty() => this.poll_direct(cx, buf),
                _ => this.poll_behind(cx),
            };
            match polled {
                Poll::Ready(Ok(true)) if buf.filled().len() > before => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => this.end(),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.traffic.dry(true);
                    ready!(this.poll_wait(cx));
                    if this.course != Course::Over {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}
