//! upwarden's own pages: well formed for people and screen readers, and safe against hostile texts.

#![expect(clippy::unwrap_used, reason = "a helper fails its test as a test does")]

use std::sync::LazyLock;

use upwarden::testing::clock::Timestamp;
use upwarden::testing::pages::{self, Branding, Frame, Neighbour, Page};
use upwarden::testing::secret::Secret;

/// A text for every field that a stranger may choose.
const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}";

static PLAIN: LazyLock<Branding> = LazyLock::new(Branding::default);

fn frame(text: &str) -> Frame<'_> {
    Frame { prefix: "/upwork", request_id: Some(text), branding: &PLAIN }
}

fn problem(text: &str) -> Page {
    pages::problem(&pages::ProblemView {
        frame: frame(text),
        framed: false,
        status: 502,
        title: text,
        cause: text,
        remedy: text,
        actions: &[pages::Action { label: text, href: "/upwork/auth/login?return_to=%2F\"><script>", new_tab: true }],
        retry_after: Some(5),
        wipe_query: false,
        details: &[(text, text)],
        copy: None,
    })
}

fn not_admitted(text: &str) -> Page {
    pages::problem(&pages::ProblemView {
        frame: frame(text),
        status: 403,
        title: text,
        cause: text,
        remedy: text,
        actions: &[],
        retry_after: None,
        wipe_query: true,
        details: &[],
        copy: Some((text, text)),
        framed: false,
    })
}

fn account(text: &str) -> Page {
    let now = Timestamp::from_seconds(1_795_485_600);
    let token = Secret::new(text);
    let row = pages::TokenRow {
        id: text,
        name: text,
        starts_with: text,
        created_at: now,
        expires_at: now,
        last_used_at: Some(now),
        read_only: true,
        opens_api: true,
        opens_app: true,
    };
    pages::account(&pages::AccountView {
        frame: frame(text),
        public_url: text,
        now,
        user: pages::User { name: Some(text), id: text, nid: text },
        organization: Some(pages::Organization { name: Some(text), id: text }),
        grant: text,
        signed_in_until: now,
        token_expires_at: now,
        last_refresh: Some(pages::LastRefresh { at: now, outcome: pages::RefreshOutcome::Unavailable }),
        everywhere: true,
        quota: Some(pages::Quota { left: 39_212, of: 40_000, resets_at: now }),
        neighbour: Some((Neighbour::Unix(text), true)),
        service: true,
        tokens: Some(pages::TokensView { rows: &[row], app: true }),
        new_token: Some(pages::NewToken { name: text, token: &token }),
    })
}

fn bare_account() -> Page {
    let now = Timestamp::from_seconds(1_795_485_600);
    pages::account(&pages::AccountView {
        frame: Frame { prefix: "/upwork", request_id: None, branding: &PLAIN },
        public_url: "https://tools.example.com",
        now,
        user: pages::User { name: None, id: "1", nid: "foofreelancer" },
        organization: None,
        grant: "code",
        signed_in_until: now,
        token_expires_at: now,
        last_refresh: None,
        everywhere: false,
        quota: None,
        neighbour: None,
        service: true,
        tokens: None,
        new_token: None,
    })
}

/// Every page, with this text wherever one can be given.
pub(crate) fn all(text: &str) -> Vec<(&'static str, Page)> {
    let signed_out =
        |revocation| pages::signed_out(&pages::SignedOutView { frame: frame(text), revocation, everywhere: true });
    vec![
        ("problem", problem(text)),
        ("problem, copy", not_admitted(text)),
        ("notice", pages::notice(&pages::NoticeView { frame: frame(text), title: text, text })),
        ("account", account(text)),
        ("bare account", bare_account()),
        ("signed out", signed_out(pages::Revocation::Revoked)),
        ("signed out, kept", signed_out(pages::Revocation::KeptForTokens)),
        ("signed out, failed", signed_out(pages::Revocation::Failed)),
        ("signed out, refused", signed_out(pages::Revocation::Refused)),
        ("signed out, none", signed_out(pages::Revocation::NoSession)),
        (
            "confirm",
            pages::confirm_sign_out(&pages::ConfirmView {
                frame: frame(text),
                user: text,
                everywhere: true,
                return_to: None,
            }),
        ),
        ("fragment", pages::fragment(&pages::FragmentView { frame: frame(text), callback_path: text })),
    ]
}

/// The value of each `name="…"` in a document.
fn attributes<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!(" {name}=\"");
    html.split(start.as_str()).skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

fn script(html: &str) -> Option<&str> {
    html.split_once("<script>").and_then(|(_, rest)| rest.split_once("</script>")).map(|(script, _)| script)
}

#[test]
fn every_page_has_its_language_title_landmarks_and_one_heading() {
    for (name, Page { html, .. }) in all("Ann") {
        assert!(html.starts_with("<!doctype html>\n<html lang=\"en\">"), "{name}");
        for part in ["<title>", "<header", "<main id=\"main\">", "<footer", "<h1>", "name=\"viewport\""] {
            assert_eq!(html.matches(part).count(), 1, "{name}: {part}");
        }
        assert!(html.contains(&format!("upwarden {}", env!("CARGO_PKG_VERSION"))), "{name}");
        let inline = html.contains(&format!("<style>{}</style>", PLAIN.stylesheet()));
        let linked = html.contains("/auth/style.css?v=");
        assert!(inline == (name == "notice") && linked != inline, "{name}");
    }
}

#[test]
fn no_hostile_text_escapes_its_place_on_a_page() {
    for (name, Page { html, .. }) in all(HOSTILE) {
        // What a template failing would leave.
        assert!(!html.contains("could not render"), "{name}");
        let own = usize::from(script(&html).is_some());
        assert_eq!(html.matches("<script").count(), own, "{name}");
        assert!(!html.contains("<img"), "{name}");
        assert!(!html.contains("7*7 }}") || html.contains("{{ 7*7 }}"), "{name}");
        assert!(!html.contains("\"'>"), "{name}");
    }
}

#[test]
fn no_page_has_inline_styles_event_handlers_or_other_origins() {
    for (name, Page { html, .. }) in all("Ann") {
        assert!((name == "notice" || !html.contains("<style")) && attributes(&html, "style").is_empty(), "{name}");
        assert!(!html.contains("onclick") && !html.contains("onload") && !html.contains("javascript:"), "{name}");
        for address in ["href", "src", "action"].iter().flat_map(|attribute| attributes(&html, attribute)) {
            let own = address.starts_with("/upwork")
                || address.starts_with("&#x2f;")
                || address.starts_with("data:image/svg");
            assert!(own, "{name}: {address}");
        }
    }
    assert!(!PLAIN.stylesheet().contains("url(") && !PLAIN.stylesheet().contains("@import"));
}

#[test]
fn the_policy_allows_exactly_the_script_that_is_there() {
    for (name, Page { html, csp }) in all("Ann") {
        // The one page whose post may lead to another origin: Chromium would hold `form-action` against the redirect.
        let csp = if name == "fragment" { csp.replace("data:;", "data:; form-action 'self';") } else { csp };
        // The one whose script asks this site.
        let csp = if name == "problem" { csp.strip_suffix("; connect-src 'self'").unwrap().to_owned() } else { csp };
        // The one that brings its stylesheet along.
        let csp = match csp.split_once("style-src 'sha256-") {
            Some((before, after)) if name == "notice" => format!("{before}style-src 'self{}", &after[44..]),
            Some(_) | None => csp,
        };
        assert!(csp.starts_with(pages::CSP), "{name}");
        match script(&html) {
            Some(script) => assert_eq!(csp, pages::csp_with_script(script), "{name}"),
            None => assert_eq!(csp, pages::CSP, "{name}"),
        }
    }
}

#[test]
fn every_field_has_a_label_and_every_form_posts() {
    for (name, Page { html, .. }) in all("Ann") {
        assert_eq!(html.matches("<form").count(), html.matches("method=\"post\"").count(), "{name}");
        let labelled = attributes(&html, "for");
        for field in html.split("<input ").skip(1).chain(html.split("<select ").skip(1)) {
            let tag = field.split('>').next().unwrap();
            if !tag.contains("type=\"hidden\"") {
                let tag = format!(" {tag}");
                assert!(attributes(&tag, "id").iter().all(|id| labelled.contains(id)), "{name}: {tag}");
            }
        }
    }
}

#[test]
fn a_problem_checks_again_only_if_it_should() {
    let asks = problem("Ann").html;
    assert!(asks.contains("<noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>"), "{asks}");
    assert!(asks.contains("data-retry=\"5\" data-status=\"502\""), "{asks}");
    let text = pages::SIGN_IN_NOT_SENT;
    let page = pages::problem(&pages::ProblemView {
        frame: Frame { prefix: "/upwork", request_id: None, branding: &PLAIN },
        framed: false,
        status: 401,
        title: text.title,
        cause: &text.cause,
        remedy: &text.remedy,
        actions: &[],
        retry_after: None,
        wipe_query: false,
        details: &[],
        copy: None,
    });
    assert!(!page.html.contains("http-equiv") && !page.html.contains("<details>"));
    assert_eq!(page.html.matches("<li>").count(), 3, "each line of the remedy is a step");
}

#[test]
fn names_of_settings_are_set_as_code() {
    let html = problem("a `b<c>` d ` e").html;
    assert!(html.contains("<p class=\"lead\">a <code>b&lt;c&gt;</code> d ` e</p>"), "{html}");
}

#[test]
fn a_new_token_is_shown_and_nothing_else_of_its_kind() {
    assert!(account("upwd_abc").html.contains("<code>upwd_abc</code>"));
    assert!(!bare_account().html.contains("upwd_"));
    assert!(bare_account().html.contains("store.kind"));
}

/// WCAG 2.2, 1.4.3 and 1.4.11: relative luminance of `#rrggbb`.
fn luminance(colour: &str) -> f64 {
    let channel = |at: usize| {
        let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
        if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    };
    0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
}

fn contrast(scheme: &str, one: &str, other: &str) -> f64 {
    let colour = |name: &str| {
        let (_, rest) = scheme.split_once(&format!("--{name}: ")).unwrap();
        luminance(rest.split(';').next().unwrap())
    };
    let (one, other) = (colour(one), colour(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

#[test]
fn text_has_enough_contrast_in_light_and_in_dark() {
    let (light, dark) = PLAIN.stylesheet().split_once("prefers-color-scheme: dark").unwrap();
    for scheme in [light, dark] {
        for text in ["ink", "soft", "accent", "bad"] {
            for ground in ["ground", "card", "well", "fresh"] {
                let contrast = contrast(scheme, text, ground);
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
        assert!(contrast(scheme, "on-accent", "accent") >= 4.5);
        assert!(contrast(scheme, "edge", "card") >= 3.0 && contrast(scheme, "edge", "fresh") >= 3.0);
    }
}
