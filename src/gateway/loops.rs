//! Sign-ins that go round in circles: counted, stopped, and their cause measured.
//!
//! In: a navigation, with a session or without; a callback that cannot be used. Out: the cause, once three in a row did not
//! hold.
//! Failed callbacks are counted inside the sealed state, which comes back even when cookies do not. Sign-ins that went well
//! and left no session behind (a cookie too big, a key that only one replica has) are counted in a cookie of their own,
//! which lives a minute and is no secret: whoever changes it stops nobody but himself. It is set from the second on, as
//! far as this process remembers the first. A navigation that shows its session again, and is let in, ends the row: that
//! sign-in held, however soon its session ends afterwards.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;
use std::time::Duration;

use http::header::{CACHE_CONTROL, HeaderValue, SET_COOKIE};

use super::sign_in::same_authority;
use super::{Answer, Ask, Shared};
use crate::clock::Timestamp;
use crate::cookies::{Jar, RequestCookies};
use crate::oauth::callback::StateError;
use crate::oauth::login::{MAX_FAILURES, State};
use crate::pages::texts::Loop;
use crate::policy::Decision;
use crate::router::ReturnTo;
use crate::seal::Purpose;
use crate::session::Session;
use crate::store::{SessionChange, StoredSession};

use super::fault::Fault;
use crate::recent::lock;
use crate::telemetry::metrics::SignIn;

/// Sign-ins further apart are not in a row.
const IN_A_ROW: Duration = Duration::from_secs(60);
/// Bytes of cookies that some browser or proxy does not take.
const BIG: usize = 4096;
/// Bytes of `Cookie` that some proxy does not take.
const BIG_FIELD: usize = 16 << 10;
/// Clocks that differ by less end no session as it begins.
const CLOSE: u64 = 60;

/// Sign-ins remembered at the most.
const MOST_REMEMBERED: usize = 10_000;

/// Who signed in lately and has not shown the session yet: address and `User-Agent`, as a hash. A neighbour with the same
/// browser is taken for the same, which does no more than give him the counting cookie.
#[derive(Debug, Default)]
pub(super) struct Entered {
    hasher: RandomState,
    known: Mutex<HashMap<u64, Entry>>,
}

/// A sign-in, and which session it made.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Timestamp,
    session: u64,
}

impl Entered {
    fn client(&self, ask: &Ask) -> u64 {
        self.hasher.hash_one((ask.origin.client, ask.head.headers.get(http::header::USER_AGENT)))
    }

    fn session(&self, session: &Session) -> u64 {
        self.hasher.hash_one(&session.id)
    }

    /// Notes a sign-in; whether there was another one just before, whose session was not shown since.
    fn again(&self, client: u64, entry: Entry) -> bool {
        let now = entry.at;
        let mut known = lock(&self.known);
        if known.len() >= MOST_REMEMBERED {
            known.retain(|_, before| now.since(before.at) <= IN_A_ROW);
            if known.len() >= MOST_REMEMBERED {
                known.clear();
            }
        }
        known.insert(client, entry).is_some_and(|before| now.since(before.at) <= IN_A_ROW)
    }

    /// Only by its own session: a neighbour's that holds says nothing of one that does not.
    fn forget(&self, client: u64, session: u64) {
        let mut known = lock(&self.known);
        if known.get(&client).is_some_and(|entry| entry.session == session) {
            known.remove(&client);
        }
    }
}

/// What is forgotten of a sign-in that held.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// Client and session, where the sign-in may be remembered.
    entry: Option<(u64, u64)>,
    /// Clear the counting cookie.
    lines: Vec<HeaderValue>,
}

/// The cookie that counts: `NAME-tries`.
pub(super) fn jar(session_cookie: &str, secure: bool) -> Jar {
    Jar::new(format!("{session_cookie}-tries"), secure)
}

/// Sign-ins in a row that left no session behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tries {
    count: u8,
    /// Bytes of the session's `Set-Cookie` lines at the last.
    bytes: usize,
    at: Timestamp,
}

impl Tries {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (count, bytes, at) = (parts.next()?, parts.next()?, parts.next()?);
        let at = Timestamp::from_seconds(at.parse().ok()?);
        Some(Self { count: count.parse().ok()?, bytes: bytes.parse().ok()?, at })
    }

    fn text(self) -> String {
        format!("{}-{}-{}", self.count, self.bytes, self.at.seconds())
    }
}

impl Shared {
    fn tries(&self, cookies: &RequestCookies) -> Option<Tries> {
        let now = self.clock.now();
        let found = self.tries.candidates(cookies).iter().filter_map(|text| Tries::parse(text)).max_by_key(|t| t.at);
        found.filter(|tries| now.since(tries.at).max(tries.at.since(now)) <= IN_A_ROW)
    }

    /// A sign-in that went well, of a browser that showed no session.
    pub(super) fn count_entry(&self, ask: &Ask, session: &Session, bytes: usize) -> Vec<HeaderValue> {
        let entry = Entry { at: self.clock.now(), session: self.entered.session(session) };
        let again = self.entered.again(self.entered.client(ask), entry);
        match self.tries(&ask.cookies) {
            Some(tries) => self.count(ask, tries.count.saturating_add(1), bytes),
            None if again => self.count(ask, 2, bytes),
            None => Vec::new(),
        }
    }

    fn count(&self, ask: &Ask, count: u8, bytes: usize) -> Vec<HeaderValue> {
        let tries = Tries { count, bytes, at: self.clock.now() };
        // So short a value always fits.
        self.tries.set(&tries.text(), IN_A_ROW, &ask.cookies).unwrap_or_default()
    }

    /// Looks, before the request goes on, whether it shows that the last sign-in held. Only a navigation does, as the one
    /// that a sign-in leads to: what another tab fetches may reach a replica that has the key, while navigations do not.
    pub(super) fn shown_again(&self, ask: &Ask, decision: Decision, held: Option<&StoredSession>) -> Shown {
        let Some(held) = held.filter(|_| decision == Decision::Allow && ask.looking.navigation) else {
            return Shown::default();
        };
        let session = &held.session;
        // A sign-in that lies back further is not remembered as one in a row: no lock for it.
        let young = self.clock.now().since(session.began_at) <= IN_A_ROW;
        let counted = ask.cookies.iter().any(|(name, _)| self.tries.owns(name));
        Shown {
            entry: young.then(|| (self.entered.client(ask), self.entered.session(session))),
            lines: if counted { self.tries.clear(&ask.cookies) } else { Vec::new() },
        }
    }

    /// The sign-in held, unless Upwork ended the session just now: nothing before it counts any more.
    pub(super) fn end_row(&self, shown: Shown, mut answer: Answer) -> Answer {
        if matches!(answer.change, SessionChange::End(_)) {
            return answer;
        }
        if let Some((client, session)) = shown.entry {
            self.entered.forget(client, session);
        }
        let headers = answer.response.headers_mut();
        if !shown.lines.is_empty() {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        for line in shown.lines {
            headers.append(SET_COOKIE, line);
        }
        answer
    }

    /// Why this browser is not sent to sign in once more, where the last three did not hold.
    pub(super) fn going_round(&self, ask: &Ask, held: Option<&StoredSession>) -> Option<Loop> {
        let tries = self.tries(&ask.cookies).filter(|tries| tries.count >= MAX_FAILURES)?;
        Some(self.wrong_place(ask).unwrap_or_else(|| self.lost(ask, held, tries)))
    }

    /// What became of the session that was given.
    fn lost(&self, ask: &Ask, held: Option<&StoredSession>, tries: Tries) -> Loop {
        let now = self.clock.now();
        if let Some(held) = held {
            let user = &held.session.user.id;
            let ahead = self.access.load().not_before.get(user).map_or(0, |moment| moment.since(now).as_secs());
            return clock(ahead);
        }
        let shown = ask.cookies.iter().any(|(name, _)| self.jar.owns(name));
        let values = self.jar.candidates(&ask.cookies);
        if values.is_empty() {
            // Pieces without the others were dropped on the way.
            return if shown || tries.bytes > BIG { Loop::CookieTooBig(tries.bytes) } else { Loop::CookieLost };
        }
        let ring = self.ring.load();
        let opened = values.iter().find_map(|value| ring.open(Purpose::Session, value));
        match opened.map(|opened| Session::from_bytes(&opened.bytes)) {
            None => Loop::KeyChanged,
            Some(Some(session)) => {
                let issued_at = session.tokens.issued_at;
                clock(now.since(issued_at).max(issued_at.since(now)).as_secs())
            }
            Some(None) => Loop::Unknown,
        }
    }

    /// What is measured of a callback that no sign-in of the browser fits (docs/sessions.md "Sign-in loops").
    pub(super) fn loop_cause(&self, ask: &Ask, state: &State, fault: Option<StateError>) -> Loop {
        if let Some(cause) = self.wrong_place(ask) {
            return cause;
        }
        let bytes = ask.cookies.field_length();
        match fault {
            Some(StateError::NoCookie) => Loop::CookieLost,
            Some(StateError::OtherCookie) if bytes > BIG_FIELD => Loop::CookieTooBig(bytes),
            Some(StateError::OtherCookie) if self.logins.has_unknown_key(&self.ring.load(), &ask.cookies) => {
                Loop::KeyChanged
            }
            // Nobody is that slow three times.
            Some(StateError::Expired) => clock(self.clock.now().since(state.began_at()).as_secs()),
            Some(StateError::OtherCookie) | None => Loop::Unknown,
        }
    }

    /// The browser came by a name or a scheme for which our cookies are not.
    fn wrong_place(&self, ask: &Ask) -> Option<Loop> {
        let (scheme, ours) = self.config.public_url.split_once("://")?;
        let asked = ask.origin.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(ours);
        if !same_authority(asked, ours, scheme) {
            return Some(Loop::WrongHost(asked.to_owned()));
        }
        (self.session.secure && !ask.origin.https && ask.origin.trusted).then_some(Loop::PlainHttp)
    }

    /// A callback whose state does not open here. Where the browser has a sign-in under way that does not open either, the
    /// key was changed meanwhile, or replicas have different ones: it begins again by itself (docs/design.md "Keys"), counted. What nobody of us sealed begins nothing.
    pub(super) fn sealed_by_others(&self, ask: &Ask) -> Answer {
        if !self.logins.has_unknown_key(&self.ring.load(), &ask.cookies) {
            return self.bad_state(ask);
        }
        let count = self.tries(&ask.cookies).map_or(1, |tries| tries.count.saturating_add(1));
        let lines = self.count(ask, count, 0);
        let mut answer = if count >= MAX_FAILURES {
            self.metrics.sign_in(SignIn::Looping);
            self.fault(ask, &Fault::Looped(Loop::KeyChanged))
        } else {
            self.begin_sign_in(ask, &ReturnTo::home(), 0)
        };
        for line in lines {
            answer.response.headers_mut().append(SET_COOKIE, line);
        }
        answer
    }
}

fn clock(seconds: u64) -> Loop {
    if seconds < CLOSE { Loop::Unknown } else { Loop::Clock(i64::try_from(seconds).unwrap_or(i64::MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_comes_back_and_nonsense_counts_nothing() {
        let tries = Tries { count: 2, bytes: 700, at: Timestamp::from_seconds(1000) };
        assert_eq!(Tries::parse(&tries.text()), Some(tries));
        for text in ["", "2", "2-700", "x-700-1000", "-1-2-3", "256-1-1"] {
            assert_eq!(Tries::parse(text), None, "{text}");
        }
    }
}
