//! The reference and the errors in the docs, checked against the code and the built program.

use std::collections::BTreeSet;
use std::process::Command;

use super::{files, read, words};

#[test]
fn the_reference_names_every_command_flag_and_exit_code() {
    let text = read("docs/reference.md");
    let documented: BTreeSet<(String, BTreeSet<String>)> = rows(&text, "Commands")
        .map(|cells| (code(&cells[0]).concat(), code(&cells[2])))
        .map(|(command, flags)| (command.replace("upwarden ", ""), flags.into_iter().collect()))
        .collect();
    let help = upwarden(&["--help"]);
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let commands = commands.lines().take_while(|line| !line.is_empty()).filter_map(|line| words(line).next());
    let known: BTreeSet<(String, BTreeSet<String>)> =
        commands.filter(|name| *name != "help").map(|name| (name.to_owned(), flags(name))).collect();
    assert!(known.len() > 5, "{known:?}");
    assert_eq!(documented, known, "left: docs/reference.md, right: the help");

    let (_, said) = help.split_once("Exit codes:").expect("exit codes");
    let numbers = |text: &str| words(text).filter_map(|word| word.parse::<u8>().ok()).collect::<BTreeSet<_>>();
    let said = numbers(said.lines().next().unwrap_or_default());
    let listed: BTreeSet<u8> = rows(&text, "Exit codes").flat_map(|cells| numbers(&cells[0])).collect();
    assert_eq!(listed, said, "left: docs/reference.md, right: the help");
}

#[test]
fn the_reference_names_every_path_of_ours() {
    let router = read("src/router/mod.rs");
    let (router, _) = router.split_once("#[cfg(test)]").expect("tests at the end");
    let ours = |text: &str| ["/auth", "/api/", "/graphql"].iter().any(|start| text.starts_with(start));
    let plain = |path: &str| path.trim_end_matches("ID").trim_end_matches(['…', '/']).to_owned();
    let known: BTreeSet<String> = router.split('"').skip(1).step_by(2).filter(|text| ours(text)).map(plain).collect();
    let text = read("docs/reference.md");
    let paths = rows(&text, "Paths").flat_map(|cells| code(&cells[0]));
    let documented: BTreeSet<String> = paths.filter_map(|path| path.strip_prefix("/upwork").map(plain)).collect();
    assert!(known.len() > 8, "{known:?}");
    let documented: BTreeSet<String> = documented.into_iter().filter(|path| !path.is_empty()).collect();
    assert_eq!(documented, known, "left: docs/reference.md, right: the router");
}

#[test]
fn the_reference_names_every_header_of_ours_and_every_one_that_goes_to_upwork() {
    let sources = files("src/proxy").into_iter().filter(|file| file.contains("headers") && !file.contains("tests"));
    let source: String = sources.map(|file| read(&file)).collect();
    let text = read("docs/reference.md");
    let ours: BTreeSet<String> =
        source.split('"').skip(1).step_by(2).filter(|text| text.starts_with("x-")).map(str::to_owned).collect();
    assert!(ours.len() > 8, "{ours:?}");
    let lower: BTreeSet<String> = code(&text).into_iter().map(|text| text.to_ascii_lowercase()).collect();
    let missing: Vec<_> = ours.difference(&lower).collect();
    assert!(missing.is_empty(), "docs/reference.md has no {missing:?}");

    let (_, list) = source.split_once("static TO_API:").expect("the list");
    let (list, _) = list.split_once("];").expect("its end");
    let (_, list) = list.split_once("= [").expect("its begin");
    let known: BTreeSet<String> = words(list)
        .map(|name| if name == "TENANT" { "x-upwork-api-tenantid".to_owned() } else { name.to_ascii_lowercase() })
        .map(|name| name.replace('_', "-"))
        .collect();
    let section = section(&text, "Headers to Upwork");
    let (section, _) = section.split_once("\nupwarden adds the bearer").expect("the list is a paragraph of its own");
    let settings = |name: &String| name.starts_with("upwork.");
    let listed = code(section).into_iter().map(|name| name.to_ascii_lowercase()).filter(|name| !settings(name));
    assert_eq!(listed.collect::<BTreeSet<_>>(), known, "left: docs/reference.md, right: src/proxy");
}

/// The store's tests give the server's user exactly the commands that the documentation asks for.
#[test]
fn the_documented_acl_is_the_tested_one() {
    let commands = |text: &str| -> BTreeSet<String> {
        let words = text.split(|c: char| c.is_whitespace() || c == '`' || c == '"' || c == ';');
        words.filter(|word| word.starts_with('+')).map(str::to_owned).collect()
    };
    let list = |file: &str, name: &str| {
        let text = read(file);
        let (_, tested) = text.split_once(&format!("const {name}: &str =")).expect("the ACL");
        commands(tested.split_once(';').expect("its end").0)
    };
    let mut tested = list("tests/it/stores/world.rs", "ACL");
    // With Sentinel and in a cluster.
    tested.extend(list("tests/it/stores/nodes.rs", "MORE"));
    let sessions = read("docs/sessions.md");
    let (_, documented) = sessions.split_once("**An ACL**").expect("the ACL");
    let mut documented = commands(documented.split_once("\n\n").expect("its end").0);
    assert!(documented.remove("+select") && tested.len() > 10, "{tested:?}");
    assert_eq!(documented, tested, "left: docs/sessions.md, right: the test");
}

#[test]
fn every_problem_type_is_in_the_docs() {
    let faults = read("docs/faults.md");
    let sources = files("src/gateway").into_iter().filter(|file| file.contains("fault"));
    let text: String = sources.map(|file| read(&file)).collect();
    let names: BTreeSet<_> = problems(&text).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(faults.contains(&format!("`{name}`")), "docs/faults.md has no {name}");
    }
}

/// What the built program prints.
fn upwarden(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_upwarden")).args(args).output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}

/// The flags that a command's help names, its own only.
fn flags(command: &str) -> BTreeSet<String> {
    let help = upwarden(&[command, "--help"]);
    let named = help.lines().filter_map(|line| line.trim_start().split([' ', '=']).next().map(str::to_owned));
    named.filter(|word| word.starts_with("--")).collect()
}

/// The text under a heading, up to the next one.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n## {heading}\n")).expect(heading);
    rest.split("\n## ").next().unwrap_or_default()
}

/// The rows of the tables under a heading, as cells.
fn rows<'a>(text: &'a str, heading: &str) -> impl Iterator<Item = Vec<String>> + use<'a> {
    let rows = section(text, heading).lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let cells = |row: &str| row.split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
    rows.map(cells).filter(|cells| !code(&cells[0]).is_empty() || cells[0].bytes().all(|byte| byte.is_ascii_digit()))
}

/// What stands in backquotes.
fn code(text: &str) -> Vec<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The names of problems: literals that follow a status.
fn problems(text: &str) -> impl Iterator<Item = &str> {
    let parts: Vec<&str> = text.split('"').collect();
    let pairs: Vec<_> = parts.iter().copied().zip(parts.iter().copied().skip(1)).collect();
    pairs.into_iter().filter_map(|(before, name)| {
        let last = before.trim_end().strip_suffix(',')?.rsplit([' ', '(', '\n']).next()?;
        (last.starts_with("StatusCode::") || last.ends_with(".status")).then_some(name)
    })
}
