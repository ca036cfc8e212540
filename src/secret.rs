//! A string that must not be seen.
//!
//! In: a secret as text. Out: the same text, only through [`Secret::expose`]. It never prints, serializes or
//! compares itself, and its memory is wiped when it is dropped.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text: a client secret, a token, a key.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text in.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself. Each call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Compares in time that depends on the lengths only.
    pub fn matches(&self, shown: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(shown).into()
    }

    /// True where the text is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `text` without these secrets, whether they stand in it as they are or as a form writes them: for words of others that
/// we quote, and that may repeat what we sent.
pub(crate) fn redact(text: &str, secrets: &[&str]) -> String {
    let written = |secret: &str| url::form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let mut forms: Vec<Zeroizing<String>> = Vec::new();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        let form = written(secret);
        forms.push(Zeroizing::new(form.replace('+', "%20")));
        forms.push(Zeroizing::new(form));
        forms.push(Zeroizing::new((*secret).to_owned()));
    }
    // One may be a part of another.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("s3cr3t")), "Secret(…)");
    }

    #[test]
    fn what_is_redacted_is_gone_in_every_writing() {
        let told = "raw a+b c&d, form a%2Bb+c%26d, percent a%2Bb%20c%26d, longer a+b c&d-e, code xy";
        assert_eq!(redact(told, &["a+b c&d", "", "a+b c&d-e", "xy"]), "raw …, form …, percent …, longer …, code …");
    }

    #[test]
    fn matches_only_the_same_text() {
        let secret = Secret::new("s3cr3t");
        assert!(secret.matches(b"s3cr3t"));
        assert!(!secret.matches(b"s3cr3"));
        assert!(!secret.matches(b"s3cr3T"));
    }
}
