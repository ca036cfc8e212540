//! A client's header fields, and what the app and Upwork see of them.

use crate::harness::{FREELANCER, World, logs};

/// What the app must get, whatever the client sends: exactly one line each, with our value.
const TRUE: [(&str, &str); 4] = [
    ("x-upwork-user-id", FREELANCER),
    ("x-upwork-user", "foofreelancer"),
    ("x-forwarded-user", "foofreelancer"),
    ("x-upwork-user-name", "Foo Bar"),
];

/// Lines with which a client tries to look like another user, separated by `¦`.
const IDENTITY: &str = "X-Upwork-User-Id: evil¦x-upwork-user-id:evil¦X-UPWORK-USER-ID: \tevil¦X_Upwork_User_Id: evil¦\
    X-Upwork_User-Id: evil¦x.upwork.user.id: evil¦x~upwork~user: evil¦X-Upwork-User: evil¦x_upwork_user: evil¦\
    X-Upwork-User-Name: evil¦x-upwork-user_name: evil¦X-Upwork-Organization-Id: evil¦\
    X_Upwork_Organization_Id: evil¦X-Upwork-Ticket: evil¦x_upwork_ticket: evil¦X-Forwarded-User: evil¦\
    X_Forwarded_User: evil¦x.forwarded.user: evil¦X-Request-Id: evil¦x_request_id: evil¦X-Upwarden-Secret: evil¦\
    X-Original-URL: /evil¦X-Rewrite-URL: /evil¦X_Original_URL: /evil¦\
    Content_Length: evil¦Transfer_Encoding: evil¦transfer.encoding: evil¦Proxy: http://evil";

/// Lines with which an untrusted client tries to look as if it were elsewhere.
const CLAIMS: &str = "X-Forwarded-For: 10.66.66.66¦X_Forwarded_For: 10.66.66.66¦x.forwarded.for: 10.66.66.66¦\
    X-Forwarded-Proto: evil¦x_forwarded_proto: evil¦X-Forwarded-Host: evil¦X-Forwarded_Host: evil¦\
    X-Forwarded-Port: 66¦X-Forwarded-Prefix: /evil¦X-Forwarded-Uri: /evil¦X-Forwarded-Server: evil¦\
    X-Forwarded-Ssl: evil¦X-Forwarded-Email: evil@evil¦X-Forwarded-Groups: evil¦\
    X-Forwarded-Preferred-Username: evil¦X-Forwarded-Client-Cert: By=evil¦X-Real-IP: 10.66.66.66¦\
    Forwarded: for=10.66.66.66;host=evil;proto=https";

/// Ways to have our fields removed, each with several `Connection` lines.
const CONNECTIONS: [&[&str]; 6] = [
    &["Connection: x-upwork-user-id"],
    &["Connection: close, X-Upwork-User-Id, x-forwarded-user"],
    &["Connection: keep-alive", "Connection: x-upwork-user-id, x-upwork-user"],
    &["Connection: x-one", "Connection: x-two", "Connection: X-Forwarded-For, Forwarded, X-Request-Id"],
    &["Connection: host, cookie, authorization"],
    &["Connection: ,, ,x-upwork-user-id,", "Keep-Alive: x-upwork-user-id", "Proxy-Connection: x-upwork-user"],
];

/// The status of a request with these lines, sent as they are.
async fn send(world: &World, target: &str, lines: &[&str], cookies: &str) -> u16 {
    let host = world.url("");
    let host = host.strip_prefix("http://").unwrap_or_default();
    let sent: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
    let named = lines.iter().any(|line| line.to_ascii_lowercase().starts_with("connection"));
    let close = if named { "" } else { "Connection: close\r\n" };
    // If the connection stays open, the next request ends it.
    let text = format!(
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\n{sent}{close}\r\n\
         GET /upwork/none HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    let answer = String::from_utf8_lossy(&world.client().raw(text.as_bytes()).await).into_owned();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

async fn signed_in(world: &World) -> String {
    let client = world.sign_in(FREELANCER).await;
    let sealed = client.jar().get("upwarden").expect("a session").to_owned();
    format!("upwarden={sealed}")
}

#[tokio::test]
async fn only_we_tell_the_app_who_the_user_is() {
    let world = World::new().start();
    let cookie = signed_in(&world).await;
    let cases = IDENTITY.split('¦').map(|line| vec![line]).chain(CONNECTIONS.iter().map(|lines| lines.to_vec()));
    let cases = cases.chain(CONNECTIONS.iter().map(|lines| IDENTITY.split('¦').chain(lines.iter().copied()).collect()));
    for lines in cases {
        assert_eq!(send(&world, "/a", &lines, &cookie).await, 200, "{lines:?}");
        let seen = world.app.last();
        for (name, value) in TRUE {
            let found: Vec<_> = seen.headers.get_all(name).iter().collect();
            assert_eq!(found, [value], "{name} after {lines:?}");
        }
        let evil = seen.headers.iter().find(|(_, value)| value.as_bytes().windows(4).any(|part| part == b"evil"));
        assert_eq!(evil, None, "{lines:?}");
        assert_eq!(seen.header("x-request-id").len(), 32);
        assert!(!seen.headers.contains_key("keep-alive") && !seen.headers.contains_key("proxy-connection"));
    }
}

#[tokio::test]
async fn no_user_is_named_on_a_public_path_without_a_session() {
    let world = World::new().public("/health").start();
    assert_eq!(send(&world, "/health", &IDENTITY.split('¦').collect::<Vec<_>>(), "a=b").await, 200);
    let seen = world.app.last();
    let named = |name: &http::HeaderName| {
        let name = name.as_str().replace(['_', '.', '~'], "-");
        name.starts_with("x-upwork") || name == "x-forwarded-user" || name == "x-original-url"
    };
    assert_eq!(seen.headers.keys().find(|name| named(name)), None);
}

#[tokio::test]
async fn forwarding_fields_of_an_untrusted_client_do_not_reach_the_app() {
    let world = World::new().start();
    let cookie = signed_in(&world).await;
    assert_eq!(send(&world, "/a", &CLAIMS.split('¦').collect::<Vec<_>>(), &cookie).await, 200);
    let seen = world.app.last();
    for (name, value) in &seen.headers {
        let text = value.to_str().unwrap_or_default();
        assert!(!text.contains("evil") && !text.contains("10.66.66.66"), "{name}: {text}");
    }
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    let port = world.url("").rsplit_once(':').map(|(_, port)| port.to_owned()).expect("a port");
    assert_eq!(seen.header("x-forwarded-port"), port);
}

#[tokio::test]
async fn our_cookies_reach_neither_the_app_nor_the_api() {
    let world = World::new().start();
    let cookie = signed_in(&world).await;
    for (sent, left) in [
        (format!("a=1; {cookie}; b=2"), "a=1; b=2"),
        (format!("{cookie};a=1"), "a=1"),
        (format!("a=1;{cookie} ; upwarden-1=x; upwarden-9=x; upwarden-login-1=y; upwarden-login-8-1=z"), "a=1"),
        (format!("  {cookie}"), ""),
        (format!("upwardenx=1; Upwarden=2; {cookie}"), "upwardenx=1; Upwarden=2"),
        (format!("$Version=1; {cookie}; $Path=/"), "$Version=1; $Path=/"),
    ] {
        assert_eq!(send(&world, "/a", &[], &sent).await, 200, "{sent}");
        assert_eq!(world.app.last().header("cookie"), left, "{sent}");
        assert_eq!(send(&world, "/upwork/api/hr/v2/users/me.json", &[], &sent).await, 200, "{sent}");
    }
    for seen in world.upwork.sandbox.requests().iter().filter(|seen| seen.target.starts_with("/api/hr/")) {
        assert_eq!(seen.header("cookie"), None);
    }
}

#[tokio::test]
async fn a_clients_authorization_reaches_the_app_unless_it_is_ours_and_never_reaches_upwork() {
    let world = World::new().start();
    let cookie = signed_in(&world).await;
    for (line, passes) in [
        ("Authorization: Bearer app-token", true),
        ("Authorization: Basic YTpi", true),
        ("Authorization: upwd", true),
        ("Authorization: Bearer upwd_0123456789abcdefghijklmnopqrstuvABCDEF", false),
        ("Authorization: bearer upwt_0123456789", false),
        ("Authorization: Bearer\tupwd_0123456789", false),
        ("Authorization: Bearer  upwd_0123456789", false),
        ("Authorization: upwt_0123456789", false),
    ] {
        assert_eq!(send(&world, "/a", &[line], &cookie).await, 200, "{line}");
        assert_eq!(world.app.last().headers.contains_key("authorization"), passes, "{line}");
        // The sandbox knows our bearer only: were the client's sent, this would be its 401.
        if passes {
            assert_eq!(send(&world, "/upwork/api/hr/v2/users/me.json", &[line], &cookie).await, 200, "{line}");
        }
    }
}

#[tokio::test]
async fn an_answer_of_the_api_cannot_act_as_a_page_of_the_app() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.fault(&serde_json::json!({ "api": "html", "times": 1 }));
    let answer = client.navigate("/upwork/api/hr/v2/users/me.json").header("sec-fetch-site", "same-origin").await;
    assert!(answer.text().contains('<'), "{}", answer.text());
    assert_eq!(answer.header("content-security-policy"), "default-src 'none'; sandbox");
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn one_client_behind_an_unlisted_proxy_locks_no_one_out() {
    let world = World::new().set("public.limits.sign_ins_per_address", 3).start();
    let client = world.client();
    for number in 0..6 {
        let answer = client.navigate("/x").header("x-forwarded-for", &format!("203.0.113.{number}")).await;
        assert_eq!(answer.status, 303, "{number}: {}", answer.text());
    }
    let back = world.callback(&client, "/x").await;
    for _ in 0..6 {
        let answer = world.client().get(&back).header("forwarded", "for=203.0.113.1").await;
        assert_ne!(answer.status, 429, "{}", answer.text());
    }
    let warned =
        logs().lines().filter(|line| line.contains("public.trusted_proxies") && line.contains("127.0.0.1")).count();
    assert!(warned >= 1);
    // If a proxy is listed, or the request was not forwarded, an address counts for itself.
    for (proxies, forwarded) in [("203.0.113.9", true), ("", false)] {
        let world =
            World::new().set("public.limits.sign_ins_per_address", 3).set("public.trusted_proxies", proxies).start();
        let mut statuses = Vec::new();
        for _ in 0..4 {
            let call = world.client().navigate("/x");
            let call = if forwarded { call.header("x-forwarded-for", "203.0.113.1") } else { call };
            statuses.push(call.await.status.as_u16());
        }
        assert_eq!(statuses, [303, 303, 303, 429], "{proxies}");
    }
}
