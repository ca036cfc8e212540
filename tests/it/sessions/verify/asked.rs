//! The fronts' questions without the fronts: the answers, and when a session is renewed.

use super::super::{DAY, SECOND};
use crate::harness::{FREELANCER, World};

#[tokio::test]
async fn verify_refreshes_nothing_and_sets_no_cookie() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY.saturating_sub(SECOND));
    let answer = client.get("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (204, 0));
    assert_eq!(answer.header("x-upwork-user-id"), FREELANCER);
    world.turn(2 * SECOND);
    let answer = client.get("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (401, 0), "it has to be rechecked");
    assert_eq!(world.counters().token.refresh_token, 0);
    world.turn(14 * DAY);
    let answer = client.navigate("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.header("location"), answer.body.len()), (401, "", 0));
}

/// As Traefik asks: with the target in a header, and with its client given whatever is not a yes.
#[tokio::test]
async fn what_traefik_gives_its_client_leads_to_sign_in_and_back() {
    let world = World::new().set("public.trusted_proxies", "127.0.0.1/32").public("/open");
    let world = world.set("app.preflight", "pass").start();
    let client = world.client();
    let verify = "/upwork/auth/verify";
    let deep = "/deep/page?tab=2";
    let asks = |target: &'static str| client.navigate(verify).header("x-forwarded-uri", target);
    let begun = asks(deep).await;
    assert_eq!(begun.status, 303);
    assert!(begun.location().contains("/oauth2/authorize?") && !begun.set_cookies().is_empty(), "{begun:?}");
    let api = client.fetch(verify).header("x-forwarded-uri", "/data").await;
    assert_eq!((api.status.as_u16(), api.problem()), (401, "sign-in-required".to_owned()));
    // A form that is sent loses nothing: its front has it still.
    let form = client.navigate(verify).headers(&[("x-forwarded-uri", "/form"), ("x-forwarded-method", "POST")]).await;
    assert_eq!(form.status, 401);
    // nginx passes this field on, whatever a client writes into it.
    assert_eq!(asks("/open/x").await.status, 303, "it opens nothing");
    let preflight = [
        ("x-forwarded-uri", "/x"),
        ("x-forwarded-method", "OPTIONS"),
        ("origin", "https://a.example"),
        ("access-control-request-method", "PUT"),
    ];
    assert_eq!(client.fetch(verify).headers(&preflight).await.status, 401);
    assert_eq!(asks("/upwork/api/x").await.status, 404, "our own paths are not the app's");

    let signed_in = world.sign_in(FREELANCER).await;
    let asks = |target: &'static str| signed_in.navigate(verify).header("x-forwarded-uri", target);
    let yes = asks(deep).await;
    assert_eq!((yes.status.as_u16(), yes.header("x-upwork-user-id"), yes.set_cookies().len()), (200, FREELANCER, 0));
    for unreadable in ["/a b", "", "a"] {
        assert_eq!(signed_in.navigate(verify).header("x-forwarded-uri", unreadable).await.status, 400, "{unreadable}");
    }

    world.turn(DAY + SECOND);
    let due = asks(deep).await;
    assert_eq!(due.status, 303);
    assert!(due.location().ends_with(deep) && !due.set_cookies().is_empty(), "{due:?}");
    assert_eq!(asks(deep).await.status, 200);
    assert_eq!(world.counters().token.refresh_token, 1);
}

/// As Envoy asks, which drops a cookie from an admitting answer.
#[tokio::test]
async fn a_scripts_request_that_is_due_for_a_recheck_is_admitted_with_a_store() {
    const ASKED: &str = "/upwork/auth/verify/data";
    let folder = tempfile::tempdir().unwrap();
    let stored = || World::new().set("store.kind", "embedded");
    for (plan, has_store) in
        [(World::new(), false), (stored().set("store.path", folder.path().join("s").display()), true)]
    {
        let world = plan.start();
        let client = world.sign_in(FREELANCER).await;
        let elsewhere = client.twin();
        world.turn(DAY + SECOND);
        let answer = elsewhere.fetch(ASKED).await;
        if has_store {
            assert_eq!((answer.status.as_u16(), answer.header("x-upwork-user-id")), (200, FREELANCER));
            assert_eq!(client.call(http::Method::POST, ASKED).await.status, 200, "and it is due no more");
        } else {
            assert_eq!((answer.status.as_u16(), answer.problem()), (401, "sign-in-required".to_owned()));
        }
        assert_eq!(world.counters().token.refresh_token, u64::from(has_store));
        // The cookie that the browser still has is as good as before.
        assert_eq!(client.navigate("/x").await.status, 200);
        world.upwork.sandbox.revoke_all();
        world.turn(DAY + SECOND);
        assert_eq!(client.fetch(ASKED).await.status, 401, "Upwork ended the session");
    }
}

/// As Envoy asks: at the target's own path, with 200 as the only admitting status.
#[tokio::test]
async fn an_appended_target_is_judged_like_a_direct_request() {
    let world = World::new().public("/open").start();
    let client = world.sign_in(FREELANCER).await;
    for (target, stranger, user) in [
        ("/", 303, 200),
        ("/deep?a=b", 303, 200),
        ("/open/x", 200, 200),
        ("/open//x", 303, 200),
        ("/a%2fb", 303, 200),
        ("/upwork/auth/", 404, 404),
        ("/upwork/../x", 404, 404),
    ] {
        let asked = format!("/upwork/auth/verify{target}");
        assert_eq!(world.client().navigate(&asked).await.status, stranger, "{target}");
        assert_eq!(client.navigate(&asked).await.status, user, "{target}");
    }
    // The target is what was asked for, whatever a client says of it.
    let lie = world.client().navigate("/upwork/auth/verify/x").header("x-forwarded-uri", "/open").await;
    assert_eq!(lie.status, 303);
}
