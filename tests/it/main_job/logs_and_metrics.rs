//! Logs, metrics and the account page: what they say, and what they must not.

use serde_json::json;

use crate::harness::{FREELANCER, TOKEN, World, logs};

#[tokio::test]
async fn the_log_links_a_request_to_its_answer_and_contains_no_secret() {
    let world = World::new().start();
    let client = world.client();
    let asked = client.navigate("/x?password=hunter2").await;
    let login = client.cookie(&client.cookies()[0]);
    let back = world.upwork.consent(&asked.location(), FREELANCER).await;
    let signed_in = client.navigate(&back).await;
    assert_eq!(signed_in.status, 303);
    let session = client.cookie("upwarden");
    client.graphql("{ user { id } }").await;
    world.upwork.sandbox.expire_all();
    client.get("/upwork/api/hr/v2/users/me.json").header("authorization", "Bearer mine-and-secret").await;
    client.get("/x").header("authorization", "Basic aHVudGVyMg==").await;
    world.fault(&json!({ "token": "garbage" }));
    let failed = world.client();
    let other_back = world.callback(&failed, "/x").await;
    failed.navigate(&other_back).await;
    client.post("/upwork/auth/logout", "").await;

    let logs = logs();
    let id = signed_in.header("x-request-id");
    let lines: Vec<&str> = logs.lines().filter(|line| line.contains(id)).collect();
    assert!(lines.iter().any(|line| line.contains("\"path\":\"/upwork/auth/callback\"")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains(FREELANCER)), "{lines:?}");
    let query = |name: &str| {
        let url = url::Url::parse(&back).unwrap();
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).unwrap()
    };
    for secret in [
        query("code"),
        query("state"),
        login,
        session,
        TOKEN.to_owned(),
        "hunter2".to_owned(),
        "aHVudGVyMg".to_owned(),
        "mine-and-secret".to_owned(),
        "fedcba9876543210".to_owned(),
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned(),
    ] {
        let found = logs.lines().find(|line| line.contains(&secret));
        assert_eq!(found, None, "{secret}");
    }
}

#[tokio::test]
async fn metrics_count_events_and_name_no_user() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    client.get("/x").await;
    client.graphql("{ __typename }").await;
    client.get("/upwork/api/hr/v2/users/me.json").await;
    client.get("/upwork/nothing").await;
    for (name, count) in [
        ("upwarden_sign_ins_total{outcome=\"started\"}", 1),
        ("upwarden_sign_ins_total{outcome=\"completed\"}", 1),
        ("upwarden_requests_total{route=\"app\",status=\"2xx\"}", 1),
        ("upwarden_requests_total{route=\"app\",status=\"3xx\"}", 1),
        ("upwarden_requests_total{route=\"graphql\",status=\"2xx\"}", 1),
        ("upwarden_requests_total{route=\"api\",status=\"2xx\"}", 1),
        ("upwarden_requests_total{route=\"auth\",status=\"3xx\"}", 1),
        ("upwarden_request_duration_seconds_count{route=\"app\"}", 2),
    ] {
        assert_eq!(world.metric(name).await, count, "{name}");
    }
    let metrics = world.admin().get("/metrics").await.text();
    assert!(metrics.contains("upwarden_build_info{version=\""));
    for secret in [FREELANCER, "foofreelancer", TOKEN, "Foo Bar"] {
        assert!(!metrics.contains(secret), "{secret}");
    }
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/", 404), ("/upwork/graphql", 404)] {
        assert_eq!(world.admin().get(path).await.status.as_u16(), status, "{path}");
    }
}

#[tokio::test]
async fn the_account_page_shows_the_user_the_expiry_and_a_curl_command() {
    let world = World::new().start();
    assert_eq!(world.client().navigate("/upwork/auth/").await.status, 303);
    let client = world.sign_in(FREELANCER).await;
    let page = client.navigate("/upwork/auth/").await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (200, "no-store"));
    assert_eq!(page.header("referrer-policy"), "same-origin");
    assert!(page.header("content-security-policy").contains("default-src 'none'"), "{page:?}");
    let text = page.html();
    for part in ["Signed in as Foo Bar", "foofreelancer", FREELANCER, "curl ", "/upwork/auth/logout", "2026"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains(TOKEN));
    let style = world.client().get("/upwork/auth/style.css").await;
    assert!(style.status == 200 || text.contains("stylesheet"), "{style:?}");
}
