//! `bench/compare` runs and cleans up after itself. Its figures are not checked.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{has, program};

/// The comparison with upwarden and nginx alone, with its temporary files in `folder`; `None` if a tool is missing.
fn compare(folder: &Path, arguments: &[&str]) -> Option<Command> {
    if !has(Path::new("/proc/self/schedstat").exists(), "/proc/self/schedstat") {
        return None;
    }
    for tool in ["python3", "nginx", "h2load", "openssl"] {
        if !has(program(tool).is_some(), tool) {
            return None;
        }
    }
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/bench/compare"));
    command.args(["--only", "get", "--peer", "upwarden", "--no-install", "--upwarden", env!("CARGO_BIN_EXE_upwarden")]);
    command.arg("--out").arg(folder.join("results")).args(arguments).env("TMPDIR", folder).stdin(Stdio::null());
    Some(command)
}

/// Processes with this folder in their environment, or in their command line: nginx writes its title over its environment.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).map(|entry| entry.path());
    let names = |file: &Path| std::fs::read(file).is_ok_and(|text| String::from_utf8_lossy(&text).contains(&folder));
    let ours = processes.filter(|process| names(&process.join("environ")) || names(&process.join("cmdline")));
    ours.map(|process| std::fs::read_to_string(process.join("cmdline")).unwrap_or_default()).collect()
}

#[test]
fn a_quick_comparison_prints_a_table_and_writes_every_form_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = compare(folder.path(), &["--quick"]) else { return };
    let output = command.output().unwrap();
    let (table, log) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{log}");
    assert!(table.starts_with("| case | nginx | upwarden |\n"), "{table}");
    let results = folder.path().join("results");
    let read = |name: &str| std::fs::read_to_string(results.join(name)).unwrap();
    assert_eq!(read("comparison.md"), table.trim_end().to_owned() + "\n");
    let json: serde_json::Value = serde_json::from_str(&read("comparison.json")).unwrap();
    let figure = |peer: &str| json["cases"][0]["peers"][peer]["rounds"][0]["figure"].as_f64().unwrap();
    assert!(figure("nginx") > 0.0 && figure("upwarden") > 0.0, "{json}");
    assert!(read("comparison.svg").starts_with("<svg "));
    assert_eq!(processes_of(folder.path()), [""; 0]);
}

#[test]
fn an_interrupted_comparison_leaves_no_process_and_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let rounds = ["--rounds", "10000", "--seconds", "0.1", "--warm-up", "64"];
    let Some(mut command) = compare(folder.path(), &rounds) else { return };
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("round 1 ") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before its first round");
    }
    // The script, the echo, the sandbox, upwarden, and two times nginx.
    assert!(processes_of(folder.path()).len() >= 6, "{:?}", processes_of(folder.path()));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(processes_of(folder.path()), [""; 0]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}
