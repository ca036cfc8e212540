//! Upwork's two kinds of token, as types that cannot be confused.

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// The bearer of API calls (RFC 6750).
#[derive(Clone, Debug)]
pub struct AccessToken(Secret);

/// Exchanged for new access tokens (RFC 6749 section 1.5).
#[derive(Clone, Debug)]
pub struct RefreshToken(Secret);

/// The text is not a token. An access token goes into a header (RFC 6750 section 2.1, `b64token`, widened to visible ASCII); a
/// refresh token only into a form, and may contain spaces (RFC 6749 appendix A.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a token: it is empty, too long, or has characters that no token has")]
pub struct NotAToken;

/// Bytes of the longest token that is accepted; a longer one would not fit five cookies.
const MAX_TOKEN: usize = 12 << 10;

fn checked(text: String, allowed: impl Fn(u8) -> bool) -> Result<Secret, NotAToken> {
    let fits = !text.is_empty() && text.len() <= MAX_TOKEN && text.bytes().all(allowed);
    let secret = Secret::new(text);
    if fits { Ok(secret) } else { Err(NotAToken) }
}

impl AccessToken {
    pub fn parse(text: String) -> Result<Self, NotAToken> {
        checked(text, |byte| byte.is_ascii_graphic()).map(Self)
    }

    /// The text, for an `Authorization` value or a form.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl RefreshToken {
    pub fn parse(text: String) -> Result<Self, NotAToken> {
        checked(text, |byte| byte.is_ascii_graphic() || byte == b' ').map(Self)
    }

    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// SHA-256: identifies the token without keeping it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        digest(&SHA256, self.expose().as_bytes()).as_ref().try_into().unwrap_or_default()
    }
}

/// For sealed bytes only: the tokens themselves are not `Serialize`, so that nothing else writes them.
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
