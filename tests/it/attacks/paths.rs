//! Every spelling of a path that a server behind us could read as another path.

use super::properties;
use crate::harness::{Client, FREELANCER, World};

/// The token endpoint and its relatives, below `/upwork`, separated by `¦`.
const OAUTH: &str = "/api/v3/oauth2/token¦/api/v3/oauth2/token/¦/api/v3/oauth2/token/revoke¦/api/v3/oauth2¦/api/v3/OAUTH2/token¦\
    /api/v3/oauth2/token.json¦/api/v3/oauth2;x/token¦/api/v3;x=y/oauth2/token¦/api/;/v3/oauth2/token¦\
    /api/v3/%6fauth2/token¦/api/v3/%6Fauth2/token¦/api/v3/o%61uth2/token¦/api/v3/oauth%32/token¦\
    /api/v3/%256fauth2/token¦/api/v3/%25256fauth2/token¦/api/v3/%2525256fauth2/token¦\
    /api/v3/%252525256fauth2/token¦/api/v3/./oauth2/token¦/api/v3/x/../oauth2/token¦/api/x/..;/v3/oauth2/token¦\
    /api/v3//oauth2/token¦//api/v3/oauth2/token¦/api/v3\\oauth2\\token¦/api\\v3/oauth2/token¦\
    /api/v3%2foauth2%2ftoken¦/api/v3%5coauth2%5ctoken¦/api/v3/oauth2%2ftoken¦/api/v3/%2e/oauth2/token¦\
    /api/v3/%2e%2e/v3/oauth2/token¦/api/v3/oauth2/%2e/token¦/api/v3/%20oauth2/token¦/api/v3/oauth2%00/token¦\
    /api/%76%33/%6f%61%75%74%68%32/token¦/api/v3/oauth2/authorize¦/api/auth/v1/oauth/token/access¦\
    /api/auth/v1/oauth/token/request¦/api/auth/v1/OAuth/x¦/api/auth/v1/%6fauth/token/access¦\
    /api/auth/v1/oauth;a/token/access¦/api/graphql/../v3/oauth2/token\
    ¦/api/v3/OAuth2/Token¦/api/v3/oauth2/¦/api/auth/v1/oauth¦/api/v3/oauth2/token?x¦/api/v3/oauth2/token;a=b\
    ¦/api/x/oauth2/token¦/api//v3/oauth2/token¦/api/%2e%2e/ab/account-security/oauth2/authorize\
    ¦/api/../ab/account-security/oauth2/authorize¦/api/v3/oauth2/%74oken¦/api/v3/ oauth2/token\
    ¦/graphql/../api/v3/oauth2/token";

/// Our own endpoints below `/upwork`, misspelt: each is refused and does nothing.
const OWN: &str = "/auth//logout¦/auth/./logout¦/auth/x/../logout¦/auth/..;/auth/logout¦/auth/%6cogout¦/auth/logout/¦\
    /auth/logout;x¦/auth/LOGOUT¦/Auth/logout¦/auth%2flogout¦/auth%2Flogout¦/auth\\logout¦%2fauth/logout¦\
    \\auth\\logout¦;/auth/logout¦;x=y/auth/logout¦//auth/logout¦/./auth/logout¦/auth/logout%00¦/auth/logout%20¦\
    /auth/%2e%2e/auth/logout¦/auth/%252e%252e/auth/logout¦/auth/logout%23¦/auth/logout%3f¦/auth/verifyx/¦/auth/";

/// What follows a public path and could lead a server behind us to a path that is not public.
const AFTER_PUBLIC: &str = "/..¦/../admin¦/../../admin¦/./../admin¦/..;/admin¦/..;x=y/admin¦/.;/../admin¦/%2e%2e/admin¦/%2E%2e/admin¦\
    /.%2e/admin¦/..%2fadmin¦/..%5cadmin¦/..\\admin¦\\..\\admin¦/%5c../admin¦//../admin¦//admin¦\
    /%252e%252e/admin¦/%25%32%65%25%32%65/admin¦/..%3b/admin¦/..%253b/admin¦/%c0%ae%c0%ae/admin¦/%e0%80%ae/x¦\
    /%ff/../admin¦/%00/admin¦/x%00¦/%0d%0ax¦/%¦/%2¦/%zz";

/// The status of a request with these very bytes for a path.
async fn status(client: &Client, method: &str, path: &str, fields: &str) -> u16 {
    let text = format!("{method} {path} HTTP/1.1\r\n{fields}Content-Length: 0\r\nConnection: close\r\n\r\n");
    let answer = String::from_utf8_lossy(&client.raw(text.as_bytes()).await).into_owned();
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"))
}

/// The same for a page of the app.
async fn from_page(world: &World, method: &str, path: &str, cookie: &str) -> u16 {
    let host = world.public_address();
    let fields = format!("Host: {host}\r\nCookie: {cookie}\r\nSec-Fetch-Site: same-origin\r\n");
    status(&world.client(), method, path, &fields).await
}

#[tokio::test]
async fn the_token_endpoint_is_out_of_reach_in_every_spelling() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let cookie = format!("upwarden={}", client.jar().get("upwarden").expect("a session"));
    let before = (world.counters(), world.app.seen().len());
    for path in OAUTH.split('¦') {
        // With an empty first segment, the path is not one of the API.
        let expected = if path.starts_with("//") { &[400, 403, 404][..] } else { &[400, 403] };
        for method in ["POST", "GET"] {
            let path = format!("/upwork{path}");
            let refused = from_page(&world, method, &path, &cookie).await;
            assert!(expected.contains(&refused), "{method} {path}: {refused}");
            let refused = status(&world.neighbour(), method, &path, "Host: localhost\r\n").await;
            assert!(expected.contains(&refused), "{method} {path} at the neighbour door: {refused}");
        }
    }
    let after = (world.counters(), world.app.seen().len());
    assert_eq!(before, after, "neither Upwork nor the app was asked");
}

#[tokio::test]
async fn a_misspelt_endpoint_of_ours_does_nothing() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let cookie = format!("upwarden={}", client.jar().get("upwarden").expect("a session"));
    let (revoked, asked) = (world.counters().revoke, world.app.seen().len());
    for path in OWN.split('¦') {
        let path = format!("/upwork{path}");
        let refused = from_page(&world, "POST", &path, &cookie).await;
        assert!(matches!(refused, 400 | 404 | 405), "{path}: {refused}");
        properties::route(&path);
    }
    // Outside the prefix the path is the app's, byte for byte, and needs a session.
    for path in
        ["//upwork/auth/logout", "/x/../upwork/auth/logout", "/%75pwork/auth/logout", "/UPWORK/auth/logout", "/upworkx"]
    {
        assert_eq!(from_page(&world, "POST", path, &cookie).await, 200, "{path}");
        assert_eq!(world.app.last().target, path);
        assert_eq!(from_page(&world, "POST", path, "a=b").await, 401, "{path}");
    }
    assert_eq!(world.counters().revoke, revoked, "no one was signed out");
    assert_eq!(world.app.seen().len(), asked + 5);
}

#[tokio::test]
async fn nothing_but_a_public_path_is_public() {
    let world = World::new().public("/health,/assets/").set("app.preflight", "pass").start();
    for public in ["/health", "/assets", "/assets/x"] {
        for tail in AFTER_PUBLIC.split('¦') {
            let path = format!("{public}{tail}");
            for method in ["GET", "POST", "OPTIONS"] {
                assert_eq!(from_page(&world, method, &path, "a=b").await, 401, "{method} {path}");
            }
            properties::route(&path);
        }
    }
    for path in ["/healthy", "/health;x", "/health%2f", "/HEALTH", "/assets", "/asset", "/", "/x/health", "/%2fhealth"]
    {
        assert_eq!(from_page(&world, "GET", path, "a=b").await, 401, "{path}");
    }
    // A preflight passes, but only for an unambiguous path.
    let preflight = |path: &str| {
        let fields = [("origin", "https://a.example"), ("access-control-request-method", "PUT")];
        world.client().call(http::Method::OPTIONS, path).headers(&fields)
    };
    assert_eq!(world.app.seen().len(), 0, "the app was never asked");
    assert_eq!(preflight("/admin").await.status, 200);
    assert_eq!(preflight("/x/../admin").await.status, 401);
    for path in ["/health", "/health/live", "/assets/", "/assets/a%20b.css", "/assets/100%25", "/assets/a;v=1"] {
        assert_eq!(from_page(&world, "GET", path, "a=b").await, 200, "{path}");
        assert_eq!(world.app.last().target, path);
    }
}
