//! Session keys: 32 random bytes each, written as base64url without padding (43 characters), or in base64 as
//! `openssl rand -base64 32` prints them.
//!
//! Reads them from the configuration or from files, one key per line, at startup and again on every reload. Errors name
//! the file and the line, and never show a key.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::seal::{Key, Keyring};
use crate::secret::Secret;

/// Where the session keys are. The first key seals; all of them open.
#[derive(Clone, Debug)]
pub(crate) enum SessionKeys {
    Inline(Vec<Secret>),
    Files(Vec<PathBuf>),
}

/// Why the session keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// There is no key in the file.
    #[error("{0} contains no key")]
    EmptyFile(PathBuf),
    /// There is no key at all.
    #[error("there is no session key")]
    NoKey,
    /// A text is not a key.
    #[error(
        "{place} is not a session key: 32 bytes in base64url or base64, as `upwarden key` or `openssl rand -base64 32` prints them"
    )]
    NotAKey {
        /// `key 2`, or `line 1 of /run/secrets/key`.
        place: String,
    },
    /// A key is listed twice.
    #[error("key {second} is the same as key {first}")]
    Duplicate {
        /// Its first place, counted from 1 over all keys.
        first: usize,
        /// Its second place.
        second: usize,
    },
}

impl SessionKeys {
    /// Reads the key ring from the configuration and the files as they are now.
    pub(crate) fn read(&self) -> Result<Keyring, KeyError> {
        let texts = match self {
            Self::Inline(texts) => texts.iter().map(base64url).collect(),
            Self::Files(paths) => paths.iter().map(|path| lines(path)).collect::<Result<Vec<_>, _>>()?.concat(),
        };
        // A repeated key would make a rotation look complete when it is not.
        for (second, key) in texts.iter().enumerate() {
            let earlier = texts.iter().take(second).position(|other| other.matches(key.expose().as_bytes()));
            if let Some(first) = earlier {
                return Err(KeyError::Duplicate { first: first + 1, second: second + 1 });
            }
        }
        let place = |place: usize| KeyError::NotAKey { place: format!("key {}", place + 1) };
        let keys = texts.iter().enumerate().map(|(at, text)| parse(text).ok_or_else(|| place(at)));
        Keyring::new(keys.collect::<Result<_, _>>()?).ok_or(KeyError::NoKey)
    }

    /// The files that [`SessionKeys::read`] reads.
    pub(crate) fn files(&self) -> &[PathBuf] {
        match self {
            Self::Inline(_) => &[],
            Self::Files(paths) => paths,
        }
    }
}

/// Converts a key to the form in which keys are compared: 44 characters of padded base64 become 43 of base64url.
fn base64url(text: &Secret) -> Secret {
    match text.expose().strip_suffix('=') {
        Some(unpadded) if unpadded.len() == 43 => {
            Secret::new(Zeroizing::new(unpadded.replace('+', "-").replace('/', "_")).as_str())
        }
        _ => text.clone(),
    }
}

fn parse(text: &Secret) -> Option<Key> {
    Key::parse(text).ok().filter(|_| text.expose().len() == 43)
}

/// The keys of a file. Empty lines are ignored.
pub(super) fn lines(path: &Path) -> Result<Vec<Secret>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let key = base64url(&Secret::new(line.trim()));
        if parse(&key).is_none() {
            return Err(KeyError::NotAKey { place: format!("line {} of {}", at + 1, path.display()) });
        }
        keys.push(key);
    }
    if keys.is_empty() { Err(KeyError::EmptyFile(path.to_owned())) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
    const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    #[test]
    fn a_key_is_exactly_32_bytes_of_base64url() {
        let is_key = |text: &str| SessionKeys::Inline(vec![Secret::new(text)]).read().is_ok();
        assert!(is_key(ONE) && is_key(TWO));
        for text in
            ["", "short", &format!("{ONE}=="), &ONE.replace('A', "+"), &format!("{ONE}A"), &ONE.replace('A', "é")]
        {
            assert!(!is_key(text), "{text}");
        }
        assert!(!is_key(&"A".repeat(43)), "all zeros");
        // The last character carries two bits that must be zero.
        assert!(!is_key(&format!("{}B", &ONE[1..])));
    }

    #[test]
    fn base64_with_padding_is_the_same_key() {
        // `openssl rand -base64 32`, twice, and the first in base64url.
        let (one, other) =
            ("+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/v7+/s=", "3q2+7+rZvu/q2b7v6tm+7+rZvu/q2b7v6tm+7+rZvu8=");
        let read = |texts: &[&str]| SessionKeys::Inline(texts.iter().map(|text| Secret::new(*text)).collect()).read();
        assert_eq!(read(&[one, other]).unwrap().count(), 2);
        let same = one.replace('+', "-").replace('/', "_").replace('=', "");
        assert!(matches!(read(&[one, &same]), Err(KeyError::Duplicate { first: 1, second: 2 })));
        assert!(read(&[&one.replace('=', "")]).is_err(), "base64 without its padding");
    }

    #[test]
    fn a_file_holds_one_key_per_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let read = |count| SessionKeys::Files(vec![path.clone(); count]).read();
        std::fs::write(&path, format!("{ONE}\r\n\n{TWO}\n")).unwrap();
        assert_eq!(read(1).unwrap().count(), 2);
        assert_eq!(read(2).unwrap_err().to_string(), "key 3 is the same as key 1");
        std::fs::write(&path, "hunter2\n").unwrap();
        let error = read(1).unwrap_err().to_string();
        assert!(error.starts_with("line 1 of ") && !error.contains("hunter2"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(read(1), Err(KeyError::EmptyFile(_))));
    }
}
