//! The body type that modules pass to each other.
//!
//! An unbuffered stream of frames from a socket or from memory. Collecting it always requires a limit.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::body::Incoming;

/// An error that ends a body early. Its text contains no secret.
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
    /// No bytes.
    pub const fn empty() -> Self {
        Self(Kind::Full(None))
    }

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

    /// The same body, which keeps `held` until it is dropped.
    pub(crate) fn holding<T: Send + Unpin + 'static>(self, held: T) -> Self {
        Self::wrap(Holding { body: self, _held: held })
    }

    /// The same body, without the trailers that `strip` selects.
    pub(crate) fn strip_trailers(self, strip: impl Fn(&HeaderName) -> bool + Send + Unpin + 'static) -> Self {
        Self::wrap(Stripped { body: self, strip })
    }

    /// Whether it arrives piece by piece from elsewhere.
    pub(crate) fn is_streamed(&self) -> bool {
        match self.0 {
            Kind::Full(_) => false,
            Kind::Incoming(_) | Kind::Boxed(_) => true,
        }
    }

    /// All the bytes, if there are at most `limit`.
    pub async fn collect(self, limit: usize) -> Result<Bytes, CollectError> {
        match Limited::new(self, limit).collect().await {
            Ok(all) => Ok(all.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(CollectError::TooLong),
            Err(error) => Err(CollectError::Cut(error)),
        }
    }
}

struct Holding<T> {
    body: Body,
    _held: T,
}

impl<T: Unpin> http_body::Body for Holding<T> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Stripped<F> {
    body: Body,
    strip: F,
}

impl<F: Fn(&HeaderName) -> bool + Unpin> http_body::Body for Stripped<F> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(trailers) = frame.as_mut().and_then(|frame| frame.as_mut().ok()?.trailers_mut()) {
            let kept = std::mem::take(trailers).into_iter();
            let mut stripped = false;
            // Only the first line of a field has its name.
            let kept = kept.filter(|(name, _)| {
                stripped = name.as_ref().map_or(stripped, &self.strip);
                !stripped
            });
            trailers.extend(kept);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response with a whole body of this type.
pub(crate) fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.with(CONTENT_TYPE, content_type)
}

/// Adds a field to a response.
pub(crate) trait WithField {
    fn with(self, name: HeaderName, value: &'static str) -> Self;
}

impl WithField for Response<Body> {
    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers_mut().insert(name, HeaderValue::from_static(value));
        self
    }
}

/// Why a body could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("the body is longer than allowed")]
    TooLong,
    /// The sender stopped in the middle.
    #[error("the body broke off")]
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
    async fn a_body_is_collected_up_to_its_limit() {
        assert_eq!(Body::full("abc").collect(3).await.unwrap(), "abc");
        assert!(matches!(Body::full("abcd").collect(3).await, Err(CollectError::TooLong)));
        assert_eq!(Body::empty().collect(0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn stripped_trailers_lose_every_line_of_a_name() {
        let [a, b, c] = ["a", "b", "c"].map(HeaderName::from_static);
        let mut trailers = http::HeaderMap::new();
        for (name, value) in [(&a, 1), (&b, 2), (&b, 3), (&c, 4)] {
            trailers.append(name, HeaderValue::from(value));
        }
        let frames = [Ok(Frame::data(Bytes::from_static(b"x"))), Ok(Frame::trailers(trailers))];
        let body = Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let all = BodyExt::collect(body.strip_trailers(|name| name == "b")).await.unwrap();
        let left: Vec<_> = all.trailers().unwrap().keys().cloned().collect();
        assert_eq!((left, all.to_bytes()), (vec![a, c], Bytes::from_static(b"x")));
    }
}
