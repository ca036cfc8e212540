//! The access log: one line per request, however it ends, with nothing in it that was not read.

use std::collections::BTreeSet;

use tokio::io::AsyncWriteExt;

use crate::harness::{App, Raw, Start, World, access_line, head, logs, until};

#[tokio::test]
async fn a_request_whose_client_left_is_logged_and_counted() {
    let world = World::open(App::new(|_| std::future::pending())).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET /given-up?secret HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request to reach the app", async || (!world.app.seen().is_empty()).then_some(())).await;
    client.0.set_zero_linger().unwrap();
    drop(client);
    let line = until("its line", async || {
        logs().lines().find(|line| line.contains("\"path\":\"/given-up\"")).map(str::to_owned)
    })
    .await;
    assert!(line.contains("\"status\":499") && line.contains("\"fault\":\"client-gone\""), "{line}");
    assert_eq!(world.metric("upwarden_requests_total{route=\"app\",status=\"4xx\"}").await, 1);
}

#[tokio::test]
async fn the_line_of_a_refused_message_names_the_rule_and_invents_nothing() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na").await;
    let answer = client.rest().await;
    let line = access_line(&answer);
    assert!(line.contains("\"route\":\"none\""), "{line}");
    assert!(line.contains("\"reason\":\"content_length_repeated\""), "{line}");
    assert!(!line.contains("\"method\"") && !line.contains("\"path\""), "{line}");
}

#[tokio::test]
async fn as_json_a_line_has_the_fields_of_any_other() {
    let sidecar = Start::with(App::default()).start();
    let answer = sidecar.client().get("/a%22'%C3%A9?secret").await;
    let id = answer.header("x-request-id").to_owned();
    let log = sidecar.log();
    let line = log.iter().find(|line| line["request_id"] == id).unwrap_or_else(|| panic!("{log:#?}"));
    let fields: Vec<&str> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "timestamp",
        "level",
        "message",
        "door",
        "request_id",
        "method",
        "path",
        "route",
        "status",
        "micros",
        "upstream_micros",
        "total_micros",
        "bytes",
        "client",
    ];
    assert_eq!(fields.iter().collect::<BTreeSet<_>>(), expected.iter().collect(), "{line}");
    assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"request".into()));
    assert_eq!((&line["door"], &line["route"], &line["status"]), (&"public".into(), &"app".into(), &200.into()));
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/a%22'%C3%A9".into()));
    assert_eq!(line["client"], "127.0.0.1");
    let [upstream, head, total] =
        ["upstream_micros", "micros", "total_micros"].map(|name| line[name].as_u64().unwrap());
    assert!(upstream <= head && head <= total, "{line}");
    assert_eq!(line["bytes"], answer.body.len());
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[tokio::test]
async fn no_request_has_a_line_if_they_are_switched_off() {
    let sidecar = Start::with(App::default()).set("log.access", false).start();
    sidecar.client().get("/").await;
    let log = sidecar.log();
    assert!(!log.is_empty() && log.iter().all(|line| line["message"] != "request"), "{log:#?}");
}

#[tokio::test]
async fn a_line_is_written_at_the_end_of_the_answer_with_its_bytes_and_says_if_it_was_cut() {
    let app = App::raw(|mut stream| async move {
        let asked = head(&mut stream).await.unwrap();
        let length = if asked.contains("/cut-answer") { 7 } else { 6 };
        let answer = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n123456");
        let _ = stream.write_all(answer.as_bytes()).await;
    });
    let world = World::open(app).start();
    for (path, cut) in [("/whole-answer", false), ("/cut-answer", true)] {
        let mut client = Raw::to(world.public_address()).await;
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        client.until("123456").await;
        let line = until("its line", async || {
            logs().lines().find(|line| line.contains(&format!("\"path\":\"{path}\""))).map(str::to_owned)
        })
        .await;
        assert!(line.contains("\"bytes\":6") && line.contains("\"status\":200"), "{line}");
        assert_eq!(line.contains("\"cut\":true"), cut, "{line}");
    }
    let in_flight = "upwarden_requests_in_flight{door=\"public\"}";
    until("both to end", async || (world.metric(in_flight).await == 0).then_some(())).await;
}

#[tokio::test]
async fn with_a_fraction_of_the_lines_failed_requests_still_have_one() {
    let sidecar = Start::with(App::default()).set("log.access", 0.001).start();
    let client = sidecar.client();
    for _ in 0..20 {
        client.get("/fine").await;
        client.get("/upwork/nothing").await;
    }
    let log = sidecar.log();
    let lines = |path: &str| log.iter().filter(|line| line["path"] == path).count();
    assert_eq!(lines("/upwork/nothing"), 20, "{log:#?}");
    assert!(lines("/fine") <= 1, "{log:#?}");
}

#[tokio::test]
async fn a_trusted_proxys_request_id_is_kept_and_no_one_elses() {
    let trusting = World::open(App::default()).set("public.trusted_proxies", "127.0.0.1/32").start();
    let strict = World::open(App::default()).start();
    for (world, sent, kept) in [
        (&trusting, "Root=1-67891233-abcdef012345678912345678", true),
        (&trusting, "with blanks", false),
        (&strict, "4f0e-8c1d-of-a-client", false),
    ] {
        let answer = world.client().get("/named").header("x-request-id", sent).await;
        let id = answer.header("x-request-id").to_owned();
        assert_eq!(id == sent, kept, "{id}");
        assert_eq!(world.app.last().header("x-request-id"), id);
        assert!(logs().lines().any(|line| line.contains(&format!("\"request_id\":\"{id}\""))), "{id}");
        let problem = world.client().get("/upwork/nothing").header("x-request-id", sent).await.json();
        assert_eq!(problem["request_id"] == sent, kept, "{problem}");
    }
    // Of two, neither is used.
    let mut client = Raw::to(trusting.public_address()).await;
    client.send("GET /named HTTP/1.1\r\nHost: a\r\nX-Request-Id: one\r\nX-Request-Id: other\r\n\r\n").await;
    let answer = client.until("GET /named\n").await;
    assert!(!answer.contains("x-request-id: o"), "{answer}");
}
