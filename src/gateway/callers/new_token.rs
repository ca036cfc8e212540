//! Carries a new personal access token across the redirect after its form, in a sealed cookie that lives one minute and
//! that the next page removes. A token's text is never stored.

use std::time::Duration;

use http::HeaderValue;

use crate::cookies::{Jar, RequestCookies};
use crate::gateway::fault::{Fault, OurFault};
use crate::seal::{Purpose, SharedKeyring};
use crate::session::personal::PersonalToken;

const LIFETIME: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(in crate::gateway) struct NewTokenCookie {
    jar: Jar,
    ring: SharedKeyring,
}

impl NewTokenCookie {
    /// `session_cookie`: the name that the cookie's own name extends.
    pub(super) fn new(session_cookie: &str, secure: bool, ring: SharedKeyring) -> Self {
        Self { jar: Jar::new(format!("{session_cookie}-token"), secure), ring }
    }

    pub(in crate::gateway) fn owns(&self, name: &str) -> bool {
        self.jar.owns(name)
    }

    pub(in crate::gateway) fn set(
        &self,
        token: &PersonalToken,
        seen: &RequestCookies,
    ) -> Result<Vec<HeaderValue>, Fault> {
        let sealed = self.ring.load().seal(Purpose::NewToken, token.secret().expose().as_bytes())?;
        self.jar.set(&sealed, LIFETIME, seen).map_err(|error| OurFault::Internal(error.to_string()).into())
    }

    /// The token in the request's cookie, and the `Set-Cookie` values that remove it.
    pub(in crate::gateway) fn take(&self, cookies: &RequestCookies) -> (Option<PersonalToken>, Vec<HeaderValue>) {
        let ring = self.ring.load();
        let token = self.jar.candidates(cookies).into_iter().find_map(|value| {
            let opened = ring.open(Purpose::NewToken, &value)?;
            PersonalToken::parse(std::str::from_utf8(&opened.bytes).ok()?)
        });
        (token, self.jar.clear_shown(cookies))
    }
}
