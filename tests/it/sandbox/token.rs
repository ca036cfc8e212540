//! What the token and revocation endpoints answer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use upwarden::sandbox::{AUTHORIZE_PATH, Client, Config, Fault, REVOKE_PATH, TOKEN_PATH, Target, Times};
use upwarden::testing::secret::Secret;

use super::client::{CALLBACK, CLIENT, FORM, FREELANCER, World, form};

async fn named() -> World {
    let client = Client { id: CLIENT.to_owned(), secret: Secret::new("s3cr&t"), redirect_uri: CALLBACK.to_owned() };
    World::start(Config { clients: vec![client], ..Config::default() }).await
}

async fn send(world: &World, path: &str, basic: Option<&str>, fields: &[(&str, &str)]) -> (StatusCode, Value) {
    let basic = basic.map(|basic| format!("Basic {}", STANDARD.encode(basic)));
    let mut headers = vec![FORM];
    headers.extend(basic.as_deref().map(|basic| ("authorization", basic)));
    let answer = world.upwork(Method::POST, path, &headers, &form(fields)).await;
    if path == TOKEN_PATH && answer.status == StatusCode::OK {
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
}

async fn refresh(world: &World, token: &str) -> (StatusCode, Value) {
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", CLIENT),
        ("client_secret", "s3cr&t"),
        ("json", "{}"),
    ];
    send(world, TOKEN_PATH, None, &fields).await
}

async fn code(world: &World) -> String {
    let target = format!("{AUTHORIZE_PATH}?response_type=code&client_id={CLIENT}");
    let answer = world.upwork(Method::POST, &target, &[FORM], &format!("account={FREELANCER}&decision=accept")).await;
    answer.headers["location"].to_str().unwrap().split_once("code=").unwrap().1.to_owned()
}

async fn is_live(world: &World, token: &Value) -> bool {
    let bearer = format!("Bearer {}", token.as_str().unwrap());
    world.upwork(Method::GET, super::INFO, &[("authorization", &bearer)], "").await.status == StatusCode::OK
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_credentials_in_the_body_or_in_basic() {
    let world = named().await;
    let shown = code(&world).await;
    let grant = [("grant_type", "authorization_code"), ("code", shown.as_str()), ("redirect_uri", CALLBACK)];
    let body = [&grant[..], &[("client_id", CLIENT), ("client_secret", "s3cr&t")]].concat();
    let (status, tokens) = send(&world, TOKEN_PATH, None, &body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(86400)));
    assert!(tokens["refresh_token"].as_str().unwrap().starts_with("oauth2v2_"));
    assert!(is_live(&world, &tokens["access_token"]).await);
    let (status, answer) = send(&world, TOKEN_PATH, None, &body).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert!(!is_live(&world, &tokens["access_token"]).await, "a replayed code ends the tokens it gave");
    assert_eq!(refresh(&world, tokens["refresh_token"].as_str().unwrap()).await.1["error"], "invalid_grant");
    let shown = code(&world).await;
    let grant = [("grant_type", "authorization_code"), ("code", shown.as_str()), ("redirect_uri", CALLBACK)];
    let (status, _) = send(&world, TOKEN_PATH, Some(&format!("{CLIENT}:s3cr%26t")), &grant).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(world.sandbox.counters().token.authorization_code, 3);
}

#[tokio::test]
async fn basic_alone_is_not_enough_for_a_refresh() {
    let world = named().await;
    let granted = world.sandbox.grant(FREELANCER, CLIENT).unwrap();
    let fields = [("grant_type", "refresh_token"), ("refresh_token", granted.refresh_token.expose())];
    let answer = send(&world, TOKEN_PATH, Some(&format!("{CLIENT}:s3cr%26t")), &fields).await;
    let expected = json!({"error": "invalid_request", "error_description": "Missing parameters: client_id"});
    assert_eq!(answer, (StatusCode::BAD_REQUEST, expected));
    let (status, tokens) = refresh(&world, granted.refresh_token.expose()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(tokens["refresh_token"], granted.refresh_token.expose());
}

#[tokio::test]
async fn a_dead_refresh_token_is_answered_in_upworks_words() {
    let world = named().await;
    let granted = world.sandbox.grant(FREELANCER, CLIENT).unwrap();
    world.clock.advance(Duration::from_hours(14 * 24));
    let text = "Refresh token is expired or revoked or not registered";
    let expected = (StatusCode::BAD_REQUEST, json!({"error": "invalid_grant", "error_description": text}));
    assert_eq!(refresh(&world, granted.refresh_token.expose()).await, expected);
    assert_eq!(refresh(&world, "oauth2v2_never").await, expected);
}

#[tokio::test]
async fn a_service_token_has_no_refresh_token() {
    let world = named().await;
    let fields = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    let (status, tokens) = send(&world, TOKEN_PATH, None, &fields).await;
    assert_eq!((status, tokens.as_object().unwrap().len()), (StatusCode::OK, 3));
    assert!(is_live(&world, &tokens["access_token"]).await);
}

#[tokio::test]
async fn wrong_requests_are_answered_with_what_is_wrong() {
    let world = named().await;
    let credentials = [("client_id", CLIENT), ("client_secret", "s3cr&t")];
    let bad_secret = ("client_secret", "x");
    let grant = |name| ("grant_type", name);
    let [id, secret] = credentials;
    let cases = [
        (vec![], 400, "invalid_request", "Missing parameters: grant_type"),
        (vec![grant("password"), id, secret], 400, "unsupported_grant_type", "The grant"),
        (vec![grant("refresh_token"), id], 400, "invalid_request", "client_secret, refresh_token"),
        (vec![grant("authorization_code"), id, secret], 400, "invalid_request", "code, redirect_uri"),
        (vec![grant("client_credentials"), id, bad_secret], 401, "invalid_client", "Client"),
        (vec![grant("client_credentials"), ("client_id", "x"), secret], 401, "invalid_client", "Client"),
    ];
    for (fields, status, error, text) in cases {
        let (found, answer) = send(&world, TOKEN_PATH, None, &fields).await;
        assert_eq!((found.as_u16(), &answer["error"]), (status, &json!(error)), "{fields:?}");
        assert!(answer["error_description"].as_str().unwrap().contains(text), "{answer}");
    }
    let answer = world.upwork(Method::GET, TOKEN_PATH, &[], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_known_client_may_revoke_and_the_family_ends() {
    let world = named().await;
    let granted = world.sandbox.grant(FREELANCER, CLIENT).unwrap();
    let token = granted.refresh_token.expose();
    let (status, _) =
        send(&world, REVOKE_PATH, None, &[("token", token), ("client_id", CLIENT), ("client_secret", "x")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(is_live(&world, &json!(granted.access_token.expose())).await);
    for token in [token, "oauth2v2_never"] {
        let fields = [("token", token), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
        assert_eq!(send(&world, REVOKE_PATH, None, &fields).await.0, StatusCode::OK);
    }
    assert!(!is_live(&world, &json!(granted.access_token.expose())).await);
    assert_eq!(world.sandbox.counters().revoke, 3);
}

#[tokio::test]
async fn the_token_faults_apply_to_their_grants() {
    let world = named().await;
    let granted = world.sandbox.grant(FREELANCER, CLIENT).unwrap();
    world.sandbox.faults(&json!({"token": ["dead_refresh_token", "no_refresh_token", "invalid_grant"]})).unwrap();
    let service = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    assert_eq!(send(&world, TOKEN_PATH, None, &service).await.0, StatusCode::OK, "not for this grant");
    let (status, answer) = refresh(&world, granted.refresh_token.expose()).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert!(!is_live(&world, &json!(granted.access_token.expose())).await, "the family has ended");
    let granted = world.sandbox.grant(FREELANCER, CLIENT).unwrap();
    let (status, tokens) = refresh(&world, granted.refresh_token.expose()).await;
    assert_eq!((status, tokens.get("refresh_token")), (StatusCode::OK, None));
    assert_eq!(refresh(&world, granted.refresh_token.expose()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(refresh(&world, granted.refresh_token.expose()).await.0, StatusCode::OK, "the grant itself lives");
}

#[tokio::test]
async fn a_broken_answer_has_nothing_readable_in_it() {
    let world = named().await;
    let service = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    for (fault, status) in [
        (Fault::InternalError, 500),
        (Fault::BadGateway, 502),
        (Fault::Unavailable, 503),
        (Fault::Html, 403),
        (Fault::Garbage, 200),
        (Fault::TooMany { retry_after: None }, 429),
    ] {
        world.sandbox.fault(Target::Token, fault, Times::Only(1));
        let (found, answer) = send(&world, TOKEN_PATH, None, &service).await;
        assert_eq!((found.as_u16(), answer), (status, Value::Null), "{fault:?}");
    }
}
