//! Secret strings, and redaction of secrets from quoted text.
//!
//! A [`Secret`] gives its text only to [`Secret::expose`]. It cannot be printed, serialized or compared with `==`, and
//! its memory is wiped on drop.

use std::sync::Arc;

use arc_swap::ArcSwap;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: a client secret, a token, a key. Clones share one copy of it.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Makes a text a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text. Review every call.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends on the lengths only.
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// Whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A secret that a reload can replace. Clones share it.
#[derive(Clone, Debug)]
pub struct LiveSecret(Arc<ArcSwap<Secret>>);

impl LiveSecret {
    /// The current secret.
    pub(crate) fn load(&self) -> Secret {
        Secret::clone(&self.0.load())
    }

    /// Replaces the value with that of another.
    pub(crate) fn replace(&self, fresh: &Self) {
        self.0.store(fresh.0.load_full());
    }
}

impl From<Secret> for LiveSecret {
    fn from(secret: Secret) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(secret)))
    }
}

/// `text` without these secrets, plain or form-encoded: for messages of others that may repeat what we sent.
pub(crate) fn redact(text: &str, secrets: &[&str]) -> String {
    let mut forms: Vec<Zeroizing<String>> = Vec::new();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        forms.push(Zeroizing::new(form.replace('+', "%20")));
        forms.push(Zeroizing::new(form));
        forms.push(Zeroizing::new((*secret).to_owned()));
    }
    // Longest first, since one may be a part of another.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_secret_is_replaced_in_every_clone() {
        let live = LiveSecret::from(Secret::new("one"));
        let (held, before) = (live.clone(), live.load());
        live.replace(&Secret::new("other").into());
        assert_eq!((held.load().expose(), before.expose()), ("other", "one"));
        assert!(!format!("{live:?}").contains("other"));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("s3cr3t")), "Secret(…)");
    }

    #[test]
    fn a_secret_is_redacted_in_every_encoding() {
        let quoted = "raw a+b c&d, form a%2Bb+c%26d, percent a%2Bb%20c%26d, longer a+b c&d-e, code xy";
        assert_eq!(redact(quoted, &["a+b c&d", "", "a+b c&d-e", "xy"]), "raw …, form …, percent …, longer …, code …");
    }

    #[test]
    fn matches_only_the_same_text() {
        let secret = Secret::new("s3cr3t");
        assert!(secret.matches(b"s3cr3t"));
        assert!(!secret.matches(b"s3cr3"));
        assert!(!secret.matches(b"s3cr3T"));
    }
}
