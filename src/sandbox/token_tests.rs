//! What the token and revocation endpoints answer.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::sandbox::{Client, Config, REVOKE_PATH, Sandbox, TOKEN_PATH, Times};

const CLIENT: &str = "0123456789abcdef0123456789abcdef";
const FREELANCER: &str = "1181921839933591552";
const CALLBACK: &str = "http://localhost:3000/callback";
const FORM: &str = "application/x-www-form-urlencoded";

fn named() -> (Sandbox, Arc<ManualClock>) {
    let clock = ManualClock::at(Timestamp::from_seconds(1_795_485_600));
    let client = Client { id: CLIENT.to_owned(), secret: Secret::new("s3cr&t"), redirect_uri: CALLBACK.to_owned() };
    let config = Config { clients: vec![client], ..Config::default() };
    (Sandbox::new(config, clock.clone()), clock)
}

async fn send(sandbox: &Sandbox, path: &str, basic: Option<&str>, fields: &[(&str, &str)]) -> (StatusCode, Value) {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let mut request = Request::post(path).header("content-type", FORM);
    if let Some(basic) = basic {
        request = request.header("authorization", format!("Basic {}", STANDARD.encode(basic)));
    }
    let answer = sandbox.handle(request.body(Body::full(form)).unwrap(), ([127, 0, 0, 1], 9).into()).await;
    let status = answer.status();
    if path == TOKEN_PATH && status == StatusCode::OK {
        assert_eq!(answer.headers()["cache-control"], "no-store");
    }
    let body = answer.into_body().collect(100_000).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn refresh(sandbox: &Sandbox, token: &str) -> (StatusCode, Value) {
    let fields = [
        ("grant_type", "refresh_token"),
        ("refresh_token", token),
        ("client_id", CLIENT),
        ("client_secret", "s3cr&t"),
        ("json", "{}"),
    ];
    send(sandbox, TOKEN_PATH, None, &fields).await
}

async fn code(sandbox: &Sandbox) -> String {
    let target = format!("{}?response_type=code&client_id={CLIENT}", crate::sandbox::AUTHORIZE_PATH);
    let request = Request::post(target).header("content-type", FORM);
    let body = Body::full(format!("account={FREELANCER}&decision=accept"));
    let answer = sandbox.handle(request.body(body).unwrap(), ([127, 0, 0, 1], 9).into()).await;
    answer.headers()["location"].to_str().unwrap().split_once("code=").unwrap().1.to_owned()
}

fn is_live(sandbox: &Sandbox, token: &Value) -> bool {
    sandbox.0.lock().grants.holder(token.as_str().unwrap(), sandbox.0.clock.now()).is_some()
}

#[tokio::test]
async fn a_code_is_exchanged_with_the_credentials_in_the_body_or_in_basic() {
    let (sandbox, _) = named();
    let shown = code(&sandbox).await;
    let grant = [("grant_type", "authorization_code"), ("code", shown.as_str()), ("redirect_uri", CALLBACK)];
    let body = [&grant[..], &[("client_id", CLIENT), ("client_secret", "s3cr&t")]].concat();
    let (status, tokens) = send(&sandbox, TOKEN_PATH, None, &body).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(86400)));
    assert!(tokens["refresh_token"].as_str().unwrap().starts_with("oauth2v2_"));
    assert!(is_live(&sandbox, &tokens["access_token"]));
    let (status, answer) = send(&sandbox, TOKEN_PATH, None, &body).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert!(!is_live(&sandbox, &tokens["access_token"]), "a replayed code ends what it gave");
    let shown = code(&sandbox).await;
    let grant = [("grant_type", "authorization_code"), ("code", shown.as_str()), ("redirect_uri", CALLBACK)];
    let (status, _) = send(&sandbox, TOKEN_PATH, Some(&format!("{CLIENT}:s3cr%26t")), &grant).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(sandbox.counters().token.authorization_code, 3);
}

#[tokio::test]
async fn basic_alone_is_not_enough_for_a_refresh() {
    let (sandbox, _) = named();
    let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
    let fields = [("grant_type", "refresh_token"), ("refresh_token", granted.refresh_token.expose())];
    let answer = send(&sandbox, TOKEN_PATH, Some(&format!("{CLIENT}:s3cr%26t")), &fields).await;
    let expected = json!({"error": "invalid_request", "error_description": "Missing parameters: client_id"});
    assert_eq!(answer, (StatusCode::BAD_REQUEST, expected));
    let (status, tokens) = refresh(&sandbox, granted.refresh_token.expose()).await;
    assert_eq!(status, StatusCode::OK);
    assert_ne!(tokens["refresh_token"], granted.refresh_token.expose());
}

#[tokio::test]
async fn a_dead_refresh_token_is_answered_in_upworks_words() {
    let (sandbox, clock) = named();
    let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
    clock.advance(Duration::from_hours(14 * 24));
    let text = "Refresh token is expired or revoked or not registered";
    let expected = (StatusCode::BAD_REQUEST, json!({"error": "invalid_grant", "error_description": text}));
    assert_eq!(refresh(&sandbox, granted.refresh_token.expose()).await, expected);
    assert_eq!(refresh(&sandbox, "oauth2v2_never").await, expected);
}

#[tokio::test]
async fn a_service_token_has_no_refresh_token() {
    let (sandbox, _) = named();
    let fields = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    let (status, tokens) = send(&sandbox, TOKEN_PATH, None, &fields).await;
    assert_eq!((status, tokens.as_object().unwrap().len()), (StatusCode::OK, 3));
    assert!(is_live(&sandbox, &tokens["access_token"]));
}

#[tokio::test]
async fn wrong_requests_are_told_what_is_wrong() {
    let (sandbox, _) = named();
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
        let (found, answer) = send(&sandbox, TOKEN_PATH, None, &fields).await;
        assert_eq!((found.as_u16(), &answer["error"]), (status, &json!(error)), "{fields:?}");
        assert!(answer["error_description"].as_str().unwrap().contains(text), "{answer}");
    }
    let request = Request::get(TOKEN_PATH).body(Body::empty()).unwrap();
    let answer = sandbox.handle(request, ([127, 0, 0, 1], 9).into()).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn revocation_says_yes_to_a_known_client_and_ends_the_family() {
    let (sandbox, _) = named();
    let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
    let token = granted.refresh_token.expose();
    let (status, _) =
        send(&sandbox, REVOKE_PATH, None, &[("token", token), ("client_id", CLIENT), ("client_secret", "x")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(is_live(&sandbox, &json!(granted.access_token.expose())));
    for token in [token, "oauth2v2_never"] {
        let fields = [("token", token), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
        assert_eq!(send(&sandbox, REVOKE_PATH, None, &fields).await.0, StatusCode::OK);
    }
    assert!(!is_live(&sandbox, &json!(granted.access_token.expose())));
    assert_eq!(sandbox.counters().revoke, 3);
}

#[tokio::test]
async fn the_token_faults_strike_the_grants_they_are_for() {
    let (sandbox, _) = named();
    let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
    sandbox.faults(&json!({"token": ["dead_refresh_token", "no_refresh_token", "invalid_grant"]})).unwrap();
    let service = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    assert_eq!(send(&sandbox, TOKEN_PATH, None, &service).await.0, StatusCode::OK, "not for this grant");
    let (status, answer) = refresh(&sandbox, granted.refresh_token.expose()).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    assert!(!is_live(&sandbox, &json!(granted.access_token.expose())), "the family is dead");
    let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
    let (status, tokens) = refresh(&sandbox, granted.refresh_token.expose()).await;
    assert_eq!((status, tokens.get("refresh_token")), (StatusCode::OK, None));
    assert_eq!(refresh(&sandbox, granted.refresh_token.expose()).await.0, StatusCode::BAD_REQUEST);
    assert_eq!(refresh(&sandbox, granted.refresh_token.expose()).await.0, StatusCode::OK, "the grant itself lives");
}

#[tokio::test]
async fn a_broken_answer_has_nothing_readable_in_it() {
    let (sandbox, _) = named();
    let service = [("grant_type", "client_credentials"), ("client_id", CLIENT), ("client_secret", "s3cr&t")];
    for (fault, status) in [
        (Fault::InternalError, 500),
        (Fault::BadGateway, 502),
        (Fault::Unavailable, 503),
        (Fault::Html, 403),
        (Fault::Garbage, 200),
        (Fault::TooMany { retry_after: None }, 429),
    ] {
        sandbox.fault(Target::Token, fault, Times::Only(1));
        let (found, answer) = send(&sandbox, TOKEN_PATH, None, &service).await;
        assert_eq!((found.as_u16(), answer), (status, Value::Null), "{fault:?}");
    }
}
