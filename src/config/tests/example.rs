//! The example file and the reference, held against the table of keys.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;

/// The keys of the example, commented out or not, with the text of those that are in force.
fn example() -> (String, BTreeMap<String, Option<String>>) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml")).unwrap();
    let mut all = BTreeMap::new();
    let mut group = String::new();
    for line in text.lines() {
        let in_force = !line.starts_with('#');
        let setting = line.strip_prefix('#').unwrap_or(line);
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            group = format!("{name}.");
        } else if let Some((name, value)) = setting.split_once(" = ").filter(|_| !setting.starts_with(' ')) {
            all.insert(format!("{group}{name}"), in_force.then(|| value.trim_matches('"').to_owned()));
        }
    }
    (text, all)
}

#[test]
fn the_example_names_every_key_with_its_default_and_no_other() {
    let (_, all) = example();
    let known: Vec<_> = raw::KEYS.iter().map(|key| key.name.to_owned()).collect();
    let mut sorted = known.clone();
    sorted.sort();
    assert_eq!(all.keys().cloned().collect::<Vec<_>>(), sorted);
    for key in raw::KEYS {
        match (key.default, &all[key.name]) {
            // This one must be said, and has a sample.
            (Some(_), Some(_)) if key.name == "access.users" => {}
            (Some(default), Some(written)) => assert_eq!(default, written, "{}", key.name),
            (Some(_), None) => panic!("{} has a default and is commented out", key.name),
            (None, written) => {
                let required = ["public_url", "app.url", "upwork.client_id"].contains(&key.name);
                assert_eq!(written.is_some(), required, "{}", key.name);
            }
        }
    }
}

#[test]
fn the_reference_names_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let named: Vec<_> =
        text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |")).map(|row| row.0).collect();
    let mut listed: Vec<_> = named.into_iter().filter(|name| !name.contains(' ')).collect();
    let mut known: Vec<_> = raw::KEYS.iter().map(|key| key.name).collect();
    listed.sort_unstable();
    known.sort_unstable();
    assert_eq!(listed, known);
}

#[test]
fn the_example_loads_once_its_secrets_are_given_and_every_sample_is_toml() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let env = [("UPWARDEN_UPWORK__CLIENT_SECRET", "x"), ("UPWARDEN_SESSION__KEYS", KEY)];
    let config = load(&Sources { file: Some(path.clone()), ..sources(&env) });
    assert!(config.is_ok(), "{}", config.unwrap_err());
    assert_eq!(
        keys(load(&Sources { file: Some(path.clone()), ..Sources::default() })),
        ["upwork.client_secret", "session.keys"]
    );

    let (text, _) = example();
    let in_force: Vec<_> =
        text.lines().map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line)).collect();
    let mut problems = Vec::new();
    file::parse(&path, in_force.join("\n").as_bytes(), &mut problems);
    assert_eq!(problems, []);
}
