//! A request's body, kept while it passes, for one retry after a 401.
//!
//! In: the caller's body. Out: the same frames at the same time; and, once all of it has passed within the limit, the same
//! body again. It holds nothing back and never keeps more than it may.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};

use crate::body::{Body, Error};
use crate::recent::lock;

#[derive(Debug)]
enum Kept {
    Passing(Vec<Bytes>, usize),
    Whole(Bytes),
    TooMuch,
}

/// What has passed.
#[derive(Clone, Debug)]
pub(super) struct Record(Arc<Mutex<Kept>>);

impl Record {
    /// The whole body again, if all of it passed and fitted.
    pub(super) fn again(&self) -> Option<Body> {
        match &*lock(&self.0) {
            Kept::Whole(bytes) => Some(Body::full(bytes.clone())),
            Kept::Passing(..) | Kept::TooMuch => None,
        }
    }
}

/// A body that keeps what passes.
pub(super) struct Keeping {
    body: Body,
    record: Record,
    most: usize,
}

/// Keeps up to `most` bytes of `body`.
pub(super) fn keep(body: Body, most: usize) -> (Body, Record) {
    if http_body::Body::is_end_stream(&body) {
        return (body, Record(Arc::new(Mutex::new(Kept::Whole(Bytes::new())))));
    }
    let too_long = http_body::Body::size_hint(&body).lower() > most as u64;
    let start = if too_long { Kept::TooMuch } else { Kept::Passing(Vec::new(), 0) };
    let record = Record(Arc::new(Mutex::new(start)));
    if too_long {
        return (body, record);
    }
    (Body::wrap(Keeping { body, record: record.clone(), most }), record)
}

impl Keeping {
    fn note(&self, frame: Option<&Frame<Bytes>>) {
        let mut kept = lock(&self.record.0);
        let Kept::Passing(pieces, length) = &mut *kept else { return };
        match frame.map(Frame::data_ref) {
            Some(Some(data)) => {
                *length += data.len();
                if *length > self.most {
                    *kept = Kept::TooMuch;
                    return;
                }
                pieces.push(data.clone());
            }
            // Trailers would be lost on a second way; nobody sends them to Upwork, and who does goes once.
            Some(None) => {
                *kept = Kept::TooMuch;
                return;
            }
            None => {}
        }
        if frame.is_none() || http_body::Body::is_end_stream(&self.body) {
            let mut whole = BytesMut::new();
            for piece in pieces.iter() {
                whole.extend_from_slice(piece);
            }
            *kept = Kept::Whole(whole.freeze());
        }
    }
}

impl http_body::Body for Keeping {
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
    async fn a_body_that_passed_whole_can_go_again() {
        let (body, record) = keep(Body::full("abc"), 3);
        assert!(record.again().is_none());
        assert_eq!(body.collect(10).await.unwrap(), "abc");
        assert_eq!(record.again().unwrap().collect(10).await.unwrap(), "abc");
        let (body, record) = keep(Body::full("abcd"), 3);
        assert_eq!(body.collect(10).await.unwrap(), "abcd");
        assert!(record.again().is_none());
        assert!(keep(Body::empty(), 0).1.again().is_some());
    }
}
