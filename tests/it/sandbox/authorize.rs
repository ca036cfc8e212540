//! What browsers are shown at the authorize page, and where they are sent.

use http::{Method, StatusCode};
use upwarden::sandbox::{AUTHORIZE_PATH, Client, Config, Fault, Target, Times};

use super::client::{Answer, CLIENT, FORM, FREELANCER, World};

const CALLBACK: &str = "http%3A%2F%2Flocalhost%3A3000%2Fcallback";
const LOGOUT_PATH: &str = "/ab/account-security/logout";

fn target(response_type: &str, more: &str) -> String {
    format!(
        "{AUTHORIZE_PATH}?response_type={response_type}&client_id={CLIENT}&redirect_uri={CALLBACK}&state=a%26b{more}"
    )
}

async fn get(world: &World, target: &str) -> Answer {
    world.upwork(Method::GET, target, &[], "").await
}

async fn post(world: &World, target: &str, form: &str) -> Answer {
    world.upwork(Method::POST, target, &[FORM], form).await
}

fn location(answer: &Answer) -> &str {
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    answer.headers["location"].to_str().unwrap()
}

#[tokio::test]
async fn the_consent_page_names_the_key_and_offers_the_accounts() {
    let world = World::start(Config::default()).await;
    let consent = get(&world, &target("code", "&code_challenge=abc&code_challenge_method=S256&x=%22%3E%3Cb%3E")).await;
    assert_eq!(consent.status, StatusCode::OK);
    let page = consent.text();
    assert!(page.contains("<title>Upwork sandbox – not the real Upwork</title>"));
    for part in [
        CLIENT,
        "value=\"1181921839933591552\" checked",
        "name=\"decision\" value=\"accept\"",
        "name=\"decision\" value=\"decline\"",
        "name=\"code_challenge\" value=\"abc\"",
        "name=\"code_challenge_method\" value=\"S256\"",
        "name=\"state\" value=\"a&amp;b\"",
        "name=\"redirect_uri\" value=\"http://localhost:3000/callback\"",
        "&amp;x=%22%3E%3Cb%3E\">",
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(!page.contains("<script") && !page.contains("\"><b>"));
    let policy = consent.headers["content-security-policy"].to_str().unwrap();
    assert!(!policy.contains("form-action"), "it would block the redirect to the client");
    assert!(page.contains("/ab/account-security/sandbox.css"));
    assert_eq!(get(&world, "/ab/account-security/sandbox.css").await.status, StatusCode::OK);
}

#[tokio::test]
async fn accepting_goes_back_with_a_code_and_is_remembered_until_revoked() {
    let world = World::start(Config::default()).await;
    let accepted = post(&world, &target("code", ""), &format!("account={FREELANCER}&decision=accept")).await;
    let code = location(&accepted).strip_prefix("http://localhost:3000/callback?code=").unwrap();
    let (code, state) = code.split_once('&').unwrap();
    assert!(code.len() == 32 && code.bytes().all(|byte| byte.is_ascii_hexdigit()) && state == "state=a%26b");
    let cookie = accepted.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let cookies = format!("a=b; {cookie}");
    let target = target("code", "");
    let cookies = [("cookie", cookies.as_str())];
    let again = || world.upwork(Method::GET, &target, &cookies, "");
    assert!(location(&again().await).contains("?code="), "straight back");
    assert_eq!(get(&world, &target).await.status, StatusCode::OK, "another browser is asked");
    world.sandbox.revoke_all();
    let asked = again().await;
    assert_eq!(asked.status, StatusCode::OK, "asked again");
    assert!(asked.text().contains("You are signed in as <strong>Foo Bar</strong>"));
    let out = world.upwork(Method::GET, LOGOUT_PATH, &[("cookie", &cookie)], "").await;
    assert!(out.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    assert!(!again().await.text().contains("You are signed in as"));
    assert_eq!(world.sandbox.counters().authorize, 4);
}

#[tokio::test]
async fn the_form_alone_is_enough() {
    let world = World::start(Config::default()).await;
    let form = format!(
        "response_type=code&client_id={CLIENT}&redirect_uri={CALLBACK}&state=x&account=quxclient&decision=accept"
    );
    let answer = post(&world, AUTHORIZE_PATH, &form).await;
    assert!(location(&answer).ends_with("&state=x"));
}

#[tokio::test]
async fn the_implicit_grant_answers_in_the_fragment_token_first() {
    let world = World::start(Config::default()).await;
    let answer = post(&world, &target("token", ""), &format!("account={FREELANCER}&decision=accept")).await;
    let back = location(&answer);
    let token = back.strip_prefix("http://localhost:3000/callback#access_token=oauth2v2_").unwrap();
    assert_eq!(&token[32..], "&expires_in=86399&state=a%26b");
}

#[tokio::test]
async fn declining_goes_back_with_access_denied() {
    let world = World::start(Config::default()).await;
    let answer = post(&world, &target("code", ""), "decision=decline").await;
    assert_eq!(location(&answer), "http://localhost:3000/callback?error=access_denied&state=a%26b");
    assert!(answer.headers.get("set-cookie").is_none());
    let answer = post(&world, &target("token", ""), "decision=decline").await;
    assert_eq!(location(&answer), "http://localhost:3000/callback#error=access_denied&state=a%26b");
    world.sandbox.fault(Target::Authorize, Fault::Decline, Times::Only(1));
    let answer = get(&world, &target("code", "")).await;
    assert!(location(&answer).contains("error=access_denied"));
}

#[tokio::test]
async fn a_wrong_client_or_redirect_is_a_page_and_never_a_redirect() {
    let open = World::start(Config::default()).await;
    let clients = vec![Client::parse("key:s3cr3t:https://app.example/cb?x=1").unwrap()];
    let named = World::start(Config { clients, ..Config::default() }).await;
    let cases = [
        (&open, format!("response_type=code&redirect_uri={CALLBACK}")),
        (&open, format!("response_type=code&client_id=short&redirect_uri={CALLBACK}")),
        (&open, format!("response_type=code&client_id={CLIENT}")),
        (&open, format!("response_type=code&client_id={CLIENT}&redirect_uri=https%3A%2F%2Fevil.example%2F")),
        (&open, format!("response_type=code&client_id={CLIENT}&redirect_uri=http%3A%2F%2Flocalhost.evil.example%2F")),
        (&open, format!("response_type=code&client_id={CLIENT}&redirect_uri=javascript%3Aalert(1)")),
        (&open, format!("response_type=code&client_id={CLIENT}&client_id={CLIENT}&redirect_uri={CALLBACK}")),
        (&named, format!("response_type=code&client_id={CLIENT}&redirect_uri={CALLBACK}")),
        (&named, format!("response_type=code&client_id=key&redirect_uri={CALLBACK}")),
        (&named, "response_type=code&client_id=key&redirect_uri=https%3A%2F%2Fapp.example%2Fcb".to_owned()),
    ];
    for (world, query) in cases {
        let refused = get(world, &format!("{AUTHORIZE_PATH}?{query}")).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(refused.headers.get("location").is_none(), "{query}");
        assert!(refused.text().contains("The sandbox cannot continue"), "{query}");
    }
    let declined =
        post(&named, &format!("{AUTHORIZE_PATH}?response_type=code&client_id=key"), "decision=decline").await;
    assert_eq!(location(&declined), "https://app.example/cb?x=1&error=access_denied");
}

#[tokio::test]
async fn other_errors_are_reported_to_the_client() {
    let world = World::start(Config::default()).await;
    for (query, error) in [
        (target("device", ""), "unsupported_response_type"),
        (target("", ""), "invalid_request"),
        (target("code", "&code_challenge=abc&code_challenge_method=S512"), "invalid_request"),
    ] {
        let answer = get(&world, &query).await;
        assert_eq!(location(&answer), format!("http://localhost:3000/callback?error={error}&state=a%26b"));
    }
}

#[tokio::test]
async fn a_form_without_a_choice_is_refused() {
    let world = World::start(Config::default()).await;
    for form in ["", "decision=maybe", "decision=accept", "decision=accept&account=nobody"] {
        let answer = post(&world, &target("code", ""), form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{form}");
    }
    let answer = world.upwork(Method::POST, &target("code", ""), &[], "decision=accept").await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let answer = world.upwork(Method::DELETE, &target("code", ""), &[], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}
