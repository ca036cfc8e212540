//! Measures why sign-ins do not last (docs/sessions.md "Sign-in loops").

use crate::clock::Timestamp;
use crate::cookies::RequestCookies;
use crate::gateway::sessions::Sessions;
use crate::oauth::callback::StateError;
use crate::oauth::login::State;
use crate::oauth::login_cookies::LoginCookies;
use crate::pages::texts::Loop;
use crate::seal::{Keyring, Purpose};
use crate::session::Session;

/// Some browsers or proxies do not accept cookies of this many bytes.
const LARGE: usize = 4096;
/// Some proxies do not accept a `Cookie` field of this many bytes.
const LARGE_FIELD: usize = 16 << 10;
/// A smaller difference between clocks, in seconds, ends no session at its beginning.
const CLOSE: u64 = 60;

/// The session exists, but the access rules say that it is over.
pub(super) fn refused(sessions: &Sessions, session: &Session, now: Timestamp) -> Loop {
    let rules = sessions.rules.load();
    clock(rules.not_before.get(&session.user.id).map_or(0, |moment| moment.since(now).as_secs()))
}

/// What happened to the session of the last sign-in, whose cookies had `bytes`.
pub(super) fn lost(
    sessions: &Sessions,
    ring: &Keyring,
    cookies: &RequestCookies,
    bytes: usize,
    now: Timestamp,
) -> Loop {
    let values = sessions.cookie.candidates(cookies);
    if values.is_empty() {
        // Some pieces are missing, so they were dropped on the way.
        let pieces = sessions.cookie.is_shown(cookies);
        return if pieces || bytes > LARGE { Loop::CookieTooBig(bytes) } else { Loop::CookieLost };
    }
    let opened = ring.plausible(values).iter().find_map(|value| ring.open(Purpose::Session, value));
    match opened.map(|opened| Session::from_bytes(&opened.bytes)) {
        None => Loop::KeyChanged,
        Some(Some(session)) => {
            let issued_at = session.tokens.issued_at;
            clock(now.since(issued_at).max(issued_at.since(now)).as_secs())
        }
        Some(None) => Loop::Unknown,
    }
}

/// Why a callback's state fits no sign-in of the browser.
pub(super) fn of_state(
    logins: &LoginCookies,
    cookies: &RequestCookies,
    state: &State,
    fault: Option<StateError>,
    now: Timestamp,
) -> Loop {
    match fault {
        Some(StateError::NoCookie) => Loop::CookieLost,
        Some(StateError::OtherCookie) if cookies.field_length() > LARGE_FIELD => {
            Loop::CookieTooBig(cookies.field_length())
        }
        Some(StateError::OtherCookie) if logins.has_unknown_key(cookies) => Loop::KeyChanged,
        // A user is not that slow three times.
        Some(StateError::Expired) => clock(now.since(state.began_at).as_secs()),
        Some(StateError::OtherCookie) | None => Loop::Unknown,
    }
}

fn clock(seconds: u64) -> Loop {
    if seconds < CLOSE { Loop::Unknown } else { Loop::Clock(i64::try_from(seconds).unwrap_or(i64::MAX)) }
}
