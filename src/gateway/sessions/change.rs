//! The effect of an answer on the session's cookie.

use http::HeaderValue;

use crate::store::StoredSession;

#[must_use]
#[derive(Clone, Debug)]
pub(in crate::gateway) enum SessionChange {
    Keep,
    /// The cookie carries this session from now on.
    Renew(StoredSession),
    /// A sign-in created a session: the `Set-Cookie` values from [`super::Sessions::begin`].
    Begin(Vec<HeaderValue>),
    End(StoredSession),
    SignOut,
}
