//! Who a session belongs to, as Upwork says it again with each `session.recheck`.

use std::time::Duration;

use super::DAY;
use crate::harness::{AGENCY, Client, FREELANCER, World};

/// The freelancer's own organization, and the one that its tokens act for after [`Sandbox::change_organization`].
///
/// [`Sandbox::change_organization`]: upwarden::sandbox::Sandbox::change_organization
const OWN: &str = "1181921839933591553";
const OTHER: &str = "1282032950044702664";
const ME: &str = super::ME;

async fn organization(world: &World, client: &Client) -> String {
    assert_eq!(client.get("/x").await.status, 200);
    world.app.last().header("x-upwork-organization-id").to_owned()
}

#[tokio::test]
async fn a_changed_organization_reaches_the_app_and_the_session_within_a_recheck() {
    for kind in ["cookie", "embedded"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sessions.redb");
        let plan = World::new().set("store.kind", kind);
        let world = if kind == "cookie" { plan } else { plan.set("store.path", path.display()) }.start();
        let client = world.sign_in(FREELANCER).await;
        assert!(world.upwork.sandbox.change_organization(FREELANCER));
        assert_eq!(organization(&world, &client).await, OWN);
        world.turn(DAY);
        assert_eq!(organization(&world, &client).await, OTHER, "{kind}");
        let session = client.get("/upwork/auth/session").await.json();
        assert_eq!(session["organization"]["id"], OTHER, "{kind}");
        assert_eq!(session["user"]["name"], "Foo Bar", "{kind}");
        let asked = world.counters();
        assert_eq!(organization(&world, &client).await, OTHER);
        assert_eq!(world.counters(), asked, "Upwork is asked once");
    }
}

#[tokio::test]
async fn the_access_rules_decide_about_the_changed_organization() {
    let world = World::new().set("access.anyone", "").set("access.organizations", OWN).start();
    let (app, api) = (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await);
    world.upwork.sandbox.change_organization(FREELANCER);
    world.turn(DAY);
    assert_eq!(api.graphql(ME).await.problem(), "not-admitted");
    assert_eq!(app.get("/x").await.problem(), "not-admitted");
    assert_eq!(app.get("/upwork/auth/session").await.problem(), "not-admitted");
    assert!(world.app.seen().is_empty());
}

#[tokio::test]
async fn a_personal_access_token_ends_with_the_access_of_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().set("access.anyone", "").set("access.organizations", OWN);
    let path = folder.path().join("sessions.redb");
    let world = world.set("store.kind", "embedded").set("store.path", path.display()).start();
    let client = world.sign_in(FREELANCER).await;
    let body = "{\"name\":\"a year\",\"expires_in\":31536000}";
    let made = client.post("/upwork/auth/tokens", body).header("content-type", "application/json").await.json();
    let bearer = format!("Bearer {}", made["token"].as_str().unwrap());
    let call = async || world.client().graphql(ME).header("authorization", &bearer).await;
    assert_eq!(call().await.status, 200);
    world.upwork.sandbox.change_organization(FREELANCER);
    world.turn(DAY);
    assert_eq!(call().await.problem(), "not-admitted");
}

#[tokio::test]
async fn a_token_of_another_user_ends_the_session() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    assert!(world.upwork.sandbox.change_user(FREELANCER, AGENCY));
    world.turn(DAY);
    let answer = client.get("/x").await;
    assert_eq!((answer.problem().as_str(), world.app.seen().len()), ("sign-in-required", 0));
    assert!(client.cookies().is_empty());
}

#[tokio::test]
async fn an_outage_of_who_am_i_ends_no_session_and_is_asked_once_a_minute() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY);
    world.fault(&serde_json::json!({ "api": "503", "times": 2 }));
    for (pause, refreshes) in [(0, 1), (0, 1), (30, 1), (31, 2), (61, 3), (61, 3)] {
        world.turn(Duration::from_secs(pause));
        assert_eq!(organization(&world, &client).await, OWN);
        assert_eq!(world.counters().token.refresh_token, refreshes);
    }
}

#[tokio::test]
async fn without_a_refresh_token_whose_session_it_is_is_asked_with_the_token_there_is() {
    let world = World::new().set("upwork.grant", "implicit").set("upwork.implicit_identity", "accepted");
    let world = world.set("session.recheck", "1h").start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    super::implicit::post_fragment(&world, &client, &back).await;
    world.upwork.sandbox.change_organization(FREELANCER);
    assert_eq!(organization(&world, &client).await, OWN);
    world.turn(Duration::from_hours(1));
    assert_eq!(organization(&world, &client).await, OTHER);
}

#[tokio::test]
async fn max_lifetime_ends_a_session_however_often_it_is_refreshed() {
    let world = World::new().set("session.max_lifetime", "3d").start();
    let client = world.sign_in(FREELANCER).await;
    for _ in 0..2 {
        world.turn(DAY);
        assert_eq!(client.graphql(ME).await.status, 200);
    }
    world.turn(DAY.saturating_sub(super::SECOND));
    assert_eq!(client.get("/x").await.status, 200);
    world.turn(super::SECOND);
    assert_eq!(client.get("/x").await.problem(), "sign-in-required");
    assert_eq!(client.navigate("/x").await.status, 303);
}
