//! The alerts and the dashboard under `deploy/`: they name only metrics that exist, each alert fires when it should, and each has
//! its entry in the runbook.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::promtool;

const RULES: &str = "deploy/prometheus/upwarden.rules.yaml";
const TESTS: &str = "deploy/prometheus/upwarden.test.yaml";

fn read(file: &str) -> String {
    fs::read_to_string(file).expect(file)
}

/// The names of the alerts, in order.
fn alerts() -> Vec<String> {
    let rules = read(RULES);
    let names = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    names.map(str::to_owned).collect()
}

/// The metrics that the table of docs/operations.md has; a test beside the code checks it.
fn documented() -> BTreeSet<String> {
    let docs = read("docs/operations.md");
    let rows = docs.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

/// The metrics that a text names.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("upwarden_") || word.starts_with("process_"));
    ours.map(|word| ["_bucket", "_sum", "_count"].iter().fold(word, |word, end| word.trim_end_matches(end)).to_owned())
        .collect()
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    let text = read(TESTS);
    let missing: Vec<_> =
        alerts().into_iter().filter(|name| text.matches(&format!("- alertname: {name}\n")).count() < 2).collect();
    assert!(missing.is_empty(), "without a test: {missing:?}");
    let Some(output) = promtool(&["test", "rules", TESTS], "") else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_alert_has_its_entry_in_the_runbook_and_the_runbook_no_other() {
    let docs = read("docs/operations.md");
    let (_, runbook) = docs.split_once("\n## Runbook\n").expect("the runbook");
    let runbook = runbook.split("\n## ").next().unwrap_or_default();
    let entries: Vec<&str> = runbook.split("\n### ").skip(1).collect();
    let names: Vec<&str> = entries.iter().filter_map(|entry| entry.lines().next()).collect();
    assert_eq!(names, alerts(), "left: docs/operations.md, right: {RULES}");
    for entry in entries {
        for part in ["- **Symptom**: ", "- **Look at**: ", "- **Cause**: ", "- **Remedy**: "] {
            assert_eq!(entry.matches(part).count(), 1, "{part}\n{entry}");
        }
        let (_, rest) = entry.split_once("- **Look at**: ").expect("what to look at");
        let look = rest.lines().next().unwrap_or_default();
        assert!(look.contains('`'), "it names a metric, a log line or a command: {look}");
    }
    let rules = read(RULES);
    for name in alerts() {
        let link = format!("runbook: docs/operations.md#{}\n", name.to_ascii_lowercase());
        assert!(rules.contains(&link), "{name}");
    }
}

#[test]
fn alerts_runbook_and_dashboard_name_only_metrics_that_exist() {
    let (documented, docs) = (documented(), read("docs/operations.md"));
    assert!(documented.len() > 30, "{documented:?}");
    let (_, runbook) = docs.split_once("\n## Runbook\n").expect("the runbook");
    for (what, text) in [
        (RULES, read(RULES)),
        (TESTS, read(TESTS)),
        ("the dashboard", read("deploy/grafana/upwarden.json")),
        ("the runbook", runbook.to_owned()),
    ] {
        let unknown: Vec<_> = metrics(&text).into_iter().filter(|name| !documented.contains(name)).collect();
        assert!(unknown.is_empty(), "{what}: {unknown:?}");
    }
    // The dashboard shows what is measured.
    let shown = metrics(&read("deploy/grafana/upwarden.json"));
    let hidden: Vec<_> = documented
        .iter()
        .filter(|name| name.starts_with("upwarden_") || name.starts_with("process_"))
        .filter(|name| {
            !shown.contains(*name) && !["process_threads", "process_virtual_memory_bytes"].contains(&name.as_str())
        })
        .collect();
    assert!(hidden.is_empty(), "not on the dashboard: {hidden:?}");
}

#[test]
fn the_dashboard_is_one_and_prometheus_understands_its_queries() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/upwarden.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "ids are unique");
    assert!(panels.iter().all(|panel| panel["title"].as_str().is_some_and(|title| !title.is_empty())));
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<&str> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(queries.len() > 30, "{queries:?}");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (number, query) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m").replace('\'', "''");
        write!(rules, "      - record: query:{number}\n        expr: '{query}'\n").unwrap();
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, rules).unwrap();
    for path in [file.path().to_str().unwrap(), RULES] {
        let Some(output) = promtool(&["check", "rules", path], "") else { return };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
