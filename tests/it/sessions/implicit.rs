//! The implicit grant: the fragment's token is posted and wiped from the address, and renewed without a screen.

use http::Method;
use serde_json::json;
use upwarden::testing::body::Body;

use super::{DAY, ME};
use crate::harness::{Answer, App, Browser, Client, FREELANCER, World, between};

const FORM: &str = "application/x-www-form-urlencoded";

/// Posts the fragment of `back`, as the page's script does.
pub(super) async fn post_fragment(world: &World, client: &Client, back: &str) -> Answer {
    let (_, fragment) = back.split_once('#').unwrap();
    let call = client.call(Method::POST, "/upwork/auth/callback").body(Body::full(fragment.to_owned()));
    let call = call.header("content-type", FORM).header("accept", "text/html").header("origin", &world.url(""));
    call.header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document").await
}

async fn sign_in(world: &World, target: &str) -> Client {
    let client = world.client();
    let back = world.callback(&client, target).await;
    assert_eq!(post_fragment(world, &client, &back).await.location(), target);
    client
}

#[tokio::test]
async fn the_fragment_is_posted_with_its_state_and_the_server_sets_the_cookie() {
    let world = World::new().set("upwork.grant", "implicit").start();
    let client = world.client();
    let asked = client.navigate("/x?a=b").await.location();
    assert!(asked.contains("response_type=token") && !asked.contains("code_challenge"));
    let back = world.upwork.consent(&asked, FREELANCER).await;
    let (page_at, fragment) = back.split_once('#').unwrap();
    let page = client.navigate(page_at).await;
    assert_eq!((page.status.as_u16(), page.header("referrer-policy")), (200, "same-origin"));
    let csp = page.header("content-security-policy");
    assert!(
        csp.contains("script-src 'sha256-") && !csp.contains("unsafe") && csp.contains("default-src 'none'"),
        "{csp}"
    );

    // Neither for another browser's sign-in, nor from another site, nor twice.
    let stranger = world.client();
    let answer = post_fragment(&world, &stranger, &back).await;
    assert!(answer.location().contains("/oauth2/authorize") && !stranger.cookies().contains(&"upwarden".to_owned()));
    let foreign = client.post("/upwork/auth/callback", fragment.to_owned()).header("sec-fetch-site", "cross-site");
    assert_eq!(foreign.await.status, 403);
    assert_eq!(post_fragment(&world, &client, &back).await.location(), "/x?a=b");
    assert_eq!(client.cookies(), ["upwarden"]);
    assert_eq!(post_fragment(&world, &client, &back).await.location(), "/", "the session is unchanged");
    assert_eq!(client.graphql(ME).await.json()["data"]["user"]["id"], FREELANCER);
    assert_eq!(client.get("/upwork/auth/session").await.json()["grant"], "implicit");
    assert_eq!(world.counters().token.authorization_code, 0);
}

#[tokio::test]
async fn a_login_asks_once_whose_its_token_is_whatever_its_callbacks_bring() {
    let world = World::new().set("upwork.grant", "implicit").start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let (_, state) = back.split_once("state=").unwrap();
    let state = state.split('&').next().unwrap();
    for number in 0..10 {
        let made_up = format!("{}#access_token=made-up-{number}&token_type=Bearer&state={state}", world.url("/"));
        let answer = post_fragment(&world, &client.twin(), &made_up).await;
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{answer:?}");
    }
    assert_eq!(world.counters().api.values().sum::<u64>(), 1);
}

#[tokio::test]
async fn a_token_in_the_query_signs_no_one_in() {
    let world = World::new().set("upwork.grant", "implicit").start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let answer = client.navigate(&back.replace('#', "?")).await;
    assert_eq!((answer.status.as_u16(), answer.page()), (400, "This sign-in did not start here".to_owned()));
    assert!(!client.cookies().contains(&"upwarden".to_owned()));
}

#[tokio::test]
async fn after_expiry_a_script_gets_401_and_a_navigation_signs_in_again() {
    let world = World::new().set("upwork.grant", "implicit").start();
    let client = sign_in(&world, "/x").await;
    world.turn(DAY);
    assert_eq!(client.graphql(ME).await.problem(), "sign-in-required");
    assert_eq!(client.fetch("/x").await.problem(), "sign-in-required");
    let asked = client.navigate("/x").await;
    assert!(asked.status == 303 && asked.location().contains("response_type=token"));
    let client = sign_in(&world, "/x").await;
    world.upwork.sandbox.expire_all();
    let answer = client.graphql(ME).await;
    assert_eq!(answer.status, 401, "there is nothing to refresh it with");
    assert!(client.cookies().is_empty(), "so the session is over: {:?}", answer.set_cookies());
    assert_eq!(world.counters().token.refresh_token, 0);
}

#[tokio::test]
async fn the_app_gets_identity_from_such_a_token_only_where_the_configuration_accepts_it() {
    let identity = async |world: &World| {
        let client = sign_in(world, "/x").await;
        client.get("/x").header("x-upwork-user-id", "1").await;
        let to_app = world.app.last().header("x-upwork-user-id").to_owned();
        let verified = client.get("/upwork/auth/verify").await;
        assert_eq!(verified.status, 204);
        (to_app, verified.header("x-upwork-user-id").to_owned())
    };
    let world = World::new().set("upwork.grant", "implicit").start();
    assert_eq!(identity(&world).await, (String::new(), String::new()));
    let accepted = World::new().set("upwork.grant", "implicit").set("upwork.implicit_identity", "accepted");
    let world = accepted.set("access.anyone", "").set("access.users", FREELANCER).start();
    assert_eq!(identity(&world).await, (FREELANCER.to_owned(), FREELANCER.to_owned()));
}

#[tokio::test]
async fn in_chromium_no_token_stays_in_the_address_bar_or_in_back() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().set("upwork.grant", "implicit").app(App::sample()).tapped().start();
    let signed_in = async |target: &str| {
        browser.url_where(|url| url == world.url(target)).await;
        browser.text_where("#graphql", |text| text.contains("foofreelancer")).await;
    };
    browser.open(&world.url("/deep?tab=2")).await;
    // An error comes back in the fragment too.
    browser.click("button[name=decision][value=decline]").await;
    browser.text_where("h1", |text| text.contains("declined")).await;
    assert_eq!(browser.url().await, world.url("/upwork/auth/callback"));

    browser.open(&world.url("/deep?tab=2")).await;
    let first = browser.here().await;
    // Another tab signs in meanwhile; both finish.
    browser.tab().await;
    browser.open(&world.url("/other")).await;
    browser.consent(FREELANCER, "accept").await;
    signed_in("/other").await;
    browser.front(&first).await;
    browser.consent(FREELANCER, "accept").await;
    signed_in("/deep?tab=2").await;
    let cookies = browser.cookies().await;
    assert!(cookies.iter().any(|cookie| cookie.name == "upwarden"), "{cookies:?}");

    let entries = "return navigation.entries().map(entry => entry.url).concat([location.href, document.referrer])";
    let seen = browser.run(entries).await.to_string();
    assert!(!seen.contains("access_token") && !seen.contains("oauth2v2"), "{seen}");
    browser.back().await;
    assert!(!browser.url().await.contains("access_token"));

    // After expiry there is no screen, since the consent is still valid.
    world.turn(DAY);
    let authorize = world.counters().authorize;
    browser.open(&world.url("/renewed?x=1")).await;
    signed_in("/renewed?x=1").await;
    assert_eq!(world.counters().authorize, authorize + 1);
    let sent = world.tap.as_ref().unwrap().wire.text();
    let lines: Vec<&str> = sent.lines().filter(|line| line.ends_with("HTTP/1.1")).collect();
    assert!(lines.len() > 5 && !lines.iter().any(|line| line.contains("token=")), "{lines:?}");
    browser.quit().await;
}

#[tokio::test]
async fn in_chromium_an_expired_fragment_begins_one_new_sign_in_and_the_app_may_redirect_elsewhere() {
    let Some(browser) = Browser::start().await else { return };
    let elsewhere = World::new().public("/").start();
    let target = elsewhere.url("/landed");
    let app = App::new(move |_| {
        let target = target.clone();
        async move { http::Response::builder().status(302).header("location", target).body(Body::empty()).unwrap() }
    });
    let world = World::new().set("upwork.grant", "implicit").app(app).start();
    let back = world.callback(&world.client(), "/deep?x=1").await;
    // It began in another browser, too long ago.
    world.turn(std::time::Duration::from_secs(1201));
    let before = world.counters().authorize;
    browser.open(&back).await;
    browser.consent(FREELANCER, "accept").await;
    // The browser signs in at once, and follows the app's own redirect to another origin at the end of the same chain.
    browser.url_where(|url| url == elsewhere.url("/landed")).await;
    assert_eq!(world.counters().authorize, before + 1);
    assert!(world.app.last().target.ends_with("/deep?x=1"), "{:?}", world.app.last());
    browser.quit().await;
}

#[tokio::test]
async fn a_fragment_that_was_tampered_with_signs_no_one_in() {
    let world = World::new().set("upwork.grant", "implicit").start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let token = between(&back, "access_token=", "&").unwrap();
    let bent = back.replace(token, "oauth2v2_ffffffffffffffffffffffffffffffff");
    let answer = post_fragment(&world, &client, &bent).await;
    assert_eq!(answer.status, 502, "{}", answer.text());
    assert!(!client.cookies().contains(&"upwarden".to_owned()));
    world.fault(&json!({ "authorize": "decline" }));
    let declined = world.upwork.decline(&client.navigate("/x").await.location()).await;
    let answer = post_fragment(&world, &client, &declined).await;
    assert_eq!(answer.status, 403, "{}", answer.text());
}
