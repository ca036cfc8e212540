//! Personal access tokens: a user's scripts at the public door.

use std::future::IntoFuture;
use std::time::Duration;

use http::Method;
use serde_json::Value;

use super::{MUTATION, WHO, ask, whom};
use crate::harness::{AGENCY, Call, Client, FREELANCER, Plan, World, logs, until};

const PATH: &str = "/upwork/auth/tokens";

/// The folder of a store, which outlives a world.
pub(super) struct Folder(tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(super) fn world(&self) -> Plan {
        World::new().set("store.kind", "embedded").set("store.path", self.0.path().join("sessions.redb").display())
    }
}

pub(super) async fn make(browser: &Client, wish: &Value) -> Value {
    let answer = browser.post(PATH, wish.to_string()).header("content-type", "application/json").await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert!(answer.header("cache-control").contains("no-store"));
    answer.json()
}

pub(super) async fn token(browser: &Client) -> String {
    let wish = serde_json::json!({ "name": "report", "expires_in": 365 * 86_400 });
    make(browser, &wish).await["token"].as_str().unwrap().to_owned()
}

fn with(client: &Client, token: &str, query: &str) -> Call {
    ask(client, query).header("authorization", &format!("Bearer {token}"))
}

async fn refused(client: &Client, token: &str) -> String {
    let answer = with(client, token, WHO).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    assert!(answer.set_cookies().is_empty());
    answer.problem()
}

#[tokio::test]
async fn a_token_calls_the_api_as_its_owner_without_a_cookie() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let made = make(&browser, &serde_json::json!({ "name": "weekly report", "expires_in": 3600 })).await;
    let token = made["token"].as_str().unwrap();
    assert!(token.starts_with("upwd_") && token.len() == 43);
    assert_eq!((made["name"].as_str(), made["read_only"].as_bool()), (Some("weekly report"), Some(false)));
    assert_eq!(made["expires_at"], "2026-11-24T03:00:00Z");
    let answer = with(&world.client(), token, WHO).await;
    assert_eq!(whom(&answer), FREELANCER);
    assert!(answer.set_cookies().is_empty());
    let rest = world.client().get("/upwork/api/auth/v1/info.json").header("authorization", &format!("Bearer {token}"));
    assert_eq!(rest.await.status, 200);
    // A page of another site cannot make a browser send it, so the cross-site check does not apply.
    let cross = with(&world.client(), token, WHO).header("origin", "https://elsewhere.example").await;
    assert_eq!(whom(&cross), FREELANCER);
    let list = browser.get(PATH).await;
    assert!(!list.text().contains(token) && !logs().contains(token));
    assert_eq!(list.json()["tokens"][0]["last_used_at"], "2026-11-24T02:00:00Z");
    assert_eq!(list.json()["tokens"][0]["id"], made["id"]);
    // The browser still works; its tokens are in the shared grant now.
    assert_eq!(whom(&browser.graphql(WHO).await), FREELANCER);
}

#[tokio::test]
async fn a_revoked_expired_or_altered_token_is_a_401_even_with_a_cookie() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let made = make(&browser, &serde_json::json!({ "name": "a", "expires_in": 60 })).await;
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let other = world.sign_in(AGENCY).await;
    let path = format!("{PATH}/{id}");
    assert_eq!(other.call(Method::DELETE, &path).await.status, 404, "it belongs to another user");
    let foreign = browser.call(Method::DELETE, &path).header("sec-fetch-site", "cross-site").await;
    assert_eq!(foreign.problem(), "cross-site");
    assert_eq!(with(&world.client(), token, WHO).await.status, 200);
    assert_eq!(browser.call(Method::DELETE, &path).await.status, 204);
    assert_eq!(browser.call(Method::DELETE, &path).await.status, 404);
    let short = make(&browser, &serde_json::json!({ "name": "b", "expires_in": 60 })).await;
    let short = short["token"].as_str().unwrap();
    assert_eq!(with(&world.client(), short, WHO).await.status, 200);
    world.turn(Duration::from_secs(60));
    let mut bent = short.to_owned();
    bent.replace_range(10..11, if bent.as_bytes()[10] == b'x' { "y" } else { "x" });
    let unknown = "upwd_000000000000000000000000000000003pbWDl";
    for client in [world.client(), browser.twin()] {
        for token in [token, short, bent.as_str(), unknown, "upwd_", "upwd_x"] {
            assert_eq!(refused(&client, token).await, "bad-token", "{token}");
        }
    }
}

#[tokio::test]
async fn a_token_is_not_a_session_and_never_reaches_the_app() {
    let folder = Folder::new();
    let world = folder.world().public("/health").start();
    let browser = world.sign_in(FREELANCER).await;
    let token = token(&browser).await;
    let bearer = format!("Bearer {token}");
    for path in ["/", "/upwork/auth/session", "/upwork/auth/verify", PATH] {
        assert_eq!(world.client().get(path).header("authorization", &bearer).await.status, 401, "{path}");
    }
    for path in ["/", "/upwork/auth/session", PATH] {
        let answer = world.client().get(path).header("authorization", &bearer).await;
        assert_eq!(answer.problem(), "bad-token", "{path}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("`/upwork/graphql`") && detail.contains("neither the app"), "{path}: {detail}");
    }
    let post = world.client().post(PATH, r#"{"name":"x"}"#).header("content-type", "application/json");
    assert_eq!(post.header("authorization", &bearer).await.status, 401, "a token cannot create tokens");
    for name in ["upwarden", "__Host-upwarden", "session"] {
        let as_cookie = ask(&world.client(), WHO).header("cookie", &format!("{name}={token}")).await;
        assert_eq!((as_cookie.status.as_u16(), as_cookie.problem().as_str()), (401, "sign-in-required"), "{name}");
    }
    assert_eq!(world.client().get("/health").header("authorization", &bearer).await.status, 200);
    assert_eq!(world.app.last().header("authorization"), "");
    let neighbour = with(&world.neighbour(), &token, WHO).await;
    assert_eq!((neighbour.status.as_u16(), neighbour.problem().as_str()), (401, "bad-token"));
}

#[tokio::test]
async fn a_read_only_token_only_reads() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let made = make(&browser, &serde_json::json!({ "name": "a", "read_only": true })).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(whom(&with(&world.client(), token, WHO).await), FREELANCER);
    let answer = with(&world.client(), token, MUTATION).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "read-only"));
    assert_eq!(browser.graphql(MUTATION).await.status, 200, "its owner may");
}

#[tokio::test]
async fn one_refresh_serves_every_token_and_session_of_a_grant() {
    let folder = Folder::new();
    let world = folder.world().upwork(upwarden::sandbox::Config { strict: true, ..Default::default() }).start();
    let browser = world.sign_in(FREELANCER).await;
    let (one, two) = (token(&browser).await, token(&browser).await);
    // A browser that signed in before the first token has its own grant; one that signs in now shares the grant.
    let second = world.sign_in(FREELANCER).await;
    for round in 1..=3 {
        world.turn(Duration::from_hours(25));
        let public = world.client();
        let (first, other) = (with(&public, &one, WHO), with(&public, &two, WHO));
        let (a, b, c, d) = tokio::join!(first, other, browser.graphql(WHO), second.graphql(WHO));
        for answer in [a, b, c, d] {
            assert_eq!(whom(&answer), FREELANCER);
        }
        assert_eq!(world.counters().token.refresh_token, round, "one refresh for all four");
    }
    // They share a grant but not a session: the end of one session does not end the other.
    assert_eq!(second.post("/upwork/auth/logout", "").await.status, 303);
    assert_eq!((second.get("/").await.status.as_u16(), browser.get("/").await.status.as_u16()), (401, 200));
    // The browser stays signed in as long as it is used, whichever of them refreshes.
    for round in 0..6 {
        world.turn(Duration::from_hours(24 * 5));
        assert_eq!(whom(&with(&world.client(), &one, WHO).await), FREELANCER);
        let answer = browser.get("/").await;
        assert_eq!(answer.status, 200, "{round}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_rarely_used_token_is_not_lost() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let token = token(&browser).await;
    for refreshed in 1..=8 {
        world.turn(Duration::from_hours(24 * 6));
        // Wait until it is stored, not only requested: otherwise the next clock change would date the token.
        until("a refresh without a call", || async {
            (world.metric("upwarden_refreshes_total{outcome=\"renewed\"}").await >= refreshed).then_some(())
        })
        .await;
    }
    assert_eq!(whom(&with(&world.client(), &token, WHO).await), FREELANCER);
    assert_eq!(browser.get("/").await.status, 401, "the browser was not used for 48 days");
}

#[tokio::test]
async fn tokens_keep_the_grant_after_a_sign_out_and_without_tokens_it_is_revoked() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let token = token(&browser).await;
    let out = browser.post("/upwork/auth/logout", "").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=kept");
    assert_eq!(world.counters().revoke, 0);
    assert_eq!(browser.get("/").await.status, 401);
    assert_eq!(whom(&with(&world.client(), &token, WHO).await), FREELANCER);
    // Signed in again, token revoked, signed out: now the grant is revoked at Upwork.
    let browser = world.sign_in(FREELANCER).await;
    let id = browser.get(PATH).await.json()["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(browser.call(Method::DELETE, &format!("{PATH}/{id}")).await.status, 204);
    let out = browser.post("/upwork/auth/logout", "").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=revoked");
    assert_eq!(world.counters().revoke, 1);
}

#[tokio::test]
async fn a_sign_out_leaves_the_other_browsers_of_a_shared_grant_signed_in() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    token(&browser).await;
    let (second, third) = (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await);
    let id = browser.get(PATH).await.json()["tokens"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(browser.call(Method::DELETE, &format!("{PATH}/{id}")).await.status, 204);
    let out = second.post("/upwork/auth/logout", "").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=shared");
    assert!(second.navigate(&out.location()).await.text().contains("another browser"));
    assert_eq!((world.counters().revoke, second.get("/").await.status.as_u16()), (0, 401));
    world.turn(Duration::from_hours(25));
    for other in [&browser, &third] {
        assert_eq!(other.get("/").await.status, 200);
        assert_eq!(whom(&other.graphql(WHO).await), FREELANCER);
    }
    // A sign-out everywhere ends all sessions, so the grant is not used any more.
    let out = third.post("/upwork/auth/logout", "everywhere=1").await;
    assert_eq!(out.location(), "/upwork/auth/logout?done=revoked&everywhere=1");
    assert_eq!((world.counters().revoke, browser.get("/").await.status.as_u16()), (1, 401));
}

#[tokio::test]
async fn a_user_has_fifty_tokens_however_many_are_made_at_once() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    token(&browser).await;
    let calls = (0..60).map(|number| {
        let wish = serde_json::json!({ "name": number.to_string() }).to_string();
        browser.twin().post(PATH, wish).header("content-type", "application/json").into_future()
    });
    let answers = futures_util::future::join_all(calls).await;
    let made = answers.iter().filter(|answer| answer.status == 201).count();
    assert_eq!((made, browser.get(PATH).await.json()["tokens"].as_array().unwrap().len()), (49, 50));
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (409, "too-many-tokens"));
    }
}

#[tokio::test]
async fn a_grant_that_upwork_ended_is_reported_and_a_new_sign_in_revives_the_token() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let token = token(&browser).await;
    world.upwork.sandbox.revoke_all();
    world.turn(Duration::from_hours(25));
    assert_eq!(refused(&world.client(), &token).await, "token-over");
    assert_eq!(refused(&world.client(), &token).await, "token-over");
    assert_eq!(browser.get("/").await.status, 401, "the session had no other grant");
    world.sign_in(FREELANCER).await;
    assert_eq!(whom(&with(&world.client(), &token, WHO).await), FREELANCER);
}

#[tokio::test]
async fn not_before_ends_older_tokens() {
    let folder = Folder::new();
    let file = |moment: &str| format!("access.not_before = {{ \"{FREELANCER}\" = \"{moment}\" }}\n");
    let world = folder.world().file(&file("2026-11-24T01:00:00Z")).start();
    let browser = world.sign_in(FREELANCER).await;
    let token = token(&browser).await;
    assert_eq!(with(&world.client(), &token, WHO).await.status, 200);
    world.turn(Duration::from_secs(60));
    world.rewrite(&file("2026-11-24T02:00:30Z"));
    until("the new rules", || async { (with(&world.client(), &token, WHO).await.status == 401).then_some(()) }).await;
    world.sign_in(FREELANCER).await;
    assert_eq!(refused(&world.client(), &token).await, "bad-token", "a new sign-in does not revive it");
}

fn client_cookies(browser: &Client) -> String {
    browser.cookies().join(" ")
}

#[tokio::test]
async fn the_page_creates_a_token_shows_it_once_and_revokes_it() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let form = |body: &'static str| {
        let call = browser.post(PATH, body).header("content-type", "application/x-www-form-urlencoded");
        call.headers(&[("accept", "text/html"), ("origin", &world.url(""))]).header("sec-fetch-mode", "navigate")
    };
    let foreign = form("action=create&name=a").header("origin", "http://evil.example").await;
    assert_eq!(foreign.status, 403);
    let posted = form("action=create&name=a+%3Cb%3E&expires_in=604800&read_only=1").await;
    assert_eq!((posted.status.as_u16(), posted.location().as_str()), (303, "/upwork/auth/"));
    let carried = client_cookies(&browser);
    assert!(!posted.text().contains("upwd_") && !carried.contains("upwd_"), "only sealed: {carried}");
    // The app never sees it, and another user's page does not show it.
    assert_eq!(browser.get("/x").await.status, 200);
    assert!(!world.app.last().header("cookie").contains("upwarden"), "{:?}", world.app.last());
    let stranger = world.sign_in(AGENCY).await;
    stranger.plant("upwarden-token", &browser.cookie("upwarden-token"));
    assert!(!stranger.navigate("/upwork/auth/").await.text().contains("upwd_"));
    assert_eq!(browser.call(Method::HEAD, "/upwork/auth/").await.status, 200, "shows nothing, and takes nothing away");
    let page = browser.navigate("/upwork/auth/").await;
    assert!(page.status == 200 && page.header("cache-control").contains("no-store"), "{}", page.text());
    assert!(!client_cookies(&browser).contains("upwarden-token"), "once");
    let text = page.text();
    let token = &text[text.find("upwd_").expect("the token")..][..43];
    assert_eq!(whom(&with(&world.client(), token, WHO).await), FREELANCER);
    assert_eq!(with(&world.client(), token, MUTATION).await.problem(), "read-only");
    let account = browser.navigate("/upwork/auth/").await.text();
    assert!(!account.contains(token) && account.contains("a &lt;b&gt;"), "{account}");
    assert!(account.contains(&format!("{}…", &token[..9])), "its first characters");
    assert_eq!(browser.get(PATH).await.json()["tokens"][0]["starts_with"], token[..9]);
    let id = browser.get(PATH).await.json()["tokens"][0]["id"].as_str().unwrap().to_owned();
    let revoke = browser.post(PATH, format!("action=revoke&id={id}"));
    let gone = revoke.header("content-type", "application/x-www-form-urlencoded").await;
    assert_eq!((gone.status.as_u16(), gone.location().as_str()), (303, "/upwork/auth/"));
    assert_eq!(refused(&world.client(), token).await, "bad-token");
}

#[tokio::test]
async fn the_cookie_store_refuses_tokens_and_says_why() {
    let world = World::new().start();
    let browser = world.sign_in(FREELANCER).await;
    assert_eq!(browser.get(PATH).await.json(), serde_json::json!({ "tokens": [] }));
    let post = browser.post(PATH, r#"{"name":"a"}"#).header("content-type", "application/json").await;
    assert_eq!((post.status.as_u16(), post.problem().as_str()), (409, "tokens-need-store"));
    assert_eq!(refused(&world.client(), "upwd_000000000000000000000000000000003pbWDl").await, "bad-token");
    assert_eq!(world.client().get(PATH).await.problem(), "sign-in-required");
    assert_eq!(browser.call(Method::PUT, PATH).await.problem(), "method-not-allowed");
    assert_eq!(browser.post(PATH, r#"{"name":""}"#).header("content-type", "application/json").await.status, 400);
}
