//! `app.assertion`: the signed user, verified by libraries in three languages.

mod user;
mod verifiers;

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::{Value, json};
use upwarden::testing::clock::{Clock, SystemClock};

use crate::harness::{CLIENT, Client, FREELANCER, Plan, World, until};
use crate::sessions::stores::serve;
use verifiers::{Expected, Verifier, documented, installed};

const JWKS: &str = "/.well-known/upwarden/jwks.json";
const HEADER: &str = "x-upwork-assertion";
const OLD: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
const NEW: &str = "HxscGxoZGBcWFRQTEhEQDw4NDAsKCQgHBgUEAwIBAAA";

fn plan() -> Plan {
    World::new().set("app.assertion", "my-app")
}

/// The assertion that the app gets with a request of this client.
async fn asserted(world: &World, client: &Client) -> String {
    assert_eq!(client.get("/x").await.status, 200);
    world.app.last().header(HEADER).to_owned()
}

/// The header or the claims, unverified.
fn part(token: &str, place: usize) -> Value {
    let text = token.split('.').nth(place).unwrap_or_else(|| panic!("no JWT: {token:?}"));
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

/// The token with another part.
fn with(token: &str, place: usize, value: &str) -> String {
    let mut parts: Vec<_> = token.split('.').collect();
    parts[place] = value;
    parts.join(".")
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[tokio::test]
async fn the_app_gets_an_assertion_wherever_it_gets_a_user() {
    let routes = json!([{ "path": "/open", "public": true }, { "path": "/slow", "timeouts": { "idle": "5m" } }]);
    let world = plan().set("routes", routes).start();
    let forged = [(HEADER, "evil"), ("X_Upwork_Assertion", "evil"), ("x.upwork.assertion", "evil")];
    assert_eq!(world.client().get("/open").headers(&forged).await.status, 200);
    let seen = world.app.last();
    assert!(!seen.headers.contains_key(HEADER) && seen.headers.values().all(|value| value != "evil"), "{seen:?}");

    let client = world.sign_in(CLIENT).await;
    let token = asserted(&world, &client).await;
    let now = world.clock.now().seconds();
    let claims = json!({
        "iss": world.url(""), "aud": "my-app", "sub": CLIENT, "nid": "quxclient", "name": "Zoë Żółw",
        "org": "1383143061155813775", "iat": now, "exp": now + 60,
    });
    assert_eq!(part(&token, 1), claims);
    let keys = world.client().get(JWKS).await.json();
    let head = json!({ "alg": "ES256", "typ": "JWT", "kid": keys["keys"][0]["kid"] });
    assert_eq!(part(&token, 0), head);
    for (target, upgrade) in [("/open", ""), ("/slow", ""), ("/socket", "websocket")] {
        let fields = [("connection", "upgrade"), ("upgrade", upgrade)];
        let fields = if upgrade.is_empty() { &fields[..0] } else { &fields[..] };
        client.get(target).headers(fields).headers(&forged).await;
        let seen = world.app.last();
        assert_eq!(seen.headers.get_all(HEADER).iter().collect::<Vec<_>>(), [&token], "{target}");
        assert_eq!(seen.header("upgrade"), upgrade);
    }
    assert_eq!(client.get("/upwork/auth/verify").await.header(HEADER), token);
    world.turn(Duration::from_secs(31));
    assert_ne!(asserted(&world, &client).await, token);
}

#[tokio::test]
async fn with_a_store_an_assertion_is_signed_once_in_half_a_minute_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.redb");
    let world = plan().set("store.kind", "embedded").set("store.path", path.display()).start();
    let client = world.sign_in(FREELANCER).await;
    let token = asserted(&world, &client).await;
    assert_eq!((part(&token, 1)["sub"].as_str(), asserted(&world, &client).await), (Some(FREELANCER), token));
}

#[tokio::test]
async fn the_public_keys_are_public() {
    let world = plan().start();
    let answer = world.client().get(JWKS).await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    assert!(answer.set_cookies().is_empty());
    let keys = answer.json();
    let key = &keys["keys"][0];
    assert_eq!((keys["keys"].as_array().unwrap().len(), &key["d"]), (1, &Value::Null));
    let said = ["kty", "crv", "use", "alg"].map(|name| key[name].as_str().unwrap_or_default());
    assert_eq!(said, ["EC", "P-256", "sig", "ES256"]);
    assert_eq!(world.client().call(Method::HEAD, JWKS).await.status, 200);
    assert_eq!(world.client().post(JWKS, "").await.status, 405);
    assert_eq!(world.neighbour().get(JWKS).await.problem(), "not-found");
    assert!(world.app.seen().is_empty());
}

#[tokio::test]
async fn without_the_setting_there_are_neither_assertions_nor_keys() {
    let world = World::new().start();
    assert_eq!(world.client().get(JWKS).await.status, 401, "the path is the app's");
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get(JWKS).header(HEADER, "evil").await.text(), format!("GET {JWKS}\n"));
    assert!(!world.app.last().headers.contains_key(HEADER));
}

/// Each library's outcomes for these assertions, with the keys at `at`: its name, and claims or the reason of a refusal for each.
async fn outcomes(
    all: &[Verifier],
    at: &str,
    who: (&str, &str),
    assertions: &[&str],
) -> Vec<(&'static str, Vec<Value>)> {
    let (issuer, audience) = (who.0.to_owned(), who.1.to_owned());
    let expected = Expected { keys: format!("{at}{JWKS}"), issuer, audience };
    let mut found = Vec::new();
    for verifier in all {
        let outcomes = verifier.verify(&expected, assertions).await;
        assert_eq!(outcomes.len(), assertions.len(), "{outcomes:?}");
        found.push((verifier.name, outcomes));
    }
    found
}

#[test]
fn the_rust_of_the_documentation_is_what_is_tested() {
    let (_, tested) = include_str!("user.rs").split_once("pub(super) ").unwrap();
    assert_eq!(documented("rust"), tested.trim_end());
}

/// The real binary signs; its keys are fetched from it.
#[tokio::test]
async fn libraries_of_three_languages_verify_what_the_binary_signs() {
    let all = installed();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, OLD).unwrap();
    let world = plan().start();
    // The libraries go by the system's clock, and so does the binary.
    world.clock.set(SystemClock.now());
    let client = world.sign_in(FREELANCER).await;
    let keys = [("session.keys", ""), ("session.key_files", &path.display().to_string())];
    let (binary, address) = serve(&world, &keys).await;
    let client = client.through(address);
    let (at, issuer) = (format!("http://{address}"), world.url(""));

    let by_old = asserted(&world, &client).await;
    let claims = part(&by_old, 1);
    let mut other_user = claims.clone();
    other_user["sub"] = CLIENT.into();
    let mut unsigned = part(&by_old, 0);
    unsigned["alg"] = "none".into();
    let flipped = if by_old.ends_with('A') { "B" } else { "A" };
    let signature = format!("{flipped}{}", &by_old.split('.').nth(2).unwrap()[1..]);
    let signature = if by_old.ends_with(&signature) { signature.replacen(flipped, "C", 1) } else { signature };
    let tampered = [
        with(&by_old, 1, &encoded(&other_user)),
        with(&by_old, 2, &signature),
        with(&by_old, 2, ""),
        with(&with(&by_old, 0, &encoded(&unsigned)), 2, ""),
    ];
    let tokens: Vec<&str> = [&by_old].into_iter().chain(&tampered).map(String::as_str).collect();
    for (name, outcomes) in outcomes(&all, &at, (&issuer, "my-app"), &tokens).await {
        assert_eq!(outcomes[0], claims, "{name}");
        assert!(outcomes[1..].iter().all(Value::is_string), "{name} accepts a tampered one: {outcomes:?}");
    }
    for (iss, aud, reason) in [(issuer.as_str(), "other-app", "aud"), ("https://other.example", "my-app", "iss")] {
        for (name, outcomes) in outcomes(&all, &at, (iss, aud), &[&by_old]).await {
            let said = outcomes[0].as_str().unwrap_or_default().to_lowercase();
            assert!(said.contains(reason), "{name} accepts another {reason}: {outcomes:?}");
        }
    }

    // Both keys verify while the ring has both; a removed one does not.
    std::fs::write(&path, format!("{NEW}\n{OLD}\n")).unwrap();
    binary.signal("HUP");
    let new = async || Some(asserted(&world, &client).await).filter(|token| part(token, 0) != part(&by_old, 0));
    let by_new = until("an assertion by the new key", new).await;
    for (name, outcomes) in outcomes(&all, &at, (&issuer, "my-app"), &[&by_old, &by_new]).await {
        assert!(outcomes.iter().all(|outcome| outcome["sub"] == FREELANCER), "{name}: {outcomes:?}");
    }
    std::fs::write(&path, NEW).unwrap();
    binary.signal("HUP");
    let count = async || client.get(JWKS).await.json()["keys"].as_array().map(Vec::len);
    until("the old key's end", async || count().await.filter(|count| *count == 1)).await;
    for (name, outcomes) in outcomes(&all, &at, (&issuer, "my-app"), &[&by_old, &by_new]).await {
        let said = outcomes[0].as_str().unwrap_or_default().to_lowercase();
        assert!(said.contains("key"), "{name} accepts a removed key: {outcomes:?}");
        assert_eq!(outcomes[1]["sub"], FREELANCER, "{name}");
    }
}

#[tokio::test]
async fn an_expired_assertion_is_refused() {
    let world = plan().start();
    let minutes = Duration::from_secs(120);
    world.clock.set(SystemClock.now().minus(minutes));
    let client = world.sign_in(FREELANCER).await;
    let expired = asserted(&world, &client).await;
    world.turn(minutes);
    let fresh = asserted(&world, &client).await;
    let url = world.url("");
    for (name, outcomes) in outcomes(&installed(), &url, (&url, "my-app"), &[&expired, &fresh]).await {
        let said = outcomes[0].as_str().unwrap_or_default().to_lowercase();
        assert!(said.contains("expired") || said.contains("exp"), "{name}: {outcomes:?}");
        assert_eq!(outcomes[1]["sub"], FREELANCER, "{name}");
    }
}
