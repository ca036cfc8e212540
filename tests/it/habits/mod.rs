//! The documents and deployment files are correct: cheap checks that read the files.

mod fuzz;
mod reference;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Files that links may start from.
const READ: [&str; 4] = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"];
/// Our variables that are not configuration.
const NOT_CONFIG: [&str; 5] =
    ["UPWARDEN_TESTS_APPS", "UPWARDEN_TESTS_REQUIRE", "UPWARDEN_SECRET", "UPWARDEN_TOKEN", "UPWARDEN_TESTS_QUICK"];

#[test]
fn the_commands_of_the_readme_and_of_contributors_exist() {
    assert!(read("README.md").lines().any(|line| line == "cargo run -- demo"), "the first command of the README");
    for (document, script) in
        [("README.md", "deploy/package"), ("CONTRIBUTING.md", "tests/run"), ("CONTRIBUTING.md", ".ci/run")]
    {
        assert!(read(document).contains(&format!("`{script}`")), "{document}: {script}");
        let text = read(script);
        assert!(text.starts_with("#!/usr/bin/env bash\n") && text.contains("set -euo pipefail"), "{script}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(script).expect(script).permissions().mode();
            assert_eq!(mode & 0o111, 0o111, "{script} can be run");
        }
    }
    assert!(
        read(".ci/run").contains("step tests tests/run"),
        "the test command of CONTRIBUTING.md is one of the checks"
    );
}

#[test]
fn every_link_to_a_file_of_ours_leads_somewhere() {
    let mut dead = Vec::new();
    for file in READ.map(str::to_owned).into_iter().chain(documents()) {
        let folder = Path::new(&file).parent().unwrap_or(Path::new(""));
        let text = read(&file);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains(':') {
                continue;
            }
            let target = if path.is_empty() { Path::new(&file).to_owned() } else { folder.join(path) };
            let name = target.display().to_string();
            // The screenshot is made from a running demo.
            let known = path == "docs/demo.png" || target.exists();
            if !known || !(anchor.is_empty() || headings(&name).iter().any(|heading| slug(heading) == anchor)) {
                dead.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(dead.is_empty(), "{}", dead.join("\n"));
}

#[test]
fn every_change_is_one_line_that_begins_with_its_kind() {
    let text = read("CHANGELOG.md");
    let (_, changes) = text.split_once("\n### ").expect("changes");
    let kinds = ["- Added ", "- Changed ", "- Fixed ", "- Removed ", "- Security: "];
    let fits = |line: &str| line.starts_with('#') || kinds.iter().any(|kind| line.starts_with(kind));
    let wrong: Vec<_> = changes.lines().skip(1).filter(|line| !line.is_empty() && !fits(line)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_readme_lists_every_document() {
    let readme = read("README.md");
    let missing: Vec<_> = documents().into_iter().filter(|file| !readme.contains(&format!("]({file})"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Comments cite a document by its path, followed by a heading in quotes.
#[test]
fn every_document_and_heading_that_a_comment_cites_exists() {
    let (mut dead, mut found) = (Vec::new(), 0);
    for file in files("src").into_iter().chain(files("tests")) {
        for (doc, heading) in citations(&read(&file)) {
            found += 1;
            let there = Path::new(&doc).exists();
            if !there || heading.as_ref().is_some_and(|heading| !headings(&doc).contains(heading)) {
                dead.push(format!("{file}: {doc} {heading:?}"));
            }
        }
    }
    assert!(found > 20, "{found}");
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

/// A default after its key, as in "`KEY` (5 s)".
#[test]
fn every_default_that_the_docs_mention_is_that_of_its_key() {
    let (settings, mut found) = (settings(), 0);
    for file in documents().into_iter().chain(["README.md".to_owned()]) {
        let text = read(&file);
        let parts: Vec<&str> = text.split('`').collect();
        for pair in parts.windows(2) {
            let (key, after) = (pair[0], pair[1]);
            let (Some(default), Some(said)) = (settings.get(key), after.strip_prefix(" (")) else { continue };
            let said: Vec<&str> = said.split(')').next().unwrap_or_default().split(' ').collect();
            if let [number, unit] = said[..]
                && number.bytes().all(|byte| byte.is_ascii_digit())
            {
                found += 1;
                assert_eq!(
                    format!("{number}{}", unit.replace("days", "d")),
                    default.trim_matches('"'),
                    "{file}: {key}"
                );
            }
        }
    }
    assert!(found > 3, "{found}");
}

#[test]
fn the_kubernetes_manifest_has_a_native_sidecar() {
    let text = read("deploy/kubernetes/base/upwarden.yaml");
    let (before, after) = text.split_once("\n      containers:\n").expect("the app's containers");
    assert!(text.contains("\n    neighbour.listen = \"127.0.0.1:4181\"\n"));
    let (_, sidecar) = before.split_once("\n      initContainers:\n").expect("init containers");
    for line in [
        "restartPolicy: Always",
        "startupProbe:",
        "httpGet: { path: /livez, port: admin }",
        "readinessProbe:",
        "httpGet: { path: /readyz, port: admin }",
        "readOnlyRootFilesystem: true",
        "capabilities: { drop: [ALL] }",
        "exec: { command: [/usr/local/bin/upwarden, drain] }",
        "- { name: UPWARDEN_ADMIN__LISTEN, value: \"[::]:4182\" }",
    ] {
        assert!(sidecar.lines().any(|found| found.trim() == line), "{line}");
    }
    assert!(before.contains("enableServiceLinks: false") && before.contains("runAsNonRoot: true"));
    assert!(
        after.contains("preStop:") && after.contains("sleep:\n                seconds: 10\n"),
        "the sidecar ends after the app"
    );
}

#[test]
fn the_unit_and_the_image_give_no_rights_and_enough_time() {
    let unit = read("deploy/upwarden.service");
    for line in ["DynamicUser=yes", "KillSignal=SIGTERM", "TimeoutStopSec=40s", "ProtectSystem=strict"] {
        assert!(unit.lines().any(|found| found == line), "{line}");
    }
    // `chown` is in @privileged. Later lines add to what an earlier one took away.
    let (denied, allowed) = (unit.find("SystemCallFilter=~@privileged"), unit.find("\nSystemCallFilter=@chown\n"));
    assert!(denied.is_some() && denied < allowed && unit.contains("\nSystemCallErrorNumber=EPERM\n"));
    assert!(unit.contains("LoadCredential=session-key:") && unit.contains("upwarden serve --config"));
    let image = read("Dockerfile");
    for line in ["USER 65532:65532", "EXPOSE 4180", "ENTRYPOINT [\"/usr/local/bin/upwarden\"]"] {
        assert!(image.lines().any(|found| found == line), "{line}");
    }
    let version = env!("CARGO_PKG_VERSION");
    assert!(image.contains(&format!("\nARG VERSION={version}\n")));
    let chart = read("deploy/kubernetes/chart/Chart.yaml");
    assert!(chart.contains(&format!("\nappVersion: {version}\n")));
    assert!(
        image.contains("--profile dist --locked") && image.contains("CMD [\"/usr/local/bin/upwarden\", \"health\"]")
    );
}

/// The headings of a document.
fn headings(file: &str) -> BTreeSet<String> {
    let text = read(file);
    text.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_owned())
        .collect()
}

/// A heading as links name it.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

/// The documents that a file's text names, each with a heading in quotes behind it where there is one.
fn citations(text: &str) -> Vec<(String, Option<String>)> {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches(['/', '!', '#']).trim());
    let text = lines.collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for rest in text.split("docs/").skip(1) {
        let Some((name, mut rest)) = rest.split_once(".md") else { continue };
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            continue;
        }
        let doc = format!("docs/{name}.md");
        found.push((doc.clone(), None));
        // `"One", "Two" and "Three"`
        while let Some(next) = [" \"", ", \"", " and \""].iter().find_map(|before| rest.strip_prefix(before)) {
            let Some((heading, more)) = next.split_once('"') else { break };
            found.push((doc.clone(), Some(heading.to_owned())));
            rest = more;
        }
    }
    found
}

/// The keys that `config.example.toml` names, set or behind a single `#`.
fn keys() -> BTreeSet<String> {
    settings().into_keys().collect()
}

/// The same with their values.
fn settings() -> BTreeMap<String, String> {
    let mut table = String::new();
    let mut settings = BTreeMap::new();
    for line in read("config.example.toml").lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            table = format!("{name}.");
        } else if let Some((name, value)) = line.trim_start_matches('#').split_once(" = ")
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            settings.insert(format!("{table}{name}"), value.to_owned());
        }
    }
    settings
}

/// Runs of letters, digits and underscores.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The documents below `docs`.
fn documents() -> Vec<String> {
    let is_document = |file: &String| Path::new(file).extension().is_some_and(|kind| kind == "md");
    files("docs").into_iter().filter(is_document).collect()
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
