//! Records a request's body while it is sent, for one retry after a 401.
//!
//! The frames are passed on without delay. Once all of them have passed within the limit, the body can be sent again.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use crate::body::{Body, Error};
use crate::recent::lock;

#[derive(Debug)]
enum Recording {
    Partial(BytesMut),
    Complete(Bytes),
    /// The body is too long, or has trailers.
    Abandoned,
}

#[derive(Clone, Debug)]
pub(super) struct Record(Arc<Mutex<Recording>>);

impl Record {
    /// The whole body, if all of it was recorded.
    pub(super) fn again(&self) -> Option<Body> {
        match &*lock(&self.0) {
            Recording::Complete(bytes) => Some(Body::full(bytes.clone())),
            Recording::Partial(_) | Recording::Abandoned => None,
        }
    }
}

struct RecordedBody {
    body: Body,
    record: Record,
    limit: usize,
}

/// Records up to `limit` bytes of `body`.
pub(super) fn record_body(body: Body, limit: usize) -> (Body, Record) {
    let record = |start| Record(Arc::new(Mutex::new(start)));
    if http_body::Body::is_end_stream(&body) {
        return (body, record(Recording::Complete(Bytes::new())));
    }
    if http_body::Body::size_hint(&body).lower() > limit as u64 {
        return (body, record(Recording::Abandoned));
    }
    let record = record(Recording::Partial(BytesMut::new()));
    (Body::wrap(RecordedBody { body, record: record.clone(), limit }), record)
}

impl RecordedBody {
    fn note(&self, frame: Option<&Frame<Bytes>>) {
        let mut recording = lock(&self.record.0);
        let Recording::Partial(recorded) = &mut *recording else { return };
        match frame.map(Frame::data_ref) {
            Some(Some(data)) if recorded.len() + data.len() <= self.limit => recorded.extend_from_slice(data),
            // It is too long; or it has trailers, which the second request would lose.
            Some(_) => {
                *recording = Recording::Abandoned;
                return;
            }
            None => {}
        }
        if frame.is_none() || http_body::Body::is_end_stream(&self.body) {
            let whole = std::mem::take(recorded).freeze();
            *recording = Recording::Complete(whole);
        }
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.note(Some(frame)),
            Poll::Ready(None) => self.note(None),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        http_body::Body::is_end_stream(&self.body)
    }

    fn size_hint(&self) -> SizeHint {
        http_body::Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_was_sent_whole_can_be_sent_again() {
        let (body, record) = record_body(Body::full("abc"), 3);
        assert!(record.again().is_none());
        assert_eq!(body.collect(10).await.unwrap(), "abc");
        assert_eq!(record.again().unwrap().collect(10).await.unwrap(), "abc");
        let (body, record) = record_body(Body::full("abcd"), 3);
        assert_eq!(body.collect(10).await.unwrap(), "abcd");
        assert!(record.again().is_none());
        assert!(record_body(Body::empty(), 0).1.again().is_some());
    }
}
