//! The lowest layer, the TOML file: the values of known keys with their lines, and problems for unknown ones.
//!
//! It never quotes a line of the file, which may contain a secret.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml_edit::{ImDocument, Item, TableLike};

use super::problem::{Problem, Source};
use super::schema;
use super::value::{Entry, Value};

/// The key of problems with the file as a whole.
pub(super) const WHOLE: &str = "(the whole file)";

pub(super) type Entries = BTreeMap<String, Entry>;

/// Reads the file; anything unreadable or unknown is added to `problems`.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Entries {
    match std::fs::read(path) {
        Ok(bytes) => parse(path, &bytes, problems),
        Err(error) => {
            let why = format!("the file cannot be read: {error}");
            problems.push(whole(path, None, why, "name an existing file that this user can read"));
            Entries::new()
        }
    }
}

pub(super) fn parse(path: &Path, bytes: &[u8], problems: &mut Vec<Problem>) -> Entries {
    let Ok(text) = std::str::from_utf8(bytes) else {
        problems.push(whole(path, None, "the file is not UTF-8".to_owned(), "save it as UTF-8"));
        return Entries::new();
    };
    match ImDocument::parse(text) {
        Ok(document) => {
            let mut reader = TableReader { text, path, entries: Entries::new(), problems };
            reader.table("", document.as_table());
            reader.entries
        }
        Err(error) => {
            let line = error.span().map(|span| line_at(text, &span));
            // The message alone: the error's Display quotes the line.
            let message = error.message().replace('\n', "; ");
            let why = format!("the file is not valid TOML: {message}");
            problems.push(whole(path, line, why, remedy_for(&message)));
            Entries::new()
        }
    }
}

fn remedy_for(message: &str) -> &'static str {
    if message.contains("duplicate key") {
        "write each key once, and the keys of a table in one way: all under its [header], or all with dots \
         (`upwork.client_id = …`) and no header"
    } else {
        "correct this line; texts need \"quotes\", lists [brackets]"
    }
}

fn whole(path: &Path, line: Option<usize>, why: String, remedy: &str) -> Problem {
    Problem::new(WHOLE, Source::File { path: path.to_owned(), line }, why, remedy)
}

fn line_at(text: &str, span: &Range<usize>) -> usize {
    text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1
}

struct TableReader<'a> {
    text: &'a str,
    path: &'a Path,
    entries: Entries,
    problems: &'a mut Vec<Problem>,
}

impl TableReader<'_> {
    fn table(&mut self, name: &str, table: &dyn TableLike) {
        for (last, item) in table.iter() {
            let key = if name.is_empty() { last.to_owned() } else { format!("{name}.{last}") };
            let span = table.get_key_value(last).and_then(|(key, _)| key.span()).or_else(|| item.span());
            let source = Source::File { path: self.path.to_owned(), line: span.map(|span| line_at(self.text, &span)) };
            // `'app.url'` is one name with a dot in it, not a path of two.
            let plain = !last.contains('.');
            match item.as_table_like() {
                _ if plain && schema::find(&key).is_some() => {
                    if let Some(value) = value(self.text, item) {
                        self.entries.insert(key, Entry { value, source });
                    }
                }
                Some(below) if plain && schema::is_table(&key) => self.table(&key, below),
                // Meant for the top level, but written after the header of a table.
                _ if plain && !name.is_empty() && !table.is_dotted() && is_top_level(last) => {
                    self.problems.push(Problem::misplaced(&key, last, name, source));
                }
                below => {
                    let nearest = below.filter(|_| plain).and_then(|_| schema::nearest_table(&key));
                    self.problems.push(match nearest {
                        Some(nearest) => Problem::unknown_table(&key, source, nearest),
                        None => Problem::unknown_key(&key, source, |known| format!("`{known}`")),
                    });
                }
            }
        }
    }
}

/// A key without a table, or the first part of one with a table.
fn is_top_level(name: &str) -> bool {
    schema::find(name).is_some() || schema::is_table(name)
}

fn value(text: &str, item: &Item) -> Option<Value> {
    match item {
        Item::None => None,
        Item::Value(value) => Some(inline(text, value)),
        Item::Table(table) => Some(map(text, table)),
        Item::ArrayOfTables(tables) => Some(Value::List(tables.iter().map(|table| map(text, table)).collect())),
    }
}

fn map(text: &str, table: &dyn TableLike) -> Value {
    Value::Table(table.iter().filter_map(|(name, item)| Some((name.to_owned(), value(text, item)?))).collect())
}

fn inline(text: &str, value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(string) => Value::Text(string.value().clone()),
        toml_edit::Value::Array(items) => Value::List(items.iter().map(|item| inline(text, item)).collect()),
        toml_edit::Value::InlineTable(table) => map(text, table),
        toml_edit::Value::Integer(_)
        | toml_edit::Value::Float(_)
        | toml_edit::Value::Boolean(_)
        | toml_edit::Value::Datetime(_) => {
            let written = value.span().and_then(|span| text.get(span)).unwrap_or_default();
            Value::Text(written.trim().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Entries, Vec<Problem>) {
        let mut problems = Vec::new();
        let entries = parse(Path::new("u.toml"), text.as_bytes(), &mut problems);
        (entries, problems)
    }

    #[test]
    fn every_scalar_keeps_the_text_that_was_written() {
        let text = "[upwork]\nclient_id = 00\n";
        assert!(parsed(text).1[0].why.contains("not valid TOML"));
        let (entries, problems) = parsed("upwork.client_secret = 1181921839933591552\nupwork.client_id = 1_0e5\n");
        assert!(problems.is_empty());
        assert_eq!(entries["upwork.client_secret"].value.as_text(), Some("1181921839933591552"));
        assert_eq!(entries["upwork.client_id"].value.as_text(), Some("1_0e5"));
    }

    #[test]
    fn each_key_has_its_line_in_every_notation() {
        let text = "# head\npublic_url = 'x'\napp.url = 'y'\n[session]\nkeys = [\n 'a',\n]\n[access.not_before]\n1 = 2020-01-01T00:00:00Z\n[[public.tls.certificates]]\ncert_file = 'c'\n";
        let (entries, problems) = parsed(text);
        assert_eq!(problems, []);
        for (key, line) in [
            ("public_url", 2),
            ("app.url", 3),
            ("session.keys", 5),
            ("access.not_before", 8),
            ("public.tls.certificates", 10),
        ] {
            assert_eq!(entries[key].source.to_string(), format!("u.toml:{line}"), "{key}");
        }
    }

    #[test]
    fn unknown_keys_are_reported_with_their_line_and_the_nearest_known_one() {
        let (_, problems) =
            parsed("\npublic_ulr = 'x'\n[upwork]\nclientid = 'secret-looking'\n[app.url]\nx = 1\n['app.url']\n");
        let found: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.source.to_string())).collect();
        assert_eq!(
            found,
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
    fn a_key_under_the_wrong_table_is_reported_with_its_place() {
        for (text, key, part) in [
            ("[upwork]\nclient_id = 'x'\npublic_url = 'y'\n", "upwork.public_url", "`public_url`"),
            ("[upwork]\nclient_id = 'x'\napp.url = 'y'\n", "upwork.app", "`app`"),
            ("[public.tls]\nprefix = '/x'\n", "public.tls.prefix", "`prefix`"),
        ] {
            let (_, problems) = parsed(text);
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, key), "{problems:?}");
            let table = key.rsplit_once('.').unwrap().0;
            assert!(problems[0].why.contains(&format!("is now part of [{table}]")), "{problems:?}");
            assert!(problems[0].remedy.contains(part) && problems[0].remedy.contains("above the first [table]"));
        }
        // Not after a header.
        assert!(parsed("upwork.public_url = 'y'\n").1[0].why.contains("no such key"));
    }

    #[test]
    fn a_table_after_dotted_keys_is_explained() {
        for text in [
            "upwork.client_id = 'x'\n[upwork]\nclient_secret = 'y'\n",
            "app.url = 'x'\napp.url = 'y'\n",
            "[app]\nurl = 'x'\n[app]\nhost = 'keep'\n",
        ] {
            let (_, problems) = parsed(text);
            assert_eq!((problems.len(), problems[0].key.as_str()), (1, WHOLE), "{problems:?}");
            assert!(problems[0].remedy.contains("write each key once"), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_broken_line_is_named_but_never_quoted() {
        let (_, problems) = parsed("public_url = 'x'\nupwork.client_secret = hunter2hunter2\n");
        assert_eq!(problems[0].source.to_string(), "u.toml:2");
        assert!(!problems[0].to_string().contains("hunter2"));
    }
}
