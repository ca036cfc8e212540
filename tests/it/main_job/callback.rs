//! The callback: which of Upwork's responses sign a user in, and which redeem nothing.

use std::time::Duration;

use http::Method;
use serde_json::json;

use crate::harness::{AGENCY, Client, FREELANCER, World};

/// No code was redeemed.
fn redeemed_nothing(world: &World) {
    assert_eq!(world.counters().token.authorization_code, 0, "no code was redeemed");
}

fn part(url: &str, name: &str) -> String {
    let url = url::Url::parse(url).expect("a URL");
    url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned()).expect("it is there")
}

#[tokio::test]
async fn the_authorize_request_has_state_and_pkce_and_no_scope() {
    let world = World::new().start();
    let location = world.client().navigate("/x").await.location();
    let url = url::Url::parse(&location).unwrap();
    let names: Vec<String> = url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    let wanted = ["response_type", "client_id", "redirect_uri", "state", "code_challenge", "code_challenge_method"];
    assert_eq!(names, wanted);
    assert_eq!(part(&location, "code_challenge_method"), "S256");
    assert_eq!(part(&location, "code_challenge").len(), 43);
    assert_eq!(part(&location, "redirect_uri"), world.url("/upwork/auth/callback"));
    let again = world.client().navigate("/x").await.location();
    assert_ne!(part(&again, "state"), part(&location, "state"));
    assert_ne!(part(&again, "code_challenge"), part(&location, "code_challenge"));
}

#[tokio::test]
async fn a_state_that_is_not_ours_redeems_nothing() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let state = part(&back, "state");
    let mut bent = state.clone().into_bytes();
    let middle = bent.len() / 2;
    bent[middle] = if bent[middle] == b'A' { b'B' } else { b'A' };
    let bent = String::from_utf8(bent).unwrap();
    let login = client.cookie(&client.cookies()[0]);
    for wrong in ["", "x", "state", bent.as_str(), login.as_str(), &state[..state.len() - 1]] {
        let answer = client.navigate(&back.replace(&state, wrong)).await;
        assert_eq!(
            (answer.status.as_u16(), answer.page().as_str()),
            (400, "This sign-in did not start here"),
            "{wrong}"
        );
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
    }
    let curl = client.get(&back.replace(&state, "x")).await;
    assert_eq!(curl.problem(), "bad-state");
    redeemed_nothing(&world);
    // The real one still works afterwards.
    assert_eq!(client.navigate(&back).await.location(), "/x");
}

#[tokio::test]
async fn contradictory_callbacks_are_refused() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    for more in ["&error=access_denied", "&code=again", "&state=again", "&error=a&error=b"] {
        let answer = client.navigate(&format!("{back}{more}")).await;
        assert_eq!(
            (answer.status.as_u16(), answer.page().as_str()),
            (400, "This sign-in did not start here"),
            "{more}"
        );
    }
    let state = part(&back, "state");
    let neither = client.twin().navigate(&format!("/upwork/auth/callback?state={state}")).await;
    assert_eq!(neither.status, 400, "neither a code nor an error");
    redeemed_nothing(&world);
}

#[tokio::test]
async fn head_redeems_nothing_and_other_methods_are_refused() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    for method in [Method::HEAD, Method::POST, Method::PUT, Method::OPTIONS] {
        let answer = client.call(method.clone(), &back).await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET"), "{method}");
    }
    redeemed_nothing(&world);
    assert_eq!(client.navigate(&back).await.location(), "/x");
}

#[tokio::test]
async fn declining_shows_a_page_and_signs_no_one_in() {
    let world = World::new().start();
    let client = world.client();
    let asked = client.navigate("/x").await;
    let back = world.upwork.decline(&asked.location()).await;
    let answer = client.navigate(&back).await;
    assert_eq!((answer.status.as_u16(), answer.page().as_str()), (403, "You declined at Upwork"));
    assert!(answer.html().contains("/upwork/auth/login?return_to=%2Fx"), "the page offers another sign-in");
    redeemed_nothing(&world);
    assert!(client.cookies().is_empty(), "the sign-in's own cookie is cleared");
    assert!(world.metric("upwarden_sign_ins_total{outcome=\"declined\"}").await > 0);
}

#[tokio::test]
async fn a_code_works_once_and_only_for_its_own_sign_in() {
    let world = World::new().start();
    let client = world.client();
    let one = world.callback(&client, "/one").await;
    let mixed = world.callback(&client, "/mixed").await;
    let other = world.callback(&client, "/other").await;
    let (code, mixed_state) = (part(&one, "code"), part(&mixed, "state"));
    // Injected into another sign-in of the same browser: PKCE fails.
    let mixed = client.twin().navigate(&format!("/upwork/auth/callback?code={code}&state={mixed_state}")).await;
    assert_eq!((mixed.status.as_u16(), mixed.page().as_str()), (400, "This sign-in was already used"));
    assert_eq!(world.counters().token.authorization_code, 1);

    // Replayed by a thief of the cookies.
    let thief = client.twin();
    assert_eq!(client.navigate(&other).await.location(), "/other");
    let replayed = thief.navigate(&other).await;
    assert_eq!((replayed.status.as_u16(), replayed.page().as_str()), (400, "This sign-in was already used"));
    assert!(!thief.cookies().contains(&"upwarden".to_owned()), "no session");
    // Reloaded in the browser itself: it is signed in, and stays signed in.
    let reloaded = client.navigate(&other).await;
    assert_eq!((reloaded.status.as_u16(), reloaded.location().as_str()), (303, "/"));
    assert_eq!(client.get("/upwork/auth/session").await.status, 200);
}

#[tokio::test]
async fn a_login_is_redeemed_once_whatever_its_callbacks_bring() {
    let world = World::new().start();
    let client = world.client();
    let state = part(&world.callback(&client, "/x").await, "state");
    // The stranger keeps the login cookie.
    for number in 0..20 {
        let target = format!("/upwork/auth/callback?code=made-up-{number}&state={state}");
        assert_eq!(client.twin().get(&target).await.problem(), "code-used", "{number}");
    }
    assert_eq!(world.counters().token.authorization_code, 1);
}

#[tokio::test]
async fn a_login_is_retried_three_times_with_pauses_while_upwork_is_busy() {
    for (fault, name) in [("503", "upwork-busy"), ("cut", "upwork-unreachable")] {
        let world = World::new().start();
        let client = world.client();
        let back = world.callback(&client, "/x").await;
        world.fault(&json!({ "token": fault, "times": 100 }));
        let attempts = async || {
            for _ in 0..5 {
                client.twin().get(&back).await;
            }
            world.counters().token.authorization_code
        };
        assert_eq!(attempts().await, 1, "its outcome stands");
        assert_eq!(client.twin().get(&back).await.problem(), name);
        for (pause, total) in [(5, 2), (10, 3), (20, 4), (100, 4)] {
            world.turn(Duration::from_secs(pause));
            assert_eq!(attempts().await, total, "{fault} after {pause} s");
        }
        assert_eq!(client.twin().get(&back).await.problem(), "code-used", "it is over");
    }
}

#[tokio::test]
async fn a_grant_whose_user_is_unknown_is_revoked_and_its_login_is_over() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    world.fault(&json!({ "api": "503", "times": 1 }));
    assert_eq!(client.twin().get(&back).await.problem(), "upwork-busy");
    assert_eq!(world.counters().revoke, 1);
    world.turn(Duration::from_secs(60));
    assert_eq!(client.twin().get(&back).await.problem(), "code-used");
    assert_eq!(world.counters().token.authorization_code, 1);
}

#[tokio::test]
async fn callbacks_of_one_address_are_limited_like_its_sign_ins() {
    let world = World::new().set("public.limits.sign_ins_per_address", 5).start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(client.twin().get(&format!("{back}&a=b")).await.status.as_u16());
    }
    assert_eq!((statuses.pop(), statuses.len()), (Some(429), 5), "{statuses:?}");
    assert!(!statuses.contains(&429), "{statuses:?}");
    assert_eq!(world.client().navigate("/x").await.status, 303, "they leave room for sign-ins");
}

#[tokio::test]
async fn an_expired_callback_begins_one_new_sign_in_with_the_same_return_address() {
    let world = World::new().start();
    let client = world.client();
    let back = world.callback(&client, "/deep?x=1").await;
    // Ten minutes, and ten more by which the clocks of replicas may differ.
    world.turn(Duration::from_secs(1201));
    let answer = client.navigate(&back).await;
    assert_eq!(answer.status, 303, "{}", answer.text());
    redeemed_nothing(&world);
    let back = world.upwork.consent(&answer.location(), FREELANCER).await;
    assert_eq!(client.navigate(&back).await.location(), "/deep?x=1");
}

#[tokio::test]
async fn a_browser_that_keeps_no_cookie_is_stopped_at_the_third_sign_in() {
    let world = World::new().start();
    // Each step as another browser, which is what a browser without cookies looks like.
    let mut asked = world.client().navigate("/x").await;
    for _ in 0..2 {
        let back = world.upwork.consent(&asked.location(), FREELANCER).await;
        asked = world.client().navigate(&back).await;
        assert_eq!(asked.status, 303, "{}", asked.text());
    }
    let back = world.upwork.consent(&asked.location(), FREELANCER).await;
    let page = world.client().navigate(&back).await;
    assert_eq!(page.status, 400);
    assert!(page.page().len() > 5 && page.text().to_lowercase().contains("cookie"), "{}", page.text());
    assert_eq!(world.client().get(&back).await.problem(), "sign-in-loop");
    redeemed_nothing(&world);
    assert!(world.metric("upwarden_sign_ins_total{outcome=\"looping\"}").await > 0);
}

#[tokio::test]
async fn a_state_of_another_browser_signs_no_one_in() {
    let world = World::new().start();
    let attacker = world.client();
    let back = world.callback(&attacker, "/x").await;
    let victim = world.client();
    let answer = victim.navigate(&back).await;
    assert_eq!(answer.status, 303, "a new sign-in of the victim's own");
    assert!(answer.location().contains("/oauth2/authorize"));
    redeemed_nothing(&world);
    assert!(!victim.cookies().contains(&"upwarden".to_owned()));
}

#[tokio::test]
async fn with_a_live_session_a_bad_state_leaves_it_alone() {
    let world = World::new().start();
    let attacker = world.client();
    let back = world.upwork.consent(&attacker.navigate("/x").await.location(), AGENCY).await;
    let client = world.sign_in(FREELANCER).await;
    for bad in [back.clone(), "/upwork/auth/callback?code=1&state=x".to_owned(), "/upwork/auth/callback".to_owned()] {
        let answer = client.navigate(&bad).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/"), "{bad}");
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(client.get("/upwork/auth/session").await.json()["user"]["id"], FREELANCER);
    assert_eq!(world.counters().token.authorization_code, 1, "only the client's own");
}

#[tokio::test]
async fn a_valid_callback_replaces_the_session() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    let before = client.cookie("upwarden");
    let answer = world.sign_in_with(&client, AGENCY, "/upwork/auth/login?return_to=/y").await;
    assert_eq!(answer.location(), "/y");
    assert_ne!(client.cookie("upwarden"), before);
    assert_eq!(client.get("/upwork/auth/session").await.json()["user"]["id"], AGENCY);
}

#[tokio::test]
async fn parallel_tabs_all_finish_in_any_order() {
    let world = World::new().start();
    let client = world.client();
    let mut tabs = Vec::new();
    for tab in 0..8 {
        tabs.push((tab, world.callback(&client, &format!("/tab/{tab}")).await));
    }
    for (tab, back) in tabs.iter().rev() {
        assert_eq!(client.navigate(back).await.location(), format!("/tab/{tab}"));
    }
    assert_eq!(client.cookies(), ["upwarden"]);
}

#[tokio::test]
async fn return_addresses_never_leave_our_origin() {
    let world = World::new().start();
    let whole = format!("http://{}/x%3Fa%3D1", world.address(0));
    for (asked, expected) in [
        ("/x", "/x"),
        ("%2Fx%3Fa%3D1", "/x?a=1"),
        (whole.as_str(), "/x?a=1"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%2F%09%2Fevil.example", "/"),
        ("x", "/"),
        ("%2Fupwork%2Fauth%2Fcallback", "/"),
        ("%2Fupwork%2Fauth%2Flogout", "/"),
    ] {
        let client: Client = world.client();
        let answer = world.sign_in_with(&client, FREELANCER, &format!("/upwork/auth/login?return_to={asked}")).await;
        assert_eq!(answer.location(), expected, "{asked}");
    }
}

#[tokio::test]
async fn a_key_without_the_scope_for_names_signs_its_users_in_without_them() {
    let world = World::new().start();
    world.missing_scopes(&["User.name"]);
    let browser = world.sign_in(FREELANCER).await;
    assert_eq!(browser.navigate("/").await.status, 200);
    let seen = world.app.last();
    for (name, value) in [
        ("x-upwork-user", "foofreelancer"),
        ("x-upwork-user-name", ""),
        ("x-upwork-organization-id", "1181921839933591553"),
    ] {
        assert_eq!(seen.header(name), value, "{name}");
    }
    assert_eq!(world.counters().api["/graphql"], 2, "the second query asks without names");
}
