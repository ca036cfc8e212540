//! A session: who signed in, with which tokens, and until when. Never prints a token.

pub(crate) mod personal;
pub(crate) mod tokens;

use std::sync::OnceLock;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::Timestamp;
use crate::seal::{from_json, to_json};
use tokens::{AccessToken, RefreshToken, sealed_text};

/// The cookie and lifetimes: docs/configuration.md "session".
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// `__Host-upwarden` on https, `upwarden` on http.
    pub cookie: String,
    /// `Secure`: the public URL is https.
    pub secure: bool,
    pub lifetime: Lifetime,
    /// Sessions of one user in a store.
    pub per_user: usize,
    /// A session that was not checked with Upwork for this long is refreshed, and its user checked.
    pub recheck: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// After its last refresh.
    pub idle: Duration,
    /// After its beginning, however often it is refreshed.
    pub max: Option<Duration>,
}

/// Named the same in `auth/session` and on the account page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Grant {
    /// RFC 6749 section 4.1, with PKCE.
    Code,
    /// RFC 6749 section 4.2: the token comes in the fragment.
    Implicit,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// What access rules name.
    #[serde(rename = "i")]
    pub id: String,
    /// The name that people know.
    #[serde(rename = "n")]
    pub nid: String,
    /// Known if the key's scopes allow it.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The organization that the token acts for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    #[serde(rename = "i")]
    pub id: String,
    /// Known if the key's scopes allow it.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tokens {
    #[serde(rename = "a", with = "sealed_text::access")]
    pub access: AccessToken,
    /// `None` for the implicit grant and for client credentials.
    #[serde(rename = "r", default, with = "sealed_text::refresh", skip_serializing_if = "Option::is_none")]
    pub refresh: Option<RefreshToken>,
    #[serde(rename = "s")]
    pub issued_at: Timestamp,
    #[serde(rename = "e")]
    pub expires_at: Timestamp,
}

impl Tokens {
    /// When to refresh: a tenth of the lifetime before the expiry, but at most five minutes (docs/design.md "Refresh
    /// races").
    pub fn due_at(&self) -> Timestamp {
        let lifetime = self.expires_at.since(self.issued_at);
        self.expires_at.minus((lifetime / 10).min(Duration::from_secs(300)))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Names the session among refreshes, upgrades and store records; 32 hex digits. Not a credential.
    #[serde(rename = "i")]
    pub id: String,
    #[serde(rename = "u")]
    pub user: User,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Organization>,
    #[serde(rename = "g")]
    pub grant: Grant,
    #[serde(rename = "t")]
    pub tokens: Tokens,
    /// When the person signed in; compared with `access.not_before`.
    #[serde(rename = "b")]
    pub began_at: Timestamp,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub refreshed: Option<Timestamp>,
    /// When Upwork last confirmed whose tokens they are; `None` if that was the sign-in.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    #[serde(skip)]
    pub identity: IdentityFields,
}

/// The identity headers of a session, made when a request first needs them. A copy of the session starts without them,
/// because its user may change.
#[derive(Debug, Default)]
pub struct IdentityFields(OnceLock<Vec<(HeaderName, HeaderValue)>>);

impl IdentityFields {
    pub(crate) fn get_or_init(
        &self,
        make: impl FnOnce() -> Vec<(HeaderName, HeaderValue)>,
    ) -> &[(HeaderName, HeaderValue)] {
        self.0.get_or_init(make)
    }
}

impl Clone for IdentityFields {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Session {
    /// When the session ends: with its access token, or if it has a refresh token, `idle` after its tokens were issued
    /// and `max` after its beginning (docs/sessions.md "Lifetime").
    pub fn ends_at(&self, lifetime: Lifetime) -> Timestamp {
        let end = match self.tokens.refresh {
            None => self.tokens.expires_at,
            Some(_) => self.tokens.issued_at.plus(lifetime.idle),
        };
        lifetime.max.map_or(end, |max| end.min(self.began_at.plus(max)))
    }

    /// Whether a request needs a refresh first, because the user was not checked for `recheck`.
    pub fn needs_recheck(&self, now: Timestamp, recheck: Duration) -> bool {
        now >= self.checked_at().plus(recheck)
    }

    /// When Upwork last confirmed whose tokens they are.
    pub fn checked_at(&self) -> Timestamp {
        self.checked.unwrap_or(self.began_at)
    }

    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        to_json(self)
    }

    /// Reads opened bytes; `None` if they are not a session.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        from_json(bytes)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn session(refresh: bool) -> Session {
        let began_at = Timestamp::from_seconds(1_000_000);
        Session {
            id: "0123456789abcdef0123456789abcdef".to_owned(),
            user: User { id: "1".to_owned(), nid: "foo".to_owned(), name: Some("Foo Bar".to_owned()) },
            organization: Some(Organization { id: "2".to_owned(), name: None }),
            grant: Grant::Code,
            tokens: Tokens {
                access: AccessToken::parse("oauth2v2_aa".to_owned()).unwrap(),
                refresh: refresh.then(|| RefreshToken::parse("oauth2v2_bb".to_owned()).unwrap()),
                issued_at: began_at,
                expires_at: began_at.plus(Duration::from_secs(86_400)),
            },
            began_at,
            refreshed: None,
            checked: None,
            identity: IdentityFields::default(),
        }
    }

    #[test]
    fn a_session_round_trips_through_its_bytes() {
        let before = session(true);
        let after = Session::from_bytes(&before.to_bytes()).unwrap();
        assert_eq!(after.user, before.user);
        assert_eq!(after.tokens.access.expose(), "oauth2v2_aa");
        assert_eq!(after.tokens.refresh.unwrap().expose(), "oauth2v2_bb");
    }

    #[test]
    fn without_a_refresh_token_it_ends_with_its_access_token() {
        let (idle, max) = (Duration::from_secs(14 * 86_400), Duration::from_secs(60));
        let lifetime = Lifetime { idle, max: None };
        assert_eq!(session(false).ends_at(lifetime), session(false).tokens.expires_at);
        assert_eq!(session(true).ends_at(lifetime), session(true).tokens.issued_at.plus(idle));
        let lifetime = Lifetime { idle, max: Some(max) };
        assert_eq!(session(true).ends_at(lifetime), session(true).began_at.plus(max));
        assert_eq!(session(false).ends_at(lifetime), session(false).began_at.plus(max));
    }

    #[test]
    fn the_margin_scales_with_the_lifetime() {
        let mut tokens = session(true).tokens;
        assert_eq!(tokens.expires_at.since(tokens.due_at()), Duration::from_secs(300));
        tokens.expires_at = tokens.issued_at.plus(Duration::from_secs(60));
        assert_eq!(tokens.expires_at.since(tokens.due_at()), Duration::from_secs(6));
    }

    #[test]
    fn debug_shows_no_token() {
        let text = format!("{:?}", session(true));
        assert!(!text.contains("oauth2v2_"), "{text}");
    }
}
