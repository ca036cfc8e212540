//! Bodies that misbehave, and long ones that are made while they are read.
//!
//! In: an answer, or a length. Out: an answer whose body is cut, truncated, or streamed without being kept.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};

use super::Release;
use super::answers;
use super::faults::Fault;
use super::state::Inner;
use crate::body::{Body, Error};

/// The most of an answer that is read in order to spoil it; longer ones are streams, which are replaced by zeros.
const SPOILED: usize = 1024 * 1024;
/// The size of a streamed piece.
const PIECE: usize = 16 * 1024;

const WALL: &str = "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title>\
<meta name=\"robots\" content=\"noindex,nofollow\"></head><body><h1>www.upwork.com</h1>\
<p>Checking if the site connection is secure</p><noscript>Enable JavaScript and cookies to continue</noscript>\
</body></html>\n";

/// Lets `fault` strike: some faults stop the work before it begins, some spoil its answer.
pub(super) async fn strike(
    inner: &Inner,
    fault: Option<Fault>,
    release: Release,
    work: impl Future<Output = Response<Body>> + Send,
) -> Response<Body> {
    match fault {
        // The last four are the endpoint's own affair, which does or leaves the work accordingly.
        None | Some(Fault::InvalidGrant | Fault::DeadRefreshToken | Fault::NoRefreshToken | Fault::Decline) => {
            work.await
        }
        Some(Fault::Slow { millis }) => {
            let answer = work.await;
            inner.hold(release, millis).await;
            answer
        }
        Some(Fault::InternalError) => broken(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Fault::BadGateway) => broken(StatusCode::BAD_GATEWAY),
        Some(Fault::Unavailable) => broken(StatusCode::SERVICE_UNAVAILABLE),
        Some(Fault::Html) => answers::html(StatusCode::FORBIDDEN, WALL),
        Some(Fault::Garbage) => garbage(work.await).await,
        Some(Fault::Cut) => cut(work.await).await,
        Some(Fault::TooMany { retry_after }) => answers::too_many_requests(retry_after),
    }
}

fn broken(status: StatusCode) -> Response<Body> {
    answers::html(status, format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"))
}

async fn garbage(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = all(body).await;
    parts.status = StatusCode::OK;
    parts.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::full(whole.slice(..whole.len() / 2)))
}

async fn cut(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = all(body).await;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len().max(2)));
    Response::from_parts(parts, Body::wrap(Cut { half: Some(whole.slice(..whole.len() / 2)), turns: 3 }))
}

async fn all(body: Body) -> Bytes {
    body.collect(SPOILED).await.unwrap_or_else(|_| Bytes::from(vec![0; PIECE]))
}

/// Gives half a body, then fails. Before it fails it lets the server take a few turns, so that the half is flushed.
struct Cut {
    half: Option<Bytes>,
    turns: u8,
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(half) = self.half.take().filter(|half| !half.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(half))));
        }
        if self.turns > 0 {
            self.turns -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Some(Err("the sandbox cut this answer, as it was told to".into())))
    }
}

/// `length` bytes of a pattern, made piece by piece as they are read.
pub(super) fn pattern(length: u64) -> Body {
    let piece: Vec<u8> = (b'a'..=b'z').cycle().take(PIECE).collect();
    Body::wrap(Pattern { piece: piece.into(), left: length })
}

struct Pattern {
    piece: Bytes,
    left: u64,
}

impl HttpBody for Pattern {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let take = usize::try_from(self.left).unwrap_or(usize::MAX).min(PIECE);
        self.left -= take as u64;
        Poll::Ready(Some(Ok(Frame::data(self.piece.slice(..take)))))
    }
}

/// Two server-sent events: one at once, the other when `wait` ends.
pub(super) fn two_events(wait: impl Future<Output = ()> + Send + 'static) -> Body {
    Body::wrap(TwoEvents { first: true, wait: Some(Box::pin(wait)) })
}

struct TwoEvents {
    first: bool,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl HttpBody for TwoEvents {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if std::mem::take(&mut self.first) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: first\n\n")))));
        }
        let Some(wait) = self.wait.as_mut() else { return Poll::Ready(None) };
        std::task::ready!(wait.as_mut().poll(cx));
        self.wait = None;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"data: second\n\n")))))
    }
}
