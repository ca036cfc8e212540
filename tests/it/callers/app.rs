//! Personal access tokens at the app (`app.tokens`).

use std::time::Duration;

use http::Method;
use serde_json::json;

use super::tokens::{Folder, make};
use super::{WHO, ask};
use crate::harness::{AGENCY, App, Client, FREELANCER, World, feed, until, within};

/// A token of the browser's user, and its id.
async fn token(browser: &Client, wish: serde_json::Value) -> (String, String) {
    let mut wish = wish;
    wish["name"] = "report".into();
    let made = make(browser, &wish).await;
    assert_eq!(made["scope"], wish["scope"]);
    (format!("Bearer {}", made["token"].as_str().unwrap()), made["id"].as_str().unwrap().to_owned())
}

/// The status, and the name of the problem where there is one.
async fn outcome(client: &Client, method: Method, path: &str, bearer: &str) -> String {
    let answer = client.call(method, path).header("authorization", bearer).await;
    let status = answer.status.as_u16();
    if status < 400 { status.to_string() } else { format!("{status} {}", answer.problem()) }
}

#[tokio::test]
async fn a_token_opens_what_its_owner_chose() {
    let folder = Folder::new();
    let routes = json!([{ "path": "/admin", "users": [AGENCY] }, { "path": "/health", "public": true }]);
    let plan = folder.world().set("app.tokens", "true").set("app.tickets", "true").set("routes", routes);
    let plan = plan.set("app.headers", json!({ "X-WEBAUTH-USER": "{nid}" }));
    let world = plan.set("app.assertion", "my-app").start();
    let browser = world.sign_in(FREELANCER).await;
    let script = world.client();
    for (scope, api, app) in
        [("api", "200", "403 token-scope"), ("app", "403 token-scope", "200"), ("api app", "200", "200")]
    {
        let (bearer, _) = token(&browser, json!({ "scope": scope })).await;
        let called = ask(&script, WHO).header("authorization", &bearer).await;
        let called = if called.status == 200 { "200".to_owned() } else { format!("403 {}", called.problem()) };
        assert_eq!(called, api, "{scope}");
        for method in [Method::GET, Method::POST] {
            assert_eq!(outcome(&script, method, "/data", &bearer).await, app, "{scope}");
        }
        if app != "200" {
            continue;
        }
        let seen = world.app.last();
        assert_eq!((seen.header("x-upwork-user-id"), seen.header("x-upwork-user")), (FREELANCER, "foofreelancer"));
        assert_eq!(seen.header("x-webauth-user"), "foofreelancer");
        assert_eq!(seen.header("x-upwork-assertion").split('.').count(), 3, "{seen:?}");
        assert_eq!((seen.header("authorization"), seen.header("x-upwork-ticket")), ("", ""), "{scope}");
        assert_eq!(outcome(&script, Method::GET, "/admin", &bearer).await, "403 not-admitted-here");
        assert_eq!(outcome(&script, Method::GET, "/upwork/auth/session", &bearer).await, "401 bad-token");
        // Whatever the cookie says.
        assert_eq!(outcome(&browser, Method::GET, "/admin", &bearer).await, "403 not-admitted-here");
    }
    for path in ["/data", "/health"] {
        assert_eq!(outcome(&browser, Method::GET, path, "Bearer upwd_x").await, "401 bad-token", "{path}");
    }
    assert_eq!(outcome(&browser, Method::GET, "/data", "Basic eDp5").await, "200", "another scheme is the app's");
    assert_eq!(browser.navigate("/upwork/auth/").await.html().matches("class=\"tag\"").count(), 2);
}

#[tokio::test]
async fn a_read_only_token_only_reads_in_the_app_too() {
    let folder = Folder::new();
    let world = folder.world().set("app.tokens", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    let (bearer, _) = token(&browser, json!({ "scope": "app", "read_only": true })).await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        assert_eq!(outcome(&world.client(), method, "/x", &bearer).await, "200");
    }
    for method in [Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
        assert_eq!(outcome(&world.client(), method, "/x", &bearer).await, "403 read-only");
    }
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("authorization", bearer.as_str())];
    assert_eq!(world.client().get("/x").headers(&upgrade).await.problem(), "read-only");
    assert_eq!(browser.post("/x", "").await.status, 200, "its owner may");
}

#[tokio::test]
async fn without_the_setting_no_token_opens_the_app() {
    let folder = Folder::new();
    let world = folder.world().start();
    let browser = world.sign_in(FREELANCER).await;
    let wish = json!({ "name": "a", "scope": "app" }).to_string();
    let answer = browser.post("/upwork/auth/tokens", wish).header("content-type", "application/json").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (400, "bad-request"));
    assert!(!browser.navigate("/upwork/auth/").await.html().contains("name=\"scope\""));
}

/// What `path` answers to a token ends with it, whether the app or Upwork's API sends it.
async fn ends_with_its_token(path: &str, scope: &str) {
    let folder = Folder::new();
    let (events, body) = feed();
    let body = std::sync::Mutex::new(Some(body));
    let app = App::new(move |_| {
        let body = body.lock().unwrap().take().unwrap_or_default();
        async { http::Response::builder().header("content-type", "text/event-stream").body(body).unwrap() }
    });
    let upstream = World::new().app(app).start();
    let url = format!("http://{}", upstream.app_address());
    let world = folder.world().set("app.url", &url).set("upwork.api_url", &url).set("app.tokens", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    let (bearer, id) = token(&browser, json!({ "scope": scope })).await;
    let mut stream = world.client().get(path).header("authorization", &bearer).open().await;
    events.send("data: 1\n\n".into()).await.unwrap();
    assert_eq!(within(stream.piece()).await.unwrap().unwrap(), "data: 1\n\n");
    assert_eq!(browser.call(Method::DELETE, &format!("/upwork/auth/tokens/{id}")).await.status, 204);
    let cut = std::cell::Cell::new(false);
    let ended = async {
        while let Some(Ok(_)) = stream.piece().await {}
        cut.set(true);
    };
    let turned = until("the answer ends", async || {
        world.turn(Duration::from_secs(16));
        cut.get().then_some(())
    });
    tokio::join!(ended, turned);
}

#[tokio::test]
async fn a_long_answer_ends_soon_after_its_token_is_revoked() {
    ends_with_its_token("/events", "app").await;
}

#[tokio::test]
async fn a_long_answer_of_the_api_ends_soon_after_its_token_is_revoked() {
    ends_with_its_token("/upwork/api/events", "api").await;
}
