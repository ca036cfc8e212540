//! Upwork is slow or broken, clocks differ, callers disconnect, and answers arrive out of order.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::{Request, Response};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::plain;

use super::{DAY, ME, SECOND};
use crate::harness::{App, FREELANCER, World, logs, until, within};

#[tokio::test]
async fn a_caller_that_disconnects_cancels_no_refresh() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY);
    world.fault(&json!({ "token": "slow" }));
    let gone = tokio::spawn(client.graphql(ME).attempt());
    within(world.upwork.sandbox.held(1)).await;
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    world.upwork.sandbox.release();
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (200, 1));
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn after_an_outage_everything_works_again() {
    let worlds = ["500", "html", "429", "garbage", "cut"].map(|fault| async move {
        let world = World::new().start();
        let client = world.sign_in(FREELANCER).await;
        world.turn(DAY);
        world.fault(&json!({ "token": fault }));
        let answer = client.graphql(ME).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "refresh-unavailable"), "{fault}");
        let page = client.navigate("/upwork/auth/").await;
        assert!(page.text().contains("Upwork did not answer; the next call tries again"), "{fault}: {}", page.text());
        // A failure is kept for a second, so that many requests do not ask one after the other.
        let answer = until("a fresh token", async || {
            Some(world.turning(client.graphql(ME)).await).filter(|answer| answer.status != 503)
        })
        .await;
        assert_eq!((answer.status.as_u16(), client.cookies().len()), (200, 1), "{fault}");
        assert_eq!(world.counters().token.refresh_token, 2, "{fault}");
        let page = client.navigate("/upwork/auth/").await.text();
        assert!(page.contains("succeeded") && !page.contains("did not answer"), "{fault}: {page}");
    });
    futures_util::future::join_all(worlds).await;
}

#[tokio::test]
async fn a_token_near_its_expiry_is_used_while_upwork_fails_or_is_slow() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY.saturating_sub(200 * SECOND));
    world.fault(&json!({ "token": "500" }));
    assert_eq!(client.graphql(ME).await.status, 200, "its token is valid for another 200 seconds");
    let page = client.navigate("/upwork/auth/").await.text();
    assert!(page.contains("Upwork did not answer"), "the page shows it nevertheless: {page}");
    world.fault(&json!({ "token": "slow" }));
    // While the failure is kept no request asks; the first one after it is held.
    until("a refresh that is held", async || {
        let answer = client.graphql(ME).await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (200, 0), "no request waits for it");
        (world.counters().held == 1).then_some(())
    })
    .await;
    world.upwork.sandbox.release();
    let fresh = until("the successor", async || {
        Some(client.graphql(ME).await).filter(|answer| !answer.set_cookies().is_empty())
    })
    .await;
    assert_eq!((fresh.status.as_u16(), world.counters().token.refresh_token), (200, 2));
}

#[tokio::test]
async fn a_call_with_an_expired_token_waits_for_a_slow_refresh() {
    let world = World::new().app(App::default()).start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY);
    world.fault(&json!({ "token": "slow" }));
    let asked = tokio::spawn(client.graphql(ME).into_future());
    within(world.upwork.sandbox.held(1)).await;
    assert_eq!(client.twin().get("/x").await.status, 200, "the app is reached in the meantime");
    world.upwork.sandbox.release();
    assert_eq!(within(asked).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_401_during_an_outage_of_the_token_endpoint_is_not_a_sign_out() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.upwork.sandbox.expire_all();
    world.fault(&json!({ "token": "500" }));
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "refresh-unavailable"));
    assert!(answer.set_cookies().is_empty());
    let answer =
        until("a mended call", async || Some(client.graphql(ME).await).filter(|answer| answer.status != 503)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn clocks_that_are_ten_minutes_off_sign_no_one_out() {
    for ahead in [600, -600] {
        let world = World::new().upwork_ahead(ahead).start();
        let client = world.sign_in(FREELANCER).await;
        for _ in 0..3 {
            world.turn(DAY);
            assert_eq!(client.graphql(ME).await.status, 200, "{ahead}");
        }
        assert_eq!(world.counters().token.refresh_token, 3, "{ahead}");
    }
    // A clock that was set during the session: the token expires at Upwork first, and its 401 is retried.
    let world = World::new().upwork_ahead(1).start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY.saturating_sub(600 * SECOND));
    world.turn_upwork(600 * SECOND);
    let calls = world.counters().api["/graphql"];
    assert_eq!(client.graphql(ME).await.status, 200);
    let counters = world.counters();
    assert_eq!((counters.token.refresh_token, counters.api["/graphql"]), (1, calls + 2));
}

#[tokio::test]
async fn a_late_answer_restores_no_old_session() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY.saturating_sub(60 * SECOND));
    world.fault(&json!({ "api": "slow" }));
    let late = tokio::spawn(client.twin().graphql(ME).open());
    within(world.upwork.sandbox.held(1)).await;
    world.turn(DAY);
    assert_eq!(client.graphql(ME).await.status, 200);
    let newest = client.cookie("upwarden");
    world.upwork.sandbox.release();
    let answer = within(late).await.unwrap().whole().await;
    assert_eq!((answer.status.as_u16(), world.counters().token.refresh_token), (200, 2));
    // The browser accepts the late answer's cookie, which is one refresh behind.
    let lines = answer.set_cookies();
    let late = lines[0].split(';').next().unwrap().strip_prefix("upwarden=").unwrap();
    client.plant("upwarden", late);
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), world.counters().token.refresh_token), (200, 2), "it leads to the newest");
    assert!(answer.set_cookies().len() == 1 && client.cookie("upwarden") != newest);
}

#[tokio::test]
async fn the_margin_scales_with_the_tokens_lifetime() {
    let short = upwarden::sandbox::Config { token_lifetime: 60 * SECOND, ..upwarden::sandbox::Config::default() };
    let world = World::new().upwork(short).start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(53 * SECOND);
    client.graphql(ME).await;
    assert_eq!(world.counters().token.refresh_token, 0);
    world.turn(2 * SECOND);
    client.graphql(ME).await;
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn a_body_of_64_kib_is_kept_for_the_retry_and_no_more() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let body = |length: usize| {
        let query = json!({ "query": ME }).to_string();
        format!("{query}{}", " ".repeat(length - query.len()))
    };
    let post = |length| client.post("/upwork/graphql", body(length)).header("content-type", "application/json");
    world.upwork.sandbox.expire_all();
    assert_eq!(post(64 << 10).await.status, 200);
    world.upwork.sandbox.expire_all();
    let answer = post((64 << 10) + 1).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "send-again"));
    assert_eq!(post((64 << 10) + 1).await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 2);
}

/// An API that answers 401 to everything, and the number of its calls.
async fn refusing() -> (SocketAddr, Arc<AtomicU64>, tokio_util::sync::DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicU64::new(0));
    let counted = calls.clone();
    let refuse = move |_: Request<Body>, _: SocketAddr| {
        counted.fetch_add(1, Ordering::SeqCst);
        let refused = Response::builder().status(401).body(Body::full("not for you"));
        std::future::ready(refused.unwrap())
    };
    let shutdown = CancellationToken::new();
    tokio::spawn(plain::serve(listener, refuse, shutdown.clone()));
    (api, calls, shutdown.drop_guard())
}

#[tokio::test]
async fn a_second_401_is_passed_on_unchanged_and_ends_nothing() {
    let (api, calls, _ended) = refusing().await;
    let world = World::new().set("upwork.api_url", format!("http://{api}")).start();
    let client = world.sign_in(FREELANCER).await;
    let answer = client.get("/upwork/api/hr/v2/users/me.json").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (401, "not for you"));
    assert_eq!((calls.load(Ordering::SeqCst), world.counters().token.refresh_token), (2, 1), "one retry, one refresh");
    assert_eq!(client.get("/x").await.status, 200);
}

#[tokio::test]
async fn an_api_that_answers_401_to_everything_makes_few_refreshes() {
    let (api, calls, _ended) = refusing().await;
    let world = World::new().set("upwork.api_url", format!("http://{api}")).start();
    let client = world.sign_in(FREELANCER).await;
    let refreshes = || world.counters().token.refresh_token;
    for (pause, expected) in [(0, 1), (29, 1), (2, 2), (59, 2), (2, 3)] {
        world.turn(pause * SECOND);
        for _ in 0..10 {
            let answer = client.get("/upwork/api/hr/v2/users/me.json").await;
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (401, "not for you"));
        }
        assert_eq!(refreshes(), expected, "after {pause} s");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 53, "each call, and a retry for each refresh");
    // The service identity likewise.
    for _ in 0..10 {
        assert_eq!(world.neighbour().get("/upwork/api/hr/v2/users/me.json").await.status, 401);
    }
    assert_eq!(world.counters().token.client_credentials, 2);
}

#[tokio::test]
async fn the_browsers_of_one_person_make_few_refreshes_together() {
    let (api, _, _ended) = refusing().await;
    let world = World::new().set("upwork.api_url", format!("http://{api}")).start();
    let browsers = [world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await];
    for client in browsers.iter().cycle().take(20) {
        assert_eq!(client.get("/upwork/api/hr/v2/users/me.json").await.status, 401);
    }
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn the_bot_check_of_the_cdn_is_passed_on_unchanged_and_logged() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.fault(&json!({ "api": "html" }));
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.text().contains("Just a moment")), (403, true));
    let id = answer.header("x-request-id");
    let logged = logs().lines().any(|line| line.contains(id) && line.contains("cdn-wall"));
    assert!(logged && answer.set_cookies().is_empty());
}
