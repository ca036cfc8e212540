//! `app.headers`: headers about the user besides ours, which no client can set.

use http::HeaderMap;
use http_body_util::BodyExt;
use serde_json::json;
use upwarden::testing::body::Body;

use crate::harness::{App, CLIENT, FREELANCER, Plan, Raw, World};

fn plan() -> Plan {
    let headers = json!({
        "X-WEBAUTH-USER": "{nid}",
        "X-Team": "tools",
        "x_who": "{name} <{id}@{organization_id}>",
        "X-Forwarded-Preferred-Username": "{nid}",
    });
    World::new().set("app.headers", headers).public("/open")
}

/// What a client would claim, in the spellings that some server reads as the added names.
const CLAIMS: [(&str, &str); 9] = [
    ("x-webauth-user", "evil"),
    ("X_WEBAUTH_USER", "evil"),
    ("x-webauth_user", "evil"),
    ("x.webauth~user", "evil"),
    ("x-team", "evil"),
    ("x_team", "evil"),
    ("x-who", "evil"),
    ("x.who", "evil"),
    ("x-forwarded_preferred-username", "evil"),
];

fn evil(headers: &HeaderMap) -> bool {
    headers.values().any(|value| value == "evil")
}

#[tokio::test]
async fn added_headers_say_who_the_user_is_and_no_client_can_set_them() {
    let world = plan().set("public.trusted_proxies", "127.0.0.1").start();
    let client = world.sign_in(CLIENT).await;
    let expected = [
        ("x-webauth-user", "quxclient"),
        ("x-team", "tools"),
        ("x_who", "Zo%C3%AB%20%C5%BB%C3%B3%C5%82w <1383143061155813774@1383143061155813775>"),
        ("x-forwarded-preferred-username", "quxclient"),
    ];
    for connection in ["x-other", "x-webauth-user, x-team, x_who", "X-Forwarded-Preferred-Username"] {
        assert_eq!(client.get("/x").headers(&CLAIMS).header("connection", connection).await.status, 200);
        let seen = world.app.last();
        for (name, value) in expected {
            assert_eq!(seen.headers.get_all(name).iter().collect::<Vec<_>>(), [value], "{name}: {seen:?}");
        }
        assert!(!evil(&seen.headers), "{seen:?}");
    }
    let yes = client.get("/upwork/auth/verify").headers(&CLAIMS).await;
    for (name, value) in expected {
        assert_eq!((yes.status.as_u16(), yes.header(name)), (204, value), "{name}");
    }
}

#[tokio::test]
async fn added_headers_of_a_client_without_a_session_are_dropped() {
    let world = plan().start();
    assert_eq!(world.client().get("/open").headers(&CLAIMS).header("x-teams", "other").await.status, 200);
    let seen = world.app.last();
    assert!(!evil(&seen.headers) && !seen.headers.contains_key("x-team"), "{seen:?}");
    assert_eq!(seen.header("x-teams"), "other", "another name passes");
    // With a session it is the user's request, on a public path too.
    let client = world.sign_in(FREELANCER).await;
    client.get("/open").headers(&CLAIMS).await;
    assert_eq!(world.app.last().header("x-webauth-user"), "foofreelancer");
}

#[tokio::test]
async fn trailers_of_the_added_names_are_dropped() {
    let app = App::new(|request| async {
        let body = BodyExt::collect(request.into_body()).await.unwrap();
        let mut names: Vec<_> =
            body.trailers().into_iter().flat_map(HeaderMap::keys).map(ToString::to_string).collect();
        names.sort();
        http::Response::new(Body::full(names.join(" ")))
    });
    let world = plan().app(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client
        .send(
            "POST /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\nX-Sum: 7\r\nX_Webauth_User: evil\r\nX-Team: evil\r\nX-Team: evil\r\nX-Last: 8\r\n\r\n",
        )
        .await;
    let got = client.rest().await;
    assert!(got.contains("x-last x-sum"), "{got}");
}
