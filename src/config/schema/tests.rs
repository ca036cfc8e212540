use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::*;

const EXAMPLE: &str = "\
# Every key of upwarden. A key in force has its default, or a sample if it is required; the others, behind a single #,
# have a sample.
#
# Each key can also come from the environment (UPWARDEN_UPWORK__CLIENT_ID=…, lists as JSON or separated by commas) and from
# the command line (--set upwork.client_id=…). The command line wins over the environment, the environment over this file.
# Each secret can come from a file (…_file). Relative paths start at the working directory.
# Durations: \"500ms\", \"10s\", \"5m\", \"1h\", \"14d\". Sizes: \"64KiB\", \"1MiB\", \"2GiB\", or a number of bytes.
# `upwarden check` reports everything that is wrong.
#
# This file is generated from src/config/schema/keys.rs.
";

const GENERATED: &str = "<!-- From here on generated from src/config/schema/keys.rs. -->\n";

/// `a.b` and `c` of `a.b.c`.
fn split(name: &'static str) -> (&'static str, &'static str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

fn tables() -> impl Iterator<Item = (&'static str, &'static [Key])> {
    KEYS.chunk_by(|one, next| split(one.name).0 == split(next.name).0).map(|keys| (split(keys[0].name).0, keys))
}

fn example() -> String {
    let mut text = EXAMPLE.to_owned();
    for (table, keys) in tables() {
        text.push('\n');
        if !table.is_empty() {
            writeln!(text, "[{table}]").unwrap();
        }
        for key in keys {
            let mut line = String::from("#");
            for word in key.about.split(' ') {
                if line.len() + word.len() > 118 {
                    writeln!(text, "{line}").unwrap();
                    line = String::from("#");
                }
                line = format!("{line} {word}");
            }
            let off = if matches!(key.unset, Unset::Optional(_)) { "#" } else { "" };
            writeln!(text, "{line}\n{off}{} = {}", split(key.name).1, key.toml()).unwrap();
        }
    }
    text
}

fn reference() -> String {
    let mut text = GENERATED.to_owned();
    for (table, keys) in tables() {
        let heading = if table.is_empty() { "Top level" } else { table };
        writeln!(text, "\n## {heading}\n\n| key | type | default | |\n|---|---|---|---|").unwrap();
        for key in keys {
            let kind = match key.kind {
                Kind::Text => "text",
                Kind::Number => "number",
                Kind::Switch => "boolean",
                Kind::Duration => "duration",
                Kind::Size => "size",
                Kind::Secret => "secret",
                Kind::List => "list",
                Kind::Secrets => "list of secrets",
                Kind::Map => "map",
                Kind::Tables => "list of tables",
            };
            let default = match key.unset {
                Unset::Default(_) => format!("`{}`", key.toml()),
                Unset::Required(_) => "required".to_owned(),
                Unset::Optional(_) => String::new(),
            };
            writeln!(text, "| `{}` | {kind} | {default} | {} |", key.name, key.about).unwrap();
        }
    }
    text
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares a file with its generated content, or writes it.
fn is_generated(name: &str, content: &str) {
    #[expect(clippy::disallowed_methods, reason = "a switch of this test, not of the product")]
    let update = std::env::var("UPWARDEN_UPDATE").is_ok();
    if update {
        std::fs::write(path(name), content).unwrap();
    }
    let written = std::fs::read_to_string(path(name)).unwrap();
    let differs = written.lines().zip(content.lines()).find(|(one, other)| one != other);
    assert!(
        written == content,
        "{name} is not what src/config/schema/keys.rs generates; `UPWARDEN_UPDATE=1 cargo test --lib config::schema` \
         writes it. First difference (written, generated): {differs:#?}"
    );
}

#[test]
fn the_example_and_the_reference_are_generated_from_the_keys() {
    is_generated("config.example.toml", &example());
    let reference_file = "docs/configuration.md";
    let written = std::fs::read_to_string(path(reference_file)).unwrap();
    let (prose, _) = written.split_once(GENERATED).expect("the line that says where the generated part begins");
    is_generated(reference_file, &format!("{prose}{}", reference()));
}

#[test]
fn every_default_and_every_sample_is_toml() {
    let text = example();
    let in_force = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned();
    let text: Vec<_> = text.lines().map(in_force).collect();
    let document = toml_edit::ImDocument::parse(text.join("\n")).unwrap();
    for key in KEYS {
        let value = key.name.split('.').try_fold(document.as_item(), |table, name| table.get(name));
        assert!(value.is_some_and(toml_edit::Item::is_value), "{}", key.name);
    }
}

#[test]
fn every_secret_can_also_come_from_a_file() {
    for key in KEYS.iter().filter(|key| key.kind == Kind::Secret) {
        assert!(find(&format!("{}_file", key.name)).is_some(), "{}", key.name);
    }
}

#[test]
fn a_misspelled_name_finds_its_key() {
    assert_eq!(nearest("upwork.cleint_id"), Some("upwork.client_id"));
    assert_eq!(nearest("upwork_client_id"), Some("upwork.client_id"));
    assert_eq!(nearest("client_id"), Some("upwork.client_id"));
    assert_eq!(nearest("upwork.secret"), Some("upwork.client_secret"));
    assert_eq!(nearest("publicurl"), Some("public_url"));
    assert_eq!(nearest("session.keyfiles"), Some("session.key_files"));
    assert_eq!(nearest("zzzzzz"), None);
    assert_eq!((nearest_table("acces"), nearest_table("public.limit")), (Some("access"), Some("public.limits")));
    assert_eq!((nearest_table("applications"), nearest_table("zz")), (None, None));
}

#[test]
fn no_key_and_no_table_is_listed_twice_and_no_key_is_a_table() {
    for (place, key) in KEYS.iter().enumerate() {
        assert!(!is_table(key.name), "{}", key.name);
        assert!(KEYS.iter().skip(place + 1).all(|other| other.name != key.name), "{}", key.name);
    }
    let mut names: Vec<_> = tables().map(|(table, _)| table).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "the keys of a table stand together");
}
