//! The lowest layer: the TOML file.
//!
//! In: a path. Out: the values under known keys, every scalar as the text that stands in the file (so that a long id
//! or a secret of digits never becomes a number), and the line of each key. Unknown keys become problems. It never
//! quotes a line of the file, since that line may hold a secret.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Tag, Value};
use toml_edit::{ImDocument, Item, TableLike};

use super::problem::{Problem, Source};
use super::{layers, raw};

/// The key of problems that are about the file as a whole.
pub(super) const WHOLE: &str = "(the whole file)";

/// What the file said.
#[derive(Debug, Default)]
pub(super) struct File {
    /// Its path as given.
    pub(super) path: PathBuf,
    /// The values under known keys.
    pub(super) values: Dict,
    /// The line of each known key, from 1.
    pub(super) lines: BTreeMap<String, usize>,
}

/// Reads the file; what cannot be read or is not known is added to `problems`.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> File {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes, problems),
        Err(error) => {
            problems.push(whole(
                path,
                None,
                format!("the file cannot be read: {error}"),
                "name a file that exists and that this user may read",
            ));
            File { path: path.to_owned(), ..File::default() }
        }
    }
}

/// Reads the file's bytes.
pub(super) fn parse(path: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> File {
    let mut file = File { path: path.to_owned(), ..File::default() };
    let Ok(text) = std::str::from_utf8(bytes) else {
        problems.push(whole(path, None, "the file is not UTF-8".to_owned(), "save it as UTF-8"));
        return file;
    };
    match ImDocument::parse(text) {
        Ok(document) => {
            let mut reader = Reader { text, file: &mut file, problems };
            reader.table("", document.as_table());
        }
        Err(error) => {
            let line = error.span().map(|span| line_at(text, &span));
            // The message alone: the error's Display quotes the line.
            let why = format!("the file is not TOML: {}", error.message().replace('\n', "; "));
            problems.push(whole(path, line, why, "correct this line; texts stand in \"quotes\", lists in [brackets]"));
        }
    }
    file
}

fn whole(path: &Path, line: Option<usize>, why: String, remedy: &str) -> Problem {
    let source = Source::File { path: path.to_owned(), line };
    Problem { key: WHOLE.to_owned(), source, why, remedy: remedy.to_owned() }
}

fn line_at(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

struct Reader<'a> {
    text: &'a str,
    file: &'a mut File,
    problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    fn table(&mut self, path: &str, table: &dyn TableLike) {
        for (name, item) in table.iter() {
            let key = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
            let line = span.map(|span| line_at(self.text, &span));
            // A name with a dot in it would look like a path of two.
            let known = !name.contains('.');
            match item.as_table_like() {
                _ if known && raw::find(&key).is_some() => {
                    if let Some(value) = value(self.text, item) {
                        layers::insert(&mut self.file.values, &key, value);
                        self.file.lines.extend(line.map(|line| (key, line)));
                    }
                }
                Some(below) if known && raw::is_group(&key) => self.table(&key, below),
                below => {
                    let source = Source::File { path: self.file.path.clone(), line };
                    let group = below.filter(|_| known).and_then(|_| raw::nearest_group(&key));
                    self.problems.push(match group {
                        Some(group) => layers::unknown_group(&key, source, group),
                        None => layers::unknown(&key, source, |known| format!("`{known}`")),
                    });
                }
            }
        }
    }
}

fn value(text: &str, item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(scalar) => Some(inline(text, scalar)),
        Item::Table(table) => Some(named(text, table)),
        Item::ArrayOfTables(tables) => {
            Some(Value::Array(Tag::Default, tables.iter().map(|table| named(text, table)).collect()))
        }
    }
}

fn named(text: &str, table: &dyn TableLike) -> Value {
    let entries = table.iter().filter_map(|(name, item)| Some((name.to_owned(), value(text, item)?)));
    Value::Dict(Tag::Default, entries.collect())
}

fn inline(text: &str, value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(string) => Value::from(string.value().clone()),
        toml_edit::Value::Array(items) => {
            Value::Array(Tag::Default, items.iter().map(|item| inline(text, item)).collect())
        }
        toml_edit::Value::InlineTable(table) => named(text, table),
        scalar => {
            let written = scalar.span().and_then(|span| text.get(span)).unwrap_or_default();
            Value::from(written.trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (File, Vec<Problem>) {
        let mut problems = Vec::new();
        let file = parse(Path::new("u.toml"), text.as_bytes(), &mut problems);
        (file, problems)
    }

    #[test]
    fn every_scalar_stays_the_text_that_was_written() {
        let text = "[upwork]\nclient_id = 00\n";
        assert!(parsed(text).1[0].why.contains("not TOML"));
        let (file, problems) = parsed("upwork.client_secret = 1181921839933591552\nupwork.client_id = 1_0e5\n");
        assert!(problems.is_empty());
        let upwork = &file.values["upwork"].as_dict().unwrap().clone();
        assert_eq!(upwork["client_secret"].as_str(), Some("1181921839933591552"));
        assert_eq!(upwork["client_id"].as_str(), Some("1_0e5"));
    }

    #[test]
    fn each_key_has_its_line_in_every_spelling() {
        let text = "# head\npublic_url = 'x'\napp.url = 'y'\n[session]\nkeys = [\n 'a',\n]\n[access.not_before]\n1 = 2020-01-01T00:00:00Z\n[[public.tls.certificates]]\ncert_file = 'c'\n";
        let (file, problems) = parsed(text);
        assert_eq!(problems, []);
        let line = |key: &str| file.lines.get(key).copied();
        assert_eq!(line("public_url"), Some(2));
        assert_eq!(line("app.url"), Some(3));
        assert_eq!(line("session.keys"), Some(5));
        assert_eq!(line("access.not_before"), Some(8));
        assert_eq!(line("public.tls.certificates"), Some(10));
    }

    #[test]
    fn unknown_keys_are_told_with_their_line_and_the_nearest_known_one() {
        let (_, problems) =
            parsed("\npublic_ulr = 'x'\n[upwork]\nclientid = 'secret-looking'\n[app.url]\nx = 1\n['app.url']\n");
        let told: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.source.to_string())).collect();
        assert_eq!(
            told,
            [
                ("public_ulr", "u.toml:2".to_owned()),
                ("upwork.clientid", "u.toml:4".to_owned()),
                ("app.url", "u.toml:7".to_owned())
            ]
        );
        assert!(problems[0].remedy.contains("`public_url`"));
        assert!(problems[1].remedy.contains("`upwork.client_id`"));
        assert!(!format!("{problems:?}").contains("secret-looking"));
    }

    #[test]
    fn a_broken_line_is_named_but_never_quoted() {
        let (_, problems) = parsed("public_url = 'x'\nupwork.client_secret = hunter2hunter2\n");
        assert_eq!(problems[0].source.to_string(), "u.toml:2");
        assert!(!problems[0].to_string().contains("hunter2"));
    }
}
