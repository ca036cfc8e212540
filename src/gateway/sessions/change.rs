//! What an answer does to the session's cookie.

use http::HeaderValue;

use crate::store::StoredSession;

#[must_use]
#[derive(Clone, Debug)]
pub(in crate::gateway) enum SessionChange {
    Keep,
    /// The cookie has to carry this session from now on.
    Renew(StoredSession),
    /// A sign-in made a session: the `Set-Cookie` values from [`super::Sessions::begin`].
    Begin(Vec<HeaderValue>),
    End(StoredSession),
    SignOut,
}
