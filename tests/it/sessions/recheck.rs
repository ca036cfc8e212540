//! Requests to the app with a session whose token expired long ago.

use std::future::IntoFuture;

use serde_json::json;

use super::{DAY, SECOND};
use crate::harness::{FREELANCER, World, until, within};

#[tokio::test]
async fn a_public_path_is_served_anonymously_when_the_session_is_over() {
    let world = World::new().public("/pub/").start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/pub/x").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
    world.turn(2 * DAY + SECOND);
    world.upwork.sandbox.revoke_all();
    let ended = until("the end of the session", async || {
        let answer = client.get("/pub/x").await;
        assert_eq!((answer.status.as_u16(), world.app.last().header("x-upwork-user-id")), (200, ""));
        client.cookies().is_empty().then_some(answer)
    })
    .await;
    assert_eq!(ended.set_cookies(), ["upwarden=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0"]);
    assert_eq!(client.navigate("/pub/x").await.status, 200);
    assert_eq!(client.get("/x").await.problem(), "sign-in-required");
}

#[tokio::test]
async fn a_public_path_waits_for_no_refresh() {
    let world = World::new().public("/pub/").start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(2 * DAY + SECOND);
    world.fault(&json!({ "token": "slow" }));
    // The refresh is held until it is released.
    assert_eq!(client.get("/pub/x").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), "", "the session is not confirmed yet");
    within(world.upwork.sandbox.held(1)).await;
    world.upwork.sandbox.release();
    until("the successor", async || {
        let answer = client.get("/pub/x").await;
        (answer.set_cookies().len() == 1).then_some(())
    })
    .await;
    assert_eq!((world.app.last().header("x-upwork-user-id"), world.counters().token.refresh_token), (FREELANCER, 1));
}

#[tokio::test]
async fn a_token_endpoint_that_hangs_delays_one_request_briefly_and_locks_no_one_out() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(2 * DAY + SECOND);
    world.fault(&json!({ "token": "slow" }));
    let first = tokio::spawn(client.twin().navigate("/x").into_future());
    within(world.upwork.sandbox.held(1)).await;
    // Nothing releases the refresh, so an answer shows that the wait is bounded.
    let first = within(first).await.unwrap();
    assert_eq!((first.status.as_u16(), first.set_cookies().len(), world.counters().held), (200, 0, 1));
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
    // From now on no request waits: two seconds for each would exceed the test's time-out.
    for _ in 0..20 {
        assert_eq!(within(client.get("/x").into_future()).await.status, 200);
    }
    world.upwork.sandbox.release();
    until("the successor", async || (!client.get("/x").await.set_cookies().is_empty()).then_some(())).await;
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_locks_no_one_out_and_loops_no_one() {
    for fault in ["500", "html", "garbage", "cut", "429"] {
        let world = World::new().start();
        let client = world.sign_in(FREELANCER).await;
        world.turn(2 * DAY + SECOND);
        world.fault(&json!({ "token": fault, "times": "always" }));
        for _ in 0..3 {
            let page = client.navigate("/x").await;
            assert_eq!((page.status.as_u16(), page.set_cookies().len()), (200, 0), "{fault}");
            assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER, "{fault}");
            world.turn(60 * SECOND);
        }
        world.fault(&json!({ "token": "none" }));
        until("the successor", async || (!client.get("/x").await.set_cookies().is_empty()).then_some(())).await;
        assert_eq!(client.navigate("/x").await.status, 200, "{fault}");
    }
}
