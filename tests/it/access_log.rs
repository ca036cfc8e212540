//! The access log: one line per request, however it ends, with nothing in it that was not read.

use crate::harness::{App, Raw, World, access_line, logs, until};

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
