//! A request as it is sent to an upstream.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT, HeaderMap, UPGRADE};
use http::{Method, Request};
use http_body::Body as _;

use super::head;
use super::output::{Output, Source};
use crate::body::Body;
use crate::framing::{self, BodyLength};

#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(super) output: Output,
    pub(super) body: Source,
    pub(super) method: framing::Method,
    pub(super) upgrade: bool,
    /// The body waits for a 100 (Continue).
    pub(super) expects: bool,
    /// All of the request, if a second copy of it can do no harm.
    repeat: Option<Bytes>,
}

impl Outgoing {
    /// `request` has its target in origin form, and `Host` among its fields.
    pub(crate) fn new(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let (method, headers) = (&parts.method, &parts.headers);
        let length = request_length(headers, &body);
        let mut head = BytesMut::with_capacity(1 << 10);
        head::write_request(&mut head, method, &parts.uri, headers);
        match length {
            BodyLength::Chunked => head::write_field(&mut head, "transfer-encoding", b"chunked"),
            _ if headers.contains_key(CONTENT_LENGTH) => {}
            BodyLength::Exact(bytes) => {
                head::write_field(&mut head, "content-length", bytes.to_string().as_bytes());
            }
            // RFC 9110 section 8.6.
            BodyLength::None if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                head::write_field(&mut head, "content-length", b"0");
            }
            BodyLength::None | BodyLength::UntilClose | BodyLength::Opaque => {}
        }
        head.extend_from_slice(b"\r\n");
        let head = head.freeze();
        let empty = length == BodyLength::None;
        let idempotent = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        let expects = headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        Self {
            repeat: (idempotent && empty).then(|| head.clone()),
            output: Output::of(head, !empty),
            body: Source::new(body, length, true),
            method: if *method == Method::HEAD { framing::Method::Head } else { framing::Method::Other },
            upgrade: headers.contains_key(UPGRADE),
            expects: expects && !empty,
        }
    }

    /// The request for another connection, if that can do no harm: none of it was written, or it may be repeated.
    pub(super) fn again(mut self) -> Option<Self> {
        match &self.repeat {
            Some(head) => self.output = Output::of(head.clone(), false),
            None if self.output.begun => return None,
            None => {}
        }
        Some(self)
    }

    /// Such a request gets a connection of its own.
    pub(crate) fn asks_upgrade(&self) -> bool {
        self.upgrade
    }
}

/// RFC 9112 section 6.3.
fn request_length(headers: &HeaderMap, body: &Body) -> BodyLength {
    match head::announced(headers) {
        Some(bytes @ 1..) => BodyLength::Exact(bytes),
        Some(0) | None if body.is_end_stream() => BodyLength::None,
        Some(0) | None => body.size_hint().exact().map_or(BodyLength::Chunked, BodyLength::Exact),
    }
}
