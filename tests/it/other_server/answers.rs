//! Unusual responses and errors: each is reported correctly, and repeats nothing that was sent.

use http::Method;
use serde_json::json;
use upwarden::testing::body::Body;

use super::server::Server;
use super::{ISSUER, ME, SECRET, callback, come_back, seconds, sign_in, world};
use crate::harness::{Answer, Client, World, logs, within};

/// The log's lines about this answer.
fn logged(answer: &Answer) -> String {
    let id = answer.header("x-request-id").to_owned();
    logs().lines().filter(|line| line.contains(&id)).collect::<Vec<_>>().join("\n")
}

/// Posts the fragment, as the fragment page's script does.
async fn post_fragment(world: &World, client: &Client, fragment: String) -> Answer {
    let call = client.call(Method::POST, "/upwork/auth/callback").body(Body::full(fragment));
    let call = call.header("content-type", "application/x-www-form-urlencoded").header("origin", &world.url(""));
    call.header("accept", "text/html").header("sec-fetch-mode", "navigate").header("sec-fetch-dest", "document").await
}

#[tokio::test]
async fn each_callback_error_has_its_page_and_its_description_in_the_log() {
    let server = Server::start();
    let world = world(&server).set("upwork.issuer", ISSUER).start();
    for (error, status, title) in [
        ("access_denied", 403, "You declined at Upwork"),
        ("login_required", 403, "Upwork needs to ask you first"),
        ("consent_required", 403, "Upwork needs to ask you first"),
        ("server_error", 503, "Upwork cannot sign you in right now"),
        ("temporarily_unavailable", 503, "Upwork cannot sign you in right now"),
        ("invalid_scope", 502, "Upwork rejected this site's API key"),
        ("unauthorized_client", 502, "Upwork rejected this site's API key"),
    ] {
        for state in ["&state={state}", ""] {
            let back = format!("error={error}&error_description=since+%22it%22+is+so%0d%0aX{state}&iss={ISSUER}");
            server.lock().back = Some(back);
            let client = world.client();
            let page = come_back(&world, &server, &client).await;
            assert_eq!((page.status.as_u16(), page.page().as_str()), (status, title), "{error}{state}");
            let lines = logged(&page);
            assert!(lines.contains(error) && lines.contains("it\\\" is so"), "{error}{state}: {lines}");
            // Without a state it is unknown which sign-in it ended.
            assert_eq!(client.cookies().len(), usize::from(state.is_empty()), "{error}{state}");
        }
    }
    // A browser without a pending sign-in cannot have been sent back.
    let stranger = world.client().navigate("/upwork/auth/callback?error=invalid_scope").await;
    assert_eq!((stranger.status.as_u16(), stranger.page().as_str()), (400, "This sign-in did not start here"));
}

#[tokio::test]
async fn another_issuer_is_refused_with_both_grants() {
    for grant in ["code", "implicit"] {
        let server = Server::start();
        let world = world(&server).set("upwork.issuer", ISSUER).set("upwork.grant", grant).start();
        for (iss, good) in [(ISSUER, true), ("https://as.example/", false), ("https://evil.example", false)] {
            let parameters = if grant == "code" { "code={code}" } else { "access_token={token}&token_type=Bearer" };
            server.lock().back = Some(format!("{parameters}&state={{state}}&iss={iss}"));
            let client = world.client();
            let back = callback(&world, &server, &client, "/x").await;
            server.lock().asked.clear();
            let answer = match back.split_once('#') {
                Some((_, fragment)) => post_fragment(&world, &client, fragment.to_owned()).await,
                None => client.navigate(&back).await,
            };
            if good {
                assert_eq!(answer.location(), "/x");
                continue;
            }
            assert_eq!(
                (answer.status.as_u16(), answer.page().as_str()),
                (502, "This answer came from a different issuer")
            );
            assert!(answer.html().contains("return_to=%2Fx"), "the page offers another sign-in");
            let lines = logged(&answer);
            assert!(lines.contains("wrong-issuer") && lines.contains(iss) && lines.contains(ISSUER), "{lines}");
            assert!(client.cookies().is_empty() && server.lock().asked.is_empty(), "nothing of it was used");
        }
    }
}

#[tokio::test]
async fn each_token_error_has_its_page_and_its_words_in_the_log() {
    let server = Server::start();
    let world = world(&server).start();
    for (status, error, answered, title) in [
        (400, "invalid_grant", 400, "This sign-in was already used"),
        (401, "invalid_client", 502, "Upwork rejected this site's API key"),
        (503, "temporarily_unavailable", 503, "Upwork cannot sign you in right now"),
        (400, "temporarily_unavailable", 503, "Upwork cannot sign you in right now"),
        (429, "slow_down", 503, "Upwork cannot sign you in right now"),
        (200, "invalid_grant", 502, "Upwork's answer could not be read"),
    ] {
        let body = json!({ "error": error, "error_description": "PKCE verification failed" }).to_string();
        server.lock().tokens.push((status, body));
        let page = world.turning(come_back(&world, &server, &world.client())).await;
        assert_eq!((page.status.as_u16(), page.page().as_str()), (answered, title), "{status} {error}");
        let lines = logged(&page);
        assert!(lines.contains(if status == 400 && error == "invalid_grant" { "PKCE" } else { error }), "{lines}");
    }
}

#[tokio::test]
async fn nothing_that_was_sent_is_repeated_in_a_log_or_a_page() {
    let server = Server::start();
    let world = world(&server).start();
    let echo = "bad secret {client_secret} for {code} with {code_verifier} or {refresh_token}";
    let refused = |status, error: &str| (status, format!(r#"{{"error":"{error}","error_description":"{echo}"}}"#));
    let mut texts = String::new();
    for error in ["invalid_grant", "invalid_client", "{client_secret}", "{code}"] {
        server.lock().tokens.push(refused(400, error));
        texts += &come_back(&world, &server, &world.client()).await.text();
    }
    let who = json!({ "data": null, "errors": [{ "message": "no scope for {token}" }] }).to_string();
    server.lock().who = Some((200, who));
    texts += &come_back(&world, &server, &world.client()).await.text();
    server.lock().who = None;
    let client = sign_in(&world, &server).await;
    world.turn(seconds(4000));
    server.lock().tokens.extend([refused(400, "invalid_client"), refused(400, "invalid_grant")]);
    for _ in 0..2 {
        // The failed refresh is kept for a second.
        texts += &crate::harness::until("the next refresh", || async {
            let asked = server.lock().asked.len();
            let answer = client.graphql(ME).await;
            (server.lock().asked.len() > asked).then(|| answer.text())
        })
        .await;
    }
    server.lock().revoked = (400, r#"{"error":"unsupported_token_type","error_description":"rt.9/+~"}"#.to_owned());
    let client = sign_in(&world, &server).await;
    texts += &client.post("/upwork/auth/logout", "").await.text();
    texts += &logs();
    let state = server.lock();
    let secret =
        |value: &&String| *value == SECRET || ["code.", "rt.", "at."].iter().any(|kind| value.starts_with(kind));
    let sent: Vec<&String> = state.received.iter().filter(secret).collect();
    assert!(sent.len() > 10, "{sent:?}");
    for secret in sent {
        assert!(!texts.contains(secret.as_str()), "{secret}");
    }
    assert!(texts.contains("bad secret … for …"), "and the rest is quoted");
}

#[tokio::test]
async fn a_refused_revocation_differs_from_a_failed_one() {
    let server = Server::start();
    let world = world(&server).start();
    for (status, done) in [(200, "revoked"), (400, "refused"), (401, "refused"), (404, "refused"), (503, "failed")] {
        server.lock().revoked = (status, r#"{"error":"unsupported_token_type"}"#.to_owned());
        let client = sign_in(&world, &server).await;
        let answer = client.post("/upwork/auth/logout", "").await;
        assert_eq!(answer.location(), format!("/upwork/auth/logout?done={done}"));
        let page = client.navigate(&answer.location()).await.html();
        assert_eq!(page.contains("Upwork refused to revoke"), done == "refused", "{status}: {page}");
    }
    assert!(logs().contains("Upwork refused: status 400 with the error unsupported_token_type"));
}

#[tokio::test]
async fn an_unusual_token_response_loses_no_grant() {
    let server = Server::start();
    let world = world(&server).start();
    for odd in [
        json!({ "expires_in": -1 }),
        json!({ "expires_in": "3600.5" }),
        json!({ "expires_in": null }),
        json!({ "expires_in": 1e20 }),
        json!({ "expires_in": true }),
        json!({ "refresh_token": "has a space " }),
        json!({ "token_type": null, "scope": null }),
        json!({ "id_token": "x.y.z", "nested": { "a": [1] } }),
    ] {
        server.lock().granted = odd.clone();
        let client = sign_in(&world, &server).await;
        server.refuse_all();
        assert_eq!(client.graphql(ME).await.status, 200, "{odd}");
    }
    assert_eq!(server.lock().wrong, Vec::<String>::new());
    // The grant is over, whatever form the description has.
    server.lock().granted = json!({});
    let client = sign_in(&world, &server).await;
    world.turn(seconds(4000));
    server.lock().tokens.push((400, json!({ "error": "invalid_grant", "error_description": ["x"] }).to_string()));
    assert_eq!(client.graphql(ME).await.problem(), "sign-in-required");
}

#[tokio::test]
async fn an_expired_token_without_refresh_token_is_a_page_and_not_a_loop() {
    let server = Server::start();
    let code = world(&server).start();
    server.lock().granted = json!({ "expires_in": 0, "refresh_token": null });
    let client = code.client();
    let page = come_back(&code, &server, &client).await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (502, "Upwork's answer could not be read"));
    assert!(client.cookies().is_empty());

    let implicit = world(&server).set("upwork.grant", "implicit").start();
    server.lock().back = Some("access_token={token}&token_type=bearer&expires_in=0&state={state}".to_owned());
    let client = implicit.client();
    let back = callback(&implicit, &server, &client, "/x").await;
    let page = post_fragment(&implicit, &client, back.split_once('#').unwrap().1.to_owned()).await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (502, "Upwork's answer could not be read"));
}

#[tokio::test]
async fn a_fragment_is_read_strictly() {
    let server = Server::start();
    let world = world(&server).set("upwork.grant", "implicit").start();
    let (long, longer, longest) = ("x".repeat(13 << 10), "x".repeat(20 << 10), "x".repeat(140 << 10));
    for (fragment, status, title) in [
        ("access_token={token}&token_type=BEARER&state={state}&expires_in=60.5", 303, ""),
        ("access_token={token}&state={state}&session_state=a&scope=b&id_token=c", 303, ""),
        ("access_token={token}&token_type=mac&state={state}", 502, "Upwork's answer could not be read"),
        ("access_token={token}&access_token=evil&state={state}", 400, "This sign-in did not start here"),
        ("access_token={token}&state={state}&state=zzz", 400, "This sign-in did not start here"),
        ("access_token={token}&token_type=bearer&token_type=mac&state={state}", 400, "This sign-in did not start here"),
        ("access_token={token}&iss=a&iss=b&state={state}", 400, "This sign-in did not start here"),
        (&format!("access_token={long}&state={{state}}"), 502, "Upwork's answer could not be read"),
        (&format!("access_token={longer}&state={{state}}"), 502, "Upwork's answer could not be read"),
        (&format!("access_token={longest}&state={{state}}"), 400, "This request cannot be read"),
        ("error=login_required&state={state}", 403, "Upwork needs to ask you first"),
        ("error=login_required", 403, "Upwork needs to ask you first"),
    ] {
        server.lock().back = Some(fragment.to_owned());
        let client = world.client();
        let back = callback(&world, &server, &client, "/x").await;
        let answer = post_fragment(&world, &client, back.split_once('#').unwrap().1.to_owned()).await;
        let told = if status == 303 { String::new() } else { answer.page() };
        let shown: String = fragment.chars().take(90).collect();
        assert_eq!((answer.status.as_u16(), told.as_str()), (status, title), "{shown}");
    }
    // A query whose parameter only looks like a state, and one with an error.
    let client = world.client();
    callback(&world, &server, &client, "/x").await;
    let page = client.navigate("/upwork/auth/callback?session_state=a.b").await;
    assert_eq!(page.page(), "Signing you in");
    let page = within(client.navigate("/upwork/auth/callback?error=invalid_scope").into_future()).await;
    assert_eq!(page.page(), "Upwork rejected this site's API key");
}
