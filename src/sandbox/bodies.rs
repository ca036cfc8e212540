//! Answers spoiled by faults, and long bodies generated while they are read.

use std::future::{Future, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;

use super::answers;
use super::faults::Fault;
use super::state::{Inner, ReleaseSignal};
use crate::body::{Body, Error};

/// The most of an answer that is read in order to spoil it; longer ones are streams, which are replaced by zeros.
const MAX_SPOILED: usize = 1024 * 1024;
const PIECE: usize = 16 * 1024;

const BOT_CHECK: &str = "<!DOCTYPE html><html lang=\"en-US\"><head><title>Just a moment...</title>\
<meta name=\"robots\" content=\"noindex,nofollow\"></head><body><h1>www.upwork.com</h1>\
<p>Checking if the site connection is secure</p><noscript>Enable JavaScript and cookies to continue</noscript>\
</body></html>\n";

/// Injects a fault: some stop the work before it begins, some spoil its answer.
pub(super) async fn inject(
    inner: &Inner,
    fault: Option<Fault>,
    release: ReleaseSignal,
    work: impl Future<Output = Response<Body>> + Send,
) -> Response<Body> {
    match fault {
        // The endpoints handle the last four themselves.
        None | Some(Fault::InvalidGrant | Fault::DeadRefreshToken | Fault::NoRefreshToken | Fault::Decline) => {
            work.await
        }
        Some(Fault::Slow { millis }) => {
            let answer = work.await;
            inner.hold(release, millis).await;
            answer
        }
        Some(Fault::InternalError) => error_page(StatusCode::INTERNAL_SERVER_ERROR),
        Some(Fault::BadGateway) => error_page(StatusCode::BAD_GATEWAY),
        Some(Fault::Unavailable) => error_page(StatusCode::SERVICE_UNAVAILABLE),
        Some(Fault::Html) => answers::html(StatusCode::FORBIDDEN, BOT_CHECK),
        Some(Fault::Garbage) => garbage(work.await).await,
        Some(Fault::Cut) => cut(work.await).await,
        Some(Fault::TooMany { retry_after }) => answers::too_many_requests(retry_after),
    }
}

fn error_page(status: StatusCode) -> Response<Body> {
    answers::html(status, format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n"))
}

async fn garbage(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = collect(body).await;
    parts.status = StatusCode::OK;
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::full(whole.slice(..whole.len() / 2)))
}

async fn cut(answer: Response<Body>) -> Response<Body> {
    let (mut parts, body) = answer.into_parts();
    let whole = collect(body).await;
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(whole.len().max(2)));
    let half = Some(whole.slice(..whole.len() / 2)).filter(|half| !half.is_empty());
    let error = stream::once(async {
        // The server takes a few turns first, so that the half is flushed.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        Err("the sandbox cut this answer, as ordered".into())
    });
    Response::from_parts(parts, streamed(stream::iter(half.map(Ok)).chain(error)))
}

async fn collect(body: Body) -> Bytes {
    body.collect(MAX_SPOILED).await.unwrap_or_else(|_| Bytes::from(vec![0; PIECE]))
}

fn streamed(pieces: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Body {
    Body::wrap(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}

/// `length` bytes of a pattern, made piece by piece as they are read.
pub(super) fn pattern(length: u64) -> Body {
    let piece: Bytes = (b'a'..=b'z').cycle().take(PIECE).collect();
    streamed(stream::unfold(length, move |left| {
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE);
        ready((take > 0).then(|| (Ok(piece.slice(..take)), left - take as u64)))
    }))
}

/// Two server-sent events: one at once, the other when `wait` ends.
pub(super) fn two_events(wait: impl Future<Output = ()> + Send + 'static) -> Body {
    let second = async {
        wait.await;
        Ok(Bytes::from_static(b"data: second\n\n"))
    };
    streamed(stream::iter([Ok(Bytes::from_static(b"data: first\n\n"))]).chain(stream::once(second)))
}
