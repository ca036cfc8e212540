//! The configuration as written: the file, the environment and `--set`, merged key by key; a later layer wins.
//!
//! Unknown keys become problems here. It parses no values and does not read the environment itself.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::file::{self, Entries};
use super::problem::{Problem, Source};
use super::schema;
use super::sources::Sources;
use super::value::{Entry, Value};

/// A fingerprint of each key that is set: equal for equal values, and not reversible.
pub(super) type Fingerprints = BTreeMap<String, u64>;

pub(super) struct RawConfig {
    entries: Entries,
    file: Option<std::path::PathBuf>,
}

impl RawConfig {
    /// Reads and merges the layers; unknown keys and unreadable files are added to `problems`.
    pub(super) fn read(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
        let mut entries = sources.file.as_deref().map(|path| file::read(path, problems)).unwrap_or_default();
        entries.extend(environment(&sources.env, problems));
        entries.extend(settings(&sources.sets, problems));
        Self { entries, file: sources.file.clone() }
    }

    pub(super) fn find(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    pub(super) fn fingerprints(&self) -> Fingerprints {
        self.entries.iter().map(|(key, entry)| (key.clone(), fingerprint(&entry.value))).collect()
    }

    /// The source of a key that no layer sets.
    pub(super) fn missing(&self, key: &str) -> Source {
        Source::Missing { file: self.file.clone(), key: key.to_owned() }
    }
}

pub(super) fn fingerprint(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn environment(variables: &[(String, String)], problems: &mut Vec<Problem>) -> Entries {
    let mut entries = Entries::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix("UPWARDEN_") else { continue };
        if is_service_variable(name, value) {
            continue;
        }
        let key = name.to_ascii_lowercase().replace("__", ".");
        let source = Source::Variable(variable.clone());
        let known = schema::variable(&key);
        if schema::find(&key).is_none() {
            problems.push(Problem::unknown_key(&key, source, schema::variable));
        } else if known != *variable {
            problems.push(Problem::new(key, source, "this variable is misspelled", format!("write {known}")));
        } else if value.contains('\u{fffd}') {
            problems.push(Problem::new(key, source, "the value is not UTF-8", "write it in UTF-8, or in a file"));
        } else {
            entries.insert(key, Entry { value: Value::Text(value.clone()), source });
        }
    }
    entries
}

/// Kubernetes puts variables for each service into every container: for one named `upwarden`, `UPWARDEN_PORT`,
/// `UPWARDEN_SERVICE_HOST`, `UPWARDEN_PORT_4180_TCP_ADDR` …; for `upwarden-x`, `UPWARDEN_X_SERVICE_HOST` … None of them
/// is one of our settings, and none has two underscores in a row.
fn is_service_variable(name: &str, value: &str) -> bool {
    if name.contains("__") {
        return false;
    }
    let name = format!("_{name}");
    let is_url = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    let is_port = name.rsplit_once("_PORT_").is_some_and(|(_, rest)| {
        let mut parts = rest.split('_');
        let number = parts.next().unwrap_or_default();
        let numbered = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        numbered
            && matches!(parts.next(), Some("TCP" | "UDP" | "SCTP"))
            && matches!(parts.next(), None | Some("PROTO" | "PORT" | "ADDR"))
            && parts.next().is_none()
    });
    let number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    name == "_PORT"
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || (name.contains("_SERVICE_PORT_") && number)
        || (name.ends_with("_PORT") && is_url)
        || is_port
}

/// Splits `KEY=VALUE`; `None` if the text is not of that form.
pub(crate) fn split_setting(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!key.is_empty() && key.bytes().all(plain)).then_some((key, value))
}

fn settings(sets: &[String], problems: &mut Vec<Problem>) -> Entries {
    let mut entries = Entries::new();
    for (place, text) in sets.iter().enumerate() {
        match split_setting(text) {
            Some((key, value)) => {
                let source = Source::Set(key.to_owned());
                if schema::find(key).is_some() {
                    entries.insert(key.to_owned(), Entry { value: Value::Text(value.to_owned()), source });
                } else {
                    problems.push(Problem::unknown_key(key, source, |known| format!("--set {known}=…")));
                }
            }
            // Not shown: it may be a secret without its key.
            None => problems.push(Problem::new(
                "--set",
                Source::Set(format!("(number {})", place + 1)),
                "this is not KEY=VALUE",
                "write --set app.url=http://127.0.0.1:3000",
            )),
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(file: Option<&Path>, env: &[(&str, &str)], sets: &[&str]) -> (RawConfig, Vec<Problem>) {
        let sources = Sources {
            file: file.map(Path::to_owned),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            terminal: false,
            memory: None,
        };
        let mut problems = Vec::new();
        (RawConfig::read(&sources, &mut problems), problems)
    }

    #[test]
    fn the_later_layer_wins_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.toml");
        std::fs::write(&path, "app.url = 'file'\napp.host = 'file'\nprefix = 'file'\n").unwrap();
        let (raw, problems) =
            read(Some(&path), &[("UPWARDEN_APP__URL", "env"), ("UPWARDEN_APP__HOST", "env")], &["app.url=set"]);
        assert_eq!(problems, []);
        let found = |key: &str| {
            let entry = raw.find(key).unwrap();
            (entry.value.as_text().unwrap().to_owned(), entry.source.clone())
        };
        assert_eq!(found("app.url"), ("set".to_owned(), Source::Set("app.url".to_owned())));
        assert_eq!(found("app.host"), ("env".to_owned(), Source::Variable("UPWARDEN_APP__HOST".to_owned())));
        assert_eq!(found("prefix"), ("file".to_owned(), Source::File { path, line: Some(3) }));
        assert!(raw.find("public_url").is_none());
    }

    #[test]
    fn the_variables_of_kubernetes_are_ignored() {
        let theirs = [
            ("UPWARDEN_PORT", "tcp://10.0.0.1:4180"),
            ("UPWARDEN_SERVICE_HOST", "10.0.0.1"),
            ("UPWARDEN_SERVICE_PORT", "4180"),
            ("UPWARDEN_SERVICE_PORT_HTTP", "4180"),
            ("UPWARDEN_PORT_4180_TCP", "tcp://10.0.0.1:4180"),
            ("UPWARDEN_PORT_4180_TCP_PROTO", "tcp"),
            ("UPWARDEN_PORT_4180_TCP_PORT", "4180"),
            ("UPWARDEN_PORT_4180_TCP_ADDR", "10.0.0.1"),
            ("UPWARDEN_ADMIN_SERVICE_HOST", "10.0.0.1"),
            ("UPWARDEN_ADMIN_PORT", "tcp://10.0.0.1:4182"),
            ("UPWARDEN_ADMIN_PORT_4182_TCP_ADDR", "10.0.0.1"),
            ("PATH", "/bin"),
        ];
        assert_eq!(read(None, &theirs, &[]).1, []);
    }

    #[test]
    fn other_unknown_variables_are_reported_with_the_nearest_key() {
        let (_, problems) =
            read(None, &[("UPWARDEN_UPWORK_CLIENT_ID", "x"), ("UPWARDEN_APP", "x"), ("UPWARDEN_PORT_X", "y")], &[]);
        assert_eq!(problems.len(), 3);
        assert!(problems[0].remedy.contains("UPWARDEN_UPWORK__CLIENT_ID"));
        assert!(problems[1].remedy.contains("UPWARDEN_APP__URL"));
    }

    #[test]
    fn a_setting_without_a_key_is_not_repeated() {
        let (_, problems) = read(None, &[], &["hunter2", "a b=c", "app.ulr=x"]);
        assert_eq!(problems.len(), 3);
        assert!(!format!("{problems:?}").contains("hunter2"));
        assert!(problems[2].remedy.contains("--set app.url=…"));
    }
}
