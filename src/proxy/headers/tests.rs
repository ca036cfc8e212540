use http::HeaderMap;

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn owns(name: &str) -> bool {
    name == "__Host-upwarden"
}

fn for_app(client: HeaderMap) -> AppHeaders {
    let client = Fields::from(client);
    let cookies = RequestCookies::parse(&client, owns);
    AppHeaders::from_client(client, &cookies)
}

fn sent(headers: &AppHeaders) -> HeaderMap {
    collected(headers.lines())
}

fn collected<'a>(lines: impl Iterator<Item = Line<'a>>) -> HeaderMap {
    lines.map(|line| (line.name.clone(), line.value.clone())).collect()
}

#[test]
fn every_connection_line_is_stripped_before_ours_are_set() {
    let client = map(&[
        ("connection", "close, x-one"),
        ("connection", "x-two, x-upwork-user-id"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("x-two", "2 again"),
        ("keep-alive", "timeout=5"),
        ("transfer-encoding", "chunked"),
        ("te", "trailers, deflate"),
        ("upgrade", "websocket"),
        ("proxy-authorization", "Basic x"),
        ("trailer", "x-sum"),
        ("host", "app"),
    ]);
    let mut headers = for_app(client);
    headers.set(USER_ID, HeaderValue::from_static("1"));
    let expected = map(&[
        ("trailer", "x-sum"),
        ("host", "app"),
        ("te", "trailers"),
        ("connection", "TE"),
        ("x-upwork-user-id", "1"),
    ]);
    assert_eq!(sent(&headers), expected);
}

#[test]
fn identity_fields_and_their_look_alikes_are_dropped() {
    let client = map(&[
        ("x-upwork-user-id", "evil"),
        ("x_upwork_user_id", "evil"),
        ("X-Upwork_User-Name", "evil"),
        ("x-forwarded_user", "evil"),
        ("x-request-id", "evil"),
        ("x_upwork_ticket", "evil"),
        ("x.upwork.user", "evil"),
        ("x-upwork~user-id", "evil"),
        ("x-original-url", "/admin"),
        ("x_rewrite_url", "/admin"),
        ("x-upwork-userid", "another field"),
        ("x-upwork-api-tenantid", "another field"),
    ]);
    let mut kept: Vec<String> = sent(&for_app(client)).keys().map(ToString::to_string).collect();
    kept.sort();
    assert_eq!(kept, ["x-upwork-api-tenantid", "x-upwork-userid"]);
}

#[test]
fn the_app_gets_only_its_own_cookies() {
    let client =
        map(&[("cookie", "a=1; __Host-upwarden=secret; b=\"2; c"), ("cookie", " __Host-upwarden=other ; d=é")]);
    let headers = sent(&for_app(client));
    assert_eq!(headers.get(COOKIE).unwrap().as_bytes(), "a=1; b=\"2; c; d=é".as_bytes());
    let only = sent(&for_app(map(&[("cookie", "__Host-upwarden=secret")])));
    assert!(!only.contains_key(COOKIE));
    let none = sent(&for_app(map(&[("cookie", "a=1;b=2;  c")])));
    assert_eq!(none.get(COOKIE).unwrap(), "a=1;b=2;  c");
}

#[test]
fn only_a_well_formed_upgrade_is_forwarded() {
    let asked = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    let headers = sent(&for_app(asked));
    assert_eq!(headers, map(&[("connection", "upgrade"), ("upgrade", "websocket")]));
    for fields in
        [&[("upgrade", "websocket")][..], &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c")][..]]
    {
        assert!(sent(&for_app(map(fields))).is_empty(), "{fields:?}");
    }
}

#[test]
fn only_listed_fields_go_to_upwork() {
    let caller = map(&[
        ("authorization", "Bearer evil"),
        ("cookie", "a=1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("content-type", "application/json"),
        ("x-upwork-api-tenantid", "7"),
        ("x-http-method-override", "DELETE"),
        ("connection", "accept"),
        ("accept", "x/y"),
    ]);
    let mut headers = ApiHeaders::from_caller(
        caller.into(),
        &HeaderValue::from_static("upwarden"),
        Some(&HeaderValue::from_static("9")),
    );
    headers.authorize(HeaderValue::from_static("Bearer refused"));
    headers.authorize(HeaderValue::from_static("Bearer good"));
    let expected = map(&[
        ("content-type", "application/json"),
        ("x-upwork-api-tenantid", "7"),
        ("user-agent", "upwarden"),
        ("authorization", "Bearer good"),
    ]);
    assert_eq!(collected(headers.lines()), expected);
}

#[test]
fn an_empty_user_agent_is_replaced_by_ours() {
    for (sent, goes) in [("", "upwarden"), (" ", "upwarden"), ("theirs", "theirs")] {
        let caller = map(&[("user-agent", sent)]);
        let headers = ApiHeaders::from_caller(caller.into(), &HeaderValue::from_static("upwarden"), None);
        assert_eq!(collected(headers.lines()), map(&[("user-agent", goes)]), "{sent:?}");
    }
}

#[test]
fn what_upwork_tells_browsers_on_its_own_site_is_dropped() {
    let mut answer = Fields::from(map(&[
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("strict-transport-security", "max-age=1"),
        ("alt-svc", "h3"),
        ("clear-site-data", "*"),
        ("x-upwork-error-message", "kept"),
        ("connection", "close"),
    ]));
    clean_api_response(&mut answer);
    let expected = map(&[
        ("x-upwork-error-message", "kept"),
        ("content-security-policy", "default-src 'none'; sandbox"),
        ("x-content-type-options", "nosniff"),
    ]);
    assert_eq!(HeaderMap::from(answer), expected);
}

#[test]
fn the_app_cannot_set_our_cookies() {
    let mut answer = Fields::from(map(&[
        ("set-cookie", "a=1"),
        ("set-cookie", "__Host-upwarden=planted; Path=/"),
        ("set-cookie", " = __Host-upwarden=planted"),
        ("set-cookie", "b=2"),
    ]));
    clean_app_response(&mut answer, owns);
    assert_eq!(HeaderMap::from(answer), map(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]));
}

#[test]
fn names_that_are_not_ascii_are_percent_encoded() {
    assert_eq!(ascii_value("Foo Bar"), "Foo Bar");
    assert_eq!(ascii_value("Zoë 100%"), "Zo%C3%AB%20100%25");
    assert_eq!(ascii_value("a\r\nb"), "a%0D%0Ab");
}

#[test]
fn the_clients_fields_keep_their_order_and_ours_replace_them() {
    let client = [("b", "1"), ("a", "2"), ("host", "app"), ("b", "3"), ("via", "x"), ("accept", "y")];
    let mut headers = for_app(map(&client));
    headers.set(http::header::VIA, HeaderValue::from_static("x, ours"));
    headers.set_where_missing(HOST, || HeaderValue::from_static("other"));
    let sent: Vec<_> = headers.lines().map(|line| (line.name.as_str(), line.value.to_str().unwrap())).collect();
    let expected = [("b", "1"), ("b", "3"), ("a", "2"), ("host", "app"), ("accept", "y"), ("via", "x, ours")];
    assert_eq!(sent, expected);
}
