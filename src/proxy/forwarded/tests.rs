use http::HeaderMap;

use super::*;

fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn forward(peer: &str, fields: &[(&'static str, &str)], trusted: &[&str]) -> (Origin, HeaderMap) {
    let trust = Trust::new("https://tools.example", trusted.iter().map(|net| net.parse().unwrap()).collect());
    let client = Fields::from(map(fields));
    let origin = Origin::find(Some(peer.parse().unwrap()), false, &client, &trust);
    let claims = Claims::read(&client);
    let mut headers = AppHeaders::from_client(client, &crate::cookies::RequestCookies::default());
    origin.fields(&claims).write_to(&mut headers, &[HeaderName::from_static("x-forwarded-prefix")]);
    (origin, headers.lines().map(|line| (line.name.clone(), line.value.clone())).collect())
}

#[test]
fn claims_of_an_untrusted_peer_are_dropped() {
    let fields = [
        ("host", "app.example:8080"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "10.0.0.1"),
        ("forwarded", "for=10.0.0.1"),
        ("x_forwarded_for", "10.0.0.1"),
        ("x-forwarded_proto", "https"),
        ("x.real.ip", "10.0.0.1"),
        ("x-forwarded-uri", "/admin"),
        ("x-forwarded-email", "root@example"),
        ("x-forwarded-client-cert", "By=x"),
        ("x-forwarded-prefix", "/p"),
    ];
    let (origin, headers) = forward("192.0.2.7", &fields, &["10.0.0.0/8"]);
    assert_eq!(origin.client, Some("192.0.2.7".parse().unwrap()));
    assert!(!origin.https);
    let expected = map(&[
        ("host", "app.example:8080"),
        ("x-forwarded-for", "192.0.2.7"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "app.example:8080"),
        ("x-forwarded-port", "8080"),
        ("x-real-ip", "192.0.2.7"),
        ("forwarded", "for=192.0.2.7;host=\"app.example:8080\";proto=http"),
    ]);
    assert_eq!(headers, expected);
}

#[test]
fn claims_of_a_trusted_proxy_are_extended() {
    let fields = [
        ("host", "inner"),
        ("x-forwarded-for", "6.6.6.6, 198.51.100.9"),
        ("x-forwarded-for", "10.0.0.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "tools.example"),
        ("x-forwarded-prefix", "/p"),
        ("x_forwarded_prefix", "/evil"),
        ("x_forwarded_host", "evil"),
        ("x-forwarded-email", "root@example"),
        ("x-forwarded-groups", "admins"),
        ("x-forwarded-preferred-username", "root"),
        ("x-forwarded-uri", "/admin"),
        ("x-forwarded-client-cert", "By=x"),
        ("x-real-ip", "6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
    ];
    let (origin, headers) = forward("10.0.0.1", &fields, &["10.0.0.0/8"]);
    assert_eq!(origin.client, Some("198.51.100.9".parse().unwrap()));
    assert!(origin.https);
    assert_eq!(origin.host.unwrap(), "tools.example");
    assert_eq!(headers.get("x-forwarded-for").unwrap(), "6.6.6.6, 198.51.100.9, 10.0.0.2, 10.0.0.1");
    assert_eq!(headers.get("x-forwarded-port").unwrap(), "443");
    assert_eq!(headers.get("x-forwarded-prefix").unwrap(), "/p");
    assert_eq!(headers.get("x-real-ip").unwrap(), "198.51.100.9");
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let left = ["forwarded", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix"];
    assert_eq!(names, [&left[..], &["x-forwarded-proto", "x-real-ip"]].concat());
}

#[test]
fn the_values_belong_to_the_hop_at_which_the_chain_of_addresses_ends() {
    let chain = "203.0.113.7, 10.0.0.9";
    for (protos, hosts, ports, expected) in [
        ("https, http", "tools.example:8443, inner", "8443, 80", "true tools.example:8443 8443"),
        ("http, https, http", "evil, shown, inner", "1, 8443, 80", "true shown 8443"),
        // One proxy sets them, and the other passes them on.
        ("https", "shown", "8443", "true shown 8443"),
        ("https", "shown, inner", "", "true shown 443"),
    ] {
        let fields = [
            ("x-forwarded-for", chain),
            ("x-forwarded-proto", protos),
            ("x-forwarded-host", hosts),
            ("x-forwarded-port", ports),
        ];
        assert_eq!(seen(&fields), expected, "{fields:?}");
        assert_eq!(client(&fields), "203.0.113.7");
    }
    // Fewer elements than proxies: all but the last may be forged.
    let fields = [("x-forwarded-for", "203.0.113.7, 10.0.0.8, 10.0.0.9"), ("x-forwarded-proto", "https, http")];
    assert_eq!(seen(&fields), "false  80");
    // An address that is not trusted ends the chain.
    let fields = [("x-forwarded-for", "203.0.113.7, 192.0.2.9"), ("x-forwarded-proto", "https, http")];
    assert_eq!(seen(&fields), "false  80");
}

#[test]
fn a_request_for_the_public_host_has_the_public_scheme() {
    let ours = ("host", "Tools.example");
    for (peer, fields, expected) in [
        ("192.0.2.7", &[ours][..], "true Tools.example 443"),
        ("192.0.2.7", &[("host", "tools.example:443")], "true tools.example:443 443"),
        ("192.0.2.7", &[("host", "tools.example:80")], "false tools.example:80 80"),
        ("192.0.2.7", &[("host", "other.example")], "false other.example 80"),
        ("192.0.2.7", &[ours, ("x-forwarded-proto", "http")], "true Tools.example 443"),
        ("10.0.0.1", &[ours], "true Tools.example 443"),
        ("10.0.0.1", &[ours, ("x-forwarded-port", "8080")], "true Tools.example 443"),
        // A trusted proxy's claim wins.
        ("10.0.0.1", &[ours, ("x-forwarded-proto", "http")], "false Tools.example 80"),
        ("10.0.0.1", &[("host", "inner"), ("x-forwarded-host", "tools.example")], "true tools.example 443"),
    ] {
        assert_eq!(seen_from(peer, fields), expected, "{peer} {fields:?}");
    }
}

fn seen_from(peer: &str, fields: &[(&'static str, &str)]) -> String {
    let (origin, headers) = forward(peer, fields, PROXY);
    let host = origin.host.map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
    let proto = if origin.https { "https" } else { "http" };
    assert_eq!(headers.get("x-forwarded-proto").unwrap(), proto);
    format!("{} {host} {}", origin.https, headers.get("x-forwarded-port").unwrap().to_str().unwrap())
}

fn seen(fields: &[(&'static str, &str)]) -> String {
    seen_from("10.0.0.1", fields)
}

const PROXY: &[&str] = &["10.0.0.0/8"];

fn client(fields: &[(&'static str, &str)]) -> String {
    forward("10.0.0.1", fields, PROXY).0.client.unwrap().to_string()
}

#[test]
fn forwarded_is_read_only_without_any_x_forwarded_field() {
    assert_eq!(client(&[("forwarded", "for=\"[2001:db8::1]:99\";proto=https, for=10.0.0.3")]), "2001:db8::1");
    for (name, value) in [("x-forwarded-for", ""), ("x-forwarded-proto", "http"), ("x-forwarded-host", "a")] {
        let fields = [(name, value), ("forwarded", "for=6.6.6.6;proto=https;host=evil")];
        let (origin, _) = forward("10.0.0.1", &fields, PROXY);
        assert_eq!((client(&fields).as_str(), origin.https), ("10.0.0.1", false), "{name}");
        assert!(origin.host.is_none_or(|host| host == "a"), "{name}");
    }
}

#[test]
fn both_chains_say_what_was_trusted() {
    let both = |fields: &[(&'static str, &str)]| {
        let (_, headers) = forward("10.0.0.1", fields, PROXY);
        ["x-forwarded-for", "forwarded"].map(|name| headers.get(name).unwrap().to_str().unwrap().to_owned())
    };
    let end = "for=10.0.0.1;proto=http";
    let claims = [("x-forwarded-for", "5.6.7.8, [2001:db8::1]:80, x"), ("forwarded", "for=1.2.3.4")];
    let expected = format!("for=5.6.7.8, for=\"[2001:db8::1]\", for=unknown, {end}");
    assert_eq!(both(&claims), ["5.6.7.8, [2001:db8::1]:80, x, 10.0.0.1", expected.as_str()]);
    let chain = "for=\"[2001:db8::1]:80\", for=_hidden, proto=http, for=5.6.7.8";
    let expected = "2001:db8::1, unknown, unknown, 5.6.7.8, 10.0.0.1";
    assert_eq!(both(&[("forwarded", chain)]), [expected.to_owned(), format!("{chain}, {end}")]);
    assert_eq!(both(&[("x-forwarded-proto", "http"), ("forwarded", "for=1.2.3.4")]), ["10.0.0.1", end]);
}

#[test]
fn an_unreadable_claim_ends_the_chain_of_trust_and_nothing_else() {
    for (value, expected) in [
        ("1.1.1.1, nonsense, 10.0.0.5", "10.0.0.5"),
        ("\u{ff}, 203.0.113.9", "203.0.113.9"),
        ("6.6.6.6, \u{ff}", "10.0.0.1"),
        ("6.6.6.6, \u{ff}, 10.0.0.5", "10.0.0.5"),
        (", 203.0.113.9, ,", "203.0.113.9"),
        ("203.0.113.9:1234", "203.0.113.9"),
    ] {
        assert_eq!(client(&[("x-forwarded-for", value), ("forwarded", "for=6.6.6.6")]), expected, "{value}");
    }
    assert_eq!(client(&[("x-forwarded-for", "\u{ff}"), ("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
    let fields = [("x-forwarded-for", "6.6.6.6, \u{ff}, , 203.0.113.9")];
    let (_, headers) = forward("10.0.0.1", &fields, PROXY);
    assert_eq!(headers.get("x-forwarded-for").unwrap(), "6.6.6.6, unknown, 203.0.113.9, 10.0.0.1");
}

#[test]
fn forwarded_is_split_outside_of_its_quoted_strings() {
    for (value, expected) in [
        ("for=203.0.113.9;by=\"a,b;for=6.6.6.6\"", "203.0.113.9"),
        ("for=6.6.6.6;x=\"\\\", for=7.7.7.7\", for=203.0.113.9", "203.0.113.9"),
        ("for=\"x, for=203.0.113.9", "203.0.113.9"),
        ("for=\"x, for=\"[2001:db8::1]:80\"", "2001:db8::1"),
        ("for=203.0.113.9, for=unknown", "10.0.0.1"),
        ("for=6.6.6.6, proto=https", "10.0.0.1"),
        ("For=\"203.0.113.9\" ; Proto=http", "203.0.113.9"),
    ] {
        assert_eq!(client(&[("forwarded", value)]), expected, "{value}");
    }
    // A string whose end only one of two readers sees is dropped.
    for open in ["for=\"x", "for=\"x\\\"", "for=\u{ff}"] {
        let (_, headers) = forward("10.0.0.1", &[("forwarded", open), ("forwarded", "for=203.0.113.9")], PROXY);
        let expected = "for=unknown, for=203.0.113.9, for=10.0.0.1;proto=http";
        assert_eq!(headers.get("forwarded").unwrap(), expected, "{open}");
    }
}

#[test]
fn protocol_host_and_port_are_used_only_if_valid() {
    assert_eq!(seen(&[("x-forwarded-proto", "wss"), ("x-forwarded-host", "a")]), "true a 443");
    assert_eq!(seen(&[("x-forwarded-proto", "ws"), ("x-forwarded-host", "a")]), "false a 80");
    assert_eq!(seen(&[("host", "b"), ("x-forwarded-host", "a b\"c")]), "false b 80");
    assert_eq!(seen(&[("host", "b"), ("x-forwarded-port", "8443")]), "false b 8443");
    assert_eq!(seen(&[("host", "b:1"), ("x-forwarded-port", "8443")]), "false b:1 1");
    assert_eq!(seen(&[("host", "b"), ("x-forwarded-port", "0x1")]), "false b 80");
    let chain = "for=203.0.113.9;proto=https;host=\"shown:8443\", for=10.0.0.2;proto=http;host=inner";
    assert_eq!(seen(&[("host", "b"), ("forwarded", chain)]), "true shown:8443 8443");
    assert_eq!(seen(&[("host", "b"), ("forwarded", "proto=https;host=shown")]), "true shown 443");
}
