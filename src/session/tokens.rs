//! Upwork's two kinds of token, which must never stand in for each other.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The bearer of API calls (RFC 6750).
#[derive(Clone, Debug)]
pub struct AccessToken(Secret);

/// What a new access token is asked for with (RFC 6749 section 1.5).
#[derive(Clone, Debug)]
pub struct RefreshToken(Secret);

/// The text is no token. An access token stands in a header (RFC 6750 section 2.1, `b64token`, widened to visible ASCII); a
/// refresh token in a form only, and may hold blanks (RFC 6749 appendix A.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a token: empty, over-long, or with characters that none may hold")]
pub struct NotAToken;

/// Bytes of a token that are taken; more would not fit five cookies.
pub(crate) const MAX_TOKEN: usize = 12 << 10;

fn checked(text: String, may_hold: impl Fn(u8) -> bool) -> Result<Secret, NotAToken> {
    let fits = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(may_hold);
    let secret = Secret::new(text);
    if fits { Ok(secret) } else { Err(NotAToken) }
}

impl AccessToken {
    /// Takes a token's text in.
    pub fn parse(text: String) -> Result<Self, NotAToken> {
        checked(text, |byte| byte.is_ascii_graphic()).map(Self)
    }

    /// The text, for an `Authorization` value or a form.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl RefreshToken {
    /// Takes a token's text in.
    pub fn parse(text: String) -> Result<Self, NotAToken> {
        checked(text, |byte| byte.is_ascii_graphic() || byte == b' ').map(Self)
    }

    /// The text, for a form.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Only sealed bytes are written from these; they are not `Serialize`, so nothing else can.
pub(super) mod sealed_text {
    use super::{AccessToken, Deserialize, RefreshToken, Serialize};

    pub(in crate::session) mod access {
        use super::{AccessToken, Deserialize, Serialize};

        pub(in crate::session) fn serialize<S: serde::Serializer>(
            token: &AccessToken,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            token.expose().serialize(to)
        }

        pub(in crate::session) fn deserialize<'de, D: serde::Deserializer<'de>>(
            from: D,
        ) -> Result<AccessToken, D::Error> {
            AccessToken::parse(String::deserialize(from)?).map_err(serde::de::Error::custom)
        }
    }

    pub(in crate::session) mod refresh {
        use super::{Deserialize, RefreshToken, Serialize};

        #[expect(clippy::ref_option, reason = "serde's `with` hands the field over as it is")]
        pub(in crate::session) fn serialize<S: serde::Serializer>(
            token: &Option<RefreshToken>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            token.as_ref().map(RefreshToken::expose).serialize(to)
        }

        pub(in crate::session) fn deserialize<'de, D: serde::Deserializer<'de>>(
            from: D,
        ) -> Result<Option<RefreshToken>, D::Error> {
            let text = Option::<String>::deserialize(from)?;
            text.map(RefreshToken::parse).transpose().map_err(serde::de::Error::custom)
        }
    }
}
