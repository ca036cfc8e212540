//! The state of one request and its response that the connection and the request's handler share.
//!
//! The connection delivers the body piece by piece, each only when the handler asks for it. The handler may send
//! interim responses, take over the socket after a 101, and ask why a body ended.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;

use super::head;
use super::socket::Socket;
use crate::body;
use crate::fields::Fields;
use crate::framing::Rejection;
use crate::recent::lock;

/// Of every HTTP/1 request.
#[derive(Clone, Debug)]
pub struct Exchange(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The piece of the body that the handler takes next.
    ready: Option<Frame<Bytes>>,
    /// The number of bytes of the body that were not taken yet, if known.
    left: Option<u64>,
    demand: Demand,
    /// The body's last piece was delivered.
    ended: bool,
    refused: Option<Rejection>,
    /// The connection is gone.
    gone: bool,
    reader: Option<Waker>,
    connection: Option<Waker>,
    /// Interim responses to write.
    interim: BytesMut,
    takes_interim: bool,
    upgrade: Option<oneshot::Sender<Socket>>,
}

/// How much of the body the handler wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Demand {
    /// Nothing for now.
    #[default]
    Later,
    /// The next piece.
    More,
    /// Nothing more.
    Dropped,
}

impl Exchange {
    /// For a request without a body.
    pub(super) fn new(takes_interim: bool) -> Self {
        Self(Arc::new(Mutex::new(State { takes_interim, ended: true, ..State::default() })))
    }

    /// The request's body, of `left` bytes if that is known.
    pub(super) fn body(&self, left: Option<u64>) -> RequestBody {
        let mut state = lock(&self.0);
        (state.left, state.ended) = (left, false);
        drop(state);
        RequestBody(self.0.clone())
    }

    /// Why the body was refused before its end; `None` if it was not, or not yet.
    pub fn refused(&self) -> Option<Rejection> {
        lock(&self.0).refused
    }

    /// Sends an interim response (RFC 9110 section 15.2), unless the client speaks HTTP/1.0 or the response has begun.
    pub(crate) fn inform(&self, status: StatusCode, headers: &Fields) {
        let mut state = lock(&self.0);
        if state.takes_interim {
            head::write_response(&mut state.interim, false, status, headers);
            state.interim.extend_from_slice(b"\r\n");
            wake(&mut state.connection);
        }
    }

    /// The socket, once a 101 is written. An error if a different response is.
    pub fn upgrade(&self) -> oneshot::Receiver<Socket> {
        let (sender, receiver) = oneshot::channel();
        lock(&self.0).upgrade = Some(sender);
        receiver
    }

    pub(super) fn take_upgrade(&self) -> Option<oneshot::Sender<Socket>> {
        lock(&self.0).upgrade.take()
    }

    /// Interim responses that were not written yet. Their sender wakes `waker`.
    pub(super) fn take_interim(&self, waker: &Waker) -> Option<BytesMut> {
        let mut state = lock(&self.0);
        remember(&mut state.connection, waker);
        if state.interim.is_empty() { None } else { Some(std::mem::take(&mut state.interim)) }
    }

    /// Call when the response begins: returns the last interim responses.
    pub(super) fn end_interim(&self) -> BytesMut {
        let mut state = lock(&self.0);
        state.takes_interim = false;
        std::mem::take(&mut state.interim)
    }

    /// What the handler wants now. A change wakes `waker`.
    pub(super) fn demand(&self, waker: &Waker) -> Demand {
        let mut state = lock(&self.0);
        remember(&mut state.connection, waker);
        state.demand
    }

    pub(super) fn is_dropped(&self) -> bool {
        lock(&self.0).demand == Demand::Dropped
    }

    /// Delivers a requested piece. `waker` is the connection's own and is not woken.
    pub(super) fn deliver(&self, piece: Option<Frame<Bytes>>, end: bool, waker: &Waker) {
        let mut state = lock(&self.0);
        state.ended = end;
        if let Some(piece) = piece {
            state.ready = Some(piece);
            if state.demand == Demand::More {
                state.demand = Demand::Later;
            }
        }
        wake_other(&mut state.reader, waker);
    }

    pub(super) fn refuse(&self, refused: Rejection, waker: &Waker) {
        let mut state = lock(&self.0);
        state.refused = Some(refused);
        wake_other(&mut state.reader, waker);
    }

    /// Nothing more comes from this connection.
    pub(super) fn close(&self) {
        let mut state = lock(&self.0);
        state.gone = !state.ended;
        state.takes_interim = false;
        state.upgrade = None;
        wake(&mut state.reader);
    }
}

fn remember(kept: &mut Option<Waker>, waker: &Waker) {
    if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
        *kept = Some(waker.clone());
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

/// Wakes a waker other than the connection's own, which checks its own changes anyway.
fn wake_other(waker: &mut Option<Waker>, own: &Waker) {
    if let Some(waker) = waker.take().filter(|waker| !waker.will_wake(own)) {
        waker.wake();
    }
}

/// The body of a request, as its handler reads it.
#[derive(Debug)]
pub(super) struct RequestBody(Arc<Mutex<State>>);

impl Drop for RequestBody {
    fn drop(&mut self) {
        let mut state = lock(&self.0);
        state.demand = Demand::Dropped;
        state.ready = None;
        wake(&mut state.connection);
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        let mut state = lock(&self.0);
        if let Some(piece) = state.ready.take() {
            let count = piece.data_ref().map_or(0, Bytes::len) as u64;
            state.left = state.left.map(|left| left.saturating_sub(count));
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Some(refused) = state.refused {
            return Poll::Ready(Some(Err(refused.into())));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        if state.gone {
            return Poll::Ready(Some(Err("the client's connection is closed".into())));
        }
        state.demand = Demand::More;
        remember(&mut state.reader, cx.waker());
        wake_other(&mut state.connection, cx.waker());
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        let state = lock(&self.0);
        state.ended && state.ready.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
