//! Checks the code against the map in `src/lib.rs`: a module uses only modules on lower layers, some modules never use
//! each other, and no files of one module form a circle. Unit tests obey the layer of their module, too.
//!
//! The table of layers is read from the documentation itself, so the two cannot differ.

mod circles;
mod source;
mod structs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use self::circles::Modules;
use self::source::{Source, files, read, sources};

/// Lines a file may have, with its tests.
const MAX_LINES: usize = 400;
/// Fields that a struct of the gateway may have.
const MAX_FIELDS: usize = 7;
/// Structs whose fields are a wire format: the claims of a JWT.
const WIRE_FORMATS: [(&str, &str); 1] = [("src/gateway/upstreams/assertion.rs", "Claims")];

/// Modules that may not use each other, beyond the layers; `*` is every other module.
const APART: [(&str, &[&str]); 4] = [
    // The imitation of Upwork shares no code with its client, so that one bug cannot hide another.
    ("sandbox", &["oauth", "broker", "store", "session", "seal", "policy"]),
    ("telemetry", &["*"]),
    ("proxy", &["session", "seal", "oauth"]),
    // It decides on facts and never sees a request.
    ("policy", &["http", "hyper"]),
];
/// What may use `config`: the modules above it. Every other module owns its own `Config`, which config fills.
const ABOVE_CONFIG: [&str; 2] = ["server", "cli"];

#[test]
fn every_module_is_on_one_layer() {
    let (modules, layers) = (modules(), layers());
    assert!(modules.len() > 15, "src/lib.rs names its modules: {modules:?}");
    assert_eq!(layers.keys().cloned().collect::<BTreeSet<_>>(), modules, "left: the table, right: the modules");
}

#[test]
fn a_module_uses_only_modules_on_lower_layers() {
    let (layers, uses) = (layers(), uses());
    let mut wrong = Vec::new();
    for (module, layer) in &layers {
        for (file, used) in &uses[module] {
            let below = layers.get(used).is_none_or(|other| other < layer);
            if used != module && !below {
                wrong.push(format!("{file}: {module} (layer {layer}) uses {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn some_modules_never_meet() {
    let (modules, uses) = (modules(), uses());
    let mut wrong = Vec::new();
    for (module, others) in APART {
        let all = others.contains(&"*");
        for (file, used) in &uses[module] {
            if used != module && (others.contains(&used.as_str()) || (all && modules.contains(used))) {
                wrong.push(format!("{file}: {module} uses {used}"));
            }
        }
    }
    for module in modules.iter().filter(|module| *module != "config" && !ABOVE_CONFIG.contains(&module.as_str())) {
        wrong.extend(
            uses[module].iter().filter(|(_, used)| used == "config").map(|(file, _)| format!("{file}: uses config")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_a_module_use_each_other_in_a_circle() {
    let graph = Modules::new(sources()).graph();
    assert!(graph.values().map(BTreeMap::len).sum::<usize>() > 150, "the edges are found");
    let found = circles::circles(&graph);
    let found: Vec<_> = found.iter().map(|circle| circles::explain(&graph, circle)).collect();
    assert!(found.is_empty(), "files that use each other in a circle:\n\n{}\n", found.join("\n\n"));
}

/// A module is `x/mod.rs` with its children in `x/`, or a leaf `x.rs`, so its path alone leads to its file.
#[test]
fn a_modules_path_leads_to_its_file() {
    let all = files(Path::new("src")).into_iter().chain(files(Path::new("tests")));
    let both: Vec<_> = all.filter(|file| Path::new(file.trim_end_matches(".rs")).is_dir()).collect();
    assert!(both.is_empty(), "a file and a folder for one module: {both:?}");
    let moved: BTreeSet<_> =
        sources().iter().filter(|source| source.moved).map(|source| source.file.as_str()).collect();
    assert!(moved.is_empty(), "files with `#[path]`: {moved:?}");
}

/// Unit tests, and everything else that is compiled for them only, stand in a module called `tests`: at the end of the file
/// or in a file of its own. Nothing else depends on whether tests are compiled.
#[test]
fn unit_tests_stand_in_the_module_tests() {
    let in_tests = |module: &source::Module| module.iter().any(|part| part == "tests");
    let elsewhere = sources().iter().filter(|source| {
        let mut modules = source.test_modules.iter().chain(&source.tested_in);
        !source.test_items.is_empty() || modules.any(|module| !in_tests(module))
    });
    let elsewhere: BTreeSet<_> = elsewhere.map(|source| source.file.as_str()).collect();
    assert!(elsewhere.is_empty(), "files with tests elsewhere: {elsewhere:?}");
}

#[test]
fn the_binary_only_calls_the_command_line() {
    let main = Source::parse("src/main.rs", &read("src/main.rs"));
    let scope = main.scopes.values().next().expect("its module");
    let paths = scope.paths.iter().chain(scope.imports.iter().map(|import| &import.path));
    let used: Vec<_> = paths.filter(|path| path[0] == "upwarden").map(|path| path[1].as_str()).collect();
    assert_eq!(used, ["cli"]);
}

#[test]
fn the_library_has_four_public_modules_and_a_hidden_one_for_tests() {
    let lib = read("src/lib.rs");
    let public: BTreeSet<_> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")).collect();
    assert_eq!(public, BTreeSet::from(["cli;", "config;", "sandbox;", "server;", "testing {"]));
    let (before, _) = lib.split_once("pub mod testing {").expect("the module for tests");
    assert!(before.rsplit("\n\n").next().is_some_and(|item| item.contains("#[doc(hidden)]")));
}

#[test]
fn no_file_is_too_long() {
    let mut long = Vec::new();
    for file in files(Path::new("src")).into_iter().chain(files(Path::new("tests"))) {
        let lines = read(&file).lines().count();
        if lines > MAX_LINES {
            long.push(format!("{file}: {lines} lines"));
        }
    }
    assert!(long.is_empty(), "over {MAX_LINES} lines:\n{}", long.join("\n"));
}

#[test]
fn no_struct_of_the_gateway_has_too_many_fields() {
    let mut large = Vec::new();
    let mut count = 0;
    for file in files(Path::new("src/gateway")) {
        for (name, fields) in structs::fields(&read(&file)) {
            count += 1;
            if fields > MAX_FIELDS && !WIRE_FORMATS.contains(&(file.as_str(), name.as_str())) {
                large.push(format!("{file}: {name} has {fields} fields"));
            }
        }
    }
    assert!(count > 50, "the structs are found: {count}");
    assert!(large.is_empty(), "over {MAX_FIELDS} fields:\n{}", large.join("\n"));
}

/// Clippy counts the lines and arguments of a function; this checks that it does.
#[test]
fn clippy_limits_the_lines_and_arguments_of_a_function() {
    let (clippy, cargo) = (read("clippy.toml"), read("Cargo.toml"));
    for line in ["too-many-lines-threshold = 60", "too-many-arguments-threshold = 5"] {
        assert!(clippy.lines().any(|found| found == line), "clippy.toml: {line}");
    }
    assert!(cargo.contains("pedantic = { level = \"warn\""), "Cargo.toml: too_many_lines is one of clippy's pedantic");
    assert!(cargo.contains("unsafe_code = \"forbid\""));
}

/// The modules that `src/lib.rs` declares, public and private.
fn modules() -> BTreeSet<String> {
    let lib = read("src/lib.rs");
    lib.lines()
        .filter_map(|line| line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';'))
        .map(str::to_owned)
        .collect()
}

/// Module → layer, from the table in `src/lib.rs`: a number, then modules, then perhaps what they are about.
fn layers() -> BTreeMap<String, u32> {
    let (lib, modules) = (read("src/lib.rs"), modules());
    let mut layers = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! ")) {
        let mut words = line.split_whitespace();
        let Some(layer) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for module in words.take_while(|word| modules.contains(*word)) {
            assert!(layers.insert(module.to_owned(), layer).is_none(), "{module} is on two layers");
        }
    }
    layers
}

/// What each module uses: top-level modules and other crates, each with the file that uses it.
fn uses() -> BTreeMap<String, BTreeSet<(String, String)>> {
    let sources = sources();
    let all = Modules::new(sources);
    let mut uses: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    for source in sources {
        let found = uses.entry(source.module[0].clone()).or_default();
        for (module, scope) in &source.scopes {
            let imports = scope.imports.iter().map(|import| &import.path);
            for path in scope.paths.iter().filter(|path| path.len() > 1).chain(imports) {
                let path = all.absolute(module, path).unwrap_or_else(|| path.clone());
                found.extend(path.first().map(|used| (source.file.clone(), used.clone())));
            }
        }
    }
    uses
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
        fn i() { assert!(a::b(), "{}", Limits { ..crate::thirteen::LIMITS }.field.crate_::x()); }
    "##;
    let used = |file: &str| -> BTreeSet<String> {
        let sources = [Source::parse(file, text)];
        let modules = Modules::new(&sources);
        let scopes = sources[0].scopes.iter().flat_map(|(module, scope)| {
            let paths = scope.paths.iter().chain(scope.imports.iter().map(|import| &import.path));
            paths.map(move |path| (module, path))
        });
        scopes.filter_map(|(module, path)| modules.absolute(module, path)?.first().cloned()).collect()
    };
    let crates = ["one", "three", "four", "five", "six", "nine", "thirteen"];
    let of = |more: &[&str]| crates.iter().chain(more).map(ToString::to_string).collect::<BTreeSet<_>>();
    assert_eq!(used("src/top/file.rs"), of(&["top", "eleven"]));
    assert_eq!(used("src/top.rs"), of(&["top", "ten", "twelve"]), "nothing is above the root");
}
