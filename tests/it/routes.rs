//! `[[routes]]` through the whole sidecar: which part of the app a request reaches, as which user, and the answer of
//! forward authentication.

use http::Method;
use upwarden::testing::body::Body;

use crate::harness::{AGENCY, App, Client, FREELANCER, Plan, World, listener};

/// A webhook, an area for one user, an archive that is only read, and an API in a process of its own.
fn plan(api: &str) -> Plan {
    World::new().set(
        "routes",
        serde_json::json!([
            { "path": "/webhook", "methods": ["POST"], "public": true },
            { "path": "/admin", "users": [FREELANCER] },
            { "path": "/admin/logo.svg", "public": true },
            { "path": "/archive", "read_only": true },
            { "path": "/rest", "url": api },
            { "path": "/slow", "url": api, "timeouts": { "first_byte": "50ms" } },
        ]),
    )
}

/// A second process of the app, which answers `api: …`, and at `/slow` never.
fn api() -> String {
    let app = App::new(|request| async move {
        if request.uri().path() == "/slow" {
            std::future::pending::<()>().await;
        }
        http::Response::new(Body::full(format!("api: {}", request.uri())))
    });
    let socket = listener();
    let url = format!("http://{}", socket.local_addr().unwrap());
    tokio::spawn(app.serve(tokio::net::TcpListener::from_std(socket).unwrap(), String::new()));
    url
}

/// What each of these callers gets: the status, and the name of the problem where there is one.
async fn outcome(client: &Client, method: &Method, path: &str) -> String {
    let answer = client.call(method.clone(), path).await;
    match answer.status.as_u16() {
        200 => answer.text().split(' ').next().unwrap_or_default().to_owned(),
        status => format!("{status} {}", answer.problem()),
    }
}

#[tokio::test]
async fn each_route_admits_the_right_users_and_leads_to_the_right_upstream() {
    let world = plan(&api()).start();
    let (none, ann, other) = (world.client(), world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await);
    let table = [
        (Method::POST, "/webhook", ["POST", "POST", "POST"]),
        (Method::GET, "/webhook", ["401 sign-in-required", "GET", "GET"]),
        (Method::GET, "/admin", ["401 sign-in-required", "GET", "403 not-admitted-here"]),
        (Method::GET, "/Admin/%75sers;v=1", ["401 sign-in-required", "GET", "403 not-admitted-here"]),
        (Method::GET, "/admin.json", ["401 sign-in-required", "GET", "403 not-admitted-here"]),
        (Method::GET, "/administration", ["401 sign-in-required", "GET", "GET"]),
        (Method::GET, "/admin/logo.svg", ["GET", "GET", "GET"]),
        (Method::GET, "/x/../admin", ["400 ambiguous-path"; 3]),
        (Method::GET, "/archive/1", ["401 sign-in-required", "GET", "GET"]),
        (Method::POST, "/archive/1", ["401 sign-in-required", "403 read-only", "403 read-only"]),
        (Method::GET, "/rest/x?y=1", ["401 sign-in-required", "api:", "api:"]),
        (Method::GET, "/slow", ["401 sign-in-required", "504 app-slow", "504 app-slow"]),
        (Method::DELETE, "/", ["401 sign-in-required", "DELETE", "DELETE"]),
    ];
    for (method, path, expected) in table {
        for (client, expected) in [&none, &ann, &other].into_iter().zip(expected) {
            assert_eq!(outcome(client, &method, path).await, expected, "{method} {path}");
        }
    }
    let refused = ann.websocket("/archive/live").await.err().map(|error| error.to_string());
    assert!(refused.as_ref().is_some_and(|why| why.contains("403")), "an upgrade has no methods: {refused:?}");
    let page = other.navigate("/admin").await;
    assert!(page.html().contains("This part of the site is not open to you") && page.html().contains(AGENCY));
}

/// The status, and the name of the problem where there is one.
async fn verified(client: &Client, method: &Method, at: &str, fields: &[(&str, &str)]) -> String {
    let answer = client.call(method.clone(), at).headers(fields).await;
    let status = answer.status.as_u16();
    if answer.body.is_empty() { status.to_string() } else { format!("{status} {}", answer.problem()) }
}

#[tokio::test]
async fn verify_follows_the_same_routes() {
    let plan = || plan("http://127.0.0.1:9").set("public.trusted_proxies", "127.0.0.1/32");
    let listed = plan().set("public.trusted_headers", "x-forwarded-uri,x-forwarded-method").start();
    let world = plan().start();
    let clients = async |world: &World| [world.client(), world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await];
    let (clients, of_listed) = (clients(&world).await, clients(&listed).await);
    let table = [
        (Method::POST, "/webhook?x=1", ["200", "200", "200"]),
        (Method::GET, "/webhook", ["401 sign-in-required", "200", "200"]),
        (Method::GET, "/admin", ["401 sign-in-required", "200", "403 not-admitted-here"]),
        (Method::GET, "/ADMIN/x", ["401 sign-in-required", "200", "403 not-admitted-here"]),
        (Method::GET, "/x/..%2fadmin", ["400 ambiguous-path"; 3]),
        (Method::GET, "/archive/1", ["401 sign-in-required", "200", "200"]),
        (Method::PUT, "/archive/1", ["401 sign-in-required", "403 read-only", "403 read-only"]),
        (Method::GET, "/rest", ["401 sign-in-required", "200", "200"]),
    ];
    for (method, uri, expected) in table {
        let claim = [("x-forwarded-method", method.as_str()), ("x-forwarded-uri", uri)];
        for ((client, of_listed), expected) in clients.iter().zip(&of_listed).zip(expected) {
            let appended = verified(client, &method, &format!("/upwork/auth/verify{uri}"), &[]).await;
            assert_eq!(appended, expected, "{method} {uri}");
            // Claims that the front's client may have forged open nothing and bypass nothing.
            assert_eq!(verified(client, &Method::GET, "/upwork/auth/verify", &claim).await, "401", "{method} {uri}");
            let named = verified(of_listed, &Method::GET, "/upwork/auth/verify", &claim).await;
            assert_eq!(named, expected, "{method} {uri}, in headers that are listed");
        }
    }
    let [_, ann, _] = clients;
    assert_eq!(verified(&ann, &Method::GET, "/upwork/auth/verify", &[]).await, "401");
    let identity = ann.get("/upwork/auth/verify/admin").await;
    assert_eq!(identity.header("x-upwork-user-id"), FREELANCER);
}
