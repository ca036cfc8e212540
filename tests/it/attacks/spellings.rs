//! Generated spellings of paths through the whole sidecar: none reaches the app, the API or the sign-in endpoints under
//! another rule than the one that was applied to it, not even for a server that normalizes every spelling it knows.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tokio::io::AsyncWriteExt;

use crate::harness::strict::Strict;
use crate::harness::{FREELANCER, Raw, World, full};

/// A path as the most lenient server would read it: decoded twice, backslashes as slashes, parameters removed, double slashes
/// and dots resolved.
fn lenient(path: &str) -> String {
    let mut text = path.to_owned();
    for _ in 0..2 {
        text = decoded(&text);
    }
    let mut kept: Vec<&str> = Vec::new();
    let text = text.replace('\\', "/");
    for segment in text.split('/') {
        match segment.split(';').next().unwrap_or_default() {
            "" | "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/")).to_ascii_lowercase()
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut place) = (Vec::new(), 0);
    while place < bytes.len() {
        let escape = bytes.get(place + 1..place + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[place] == b'%' => {
                out.push(byte);
                place += 3;
            }
            _ => {
                out.push(bytes[place]);
                place += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn paths() -> impl Strategy<Value = String> {
    let part = prop::sample::select(vec![
        "/health",
        "/assets/",
        "/upwork",
        "/api",
        "/v3/oauth2/token",
        "/graphql",
        "/auth/login",
        "/auth/logout",
        "/x",
        "/",
        "//",
        "/.",
        "/..",
        "/...",
        ";",
        ";a=b",
        "..;",
        "%2e",
        "%2E%2e",
        "%2f",
        "%5c",
        "\\",
        "%00",
        "%",
        "%zz",
        "%c0%ae",
        "%252e%252e",
        "%20",
        "%3b",
        "%c3%bc",
        "\u{fc}",
        "healthy",
        "?",
        "?/../",
        "/UPWORK",
        "/%75pwork",
        "/%68ealth",
        ".",
    ]);
    prop::collection::vec(part, 1..6).prop_map(|parts| format!("/{}", parts.concat().trim_start_matches('/')))
}

#[test]
fn a_path_is_served_under_the_rule_that_was_applied_to_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let strict = Strict::default();
    let world = World::new().app(strict.app()).public("/health,/assets/").start();
    let cookies = runtime.block_on(world.sign_in(FREELANCER)).jar().field().unwrap();
    strict.take();
    let cases = if full() { 20_000 } else { 500 };
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() });
    let ask = |target: &str, cookies: &str| {
        let api = world.counters().api.values().sum::<u64>();
        let answer = runtime.block_on(async {
            let mut client = Raw::to(world.public_address()).await;
            let head = format!(
                "GET {target} HTTP/1.1\r\nHost: {}\r\n{cookies}Connection: close\r\n\r\n",
                world.public_address()
            );
            let _ = client.0.write_all(head.as_bytes()).await;
            client.rest().await
        });
        (answer, strict.take(), world.counters().api.values().sum::<u64>() > api)
    };
    runner
        .run(&paths(), |target| {
            let path = target.split('?').next().unwrap_or_default();
            let meant = lenient(path);
            let public = |path: &str| {
                path == "/health" || path.starts_with("/health/") || path == "/assets" || path.starts_with("/assets/")
            };
            for cookies in [String::new(), format!("Cookie: {cookies}\r\n")] {
                let (answer, read, api) = ask(&target, &cookies);
                if let Some(seen) = read.first() {
                    prop_assert_eq!(&seen.line, &format!("GET {target} HTTP/1.1"), "byte for byte");
                    prop_assert!(
                        !path.starts_with("/upwork/") && path != "/upwork",
                        "a path of ours went to the app: {target}"
                    );
                    prop_assert!(
                        !cookies.is_empty() || public(&meant),
                        "{target}, which means {meant}, passed without a session"
                    );
                }
                if api {
                    // The API decides about case and parameters, but not where the path leads.
                    let leads_there = meant == "/upwork/graphql" || format!("{meant}/").starts_with("/upwork/api/");
                    prop_assert!(!cookies.is_empty() && leads_there, "{target} reached the API as {meant}\n{answer}");
                    prop_assert!(path.starts_with("/upwork/api/") || path == "/upwork/graphql", "{target}");
                    prop_assert!(!meant.contains("/oauth"), "{target} reached Upwork's OAuth endpoints");
                }
            }
            Ok(())
        })
        .unwrap();
}
