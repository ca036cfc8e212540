//! The result of an action: a response, its effect on cookies, and what the access log says of it.

use std::time::Duration;

use http::header::HeaderValue;

use super::sessions::SessionChange;
use crate::listener::Rejection;
use crate::response::Response;
use crate::session::Session;

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    /// The effect on the session's cookie.
    pub(super) change: SessionChange,
    /// `Set-Cookie` values of the sign-in's own cookies.
    pub(super) cookies: Vec<HeaderValue>,
    /// The session's user.
    pub(super) user: Option<String>,
    /// The name of the fault that was the answer.
    pub(super) fault: Option<&'static str>,
    /// The rule that the message broke.
    pub(super) refused: Option<Rejection>,
    /// How long the app or Upwork took, if one was asked.
    pub(super) upstream: Option<Duration>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self {
            response,
            change: SessionChange::Keep,
            cookies: Vec::new(),
            user: None,
            fault: None,
            refused: None,
            upstream: None,
        }
    }
}

impl Answer {
    pub(super) fn change(self, change: SessionChange) -> Self {
        Self { change, ..self }
    }

    pub(super) fn cookies(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.cookies.extend(cookies);
        self
    }

    pub(super) fn upstream(self, took: Duration) -> Self {
        Self { upstream: Some(took), ..self }
    }

    pub(super) fn user(self, session: &Session) -> Self {
        Self { user: Some(session.user.id.clone()), ..self }
    }
}
