//! What people read and deploy with says what is so: cheap checks, by reading the files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Files that links may start from.
const READ: [&str; 4] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
/// Variables of ours that are no configuration.
const NOT_CONFIG: [&str; 4] = ["UPWARDEN_TESTS_REQUIRE", "UPWARDEN_SECRET", "UPWARDEN_TOKEN", "UPWARDEN_TESTS_QUICK"];

#[test]
fn the_readme_begins_with_two_commands_that_exist() {
    let readme = read("README.md");
    for command in ["cargo run -- demo", "tests/run"] {
        assert!(readme.lines().any(|line| line == command), "{command}");
    }
    for script in ["tests/run", ".ci/run"] {
        let text = read(script);
        assert!(text.starts_with("#!/usr/bin/env bash\n") && text.contains("set -euo pipefail"), "{script}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(script).expect(script).permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script} can be run");
        }
    }
    assert!(read(".ci/run").contains("step tests tests/run"), "the README's test command is one of the checks");
}

#[test]
fn every_link_to_a_file_of_ours_leads_somewhere() {
    let mut dead = Vec::new();
    let docs = files("docs").into_iter().filter(|file| Path::new(file).extension().is_some_and(|kind| kind == "md"));
    for file in READ.map(str::to_owned).into_iter().chain(docs) {
        let folder = Path::new(&file).parent().unwrap_or(Path::new(""));
        let text = read(&file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            // The screenshot is made from a running demo.
            let elsewhere = path.is_empty() || path.contains(':') || path == "docs/demo.png";
            if !elsewhere && !folder.join(path).exists() {
                dead.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn what_people_deploy_with_sets_only_keys_that_exist() {
    let known = keys();
    assert!(known.contains("public_url") && known.contains("upwork.client_secret_file"), "{known:?}");
    let mut unknown = Vec::new();
    for file in ["README.md", "Dockerfile"].map(str::to_owned).into_iter().chain(files("deploy")).chain(files("docs")) {
        for variable in words(&read(&file)).filter(|word| word.starts_with("UPWARDEN_")) {
            let key = variable.trim_start_matches("UPWARDEN_").to_ascii_lowercase().replace("__", ".");
            // Those that Kubernetes makes are named in the documentation as ignored.
            let ignored = NOT_CONFIG.contains(&variable) || key.starts_with("port") || key == "service_host";
            if !ignored && !key.is_empty() && !known.contains(&key) {
                unknown.push(format!("{file}: {variable}"));
            }
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn the_kubernetes_manifest_has_a_native_sidecar() {
    let text = read("deploy/kubernetes.yaml");
    let (before, after) = text.split_once("\n      containers:\n").expect("the app's containers");
    let (_, sidecar) = before.split_once("\n      initContainers:\n").expect("init containers");
    for line in [
        "restartPolicy: Always",
        "startupProbe:",
        "httpGet: { path: /livez, port: 4182 }",
        "readinessProbe:",
        "httpGet: { path: /readyz, port: 4182 }",
        "readOnlyRootFilesystem: true",
        "capabilities: { drop: [ALL] }",
        "- { name: UPWARDEN_ADMIN__LISTEN, value: \"0.0.0.0:4182\" }",
        "- { name: UPWARDEN_NEIGHBOUR__LISTEN, value: \"127.0.0.1:4181\" }",
    ] {
        assert!(sidecar.lines().any(|found| found.trim() == line), "{line}");
    }
    assert!(before.contains("enableServiceLinks: false") && before.contains("runAsNonRoot: true"));
    assert!(after.contains("preStop:") && after.contains("sleep: { seconds: 10 }"), "the sidecar ends after the app");
}

#[test]
fn the_unit_and_the_image_give_no_rights_and_enough_time() {
    let unit = read("deploy/upwarden.service");
    for line in ["DynamicUser=yes", "KillSignal=SIGTERM", "TimeoutStopSec=40s", "ProtectSystem=strict"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    assert!(unit.contains("LoadCredential=session-key:") && unit.contains("upwarden serve --config"));
    let image = read("Dockerfile");
    for line in ["USER 65532:65532", "EXPOSE 4180", "ENTRYPOINT [\"/usr/local/bin/upwarden\"]"] {
        assert!(image.lines().any(|found| found == line), "{line}");
    }
    assert!(
        image.contains("--profile dist --locked") && image.contains("CMD [\"/usr/local/bin/upwarden\", \"health\"]")
    );
}

#[test]
fn every_problem_type_and_every_metric_is_in_the_docs() {
    let faults = read("docs/faults.md");
    let sources = files("src/gateway").into_iter().filter(|file| file.contains("fault"));
    let text: String = sources.map(|file| read(&file)).collect();
    let names: BTreeSet<_> = problems(&text).collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(faults.contains(&format!("`{name}`")), "docs/faults.md has no {name}");
    }
    let operations = read("docs/operations.md");
    for name in literals(&read("src/telemetry/metrics.rs")).filter(|text| text.starts_with("upwarden_")) {
        assert!(operations.contains(&format!("`{name}`")), "docs/operations.md has no {name}");
    }
}

/// The keys that `config.example.toml` names, set or behind a single `#`.
fn keys() -> BTreeSet<String> {
    let mut table = String::new();
    let mut keys = BTreeSet::new();
    for line in read("config.example.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((name, _)) = line.trim_start_matches('#').split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.insert(format!("{table}{name}"));
        }
    }
    keys
}

/// Runs of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// String literals of lower-case letters and `_` only.
fn literals(text: &str) -> impl Iterator<Item = &str> {
    let plain = |text: &&str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    text.split('"').filter(move |text| !text.is_empty() && plain(text))
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

/// Every file below a folder.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect(folder) {
        let path = entry.expect(folder).path();
        let name = path.display().to_string();
        if path.is_dir() {
            found.extend(files(&name));
        } else if path.extension().is_none_or(|kind| kind != "png") {
            found.push(name);
        }
    }
    found.sort();
    found
}

/// Cargo runs tests in the package's folder.
fn read(path: &str) -> String {
    fs::read_to_string(path).expect(path)
}
