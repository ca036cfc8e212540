use std::collections::{BTreeMap, BTreeSet};

use super::*;

#[test]
fn every_counter_starts_at_zero() {
    let text = Metrics::new().render();
    for line in [
        "upwarden_requests_total{route=\"app\",status=\"5xx\"} 0",
        "upwarden_sign_ins_total{outcome=\"looping\"} 0",
        "upwarden_sessions_opened_total{result=\"unusable\"} 0",
        "upwarden_refreshes_total{outcome=\"revoked\"} 0",
        "upwarden_upstream_errors_total{side=\"upwork\"} 0",
        "upwarden_pace_refused_total{reason=\"day\"} 0",
        "upwarden_refused_total{door=\"public\",reason=\"tls\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn each_value_is_counted_separately() {
    let metrics = Metrics::new();
    for refusal in Refusal::VARIANTS {
        metrics.refused(Door::Public, *refusal);
    }
    for outcome in SignInOutcome::VARIANTS {
        metrics.sign_in(*outcome);
    }
    let text = metrics.render();
    let ones = |name: &str| text.lines().filter(|line| line.starts_with(name) && line.ends_with(" 1")).count();
    assert_eq!(ones("upwarden_refused_total{door=\"public\""), Refusal::VARIANTS.len(), "{text}");
    assert_eq!(ones("upwarden_refused_total"), Refusal::VARIANTS.len(), "{text}");
    assert_eq!(ones("upwarden_sign_ins_total"), SignInOutcome::VARIANTS.len(), "{text}");
}

#[test]
fn counted_events_are_rendered() {
    let metrics = Metrics::new();
    metrics.request(RouteKind::Api, 404, Duration::from_millis(3));
    metrics.sign_in(SignInOutcome::Declined);
    let text = metrics.render();
    assert!(text.contains("upwarden_requests_total{route=\"api\",status=\"4xx\"} 1"), "{text}");
    assert!(text.contains("upwarden_sign_ins_total{outcome=\"declined\"} 1"), "{text}");
    assert!(text.contains("upwarden_request_duration_seconds_bucket{route=\"api\",le=\"0.005\"} 1"), "{text}");
    assert!(text.contains("upwarden_build_info{version="), "{text}");
}

#[test]
fn a_series_that_cannot_change_is_left_out() {
    let nothing = Scope {
        neighbour: false,
        tls: false,
        http2: false,
        proxy_protocol: false,
        body_limit: false,
        address_limit: false,
        refreshes: false,
        store: false,
    };
    let (all, least) = (Metrics::new().render(), Metrics::of(nothing).render());
    let absent = [
        "neighbour",
        "tls",
        "http2_abuse",
        "proxy_protocol",
        "body_too_large",
        "connections_per_address",
        "_store_",
        "_refreshes_",
    ];
    for part in absent {
        assert!(all.contains(part) && !least.contains(part), "{part}");
    }
    for never in
        ["0xx", "route=\"api\",status=\"1xx\"", "route=\"none\",status=\"2xx\"", "door=\"neighbour\",reason=\"tls\""]
    {
        assert!(!all.contains(never), "{never}");
    }
}

#[test]
fn a_status_of_an_app_beyond_the_classes_is_counted() {
    let metrics = Metrics::new();
    metrics.request(RouteKind::App, 999, Duration::ZERO);
    metrics.request(RouteKind::App, 101, Duration::ZERO);
    let text = metrics.render();
    assert!(text.contains("upwarden_requests_total{route=\"app\",status=\"5xx\"} 1"), "{text}");
    assert!(text.contains("upwarden_requests_total{route=\"app\",status=\"1xx\"} 1"), "{text}");
}

#[test]
fn connections_of_an_upstream_are_idle_or_in_use() {
    let metrics = Metrics::new();
    let upstream = metrics.upstream(Upstream::Api);
    let open = [upstream.opened(), upstream.opened(), upstream.opened()];
    let pool = Arc::new(());
    let counted = Arc::downgrade(&pool);
    upstream.add_pool(move || counted.upgrade().map(|_| 2));
    let states = |idle, in_use| {
        let text = metrics.render();
        for (state, count) in [("idle", idle), ("in_use", in_use)] {
            let line = format!("upwarden_upstream_connections{{upstream=\"api\",state=\"{state}\"}} {count}");
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    };
    states(2, 1);
    drop(pool);
    states(0, 3);
    drop(open);
    states(0, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_described_as_the_kernel_sees_it() {
    let text = Metrics::new().render();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}\n{text}"))
    };
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_resident_memory_bytes") < 1e11);
    assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
    assert!(value("process_open_fds") >= 3.0 && value("process_open_fds") <= value("process_max_fds"));
    assert!(value("process_threads") >= 1.0 && value("process_cpu_seconds_total") >= 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9 && value("process_start_time_seconds") < 1e11);
}

/// Name and type, and the values of each label.
type Table = BTreeMap<(String, String), BTreeMap<String, BTreeSet<String>>>;

#[test]
fn the_table_in_the_docs_has_every_metric_and_every_label() {
    let metrics = Metrics::new();
    for observed in Observed::VARIANTS {
        metrics.observe(*observed, || Some(1.0));
    }
    metrics.service_refresh_token_left(Duration::from_secs(1));
    metrics.certificate_expiry(1);
    metrics.reloaded(1, true);
    drop(metrics.spans());
    let documented = documented(include_str!("../../../docs/operations.md"));
    assert!(documented.len() > 30, "{documented:?}");
    let exported = exported(&metrics.render());
    let of = |table: &Table| table.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(of(&documented), of(&exported), "left: docs/operations.md, right: /metrics");
    assert_eq!(documented, exported, "left: docs/operations.md, right: /metrics");
}

fn exported(text: &str) -> Table {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut table: Table = kinds.map(|(name, kind)| ((name.to_owned(), kind.to_owned()), BTreeMap::new())).collect();
    for (name, rest) in text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('{')) {
        let name = ["_bucket", "_count", "_sum"].iter().fold(name, |name, end| name.trim_end_matches(end));
        let (_, labels) = table.iter_mut().find(|((known, _), _)| known == name).expect(name);
        let pairs = rest.split('}').next().unwrap_or_default().split(',').filter_map(|pair| pair.split_once('='));
        for (label, value) in pairs.filter(|(label, _)| *label != "le") {
            let values = labels.entry(label.to_owned()).or_default();
            // A version is not one of a list.
            values.extend((label != "version").then(|| value.trim_matches('"').to_owned()));
        }
    }
    table
}

/// The rows of the table: `name`, type, `label` (value, value).
fn documented(text: &str) -> Table {
    let (_, section) = text.split_once("\n## Metrics\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [name, kind, labels, ..] = cells.as_slice() else { panic!("{row}") };
        let labels = labels.split('`').skip(1).collect::<Vec<_>>();
        let label = |pair: &[&str]| {
            let values =
                pair.get(1).and_then(|text| text.split_once('(')?.1.split_once(')')).map_or("", |(list, _)| list);
            let values = values.split(", ").filter(|value| !value.is_empty()).map(str::to_owned).collect();
            (pair.first().copied().unwrap_or_default().to_owned(), values)
        };
        ((name.trim_end_matches('`').to_owned(), (*kind).to_owned()), labels.chunks(2).map(label).collect())
    })
    .collect()
}
