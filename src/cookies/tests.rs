use std::time::Duration;

use http::header::{COOKIE, HeaderValue};

use crate::fields::Fields;

use super::jar::{MAX_CHUNKS, MAX_COMBINATIONS, MAX_COOKIE, MAX_JOINS};
use super::*;

fn parse(field: impl TryInto<HeaderValue, Error: std::fmt::Debug>) -> RequestCookies {
    RequestCookies::parse(&[(COOKIE, field.try_into().unwrap())].into_iter().collect(), |_| true)
}

fn browser_sends(lines: &[HeaderValue]) -> String {
    let pairs = lines.iter().map(|line| line.to_str().unwrap()).filter(|line| !line.contains("Max-Age=0"));
    pairs.map(|line| line.split(';').next().unwrap()).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_short_value_is_one_cookie_with_its_attributes() {
    let jar = Jar::new("__Host-upwarden", true);
    let lines = jar.set("abc", Duration::from_secs(60), &RequestCookies::default()).unwrap();
    assert_eq!(lines, ["__Host-upwarden=abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"]);
    assert_eq!(jar.candidates(&parse(browser_sends(&lines))), ["abc"]);
}

#[test]
fn a_long_value_is_split_with_a_count_and_comes_back_whole() {
    let jar = Jar::new("__Host-upwarden", true);
    for length in [4080, 4081, 4082, 8000, 12_000, 19_000] {
        let value = "x".repeat(length);
        let lines = jar.set(&value, Duration::from_secs(60), &RequestCookies::default()).unwrap();
        assert!(lines.len() <= MAX_CHUNKS);
        for line in &lines {
            let pair = line.to_str().unwrap().split(';').next().unwrap();
            assert!(pair.len() <= MAX_COOKIE + 1, "{}", pair.len());
        }
        assert_eq!(jar.candidates(&parse(browser_sends(&lines))), [value]);
    }
    assert_eq!(
        jar.set(&"x".repeat(20_000), Duration::ZERO, &RequestCookies::default()),
        Err(TooLarge { bytes: 20_000 })
    );
}

#[test]
fn surplus_chunks_are_cleared() {
    let jar = Jar::new("upwarden", false);
    let long = jar.set(&"x".repeat(9_000), Duration::from_secs(60), &RequestCookies::default()).unwrap();
    let seen = parse(browser_sends(&long));
    let lines = jar.set("short", Duration::from_secs(60), &seen).unwrap();
    assert_eq!(lines.len(), 3);
    assert!(lines[1].to_str().unwrap().starts_with("upwarden-1=; "), "{lines:?}");
    assert!(lines[2].to_str().unwrap().contains("Max-Age=0"), "{lines:?}");
    assert_eq!(jar.clear(&seen).len(), 3);
}

#[test]
fn every_cookie_of_the_name_is_a_candidate() {
    let jar = Jar::new("upwarden", false);
    let mut headers = Fields::default();
    let planted: Vec<String> = (0..1000).map(|n| format!("upwarden={n}")).collect();
    headers.insert(COOKIE, planted.join("; ").parse().unwrap());
    headers.append(COOKIE, "other=1; upwarden=real; upwarden-login-1=x; =; noise".parse().unwrap());
    let cookies = RequestCookies::parse(&headers, |_| true);
    let found = jar.candidates(&cookies);
    assert_eq!(found.len(), 1001);
    assert_eq!(found[1000], "real");
}

#[test]
fn planted_chunks_do_not_hide_the_real_ones_and_are_bounded() {
    let jar = Jar::new("upwarden", false);
    let cookies = parse("upwarden=2.a; upwarden-1=planted; upwarden-1=b");
    assert_eq!(jar.candidates(&cookies), ["aplanted", "ab"]);
    let many: Vec<String> = (0..100).flat_map(|n| (1..5).map(move |index| format!("upwarden-{index}={n}"))).collect();
    let cookies = parse(format!("upwarden=5.a; {}", many.join("; ")));
    assert!(jar.candidates(&cookies).len() <= MAX_COMBINATIONS);
}

#[test]
fn a_split_session_is_found_among_many_planted_chunks() {
    let jar = Jar::new("upwarden", false);
    for length in [4_200, 9_000, 15_000] {
        let value = "r".repeat(length);
        let lines = jar.set(&value, Duration::from_secs(60), &RequestCookies::default()).unwrap();
        let real = browser_sends(&lines);
        let firsts = "upwarden=5.a; ".repeat(1000);
        let chunks: String = (1..5).map(|index| format!("upwarden-{index}=x; ").repeat(200)).collect();
        let cookies = parse(format!("{firsts}{chunks}{real}"));
        let found = jar.candidates(&cookies);
        assert!(found.iter().any(|found| *found == value), "{length}");
        assert!(found.len() <= MAX_JOINS);
    }
}

#[test]
fn many_first_chunks_with_many_others_cause_a_bounded_number_of_joins() {
    let jar = Jar::new("upwarden", false);
    let chunks: Vec<String> =
        (1..5).flat_map(|index| vec![format!("upwarden-{index}={}", "x".repeat(3000)); 3]).collect();
    let firsts = "upwarden=5.a; ".repeat(1500);
    let cookies = parse(format!("{firsts}{}", chunks.join("; ")));
    assert!(cookies.field_length() < 64 << 10);
    let found = jar.candidates(&cookies);
    let bytes: usize = found.iter().map(|value| value.len()).sum();
    assert!(found.len() <= MAX_JOINS && bytes < 8 << 20, "{} candidates of {bytes} bytes", found.len());
}

#[test]
fn a_value_longer_than_we_ever_set_is_no_candidate() {
    let jar = Jar::new("upwarden", false);
    let long = "x".repeat(30_000);
    assert!(jar.candidates(&parse(format!("upwarden={long}; upwarden=2.a; upwarden-1={long}"))).is_empty());
}

#[test]
fn another_cookie_in_another_encoding_does_not_hide_ours() {
    let jar = Jar::new("upwarden", false);
    let cookies = parse(b"theme=caf\xe9; upwarden=real; x=\xff".as_slice());
    assert_eq!(jar.candidates(&cookies), ["real"]);
}

#[test]
fn a_jar_owns_its_chunks_and_nothing_else() {
    let jar = Jar::new("upwarden", false);
    assert!(jar.owns("upwarden") && jar.owns("upwarden-1"));
    assert!(!jar.owns("upwarden-login-1") && !jar.owns("upwardenx") && !jar.owns("theme"));
}

#[test]
fn the_field_without_our_cookies_is_otherwise_unchanged() {
    let owns = |name: &str| Jar::new("upwarden", false).owns(name) || name.starts_with("upwarden-login-");
    for (field, rest, ours) in [
        ("a=1; upwarden=x; b=\"2; c", Some("a=1; b=\"2; c"), 1),
        ("upwarden=x", None, 1),
        ("upwarden=x;upwarden-1=y", None, 2),
        ("a=1;b=2;  c", Some("a=1;b=2;  c"), 0),
        (" upwarden = x ;a=1;upwarden", Some("a=1"), 1),
        ("upwarden;;a=1;", Some(";a=1"), 0),
    ] {
        let cookies = RequestCookies::parse(&[(COOKIE, HeaderValue::from_static(field))].into_iter().collect(), owns);
        assert_eq!(cookies.others().as_ref().map(HeaderValue::as_bytes), rest.map(str::as_bytes), "{field}");
        assert_eq!(cookies.iter().count(), ours, "{field}");
        assert!(cookies.iter().all(|(name, value)| owns(name) && ["x", "y"].contains(&value)), "{field}");
        assert!(!format!("{cookies:?}").contains('x'), "{field}");
    }
    let mut headers = Fields::default();
    headers.append(COOKIE, HeaderValue::from_bytes(b"a=\xe9; upwarden=\xff").unwrap());
    headers.append(COOKIE, HeaderValue::from_bytes(b"upwarden-login-\xff=x; b=2").unwrap());
    let cookies = RequestCookies::parse(&headers, owns);
    assert_eq!(cookies.others().unwrap().as_bytes(), b"a=\xe9; b=2");
    assert!(!cookies.is_empty() && cookies.iter().next().is_none(), "not UTF-8: stripped, and never read");
}
