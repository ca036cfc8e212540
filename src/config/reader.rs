//! Reads the keys of a [`RawConfig`] one by one and collects what is wrong with them.
//!
//! Each method returns the value, or `None` if the key is not set or is wrong; the caller continues with the next key,
//! so that every problem is reported at once. Only the files of secrets and CAs are read. A problem never contains a
//! secret.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::parse::{self, ValueError};
use super::problem::{Problem, Source};
use super::raw::{self, Fingerprints, RawConfig};
use super::schema::{self, Kind, Unset};
use super::value::Value;
use crate::secret::Secret;

pub(super) struct Reader {
    raw: RawConfig,
    pub(super) problems: Vec<Problem>,
    /// Values that are valid but probably not intended.
    pub(super) warnings: Vec<Problem>,
    /// The files of secrets that were read, each with its key.
    pub(super) secret_files: Vec<(String, PathBuf)>,
    /// Fingerprints of the secret and CA files.
    contents: Fingerprints,
    pub(super) files: Vec<PathBuf>,
}

impl Reader {
    /// `problems`: those found while reading the layers.
    pub(super) fn new(raw: RawConfig, problems: Vec<Problem>) -> Self {
        Self {
            raw,
            problems,
            warnings: Vec::new(),
            secret_files: Vec::new(),
            contents: Fingerprints::new(),
            files: Vec::new(),
        }
    }

    pub(super) fn given(&self, key: &str) -> bool {
        self.raw.find(key).is_some()
    }

    /// The one of `key` and `key_file` that is set.
    pub(super) fn given_secret(&self, key: &str) -> Option<String> {
        [key.to_owned(), format!("{key}_file")].into_iter().find(|key| self.given(key))
    }

    pub(super) fn problem(&mut self, key: &str, why: impl Into<String>, remedy: impl Into<String>) {
        let problem = Problem::new(key, self.source(key), why, remedy);
        self.problems.push(problem);
    }

    /// Adds a warning: the value is valid but probably not intended. `upwarden check --strict` refuses it.
    pub(super) fn warn(&mut self, key: &str, why: impl Into<String>, remedy: impl Into<String>) {
        let warning = Problem::new(key, self.source(key), why, remedy);
        self.warnings.push(warning);
    }

    fn source(&self, key: &str) -> Source {
        let default = schema::find(key).is_some_and(|key| key.default().is_some());
        match self.raw.find(key) {
            Some(entry) => entry.source.clone(),
            None if default => Source::Default,
            None => self.raw.missing(key),
        }
    }

    /// A fingerprint of each key that a layer sets, and of the file that it names, to find later which have changed.
    pub(super) fn fingerprints(&self) -> Fingerprints {
        let mut fingerprints = self.raw.fingerprints();
        for (key, content) in &self.contents {
            fingerprints.entry(key.clone()).and_modify(|known| *known = known.rotate_left(1) ^ content);
        }
        fingerprints
    }

    fn seen(&mut self, key: &str, path: &Path, content: &[u8]) {
        self.files.push(path.to_owned());
        self.contents.insert(key.to_owned(), raw::fingerprint(content));
    }

    pub(super) fn missing(&mut self, key: &str, remedy: impl Into<String>) {
        let source = self.raw.missing(key);
        self.problems.push(Problem::new(key, source, "this key is required", remedy));
    }

    fn value(&self, key: &str) -> Option<Value> {
        debug_assert!(schema::find(key).is_some(), "{key} is not in the schema");
        let default = || Some(Value::Text(schema::find(key)?.default()?.to_owned()));
        self.raw.find(key).map(|entry| entry.value.clone()).or_else(default)
    }

    /// A problem with a value, whose text is shown unless it is secret.
    fn invalid(&mut self, key: &str, text: Option<&str>, error: ValueError) {
        let text = text.filter(|_| schema::find(key).is_some_and(|key| !key.kind.is_secret()));
        let value = text.map_or_else(|| "the value (not shown)".to_owned(), parse::shown);
        self.problem(key, format!("{value} {}", error.why), error.remedy);
    }

    /// A single, non-empty text.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let Some(value) = self.value(key) else {
            let known = schema::find(key).filter(|key| matches!(key.unset, Unset::Required(_)));
            if let Some(known) = known {
                self.missing(key, format!("set {key} = {}: {}", known.toml(), known.about));
            }
            return None;
        };
        match value.as_text().map(str::trim) {
            Some("") => self.problem(key, "it is empty", "give it a value, or remove it"),
            Some(text) => return Some(text.to_owned()),
            None => self.problem(key, "it must be a single value, not a list or a table", "write one value"),
        }
        None
    }

    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|error| self.invalid(key, Some(&text), error)).ok()
    }

    /// A key that has a default, read by `parse`. If the value is wrong, a placeholder takes its place: a configuration with
    /// a problem is never used.
    pub(super) fn defaulted<T: Default>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, ValueError>) -> T {
        debug_assert!(schema::find(key).is_some_and(|key| key.default().is_some()), "{key} has no default");
        self.parsed(key, parse).unwrap_or_default()
    }

    pub(super) fn switch(&mut self, key: &str) -> bool {
        self.defaulted(key, parse::switch)
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, key: &str) -> Duration {
        self.defaulted(key, parse::positive_duration)
    }

    /// A whole number from 1.
    pub(super) fn count<T: TryFrom<u64> + Default>(&mut self, key: &str, most: u64) -> T {
        self.defaulted(key, |text| parse::count(text, 1, most))
    }

    /// A path; it need not exist.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// A list of non-empty texts; empty if it is not set.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let items = value.to_list().map_err(|error| self.invalid(key, value.as_text(), error)).ok()?;
        if items.iter().any(|item| item.trim().is_empty()) {
            self.problem(key, "it contains an empty text", "remove the empty text");
            return None;
        }
        Some(items)
    }

    pub(super) fn parsed_list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, ValueError>,
    ) -> Option<Vec<T>> {
        let items = self.list(key)?;
        let parsed =
            items.iter().filter_map(|item| parse(item).map_err(|error| self.invalid(key, Some(item), error)).ok());
        let parsed: Vec<_> = parsed.collect();
        (parsed.len() == items.len()).then_some(parsed)
    }

    /// Texts by name; empty if it is not set.
    pub(super) fn map(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        let Some(value) = self.value(key) else { return Some(BTreeMap::new()) };
        let value = self.structured(key, value)?;
        self.entries(key, value)
    }

    /// A list of tables of texts; empty if it is not set.
    pub(super) fn tables(&mut self, key: &str) -> Option<Vec<BTreeMap<String, String>>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let Value::List(tables) = self.structured(key, value)? else {
            self.problem(key, "it must be a list of tables", "write [{ … }], or JSON in the environment");
            return None;
        };
        tables.into_iter().map(|table| self.entries(key, table)).collect()
    }

    /// A list of tables of any values; empty if it is not set.
    pub(super) fn tables_of_values(&mut self, key: &str) -> Option<Vec<BTreeMap<String, Value>>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let value = self.structured(key, value)?;
        let tables = match value {
            Value::List(items) => items.into_iter().map(Value::into_table).collect(),
            Value::Text(_) | Value::Table(_) => None,
        };
        if tables.is_none() {
            self.problem(key, "it must be a list of tables", format!("write [[{key}]], or JSON in the environment"));
        }
        tables
    }

    /// A value that may also be written as JSON in a single text.
    fn structured(&mut self, key: &str, value: Value) -> Option<Value> {
        match value {
            Value::Text(text) => Value::from_json(&text).map_err(|error| self.invalid(key, Some(&text), error)).ok(),
            value @ (Value::List(_) | Value::Table(_)) => Some(value),
        }
    }

    fn entries(&mut self, key: &str, value: Value) -> Option<BTreeMap<String, String>> {
        let entries = value.into_map();
        if entries.is_none() {
            let remedy = "write { \"name\" = \"text\" }, or JSON in the environment";
            self.problem(key, "it must be a table of texts", remedy);
        }
        entries
    }

    /// Which of two keys with the same meaning applies: the one in the later layer. `None` if neither is set, or if
    /// both are set in one layer, which is a problem.
    pub(super) fn pick<'k>(&mut self, value: &'k str, file: &'k str) -> Option<&'k str> {
        let layer = |key| self.raw.find(key).map_or(0, |entry| entry.source.layer());
        match layer(value).cmp(&layer(file)) {
            Ordering::Less => Some(file),
            Ordering::Greater => Some(value),
            Ordering::Equal if layer(value) == 0 => None,
            Ordering::Equal => {
                let remedy = format!("keep either {value} or {file}");
                self.problem(value, format!("{file} is set as well"), remedy);
                None
            }
        }
    }

    /// A secret, from `key` or from the file that `key_file` names.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        debug_assert!(schema::find(key).is_some_and(|key| key.kind == Kind::Secret), "{key} is not a secret");
        let file = format!("{key}_file");
        if self.pick(key, &file)? == key {
            self.text(key)?;
            // Leading and trailing blanks are part of a secret.
            return self.value(key)?.as_text().map(Secret::new);
        }
        let path = self.path(&file)?;
        self.secret_file(&file, &path)
    }

    /// The content of a secret's file, without one final line break (LF or CRLF).
    fn secret_file(&mut self, key: &str, path: &Path) -> Option<Secret> {
        let shown = path.display();
        self.secret_files.push((key.to_owned(), path.to_owned()));
        let text = match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => zeroize::Zeroizing::new(text),
            Ok(Err(_)) => {
                self.problem(key, format!("{shown} is not UTF-8 text"), "store the secret there as plain text");
                return None;
            }
            Err(error) => {
                let remedy = "create the file, or let this user read it; relative paths start at the working directory";
                self.problem(key, format!("{shown} cannot be read: {error}"), remedy);
                return None;
            }
        };
        self.seen(key, path, text.as_bytes());
        let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if line.trim().is_empty() {
            self.problem(key, format!("{shown} is empty"), "write the secret into it");
            return None;
        }
        Some(Secret::new(line))
    }

    /// The content of a file of at most this size.
    pub(super) fn file(&mut self, key: &str, path: &Path, max_size: usize) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let read = File::open(path).and_then(|file| file.take(max_size as u64 + 1).read_to_end(&mut content));
        let why = match read {
            Ok(size) if size <= max_size => {
                self.seen(key, path, &content);
                return Some(content);
            }
            Ok(_) => format!("{} is larger than {} KiB", path.display(), max_size >> 10),
            Err(error) => format!("{} cannot be read: {error}", path.display()),
        };
        self.problem(key, why, "name a smaller file that this user can read");
        None
    }

    /// The path of a CA certificate that can be read.
    pub(super) fn ca_file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let why = match std::fs::read_to_string(&path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => {
                self.seen(key, &path, text.as_bytes());
                return Some(path);
            }
            Ok(_) => format!("{} contains no certificate", path.display()),
            Err(error) => format!("{} cannot be read: {error}", path.display()),
        };
        self.problem(key, why, "name a PEM file with the CA's certificate that this user can read");
        None
    }
}
