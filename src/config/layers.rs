//! File ← environment ← `--set`: three layers, merged by figment.
//!
//! In: a file, variables, settings. Out: for each known key its value as text and where it came from. Unknown keys
//! become problems here, before they are merged. It parses nothing and reads no environment of its own.

use std::path::Path;

use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::problem::{Problem, Source};
use super::{Sources, file, raw};

/// One layer, as figment wants it.
struct Layer {
    name: &'static str,
    values: Dict,
}

const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const SET: &str = "set";

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// The layers on top of each other.
#[derive(Debug)]
pub(super) struct Merged {
    figment: Figment,
    file: Option<file::File>,
}

impl Merged {
    /// Reads and merges the layers; unknown keys and unreadable files are added to `problems`.
    pub(super) fn new(sources: &Sources, problems: &mut Vec<Problem>) -> Self {
        let file = sources.file.as_deref().map(|path: &Path| file::read(path, problems));
        let environment = environment(&sources.env, problems);
        let set = settings(&sources.sets, problems);
        let values = file.as_ref().map(|file| file.values.clone()).unwrap_or_default();
        let figment = Figment::new()
            .merge(Layer { name: FILE, values })
            .merge(Layer { name: ENVIRONMENT, values: environment })
            .merge(Layer { name: SET, values: set });
        Self { figment, file }
    }

    /// The value of a key and where it came from; `None` where no layer gives it.
    pub(super) fn find(&self, key: &str) -> Option<(Value, Source)> {
        let value = self.figment.find_value(key).ok()?;
        let layer = self.layer(&value);
        let source = match layer {
            ENVIRONMENT => Source::Variable(raw::variable(key)),
            SET => Source::Set(key.to_owned()),
            _ => {
                let (path, line) = self
                    .file
                    .as_ref()
                    .map(|file| (file.path.clone(), file.lines.get(key).copied()))
                    .unwrap_or_default();
                Source::File { path, line }
            }
        };
        Some((value, source))
    }

    fn layer(&self, value: &Value) -> &str {
        self.figment.get_metadata(value.tag()).map_or(FILE, |metadata| metadata.name.as_ref())
    }

    /// Where a missing key was looked for.
    pub(super) fn nowhere(&self, key: &str) -> Source {
        Source::Nowhere { file: self.file.as_ref().map(|file| file.path.clone()), key: key.to_owned() }
    }
}

/// How far up a source lies: the higher wins.
pub(super) const fn height(source: &Source) -> u8 {
    match source {
        Source::Nowhere { .. } | Source::Default => 0,
        Source::File { .. } => 1,
        Source::Variable(_) => 2,
        Source::Set(_) => 3,
    }
}

/// Puts a value under a dotted key.
pub(super) fn insert(values: &mut Dict, key: &str, value: Value) {
    match key.split_once('.') {
        None => {
            values.insert(key.to_owned(), value);
        }
        Some((first, rest)) => {
            let below = values.entry(first.to_owned()).or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
            if let Value::Dict(_, below) = below {
                insert(below, rest, value);
            }
        }
    }
}

/// The problem of a key that does not exist; `spell` says how a known key is written in this layer.
pub(super) fn unknown(key: &str, source: Source, spell: impl Fn(&str) -> String) -> Problem {
    let (why, remedy) = if raw::is_group(key) {
        let below = raw::KEYS.iter().map(|known| known.name).filter(|known| known.starts_with(&format!("{key}.")));
        let below: Vec<_> = below.map(&spell).collect();
        ("this is a group of keys and takes no value of its own".to_owned(), format!("set one of {}", below.join(", ")))
    } else if raw::find(key).is_some() {
        let remedy = format!("write {} without quotes around the dots", spell(key));
        ("this name is quoted as a whole".to_owned(), remedy)
    } else {
        let remedy = match raw::nearest(key) {
            Some(known) => format!("did you mean {}? If not, remove it", spell(known)),
            None => "remove it; config.example.toml names every key".to_owned(),
        };
        ("there is no such key".to_owned(), remedy)
    };
    Problem { key: key.to_owned(), source, why, remedy }
}

/// The problem of a table that does not exist, where one is called nearly so.
pub(super) fn unknown_group(key: &str, source: Source, group: &str) -> Problem {
    let why = "there is no such table, so that all in it is left out".to_owned();
    Problem { key: key.to_owned(), source, why, remedy: format!("did you mean [{group}]? If not, remove it") }
}

fn environment(variables: &[(String, String)], problems: &mut Vec<Problem>) -> Dict {
    let mut values = Dict::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix("UPWARDEN_") else { continue };
        if is_service_variable(name, value) {
            continue;
        }
        let key = name.to_ascii_lowercase().replace("__", ".");
        let source = Source::Variable(variable.clone());
        if raw::find(&key).is_none() {
            problems.push(unknown(&key, source, raw::variable));
        } else if raw::variable(&key) != *variable {
            let remedy = format!("write {}", raw::variable(&key));
            problems.push(Problem { key, source, why: "this variable is written differently".to_owned(), remedy });
        } else if value.contains('\u{fffd}') {
            let (why, remedy) = ("the value is not UTF-8".to_owned(), "write it in UTF-8, or in a file".to_owned());
            problems.push(Problem { key, source, why, remedy });
        } else {
            insert(&mut values, &key, Value::from(value.clone()));
        }
    }
    values
}

/// Kubernetes puts variables for each service into every container: for one named `upwarden`, `UPWARDEN_PORT`,
/// `UPWARDEN_SERVICE_HOST`, `UPWARDEN_PORT_4180_TCP_ADDR` …; for `upwarden-x`, `UPWARDEN_X_SERVICE_HOST` … None of
/// them is a setting of ours, and none has two underscores in a row.
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

/// Splits `KEY=VALUE`; `None` where the text is not of that form.
pub fn split_setting(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once('=')?;
    let key = key.trim();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!key.is_empty() && key.bytes().all(plain)).then_some((key, value))
}

fn settings(sets: &[String], problems: &mut Vec<Problem>) -> Dict {
    let mut values = Dict::new();
    for (place, text) in sets.iter().enumerate() {
        match split_setting(text) {
            Some((key, value)) if raw::find(key).is_some() => insert(&mut values, key, Value::from(value.to_owned())),
            Some((key, _)) => {
                problems.push(unknown(key, Source::Set(key.to_owned()), |known| format!("--set {known}=…")));
            }
            // Not shown: it may be a secret whose key was forgotten.
            None => problems.push(Problem {
                key: "--set".to_owned(),
                source: Source::Set(format!("(number {})", place + 1)),
                why: "this is not KEY=VALUE".to_owned(),
                remedy: "write --set app.url=http://127.0.0.1:3000".to_owned(),
            }),
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(file: Option<&Path>, env: &[(&str, &str)], sets: &[&str]) -> (Merged, Vec<Problem>) {
        let sources = Sources {
            file: file.map(Path::to_owned),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            sets: sets.iter().map(|set| (*set).to_owned()).collect(),
            terminal: false,
        };
        let mut problems = Vec::new();
        (Merged::new(&sources, &mut problems), problems)
    }

    #[test]
    fn the_higher_layer_wins_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.toml");
        std::fs::write(&path, "app.url = 'file'\napp.host = 'file'\nprefix = 'file'\n").unwrap();
        let (merged, problems) =
            merged(Some(&path), &[("UPWARDEN_APP__URL", "env"), ("UPWARDEN_APP__HOST", "env")], &["app.url=set"]);
        assert_eq!(problems, []);
        let found = |key: &str| merged.find(key).map(|(value, source)| (value.into_string().unwrap(), source)).unwrap();
        assert_eq!(found("app.url"), ("set".to_owned(), Source::Set("app.url".to_owned())));
        assert_eq!(found("app.host"), ("env".to_owned(), Source::Variable("UPWARDEN_APP__HOST".to_owned())));
        assert_eq!(found("prefix"), ("file".to_owned(), Source::File { path, line: Some(3) }));
        assert!(merged.find("public_url").is_none());
    }

    #[test]
    fn kubernetes_own_variables_are_ignored() {
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
        assert_eq!(merged(None, &theirs, &[]).1, []);
    }

    #[test]
    fn other_variables_of_ours_are_refused_with_the_nearest() {
        let (_, problems) =
            merged(None, &[("UPWARDEN_UPWORK_CLIENT_ID", "x"), ("UPWARDEN_APP", "x"), ("UPWARDEN_PORT_X", "y")], &[]);
        assert_eq!(problems.len(), 3);
        assert!(problems[0].remedy.contains("UPWARDEN_UPWORK__CLIENT_ID"));
        assert!(problems[1].remedy.contains("UPWARDEN_APP__URL"));
    }

    #[test]
    fn a_setting_without_a_key_is_not_repeated() {
        let (_, problems) = merged(None, &[], &["hunter2", "a b=c", "app.ulr=x"]);
        assert_eq!(problems.len(), 3);
        assert!(!format!("{problems:?}").contains("hunter2"));
        assert!(problems[2].remedy.contains("--set app.url=…"));
    }
}
