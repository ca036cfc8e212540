//! Session keys as text: 32 random bytes, base64url without padding, 43 characters.
//!
//! In: texts, or files with one key a line. Out: the keys, still as text. Errors name the file and the line and never
//! show a key. The files are read here at the start and again on every reload.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// Why session keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds no key.
    #[error("{0} holds no key")]
    Empty(PathBuf),
    /// A text is not a key.
    #[error("{place} is not 32 bytes in base64url (43 characters: letters, digits, - and _)")]
    NotAKey {
        /// `key 2`, or `line 1 of /run/secrets/key`.
        place: String,
    },
    /// A key is there twice.
    #[error("key {second} is the same as key {first}")]
    Twice {
        /// Counted from 1, over everything that is given.
        first: usize,
        /// The later one.
        second: usize,
    },
}

fn is_key(text: &str) -> bool {
    text.len() == 43 && URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| Zeroizing::new(bytes).len() == 32)
}

/// Takes keys given as texts.
pub(super) fn of_texts(texts: &[String]) -> Result<Vec<Secret>, KeyError> {
    let place = |place: usize| KeyError::NotAKey { place: format!("key {}", place + 1) };
    let key = |(at, text): (usize, &String)| is_key(text.trim()).then(|| Secret::new(text.trim())).ok_or(place(at));
    texts.iter().enumerate().map(key).collect()
}

/// Reads the keys of one file, one a line; empty lines count for nothing.
pub(super) fn of_file(path: &Path) -> Result<Vec<Secret>, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(unreadable)?);
    let mut keys = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        if !is_key(line.trim()) {
            return Err(KeyError::NotAKey { place: format!("line {} of {}", at + 1, path.display()) });
        }
        keys.push(Secret::new(line.trim()));
    }
    if keys.is_empty() { Err(KeyError::Empty(path.to_owned())) } else { Ok(keys) }
}

/// Refuses keys that are there twice: a ring with one would not rotate as it seems to.
pub(super) fn distinct(keys: &[Secret]) -> Result<(), KeyError> {
    for (second, key) in keys.iter().enumerate() {
        let earlier = keys.iter().take(second).position(|other| other.matches(key.expose().as_bytes()));
        if let Some(first) = earlier {
            return Err(KeyError::Twice { first: first + 1, second: second + 1 });
        }
    }
    Ok(())
}

/// All session keys, in their order: `keys`, then what the files hold now. The first seals.
pub fn session_keys(keys: &[Secret], files: &[PathBuf]) -> Result<Vec<Secret>, KeyError> {
    let mut all = keys.to_vec();
    for path in files {
        all.extend(of_file(path)?);
    }
    distinct(&all)?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    const TWO: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

    #[test]
    fn a_key_is_exactly_32_bytes_of_base64url() {
        assert!(is_key(ONE) && is_key(TWO));
        for text in
            ["", "short", &format!("{ONE}="), &ONE.replace('A', "+"), &format!("{ONE}A"), &ONE.replace('A', "é")]
        {
            assert!(!is_key(text), "{text}");
        }
        // The last character carries two bits that must be zero.
        assert!(!is_key(&format!("{}B", &ONE[1..])));
    }

    #[test]
    fn a_file_holds_one_key_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, format!("{ONE}\r\n\n{TWO}\n")).unwrap();
        assert_eq!(session_keys(&[], std::slice::from_ref(&path)).unwrap().len(), 2);
        let twice = session_keys(&[Secret::new(TWO)], std::slice::from_ref(&path)).unwrap_err().to_string();
        assert_eq!(twice, "key 3 is the same as key 1");
        std::fs::write(&path, "hunter2\n").unwrap();
        let error = of_file(&path).unwrap_err().to_string();
        assert!(error.starts_with("line 1 of ") && !error.contains("hunter2"), "{error}");
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(of_file(&path), Err(KeyError::Empty(_))));
    }
}
