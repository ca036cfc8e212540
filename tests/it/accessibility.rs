//! axe (WCAG 2.2 and its best practices) on every page that upwarden itself shows, in Chromium: light and dark, wide and narrow.

use http::{Method, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::plain;
use upwarden::testing::pages::{self, Page};

use super::harness::{App, Browser, FREELANCER, World, has, within};
use super::pages::all;

/// Chromium for a user who prefers dark pages.
pub(crate) const DARK: &str = "--blink-settings=preferredColorScheme=0";

pub(crate) fn axe() -> Option<String> {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/axe/node_modules/axe-core/axe.min.js");
    let script = std::fs::read_to_string(file).ok();
    has(script.is_some(), "axe-core (tests/run fetches it)");
    script
}

/// The rules that the page in front breaks, each with the places.
pub(crate) async fn broken(browser: &Browser, axe: &str) -> String {
    let script = "const found = await axe.run(document, { resultTypes: ['violations'] });
        return found.violations.map(rule => rule.id + ': ' + rule.nodes.map(node => node.html).join(' | ')).join('\\n');";
    let found = browser.run(&format!("{axe};\nreturn (async () => {{ {script} }})();")).await;
    found.as_str().expect("a text").to_owned()
}

/// Serves the pages by their place, and the stylesheet.
async fn serve(shown: Vec<(&'static str, Page)>) -> (String, Vec<&'static str>) {
    let names = shown.iter().map(|(name, _)| *name).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let shown = std::sync::Arc::new(shown);
    let respond = move |request: http::Request<Body>, _| {
        let shown = shown.clone();
        async move {
            let place = request.uri().path().trim_start_matches('/').parse().ok();
            let response = Response::builder();
            let (response, text) = match place.and_then(|place: usize| shown.get(place)) {
                Some((name, page)) => {
                    // The page of an app that is down checks again, and stays while the answer is the same.
                    let status = if *name == "problem" { StatusCode::BAD_GATEWAY } else { StatusCode::OK };
                    // The page of the implicit grant would continue at once.
                    let csp = if *name == "fragment" { pages::CSP } else { &page.csp };
                    let response = response.status(status).header("content-security-policy", csp);
                    (response.header("content-type", "text/html; charset=utf-8"), page.html.clone())
                }
                None => (
                    response.header("content-type", "text/css; charset=utf-8"),
                    pages::Branding::default().stylesheet().to_owned(),
                ),
            };
            let text = if request.method() == Method::HEAD { String::new() } else { text };
            response.body(Body::full(text)).expect("a response")
        }
    };
    tokio::spawn(plain::serve(listener, respond, CancellationToken::new()));
    (format!("http://{address}"), names)
}

#[tokio::test]
async fn no_page_breaks_a_rule_of_axe() {
    let Some(axe) = axe() else { return };
    let (base, names) = serve(all("Ann")).await;
    for scheme in [&[][..], &[DARK]] {
        let Some(browser) = Browser::with(scheme).await else { return };
        for width in [1280, 500] {
            browser.width(width).await;
            for (place, name) in names.iter().enumerate() {
                // Both schemes, and each width once.
                if width == 500 && !scheme.is_empty() {
                    continue;
                }
                browser.open(&format!("{base}/{place}")).await;
                assert_eq!(broken(&browser, &axe).await, "", "{name}, {scheme:?}, {width} wide");
                let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
                assert!(overflow.as_i64().is_some_and(|more| more <= 0), "{name} at {width}: {overflow} too wide");
            }
        }
        within(browser.quit()).await;
    }
}

#[tokio::test]
async fn neither_does_a_page_of_the_demo() {
    let Some(axe) = axe() else { return };
    let Some(browser) = Browser::start().await else { return };
    let world = World::new().app(App::sample()).start();
    browser.open(&world.url("/")).await;
    browser.text("button[name=decision][value=accept]").await;
    assert_eq!(broken(&browser, &axe).await, "", "the sandbox's consent page");
    browser.consent(FREELANCER, "accept").await;
    browser.text_where("#user", |text| text == "Foo Bar").await;
    assert_eq!(broken(&browser, &axe).await, "", "the sample app");
    within(browser.quit()).await;
}

#[tokio::test]
async fn the_page_of_an_app_that_is_down_opens_the_app_once_it_is_up() {
    let Some(browser) = Browser::start().await else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("app.sock");
    let world = World::new().set("app.url", format!("unix:{}", socket.display())).start();
    browser.open(&world.url("/deep?x=1")).await;
    browser.consent(FREELANCER, "accept").await;
    browser.text_where("h1", |text| text == "The app is not responding").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    tokio::spawn(App::sample().on(&socket).serve(listener, String::new()));
    browser.text_where("#user", |text| text == "Foo Bar").await;
    assert_eq!(browser.url().await, world.url("/deep?x=1"));
    within(browser.quit()).await;
}

#[tokio::test]
#[ignore = "draws every page into target/pictures: cargo test --test it pictures_of -- --ignored"]
async fn pictures_of_every_page() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (base, names) = serve(all("Ann")).await;
    for (scheme, flags) in [("light", &[][..]), ("dark", &[DARK])] {
        let Some(browser) = Browser::with(flags).await else { return };
        for (place, name) in names.iter().enumerate() {
            for width in [1280, 500] {
                browser.width(width).await;
                browser.open(&format!("{base}/{place}")).await;
                let file = format!("{}-{scheme}-{width}.png", name.replace([' ', ','], "-"));
                std::fs::write(folder.join(file), browser.picture().await).expect("it is written");
            }
        }
        within(browser.quit()).await;
    }
}
