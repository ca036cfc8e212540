//! Holds the floors of `src/lib.rs` against the code: a room uses rooms on lower floors only, and some pairs never meet.
//!
//! The table is read from the documentation itself, so the two cannot part. Code is read without its comments and strings:
//! a link in a comment is no use. Tests inside a room keep to its floor, too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use self::code::Token;

/// Lines a file may have, with its tests.
const MOST_LINES: usize = 400;

/// Who may not use whom, beyond the floors; `*` is every other room.
const APART: [(&str, &[&str]); 4] = [
    // One bug cannot cancel another: what imitates Upwork shares nothing with what talks to it.
    ("sandbox", &["oauth", "broker", "store", "session", "seal", "policy"]),
    ("telemetry", &["*"]),
    ("proxy", &["session", "seal", "oauth"]),
    // It is handed facts, never a request.
    ("policy", &["http", "hyper"]),
];
/// Who may use `config`: those above it. Every other room owns its own `Config`, which config fills.
const ABOVE_CONFIG: [&str; 2] = ["server", "cli"];

#[test]
fn every_room_has_one_floor_and_every_floor_is_a_room() {
    let (rooms, floors) = (rooms(), floors());
    assert!(rooms.len() > 15, "src/lib.rs names its rooms: {rooms:?}");
    assert_eq!(floors.keys().cloned().collect::<BTreeSet<_>>(), rooms, "left: the table, right: the modules");
}

#[test]
fn a_room_uses_rooms_on_lower_floors_only() {
    let floors = floors();
    let mut wrong = Vec::new();
    for (room, floor) in &floors {
        for (file, used) in uses(room) {
            let below = floors.get(&used).is_none_or(|other| other < floor);
            if used != *room && !below {
                wrong.push(format!("{file}: {room} (floor {floor}) uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_rooms_never_meet() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for (room, others) in APART {
        let all = others.contains(&"*");
        for (file, used) in uses(room) {
            if used != room && (others.contains(&used.as_str()) || (all && rooms.contains(&used))) {
                wrong.push(format!("{file}: {room} uses {used}"));
            }
        }
    }
    for room in rooms.iter().filter(|room| *room != "config" && !ABOVE_CONFIG.contains(&room.as_str())) {
        wrong.extend(
            uses(room).into_iter().filter(|(_, used)| used == "config").map(|(file, _)| format!("{file}: uses config")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_binary_only_calls_the_command_line() {
    let tokens = code::tokens(&read("src/main.rs"));
    let used: Vec<_> = code::paths_after(&tokens, "upwarden").collect();
    assert_eq!(used, ["cli"]);
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for file in files(Path::new("src")).into_iter().chain(files(Path::new("tests"))) {
        let (name, lines) = (shown(&file), read(&file).lines().count());
        if lines > MOST_LINES {
            long.push(format!("{name}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "over {MOST_LINES} lines:\n{}", long.join("\n"));
}

/// Clippy counts a function's lines and arguments; here is that it is told to.
#[test]
fn clippy_is_told_the_budget_of_a_function() {
    let (clippy, cargo) = (read("clippy.toml"), read("Cargo.toml"));
    for line in ["too-many-lines-threshold = 60", "too-many-arguments-threshold = 5"] {
        assert!(clippy.lines().any(|found| found == line), "clippy.toml: {line}");
    }
    assert!(cargo.contains("pedantic = { level = \"warn\""), "Cargo.toml: too_many_lines is one of clippy's pedantic");
    assert!(cargo.contains("unsafe_code = \"forbid\""));
}

/// The modules that `src/lib.rs` declares.
fn rooms() -> BTreeSet<String> {
    let lib = read("src/lib.rs");
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// Room → floor, from the table in `src/lib.rs`: a number, then rooms, then perhaps what they are about.
fn floors() -> BTreeMap<String, u32> {
    let (lib, rooms) = (read("src/lib.rs"), rooms());
    let mut floors = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let mut words = line.split_whitespace();
        let Some(floor) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for room in words.take_while(|word| rooms.contains(*word)) {
            assert!(floors.insert(room.to_owned(), floor).is_none(), "{room} has two floors");
        }
    }
    floors
}

/// What a room's files use: rooms, by `crate::` or by climbing out; and other crates. With the file's name.
fn uses(room: &str) -> BTreeSet<(String, String)> {
    let single = PathBuf::from(format!("src/{room}.rs"));
    let folder = files(Path::new(&format!("src/{room}")));
    let files: Vec<_> = single.is_file().then_some(single).into_iter().chain(folder).collect();
    assert!(!files.is_empty(), "no file of {room} was found");
    let rooms = rooms();
    let mut found = BTreeSet::new();
    for file in files {
        let tokens = code::tokens(&read(&file));
        let own = code::paths_after(&tokens, "crate").chain(code::above(&tokens, depth(&file)));
        // A folder of a room may be called as another room is; only a crate's name is wanted here.
        let others = code::roots(&tokens).filter(|name| !rooms.contains(*name));
        found.extend(own.chain(others).map(|used| (shown(&file), used.to_owned())));
    }
    found
}

/// How many `super` lead from a file's module to the crate's root: `src/a.rs` and `src/a/mod.rs` 1, `src/a/b.rs` 2.
fn depth(file: &Path) -> usize {
    let parts = file.components().count() - 1;
    if file.ends_with("mod.rs") { parts - 1 } else { parts }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.expect("a folder can be listed").path()) {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Cargo runs tests in the package's folder.
fn read(path: impl AsRef<Path>) -> String {
    let name = shown(path.as_ref());
    fs::read_to_string(path).expect(&name)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn uses_are_found_in_every_way_of_writing_them() {
    let text = r##"
        //! [`crate::comment`]
        use crate::one::{self, Two};
        use crate::{three, four::Four, five::{a, b::c}, six as seven};
        /* crate::comment /* crate::comment */ crate::comment */
        pub(in crate::eight) fn f<'a>(x: &'a str) -> char { crate::nine::g("crate::string", r#"crate::"raw"#); '"' }
        const C: char = 'c'; const Q: char = '\''; // crate::comment
        mod tests { use super::super::twelve; use super::*; }
        use super::ten::X; use super::super::eleven::Y; use http::Method; use ::hyper::body; fn h(_: std::fmt::Error) {}
    "##;
    let tokens = code::tokens(text);
    let used: BTreeSet<_> = code::paths_after(&tokens, "crate").collect();
    assert_eq!(used, BTreeSet::from(["one", "three", "four", "five", "six", "eight", "nine"]));
    assert_eq!(code::above(&tokens, 2).collect::<Vec<_>>(), ["eleven"], "in a file at src/room/file.rs");
    assert_eq!(code::above(&tokens, 1).collect::<Vec<_>>(), ["twelve", "ten", "eleven"], "in a file at src/room.rs");
    let roots: BTreeSet<_> = code::roots(&tokens).collect();
    assert!(roots.contains("http") && roots.contains("hyper") && !roots.contains("Method"), "{roots:?}");
    assert!(matches!(tokens.first(), Some(Token::Word(word)) if word == "use"));
}

/// As much of Rust's grammar as it takes to see paths.
mod code {
    /// A word, or one sign; `::` is one sign.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) enum Token {
        Word(String),
        Path,
        Sign(char),
    }

    /// The code without comments, strings, characters and lifetimes.
    pub(super) fn tokens(text: &str) -> Vec<Token> {
        let chars: Vec<char> = text.chars().collect();
        let at = |place: usize| chars.get(place).copied().unwrap_or('\0');
        let (mut tokens, mut place) = (Vec::new(), 0);
        while place < chars.len() {
            place = match (at(place), at(place + 1)) {
                ('/', '/') => until(&chars, place, |c| c == '\n'),
                ('/', '*') => block_comment(&chars, place),
                ('"', _) => string(&chars, place + 1),
                ('r', '"' | '#') if at(until(&chars, place + 1, |c| c != '#')) == '"' => raw_string(&chars, place + 1),
                ('b', 'r') if matches!(at(place + 2), '"' | '#') => raw_string(&chars, place + 2),
                ('\'', '\\') => until(&chars, place + 3, |c| c == '\'') + 1,
                ('\'', _) if at(place + 2) == '\'' => place + 3,
                ('\'', _) => until(&chars, place + 1, |c| !is_word(c)),
                (':', ':') => {
                    tokens.push(Token::Path);
                    place + 2
                }
                (c, _) if is_word(c) => {
                    let end = until(&chars, place, |c| !is_word(c));
                    tokens.push(Token::Word(chars.iter().skip(place).take(end - place).collect()));
                    end
                }
                (c, _) => {
                    if !c.is_whitespace() {
                        tokens.push(Token::Sign(c));
                    }
                    place + 1
                }
            };
        }
        tokens
    }

    fn is_word(c: char) -> bool {
        c.is_alphanumeric() || c == '_'
    }

    fn until(chars: &[char], from: usize, stop: impl Fn(char) -> bool) -> usize {
        chars.iter().skip(from).position(|c| stop(*c)).map_or(chars.len(), |found| from + found)
    }

    fn block_comment(chars: &[char], from: usize) -> usize {
        let (mut depth, mut place) = (0_usize, from);
        loop {
            match (chars.get(place), chars.get(place + 1)) {
                (Some('/'), Some('*')) => (depth, place) = (depth + 1, place + 2),
                (Some('*'), Some('/')) => (depth, place) = (depth.saturating_sub(1), place + 2),
                (None, _) => return place,
                _ => place += 1,
            }
            if depth == 0 {
                return place;
            }
        }
    }

    fn string(chars: &[char], from: usize) -> usize {
        let mut place = from;
        loop {
            match chars.get(place) {
                Some('"') | None => return place + 1,
                Some('\\') => place += 2,
                Some(_) => place += 1,
            }
        }
    }

    /// From the first `#` or the quote.
    fn raw_string(chars: &[char], from: usize) -> usize {
        let open = until(chars, from, |c| c != '#');
        let hashes = open - from;
        let mut place = open;
        loop {
            place = until(chars, place + 1, |c| c == '"');
            let closing = chars.iter().skip(place + 1).take(hashes).filter(|c| **c == '#').count();
            if place >= chars.len() || closing == hashes {
                return place + 1 + hashes;
            }
        }
    }

    fn word(token: Option<&Token>) -> Option<&str> {
        match token {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    /// The names right after `root::`, also those of a group `root::{a, b::c}`.
    pub(super) fn paths_after<'a>(tokens: &'a [Token], root: &'static str) -> impl Iterator<Item = &'a str> {
        let places = (0..tokens.len()).filter(move |place| word(tokens.get(*place)) == Some(root));
        places.filter(|place| tokens.get(place + 1) == Some(&Token::Path)).flat_map(|place| names(tokens, place + 2))
    }

    fn names(tokens: &[Token], from: usize) -> Vec<&str> {
        if tokens.get(from) != Some(&Token::Sign('{')) {
            return word(tokens.get(from)).into_iter().collect();
        }
        let (mut found, mut depth, mut begins) = (Vec::new(), 0, false);
        for token in tokens.iter().skip(from) {
            match token {
                Token::Sign('{') => (depth, begins) = (depth + 1, depth == 0),
                Token::Sign('}') => depth -= 1,
                Token::Sign(',') => begins = depth == 1,
                Token::Word(name) if begins => {
                    found.push(name.as_str());
                    begins = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
        found
    }

    /// The first names of paths that do not begin at `crate`, `self` or `super`: other crates, mostly.
    pub(super) fn roots(tokens: &[Token]) -> impl Iterator<Item = &str> {
        (0..tokens.len()).filter_map(|place| {
            // `use ::http` begins a path; `a::http` goes on with one.
            let before = place.checked_sub(2).and_then(|before| word(tokens.get(before)));
            let after_path = place >= 1 && tokens.get(place - 1) == Some(&Token::Path);
            let follows = after_path && before.is_some_and(|before| before != "use");
            let name = word(tokens.get(place)).filter(|_| tokens.get(place + 1) == Some(&Token::Path) && !follows)?;
            let plain = name.starts_with(|c: char| c.is_ascii_lowercase());
            (plain && !matches!(name, "crate" | "self" | "super")).then_some(name)
        })
    }

    /// What chains of `super` reach outside the room, in a file that lies `depth` modules below the crate's root; inside
    /// braces one `super` more is the file's own module.
    pub(super) fn above(tokens: &[Token], depth: usize) -> impl Iterator<Item = &str> {
        let mut braces = 0_usize;
        let mut chain = 0_usize;
        let mut found = Vec::new();
        for (place, token) in tokens.iter().enumerate() {
            match token {
                Token::Sign('{') => braces += 1,
                Token::Sign('}') => braces = braces.saturating_sub(1),
                _ => {}
            }
            match token {
                Token::Word(name) if name == "super" => chain += 1,
                Token::Path if chain > 0 => {
                    let limit = depth + usize::from(braces > 0);
                    if chain >= limit {
                        found.extend(names(tokens, place + 1).into_iter().filter(|name| *name != "super"));
                    }
                }
                _ => chain = 0,
            }
        }
        found.into_iter()
    }
}
