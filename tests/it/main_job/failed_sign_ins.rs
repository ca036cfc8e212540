//! Failed sign-ins: Upwork fails or refuses our key, or the user is not admitted.

use serde_json::json;
use upwarden::sandbox;
use upwarden::testing::body::Body;
use upwarden::testing::secret::Secret;

use crate::harness::{AGENCY, FREELANCER, World, logs, until, within};

#[tokio::test]
async fn each_failure_of_upwork_is_a_page_or_a_problem_and_no_session() {
    let world = World::new().start();
    for (fault, name, title) in [
        ("503", "upwork-busy", "Upwork cannot sign you in right now"),
        ("500", "upwork-error", "Upwork had an error"),
        ("502", "upwork-error", "Upwork had an error"),
        ("html", "upwork-nonsense", "Upwork's answer could not be read"),
        ("garbage", "upwork-nonsense", "Upwork's answer could not be read"),
        ("cut", "upwork-unreachable", "Upwork cannot be reached"),
        ("429", "upwork-busy", "Upwork cannot sign you in right now"),
    ] {
        for target in ["token", "api"] {
            let client = world.client();
            let back = world.callback(&client, "/x").await;
            world.fault(&json!({ target: fault }));
            // After a 429, no call is sent for a while.
            let page = world.turning(client.navigate(&back)).await;
            let status = if name == "upwork-busy" { 503 } else { 502 };
            assert_eq!((page.status.as_u16(), page.page().as_str()), (status, title), "{fault} at {target}");
            assert_eq!(page.headers.contains_key("retry-after"), status == 503);
            assert!(page.html().contains("/upwork/auth/login?return_to=%2Fx"), "{}", page.html());
            assert_eq!(page.header("referrer-policy"), "no-referrer");
            assert!(client.cookies().is_empty(), "no session, and the sign-in is over: {fault} at {target}");

            let client = world.client();
            let back = world.callback(&client, "/x").await;
            world.fault(&json!({ target: fault }));
            assert_eq!(world.turning(client.get(&back)).await.problem(), name, "{fault} at {target}");
        }
    }
    assert!(world.metric("upwarden_sign_ins_total{outcome=\"failed\"}").await >= 24);
    // Once Upwork recovers, sign-ins work.
    world.turning(world.sign_in(FREELANCER)).await;
}

#[tokio::test]
async fn tokens_too_large_for_the_cookies_are_a_page_that_says_so() {
    let upwork = sandbox::Config { token_chars: 9_000, ..sandbox::Config::default() };
    let world = World::new().upwork(upwork).start();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, "/x").await;
    assert_eq!((answer.status.as_u16(), answer.page().as_str()), (500, "Your sign-in does not fit into cookies"));
    let page = answer.html();
    assert!(page.contains("store.kind") && !page.contains("Three sign-ins"), "{page}");
    assert_eq!(world.counters().revoke, 1, "no one could use the grant");
}

#[tokio::test]
async fn a_slow_token_endpoint_is_waited_for() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    world.fault(&json!({ "token": "slow" }));
    let answer = tokio::spawn({
        let client = client.clone();
        async move { client.navigate(&back).await }
    });
    within(world.upwork.sandbox.held(1)).await;
    // Meanwhile other requests are served.
    assert_eq!(world.client().get("/x").await.status, 401);
    world.upwork.sandbox.release();
    assert_eq!(answer.await.expect("it is answered").location(), "/x");
}

#[tokio::test]
async fn an_unreachable_upwork_is_named() {
    // Nothing listens there any more, so connections are refused.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("it is bound");
    let world = World::new().set("upwork.token_url", format!("http://{nowhere}/token")).start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let answer = client.navigate(&back).await;
    assert_eq!((answer.status.as_u16(), answer.page().as_str()), (502, "Upwork cannot be reached"));
}

#[tokio::test]
async fn a_refused_api_key_is_reported_as_the_sites_problem() {
    let world = World::new();
    // Without registered clients any redirect on loopback is accepted; with one, the port has to be known first.
    let redirect = "http://127.0.0.1:1/upwork/auth/callback";
    let client = sandbox::Client {
        id: "0123456789abcdef0123456789abcdef".to_owned(),
        secret: Secret::new("another secret"),
        redirect_uri: redirect.to_owned(),
    };
    let world = world
        .upwork(sandbox::Config { clients: vec![client], ..sandbox::Config::default() })
        .set("public_url", "http://127.0.0.1:1")
        .start();
    let client = world.client().named("127.0.0.1:1");
    let back = world.callback(&client, "/x").await;
    let answer = client.navigate(&back).await;
    assert_eq!((answer.status.as_u16(), answer.page().as_str()), (502, "Upwork rejected this site's API key"));
    assert!(!answer.text().contains("fedcba9876543210"));
}

#[tokio::test]
async fn a_user_who_is_not_admitted_gets_a_page_and_no_session_and_the_grant_is_revoked() {
    let world = World::new().set("access.anyone", "").set("access.users", AGENCY).start();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, "/x").await;
    assert_eq!(answer.status, 403);
    assert!(answer.page().len() > 5 && answer.text().contains(FREELANCER), "the page shows the id to ask for");
    assert!(answer.text().contains("data-copy=\"Your user id\""), "{}", answer.text());
    assert!(client.cookies().is_empty());
    let id = answer.header("x-request-id").to_owned();
    let lines = logs();
    let fault = lines.lines().find(|line| line.contains(&id) && line.contains("\"message\":\"fault\"")).unwrap();
    assert!(fault.contains(&format!("add \\\"{FREELANCER}\\\" to access.users")), "to paste: {fault}");
    let line = lines.lines().find(|line| line.contains(&id) && line.contains("\"message\":\"request\"")).unwrap();
    assert!(line.contains(&format!("\"user\":\"{FREELANCER}\"")) && line.contains("not-admitted"), "{line}");
    assert!(world.counters().revoke >= 1);
    assert!(world.metric("upwarden_sign_ins_total{outcome=\"refused\"}").await > 0);
    let answer = world.sign_in_with(&client, AGENCY, "/x").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/x"));
}

#[tokio::test]
async fn changed_access_rules_apply_to_existing_sessions() {
    let rules = |user: &str| format!("[access]\nusers = [\"{user}\"]\n");
    let world = World::new().set("access.anyone", "").file(&rules(FREELANCER)).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/x").await.status, 200);
    world.rewrite(&rules(&format!("{AGENCY}\", \"{CLIENT_TOO}")));
    let refused = until("the new rules", || async {
        let answer = client.get("/x").await;
        (answer.status == 403).then_some(answer)
    })
    .await;
    assert_eq!(refused.problem(), "not-admitted");
    let (id, lines) = (refused.header("x-request-id"), logs());
    let line = lines.lines().find(|line| line.contains(id) && line.contains("\"message\":\"request\"")).unwrap();
    assert!(line.contains(&format!("\"user\":\"{FREELANCER}\"")), "{line}");
    assert_eq!(client.navigate("/x").await.status, 403, "a page, not a loop through Upwork");
    assert_eq!(client.graphql("{ __typename }").await.status, 403);
    assert_eq!(client.get("/upwork/auth/verify").await.status, 401);
    world.rewrite(&rules(FREELANCER));
    until("the old rules", || async { (client.get("/x").await.status == 200).then_some(()) }).await;
}

const CLIENT_TOO: &str = crate::harness::CLIENT;

#[tokio::test]
async fn organizations_are_admitted_too() {
    let world = World::new().set("access.anyone", "").set("access.organizations", "1181921839933591553").start();
    world.sign_in(FREELANCER).await;
    let answer = world.sign_in_with(&world.client(), AGENCY, "/x").await;
    assert_eq!(answer.status, 403);
}

#[tokio::test]
async fn six_people_who_sign_in_at_once_wait_for_their_turn_at_upwork() {
    let rates = sandbox::Rates { per_second: 3, ..sandbox::Rates::default() };
    let upwork = sandbox::Config { limits: true, rates, ..sandbox::Config::default() };
    let world = World::new().upwork(upwork).set("pace.per_second", 3).set("pace.per_minute", 300).start();
    let mut callbacks = Vec::new();
    for number in 0..6 {
        let client = world.client();
        let back = world.callback(&client, &format!("/{number}")).await;
        callbacks.push(tokio::spawn(async move { client.navigate(&back).await }));
    }
    until("six sign-ins", async || {
        world.turn(std::time::Duration::from_millis(50));
        callbacks.iter().all(tokio::task::JoinHandle::is_finished).then_some(())
    })
    .await;
    for (number, callback) in callbacks.into_iter().enumerate() {
        assert_eq!(callback.await.unwrap().location(), format!("/{number}"));
    }
    let counters = world.counters();
    assert_eq!((counters.token.authorization_code, counters.rate_limited), (6, 0));
}

#[tokio::test]
async fn the_sandboxs_limits_count_calls_of_the_token_endpoint() {
    let rates = sandbox::Rates { per_second: 1, ..sandbox::Rates::default() };
    let upwork = sandbox::Config { limits: true, rates, ..sandbox::Config::default() };
    let world = World::new().upwork(upwork).start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let asked = tokio::spawn(async move { client.get(&back).await });
    until("the refusal", async || (world.counters().rate_limited > 0).then_some(())).await;
    let answer = world.turning(asked).await.unwrap();
    assert_eq!(answer.problem(), "upwork-busy", "the second call of the second");
    assert_eq!(world.counters().token.authorization_code, 1);
}

/// A server whose token endpoint and who-am-I answer with these fields, and with `before` in front of what is right.
async fn answering(coding: &'static str, before: &'static str) -> (String, tokio_util::sync::DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answer = move |request: http::Request<Body>, _: std::net::SocketAddr| {
        assert_eq!(request.headers()["accept-encoding"], "identity");
        let right = if request.uri().path() == "/token" {
            json!({ "access_token": "made-up", "token_type": "Bearer", "refresh_token": "made-up-too" })
        } else {
            json!({ "data": { "user": { "id": "1", "nid": "one" }, "organization": { "id": "2" } } })
        };
        let response = http::Response::builder().header("content-encoding", coding);
        std::future::ready(response.body(Body::full(format!("{before}{right}"))).unwrap())
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    tokio::spawn(upwarden::testing::listener::plain::serve(listener, answer, shutdown.clone()));
    (url, shutdown.drop_guard())
}

#[tokio::test]
async fn an_unrequested_coding_is_named_and_a_byte_order_mark_is_skipped() {
    for (coding, before, status) in [("gzip", "", 502), ("identity", "\u{feff}", 303)] {
        let (url, _ended) = answering(coding, before).await;
        let world = World::new().set("upwork.token_url", format!("{url}/token"));
        let world = world.set("upwork.graphql_url", format!("{url}/graphql")).start();
        let client = world.client();
        let answer = client.navigate(&world.callback(&client, "/x").await).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let (id, lines) = (answer.header("x-request-id"), logs());
        let named = lines.lines().any(|line| line.contains(id) && line.contains("the content coding gzip"));
        assert_eq!(named, coding == "gzip");
    }
}

#[tokio::test]
async fn sign_ins_of_one_address_are_limited() {
    let world = World::new().set("public.limits.sign_ins_per_address", 5).start();
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(world.client().navigate("/x").await.status.as_u16());
    }
    assert_eq!(statuses, [303, 303, 303, 303, 303, 429, 429]);
    let answer = world.client().navigate("/x").await;
    assert_eq!((answer.page().as_str(), answer.header("retry-after")), ("Too many sign-ins from your network", "60"));
    world.turn(std::time::Duration::from_secs(61));
    assert_eq!(world.client().navigate("/x").await.status, 303);
}
