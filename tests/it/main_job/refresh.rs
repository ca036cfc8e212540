//! Tokens that expire, and API calls that are refused.

use std::time::Duration;

use serde_json::json;

use crate::harness::{FREELANCER, World};

const DAY: Duration = Duration::from_hours(24);
const ME: &str = "{ user { id } }";

#[tokio::test]
async fn a_token_near_its_expiry_is_refreshed_before_the_call() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let before = client.cookie("upwarden");
    world.turn(Duration::from_secs(86_400 - 301));
    assert_eq!(client.graphql(ME).await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 0);
    world.turn(Duration::from_secs(2));
    let answer = client.graphql(ME).await;
    assert_eq!(answer.json()["data"]["user"]["id"], FREELANCER);
    assert_eq!(answer.header("cache-control"), "no-store", "an answer that sets our cookie is not kept");
    assert_eq!(world.counters().token.refresh_token, 1);
    assert_ne!(client.cookie("upwarden"), before);
    client.graphql(ME).await;
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn two_hundred_calls_with_an_expired_token_make_one_refresh() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY + Duration::from_secs(1));
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let client = client.twin();
            tokio::spawn(async move { client.graphql(ME).await })
        })
        .collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(world.counters().token.refresh_token, 1);
    // A request with the cookie from before is served too.
    assert_eq!(client.graphql(ME).await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 1);
    assert_eq!(world.metric("upwarden_refreshes_total{outcome=\"renewed\"}").await, 1);
}

#[tokio::test]
async fn a_401_of_the_api_causes_one_refresh_and_one_retry() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let before = world.counters().api["/graphql"];
    world.upwork.sandbox.expire_all();
    let answer = client.graphql(ME).await;
    assert_eq!(answer.json()["data"]["user"]["id"], FREELANCER);
    assert_eq!((world.counters().token.refresh_token, world.counters().api["/graphql"]), (1, before + 2));
    assert_eq!(answer.set_cookies().len(), 1);
}

#[tokio::test]
async fn a_call_whose_body_was_not_kept_has_to_be_sent_again() {
    let world = World::new().set("upwork.retry_body", "1KiB").start();
    let client = world.sign_in(FREELANCER).await;
    world.upwork.sandbox.expire_all();
    let long = format!("{{ user {{ id }} }} #{}", "x".repeat(100_000));
    let answer = client.graphql(&long).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "send-again"));
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
    assert_eq!(client.graphql(&long).await.status, 200, "sent again");
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn only_invalid_grant_ends_a_session() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    // 429 comes last: after it the pacer holds calls back, and the clock stands still.
    for fault in ["500", "html", "502", "429"] {
        world.fault(&json!({ "api": fault }));
        let answer = client.graphql(ME).await;
        assert!([500, 403, 429, 502].contains(&answer.status.as_u16()), "{fault} passes as it came");
        assert!(answer.set_cookies().is_empty(), "{fault}");
    }
    assert_eq!(world.counters().token.refresh_token, 0);
}

#[tokio::test]
async fn an_outage_of_the_token_endpoint_ends_no_session_and_locks_no_one_out() {
    let world = World::new().start();
    for fault in ["500", "html", "429", "garbage", "cut"] {
        // Each with a session of its own: a failure is kept for a second, so that a crowd does not ask one by one.
        let client = world.turning(world.sign_in(FREELANCER)).await;
        world.turn(DAY + Duration::from_secs(1));
        world.fault(&json!({ "token": fault }));
        let answer = client.graphql(ME).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "refresh-unavailable"), "{fault}");
        assert!(!answer.header("retry-after").is_empty() && answer.set_cookies().is_empty());
        assert_eq!(client.get("/x").await.status, 200, "the app needs no fresh token");
    }
}

#[tokio::test]
async fn a_revoked_grant_ends_the_session_at_the_next_call() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.upwork.sandbox.revoke_all();
    let twin = client.twin();
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "sign-in-required"));
    assert!(client.cookies().is_empty(), "{:?}", answer.set_cookies());
    assert_eq!(client.navigate("/x").await.status, 303);
    assert_eq!(twin.navigate("/upwork/api/hr/v2/users/me.json").await.status, 303, "a navigation signs in again");
}

#[tokio::test]
async fn a_revoked_grant_with_an_expired_token_is_our_own_401() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY + Duration::from_secs(1));
    world.upwork.sandbox.revoke_all();
    let twin = client.twin();
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "sign-in-required"));
    assert!(client.cookies().is_empty());
    let page = twin.navigate("/upwork/api/hr/v2/users/me.json").await;
    assert_eq!(page.status, 303, "a navigation signs in again");
}

#[tokio::test]
async fn without_a_refresh_token_a_session_ends_with_its_access_token() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    world.fault(&json!({ "token": "no_refresh_token" }));
    let lines = client.navigate(&back).await.set_cookies();
    assert!(lines.iter().any(|line| line.ends_with("Max-Age=86400")), "{lines:?}");
    let session = client.get("/upwork/auth/session").await.json();
    assert_eq!(session["expires_at"], session["token_expires_at"]);
    world.turn(Duration::from_secs(86_400 - 1));
    assert_eq!(client.get("/x").await.status, 200);
    world.turn(Duration::from_secs(1));
    assert_eq!(client.get("/x").await.problem(), "sign-in-required");
    assert_eq!(world.counters().token.refresh_token, 0);
}

#[tokio::test]
async fn a_refresh_without_a_new_refresh_token_keeps_the_old_one() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(Duration::from_secs(86_400 - 200));
    world.fault(&json!({ "token": "no_refresh_token" }));
    assert_eq!(client.graphql(ME).await.status, 200);
    world.turn(Duration::from_secs(86_400 - 200));
    assert_eq!(client.graphql(ME).await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 2);
}

#[tokio::test]
async fn a_session_ends_fourteen_days_after_its_last_refresh() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(13 * DAY);
    assert_eq!(client.graphql(ME).await.status, 200, "refreshed");
    world.turn(13 * DAY);
    assert_eq!(client.get("/upwork/auth/session").await.status, 200, "thirteen days after the refresh");
    world.turn(DAY);
    assert_eq!(client.get("/upwork/auth/session").await.status, 401);
    assert_eq!(client.navigate("/x").await.status, 303);
}

#[tokio::test]
async fn a_long_idle_session_is_rechecked_before_the_app_is_reached() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(Duration::from_secs(86_400 - 1));
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 0, "within session.recheck the app needs no fresh token");
    world.turn(Duration::from_secs(2));
    // An outage locks no one out.
    world.fault(&json!({ "token": "503" }));
    assert_eq!(client.get("/x").await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 1);

    let other = World::new().start();
    let client = other.sign_in(FREELANCER).await;
    other.turn(2 * DAY + Duration::from_secs(1));
    assert_eq!(client.get("/x").await.set_cookies().len(), 1, "refreshed");
    assert_eq!(other.counters().token.refresh_token, 1);
    other.turn(2 * DAY + Duration::from_secs(1));
    other.upwork.sandbox.revoke_all();
    let answer = client.get("/x").await;
    assert_eq!((answer.problem().as_str(), other.app.seen().len()), ("sign-in-required", 1));
    assert!(client.cookies().is_empty());
}
