//! A request in the form in which it is sent to an upstream.

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, UPGRADE};
use http::uri::PathAndQuery;
use http::{Method, Request};
use http_body::Body as _;

use super::head;
use super::output::{Output, Source};
use crate::body::Body;
use crate::fields::Line;
use crate::framing::{self, BodyLength};

#[derive(Debug)]
pub struct Outgoing {
    pub(super) output: Output,
    pub(super) body: Source,
    pub(super) method: framing::Method,
    pub(super) upgrade: bool,
    /// It authenticates the connection that it is sent on.
    pub(super) authenticates: bool,
    /// The body waits for a 100 (Continue).
    pub(super) expects: bool,
    /// The whole request, if a second copy of it is harmless.
    repeat: Option<Bytes>,
}

impl Outgoing {
    /// A request in origin form, with `Host` among its fields.
    pub fn new<'a>(
        method: &Method,
        target: Option<&PathAndQuery>,
        fields: impl Iterator<Item: Into<Line<'a>>>,
        body: Body,
    ) -> Self {
        let mut head = BytesMut::with_capacity(1 << 10);
        head::write_request_line(&mut head, method, target);
        let (mut announced, mut upgrade, mut expects, mut authenticates) = (None, false, false, false);
        for line in fields {
            let Line { name, spelled, value } = line.into();
            head::write_field(&mut head, spelled, value.as_bytes());
            if *name == CONTENT_LENGTH {
                announced = announced.or(framing::number(value.as_bytes()).ok());
            } else if *name == UPGRADE {
                upgrade = true;
            } else if *name == AUTHORIZATION {
                authenticates |= head::authenticates(value);
            } else if *name == EXPECT {
                expects = true;
            }
        }
        let length = request_length(announced, &body);
        match length {
            BodyLength::Chunked => head::write_field(&mut head, b"transfer-encoding", b"chunked"),
            _ if announced.is_some() => {}
            BodyLength::Exact(bytes) => {
                head::write_field(&mut head, b"content-length", bytes.to_string().as_bytes());
            }
            // RFC 9110 section 8.6.
            BodyLength::None if [Method::POST, Method::PUT, Method::PATCH].contains(method) => {
                head::write_field(&mut head, b"content-length", b"0");
            }
            BodyLength::None | BodyLength::UntilClose | BodyLength::Opaque => {}
        }
        head.extend_from_slice(b"\r\n");
        let head = head.freeze();
        let empty = length == BodyLength::None;
        let idempotent = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
        Self {
            repeat: (idempotent && empty).then(|| head.clone()),
            output: Output::of(head, !empty),
            body: Source::new(body, length, true),
            method: if *method == Method::HEAD { framing::Method::Head } else { framing::Method::Other },
            upgrade,
            authenticates,
            expects: expects && !empty,
        }
    }

    /// The request for another connection, if that is harmless: none of it was written, or it may be repeated.
    pub(super) fn again(mut self) -> Option<Self> {
        match &self.repeat {
            Some(head) => self.output = Output::of(head.clone(), false),
            None if self.output.begun => return None,
            None => {}
        }
        Some(self)
    }

    /// Such a request gets its own connection.
    pub(crate) fn asks_upgrade(&self) -> bool {
        self.upgrade
    }
}

impl From<Request<Body>> for Outgoing {
    fn from(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        Self::new(&parts.method, parts.uri.path_and_query(), parts.headers.iter(), body)
    }
}

/// RFC 9112 section 6.3.
fn request_length(announced: Option<u64>, body: &Body) -> BodyLength {
    match announced {
        Some(bytes @ 1..) => BodyLength::Exact(bytes),
        Some(0) | None if body.is_end_stream() => BodyLength::None,
        Some(0) | None => body.size_hint().exact().map_or(BodyLength::Chunked, BodyLength::Exact),
    }
}
