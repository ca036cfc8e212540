//! The access log: one line per request, however it ends, with nothing in it that was not read.

use std::collections::BTreeSet;

use crate::harness::{App, Raw, Start, World, access_line, logs, until};

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
        "client",
    ];
    assert_eq!(fields.iter().collect::<BTreeSet<_>>(), expected.iter().collect(), "{line}");
    assert_eq!((&line["level"], &line["message"]), (&"INFO".into(), &"request".into()));
    assert_eq!((&line["door"], &line["route"], &line["status"]), (&"public".into(), &"app".into(), &200.into()));
    assert_eq!((&line["method"], &line["path"]), (&"GET".into(), &"/a%22'%C3%A9".into()));
    assert_eq!(line["client"], "127.0.0.1");
    assert!(line["micros"].is_u64(), "{line}");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
}

#[tokio::test]
async fn no_request_has_a_line_where_they_are_switched_off() {
    let sidecar = Start::with(App::default()).set("log.access", false).start();
    sidecar.client().get("/").await;
    let log = sidecar.log();
    assert!(!log.is_empty() && log.iter().all(|line| line["message"] != "request"), "{log:#?}");
}
