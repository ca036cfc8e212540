//! Sign-out.

use futures_util::StreamExt;
use serde_json::json;

use crate::harness::{App, FREELANCER, World, within};

#[tokio::test]
async fn signing_out_ends_the_session_here_and_at_upwork() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let page = client.navigate("/upwork/auth/logout").await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (200, "Sign out?"), "GET asks first");
    assert_eq!(client.get("/x").await.status, 200, "and does nothing");

    let ours = world.url("");
    let twin = client.twin();
    let out = client.post("/upwork/auth/logout", "").header("origin", &ours).await;
    assert_eq!((out.status.as_u16(), out.location().as_str()), (303, "/upwork/auth/logout?done=revoked"));
    assert_eq!(out.header("cache-control"), "no-store");
    assert_eq!(out.set_cookies(), ["upwarden=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"]);
    let landed = client.navigate(&out.location()).await;
    assert_eq!((landed.status.as_u16(), landed.page().as_str()), (200, "You are signed out"));
    assert!(landed.text().contains("Upwork has revoked the tokens"));
    assert!(world.counters().revoke >= 1);
    assert_eq!(client.navigate("/x").await.status, 303);
    // Even without a store, a copy of the cookie no longer opens here.
    assert_eq!(twin.graphql("{ user { id } }").await.problem(), "sign-in-required");
    assert_eq!(twin.get("/x").await.problem(), "sign-in-required");
}

#[tokio::test]
async fn another_site_cannot_sign_a_user_out() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    for fields in [
        [("origin", "https://evil.example"), ("accept", "*/*")],
        [("origin", "null"), ("accept", "*/*")],
        [("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")],
        [("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")],
    ] {
        let answer = client.post("/upwork/auth/logout", "").headers(&fields).await;
        assert_eq!(answer.status, 403, "{fields:?}");
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(world.counters().revoke, 0);
    assert_eq!(client.call(http::Method::DELETE, "/upwork/auth/logout").await.status, 405);
}

#[tokio::test]
async fn signing_out_works_while_upwork_is_down() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.fault(&json!({ "revoke": "500", "times": "always" }));
    let out = client.post("/upwork/auth/logout", "").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=failed");
    assert!(client.cookies().is_empty());
    assert!(client.navigate(&out.location()).await.text().contains("Connected Apps"));
}

#[tokio::test]
async fn a_second_sign_out_is_reported_as_such() {
    let world = World::new().start();
    let out = world.client().post("/upwork/auth/logout", "").await;
    assert_eq!((out.status.as_u16(), out.location().as_str()), (303, "/upwork/auth/logout"));
    let landed = world.client().navigate("/upwork/auth/logout").await;
    assert!(landed.page() == "You are signed out" && landed.text().contains("no session to end"));
}

#[tokio::test]
async fn a_websocket_ends_with_its_session() {
    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/echo").await.unwrap();
    client.twin().post("/upwork/auth/logout", "").await;
    let end = within(socket.next()).await;
    assert!(!matches!(&end, Some(Ok(message)) if !message.is_close()), "it ends: {end:?}");
}
