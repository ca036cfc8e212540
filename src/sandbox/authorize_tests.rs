//! What browsers are shown and where they are sent.

use super::*;
use crate::clock::{ManualClock, Timestamp};
use crate::sandbox::{Client, Config, Sandbox, Times};

const CLIENT: &str = "0123456789abcdef0123456789abcdef";
const FREELANCER: &str = "1181921839933591552";
const CALLBACK: &str = "http%3A%2F%2Flocalhost%3A3000%2Fcallback";

fn sandbox(clients: Vec<Client>) -> Sandbox {
    let config = Config { clients, ..Config::default() };
    Sandbox::new(config, ManualClock::at(Timestamp::from_seconds(1_795_485_600)))
}

async fn send(sandbox: &Sandbox, request: http::request::Builder, body: &str) -> (http::response::Parts, String) {
    let request = request.body(Body::full(body.to_owned())).unwrap();
    let (parts, body) = sandbox.handle(request, ([127, 0, 0, 1], 9).into()).await.into_parts();
    (parts, String::from_utf8(body.collect(100_000).await.unwrap().to_vec()).unwrap())
}

fn target(kind: &str, more: &str) -> String {
    format!("{AUTHORIZE_PATH}?response_type={kind}&client_id={CLIENT}&redirect_uri={CALLBACK}&state=a%26b{more}")
}

async fn get(sandbox: &Sandbox, target: &str) -> (http::response::Parts, String) {
    send(sandbox, Request::get(target), "").await
}

async fn post(sandbox: &Sandbox, target: &str, form: &str) -> (http::response::Parts, String) {
    send(sandbox, Request::post(target).header("content-type", "application/x-www-form-urlencoded"), form).await
}

fn location(parts: &http::response::Parts) -> &str {
    assert_eq!(parts.status, StatusCode::SEE_OTHER);
    parts.headers["location"].to_str().unwrap()
}

#[tokio::test]
async fn the_consent_page_names_the_key_and_offers_the_accounts() {
    let sandbox = sandbox(Vec::new());
    let (parts, page) =
        get(&sandbox, &target("code", "&code_challenge=abc&code_challenge_method=S256&x=%22%3E%3Cb%3E")).await;
    assert_eq!(parts.status, StatusCode::OK);
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
    let policy = parts.headers["content-security-policy"].to_str().unwrap();
    assert!(!policy.contains("form-action"), "it would block the way back");
    let (parts, _) = get(&sandbox, STYLE_PATH).await;
    assert_eq!(parts.status, StatusCode::OK);
}

#[test]
fn text_cannot_leave_its_attribute() {
    assert_eq!(escaped("\"><b>&'/"), "&quot;&gt;&lt;b&gt;&amp;&#39;/");
    let page = render("message.html", context! { style => "s", title => "<i>", text => "\"<b>" });
    assert!(page.contains("<h1>&lt;i&gt;</h1>") && page.contains("<p>&quot;&lt;b&gt;</p>"), "{page}");
}

#[tokio::test]
async fn accepting_goes_back_with_a_code_and_is_remembered_until_revoked() {
    let sandbox = sandbox(Vec::new());
    let (parts, _) = post(&sandbox, &target("code", ""), &format!("account={FREELANCER}&decision=accept")).await;
    let code = location(&parts).strip_prefix("http://localhost:3000/callback?code=").unwrap();
    let (code, state) = code.split_once('&').unwrap();
    assert!(is_hex(code, 32) && state == "state=a%26b");
    let cookie = parts.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let again = || Request::get(target("code", "")).header("cookie", format!("a=b; {cookie}"));
    let (parts, _) = send(&sandbox, again(), "").await;
    assert!(location(&parts).contains("?code="), "straight back");
    let (parts, _) = get(&sandbox, &target("code", "")).await;
    assert_eq!(parts.status, StatusCode::OK, "another browser is asked");
    sandbox.revoke_all();
    let (parts, page) = send(&sandbox, again(), "").await;
    assert_eq!(parts.status, StatusCode::OK, "asked again");
    assert!(page.contains("You are signed in as <strong>Foo Bar</strong>"));
    let (parts, _) = send(&sandbox, Request::get(LOGOUT_PATH).header("cookie", &cookie), "").await;
    assert!(parts.headers["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    let (_, page) = send(&sandbox, again(), "").await;
    assert!(!page.contains("You are signed in as"));
    assert_eq!(sandbox.counters().authorize, 4);
}

#[tokio::test]
async fn the_form_alone_is_enough() {
    let sandbox = sandbox(Vec::new());
    let form = format!(
        "response_type=code&client_id={CLIENT}&redirect_uri={CALLBACK}&state=x&account=quxclient&decision=accept"
    );
    let (parts, _) = post(&sandbox, AUTHORIZE_PATH, &form).await;
    assert!(location(&parts).ends_with("&state=x"));
}

#[tokio::test]
async fn the_implicit_grant_answers_in_the_fragment_token_first() {
    let sandbox = sandbox(Vec::new());
    let (parts, _) = post(&sandbox, &target("token", ""), &format!("account={FREELANCER}&decision=accept")).await;
    let back = location(&parts);
    let token = back.strip_prefix("http://localhost:3000/callback#access_token=oauth2v2_").unwrap();
    assert_eq!(&token[32..], "&expires_in=86399&state=a%26b");
}

#[tokio::test]
async fn declining_goes_back_with_access_denied() {
    let sandbox = sandbox(Vec::new());
    let (parts, _) = post(&sandbox, &target("code", ""), "decision=decline").await;
    assert_eq!(location(&parts), "http://localhost:3000/callback?error=access_denied&state=a%26b");
    assert!(parts.headers.get("set-cookie").is_none());
    let (parts, _) = post(&sandbox, &target("token", ""), "decision=decline").await;
    assert_eq!(location(&parts), "http://localhost:3000/callback#error=access_denied&state=a%26b");
    sandbox.fault(Target::Authorize, Fault::Decline, Times::Only(1));
    let (parts, _) = get(&sandbox, &target("code", "")).await;
    assert!(location(&parts).contains("error=access_denied"));
}

#[tokio::test]
async fn a_wrong_client_or_redirect_is_a_page_and_never_a_redirect() {
    let open = sandbox(Vec::new());
    let named = sandbox(vec![Client::parse("key:s3cr3t:https://app.example/cb?x=1").unwrap()]);
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
    for (sandbox, query) in cases {
        let (parts, page) = get(sandbox, &format!("{AUTHORIZE_PATH}?{query}")).await;
        assert_eq!(parts.status, StatusCode::BAD_REQUEST, "{query}");
        assert!(parts.headers.get("location").is_none() && page.contains("This cannot go on"), "{query}");
    }
    let (parts, _) =
        post(&named, &format!("{AUTHORIZE_PATH}?response_type=code&client_id=key"), "decision=decline").await;
    assert_eq!(location(&parts), "https://app.example/cb?x=1&error=access_denied");
}

#[tokio::test]
async fn other_faults_of_the_request_are_told_to_the_client() {
    let sandbox = sandbox(Vec::new());
    for (query, error) in [
        (target("device", ""), "unsupported_response_type"),
        (target("", ""), "invalid_request"),
        (target("code", "&code_challenge=abc&code_challenge_method=S512"), "invalid_request"),
    ] {
        let (parts, _) = get(&sandbox, &query).await;
        assert_eq!(location(&parts), format!("http://localhost:3000/callback?error={error}&state=a%26b"));
    }
}

#[tokio::test]
async fn a_form_without_a_choice_is_refused() {
    let sandbox = sandbox(Vec::new());
    for form in ["", "decision=maybe", "decision=accept", "decision=accept&account=nobody"] {
        let (parts, _) = post(&sandbox, &target("code", ""), form).await;
        assert_eq!(parts.status, StatusCode::BAD_REQUEST, "{form}");
    }
    let (parts, _) = send(&sandbox, Request::post(target("code", "")), "decision=accept").await;
    assert_eq!(parts.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let (parts, _) = send(&sandbox, Request::delete(target("code", "")), "").await;
    assert_eq!(parts.status, StatusCode::METHOD_NOT_ALLOWED);
}
