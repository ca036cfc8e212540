//! Many tabs, and sign-ins that do not last: cookies stay few, and loops stop with their cause.

use std::future::IntoFuture;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use crate::harness::{Answer, Client, FREELANCER, World, within};

/// What the browser does to its cookies between two steps.
type Spoil<'a> = &'a dyn Fn(&World, &Client);

/// Signs in until the site reports a loop; returns the number of sign-ins, and the page.
async fn sign_in_until_loop(world: &World, spoil: Spoil<'_>) -> (usize, Answer) {
    let client = world.client();
    for round in 0..6 {
        let asked = client.navigate("/x").await;
        if asked.status != 303 {
            return (round, asked);
        }
        let back = world.upwork.consent(&asked.location(), FREELANCER).await;
        assert_eq!(client.navigate(&back).await.location(), "/x");
        spoil(world, &client);
    }
    panic!("it went round for ever")
}

fn forget(client: &Client, names: &[&str]) {
    for name in names {
        client.plant(name, "; Max-Age=0");
    }
}

#[track_caller]
fn stopped((rounds, page): &(usize, Answer), cause: &str) {
    assert_eq!((*rounds, page.status.as_u16(), page.page().as_str()), (3, 400, "Sign-in keeps starting over"));
    assert!(page.text().contains(cause), "{cause}: {}", page.text());
}

#[tokio::test]
async fn two_hundred_fetches_and_thirty_navigations_leave_few_cookies() {
    let world = World::new().start();
    let client = world.client();
    for number in 0..200 {
        let answer = client.fetch(&format!("/data/{number}")).await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (401, 0));
    }
    for number in 0..30 {
        assert_eq!(client.navigate(&format!("/page/{number}")).await.status, 303);
    }
    assert_eq!(client.cookies().len(), 8);
}

/// The length of the `Cookie` field that it sends.
fn bytes(client: &Client) -> usize {
    client.cookies().iter().map(|name| name.len() + client.cookie(name).len() + "=; ".len()).sum()
}

#[tokio::test]
async fn long_return_addresses_leave_no_long_cookies() {
    let world = World::new().start();
    let client = world.client();
    let long = |number: usize| format!("/page/{number}?q={}", "x".repeat(1_000));
    let mut last = None;
    for number in 0..30 {
        // Short ones in between have more slots.
        let target = if number % 3 == 0 { format!("/{number}") } else { long(number) };
        last = Some((client.navigate(&target).await, target));
        assert!(bytes(&client) < 4 << 10, "{} bytes after {number}", bytes(&client));
    }
    let (asked, target) = last.unwrap();
    let back = world.upwork.consent(&asked.location(), FREELANCER).await;
    assert_eq!(client.navigate(&back).await.location(), target);

    // Sign-ins that begin at once do not know of each other.
    let client = world.client();
    let targets: Vec<String> = (0..40).map(|number| format!("/?{}", "x".repeat(26 * number))).collect();
    let asked = join_all(targets.iter().map(|target| client.navigate(target).into_future())).await;
    assert!(asked.iter().all(|asked| asked.status == 303) && bytes(&client) < 7 << 10, "{} bytes", bytes(&client));
}

/// A double click: the browser cancels its first request while Upwork is asked. Returns the world, the callback, the browser
/// with the answer, and another with the same cookies; `None` where the second click came after that answer.
async fn clicked_twice() -> Option<(World, String, Client, Client)> {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let (again, late) = (client.twin(), client.twin());
    world.fault(&json!({ "token": "slow" }));
    let first = tokio::spawn(client.navigate(&back).attempt());
    within(world.upwork.sandbox.held(1)).await;
    let second = tokio::spawn(again.navigate(&back).into_future());
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.upwork.sandbox.release();
    let answer = within(second).await.unwrap();
    assert_eq!(world.counters().token.authorization_code, 1);
    (answer.status == 303).then(|| {
        assert_eq!(answer.location(), "/x");
        (world, back, again, late)
    })
}

#[tokio::test]
async fn a_callback_that_comes_twice_redeems_its_code_once() {
    let mut tries = 0;
    // It cannot be seen from outside whether the second one waits: on a busy machine it may come too late to share the answer.
    let (world, back, again, late) = loop {
        if let Some(shared) = clicked_twice().await {
            break shared;
        }
        tries += 1;
        assert!(tries < 30, "the second click never shares the answer of the first");
    };
    // A later request with it gets no session, and does not harm the first.
    assert_eq!(late.navigate(&back).await.page(), "This sign-in was already used");
    assert_eq!(world.counters().token.authorization_code, 1);
    assert_eq!(again.navigate("/x").await.status, 200);
    assert_eq!(again.graphql(super::ME).await.status, 200);
}

#[tokio::test]
async fn sign_ins_that_succeed_and_do_not_last_stop_with_their_cause() {
    let world = World::new().start();
    stopped(
        &sign_in_until_loop(&world, &|_, client| forget(client, &["upwarden"])).await,
        "did not send back the cookie",
    );
    world.turn(Duration::from_secs(61));
    let keys = |_: &World, client: &Client| client.plant("upwarden", &"A".repeat(300));
    stopped(&sign_in_until_loop(&world, &keys).await, "keys have changed");

    let long = upwarden::sandbox::Config { token_chars: 3000, ..upwarden::sandbox::Config::default() };
    let world = World::new().upwork(long).start();
    let all = |_: &World, client: &Client| forget(client, &["upwarden", "upwarden-1", "upwarden-2"]);
    stopped(&sign_in_until_loop(&world, &all).await, "more than browsers or the proxy in front accept");
    world.turn(Duration::from_secs(61));
    // The browser keeps the first chunk and drops another.
    let one = |_: &World, client: &Client| forget(client, &["upwarden-1"]);
    stopped(&sign_in_until_loop(&world, &one).await, "more than browsers or the proxy in front accept");
}

#[tokio::test]
async fn a_session_that_is_over_as_it_begins_stops_with_the_clock_as_its_cause() {
    let ahead = format!("{{\"{FREELANCER}\" = \"2026-11-24T02:20:00Z\"}}");
    let world = World::new().file(&format!("access.not_before = {ahead}\n")).start();
    stopped(&sign_in_until_loop(&world, &|_, _| ()).await, "differ by 1200 seconds");
    // Half an hour later it is admitted.
    world.turn(Duration::from_secs(1800));
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.navigate("/x").await.status, 200);
}

#[tokio::test]
async fn the_way_out_of_a_loop_is_one_more_sign_in() {
    let world = World::new().start();
    let client = world.client();
    for _ in 0..3 {
        forget(&client, &["upwarden"]);
        let answer = world.sign_in_with(&client, FREELANCER, "/upwork/auth/login?return_to=/x").await;
        assert_eq!(answer.location(), "/x");
    }
    assert_eq!(client.twin().navigate("/x").await.status, 200, "a session that holds is not asked about circles");
    forget(&client, &["upwarden"]);
    assert_eq!(client.navigate("/x").await.status, 400);
    assert!(client.navigate("/x").await.text().contains("Sign in again"));
    let link = "/upwork/auth/login?return_to=/x";
    assert_eq!(world.sign_in_with(&client, FREELANCER, link).await.location(), "/x");
    assert_eq!(client.navigate("/x").await.status, 200);
}

#[tokio::test]
async fn sessions_that_lasted_and_ended_are_not_a_loop() {
    // Upwork ends each of them.
    let world = World::new().start();
    let client = world.client();
    for _ in 0..5 {
        assert_eq!(world.sign_in_with(&client, FREELANCER, "/x").await.location(), "/x");
        assert_eq!(client.navigate("/x").await.status, 200);
        assert_eq!(client.cookies(), ["upwarden"], "nothing is counted");
        world.upwork.sandbox.revoke_all();
        assert_eq!(client.graphql(super::ME).await.problem(), "sign-in-required");
    }
    // Each lasts four seconds.
    let short = upwarden::sandbox::Config { token_lifetime: 4 * super::SECOND, ..upwarden::sandbox::Config::default() };
    let world = World::new().set("upwork.grant", "implicit").upwork(short).start();
    let client = world.client();
    for _ in 0..5 {
        let back = world.callback(&client, "/x").await;
        assert_eq!(super::implicit::post_fragment(&world, &client, &back).await.location(), "/x");
        assert_eq!(client.navigate("/x").await.status, 200);
        world.turn(5 * super::SECOND);
    }
}

#[tokio::test]
async fn a_session_that_is_used_ends_the_count() {
    let world = World::new().start();
    let client = world.client();
    for _ in 0..2 {
        forget(&client, &["upwarden"]);
        world.sign_in_with(&client, FREELANCER, "/x").await;
    }
    assert!(client.cookies().contains(&"upwarden-tries".to_owned()));
    // A fetch of another tab says nothing about navigations.
    assert_eq!(client.fetch("/data").await.set_cookies().len(), 0);
    let shown = client.navigate("/x").await;
    assert_eq!((shown.status.as_u16(), shown.header("cache-control")), (200, "no-store"));
    assert_eq!(client.cookies(), ["upwarden"]);
    // A sign-in may also lead to the account page.
    for _ in 0..2 {
        forget(&client, &["upwarden"]);
        world.sign_in_with(&client, FREELANCER, "/upwork/auth/").await;
    }
    assert!(client.cookies().contains(&"upwarden-tries".to_owned()));
    assert_eq!(client.navigate("/upwork/auth/").await.status, 200);
    assert_eq!(client.cookies(), ["upwarden"]);
    assert_eq!(
        sign_in_until_loop(&world, &|_, client| forget(client, &["upwarden"])).await.0,
        3,
        "it still counts to three"
    );
}

#[tokio::test]
async fn sign_ins_that_held_behind_forward_auth_are_not_a_loop() {
    let world = World::new().start();
    let client = world.client();
    for round in 0..5 {
        assert_eq!(world.sign_in_with(&client, FREELANCER, "/x").await.location(), "/x", "{round}");
        // The front asks for each page with the browser's own fields, and forwards by itself.
        let verified = client.navigate("/upwork/auth/verify").await;
        assert_eq!((verified.status.as_u16(), verified.set_cookies().len()), (204, 0));
        forget(&client, &["upwarden"]);
    }
}

#[tokio::test]
async fn users_with_the_same_address_and_browser_are_counted_by_their_own_sessions() {
    let world = World::new().start();
    let sign_in = async |client: &Client| {
        world.sign_in_with(client, FREELANCER, "/x").await;
        client.cookies().contains(&"upwarden-tries".to_owned())
    };
    let (first, second) = (world.client(), world.client());
    assert!(!sign_in(&first).await);
    assert_eq!(first.navigate("/x").await.status, 200);
    assert!(!sign_in(&second).await, "the first one's sign-in lasted");
    // Another user's session that lasts says nothing about one that does not.
    assert_eq!(first.navigate("/x").await.status, 200);
    forget(&second, &["upwarden"]);
    assert!(sign_in(&second).await);
}

#[tokio::test]
async fn a_session_that_upwork_ends_at_its_first_use_did_not_last() {
    let world = World::new().start();
    let client = world.client();
    for _ in 0..3 {
        // The call finds the grant revoked, and begins the next sign-in.
        assert_eq!(world.sign_in_with(&client, FREELANCER, "/upwork/api/v3/x").await.status, 303);
        world.upwork.sandbox.revoke_all();
    }
    assert!(client.cookie("upwarden-tries").starts_with("3-"), "{:?}", client.cookies());
}

#[tokio::test]
async fn callbacks_that_fail_three_times_stop_with_their_cause() {
    let world = World::new().start();
    let mut asked = world.client().navigate("/x").await;
    for _ in 0..2 {
        let client = world.client();
        let back = world.upwork.consent(&asked.location(), FREELANCER).await;
        world.turn(Duration::from_secs(1300));
        asked = client.navigate(&back).await;
        assert_eq!(asked.status, 303, "{}", asked.text());
    }
    let back = world.upwork.consent(&asked.location(), FREELANCER).await;
    world.turn(Duration::from_secs(1300));
    let page = world.client().navigate(&back).await;
    assert!(page.status == 400 && page.text().contains("differ by 1300 seconds"), "{}", page.text());
}

#[tokio::test]
async fn plain_http_where_the_cookie_needs_https_is_named() {
    let client = upwarden::sandbox::Client {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        secret: upwarden::testing::secret::Secret::new("fedcba9876543210"),
        redirect_uri: "https://tools.example.com/upwork/auth/callback".to_owned(),
    };
    let upwork = upwarden::sandbox::Config { clients: vec![client], ..upwarden::sandbox::Config::default() };
    let plan = World::new().set("public_url", "https://tools.example.com");
    let world = plan.set("public.trusted_proxies", "127.0.0.1/32").upwork(upwork).start();
    // A browser drops `__Host-` cookies on http, so each step looks like another browser.
    let once = async |target: &str| {
        let client = world.client().named("tools.example.com");
        client
            .navigate(target.trim_start_matches("https://tools.example.com"))
            .header("x-forwarded-proto", "http")
            .await
    };
    // The proxy says http after the redirect to https, too.
    let open = async |target: &str| {
        let answer = once(target).await;
        let moved = answer.status == 303 && answer.location().starts_with("https://tools.example.com/");
        if moved { once(&answer.location()).await } else { answer }
    };
    let mut asked = open("/x").await;
    for _ in 0..2 {
        let back = world.upwork.consent(&asked.location(), FREELANCER).await;
        asked = open(&back).await;
        assert_eq!(asked.status, 303, "{}", asked.text());
    }
    let page = open(&world.upwork.consent(&asked.location(), FREELANCER).await).await;
    assert!(page.status == 400 && page.text().contains("opened over http"), "{}", page.text());
}

#[tokio::test]
async fn another_host_name_of_the_site_ends_at_a_page_that_names_it() {
    let world = World::new().start();
    let client = world.client().named("svc.cluster.local");
    let sent = client.navigate("/x?a=1").await;
    assert!(sent.status == 303 && sent.location().starts_with(&world.url("/x?a=1&")) && client.cookies().is_empty());
    let page = client.navigate(&sent.location()).await;
    assert_eq!(page.status, 421);
    assert!(page.text().contains("svc.cluster.local") && page.text().contains("public.trusted_proxies"));
}

#[tokio::test]
async fn a_sign_in_under_a_removed_key_begins_again_and_stops_at_the_third() {
    let old = World::new().start();
    let new = World::new()
        .set("public_url", old.url(""))
        .set("session.keys", "HxscGxoZGBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIBAAA")
        .start();
    let client = old.client();
    for _ in 0..2 {
        let back = old.callback(&client, "/x").await;
        let again = client.through(new.address(0)).navigate(&back).await;
        assert_eq!(again.status, 303, "{}", again.text());
        assert!(again.location().contains("/oauth2/authorize"));
    }
    let back = old.callback(&client, "/x").await;
    let page = client.through(new.address(0)).navigate(&back).await;
    assert!(page.status == 400 && page.text().contains("keys have changed"), "{}", page.text());
    // A browser without a pending sign-in is not redirected for a state that we did not seal.
    let page = old.client().through(new.address(0)).navigate(&back).await;
    assert_eq!((page.status.as_u16(), page.header("location")), (400, ""));
}
