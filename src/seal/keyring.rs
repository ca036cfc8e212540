//! The keys: the first one seals, each can open. Never says why a value did not open.

use std::borrow::Cow;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::random::{NoRandomness, random};
use super::signing::{SigningKey, SigningKeys};
use crate::secret::Secret;

const VERSION: u8 = 1;
/// The salt of HKDF-Extract.
const SALT_OF_KEYS: &[u8] = b"upwarden seal v1";
const KEY_ID: usize = 4;
const SALT: usize = 16;
const TAG: usize = 16;
const HEAD: usize = 1 + KEY_ID + SALT;
/// Maximum number of values of one request that are opened.
pub(crate) const MAX_TRIED: usize = 64;

/// What a sealed value is for. A value of one purpose never opens as another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A session or the reference to one, in its cookie.
    Session,
    /// A pending sign-in, in its cookie.
    Login,
    /// The `state` parameter of a sign-in.
    State,
    /// A ticket for the neighbour door.
    Ticket,
    /// A new personal access token, for the page that shows it.
    NewToken,
    Grant,
}

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Session => b"upwarden session",
            Self::Login => b"upwarden login",
            Self::State => b"upwarden state",
            Self::Ticket => b"upwarden ticket",
            Self::NewToken => b"upwarden new token",
            Self::Grant => b"upwarden grant",
        }
    }
}

/// A key: 32 random bytes.
#[derive(Clone)]
pub struct Key {
    id: [u8; KEY_ID],
    /// The pseudorandom key of HKDF (RFC 5869 section 2.2).
    prk: hmac::Key,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not base64url")]
    Encoding,
    #[error("it is {0} bytes long; a key has 32")]
    Length(usize),
    #[error("it is all zeros, as a file that was never written is")]
    Zero,
}

impl Key {
    /// Reads 32 bytes as base64url, with or without padding.
    pub fn parse(text: &Secret) -> Result<Self, KeyError> {
        let text = text.expose().trim().trim_end_matches('=');
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Encoding)?);
        if bytes.len() != 32 {
            return Err(KeyError::Length(bytes.len()));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Zero);
        }
        let extracted = hmac::sign(&hmac::Key::new(HMAC_SHA256, SALT_OF_KEYS), &bytes);
        let prk = hmac::Key::new(HMAC_SHA256, extracted.as_ref());
        let mut id = [0; KEY_ID];
        expand(&prk, &[b"key id"], &mut id);
        Ok(Self { id, prk })
    }

    /// A new key in the form that [`Self::parse`] reads.
    pub fn generate() -> Result<Secret, NoRandomness> {
        let bytes = Zeroizing::new(random::<32>()?);
        Ok(Secret::new(URL_SAFE_NO_PAD.encode(bytes.as_ref())))
    }

    fn derive(&self, purpose: Purpose, salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
        let mut material = Zeroizing::new([0; 44]);
        expand(&self.prk, &[purpose.label(), salt], material.as_mut());
        let (key, nonce) = material.split_at_checked(32)?;
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?);
        Some((key, Nonce::try_assume_unique_for_key(nonce).ok()?))
    }

    /// What this key signs with in a deployment. One in 2³² derived texts is no scalar of the curve: the next one is (FIPS
    /// 186-5 appendix A.2.2).
    fn signing_key(&self, deployment: &str) -> Option<SigningKey> {
        (0..=u8::MAX).find_map(|attempt| {
            let mut scalar = Zeroizing::new([0; 32]);
            let info = [&b"upwarden assertion"[..], deployment.as_bytes(), &[attempt]];
            expand(&self.prk, &info, scalar.as_mut());
            SigningKey::from_scalar(&scalar)
        })
    }
}

/// HKDF-Expand (RFC 5869 section 2.3), of at most 255 blocks. The library's own extracts anew each time, and works out both
/// pads for each HMAC: 28 of the 37 thousand instructions of opening a session.
fn expand(prk: &hmac::Key, info: &[&[u8]], filled: &mut [u8]) {
    let mut before = None;
    for (number, block) in (1..=u8::MAX).zip(filled.chunks_mut(32)) {
        let mut context = hmac::Context::with_key(prk);
        context.update(before.as_ref().map_or(&[], hmac::Tag::as_ref));
        for part in info {
            context.update(part);
        }
        context.update(&[number]);
        let tag = context.sign();
        block.iter_mut().zip(tag.as_ref()).for_each(|(filled, byte)| *filled = *byte);
        before = Some(tag);
    }
}

#[derive(Debug)]
pub struct OpenedValue {
    pub bytes: Zeroizing<Vec<u8>>,
    /// An older key opened it: seal it again.
    pub reseal: bool,
}

/// The keys, the one that seals first.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Vec<Key>,
    /// A value sealed for one deployment does not open in another with the same keys.
    deployment: String,
}

impl Keyring {
    pub fn new(keys: Vec<Key>) -> Option<Self> {
        (!keys.is_empty()).then_some(Self { keys, deployment: String::new() })
    }

    /// The same keys, for the deployment of this name.
    #[must_use]
    pub fn named(self, deployment: &str) -> Self {
        Self { deployment: deployment.to_owned(), ..self }
    }

    /// A key pair for each key, the first of which signs.
    pub(crate) fn signing_keys(&self) -> SigningKeys {
        SigningKeys::new(self.keys.iter().filter_map(|key| key.signing_key(&self.deployment)).collect())
    }

    pub(crate) fn count(&self) -> usize {
        self.keys.len()
    }

    pub fn generate() -> Result<Self, NoRandomness> {
        let key = Key::parse(&Key::generate()?).map_err(|_| NoRandomness)?;
        Ok(Self { keys: vec![key], deployment: String::new() })
    }

    /// Grants stay readable if the deployment's name changes, because they never leave the store.
    fn associated(&self, purpose: Purpose) -> Vec<u8> {
        let label = purpose.label();
        let mut data = Vec::with_capacity(label.len() + 1 + self.deployment.len());
        data.extend_from_slice(label);
        data.push(VERSION);
        match purpose {
            Purpose::Session | Purpose::Login | Purpose::State | Purpose::Ticket | Purpose::NewToken => {
                data.extend_from_slice(self.deployment.as_bytes());
            }
            Purpose::Grant => {}
        }
        data
    }

    /// Seals `bytes` with the first key. The text is safe in URLs and cookies, and 50 characters and a third longer than
    /// `bytes`.
    pub fn seal(&self, purpose: Purpose, bytes: &[u8]) -> Result<String, NoRandomness> {
        let salt = random::<SALT>()?;
        let key = self.keys.first().ok_or(NoRandomness)?;
        let (cipher, nonce) = key.derive(purpose, &salt).ok_or(NoRandomness)?;
        let mut sealed = Zeroizing::new(Vec::with_capacity(HEAD + bytes.len() + TAG));
        sealed.push(VERSION);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&salt);
        sealed.extend_from_slice(bytes);
        let text = sealed.get_mut(HEAD..).ok_or(NoRandomness)?;
        let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(self.associated(purpose)), text);
        sealed.extend_from_slice(tag.map_err(|_| NoRandomness)?.as_ref());
        Ok(URL_SAFE_NO_PAD.encode(&*sealed))
    }

    pub(crate) fn seal_json(&self, purpose: Purpose, value: &impl Serialize) -> Result<String, NoRandomness> {
        self.seal(purpose, &to_json(value))
    }

    /// The values that one of the keys may have sealed, each once, and at most [`MAX_TRIED`]: the ones worth opening. Strangers
    /// can send a thousand cookies that none of them sealed, and each would cost a decryption, or a question to the store.
    pub(crate) fn plausible<'a>(&self, values: impl IntoIterator<Item = Cow<'a, str>>) -> Vec<Cow<'a, str>> {
        let mut found: Vec<Cow<'a, str>> = Vec::new();
        for value in values {
            if self.has_key_of(&value) && !found.contains(&value) {
                found.push(value);
                if found.len() == MAX_TRIED {
                    break;
                }
            }
        }
        found
    }

    /// Whether the beginning of a sealed text names one of the keys.
    fn has_key_of(&self, text: &str) -> bool {
        let mut head = [0; 6];
        let decoded = text.get(..8).and_then(|start| URL_SAFE_NO_PAD.decode_slice(start, &mut head).ok());
        let Some((VERSION, rest)) = decoded.and(head.split_first().map(|(version, rest)| (*version, rest))) else {
            return false;
        };
        self.keys.iter().any(|key| rest.starts_with(&key.id))
    }

    /// Opens a value that any of the keys sealed for the same purpose and version. Every failure is the same `None`.
    pub fn open(&self, purpose: Purpose, text: &str) -> Option<OpenedValue> {
        let mut sealed = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).ok()?);
        let (head, body) = sealed.split_at_mut_checked(HEAD)?;
        let (version, rest) = head.split_first()?;
        let (id, salt) = rest.split_at_checked(KEY_ID)?;
        if *version != VERSION {
            return None;
        }
        let (index, key) = self.keys.iter().enumerate().find(|(_, key)| key.id == id)?;
        let (cipher, nonce) = key.derive(purpose, salt)?;
        let length = cipher.open_in_place(nonce, Aad::from(self.associated(purpose)), body).ok()?.len();
        sealed.truncate(HEAD + length);
        sealed.drain(..HEAD);
        Some(OpenedValue { bytes: sealed, reseal: index > 0 })
    }

    pub(crate) fn open_json<T: DeserializeOwned>(&self, purpose: Purpose, text: &str) -> Option<T> {
        from_json(&self.open(purpose, text)?.bytes)
    }
}

/// The beginning of a sealed text, which ends with its salt: it tells the text from any other.
pub(crate) fn unique_part(text: &str) -> &str {
    text.get(..HEAD / 3 * 4).unwrap_or(text)
}

/// A value from its sealed JSON. The text is checked for UTF-8 once, rather than at each of its strings.
pub(crate) fn from_json<T: DeserializeOwned>(json: &[u8]) -> Option<T> {
    serde_json::from_str(std::str::from_utf8(json).ok()?).ok()
}

/// JSON to be sealed.
pub(crate) fn to_json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // Structs of texts and numbers always serialize.
    serde_json::to_vec(value).map(Zeroizing::new).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::parse(&Key::generate().unwrap()).unwrap()
    }

    fn ring(keys: &[&Key]) -> Keyring {
        Keyring::new(keys.iter().map(|key| (*key).clone()).collect()).unwrap()
    }

    #[test]
    fn keys_are_derived_as_the_library_does() {
        use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};

        struct Length(usize);

        impl KeyType for Length {
            fn len(&self) -> usize {
                self.0
            }
        }

        let secret = [7; 32];
        let ours = Key::parse(&Secret::new(URL_SAFE_NO_PAD.encode(secret))).unwrap();
        let theirs = Salt::new(HKDF_SHA256, SALT_OF_KEYS).extract(&secret);
        for length in [KEY_ID, 32, 44, 64, 65] {
            let (mut one, mut other) = (vec![0; length], vec![0; length]);
            expand(&ours.prk, &[b"a label", b"a salt"], &mut one);
            theirs.expand(&[b"a label", b"a salt"], Length(length)).unwrap().fill(&mut other).unwrap();
            assert_eq!(one, other, "{length}");
        }
    }

    #[test]
    fn a_key_of_zeros_is_refused() {
        let zeros = Secret::new(URL_SAFE_NO_PAD.encode([0; 32]));
        assert_eq!(Key::parse(&zeros).unwrap_err(), KeyError::Zero);
    }

    #[test]
    fn a_value_sealed_for_one_deployment_does_not_open_in_another_with_the_same_key() {
        let key = Key::parse(&Key::generate().unwrap()).unwrap();
        let ring = |name: &str| Keyring::new(vec![key.clone()]).unwrap().named(name);
        let (one, other) = (ring("https://one.example"), ring("https://other.example"));
        for purpose in [Purpose::Session, Purpose::Login, Purpose::State, Purpose::Ticket, Purpose::NewToken] {
            let sealed = one.seal(purpose, b"x").unwrap();
            assert!(one.open(purpose, &sealed).is_some() && other.open(purpose, &sealed).is_none(), "{purpose:?}");
        }
        let grant = one.seal(Purpose::Grant, b"x").unwrap();
        assert!(other.open(Purpose::Grant, &grant).is_some(), "a store may be taken along");
    }

    #[test]
    fn few_of_many_forged_values_are_opened_and_copies_once() {
        let (ours, old) = (key(), key());
        let both = ring(&[&ours, &old]);
        let sealed = |ring: &Keyring| ring.seal(Purpose::Session, b"x").unwrap();
        let plausible =
            |values: &[String]| both.plausible(values.iter().map(|value| Cow::Borrowed(value.as_str()))).len();
        let real = sealed(&ring(&[&old]));
        assert_eq!(plausible(&vec![real.clone(); 353]), 1);
        // A user knows the key's id from a cookie, and can forge values with it.
        let forged: Vec<String> = (0..1015).map(|number| format!("{}{number:04}", &real[..40])).collect();
        assert_eq!(plausible(&forged), MAX_TRIED);
        let foreign = Keyring::generate().unwrap();
        let planted = (0..1000).map(|number| if number % 2 == 0 { number.to_string() } else { sealed(&foreign) });
        let planted: Vec<String> = planted.chain(["é".repeat(20), real]).collect();
        assert_eq!(plausible(&planted), 1, "the one that can open");
    }

    #[test]
    fn a_sealed_value_opens_for_its_purpose_only() {
        let ring = ring(&[&key()]);
        let sealed = ring.seal(Purpose::Login, b"hello").unwrap();
        let opened = ring.open(Purpose::Login, &sealed).unwrap();
        assert_eq!(opened.bytes.as_slice(), b"hello");
        assert!(!opened.reseal);
        assert!(ring.open(Purpose::Session, &sealed).is_none());
    }

    #[test]
    fn an_older_key_opens_and_asks_for_a_new_seal() {
        let (old, new) = (key(), key());
        let sealed = ring(&[&old]).seal(Purpose::Session, b"x").unwrap();
        assert!(ring(&[&new, &old]).open(Purpose::Session, &sealed).unwrap().reseal);
        assert!(ring(&[&new]).open(Purpose::Session, &sealed).is_none());
    }

    #[test]
    fn a_value_with_a_flipped_bit_or_cut_off_does_not_open() {
        let ring = ring(&[&key()]);
        let sealed = URL_SAFE_NO_PAD.decode(ring.seal(Purpose::Session, b"some session").unwrap()).unwrap();
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut bent = sealed.clone();
                bent[place] ^= 1 << bit;
                assert!(
                    ring.open(Purpose::Session, &URL_SAFE_NO_PAD.encode(&bent)).is_none(),
                    "byte {place} bit {bit}"
                );
            }
            assert!(ring.open(Purpose::Session, &URL_SAFE_NO_PAD.encode(&sealed[..place])).is_none());
        }
    }

    #[test]
    fn two_seals_of_the_same_bytes_differ() {
        let ring = Keyring::generate().unwrap();
        assert_ne!(ring.seal(Purpose::State, b"x").unwrap(), ring.seal(Purpose::State, b"x").unwrap());
    }

    #[test]
    fn a_key_is_32_bytes_of_base64url() {
        assert_eq!(Key::parse(&Secret::new("abc")).unwrap_err(), KeyError::Length(2));
        assert_eq!(Key::parse(&Secret::new("not base64!")).unwrap_err(), KeyError::Encoding);
        assert!(Key::parse(&Key::generate().unwrap()).is_ok());
    }
}
