//! Access without a session, our own endpoints, and other host names.

use http::Method;

use crate::harness::{App, FREELANCER, World, between};

#[tokio::test]
async fn a_sign_in_returns_to_its_address_and_the_app_gets_the_identity() {
    let world = World::new().start();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, "/deep/page?tab=2").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/deep/page?tab=2"));
    assert_eq!((answer.header("cache-control"), answer.header("referrer-policy")), ("no-store", "no-referrer"));

    assert_eq!(client.navigate("/deep/page?tab=2").await.text(), "GET /deep/page?tab=2\n");
    let seen = world.app.last();
    for (name, value) in [
        ("x-upwork-user-id", FREELANCER),
        ("x-upwork-user", "foofreelancer"),
        ("x-upwork-user-name", "Foo Bar"),
        ("x-upwork-organization-id", "1181921839933591553"),
        ("x-forwarded-user", "foofreelancer"),
        ("cookie", ""),
        ("authorization", ""),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert_eq!(world.app.seen().len(), 1, "the app saw nothing before");
}

#[tokio::test]
async fn the_prefix_leads_to_the_account_page_and_that_back_to_the_app() {
    let world = World::new().start();
    let browser = world.sign_in(FREELANCER).await;
    for path in ["/upwork", "/upwork/"] {
        let answer = browser.navigate(path).await;
        assert_eq!((answer.status.as_u16(), answer.location().as_str()), (303, "/upwork/auth/"), "{path}");
        assert_eq!(browser.post(path, "").await.problem(), "method-not-allowed");
    }
    let page = browser.navigate("/upwork/auth/").await.html();
    assert!(page.contains("<a href=\"/\">Back to the app</a>"), "{page}");
}

#[tokio::test]
async fn curl_without_a_cookie_gets_a_401_problem() {
    let world = World::new().start();
    let answer = world.client().get("/reports/2026?x=1&y=a%20b").await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.problem(), "sign-in-required");
    let problem = answer.json();
    assert_eq!(problem["title"], "Sign in to continue");
    let detail = problem["detail"].as_str().unwrap();
    for part in ["no session", "`login_url`", "personal access token", "`/upwork/auth/`"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    assert_eq!(problem["login_url"], "/upwork/auth/login?return_to=%2Freports%2F2026%3Fx%3D1%26y%3Da%2520b");
    let mut fields: Vec<&String> = problem.as_object().unwrap().keys().collect();
    fields.sort();
    assert_eq!(fields, ["detail", "login_url", "request_id", "status", "title", "type"]);
    assert!(answer.header("www-authenticate").starts_with("Bearer "), "{answer:?}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert!(answer.set_cookies().is_empty());
    assert!(world.app.seen().is_empty(), "the app was not asked");

    // The address in it works.
    let login = problem["login_url"].as_str().unwrap().to_owned();
    let client = world.client();
    let answer = world.sign_in_with(&client, FREELANCER, &login).await;
    assert_eq!(answer.header("location"), "/reports/2026?x=1&y=a%20b");
}

/// The answer to a request without a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gets {
    Upwork,
    Page,
    Problem,
}

/// A case: its name, its method and fields, and the expected answer.
type Case = (&'static str, Method, Vec<(&'static str, &'static str)>, Gets);

fn cases() -> Vec<Case> {
    let html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let navigate = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", html)];
    let frame = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("accept", html)];
    let ahead = [navigate[0], navigate[1], navigate[2], ("sec-purpose", "prefetch;prerender")];
    let fetch = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")];
    let events = [("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "text/event-stream")];
    let image = [("sec-fetch-mode", "no-cors"), ("sec-fetch-dest", "image"), ("accept", "image/*,*/*;q=0.8")];
    let socket = [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-fetch-mode", "websocket")];
    let old = [("accept", html)];
    let xhr = [("accept", html), ("x-requested-with", "XMLHttpRequest")];
    let json = [("accept", "application/json")];
    let form = [navigate[0], navigate[1], navigate[2], ("sec-fetch-site", "same-origin")];
    let preflight = [("origin", "https://other.example"), ("access-control-request-method", "PUT")];
    vec![
        ("navigation", Method::GET, navigate.to_vec(), Gets::Upwork),
        ("its head", Method::HEAD, navigate.to_vec(), Gets::Upwork),
        ("without fetch metadata", Method::GET, old.to_vec(), Gets::Upwork),
        ("posted form", Method::POST, form.to_vec(), Gets::Page),
        ("posted by an old browser", Method::POST, old.to_vec(), Gets::Page),
        ("iframe", Method::GET, frame.to_vec(), Gets::Page),
        ("prefetch", Method::GET, ahead.to_vec(), Gets::Page),
        ("fetch", Method::GET, fetch.to_vec(), Gets::Problem),
        ("fetch that posts", Method::POST, fetch.to_vec(), Gets::Problem),
        ("XMLHttpRequest", Method::GET, xhr.to_vec(), Gets::Problem),
        ("EventSource", Method::GET, events.to_vec(), Gets::Problem),
        ("image", Method::GET, image.to_vec(), Gets::Problem),
        ("WebSocket", Method::GET, socket.to_vec(), Gets::Problem),
        ("JSON wanted", Method::GET, json.to_vec(), Gets::Problem),
        ("curl", Method::GET, vec![], Gets::Problem),
        ("DELETE", Method::DELETE, vec![], Gets::Problem),
        ("preflight", Method::OPTIONS, preflight.to_vec(), Gets::Problem),
    ]
}

#[tokio::test]
async fn only_a_navigation_is_sent_to_upwork() {
    let world = World::new().start();
    for target in ["/x", "/upwork/graphql", "/upwork/api/profiles/v1/x.json", "/upwork/auth/", "/a%2fb//c"] {
        for (what, method, fields, gets) in cases() {
            if target == "/upwork/auth/" && !["GET", "HEAD"].contains(&method.as_str()) {
                continue;
            }
            let answer = world.client().call(method.clone(), target).headers(&fields).await;
            let what = format!("{what} of {target}: {answer:?}");
            let head = method == Method::HEAD;
            match gets {
                Gets::Upwork => {
                    assert_eq!(answer.status, 303, "{what}");
                    assert!(answer.location().contains("/oauth2/authorize?response_type=code&"), "{what}");
                    assert_eq!(answer.set_cookies().len(), 1, "{what}");
                }
                Gets::Page | Gets::Problem => {
                    assert_eq!(answer.status, 401, "{what}");
                    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}");
                    assert!(answer.set_cookies().is_empty(), "{what}");
                }
            }
            match gets {
                Gets::Page if method == Method::POST => {
                    assert_eq!(answer.page(), "Sign in, then send again", "{what}");
                }
                Gets::Page => assert_eq!(answer.page(), "Sign in to continue", "{what}"),
                Gets::Problem => assert_eq!(answer.problem(), "sign-in-required", "{what}"),
                Gets::Upwork => assert!(head || answer.body.is_empty(), "{what}"),
            }
            assert_eq!(answer.header("cache-control"), "no-store", "{what}");
        }
    }
    assert!(world.app.seen().is_empty() && world.counters().api.is_empty(), "nothing went on");
}

#[tokio::test]
async fn a_navigation_that_a_service_worker_passes_on_ends_at_a_sign_in() {
    let world = World::new().start();
    let html = ("accept", "text/html,application/xhtml+xml");
    let passed_on = [("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "empty"), html];
    for target in ["/x", "/upwork/auth/", "/upwork/auth/login"] {
        let answer = world.client().get(target).headers(&passed_on).await;
        assert!(answer.status == 303 && answer.location().contains("/oauth2/authorize"), "{target}: {answer:?}");
    }
    // With an init object, a navigation looks like the worker's own request; the page's link leads to a sign-in.
    let with_init = [("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty"), html];
    let page = world.client().get("/x").headers(&with_init).await;
    assert_eq!(page.page(), "Sign in to continue");
    let link = between(&page.html(), "href=\"/upwork/auth/login", "\"").map(|rest| format!("/upwork/auth/login{rest}"));
    let answer = world.client().get(&link.expect("a link")).headers(&with_init).await;
    assert!(answer.status == 303 && answer.location().contains("/oauth2/authorize"), "{answer:?}");
}

#[tokio::test]
async fn a_subresource_begins_no_sign_in() {
    let world = World::new().start();
    for (mode, dest) in [("cors", "empty"), ("no-cors", "image"), ("no-cors", "script"), ("same-origin", "worker")] {
        let fields = [("sec-fetch-mode", mode), ("sec-fetch-dest", dest)];
        let answer = world.client().get("/upwork/auth/login").headers(&fields).await;
        assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (401, 0), "{mode} {dest}");
    }
}

#[tokio::test]
async fn preflights_pass_to_the_app_where_the_configuration_says_so() {
    let preflight = [("origin", "https://other.example"), ("access-control-request-method", "PUT")];
    let world = World::new().set("app.preflight", "pass").start();
    let ask = |target: &'static str| world.client().call(Method::OPTIONS, target).headers(&preflight);
    assert_eq!(ask("/x").await.text(), "OPTIONS /x\n");
    assert_eq!(world.app.last().header("x-upwork-user-id"), "");
    assert_eq!(ask("/upwork/graphql").await.status, 401, "the API is not the app");
    let plain = world.client().call(Method::OPTIONS, "/x").await;
    assert_eq!(plain.status, 401, "no preflight without its fields");
}

#[tokio::test]
async fn public_paths_are_open_on_whole_segments_of_one_spelling() {
    let world = World::new().public("/health,/assets/").start();
    for open in ["/health", "/health/x", "/health?x=1", "/assets/app.css", "/assets/a/b"] {
        let answer = world.client().get(open).header("x-upwork-user-id", "1").await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, format!("GET {open}\n")));
        assert_eq!(world.app.last().header("x-upwork-user-id"), "", "no identity without a session");
    }
    for shut in [
        "/healthy",
        "/Health",
        "/health.json",
        "/assets",
        "/health/../x",
        "/health/%2e%2e/x",
        "/health%2fx",
        "//health",
        "/health//x",
        "/health/..;/x",
        "/health/%2E./x",
        "/health/%00",
        "/health/%5cx",
        "/health;x",
        "/x/health",
    ] {
        let answer = world.client().get(shut).await;
        assert_eq!(answer.status, 401, "{shut}: {}", answer.text());
    }
    let client = world.sign_in(FREELANCER).await;
    client.get("/health").await;
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER, "the app learns who is signed in");
}

#[tokio::test]
async fn what_is_under_the_prefix_is_ours_and_ambiguous_spellings_are_refused() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    for (target, status, name) in [
        ("/upwork/nothing", 404, "not-found"),
        ("/upwork/auth/nothing", 404, "not-found"),
        ("/upwork/auth/..%2f..%2fx", 400, "ambiguous-path"),
        ("/upwork//graphql", 400, "ambiguous-path"),
        ("/upwork/%67raphql/../x", 400, "ambiguous-path"),
        ("/upwork/auth/%2e%2e/", 400, "ambiguous-path"),
    ] {
        let answer = client.get(target).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (status, name), "{target}");
    }
    assert!(world.app.seen().is_empty());
    // Elsewhere the same bytes are forwarded unchanged.
    for target in ["/a%2fb", "/x//y", "/a/%2e%2e/b", "/..;/b", "/%5C"] {
        assert_eq!(client.get(target).await.text(), format!("GET {target}\n"));
    }
}

#[tokio::test]
async fn verify_answers_204_with_the_identity_or_401() {
    let world = World::new().start();
    let anonymous = world.client().navigate("/upwork/auth/verify").await;
    assert_eq!(anonymous.status, 401, "never a redirect");
    assert!(anonymous.header("www-authenticate").starts_with("Bearer") && anonymous.set_cookies().is_empty());
    let client = world.sign_in(FREELANCER).await;
    for method in [Method::GET, Method::HEAD, Method::POST] {
        let answer = client.call(method, "/upwork/auth/verify").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-upwork-user-id")), (204, FREELANCER));
        assert_eq!(answer.header("x-forwarded-user"), "foofreelancer");
        assert!(answer.set_cookies().is_empty() && answer.body.is_empty());
    }
}

#[tokio::test]
async fn the_session_as_json_has_no_token() {
    let world = World::new().start();
    assert_eq!(world.client().get("/upwork/auth/session").await.problem(), "sign-in-required");
    assert_eq!(world.client().navigate("/upwork/auth/session").await.status, 401, "JSON never redirects");
    let client = world.sign_in(FREELANCER).await;
    let answer = client.get("/upwork/auth/session").await;
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "user": { "id": FREELANCER, "nid": "foofreelancer", "name": "Foo Bar" },
            "organization": { "id": "1181921839933591553", "name": "Foo Bar" },
            "grant": "code",
            "token_expires_at": "2026-11-25T02:00:00Z",
            "expires_at": "2026-12-08T02:00:00Z",
        })
    );
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn another_host_is_sent_to_the_public_url_before_any_cookie_is_set() {
    let world = World::new().start();
    let port = world.url("").rsplit(':').next().unwrap().to_owned();
    let elsewhere = world.client().named(&format!("localhost:{port}"));
    let first = elsewhere.navigate("/x?a=b").await;
    assert_eq!(first.status, 303);
    assert!(first.set_cookies().is_empty());
    assert_eq!(first.location(), world.url("/x?a=b&upwarden_host=1"));
    // There the marker is removed, and the sign-in leads to the right address.
    let client = world.client();
    let cleaned = client.navigate(&first.location()).await;
    assert_eq!((cleaned.status.as_u16(), cleaned.location()), (303, world.url("/x?a=b")));
    let answer = world.sign_in_with(&client, FREELANCER, &cleaned.location()).await;
    assert_eq!(answer.location(), "/x?a=b");

    // If a proxy hides the name, the second redirect in a row names the cause.
    let second = elsewhere.navigate("/x?a=b&upwarden_host=1").await;
    assert_eq!(second.status, 421);
    assert!(second.page().len() > 5 && second.text().contains("trusted_proxies"), "{}", second.text());
    let page = second.text().replace("&#x2f;", "/");
    assert!(page.contains(&format!("href=\"{}\"", world.url(""))), "{page}");
    assert!(second.set_cookies().is_empty());
}

#[tokio::test]
async fn an_app_that_is_down_is_named_and_the_session_stays() {
    let world = World::new().without_app().start();
    let client = world.sign_in(FREELANCER).await;
    let page = client.navigate("/").await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (502, "The app is not responding"));
    let problem = client.get("/").await;
    assert_eq!((problem.status.as_u16(), problem.problem().as_str()), (502, "app-down"));
    assert!(problem.set_cookies().is_empty());
    assert_eq!(client.get("/upwork/auth/session").await.status, 200);
    assert!(world.metric("upwarden_upstream_errors_total{side=\"app\"}").await >= 2);
}

#[tokio::test]
async fn a_name_beyond_ascii_reaches_the_app_percent_encoded() {
    let world = World::new().app(App::default()).start();
    let client = world.sign_in(crate::harness::CLIENT).await;
    client.get("/").await;
    assert_eq!(world.app.last().header("x-upwork-user-name"), "Zo%C3%AB%20%C5%BB%C3%B3%C5%82w");
}

#[tokio::test]
async fn a_long_address_is_returned_to_and_one_that_is_too_long_is_kept_by_its_tab() {
    let world = World::new().start();
    let client = world.client();
    let long = format!("/report?{}", "x".repeat(4096 - 8));
    let asked = client.navigate(&long).await;
    let bytes: usize = asked.set_cookies().iter().map(|line| line.split(';').next().unwrap().len()).sum();
    assert!(bytes < 6_000, "{bytes} bytes leave room in a proxy's 8 KiB");
    let back = world.upwork.consent(&asked.location(), FREELANCER).await;
    assert_eq!(client.navigate(&back).header("sec-fetch-site", "cross-site").await.location(), long);
    // Two tabs at once leave one such cookie.
    let (one, two) = (world.client(), world.client());
    let tabs = [one.navigate(&long).await, two.navigate(&long).await];
    let names = tabs
        .map(|tab| tab.set_cookies().iter().map(|line| line.split('=').next().unwrap().to_owned()).collect::<Vec<_>>());
    assert_eq!(names[0], names[1]);

    let page = world.client().navigate(&format!("{long}x")).await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (401, "Sign in, then reload this page"));
    assert!(page.set_cookies().is_empty());
    let html = page.html();
    assert!(html.contains("/upwork/auth/login?return_to=%2Freport\" target=\"_blank\""), "{html}");
    let path = world.client().navigate(&format!("/{}", "y".repeat(5000))).await;
    assert!(path.status == 401 && path.html().contains("/upwork/auth/login\""), "{}", path.html());
}

#[tokio::test]
async fn http_through_a_trusted_proxy_goes_to_public_url_before_a_sign_in_begins() {
    let plan = World::new().set("public_url", "https://tools.example.com").set("public.trusted_proxies", "127.0.0.1");
    let world = plan.start();
    let client = world.client().named("tools.example.com");
    let by = |target: &str, proto: &str| client.navigate(target).header("x-forwarded-proto", proto);
    for target in ["/x?a=b", "/upwork/auth/login?return_to=/x"] {
        let moved = by(target, "http").await;
        let expected = format!("https://tools.example.com{target}&upwarden_host=1");
        assert_eq!((moved.status.as_u16(), moved.location()), (303, expected));
        assert!(moved.set_cookies().is_empty(), "{target}");
    }
    // A proxy that reports http for every request must not cause a loop.
    let upwork = format!("http://{}/", world.upwork.address);
    for answer in [by("/x?a=b&upwarden_host=1", "http").await, by("/x?a=b", "https").await, client.navigate("/x").await]
    {
        assert!(answer.location().starts_with(&upwork), "{}", answer.location());
    }
}

#[tokio::test]
async fn a_frame_without_a_session_shows_a_page_whose_link_leaves_the_frame() {
    let world = World::new().start();
    let framed = |around: &str| {
        let call = world.client().navigate("/inner").header("sec-fetch-dest", "iframe");
        call.header("sec-fetch-site", "same-origin").header("referer", around)
    };
    let page = framed(&world.url("/board?tab=2")).await;
    assert_eq!((page.status.as_u16(), page.page().as_str()), (401, "Sign in to continue"));
    assert_eq!(page.header("x-frame-options"), "SAMEORIGIN");
    assert!(page.header("content-security-policy").contains("frame-ancestors 'self'"));
    let html = page.html();
    assert!(html.contains("/upwork/auth/login?return_to=%2Fboard%3Ftab%3D2\" target=\"_top\""), "{html}");
    assert!(!html.contains("<header") && !html.contains("<footer"), "it is short: {html}");
    // The page around is not ours, or is not known: the start page.
    for around in ["https://elsewhere.example/board", ""] {
        assert!(framed(around).await.html().contains("/upwork/auth/login\" target=\"_top\""), "{around}");
    }
    let whole = world.client().get("/inner").headers(&[("accept", "text/html"), ("sec-fetch-mode", "cors")]).await;
    assert_eq!(whole.header("x-frame-options"), "DENY");
}
