//! The merged layers, read key by key.
//!
//! In: the layers. Out: a value for each key asked for, or `None` with the reason among the problems: who reads goes
//! on to the next key, so that every problem is told at once. Files are read only for secrets. It never puts the
//! value of a secret into a problem.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use figment::value::Value;

use super::layers::{Merged, height};
use super::problem::{Problem, Source};
use super::raw::{self, Kind};
use super::values::{self, Bad};
use crate::secret::Secret;

/// Reads keys and gathers problems.
pub(super) struct Reader {
    merged: Merged,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
    /// The keys that were asked for; a test holds them against the table.
    #[cfg(test)]
    pub(super) asked: std::collections::BTreeSet<String>,
}

impl Reader {
    /// Reads from these layers; `problems` are those of the layers themselves.
    pub(super) fn new(merged: Merged, problems: Vec<Problem>) -> Self {
        Self {
            merged,
            problems,
            #[cfg(test)]
            asked: std::collections::BTreeSet::new(),
        }
    }

    /// True where some layer gives this key.
    pub(super) fn given(&self, key: &str) -> bool {
        self.merged.find(key).is_some()
    }

    /// Adds a problem of this key, at the place where its value stands.
    pub(super) fn problem(&mut self, key: &str, why: impl Into<String>, remedy: impl Into<String>) {
        let default = raw::find(key).is_some_and(|key| key.default.is_some());
        let source = match self.merged.find(key) {
            Some((_, source)) => source,
            None if default => Source::Default,
            None => self.merged.nowhere(key),
        };
        self.problems.push(Problem { key: key.to_owned(), source, why: why.into(), remedy: remedy.into() });
    }

    /// Adds the problem that this key is missing.
    pub(super) fn missing(&mut self, key: &str, remedy: impl Into<String>) {
        let source = self.merged.nowhere(key);
        let why = "it must be set".to_owned();
        self.problems.push(Problem { key: key.to_owned(), source, why, remedy: remedy.into() });
    }

    fn value(&mut self, key: &str) -> Option<Value> {
        #[cfg(test)]
        self.asked.insert(key.to_owned());
        let default = || raw::find(key).and_then(|key| key.default).map(Value::from);
        self.merged.find(key).map(|(value, _)| value).or_else(default)
    }

    /// A problem of a value, with the value where it may be shown.
    fn bad(&mut self, key: &str, text: &str, bad: Bad) {
        let secret = raw::find(key).is_none_or(|key| key.kind.is_secret());
        let value = if secret { "the value (not shown)".to_owned() } else { values::shown(text) };
        self.problem(key, format!("{value} {}", bad.why), bad.remedy);
    }

    /// The text of a key; `None` where it is not set, or is no single, non-empty text, which is a problem.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.as_str().map(str::trim) {
            Some("") => self.problem(key, "it is empty", "give it a value, or remove it"),
            Some(text) => return Some(text.to_owned()),
            None => self.problem(key, "a single value is wanted here, not a list or a table", "write one value"),
        }
        None
    }

    /// The text of a key, read by `parse`.
    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl FnOnce(&str) -> Result<T, Bad>) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|bad| self.bad(key, &text, bad)).ok()
    }

    /// A switch.
    pub(super) fn switch(&mut self, key: &str) -> Option<bool> {
        self.parsed(key, values::switch)
    }

    /// A duration above zero.
    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        self.parsed(key, values::positive_duration)
    }

    /// A whole number of at least 1.
    pub(super) fn count<T: TryFrom<u64>>(&mut self, key: &str, most: u64) -> Option<T> {
        self.parsed(key, |text| values::count(text, 1, most))
    }

    /// A path; it need not exist.
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// The texts of a list, each not empty.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.value(key)?;
        let text = value.as_str().unwrap_or("the value").to_owned();
        let items = values::list(&value).map_err(|bad| self.bad(key, &text, bad)).ok()?;
        if items.iter().any(|item| item.trim().is_empty()) {
            self.problem(key, "it holds an empty text", "remove the empty one");
            return None;
        }
        Some(items)
    }

    /// The texts of a list, each read by `parse`.
    pub(super) fn parsed_list<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<Vec<T>> {
        let items = self.list(key)?;
        let read: Vec<_> =
            items.iter().filter_map(|item| parse(item).map_err(|bad| self.bad(key, item, bad)).ok()).collect();
        (read.len() == items.len()).then_some(read)
    }

    /// The entries of a map of texts; empty where it is not set.
    pub(super) fn map(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        let Some(value) = self.value(key) else { return Some(BTreeMap::new()) };
        let value = self.structured(key, value)?;
        self.entries(key, value)
    }

    /// The tables of a list of tables; empty where it is not set.
    pub(super) fn tables(&mut self, key: &str) -> Option<Vec<BTreeMap<String, String>>> {
        let Some(value) = self.value(key) else { return Some(Vec::new()) };
        let Value::Array(_, tables) = self.structured(key, value)? else {
            self.problem(key, "a list of tables is wanted here", "write [{ … }], or JSON in the environment");
            return None;
        };
        tables.into_iter().map(|table| self.entries(key, table)).collect()
    }

    /// A value that is JSON where it comes as one text.
    fn structured(&mut self, key: &str, value: Value) -> Option<Value> {
        match value {
            Value::String(_, text) => values::json(&text).map_err(|bad| self.bad(key, &text, bad)).ok(),
            value => Some(value),
        }
    }

    fn entries(&mut self, key: &str, value: Value) -> Option<BTreeMap<String, String>> {
        let entries = value
            .into_dict()
            .and_then(|entries| entries.into_iter().map(|(name, value)| Some((name, value.into_string()?))).collect());
        if entries.is_none() {
            self.problem(
                key,
                "texts by name are wanted here",
                "write { \"name\" = \"text\" }, or JSON in the environment",
            );
        }
        entries
    }

    /// Which of two keys that say the same thing counts: the higher layer's. `None` where neither is given, or both in
    /// one layer, which is a problem.
    pub(super) fn pick<'k>(&mut self, value: &'k str, file: &'k str) -> Option<&'k str> {
        #[cfg(test)]
        self.asked.extend([value.to_owned(), file.to_owned()]);
        let level = |key| self.merged.find(key).map_or(0, |(_, source)| height(&source));
        match level(value).cmp(&level(file)) {
            std::cmp::Ordering::Less => Some(file),
            std::cmp::Ordering::Greater => Some(value),
            std::cmp::Ordering::Equal if level(value) == 0 => None,
            std::cmp::Ordering::Equal => {
                self.problem(
                    value,
                    format!("it is given here and by {file}"),
                    format!("keep {value} or {file}, not both"),
                );
                None
            }
        }
    }

    /// A secret, from `key` or from the file that `key_file` names. `None` where neither is given or something is
    /// wrong with it.
    pub(super) fn secret(&mut self, key: &str) -> Option<Secret> {
        debug_assert!(raw::find(key).is_some_and(|key| key.kind == Kind::Secret), "{key}");
        let file = format!("{key}_file");
        let picked = self.pick(key, &file)?;
        if picked == key {
            return self.written_secret(key);
        }
        let path = self.path(&file)?;
        self.secret_file(&file, &path)
    }

    /// Blanks at the ends of a secret are its own.
    fn written_secret(&mut self, key: &str) -> Option<Secret> {
        self.text(key)?;
        self.value(key)?.as_str().map(Secret::new)
    }

    /// What a secret's file holds, without one final line break (LF or CRLF).
    pub(super) fn secret_file(&mut self, key: &str, path: &std::path::Path) -> Option<Secret> {
        let shown = path.display();
        let text = match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => {
                self.problem(key, format!("{shown} is not text in UTF-8"), "put the secret there as plain text");
                return None;
            }
            Err(error) => {
                let remedy = "make the file, or let this user read it; the path is taken from the working directory";
                self.problem(key, format!("{shown} cannot be read: {error}"), remedy);
                return None;
            }
        };
        let text = zeroize::Zeroizing::new(text);
        let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        if line.trim().is_empty() {
            self.problem(key, format!("{shown} is empty"), "put the secret into it");
            return None;
        }
        Some(Secret::new(line))
    }

    /// The path of a CA's certificate, which can be read; `None` where it is not set or something is wrong with it.
    pub(super) fn ca_file(&mut self, key: &str) -> Option<PathBuf> {
        let path = self.path(key)?;
        let why = match std::fs::read_to_string(&path) {
            Ok(text) if text.contains("-----BEGIN CERTIFICATE-----") => return Some(path),
            Ok(_) => format!("{} holds no certificate", path.display()),
            Err(error) => format!("{} cannot be read: {error}", path.display()),
        };
        self.problem(key, why, "name a PEM file with the CA's certificate, which this user may read");
        None
    }
}
