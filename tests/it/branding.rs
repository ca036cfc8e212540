//! The operator's name, logo, colour and help on our pages, and where a sign-out leads: over real sockets and in Chromium.

use std::path::Path;

use super::accessibility::{DARK, axe, broken};
use super::harness::{App, Browser, FREELANCER, Plan, World, within};

const SVG: &str = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 20' width='40' height='20'>\
    <rect width='40' height='20' fill='#e4572e'/>\
    <script>document.documentElement.setAttribute('data-ran', 'yes')</script></svg>";

/// One red pixel.
const PNG: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x02\0\0\0\x90wS\xde\0\0\0\x0cIDATx\x9cc\xf8\xcf\xc0\
    \0\0\x03\x01\x01\0\xc9\xfe\x92\xef\0\0\0\0IEND\xaeB`\x82";

fn branded(logo: &Path) -> Plan {
    World::new()
        .set("pages.name", "Acme <Tools>")
        .set("pages.logo_file", logo.display())
        .set("pages.support", "help@example.com")
        .set("pages.accent", "#ffd400")
}

fn written(folder: &tempfile::TempDir, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn the_logo_is_served_by_its_content_and_no_script_in_it_may_run() {
    let folder = tempfile::tempdir().unwrap();
    // Whatever their names.
    for (name, content, content_type) in [("a.txt", SVG.as_bytes(), "image/svg+xml"), ("b.svg", PNG, "image/png")] {
        let world = branded(&written(&folder, name, content)).start();
        let logo = world.client().get("/upwork/auth/logo").await;
        assert_eq!((logo.status.as_u16(), logo.header("content-type")), (200, content_type));
        assert_eq!(logo.body, content);
        assert_eq!(logo.header("x-content-type-options"), "nosniff");
        let policy = logo.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'") && policy.ends_with("; sandbox"), "{policy}");
        assert!(!policy.contains("script"), "{policy}");
        assert_eq!(world.client().post("/upwork/auth/logo", "").await.status, 405);
    }
    assert_eq!(World::new().start().client().get("/upwork/auth/logo").await.status, 404);
}

#[tokio::test]
async fn every_kind_of_page_has_the_name_and_the_way_to_get_help() {
    let folder = tempfile::tempdir().unwrap();
    let world = branded(&written(&folder, "logo.svg", SVG.as_bytes())).start();
    let client = world.sign_in(FREELANCER).await;
    for (target, title) in [
        ("/upwork/auth/", "Your account"),
        ("/upwork/auth/logout", "Sign out?"),
        ("/upwork/nothing", "There is nothing here"),
    ] {
        let html = client.navigate(target).await.text();
        assert!(html.contains(&format!("<title>{title} · Acme &lt;Tools&gt;</title>")), "{html}");
        assert!(html.contains("<span>Acme &lt;Tools&gt;</span>"), "{html}");
        assert!(html.contains("handles Upwork sign-in for Acme &lt;Tools&gt;."), "{html}");
        assert!(html.contains("<a href=\"mailto:help@example.com\">help@example.com</a>"), "{html}");
        assert_eq!(html.matches("/auth/logo?v=").count(), 2, "{html}");
    }
    let account = client.navigate("/upwork/auth/").await.text();
    assert!(account.contains(">Back to Acme &lt;Tools&gt;</a>"), "{account}");
    let version = |world: &World| {
        let page = world.client();
        async move {
            page.navigate("/upwork/auth/logout").await.text().split("style.css?v=").nth(1).unwrap()[..16].to_owned()
        }
    };
    let plain = World::new().start();
    assert_ne!(version(&world).await, version(&plain).await, "another accent is another stylesheet");
}

#[tokio::test]
async fn branded_pages_can_be_read_in_light_and_in_dark_and_their_logo_is_seen() {
    let Some(axe) = axe() else { return };
    let folder = tempfile::tempdir().unwrap();
    let world = branded(&written(&folder, "logo.svg", SVG.as_bytes())).app(App::sample()).start();
    // Yellow is unreadable on white, so a darker shade is used; on a dark background it is readable.
    for (scheme, accent) in [(&[][..], "rgb(127, 106, 0)"), (&[DARK], "rgb(255, 212, 0)")] {
        let Some(browser) = Browser::with(scheme).await else { return };
        browser.open(&world.url("/")).await;
        browser.consent(FREELANCER, "accept").await;
        browser.text_where("#user", |text| text == "Foo Bar").await;
        for target in ["/upwork/nothing", "/upwork/auth/", "/upwork/auth/logout"] {
            for width in [1280, 500] {
                browser.width(width).await;
                browser.open(&world.url(target)).await;
                assert_eq!(broken(&browser, &axe).await, "", "{target}, {scheme:?}, {width} wide");
                let overflow = browser.run("return document.documentElement.scrollWidth - innerWidth").await;
                assert!(overflow.as_i64().is_some_and(|more| more <= 0), "{target} at {width}: {overflow} too wide");
            }
            let seen =
                "const logo = document.querySelector('header img'); await logo.decode(); return logo.naturalWidth";
            assert_eq!(browser.run(&format!("return (async () => {{ {seen} }})()")).await, 40, "{target}");
            let ground = "return getComputedStyle(document.querySelector('.button')).backgroundColor";
            assert_eq!(browser.run(ground).await, accent, "{target}, {scheme:?}");
            let title = browser.run("return document.title").await;
            assert!(title.as_str().is_some_and(|title| title.ends_with(" · Acme <Tools>")), "{title}");
        }
        browser.open(&world.url("/upwork/auth/logo")).await;
        let source = browser.source().await;
        assert!(source.contains("<rect") && !source.contains("data-ran=\""), "{source}");
        within(browser.quit()).await;
    }
}

const LISTED: &str = "https://www.example.com/bye,https://intranet.example.com/";

#[tokio::test]
async fn a_sign_out_leads_to_this_host_or_to_an_address_that_is_listed() {
    let world = World::new().set("pages.sign_out_to", LISTED).start();
    let here = world.url("/bye?x=1");
    let long = format!("/bye?{}", "/".repeat(4000));
    for (given, location) in [
        ("/bye", "/bye"),
        (&long, &long),
        (here.as_str(), "/bye?x=1"),
        ("https://www.example.com/bye", "https://www.example.com/bye"),
        ("https://www.example.com/bye/now?from=tools#top", "https://www.example.com/bye/now?from=tools#top"),
        ("https://intranet.example.com", "https://intranet.example.com/"),
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(given.as_bytes()).collect();
        let client = world.sign_in(FREELANCER).await;
        let asked = client.navigate(&format!("/upwork/auth/logout?return_to={encoded}")).await;
        assert_eq!(
            (asked.status.as_u16(), asked.page().as_str()),
            (200, "Sign out?"),
            "viewing the page ends no session"
        );
        assert!(asked.text().contains("<input type=\"hidden\" name=\"return_to\" value=\""), "{given}");
        assert!(!asked.header("content-security-policy").contains("form-action"), "Chromium would stop the redirect");
        let out = client.post("/upwork/auth/logout", format!("return_to={encoded}")).await;
        assert_eq!((out.status.as_u16(), out.location().as_str()), (303, location));
        assert!(client.cookies().is_empty());
        // Signed out already: by form, by query, or by a link.
        for again in [
            client.post("/upwork/auth/logout", format!("return_to={encoded}")).await,
            client.post(&format!("/upwork/auth/logout?return_to={encoded}"), "").await,
            client.navigate(&format!("/upwork/auth/logout?return_to={encoded}")).await,
        ] {
            assert_eq!((again.status.as_u16(), again.location().as_str()), (303, location));
        }
    }
}

#[tokio::test]
async fn a_sign_out_leads_nowhere_else() {
    let world = World::new().set("pages.sign_out_to", LISTED).start();
    let client = world.client();
    for given in [
        "https://evil.example/",
        "//www.example.com/bye",
        "/\\www.example.com/bye",
        "https://www.example.com/",
        "https://www.example.com/byebye",
        "https://www.example.com/bye/%2e%2e%2fx",
        "https://www.example.com@evil.example/bye",
        "https://www.example.com.evil.example/bye",
        "https://evil.example\\@www.example.com/bye",
        "http://www.example.com/bye",
        "https://www.example.com:444/bye",
        "javascript:alert(1)",
        "/upwork/auth/logout",
        "/upwork/auth/login",
        "",
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(given.as_bytes()).collect();
        let out = client.post("/upwork/auth/logout", format!("return_to={encoded}")).await;
        assert_eq!((out.status.as_u16(), out.location().as_str()), (303, "/upwork/auth/logout"), "{given}");
        let page = client.navigate(&format!("/upwork/auth/logout?return_to={encoded}")).await;
        assert_eq!((page.status.as_u16(), page.page().as_str()), (200, "You are signed out"), "{given}");
    }
}

#[tokio::test]
async fn the_browser_follows_a_sign_out_to_another_host_and_to_a_public_page() {
    let Some(browser) = Browser::start().await else { return };
    let bye = || {
        App::new(|_| async {
            let response = http::Response::builder().header("content-type", "text/html");
            response.body(upwarden::testing::body::Body::full("<h1>Goodbye</h1>")).unwrap()
        })
    };
    let elsewhere = World::open(bye()).start();
    let world = World::open(bye()).set("pages.sign_out_to", elsewhere.url("/bye")).start();
    for (there, connected) in [(elsewhere.url("/bye?from=tools"), false), (world.url("/bye"), true)] {
        browser.open(&world.url("/upwork/auth/login?return_to=/upwork/auth/")).await;
        // Where the app is connected at Upwork, a sign-in shows no screen.
        if !connected {
            browser.consent(FREELANCER, "accept").await;
        }
        browser.text_where("h1", |text| text == "Signed in as Foo Bar").await;
        browser.open(&world.url(&format!("/upwork/auth/logout?return_to={there}"))).await;
        browser.click("form button").await;
        browser.text_where("h1", |text| text == "Goodbye").await;
        assert_eq!(browser.url().await, there);
        assert_eq!(browser.cookies().await.len(), 0);
    }
    within(browser.quit()).await;
}

#[tokio::test]
#[ignore = "draws branded pages into target/pictures: cargo test --test it pictures_of -- --ignored"]
async fn pictures_of_branded_pages() {
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/pictures");
    std::fs::create_dir_all(&pictures).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let world = branded(&written(&folder, "logo.svg", SVG.as_bytes())).app(App::sample()).start();
    for (scheme, flags) in [("light", &[][..]), ("dark", &[DARK])] {
        let Some(browser) = Browser::with(flags).await else { return };
        browser.open(&world.url("/")).await;
        browser.consent(FREELANCER, "accept").await;
        browser.text_where("#user", |text| text == "Foo Bar").await;
        for (name, target) in
            [("account", "/upwork/auth/"), ("confirm", "/upwork/auth/logout"), ("problem", "/upwork/nothing")]
        {
            for width in [1280, 500] {
                browser.width(width).await;
                browser.open(&world.url(target)).await;
                let file = pictures.join(format!("branded-{name}-{scheme}-{width}.png"));
                std::fs::write(file, browser.picture().await).unwrap();
            }
        }
        within(browser.quit()).await;
    }
}
