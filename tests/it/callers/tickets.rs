//! Tickets: the app calls the API as the user whose request it handles.

use std::time::Duration;

use super::{WHO, ask, ask_often, whom};
use crate::harness::{AGENCY, App, Client, FREELANCER, Plan, World, full, until};

/// The ticket that the app gets with the next request of this browser.
pub(super) async fn ticket(world: &World, browser: &Client) -> String {
    assert_eq!(browser.get("/").await.status, 200);
    let ticket = world.app.last().header("x-upwork-ticket").to_owned();
    assert!(ticket.starts_with("upwt_"), "{ticket}");
    ticket
}

fn with_store(folder: &tempfile::TempDir) -> Plan {
    let path = folder.path().join("sessions.redb");
    World::new().set("app.tickets", "true").set("store.kind", "embedded").set("store.path", path.display())
}

#[tokio::test]
async fn a_ticket_acts_as_the_user_in_its_own_field_and_as_a_bearer() {
    let world = World::new().set("app.tickets", "true").start();
    let (browser, neighbour) = (world.sign_in(FREELANCER).await, world.neighbour());
    let ticket = ticket(&world, &browser).await;
    let answer = ask(&neighbour, WHO).header("x-upwork-ticket", &ticket).await;
    assert_eq!(whom(&answer), FREELANCER);
    assert!(answer.set_cookies().is_empty());
    let bearer = format!("Bearer {ticket}");
    assert_eq!(whom(&ask(&neighbour, WHO).header("authorization", &bearer).await), FREELANCER);
    // The SDKs always send a bearer of their own.
    let both = ask(&neighbour, WHO).header("authorization", "Bearer placeholder").header("x-upwork-ticket", &ticket);
    assert_eq!(whom(&both.await), FREELANCER);
}

#[tokio::test]
async fn a_ticket_is_reused_for_a_minute_and_valid_for_five() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    let first = ticket(&world, &browser).await;
    world.turn(Duration::from_secs(59));
    assert_eq!(ticket(&world, &browser).await, first);
    world.turn(Duration::from_secs(1));
    assert_ne!(ticket(&world, &browser).await, first);
    world.turn(Duration::from_secs(239));
    assert_eq!(ask(&world.neighbour(), WHO).header("x-upwork-ticket", &first).await.status, 200);
    world.turn(Duration::from_secs(1));
    let late = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &first).await;
    assert_eq!((late.status.as_u16(), late.problem().as_str()), (401, "ticket-expired"));
    assert!(late.header("www-authenticate").contains("invalid_token"));
}

#[tokio::test]
async fn without_the_setting_there_are_no_tickets_and_a_clients_own_is_removed() {
    let world = World::new().start();
    let browser = world.sign_in(FREELANCER).await;
    assert_eq!(browser.get("/").header("x-upwork-ticket", "upwt_mine").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-ticket"), "");
}

#[tokio::test]
async fn a_bad_ticket_is_a_401_and_never_the_service_identity() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    let good = ticket(&world, &browser).await;
    let cookie = browser.jar().field().unwrap();
    let cookie = cookie.split_once('=').unwrap().1.to_owned();
    let mut bent = good.clone();
    bent.truncate(good.len() - 2);
    for text in ["upwt_", "upwt_x", bent.as_str(), &format!("upwt_{cookie}"), &format!("{good}x"), "x", "upwt_\u{e9}"] {
        let answer = ask(&world.neighbour(), WHO).header("x-upwork-ticket", text).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "bad-ticket"), "{text}");
        assert!(!answer.text().contains(text) || text.len() < 6, "a credential is not repeated");
    }
    let two = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &good).also("x-upwork-ticket", "upwt_x").await;
    assert_eq!(two.problem(), "bad-ticket");
    assert_eq!(world.counters().api.get("/graphql").copied().unwrap_or(0), 1, "only the who-am-I call of the sign-in");
}

#[tokio::test]
async fn a_ticket_is_refused_at_the_public_door() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    let ticket = ticket(&world, &browser).await;
    let bearer = format!("Bearer {ticket}");
    for client in [world.client(), browser.twin()] {
        let answer = ask(&client, WHO).header("authorization", &bearer).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "bad-ticket"));
        let answer = ask(&client, WHO).header("x-upwork-ticket", &ticket).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "bad-ticket"));
    }
    // It is not a session for the app and our own pages either.
    assert_eq!(world.client().get("/").header("authorization", &bearer).await.status, 401);
    assert_eq!(world.client().get("/upwork/auth/session").header("authorization", &bearer).await.status, 401);
}

#[tokio::test]
async fn the_ticket_of_a_signed_out_session_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for plan in [World::new().set("app.tickets", "true"), with_store(&folder)] {
        let world = plan.start();
        let browser = world.sign_in(FREELANCER).await;
        let ticket = ticket(&world, &browser).await;
        assert_eq!(browser.post("/upwork/auth/logout", "").await.status, 303);
        let answer = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &ticket).await;
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (401, "ticket-over"));
    }
}

#[tokio::test]
async fn access_rules_apply_to_tickets_too() {
    let rules = |users: &str| format!("access.users = [\"{users}\"]\n");
    let both = rules(&format!("{FREELANCER}\", \"{AGENCY}"));
    let world = World::new().set("app.tickets", "true").set("access.anyone", "").file(&both).start();
    let browser = world.sign_in(FREELANCER).await;
    let ticket = ticket(&world, &browser).await;
    world.rewrite(&rules(AGENCY));
    until("the new rules", || async {
        let answer = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &ticket).await;
        (answer.status == 403).then(|| assert_eq!(answer.problem(), "not-admitted"))
    })
    .await;
}

#[tokio::test]
async fn with_a_store_a_call_with_a_ticket_refreshes_the_session() {
    let folder = tempfile::tempdir().unwrap();
    let world = with_store(&folder).start();
    let browser = world.sign_in(FREELANCER).await;
    // The access token expires while the ticket is valid.
    world.turn(Duration::from_secs(86_400 - 400));
    let ticket = ticket(&world, &browser).await;
    world.turn(Duration::from_secs(200));
    let answer = ask(&world.neighbour(), WHO).header("x-upwork-ticket", &ticket).await;
    assert_eq!(whom(&answer), FREELANCER);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.counters().token.refresh_token, 1);
    // The browser uses the token of that refresh and does not refresh again.
    assert_eq!(whom(&browser.graphql(WHO).await), FREELANCER);
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn with_the_cookie_store_a_ticket_has_a_fresh_token() {
    let world = World::new().set("app.tickets", "true").start();
    let browser = world.sign_in(FREELANCER).await;
    world.turn(Duration::from_secs(90_000));
    let ticket = ticket(&world, &browser).await;
    assert_eq!(whom(&ask(&world.neighbour(), WHO).header("x-upwork-ticket", &ticket).await), FREELANCER);
    assert_eq!(world.counters().token.refresh_token, 1);
}

#[tokio::test]
async fn the_sample_app_calls_as_its_user() {
    let world = World::new().app(App::sample()).set("app.tickets", "true").start();
    let browser = world.sign_in(AGENCY).await;
    let answer = browser.get("/as-user").await;
    assert!(answer.status == 200 && answer.text().contains(AGENCY), "{} {}", answer.status, answer.text());
}

#[tokio::test]
async fn two_users_at_once_are_never_mixed_up() {
    const LANES: usize = 8;
    let calls = if full() { 10_000 } else { 1_000 };
    let world = World::new().set("app.tickets", "true").start();
    let mut lanes = Vec::new();
    for lane in 0..LANES {
        let user = if lane % 2 == 0 { FREELANCER } else { AGENCY };
        let browser = world.sign_in(user).await;
        let (ticket, neighbour) = (ticket(&world, &browser).await, world.neighbour());
        lanes.push(tokio::spawn(async move {
            ask_often(&neighbour, calls / LANES, &ticket).await.into_iter().all(|body| body.contains(user))
        }));
    }
    for lane in lanes {
        // Each call has its time limit, but ten thousand together have none, since the machine may be busy.
        assert!(lane.await.unwrap(), "an answer for another user");
    }
}
