//! Answers that arrive after their session has ended: they neither restore it nor clear another one.

use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use super::{DAY, ME, SECOND};
use crate::harness::{AGENCY, App, Client, FREELANCER, Streaming, World, within};

/// An API call whose refresh is done and whose answer is held back, so that it would set the successor's cookie.
async fn held_back(world: &World, client: &Client) -> tokio::task::JoinHandle<Streaming> {
    // The token is due, and Upwork was asked whose it is less than a day ago.
    world.turn(DAY.saturating_sub(60 * SECOND));
    world.fault(&json!({ "api": "slow" }));
    let late = tokio::spawn(client.twin().graphql(ME).open());
    within(world.upwork.sandbox.held(1)).await;
    assert_eq!(world.counters().token.refresh_token, 1);
    late
}

async fn who(client: &Client) -> String {
    client.get("/upwork/auth/session").await.json()["user"]["id"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_late_answer_undoes_no_sign_out() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let (copy, late) = (client.twin(), held_back(&world, &client).await);
    assert_eq!(client.post("/upwork/auth/logout", "").await.status, 303);
    world.upwork.sandbox.release();
    let answer = within(late).await.unwrap().whole().await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (200, 0), "{:?}", answer.set_cookies());
    assert_eq!(client.get("/x").await.problem(), "sign-in-required");
    for target in ["/x", "/upwork/auth/session", "/upwork/auth/verify"] {
        assert_eq!(copy.get(target).await.status, 401, "a copy of its cookie opens nothing: {target}");
    }
}

#[tokio::test]
async fn a_late_answer_undoes_no_change_of_accounts() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let late = held_back(&world, &client).await;
    world.sign_in_with(&client, AGENCY, "/upwork/auth/login").await;
    world.upwork.sandbox.release();
    let answer = within(late).await.unwrap().whole().await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (200, 0), "{:?}", answer.set_cookies());
    assert_eq!(who(&client).await, AGENCY);
}

#[tokio::test]
async fn a_late_invalid_grant_leaves_the_next_session() {
    for kind in ["cookie", "embedded"] {
        let folder = tempfile::tempdir().unwrap();
        let plan = World::new().set("store.kind", kind);
        let kept = kind == "embedded";
        let plan = if kept { plan.set("store.path", folder.path().join("db").display()) } else { plan };
        let world = plan.start();
        let client = world.sign_in(FREELANCER).await;
        world.turn(DAY);
        world.upwork.sandbox.revoke_all();
        world.fault(&json!({ "token": "slow" }));
        let late = tokio::spawn(client.twin().graphql(ME).open());
        within(world.upwork.sandbox.held(1)).await;
        world.sign_in_with(&client, FREELANCER, "/upwork/auth/login").await;
        world.upwork.sandbox.release();
        let answer = within(late).await.unwrap().whole().await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "sign-in-required"), "{kind}");
        assert!(answer.set_cookies().is_empty(), "{kind}: {:?}", answer.set_cookies());
        assert_eq!(
            (who(&client).await.as_str(), client.graphql(ME).await.status.as_u16()),
            (FREELANCER, 200),
            "{kind}"
        );
    }
}

#[tokio::test]
async fn a_websocket_ends_when_upwork_ends_the_grant() {
    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/echo").await.unwrap();
    world.upwork.sandbox.revoke_all();
    assert_eq!(client.twin().graphql(ME).await.problem(), "sign-in-required");
    let end = within(socket.next()).await;
    assert!(!matches!(&end, Some(Ok(message)) if !message.is_close()), "it ends: {end:?}");
    // A copy of its cookie opens none either.
    assert!(client.websocket("/echo").await.is_err());
}

#[tokio::test]
async fn invalid_grant_for_an_old_copy_of_a_session_leaves_its_successor() {
    let world = World::new().app(App::sample()).replicas(2).start();
    let client = world.sign_in(FREELANCER).await;
    let old = world.replica(&client.twin(), 1);
    for _ in 0..2 {
        world.turn(DAY + SECOND);
        assert_eq!(client.graphql(ME).await.status, 200);
    }
    let there = world.replica(&client, 1);
    let mut socket = there.websocket("/echo").await.unwrap();
    // Its refresh token was replaced over 24 hours ago.
    assert_eq!(old.graphql(ME).await.problem(), "sign-in-required");
    assert_eq!((there.graphql(ME).await.status.as_u16(), old.cookies().len()), (200, 0));
    socket.send(Message::text("on")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "on");
}
