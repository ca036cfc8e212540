//! The main job in Chromium: what a person sees, and what their browser may hold.

use upwarden::testing::body::Body;

use super::harness::{AGENCY, App, Browser, FREELANCER, TOKEN, World, logs, until, within};

const DEEP: &str = "/deep/page?tab=2&q=a%20b";

/// Opens `target` as a user who accepts at Upwork, and waits for the app's page.
async fn sign_in(browser: &Browser, world: &World, target: &str) {
    browser.open(&world.url(target)).await;
    browser.consent(FREELANCER, "accept").await;
    assert_eq!(browser.text_where("#user", |text| text != "nobody").await, "Foo Bar");
}

#[tokio::test]
async fn the_app_opens_after_consent_at_the_page_first_asked_for_and_no_token_is_seen_anywhere() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).tapped().start();
    sign_in(&browser, &world, DEEP).await;
    assert_eq!(browser.url().await, world.url(DEEP));
    assert_eq!(browser.text("#path").await, DEEP);
    assert_eq!(browser.text("#nid").await, "foofreelancer");
    assert_eq!(browser.text("#user-id").await, FREELANCER);

    // The page's own script asked the API.
    let graphql = browser.text_where("#graphql", |text| text.contains("\"data\"")).await;
    assert!(graphql.contains(FREELANCER) && graphql.contains("Foo Bar"), "{graphql}");
    browser.text_where("#jobs", |text| !text.contains("loading")).await;
    // Long-lived connections work behind upwarden.
    assert_eq!(browser.text_where("#echo", |text| text.starts_with("hello")).await, "hello, Foo Bar");
    let event = browser.text_where("#events", |text| text.ends_with('Z')).await;
    browser.text_where("#events", |text| text.ends_with('Z') && text != event).await;
    // A posted form and the app's server work, too.
    browser.write("#text", "milk & bread").await;
    browser.click("form[action='/notes'] button").await;
    browser.text_where("#notes", |text| text.contains("Foo Bar milk & bread")).await;
    browser.click("button[data-call=as-service]").await;
    browser.text_where("#as-service", |text| text.contains("corgeservice")).await;
    browser.open(&world.url("/headers")).await;
    let headers = browser.source().await;
    assert!(headers.contains("x-upwork-user-id") && !headers.contains("cookie") && !headers.contains("authorization"));
    browser.open(&world.url("/upwork/auth/")).await;
    assert_eq!(browser.text("h1").await, "Signed in as Foo Bar");
    browser.open(&world.url("/upwork/auth/session")).await;
    browser.open(&world.url("/upwork/api/hr/v2/users/me.json")).await;
    assert!(browser.source().await.contains("foo@example.com"));

    // The cookie is out of every script's reach, and sealed. (An answer of the API is sandboxed and has no cookies at all.)
    browser.open(&world.url("/")).await;
    assert_eq!(browser.run("return document.cookie").await, "");
    let cookies = browser.cookies().await;
    let ours = cookies.iter().find(|cookie| cookie.name == "upwarden").expect("the session's cookie");
    assert_eq!(ours.http_only, Some(true));

    // No token in anything that the browser or the app saw, nor in a log line.
    let tap = world.tap.clone().expect("the plan says so");
    let places = [
        ("between browser and sidecar", tap.wire.text()),
        ("what the app received", world.app.received.text()),
        ("what the app answered", world.app.answered.text()),
        ("the log", logs()),
    ];
    for (place, text) in places {
        assert!(text.len() > 1000, "something was written down: {place}");
        let found = text.find(TOKEN).map(|at| text[at.saturating_sub(200)..].chars().take(300).collect::<String>());
        assert_eq!(found, None, "{place}");
    }
    assert!(!world.app.received.text().contains("upwarden="), "the app sees no cookie of ours");
    browser.quit().await;
}

#[tokio::test]
async fn declining_shows_its_page_and_the_way_back_in() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    browser.open(&world.url(DEEP)).await;
    browser.consent(FREELANCER, "decline").await;
    assert_eq!(browser.text("h1").await, "You declined at Upwork");
    assert_eq!(
        browser.url().await,
        world.url("/upwork/auth/callback"),
        "neither code nor state stays in the address bar"
    );
    assert_eq!(browser.cookies().await.len(), 0);
    browser.click("a.button").await;
    browser.consent(AGENCY, "accept").await;
    assert_eq!(browser.text("#user").await, "Baz Quux");
    assert_eq!(browser.url().await, world.url(DEEP));
    browser.quit().await;
}

#[tokio::test]
async fn a_second_tab_is_signed_in_and_parallel_tabs_all_finish() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    // Three tabs are at Upwork before the first accepts.
    let mut tabs = vec![browser.here().await];
    browser.open(&world.url("/tab/0")).await;
    for tab in 1..3 {
        tabs.push(browser.tab().await);
        browser.open(&world.url(&format!("/tab/{tab}"))).await;
    }
    for (tab, handle) in tabs.iter().enumerate().rev() {
        browser.front(handle).await;
        browser.consent(FREELANCER, "accept").await;
        assert_eq!(browser.text("#user").await, "Foo Bar");
        assert_eq!(browser.url().await, world.url(&format!("/tab/{tab}")));
    }
    browser.tab().await;
    browser.open(&world.url("/another")).await;
    assert_eq!(browser.text("#user").await, "Foo Bar");
    assert_eq!(browser.cookies().await.len(), 1, "no sign-in is left half done");
    browser.quit().await;
}

#[tokio::test]
async fn signing_out_by_the_page_ends_it_and_back_shows_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    sign_in(&browser, &world, "/").await;
    browser.click("#account").await;
    assert_eq!(browser.text("h1").await, "Signed in as Foo Bar");
    let page = browser.text("main").await;
    for part in ["foofreelancer", FREELANCER, "Signed in until", "curl "] {
        assert!(page.contains(part), "{part}: {page}");
    }
    browser.click("form[action='/upwork/auth/logout'] button").await;
    browser.text_where("h1", |text| text == "You are signed out").await;
    assert_eq!(browser.cookies().await.len(), 0);
    assert!(world.counters().revoke >= 1);

    // While the app is connected at Upwork, a visit signs in again without a screen, so the grants are revoked first.
    // Back requests the page again, and no cache shows the old one.
    world.upwork.sandbox.revoke_all();
    for _ in 0..2 {
        browser.back().await;
        browser.text("button[name=decision][value=accept]").await;
        assert!(browser.url().await.starts_with(&format!("http://{}/", world.upwork.address)));
    }
    browser.quit().await;
}

#[tokio::test]
async fn signing_out_by_the_apps_own_link_asks_first() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    sign_in(&browser, &world, "/").await;
    browser.click("#sign-out").await;
    assert_eq!(browser.text("h1").await, "Sign out?");
    browser.click("form button").await;
    browser.text_where("h1", |text| text == "You are signed out").await;
    browser.quit().await;
}

#[tokio::test]
async fn another_name_of_the_host_ends_at_the_public_url_signed_in() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    browser.open(&world.url(DEEP).replace("127.0.0.1", "localhost")).await;
    browser.consent(FREELANCER, "accept").await;
    assert_eq!(browser.text("#user").await, "Foo Bar");
    assert_eq!(browser.url().await, world.url(DEEP));
    browser.quit().await;
}

#[tokio::test]
async fn a_form_posted_after_the_session_ended_gets_a_page_that_loses_nothing() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    sign_in(&browser, &world, "/").await;
    browser.write("#text", "typed for an hour").await;
    world.turn(std::time::Duration::from_hours(15 * 24));
    browser.click("form[action='/notes'] button").await;
    browser.text_where("h1", |text| text == "Sign in, then send again").await;
    // As the page says: sign in in another tab, come back, press Back, send again.
    let before = browser.here().await;
    browser.tab().await;
    browser.open(&world.url("/")).await;
    assert_eq!(browser.text("#user").await, "Foo Bar", "consent was given before");
    browser.front(&before).await;
    browser.back().await;
    browser.text_where("#user", |text| text == "Foo Bar").await;
    browser.quit().await;
}

#[tokio::test]
async fn a_page_of_another_site_cannot_use_the_api_with_the_browsers_cookie() {
    let Some(browser) = Browser::start().await else { return };
    let evil = App::new(|_| async {
        let page = "<!doctype html><title>evil</title><p id=said>waiting</p>";
        http::Response::builder()
            .header("content-type", "text/html")
            .body(upwarden::testing::body::Body::full(page))
            .expect("a page")
    });
    let world = World::new().app(App::sample()).start();
    let elsewhere = World::new().app(evil).public("/").start();
    sign_in(&browser, &world, "/").await;
    // Another port is another origin, but the same site: the cookie goes along, and Sec-Fetch-Site says so.
    browser.open(&elsewhere.url("/")).await;
    let script = format!(
        "fetch('{}', {{method: 'POST', credentials: 'include', mode: 'no-cors', body: '{{}}'}})
            .finally(() => document.getElementById('said').textContent = 'done')",
        world.url("/upwork/graphql")
    );
    let before = world.counters().api;
    browser.run(&script).await;
    browser.text_where("#said", |text| text == "done").await;
    assert_eq!(world.counters().api, before, "the API was not asked");
    let refused = logs().lines().any(|line| line.contains("\"fault\":\"cross-site\""));
    assert!(refused, "and it was the guard");
    within(browser.quit()).await;
}

/// An app whose service worker passes every request on by `pass`.
fn with_worker(pass: &'static str) -> App {
    App::new(move |request| async move {
        let script = "addEventListener('install', () => skipWaiting());
            addEventListener('activate', event => event.waitUntil(clients.claim()));
            addEventListener('fetch', event => event.respondWith(PASS));";
        let page = "<!doctype html><title>app</title><p id=worker>none</p><script>
            navigator.serviceWorker.register('/sw.js');
            const show = () => document.getElementById('worker').textContent = 'passes ' + location.pathname;
            if (navigator.serviceWorker.controller) show();
            navigator.serviceWorker.addEventListener('controllerchange', show);
            </script>";
        let (kind, text) = match request.uri().path() {
            "/sw.js" => ("text/javascript", script.replace("PASS", pass)),
            _ => ("text/html", page.to_owned()),
        };
        let response = http::Response::builder().header("content-type", kind);
        response.body(upwarden::testing::body::Body::full(text)).expect("a response")
    })
}

#[tokio::test]
async fn an_apps_service_worker_locks_no_one_out() {
    let Some(browser) = Browser::start().await else { return };
    for (pass, shows_page) in [("fetch(event.request)", false), ("fetch(event.request, {cache: 'no-cache'})", true)] {
        let world = World::new().app(with_worker(pass)).start();
        // The first visit, before there is a worker; and one that it passes on.
        browser.open(&world.url("/first")).await;
        browser.consent(FREELANCER, "accept").await;
        browser.text_where("#worker", |text| text == "passes /first").await;
        browser.open(&world.url("/second")).await;
        browser.text_where("#worker", |text| text == "passes /second").await;
        // The session has ended, and the worker is still there.
        browser.forget_cookies().await;
        world.upwork.sandbox.revoke_all();
        browser.open(&world.url("/third")).await;
        if shows_page {
            assert_eq!(browser.text("h1").await, "Sign in to continue", "{pass}");
            browser.click("a.button").await;
        }
        browser.consent(FREELANCER, "accept").await;
        browser.text_where("#worker", |text| text == "passes /third").await;
        assert_eq!(browser.url().await, world.url("/third"), "{pass}");
        browser.forget_cookies().await;
    }
    within(browser.quit()).await;
}

#[tokio::test]
#[ignore = "draws docs/demo.png anew: cargo test --test it the_picture -- --ignored"]
async fn the_picture_of_the_readme() {
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).set("app.tickets", true).start();
    sign_in(&browser, &world, "/").await;
    browser.write("#text", "The weekly report is ready.").await;
    browser.click("form[action='/notes'] button").await;
    browser.text_where("#notes", |text| text.contains("weekly")).await;
    for id in ["#graphql", "#jobs", "#events", "#echo"] {
        browser.text_where(id, |text| !text.contains("loading") && !text.contains("connecting")).await;
    }
    for (call, user) in [("as-user", "foofreelancer"), ("as-service", "corgeservice")] {
        browser.click(&format!("button[data-call={call}]")).await;
        browser.text_where(&format!("#{call}"), |text| text.contains(user)).await;
    }
    browser.run("window.scrollTo(0, 0); document.activeElement.blur()").await;
    let picture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/demo.png");
    std::fs::write(picture, browser.picture().await).unwrap();
    browser.quit().await;
}

#[tokio::test]
async fn a_frame_whose_session_ended_shows_a_link_that_leaves_it_and_leads_back_to_the_page_around_it() {
    let Some(browser) = Browser::start().await else { return };
    let app = App::new(|request| async move {
        let html = match request.uri().path() {
            "/board" => "<h1>board</h1><iframe src='/inner'></iframe>",
            _ => "<h1>inner</h1>",
        };
        http::Response::builder().header("content-type", "text/html").body(Body::full(html)).unwrap()
    });
    let world = World::new().app(app).public("/board").start();
    browser.open(&world.url("/board?tab=2")).await;
    let inner = |script: &str| format!("return document.querySelector('iframe').contentDocument?.{script} ?? null");
    until("the framed page", async || {
        let heading = browser.run(&inner("querySelector('h1')?.innerText")).await;
        (heading == "Sign in to continue").then_some(())
    })
    .await;
    browser.run("document.querySelector('iframe').contentDocument.querySelector('a.button').click()").await;
    browser.consent(FREELANCER, "accept").await;
    assert_eq!(browser.text("h1").await, "board");
    assert_eq!(browser.url().await, world.url("/board?tab=2"));
    until("the app in the frame", async || {
        (browser.run(&inner("querySelector('h1')?.innerText")).await == "inner").then_some(())
    })
    .await;
    browser.quit().await;
}
