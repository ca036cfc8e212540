//! The one body type that rooms hand each other.
//!
//! In: a stream of frames, from a socket or from memory. Out: the same frames, unbuffered. It never collects a body unless
//! it is told how much at the most.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

/// What can end a body early. Its text names no secret.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A request's or a response's body.
#[derive(Debug)]
pub struct Body(Kind);

#[derive(Debug)]
enum Kind {
    Full(Option<Bytes>),
    Incoming(Incoming),
    Boxed(UnsyncBoxBody<Bytes, Error>),
}

impl Body {
    /// No bytes at all.
    pub const fn empty() -> Self {
        Self(Kind::Full(None))
    }

    /// These bytes.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self(Kind::Full((!bytes.is_empty()).then_some(bytes)))
    }

    /// Another body, wrapped.
    pub fn wrap<B>(body: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = Error> + Send + 'static,
    {
        Self(Kind::Boxed(body.boxed_unsync()))
    }

    /// All the bytes, if they are no more than `most`.
    pub async fn collect(self, most: usize) -> Result<Bytes, CollectError> {
        match Limited::new(self, most).collect().await {
            Ok(all) => Ok(all.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(CollectError::TooLong),
            Err(error) => Err(CollectError::Cut(error)),
        }
    }
}

/// Why a body could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// More bytes than were allowed.
    #[error("the body is longer than allowed")]
    TooLong,
    /// The sender stopped in the middle.
    #[error("the body was cut")]
    Cut(#[source] Error),
}

impl From<Incoming> for Body {
    fn from(body: Incoming) -> Self {
        Self(Kind::Incoming(body))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match &mut self.0 {
            Kind::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Incoming(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Kind::Boxed(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full(bytes) => bytes.is_none(),
            Kind::Incoming(body) => body.is_end_stream(),
            Kind::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Kind::Incoming(body) => body.size_hint(),
            Kind::Boxed(body) => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collects_what_is_no_longer_than_allowed() {
        assert_eq!(Body::full("abc").collect(3).await.unwrap(), "abc");
        assert!(matches!(Body::full("abcd").collect(3).await, Err(CollectError::TooLong)));
        assert_eq!(Body::empty().collect(0).await.unwrap(), "");
    }
}
