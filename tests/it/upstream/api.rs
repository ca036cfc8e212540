//! The broker: what goes to Upwork, what comes back, what is removed.

use http::Method;
use serde_json::json;
use upwarden::sandbox::ReceivedRequest;

use upwarden::testing::body::Body;

use crate::harness::{AGENCY, App, FREELANCER, TOKEN, World};

/// The last call that reached the API.
fn last(world: &World) -> ReceivedRequest {
    world.upwork.sandbox.requests().pop().expect("the API was asked")
}

fn field<'a>(seen: &'a ReceivedRequest, name: &str) -> Vec<&'a str> {
    seen.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
}

#[tokio::test]
async fn graphql_and_rest_are_called_with_the_users_token() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let body = json!({ "query": "{ user { nid } }" }).to_string();
    for path in ["/upwork/graphql", "/upwork/api/graphql"] {
        let answer = client.post(path, body.clone()).header("content-type", "application/json").await;
        assert_eq!(answer.json()["data"]["user"]["nid"], "foofreelancer", "{path}");
        assert_eq!(last(&world).target, "/graphql");
    }
    for path in ["/upwork/api/hr/v2/users/me.json", "/upwork/api/auth/v1/info.json?x=a%2Fb"] {
        let answer = client.get(path).await;
        assert_eq!(answer.json()["auth_user"]["first_name"], "Foo", "{path}");
        assert_eq!(last(&world).target, path.strip_prefix("/upwork").unwrap());
        assert!(!answer.text().contains(TOKEN));
    }
    assert!(world.app.seen().is_empty());
}

#[tokio::test]
async fn only_listed_fields_go_to_upwork() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let answer = client
        .graphql("{ __typename }")
        .header("authorization", "Bearer the-callers-own")
        .header("x-upwork-user-id", "1")
        .header("x-forwarded-for", "203.0.113.9")
        .header("x-own", "1")
        .header("referer", "https://tools.example.com/secret")
        .header("accept-encoding", "gzip, br")
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = last(&world);
    assert_eq!(field(&seen, "authorization"), ["present"], "exactly one, and ours, since the answer was not a 401");
    for gone in ["cookie", "x-upwork-user-id", "x-forwarded-for", "x-own", "referer", "origin", "sec-fetch-site", "via"]
    {
        assert!(field(&seen, gone).is_empty(), "{gone}: {seen:?}");
    }
    assert_eq!(field(&seen, "host"), [world.upwork.address.to_string()]);
    assert_eq!(field(&seen, "accept-encoding"), ["gzip, br"], "{seen:?}");
    assert!(field(&seen, "user-agent")[0].starts_with("upwarden/"), "{seen:?}");
    client.graphql("{ __typename }").header("user-agent", "reports/2").await;
    assert_eq!(field(&last(&world), "user-agent"), ["reports/2"]);
}

#[tokio::test]
async fn the_tenant_is_the_callers_or_else_the_configured_one() {
    const QUERY: &str = "{ organization { id } }";
    const OF_AGENCY: &str = "1282032950044702664";
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.graphql(QUERY).await.json()["data"]["organization"]["id"], "1181921839933591553");
    assert!(field(&last(&world), "x-upwork-api-tenantid").is_empty());
    let answer = client.graphql(QUERY).header("x-upwork-api-tenantid", OF_AGENCY).await;
    assert_eq!(answer.json()["data"]["organization"]["id"], OF_AGENCY);

    let world = World::new().set("upwork.organization", OF_AGENCY).start();
    let client = world.sign_in(AGENCY).await;
    client.graphql(QUERY).await;
    assert_eq!(field(&last(&world), "x-upwork-api-tenantid"), [OF_AGENCY]);
    client.graphql(QUERY).header("x-upwork-api-tenantid", "1").await;
    assert_eq!(field(&last(&world), "x-upwork-api-tenantid"), ["1"]);
}

#[tokio::test]
async fn upworks_errors_pass_and_its_cookies_do_not() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let answer = client.get("/upwork/api/nothing/v1/here.json").await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.json()["error"]["code"], 404);
    assert!(!answer.header("x-upwork-error-code").is_empty() && !answer.header("x-upwork-error-message").is_empty());
    for gone in ["set-cookie", "strict-transport-security", "alt-svc", "clear-site-data"] {
        assert_eq!(answer.header(gone), "", "{gone}");
    }
    let direct = crate::harness::Client::at(world.upwork.address).get("/api/nothing/v1/here.json").await;
    for sent in ["set-cookie", "strict-transport-security", "alt-svc"] {
        assert_ne!(direct.header(sent), "", "the sandbox does send {sent}");
    }
    let invalid = client.graphql("{ nothing }").await;
    assert_eq!((invalid.status.as_u16(), invalid.json()["errors"].is_array()), (200, true));
    world.fault(&json!({ "api": "html" }));
    let wall = client.graphql("{ __typename }").await;
    assert_eq!((wall.status.as_u16(), wall.header("content-type").starts_with("text/html")), (403, true));
    world.fault(&json!({ "api": "cut" }));
    assert!(client.graphql("{ user { id nid } }").await.broken, "a cut answer is cut");
    // This comes last, since it delays every later call until the clock is turned.
    world.fault(&json!({ "api": { "429": 7 } }));
    let slow_down = client.graphql("{ __typename }").await;
    assert_eq!((slow_down.status.as_u16(), slow_down.header("retry-after")), (429, "7"));
}

/// A case: what it is, its method and fields, and whether it passes.
type Case<'a> = (&'a str, Method, Vec<(&'a str, &'a str)>, bool);

#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_api_with_the_cookie() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let ours = world.url("");
    let navigate = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-fetch-site", "cross-site")];
    let embed = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("sec-fetch-site", "cross-site")];
    let fetch =
        |site: &'static str| vec![("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("sec-fetch-site", site)];
    let table: Vec<Case<'_>> = vec![
        ("curl", Method::GET, vec![], true),
        ("curl that posts", Method::POST, vec![], true),
        ("our page", Method::POST, fetch("same-origin"), true),
        ("the address bar", Method::GET, fetch("none"), true),
        ("another site", Method::GET, fetch("cross-site"), false),
        ("another site that posts", Method::POST, fetch("cross-site"), false),
        ("a sibling of the site", Method::POST, fetch("same-site"), false),
        ("an unknown word", Method::POST, fetch("sideways"), false),
        ("a link of another site", Method::GET, navigate.to_vec(), false),
        ("a form of another site", Method::POST, navigate.to_vec(), false),
        ("a frame of another site", Method::GET, embed.to_vec(), false),
        ("an old browser, our page", Method::POST, vec![("origin", ours.as_str())], true),
        ("an old browser, another site", Method::POST, vec![("origin", "https://evil.example")], false),
        ("an old browser, sandboxed", Method::POST, vec![("origin", "null")], false),
        ("origin ours, site not", Method::POST, [fetch("cross-site"), vec![("origin", ours.as_str())]].concat(), false),
    ];
    for (what, method, fields, passes) in table {
        let before: u64 = world.counters().api.values().sum();
        let target = if method == Method::GET { "/upwork/api/hr/v2/users/me.json" } else { "/upwork/graphql" };
        let answer = client.post(target, "{\"query\":\"{ __typename }\"}");
        let answer = if method == Method::GET { client.get(target) } else { answer }.headers(&fields).await;
        let after: u64 = world.counters().api.values().sum();
        assert_eq!((answer.status == 200, after - before), (passes, u64::from(passes)), "{what}: {answer:?}");
        if !passes {
            assert_eq!(answer.status, 403, "{what}");
        }
    }
    let answer = client.post("/upwork/graphql", "{}").header("origin", "https://evil.example").await;
    assert_eq!(answer.problem(), "cross-site");
}

#[tokio::test]
async fn a_link_of_another_site_to_the_api_needs_a_click_on_a_page_of_ours() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let target = "/upwork/api/hr/v2/users/me.json?a=1";
    let asked = || world.counters().api.contains_key("/api/hr/v2/users/me.json");
    let page = client.navigate(target).header("sec-fetch-site", "cross-site").await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (403, "Another site sent you here"));
    assert!(page.html().contains(&format!("href=\"{target}\"")) && !asked(), "{}", page.html());
    assert_eq!(client.fetch(target).header("sec-fetch-site", "cross-site").await.problem(), "cross-site");
    assert_eq!(client.navigate(target).header("sec-fetch-site", "same-origin").await.status, 200);
    assert!(asked());
}

#[tokio::test]
async fn only_a_page_of_ours_can_turn_a_get_into_another_method() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let sum = || world.counters().api.values().sum::<u64>();
    let before = sum();
    for query in ["http_method=delete", "%68ttp-Method=put", "a=1;http_method[]=x"] {
        let target = format!("/upwork/api/hr/v2/users/me.json?{query}");
        for site in ["cross-site", "same-site", "none"] {
            let page = client.navigate(&target).header("sec-fetch-site", site).await;
            assert_eq!((page.status.as_u16(), page.page().as_str()), (403, "This request came from another site"));
            assert!(!page.html().contains(&target), "no link to it: {}", page.html());
        }
        assert_eq!(client.get(&target).await.problem(), "cross-site", "a cookie without Fetch Metadata");
    }
    assert_eq!(sum(), before, "nothing went on");
    for passes in [
        client.fetch("/upwork/api/hr/v2/users/me.json?http_method=get").header("sec-fetch-site", "same-origin"),
        client.navigate("/upwork/api/hr/v2/users/me.json?xhttp_method=1").header("sec-fetch-site", "none"),
    ] {
        assert_eq!(passes.await.status, 200);
    }
}

#[tokio::test]
async fn no_shared_cache_keeps_an_answer_of_the_api_or_of_the_gated_app() {
    let app = App::new(|request: http::Request<Body>| async move {
        let said = request.uri().query().map(str::to_owned);
        let builder =
            said.iter().fold(http::Response::builder(), |builder, said| builder.header("cache-control", said));
        builder.body(Body::full("app")).expect("a response")
    });
    let world = World::new().app(app).public("/open").start();
    let client = world.sign_in(FREELANCER).await;
    for target in ["/upwork/api/hr/v2/users/me.json", "/upwork/api/sandbox/cached"] {
        let answer = client.get(target).await;
        let shared = ["s-maxage", "public"].iter().any(|word| answer.header("cache-control").contains(word));
        assert!(!shared && !answer.headers.contains_key("surrogate-control"), "{target}: {answer:?}");
        assert_eq!(answer.header("vary"), "Cookie, Authorization", "{target}");
    }
    assert_eq!(client.get("/upwork/api/hr/v2/users/me.json").await.header("cache-control"), "no-store");
    let cached = client.get("/upwork/api/sandbox/cached").await;
    assert_eq!(cached.header("cache-control"), "private, max-age=600");
    for (target, expected) in [
        ("/x", "private"),
        ("/x?max-age=9", "max-age=9"),
        ("/x?public", "public"),
        ("/x?no-store", "no-store"),
        ("/open", ""),
    ] {
        assert_eq!(client.get(target).await.header("cache-control"), expected, "{target}");
    }
}

#[tokio::test]
async fn answers_stream_without_buffering() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let mut answer = client.get("/upwork/api/sandbox/stream").open().await;
    let first = answer.text().await;
    assert!(!first.is_empty());
    // Only now does the sandbox continue.
    world.upwork.sandbox.release();
    assert!(!answer.text().await.is_empty());
    let large = client.get("/upwork/api/sandbox/bytes?n=2000000").await;
    assert_eq!((large.status.as_u16(), large.broken), (200, false), "{:?}", large.headers);
}
