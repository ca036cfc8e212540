//! Return addresses, as URL parsers read them: the WHATWG parser of the `url` crate, Node's, and Chromium's. What is accepted
//! must lead to our origin and must neither begin nor end a sign-in.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use url::Url;

use super::properties::{self, BASE, PREFIX};
use crate::harness::{Browser, FREELANCER, World, has, program};
use upwarden::testing::router::ReturnTo;

/// How an address may begin, continue, and where it may try to lead, separated by `¦`.
const BEGIN: &str = "/¦//¦///¦/\\¦\\¦\\/¦\\\\¦/\t¦\t/¦/\n¦\r/¦/\u{b}¦/%09¦/%0a¦/%0d%0a¦/.¦/..¦/./¦/../¦/x/..¦/x/../¦/%2e¦/%2e%2e¦\
    /.%2E/¦/;¦/..;¦/%5c¦/%2f¦/%2f%2f¦¦ ¦/ ¦https:¦https:/¦http://¦javascript:¦data:text/html,¦/\u{3000}¦\
    /\u{ff0f}¦/\u{ff3c}¦/\u{2044}";
const MIDDLE: &str = "¦/¦//¦\\¦/\\¦\\\\¦\t/¦/\t/¦/\r\n/¦%00¦/./¦/.//¦/%2e//¦@";
const END: &str = "evil.example¦@evil.example¦evil.example:443/x¦evil.example%2f@tools.example.com¦upwork/auth/logout¦\
    upwork/auth/login?return_to=/¦upwork/auth/callback?code=x&state=y¦x/../upwork/auth/logout¦\
    upwork/./auth/%2e/logout¦upwork/auth/¦upwork%2fauth%2flogout¦x?a=b#//evil.example¦";

/// From advisories about other proxies, and from what browsers are known to change.
const LISTED: &str = "//evil.example¦/\\evil.example¦/\\\\evil.example¦\\\\evil.example¦/%09/evil.example¦/\t/evil.example¦\
    /\n/evil.example¦/\r/evil.example¦/\r\n/evil.example¦/%0a/evil.example¦/.//evil.example¦/..//evil.example¦\
    /.\\/evil.example¦/a/..//evil.example¦/%2e//evil.example¦/%2e%2e//evil.example¦/.\t//evil.example¦\
    /;//evil.example¦/?//evil.example¦/#//evil.example¦/@evil.example¦/:@evil.example¦/a:b@evil.example¦\
    https:evil.example¦https:/evil.example¦https:///evil.example¦http:evil.example¦hTTps://evil.example¦\
    javascript:alert(1)//¦/javascript:alert(1)¦data:,x¦blob:x¦about:blank¦mailto:a@b¦file:///etc/passwd¦\
    tools.example.com.evil.example¦.evil.example¦@evil.example¦https://tools.example.com@evil.example/¦\
    https://tools.example.com\\@evil.example/¦https://tools.example.com/¦/\u{2028}/evil.example¦\
    /\0/evil.example¦/\u{feff}/evil.example¦/upwork/auth/../auth/logout¦/upwork//auth/logout";

fn forms() -> BTreeSet<String> {
    let of = |list: &'static str| list.split('¦');
    let built = of(BEGIN)
        .flat_map(|begin| of(MIDDLE).flat_map(move |middle| of(END).map(move |end| format!("{begin}{middle}{end}"))));
    built.chain(of(LISTED).map(str::to_owned)).collect()
}

/// The accepted addresses: as given, and as written to `Location`.
fn accepted() -> Vec<(String, String)> {
    let read = |text: String| ReturnTo::parse(&text, PREFIX).map(|place| (text, place.as_str().to_owned()));
    forms().into_iter().filter_map(read).collect()
}

/// Both texts of each accepted address, as another parser resolved them against the callback.
fn held_against(parser: &str, resolved: &Value) {
    let accepted = accepted();
    let resolved = resolved.as_array().expect("a list");
    assert_eq!(resolved.len(), accepted.len());
    for ((given, location), urls) in accepted.iter().zip(resolved) {
        for url in urls.as_array().expect("a pair") {
            let there = Url::parse(url.as_str().unwrap_or_default())
                .unwrap_or_else(|_| panic!("{parser} cannot read {given:?} ({location:?}): {url}"));
            properties::stays(&format!("{parser}: {given:?}"), &there);
        }
    }
}

/// A script that resolves both texts of each address.
fn script() -> String {
    let (pairs, base) = (serde_json::json!(accepted()), serde_json::json!(BASE));
    format!(
        "{pairs}.map(pair => pair.map(text => {{ try {{ return new URL(text, {base}).href }} catch (e) {{ return null }} }}))"
    )
}

#[test]
fn accepted_addresses_stay_on_our_host_for_the_whatwg_parser() {
    let forms = forms();
    let kept = forms.iter().filter(|text| properties::return_to(text).is_some()).count();
    assert!(forms.len() > 3000 && kept > 200 && kept < forms.len() / 2, "{kept} of {} kept", forms.len());
    for text in LISTED.split('¦').filter(|text| text.contains("evil.example")) {
        let Some(place) = properties::return_to(text) else { continue };
        assert!(place.as_str().starts_with("https://tools.example.com/"), "{text:?} → {place}");
    }
}

#[test]
fn accepted_addresses_stay_on_our_host_for_node() {
    let Some(node) = program("node") else {
        has(false, "node");
        return;
    };
    let mut child = Command::new(node).arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let source = format!("console.log(JSON.stringify({}))", script());
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    held_against("node", &serde_json::from_slice(&out.stdout).unwrap());
}

#[tokio::test]
async fn accepted_addresses_stay_on_our_host_for_chromium() {
    let Some(browser) = Browser::start().await else { return };
    browser.open("about:blank").await;
    let resolved = browser.run(&format!("return {}", script())).await;
    browser.quit().await;
    held_against("chromium", &resolved);
}

#[tokio::test]
async fn a_sign_in_with_a_foreign_return_address_leads_home() {
    let world = World::new().start();
    for text in
        ["//evil.example", "/\\evil.example", "/\t/evil.example", "https://evil.example/", "/upwork/auth/logout"]
    {
        let client = world.client();
        let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
        let target = format!("/upwork/auth/login?return_to={encoded}");
        let answer = world.sign_in_with(&client, FREELANCER, &target).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{text:?}");
    }
}

#[tokio::test]
async fn a_redirect_to_our_host_is_absolute() {
    let world = World::new().start();
    // For a browser at another host name, and where the marker of that redirect is removed.
    for target in ["//evil.example/", "/\\evil.example/", "/.//evil.example/", "/@evil.example"] {
        let here = world.url("").replace("http://", "");
        for (host, suffix) in [("elsewhere.example", ""), (here.as_str(), "?upwarden_host=1")] {
            let (client, accept) = (world.client(), "accept: text/html");
            let raw = format!("GET {target}{suffix} HTTP/1.1\r\nhost: {host}\r\n{accept}\r\nconnection: close\r\n\r\n");
            let answer = String::from_utf8_lossy(&client.raw(raw.as_bytes()).await).into_owned();
            let location = answer.lines().find_map(|line| line.strip_prefix("location: "));
            let location = location.unwrap_or_else(|| panic!("{answer}"));
            assert!(location.starts_with(&world.url(target)), "{target} → {location}");
        }
    }
}
