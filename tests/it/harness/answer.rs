//! Answers, whole or piece by piece.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;

use super::within;

/// A whole answer, as far as it arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether the body broke off.
    pub(crate) broken: bool,
}

impl Answer {
    /// The value of a field's first line; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// `Location`.
    pub(crate) fn location(&self) -> String {
        assert!(self.headers.contains_key("location"), "no Location: {self:?}");
        self.header("location").to_owned()
    }

    /// Every `Set-Cookie` line.
    pub(crate) fn set_cookies(&self) -> Vec<String> {
        self.headers.get_all("set-cookie").iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The text of an HTML page with its escaped ASCII characters restored.
    pub(crate) fn html(&self) -> String {
        let escapes =
            [("&#x2f;", "/"), ("&#x27;", "'"), ("&quot;", "\""), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")];
        escapes.iter().fold(self.text(), |text, (escape, letter)| text.replace(escape, letter))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            let (status, text) = (self.status, self.text());
            panic!("not JSON ({error}): {status} {text}")
        })
    }

    /// The last part of a problem's `type`. The answer must be a complete problem document (RFC 9457) that fits its status.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status.as_u16(), "{problem}");
        assert_eq!(problem["request_id"], self.header("x-request-id"), "{problem}");
        for part in ["title", "detail"] {
            assert!(problem[part].as_str().is_some_and(|text| text.len() > 5), "{part}: {problem}");
        }
        problem["type"].as_str().unwrap().strip_prefix("urn:upwarden:").unwrap().to_owned()
    }

    /// The heading of a page of ours, which must show the request id.
    pub(crate) fn page(&self) -> String {
        assert!(self.header("content-type").starts_with("text/html"), "{self:?}");
        let text = self.text();
        let id = self.header("x-request-id");
        assert!(id.len() == 32 && text.contains(id), "the request id is on the page: {text}");
        between(&text, "<h1>", "</h1>").expect("a page has a heading").replace('’', "'")
    }
}

/// The text between two marks.
pub(crate) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(inner, _)| inner)
}

/// An answer whose body is read piece by piece.
#[derive(Debug)]
pub(crate) struct Streaming {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(super) body: Incoming,
}

impl Streaming {
    /// The next piece; `None` at the end, an error if the body broke off.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match within(self.body.frame()).await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    Err(_) => {}
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next piece as text; there must be one.
    pub(crate) async fn text(&mut self) -> String {
        let piece = self.piece().await.expect("the body continues").expect("the body is whole");
        String::from_utf8_lossy(&piece).into_owned()
    }

    /// The rest of the body.
    pub(crate) async fn whole(mut self) -> Answer {
        let (mut body, mut trailers, mut broken) = (Vec::new(), None, false);
        while let Some(frame) = within(self.body.frame()).await {
            let Ok(frame) = frame else {
                broken = true;
                break;
            };
            match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        Answer { status: self.status, headers: self.headers, body: body.into(), trailers, broken }
    }
}
