//! What the app learns about the user and the client: our own fields, nothing forged by a client, and everything from a
//! trusted proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::harness::{App, FREELANCER, Raw, World, head, logs};

const CLAIMS: [(&str, &str); 6] = [
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "shown.example:8443"),
    ("x-forwarded-port", "1"),
    ("forwarded", "for=203.0.113.7;proto=https"),
    ("via", "1.0 edge"),
];

#[tokio::test]
async fn the_app_gets_our_fields_and_neither_credentials_nor_hop_by_hop_fields() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    client
        .get("/x")
        .header("x-upwork-user-id", "1")
        .header("x_upwork_user_id", "1")
        .header("X-Forwarded-User", "root")
        .header("x-upwork-ticket", "upwt_mine")
        .header("authorization", "Bearer of-the-app")
        .header("connection", "x-one")
        .also("connection", "x-two, keep-alive, close")
        .header("x-one", "1")
        .header("x-two", "2")
        .header("x-three", "3")
        .header("keep-alive", "timeout=9")
        .header("proxy-connection", "close")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=203.0.113.9")
        .header("proxy-authorization", "Basic eA==")
        .header("te", "gzip")
        .header("accept-encoding", "br")
        .await;
    let seen = world.app.last();
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("GET", "/x"));
    for gone in [
        "x_upwork_user_id",
        "x-upwork-ticket",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "cookie",
    ] {
        assert_eq!(seen.header(gone), "", "{gone}: {seen:?}");
    }
    for (name, value) in [
        ("x-upwork-user-id", FREELANCER),
        ("x-forwarded-user", "foofreelancer"),
        ("authorization", "Bearer of-the-app"),
        ("accept-encoding", "br"),
        ("x-three", "3"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
    ] {
        assert_eq!(seen.header(name), value, "{name}: {seen:?}");
    }
    assert!(!seen.header("forwarded").contains("203.0.113.9"));
    assert_eq!(seen.header("x-request-id").len(), 32);
    for token in ["upwd_0123456789", "upwt_0123456789"] {
        client.get("/x").header("authorization", &format!("Bearer {token}")).await;
        assert_eq!(world.app.last().header("authorization"), "", "the app must not get a token of ours");
    }
}

#[tokio::test]
async fn forwarding_fields_of_an_untrusted_client_are_replaced() {
    let world = World::open(App::default()).start();
    world.client().get("/").headers(&CLAIMS).header("x-real-ip", "203.0.113.7").await;
    let seen = world.app.last();
    let host = seen.header("host").to_owned();
    let port = host.rsplit(':').next().unwrap().to_owned();
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert_eq!((seen.header("x-forwarded-host"), seen.header("x-forwarded-port")), (host.as_str(), port.as_str()));
    assert_eq!(seen.header("forwarded"), format!("for=127.0.0.1;host=\"{host}\";proto=http"));
    assert!(seen.header("via").starts_with("1.0 edge, 1.1 upwarden-"), "{}", seen.header("via"));
    assert_eq!(seen.header("x-real-ip"), "127.0.0.1");
}

#[tokio::test]
async fn forwarding_fields_of_a_trusted_proxy_are_extended() {
    let world = World::open(App::default()).set("public.trusted_proxies", "127.0.0.0/8").start();
    world.client().get("/").headers(&CLAIMS).await;
    let seen = world.app.last();
    assert_eq!(seen.header("x-forwarded-for"), "203.0.113.7, 127.0.0.1");
    assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")), ("https", "8443"));
    assert_eq!(seen.header("x-forwarded-host"), "shown.example:8443");
    assert_eq!(seen.header("forwarded"), "for=203.0.113.7, for=127.0.0.1;host=\"shown.example:8443\";proto=https");
}

/// A proxy that only appends an address passes the rest of its client's claims on.
const STRANGE: [(&str, &str); 9] = [
    ("x-forwarded-email", "root@example.com"),
    ("x-forwarded-groups", "admins"),
    ("x-forwarded-preferred-username", "root"),
    ("x-forwarded-uri", "/admin"),
    ("x-forwarded-client-cert", "Subject=root"),
    ("x-forwarded-prefix", "/p"),
    ("x_forwarded_prefix", "/p"),
    ("x-real-ip", "198.51.100.66"),
    ("x_real_ip", "198.51.100.66"),
];

#[tokio::test]
async fn no_other_claim_passes_behind_a_trusted_proxy_unless_it_is_listed() {
    for listed in ["", "X-Forwarded-Prefix"] {
        let plan = World::open(App::default()).set("public.trusted_proxies", "127.0.0.0/8");
        let plan = if listed.is_empty() { plan } else { plan.set("public.trusted_headers", listed) };
        let world = plan.start();
        world.client().get("/").headers(&STRANGE).header("x-forwarded-for", "203.0.113.7").await;
        let seen = world.app.last();
        for (name, value) in STRANGE {
            let left = if name.eq_ignore_ascii_case(listed) { value } else { "" };
            let expected = if name == "x-real-ip" { "203.0.113.7" } else { left };
            assert_eq!(seen.header(name), expected, "{name} with {listed:?}");
        }
    }
}

#[tokio::test]
async fn the_app_gets_the_public_scheme_for_the_public_host() {
    let world = World::open(App::default()).set("public_url", "https://tools.example.com").start();
    for (host, proto, port) in [("tools.example.com", "https", "443"), ("other.example.com", "http", "80")] {
        world.client().named(host).get("/").await;
        let seen = world.app.last();
        assert_eq!((seen.header("x-forwarded-proto"), seen.header("x-forwarded-port")), (proto, port), "{host}");
        assert_eq!(seen.header("forwarded"), format!("for=127.0.0.1;host=\"{host}\";proto={proto}"));
    }
}

#[tokio::test]
async fn behind_two_appending_proxies_a_sign_in_begins() {
    let plan = World::new().set("public_url", "https://tools.example.com");
    let world = plan.set("public.trusted_proxies", "127.0.0.1,10.0.0.9").start();
    let claims = [
        ("x-forwarded-for", "203.0.113.7, 10.0.0.9"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "tools.example.com, inner.local"),
    ];
    let answer = world.client().named("inner.local").navigate("/x").headers(&claims).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(answer.location().starts_with(&format!("http://{}/", world.upwork.address)), "{}", answer.location());
}

#[tokio::test]
async fn an_invalid_byte_neither_hides_an_address_nor_forges_one() {
    let world = World::open(App::default()).set("public.trusted_proxies", "127.0.0.0/8").start();
    for (claims, forwarded) in [
        ("\u{ff}, 203.0.113.9", "unknown, 203.0.113.9, 127.0.0.1"),
        ("\u{ff}\r\nX-Forwarded-For: 203.0.113.9", "unknown, 203.0.113.9, 127.0.0.1"),
        (", 203.0.113.9 ,,", "203.0.113.9, 127.0.0.1"),
    ] {
        let mut client = Raw::to(world.public_address()).await;
        let fields = format!("X-Forwarded-For: {claims}\r\nForwarded: for=6.6.6.6\r\nVia: 1.0 edge (\u{e9})");
        client.send(format!("GET /whose-byte HTTP/1.0\r\nHost: a\r\n{fields}\r\n\r\n")).await;
        assert!(client.rest().await.contains(" 200 "));
        let seen = world.app.last();
        assert_eq!(seen.header("x-forwarded-for"), forwarded, "{claims}");
        assert!(seen.headers["via"].as_bytes().starts_with("1.0 edge (\u{e9}), 1.0 upwarden-".as_bytes()));
        let lines = logs();
        let line = lines.lines().rfind(|line| line.contains("/whose-byte")).unwrap();
        assert!(line.contains("203.0.113.9"), "{line}");
    }
}

#[tokio::test]
async fn the_host_setting_decides_which_host_the_app_gets() {
    for (setting, host) in [("keep", "asked.example"), ("inner.example", "inner.example")] {
        let world = World::open(App::default()).set("app.host", setting).start();
        world.client().named("asked.example").get("/").await;
        assert_eq!(world.app.last().header("host"), host);
        assert_eq!(world.app.last().header("x-forwarded-host"), "asked.example");
    }
    let world = World::open(App::default()).set("app.host", "app").start();
    world.client().get("/").await;
    let (asked, seen) = (world.public_address().to_string(), world.app.last());
    assert!(seen.header("host").starts_with("127.0.0.1:") && seen.header("host") != asked);
}

#[tokio::test]
async fn a_request_loop_is_answered_508() {
    let door_of = Arc::new(OnceLock::<SocketAddr>::new());
    let round = Arc::new(AtomicUsize::new(0));
    let (to, counted) = (door_of.clone(), round.clone());
    // An app that leads back to upwarden.
    let relay = App::raw(move |mut stream| {
        let (to, counted) = (to.clone(), counted.clone());
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            let mut back = TcpStream::connect(*to.get().unwrap()).await.unwrap();
            // Either side may end first; an error shows in the answer.
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut back).await;
        }
    });
    let world = World::open(relay).start();
    door_of.set(world.public_address()).unwrap();
    let answer = world.client().get("/round").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["type"]), (508, &"urn:upwarden:request-loop".into()));
    assert_eq!(round.load(Ordering::SeqCst), 1);
    // Another pseudonym is not a loop: one upwarden may stand behind another.
    let world = World::open(App::default()).start();
    assert_eq!(world.client().get("/").header("via", "1.1 upwarden-0123456789abcdef, 1.1 upwarden").await.status, 200);
}

#[tokio::test]
async fn options_goes_no_further_than_max_forwards() {
    let world = World::open(App::default()).start();
    let ask = async |steps: &str| {
        world.client().call(http::Method::OPTIONS, "/far").header("max-forwards", steps).await.status.as_u16()
    };
    assert_eq!(ask("0").await, 204);
    assert!(world.app.seen().is_empty());
    assert_eq!((ask("3").await, world.app.last().header("max-forwards").to_owned()), (200, "2".to_owned()));
    world.client().get("/").header("max-forwards", "0").await;
    assert_eq!(world.app.last().header("max-forwards"), "0", "Max-Forwards is for OPTIONS only");
}

#[tokio::test]
async fn a_clients_fields_keep_their_order_and_spelling() {
    let (sent, seen) = tokio::sync::oneshot::channel();
    let sent = Mutex::new(Some(sent));
    let app = App::raw(move |mut stream| {
        let sent = sent.lock().unwrap().take();
        async move {
            let asked = head(&mut stream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
            sent.unwrap().send(asked).unwrap();
        }
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    let theirs = ["X-SOAPAction: b", "hoST: a", "x-again: 1", "SOAPAction: \"x\"", "X-Again: 2", "ACCEPT: x/y"];
    client.send(format!("GET / HTTP/1.1\r\n{}\r\n\r\n", theirs.join("\r\n"))).await;
    client.until("ok").await;
    let seen = seen.await.unwrap();
    assert_eq!(seen.lines().skip(1).take(theirs.len()).collect::<Vec<_>>(), theirs, "{seen}");
}
