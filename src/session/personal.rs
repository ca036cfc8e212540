//! Personal access tokens: `upwd_`, 32 random base62 characters, and the CRC-32 (IEEE) of those 37 characters as 6 base62
//! digits, most significant first.
//!
//! The checksum lets secret scanners and typing errors be recognized. Only the hash of a token is ever stored.

use aws_lc_rs::digest::{Digest, SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::seal::{NoRandomness, random};
use crate::secret::Secret;

const PREFIX: &str = "upwd_";
const RANDOM: usize = 32;
const CHECK: usize = 6;
const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A text with the form and checksum of a token. Only the store knows whether it was issued.
#[derive(Clone, Debug)]
pub struct PersonalToken(Secret);

impl PersonalToken {
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut text = String::with_capacity(PREFIX.len() + RANDOM + CHECK);
        text.push_str(PREFIX);
        while text.len() < PREFIX.len() + RANDOM {
            // The 2 of 64 values that are not digits are dropped, so that all digits are equally likely.
            let drawn = random::<RANDOM>()?;
            let digits = drawn.iter().filter_map(|byte| DIGITS.get(usize::from(byte & 63)));
            text.extend(digits.take(PREFIX.len() + RANDOM - text.len()).map(|digit| char::from(*digit)));
        }
        text.push_str(&checksum(&text));
        Ok(Self(Secret::new(text)))
    }

    /// Reads a token; `None` for another form or a wrong checksum.
    pub fn parse(text: &str) -> Option<Self> {
        let (body, check) = text.split_at_checked(PREFIX.len() + RANDOM)?;
        let random = body.strip_prefix(PREFIX)?;
        let whole = random.bytes().all(|byte| byte.is_ascii_alphanumeric()) && checksum(body) == check;
        whole.then(|| Self(Secret::new(text)))
    }

    /// The text, for the one response that shows it.
    pub fn secret(&self) -> &Secret {
        &self.0
    }

    /// The prefix and the first four characters, which do not open anything.
    pub fn start(&self) -> String {
        self.0.expose().chars().take(PREFIX.len() + 4).collect()
    }

    /// SHA-256, as it is stored: base64url. With 190 random bits in a token, nothing slower is needed.
    pub fn hash(&self) -> Secret {
        Secret::new(URL_SAFE_NO_PAD.encode(self.digest()))
    }

    fn digest(&self) -> Digest {
        digest(&SHA256, self.0.expose().as_bytes())
    }

    /// Its name in lists and for revoking it: the first 64 bits of its hash, as hex digits. Not a credential.
    pub fn id(&self) -> String {
        let first = self.digest().as_ref().first_chunk().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(first))
    }
}

fn checksum(text: &str) -> String {
    let mut rest = crc32(text.as_bytes());
    let mut digits = [b'0'; CHECK];
    for digit in digits.iter_mut().rev() {
        *digit = usize::try_from(rest % 62).ok().and_then(|index| DIGITS.get(index)).copied().unwrap_or(b'0');
        rest /= 62;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

/// CRC-32 (IEEE 802.3): reflected, polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32_in_base_62() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        assert_eq!(checksum(""), "000000");
        // Computed independently: zlib.crc32, then divmod by 62.
        assert_eq!(checksum("upwd_00000000000000000000000000000000"), "3pbWDl");
    }

    #[test]
    fn only_an_unchanged_token_is_read_back() {
        let token = PersonalToken::generate().unwrap();
        let text = token.secret().expose();
        assert_eq!(text.len(), 43);
        assert!(PersonalToken::parse(text).unwrap().hash().matches(token.hash().expose().as_bytes()));
        for index in 0..text.len() {
            let mut changed = text.as_bytes().to_vec();
            changed[index] = if changed[index] == b'x' { b'y' } else { b'x' };
            assert!(PersonalToken::parse(std::str::from_utf8(&changed).unwrap()).is_none(), "{index}");
            assert!(PersonalToken::parse(&text[..index]).is_none());
        }
        assert!(PersonalToken::parse(&format!("{text}0")).is_none());
        assert!(PersonalToken::parse("upwd_é").is_none());
    }

    #[test]
    fn two_tokens_differ_and_debug_shows_neither() {
        let (one, other) = (PersonalToken::generate().unwrap(), PersonalToken::generate().unwrap());
        assert!(one.id() != other.id() && !one.hash().matches(other.hash().expose().as_bytes()));
        assert!(!format!("{one:?} {:?}", one.hash()).contains(&one.secret().expose()[5..]));
    }
}
