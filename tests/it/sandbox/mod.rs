//! The sandbox over real sockets, as a proxy, a browser and a test see it.

mod authorize;
mod client;
mod token;

use client::{Doors, FORM, JSON, World, form};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use upwarden::sandbox::{AUTHORIZE_PATH, Config, Fault, GRAPHQL_PATH, Rates, TOKEN_PATH, Target, Times};

const WHO: &str = r#"{"query":"query { user { id nid rid } organization { id } }"}"#;
const INFO: &str = "/api/auth/v1/info.json";

#[tokio::test]
async fn a_person_signs_in_and_their_token_says_who_they_are() {
    let world = World::start(Config::default()).await;
    let query = form(&[
        ("response_type", "code"),
        ("client_id", client::CLIENT),
        ("redirect_uri", client::CALLBACK),
        ("state", "x"),
    ]);
    let target = format!("{AUTHORIZE_PATH}?{query}");
    let page = world.upwork(Method::GET, &target, &[], "").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.text().contains("not the real Upwork"));
    let choice = form(&[("account", client::FREELANCER), ("decision", "accept")]);
    let back = world.upwork(Method::POST, &target, &[FORM], &choice).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER);
    let location = url::Url::parse(back.headers["location"].to_str().unwrap()).unwrap();
    let code = location.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned();
    let exchange = form(&[
        ("grant_type", "authorization_code"),
        ("code", &code),
        ("redirect_uri", client::CALLBACK),
        ("client_id", client::CLIENT),
        ("client_secret", "any"),
    ]);
    let tokens = world.upwork(Method::POST, TOKEN_PATH, &[FORM], &exchange).await.json();
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let who = world.upwork(Method::POST, GRAPHQL_PATH, &[JSON, ("authorization", &bearer)], WHO).await;
    assert_eq!(
        who.json(),
        json!({"data": {
            "user": {"id": "1181921839933591552", "nid": "foofreelancer", "rid": "2366358"},
            "organization": {"id": "1181921839933591553"},
        }})
    );
    assert_eq!(
        world.control(Method::GET, "/counters", "").await.json(),
        json!({
            "authorize": 1,
            "token": {"authorization_code": 1, "refresh_token": 0, "client_credentials": 0, "other": 0},
            "revoke": 0, "api": {"/graphql": 1}, "graphql_mutations": 0, "rate_limited": 0, "held": 0,
        })
    );
}

#[tokio::test]
async fn legacy_calls_answer_and_their_errors_are_in_headers() {
    let world = World::start(Config::default()).await;
    let info = world.api(Method::GET, INFO, "").await;
    assert_eq!(
        (&info.json()["auth_user"]["first_name"], &info.json()["info"]["ref"]),
        (&json!("Foo"), &json!("2366358"))
    );
    for name in ["set-cookie", "strict-transport-security", "alt-svc"] {
        assert!(info.headers.contains_key(name), "{name} as a CDN would send it");
    }
    let me = world.api(Method::GET, "/api/hr/v2/users/me.json", "").await;
    assert_eq!(me.json()["user"]["id"], "foofreelancer");
    for path in ["/api/profiles/v1/search.json", "/gds/timereports/v1/x", "/api/"] {
        let missing = world.api(Method::GET, path, "").await;
        assert_eq!(missing.status, StatusCode::NOT_FOUND);
        assert_eq!(missing.headers["x-upwork-error-code"], "404");
        assert_eq!(missing.headers["x-upwork-error-message"], "Not Found");
        assert_eq!(missing.json()["error"], json!({"status": 404, "code": 404, "message": "Not Found"}));
    }
}

#[tokio::test]
async fn a_token_that_is_missing_expired_or_revoked_is_a_401() {
    let world = World::start(Config::default()).await;
    let refused = |answer: client::Answer| {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.json(), json!({"message": "Authentication failed"}));
    };
    for header in [("accept", "*/*"), ("authorization", "Bearer oauth2v2_0"), ("authorization", "Basic YTpi")] {
        refused(world.upwork(Method::POST, GRAPHQL_PATH, &[JSON, header], WHO).await);
    }
    assert_eq!(world.api(Method::GET, INFO, "").await.status, StatusCode::OK);
    assert_eq!(world.control(Method::POST, "/expire", "").await.status, StatusCode::OK);
    refused(world.api(Method::GET, INFO, "").await);
    let fresh = world.refresh().await.json();
    let (bearer, refresh) = (format!("Bearer {}", fresh["access_token"].as_str().unwrap()), &fresh["refresh_token"]);
    let authorization = [("authorization", bearer.as_str())];
    let info = || world.upwork(Method::GET, INFO, &authorization, "");
    assert_eq!(info().await.status, StatusCode::OK);
    assert_eq!(world.control(Method::POST, "/revoke", "").await.status, StatusCode::OK);
    refused(info().await);
    assert_eq!(world.refresh().await.json()["error"], "invalid_grant");
    assert_eq!(world.refresh_with(refresh.as_str().unwrap()).await.json()["error"], "invalid_grant");
    let aged = World::start(Config::default()).await;
    aged.clock.advance(std::time::Duration::from_hours(24));
    refused(aged.api(Method::GET, INFO, "").await);
}

#[tokio::test]
async fn a_canned_answer_comes_from_the_folder_and_from_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let answers = folder.path().join("answers");
    std::fs::create_dir_all(answers.join("api/profiles/v1")).unwrap();
    std::fs::write(folder.path().join("outside.json"), "{}").unwrap();
    let world = World::start(Config { fixtures: Some(answers.clone()), ..Config::default() }).await;
    let jobs = r#"{"query":"query Jobs { anything { at all } }"}"#;
    let path = "/api/profiles/v1/search.json";
    assert!(world.api(Method::POST, GRAPHQL_PATH, jobs).await.json()["errors"].is_array(), "no file yet");
    std::fs::write(answers.join("Jobs.json"), r#"{"data":{"anything":[1]}}"#).unwrap();
    std::fs::write(answers.join("api/profiles/v1/search.json"), r#"{"profiles":[]}"#).unwrap();
    assert_eq!(world.api(Method::POST, GRAPHQL_PATH, jobs).await.json(), json!({"data": {"anything": [1]}}));
    assert_eq!(world.api(Method::GET, path, "").await.json(), json!({"profiles": []}));
    // All else stays as it is: a token is required, and a fault wins.
    assert_eq!(world.api(Method::POST, GRAPHQL_PATH, WHO).await.json()["data"]["user"]["nid"], "foofreelancer");
    assert_eq!(world.upwork(Method::GET, path, &[], "").await.status, StatusCode::UNAUTHORIZED);
    for path in ["/api/../outside.json", "/api/%2e%2e/outside.json", "/api/..%2foutside.json", "/api//x.json", "/api/"]
    {
        assert_eq!(world.api(Method::GET, path, "").await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_slow_answer_is_held_until_it_is_released() {
    let world = World::start(Config::default()).await;
    let ordered = world.control(Method::POST, "/faults", r#"{"api":"slow","times":3}"#).await;
    assert_eq!(ordered.status, StatusCode::OK);
    let calls = async {
        tokio::join!(
            world.api(Method::GET, INFO, ""),
            world.api(Method::GET, INFO, ""),
            world.api(Method::GET, INFO, ""),
        )
    };
    let release = async {
        world.sandbox.held(3).await;
        assert_eq!(world.control(Method::GET, "/counters", "").await.json()["held"], 3);
        world.control(Method::POST, "/release", "").await
    };
    let ((first, second, third), _) = tokio::join!(calls, release);
    for answer in [first, second, third] {
        assert_eq!(answer.status, StatusCode::OK);
    }
    assert_eq!(world.sandbox.counters().held, 0);
    world.sandbox.fault(Target::Api, Fault::Slow { millis: Some(1) }, Times::Only(1));
    assert_eq!(world.api(Method::GET, INFO, "").await.status, StatusCode::OK, "released by the time");
}

#[tokio::test]
async fn a_cut_answer_breaks_off_in_its_body() {
    let world = World::start(Config::default()).await;
    for path in [INFO, "/api/sandbox/bytes?n=50000"] {
        let whole = world.api(Method::GET, path, "").await;
        world.sandbox.fault(Target::Api, Fault::Cut, Times::Only(1));
        let cut = world.api(Method::GET, path, "").await;
        assert_eq!(cut.status, StatusCode::OK);
        assert!(cut.broken && !whole.broken);
        assert_eq!(cut.body, whole.body.slice(..whole.body.len() / 2));
    }
}

#[tokio::test]
async fn every_fault_is_injected_as_ordered_and_then_is_over() {
    let world = World::start(Config::default()).await;
    for (order, status, retry_after) in [
        (r#"{"api":"500"}"#, 500, None),
        (r#"{"api":502}"#, 502, None),
        (r#"{"api":"503"}"#, 503, None),
        (r#"{"api":"html"}"#, 403, None),
        (r#"{"api":"429"}"#, 429, None),
        (r#"{"api":{"429":7}}"#, 429, Some("7")),
        (r#"{"api":"429","retry_after":9}"#, 429, Some("9")),
        (r#"{"api":"garbage"}"#, 200, None),
    ] {
        assert_eq!(world.control(Method::POST, "/faults", order).await.status, StatusCode::OK);
        let answer = world.api(Method::GET, INFO, "").await;
        assert_eq!(answer.status.as_u16(), status, "{order}");
        assert_eq!(answer.headers.get("retry-after").map(|value| value.to_str().unwrap()), retry_after, "{order}");
        assert!(serde_json::from_slice::<Value>(&answer.body).is_err(), "{order}: nothing to read");
        assert_eq!(answer.text().contains("Just a moment..."), order.contains("html"));
        assert_eq!(world.api(Method::GET, INFO, "").await.status, StatusCode::OK);
    }
    world.control(Method::POST, "/faults", r#"{"api":"500","times":"always"}"#).await;
    world.control(Method::POST, "/reset", "").await;
    assert_eq!(world.api(Method::GET, INFO, "").await.status, StatusCode::UNAUTHORIZED, "no fault, and no grant");
}

#[tokio::test]
async fn the_control_address_lists_its_requests_and_refuses_pages() {
    let world = World::start(Config::default()).await;
    assert!(world.control(Method::GET, "/", "").await.text().contains("POST /faults"));
    for order in [
        "",
        "[]",
        r#""500""#,
        "{}",
        r#"{"times":1}"#,
        r#"{"api":"explode"}"#,
        r#"{"everything":"500"}"#,
        r#"{"token":"501"}"#,
        r#"{"token":"decline"}"#,
        r#"{"api":"invalid_grant"}"#,
        r#"{"token":"500","times":"often"}"#,
        r#"{"token":"slow","millis":-1}"#,
        r#"{"token":{"500":1}}"#,
    ] {
        let refused = world.control(Method::POST, "/faults", order).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{order}");
        assert!(refused.json()["error"].as_str().unwrap().contains("known faults: slow"), "{order}");
    }
    for order in ["", "{}", r#"{"missing":[1]}"#] {
        assert_eq!(world.control(Method::POST, "/scopes", order).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.control(Method::GET, "/faults", "").await.status, StatusCode::NOT_FOUND);
    let page = world
        .send(Doors::Control, client::request(Method::POST, "/reset", &[("origin", "http://evil.example")], ""))
        .await;
    assert_eq!(page.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_missing_scope_aborts_the_query_until_it_is_given() {
    let world = World::start(Config::default()).await;
    let query = r#"{"query":"{ user { id email } }"}"#;
    world.control(Method::POST, "/scopes", r#"{"missing":["User.email"]}"#).await;
    let refused = world.api(Method::POST, GRAPHQL_PATH, query).await;
    assert_eq!(refused.status, StatusCode::OK);
    assert_eq!(
        refused.json()["errors"][0]["message"],
        "The client or authentication token doesn't have enough oauth2 permissions/scopes to access: [User.email]."
    );
    world.control(Method::POST, "/scopes", r#"{"missing":[]}"#).await;
    assert_eq!(world.api(Method::POST, GRAPHQL_PATH, query).await.json()["data"]["user"]["email"], "foo@example.com");
}

#[tokio::test]
async fn enforced_limits_answer_429_until_the_clock_moves_on() {
    let rates = Rates { per_second: 2, ..Rates::default() };
    let world = World::start(Config { limits: true, rates, ..Config::default() }).await;
    for status in [200, 200, 429, 429] {
        assert_eq!(world.api(Method::GET, INFO, "").await.status.as_u16(), status);
    }
    world.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(world.api(Method::GET, INFO, "").await.status, StatusCode::OK);
    assert_eq!(world.sandbox.counters().rate_limited, 2);
}

#[tokio::test]
async fn what_the_api_received_can_be_read() {
    let world = World::start(Config::default()).await;
    let echo = world.api(Method::PUT, "/api/sandbox/echo?a=%2f", "body").await.json();
    assert_eq!((&echo["method"], &echo["target"]), (&json!("PUT"), &json!("/api/sandbox/echo?a=%2f")));
    assert_eq!(echo["body_length"], 4);
    assert_eq!(echo["body_sha256"], "230d8358dc8e8890b4c58deeb62912ee2f20357ae92a5cc861b98e68fe31acb5");
    let seen = world.control(Method::GET, "/requests", "").await;
    assert!(!seen.text().contains("oauth2v2_") && !echo.to_string().contains("oauth2v2_"));
    assert_eq!(seen.json()["requests"][0]["target"], "/api/sandbox/echo?a=%2f");
    let received = &world.sandbox.requests()[0];
    assert_eq!((received.header("authorization"), received.header(JSON.0)), (Some("present"), Some(JSON.1)));
    assert!(!format!("{received:?}").contains("oauth2v2_"));
}

#[tokio::test]
async fn long_answers_and_events_are_streamed() {
    let world = World::start(Config::default()).await;
    let bytes = world.api(Method::GET, "/api/sandbox/bytes?n=1000003", "").await;
    assert_eq!((bytes.body.len(), bytes.headers.get("content-length")), (1_000_003, None));
    assert_eq!(world.api(Method::GET, "/api/sandbox/bytes", "").await.status, StatusCode::BAD_REQUEST);
    let mut events = world.open("/api/sandbox/stream").await;
    assert_eq!(events.next().await.unwrap(), "data: first\n\n");
    world.control(Method::POST, "/release", "").await;
    assert_eq!(events.next().await.unwrap(), "data: second\n\n");
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn shutting_down_releases_held_answers() {
    let world = World::start(Config::default()).await;
    let stop = async {
        world.sandbox.held(1).await;
        world.shutdown.cancel();
    };
    let mut events = world.open("/api/sandbox/stream").await;
    assert_eq!(events.next().await.unwrap(), "data: first\n\n");
    world.sandbox.fault(Target::Api, Fault::Slow { millis: None }, Times::Always);
    let (answer, ()) = tokio::join!(world.api(Method::GET, INFO, ""), stop);
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(events.next().await.unwrap(), "data: second\n\n");
    world.stopped().await;
}
