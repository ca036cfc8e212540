//! Several replicas behind one address: a refresh token is redeemed once, or as often as Upwork accepts.

use std::future::IntoFuture;

use upwarden::sandbox::Config;

use super::{DAY, ME};
use crate::harness::{Client, FREELANCER, World};
use crate::stores::world::{Server, Transport};

/// Two hundred calls at once, spread over three replicas, all of which succeed.
async fn crowd(world: &World, client: &Client) {
    let calls = (0..200).map(|number| world.replica(&client.twin(), number % 3).graphql(ME).into_future());
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

#[tokio::test]
async fn three_replicas_with_cookies_make_at_most_three_token_calls_and_sign_no_one_out() {
    let world = World::new().replicas(3).start();
    let client = world.sign_in(FREELANCER).await;
    world.turn(DAY);
    crowd(&world, &client).await;
    let calls = world.counters().token.refresh_token;
    assert!((1..=3).contains(&calls), "{calls}");
    // Whichever answer came last, its cookie works at every replica.
    for number in 0..3 {
        let twin = client.twin();
        assert_eq!(world.replica(&twin, number).graphql(ME).await.status, 200);
        world.turn(DAY / 4);
        assert_eq!(world.replica(&twin, (number + 1) % 3).graphql(ME).await.status, 200);
    }
}

#[tokio::test]
async fn three_replicas_with_valkey_make_one_token_call_even_where_a_replay_would_revoke() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    for strict in [false, true] {
        let upwork = Config { strict, ..Config::default() };
        let plan = World::new().set("store.kind", "valkey").set("store.url", server.url.expose());
        let world = plan.upwork(upwork).replicas(3).start();
        let client = world.sign_in(FREELANCER).await;
        let cookie = client.cookie("upwarden");
        for day in 1..=2 {
            world.turn(DAY);
            crowd(&world, &client).await;
            assert_eq!(world.counters().token.refresh_token, day, "strict: {strict}");
        }
        assert_eq!(client.cookie("upwarden"), cookie, "one session, under the cookie it began with");
    }
}

#[tokio::test]
async fn replicas_whose_clocks_differ_by_ten_minutes_complete_each_others_sign_ins() {
    for ahead in [600, -600] {
        let world = World::new().replicas(2).replica_ahead(ahead).start();
        let client = world.client();
        let asked = client.navigate("/deep?x=1").await;
        let back = world.upwork.consent(&asked.location(), FREELANCER).await;
        world.turn(std::time::Duration::from_secs(20));
        let answer = world.replica(&client, 1).navigate(&back).header("sec-fetch-site", "cross-site").await;
        assert_eq!((answer.status.as_u16(), answer.location().as_str()), (303, "/deep?x=1"), "{ahead}");
        assert_eq!(world.counters().token.authorization_code, 1);
        // The same sign-in is not redeemed again, at whatever age it is refused.
        for _ in 0..4 {
            let again = world.replica(&client.twin(), 1).get(&back).await;
            assert_ne!(again.status, 200, "{}", again.text());
            world.turn(std::time::Duration::from_secs(500));
        }
        assert_eq!(world.counters().token.authorization_code, 1);
    }
}
