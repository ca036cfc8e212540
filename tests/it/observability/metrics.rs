//! `/metrics` of a sidecar with every feature, and how they change.

use std::path::Path;

use http::Response;
use upwarden::testing::body::Body;

use super::promtool;
use crate::harness::{App, FREELANCER, Plan, Raw, World, until};

/// With every part that has metrics of its own.
fn everything(folder: &Path) -> Plan {
    World::new()
        .set("store.kind", "embedded")
        .set("store.path", folder.join("sessions.redb").display())
        .set("app.tickets", true)
        .set("public.h2c", true)
        .set("public.limits.body_bytes", "1MiB")
        .set("public.limits.connections_per_address", 100)
}

#[tokio::test]
async fn promtool_accepts_the_metrics() {
    let folder = tempfile::tempdir().unwrap();
    let world = everything(folder.path()).start();
    let client = world.sign_in(FREELANCER).await;
    client.graphql("{ __typename }").await;
    let text = world.admin().get("/metrics").await.text();
    for name in [
        "upwarden_store_up 1",
        "process_resident_memory_bytes ",
        "upwarden_store_duration_seconds_count{operation=\"write\"} ",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0")), "{name}: {text}");
    }
    let Some(output) = promtool(&["check", "metrics"], &text) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn requests_in_flight_and_upstream_connections_are_counted() {
    let (asked, answers) = tokio::sync::watch::channel(false);
    let app = App::new(move |_| {
        let mut answers = answers.clone();
        async move {
            let _ = answers.wait_for(|answer| *answer).await;
            Response::new(Body::full("done\n"))
        }
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until("the request to reach the app", async || (!world.app.seen().is_empty()).then_some(())).await;
    let in_flight = "upwarden_requests_in_flight{door=\"public\"}";
    let state = |state| format!("upwarden_upstream_connections{{upstream=\"app\",state=\"{state}\"}}");
    let (idle, in_use) = (state("idle"), state("in_use"));
    assert_eq!((world.metric(in_flight).await, world.metric(&idle).await, world.metric(&in_use).await), (1, 0, 1));
    asked.send_replace(true);
    client.until("done\n").await;
    until("the request to end", async || (world.metric(in_flight).await == 0).then_some(())).await;
    until("its connection to be idle", async || (world.metric(&idle).await == 1).then_some(())).await;
    assert_eq!(world.metric(&in_use).await, 0);
    assert_eq!(world.metric("upwarden_upstream_connections_opened_total{upstream=\"app\"}").await, 1);
    assert_eq!(world.metric("upwarden_upstream_duration_seconds_count{upstream=\"app\"}").await, 1);
}

#[tokio::test]
async fn each_upstream_has_its_own_latency_and_verify_its_own_route() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let count = async |upstream: &str| {
        world.metric(&format!("upwarden_upstream_duration_seconds_count{{upstream=\"{upstream}\"}}")).await
    };
    let (before, oauth) = (count("api").await, count("oauth").await);
    assert!(oauth >= 2, "the code and who-am-I: {oauth}");
    client.graphql("{ __typename }").await;
    assert_eq!((count("api").await, count("oauth").await), (before + 1, oauth));
    client.get("/upwork/auth/verify").await;
    assert_eq!(world.metric("upwarden_requests_total{route=\"verify\",status=\"2xx\"}").await, 1);
}
