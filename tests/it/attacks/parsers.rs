//! The properties of every parser on generated input: some of it random, most of it mutated from valid input.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::{engine, properties, wire};

/// The words of a list that `¦` separates.
fn list(words: &'static str) -> Vec<&'static str> {
    words.split('¦').collect()
}

/// Words of an attacker in random order.
fn words(words: &'static str, most: usize) -> impl Strategy<Value = String> {
    vec(prop_oneof![4 => proptest::sample::select(list(words)).prop_map(str::to_owned), 1 => "\\PC{0,3}"], 0..most)
        .prop_map(|words| words.concat())
}

const PATH: &str = "/¦//¦upwork¦/upwork¦auth¦api¦login¦logout¦callback¦graphql¦health¦/health¦/assets/¦assets¦.¦..¦/..¦/../¦/./¦\
    ..;¦;¦;a=b¦%2e¦%2E%2e¦%2f¦%5c¦\\¦%00¦%25¦%252e¦%252f¦25¦2e¦%¦%c0%af¦%ff¦oauth2¦oauth¦v3¦token¦%6f¦%256f¦\
    OAuth2¦a¦ ¦%20¦%3b¦#¦?¦\t¦ä¦%C3%A4¦@¦:¦tokens¦/api/v3/oauth2/token¦%252e%252e¦..%3b¦/%252e%252e/¦..%253b¦\
    %25252e";

const ADDRESS: &str = "/¦//¦\\¦/\\¦\t¦\n¦\r¦%09¦%0a¦%2f¦%5c¦.¦..¦%2e¦%2E¦;¦:¦@¦#¦?¦evil.example¦https:¦http://¦javascript:¦upwork¦\
    /upwork/auth/¦logout¦login¦callback¦a¦x=1¦\u{3000}¦\u{ff0f}¦\u{2028}¦\u{200b}¦\u{ad}¦tools.example.com¦\
    [::1]¦ ¦~¦%";

const QUERY: &str = "code=¦code¦error=¦error¦access_token=¦state=¦iss=¦expires_in=¦&¦&¦&¦=¦%63ode=¦x¦access_denied¦\
    0123456789abcdef0123456789abcdef¦oauth2v2_0123456789abcdef¦+¦%00¦%ff¦;¦%26¦?¦#";

const FIELD: &str = "connection¦connection: ¦x-upwork-user-id¦X-Upwork-User¦x_upwork_user¦x.upwork.user¦x-forwarded-user¦\
    x-forwarded-for¦x_forwarded_for¦x-forwarded-uri¦forwarded¦x-real-ip¦x-original-url¦X_Rewrite_URL¦\
    x-request-id¦te¦trailers¦upgrade¦websocket¦h2c¦keep-alive¦transfer-encoding¦chunked¦cookie¦upwarden=a; ¦\
    upwarden-1=b¦upwarden-login-3=c¦authorization¦Bearer x¦host¦content-length¦trailer¦: ¦: ¦:¦, ¦\n¦\n¦\n¦\
    close¦10.0.0.1¦for=10.0.0.1;proto=https¦\"¦[::1]:80¦via¦1.1 a";

const COOKIE: &str = "upwarden¦__Host-upwarden¦upwarden=¦upwarden=2.¦upwarden=5.a¦upwarden=0.¦upwarden=1.¦upwarden=6.¦upwarden=9.¦\
    upwarden-1=¦upwarden-2=b¦upwarden-4=d¦upwarden-0=¦upwarden-5=¦upwarden-01=¦upwarden-login-1=¦\
    upwarden-login-9=¦__Host-upwarden=3.a¦__Host-upwarden-1=b¦; ¦; ¦; ¦;¦=¦,¦\"¦\n¦AQIDBA¦\
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

const TOML: &str = "public_url¦prefix¦app.url¦routes¦path¦public¦upwork.client_id¦upwork.client_secret¦client_secret_file¦\
    session.keys¦access.anyone¦access.users¦[public]¦[access]\n¦[session¦]¦ = ¦ = ¦=¦\n¦\n¦\"¦'¦\"\"\"¦true¦\
    1181921839933591552¦1e999¦0x¦-1¦{¦}¦[¦]¦,¦\"https://a.example\"¦\"http://127.0.0.1:1\"¦\"10s\"¦\"64KiB\"¦\
    \"/\"¦listen¦.¦#¦\\u0000¦\\uD800¦2026-11-24T00:00:00Z";

const JSON: &str = "{¦}¦[¦]¦\"access_token\":¦\"refresh_token\":¦\"token_type\":¦\"expires_in\":¦\"error\":¦\
    \"error_description\":¦\"a\"¦\"Bearer\"¦86400¦\"60\"¦-1¦1e400¦null¦true¦,¦,¦<html>¦\"invalid_grant\"¦\
    \"oauth2v2_0123456789abcdef0123456789abcdef\"¦\"x oauth2v2_0123456789abcdef0123456789abcdef.\"¦\
    {\"access_token\":\"a\"}¦{\"error\":\"invalid_grant\"}¦\\";

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n¦POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc¦\
    POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n¦HEAD ¦GET ¦POST ¦/¦\
    /x¦*¦http://a/¦ HTTP/1.1¦ HTTP/1.0¦\r\n¦\r\n¦\r\n\r\n¦\n¦\r¦ ¦host: a\r\n¦Host: a\r\n¦content-length: ¦\
    content-length: 3\r\n¦content-length: 0\r\n¦transfer-encoding: chunked\r\n¦transfer-encoding¦: ¦:¦identity¦\
    3¦3\r\nabc\r\n¦0\r\n\r\n¦0\r\n¦5;x=y\r\nhello\r\n¦abc¦connection: close\r\n¦upgrade: h2c\r\n¦\
    expect: 100-continue\r\n¦+3¦0x3¦fffffffffffffffff¦\t¦\0¦x: y\r\n¦ x: folded\r\n";

const RESPONSE: &str = "HTTP/1.1 200 OK\r\n¦HTTP/1.1 100 Continue\r\n\r\n¦HTTP/1.1 101 Switching Protocols\r\n\r\n¦HTTP/1.1 204\r\n¦\
    HTTP/1.0 200 OK\r\n¦HTTP/1.1 103 Early\r\n\r\n¦HTTP/1.1 304 x\r\n¦content-length: 3\r\n¦\
    content-length: 0\r\n¦transfer-encoding: chunked\r\n¦transfer-encoding: gzip\r\n¦\r\n¦\r\n¦3\r\nabc\r\n¦\
    0\r\n\r\n¦abc¦\n¦\r¦ ¦x: y\r\n¦HTTP/2 200¦999¦\0";

/// Bytes of a connection; most begin with a valid request line, so that they get past it.
fn connection() -> impl Strategy<Value = Vec<u8>> {
    let random = vec(any::<u8>(), 0..200);
    let altered = vec(proptest::sample::select(list(REQUEST)), 0..24).prop_map(|words| words.concat().into_bytes());
    let begun = vec(proptest::sample::select(list(REQUEST)), 0..16)
        .prop_map(|words| format!("POST /x HTTP/1.1\r\nhost: a\r\n{}", words.concat()).into_bytes());
    prop_oneof![1 => random, 3 => altered, 3 => begun]
}

#[test]
fn two_exchanges_pass_through_the_engine_of_the_property() {
    let client = b"POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhiGET /b HTTP/1.1\r\nhost: a\r\n\r\n";
    for manners in 0..32 {
        let received = engine::relays(manners, client, b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc");
        let received = String::from_utf8(received).unwrap();
        assert_eq!(received.matches("\r\n\r\nabc").count(), 2, "{manners}: {received}");
    }
}

/// Bytes of an upstream; most begin with a valid status line.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let begun = ("[12][0-9][0-9]", vec(proptest::sample::select(list(RESPONSE)), 0..12))
        .prop_map(|(status, words)| format!("HTTP/1.1 {status} OK\r\n{}", words.concat()).into_bytes());
    let altered = vec(proptest::sample::select(list(RESPONSE)), 0..16).prop_map(|words| words.concat().into_bytes());
    prop_oneof![3 => begun, 1 => altered]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_cookie_line_opens_or_costs_more_than_its_bound(line in words(COOKIE, 60), random in vec(any::<u8>(), 0..80)) {
        properties::cookie(line.as_bytes());
        properties::cookie(&random);
    }

    #[test]
    fn no_callback_yields_a_code_without_its_state(query in words(QUERY, 16)) {
        properties::callback(&query);
    }

    #[test]
    fn no_return_address_leaves_our_host(address in words(ADDRESS, 12), any in "\\PC{0,24}") {
        for text in [&address, &any, &format!("/{address}"), &format!("/{any}")] {
            properties::return_to(text);
        }
    }

    #[test]
    fn no_field_of_ours_and_no_hop_by_hop_field_is_forwarded(fields in words(FIELD, 60)) {
        properties::headers(fields.as_bytes());
        properties::forwarded(fields.as_bytes());
    }

    #[test]
    fn a_path_is_public_or_ours_in_one_reading_only(
        path in words(PATH, 14),
        short in words(PATH, 4),
        random in "/\\PC{0,16}",
    ) {
        properties::route(&format!("/assets/{short}"));
        properties::route(&format!("/upwork/api/{short}"));
        for text in [&path, &random, &format!("/health{path}"), &format!("/assets/{path}"), &format!("/upwork/api/{path}")] {
            properties::route(text);
        }
    }

    #[test]
    fn no_token_answer_panics_or_is_printed(status in 100_u16..1000, body in words(JSON, 16), at in 0_usize..3) {
        let status = *[200, 400, status].get(at).unwrap_or(&status);
        properties::token_answer(status, body.as_bytes());
    }

    #[test]
    fn requests_are_read_the_same_in_pieces(bytes in connection(), pieces in vec(any::<u8>(), 1..8)) {
        wire::requests(&bytes, &pieces);
    }

    #[test]
    fn responses_are_read_the_same_in_pieces(
        words in vec(proptest::sample::select(list(RESPONSE)), 0..16),
        pieces in vec(any::<u8>(), 1..8),
        head: bool,
        upgrade: bool,
    ) {
        wire::responses(words.concat().as_bytes(), &pieces, head, upgrade);
        wire::responses(format!("HTTP/1.1 200 OK\r\n{}", words.concat()).as_bytes(), &pieces, head, upgrade);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_value_of_any_length_comes_back_whole(length in 0_usize..22_000, others in "\\PC{0,40}") {
        properties::cookie_round_trip(length, &others);
    }

    #[test]
    fn no_configuration_panics_or_prints_the_secret(text in words(TOML, 40), set in words(TOML, 4)) {
        let folder = tempfile::tempdir().unwrap();
        properties::config(&folder.path().join("upwarden.toml"), text.as_bytes(), &set);
    }

    #[test]
    fn hyper_reads_what_the_strict_reader_lets_through(bytes in connection(), pieces in vec(any::<u8>(), 1..8)) {
        wire::agrees_with_hyper(&bytes, &pieces);
    }
}

#[test]
fn lengths_at_the_edges_of_a_cookie_come_back_whole() {
    for length in (4070..4090).chain([0, 1, 3880, 3883, 3884, 7768, 7770, 19_415, 19_420, 19_425]) {
        properties::cookie_round_trip(length, "a=b");
    }
}

proptest! {
    // The same cases in each run; the fuzz target searches for new ones.
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_engine_relays_whole_messages_or_cuts_them(manners: u8, client in connection(), answer in answer()) {
        engine::relays(manners, &client, &answer);
    }
}
