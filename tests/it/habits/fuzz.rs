//! The fuzz targets are a separate workspace; these checks keep it in sync with the product.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{files, read};

/// The base names of the files, or of their folders.
fn names<'a>(files: &'a [String], parent: bool) -> BTreeSet<&'a str> {
    let named = |file: &'a String| if parent { Path::new(file).parent() } else { Some(Path::new(file)) };
    files.iter().filter_map(|file| named(file)?.file_stem()?.to_str()).collect()
}

#[test]
fn every_fuzz_target_is_built_documented_and_has_seeds() {
    let manifest = read("fuzz/Cargo.toml");
    let built: BTreeSet<&str> = manifest
        .split("[[bin]]\n")
        .skip(1)
        .filter_map(|target| target.strip_prefix("name = \"")?.split('"').next())
        .collect();
    assert!(built.len() > 8, "{built:?}");
    let (targets, seeds, readme) = (files("fuzz/fuzz_targets"), files("fuzz/seeds"), read("fuzz/README.md"));
    assert_eq!(names(&targets, false), built, "left: fuzz/fuzz_targets, right: fuzz/Cargo.toml");
    assert_eq!(names(&seeds, true), built, "left: fuzz/seeds, right: fuzz/Cargo.toml");
    let rows = readme.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let documented: BTreeSet<&str> = rows.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    assert_eq!(documented, built, "left: fuzz/README.md, right: fuzz/Cargo.toml");
    let check = "cargo check --manifest-path fuzz/Cargo.toml --bins --locked";
    assert!(read(".ci/run").contains(check), ".ci/run: {check}");
}

#[test]
fn the_fuzz_targets_lock_the_versions_of_the_product() {
    let versions = |file: &str| -> BTreeMap<String, BTreeSet<String>> {
        let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for package in read(file).split("[[package]]\n").skip(1) {
            let value =
                |key: &str| package.lines().find_map(|line| Some(line.strip_prefix(key)?.trim_matches('"').to_owned()));
            let (name, version) = (value("name = ").expect("a name"), value("version = ").expect("a version"));
            found.entry(name).or_default().insert(version);
        }
        found
    };
    let (product, fuzz) = (versions("Cargo.lock"), versions("fuzz/Cargo.lock"));
    assert!(product.contains_key("hyper") && fuzz.contains_key("hyper"), "the lock files are read");
    let apart =
        fuzz.iter().filter(|(name, versions)| product.get(*name).is_some_and(|known| !versions.is_subset(known)));
    let apart: Vec<_> = apart.collect();
    assert!(apart.is_empty(), "copy Cargo.lock to fuzz/Cargo.lock and run `cargo check` in fuzz: {apart:?}");
}
