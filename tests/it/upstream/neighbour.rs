//! The door for programs next door.

use http::Method;

use crate::harness::{FREELANCER, TOKEN, World};

const ME: &str = "{\"query\":\"{ user { nid } }\"}";

#[tokio::test]
async fn with_nothing_at_all_the_service_identity_answers() {
    let world = World::new().start();
    let door = world.neighbour();
    for _ in 0..3 {
        let answer = door.post("/upwork/graphql", ME).header("content-type", "application/json").await;
        assert_eq!(answer.json()["data"]["user"]["nid"], "corgeservice");
        assert!(answer.set_cookies().is_empty() && !answer.text().contains(TOKEN));
    }
    let rest = door.get("/upwork/api/hr/v2/users/me.json").await;
    assert_eq!(rest.json()["auth_user"]["first_name"], "Corge");
    assert_eq!(world.counters().token.client_credentials, 1, "its token is kept");
    world.upwork.sandbox.expire_all();
    assert_eq!(door.post("/upwork/graphql", ME).await.status, 200, "a 401 means one refresh and one retry");
    assert_eq!(world.counters().token.client_credentials, 2);
    world.turn(std::time::Duration::from_hours(24));
    assert_eq!(door.post("/upwork/graphql", ME).await.status, 200);
    assert_eq!(world.counters().token.client_credentials, 3);
}

#[tokio::test]
async fn a_bearer_or_a_cookie_of_the_callers_changes_nothing() {
    let world = World::new().start();
    let user = world.sign_in(FREELANCER).await;
    let cookie = format!("upwarden={}", user.cookie("upwarden"));
    let answer =
        world.neighbour().post("/upwork/graphql", ME).header("authorization", "Bearer x").header("cookie", &cookie);
    assert_eq!(answer.await.json()["data"]["user"]["nid"], "corgeservice");
}

#[tokio::test]
async fn whatever_a_browser_sends_is_refused() {
    let world = World::new().start();
    let door = world.neighbour();
    for (name, value) in [
        ("origin", "http://127.0.0.1"),
        ("origin", "null"),
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let answer = door.post("/upwork/graphql", ME).header(name, value).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "neighbour-browser"), "{name}: {value}");
    }
    assert_eq!(door.post("/upwork/graphql", ME).header("sec-fetch-site", "none").await.status, 200);
    for host in ["evil.example", "127.0.0.1.evil.example", "tools.example.com:4181", "[::2]", "localhost.:1", "0.0.0.0"]
    {
        let answer = door.named(host).post("/upwork/graphql", ME).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (403, "neighbour-host"), "{host}");
    }
    for host in ["localhost", "LOCALHOST:9", "127.0.0.1:4181", "[::1]:1", "[::1]"] {
        assert_eq!(door.named(host).post("/upwork/graphql", ME).await.status, 200, "{host}");
    }
}

#[tokio::test]
async fn it_knows_the_api_and_nothing_else() {
    let world = World::new().start();
    let door = world.neighbour();
    for path in ["/", "/x", "/upwork/auth/", "/upwork/auth/login", "/upwork/auth/session", "/upwork/nothing"] {
        let answer = door.navigate(path).without("sec-fetch-site").await;
        assert!([403, 404].contains(&answer.status.as_u16()), "{path}: {answer:?}");
        assert!(answer.problem().len() > 3 && answer.set_cookies().is_empty(), "a problem even for who wants HTML");
    }
    assert!(world.app.seen().is_empty());
    assert_eq!(door.call(Method::GET, "/upwork/api/%2e%2e/x").await.problem(), "ambiguous-path");
}

#[tokio::test]
async fn without_a_service_identity_it_says_what_is_missing() {
    let world = World::new().set("service.grant", "").start();
    let answer = world.neighbour().post("/upwork/graphql", ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "no-service-identity"));
    assert!(answer.header("www-authenticate").starts_with("Bearer"));
}

#[tokio::test]
async fn a_service_identity_that_upwork_refuses_is_a_503() {
    let world = World::new().start();
    world.fault(&serde_json::json!({ "token": "500" }));
    let answer = world.neighbour().post("/upwork/graphql", ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "service-unavailable"));
    let ready = world.admin().get("/readyz").await;
    assert_eq!(ready.status, 200, "the sidecar itself is well: {}", ready.text());
}
