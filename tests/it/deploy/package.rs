//! `deploy/package` and its output, and `deploy/pgo`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{has, program};

const FOLDER: &str = "target/package";

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(FOLDER).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn file(end: &str) -> String {
    let all = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    all.into_iter().find(|name| name.ends_with(end)).unwrap_or_else(|| panic!("no {end}"))
}

#[test]
fn an_optimized_build_names_the_tool_that_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let rustc = folder.path().join("rustc");
    let says = "case \"$*\" in *sysroot*) echo /nonexistent ;; *) printf 'host: a\\nLLVM version: 999.1.0\\n' ;; esac";
    std::fs::write(&rustc, format!("#!/bin/sh\n{says}\n")).unwrap();
    std::fs::set_permissions(&rustc, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.path().display());
    let tried = Command::new("deploy/pgo").env("PATH", path).output().unwrap();
    let why = String::from_utf8(tried.stderr).unwrap();
    assert!(!tried.status.success() && tried.stdout.is_empty(), "{why}");
    assert!(why.contains("needs llvm-profdata 999") && why.contains("rustup component add llvm-tools"), "{why}");
}

#[test]
fn one_command_makes_tarball_package_manual_bill_of_materials_and_checksums_the_same_each_time() {
    let tools = ["dpkg-deb", "python3", "tar"].iter().all(|tool| program(tool).is_some());
    if !has(tools && Path::new(".git").exists(), "dpkg-deb, python3, tar and a git checkout") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Small, so that packing it is quick.
    let small = folder.path().join("upwarden");
    std::fs::write(&small, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_upwarden"))).unwrap();
    std::fs::set_permissions(&small, std::fs::Permissions::from_mode(0o755)).unwrap();
    let sums = [(); 2].map(|()| {
        let maintainer = ("MAINTAINER", "The maintainers of this test <test@debian.org>");
        let made = Command::new("deploy/package").arg(&small).envs([maintainer]).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::read_to_string(Path::new(FOLDER).join("SHA256SUMS")).unwrap()
    });
    assert_eq!(sums[0], sums[1], "byte for byte");
    assert_eq!(sums[0].lines().count(), 3);
    output("sha256sum", &["--check", "--quiet", "SHA256SUMS"]);

    let tarball = output("tar", &["--list", "--file", &file(".tar.gz")]);
    for part in
        ["/upwarden", "/man/upwarden.1", "/man/upwarden-serve.1", "/upwarden.socket", "/completions/upwarden.zsh"]
    {
        assert!(tarball.lines().any(|line| line.ends_with(part)), "{part} in {tarball}");
    }
    assert!(!tarball.contains("upwarden-man.1"), "the hidden command has no page");
    let package = output("dpkg-deb", &["--contents", &file(".deb")]);
    for part in [
        "/usr/bin/upwarden",
        "/usr/share/man/man1/upwarden-drain.1.gz",
        "/lib/systemd/system/upwarden.service",
        "/lib/systemd/system/upwarden.socket",
        "/usr/share/doc/upwarden/copyright",
        "/usr/share/doc/upwarden/changelog.gz",
    ] {
        assert!(package.lines().any(|line| line.ends_with(part)), "{part} in {package}");
    }
    if has(program("lintian").is_some(), "lintian") {
        let flags = ["--allow-root", "--tag-display-limit=0", "--fail-on=error,warning"];
        assert_eq!(output("lintian", &[&flags[..], &[&file(".deb")]].concat()), "", "Debian's policy");
    }

    let bill: Value =
        serde_json::from_slice(&std::fs::read(Path::new(FOLDER).join(file(".cdx.json"))).unwrap()).unwrap();
    assert_eq!((&bill["bomFormat"], &bill["metadata"]["component"]["name"]), (&"CycloneDX".into(), &"upwarden".into()));
    let components = bill["components"].as_array().unwrap();
    let named = |name: &str| components.iter().find(|component| component["name"] == name);
    let rustls = named("rustls").expect("what is linked");
    assert!(rustls["hashes"][0]["content"].as_str().is_some_and(|sum| sum.len() == 64), "{rustls}");
    assert!(rustls["licenses"][0]["expression"].as_str().is_some_and(|text| text.contains("Apache-2.0")), "{rustls}");
    assert!(named("proptest").is_none() && named("winapi").is_none(), "neither tests' crates nor other systems'");
}
