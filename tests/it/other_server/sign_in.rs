//! Sign-in, refresh and sign-out against a strict server.

use super::server::Server;
use super::{ME, SECRET, seconds, sign_in, world};
use crate::harness::until;

#[tokio::test]
async fn a_strict_server_finds_nothing_wrong_from_sign_in_to_sign_out() {
    let server = Server::start();
    // The URL has a query of its own, which stays.
    let world =
        world(&server).set("upwork.authorize_url", format!("http://{}/authorize?tenant=x%20y", server.address)).start();
    let client = sign_in(&world, &server).await;
    assert_eq!(client.graphql(ME).await.json()["data"]["user"]["id"], "111");
    world.turn(seconds(3600));
    assert_eq!(client.graphql(ME).await.status, 200);
    server.refuse_all();
    assert_eq!(client.graphql(ME).await.status, 200);
    let out = client.post("/upwork/auth/logout", "").await;
    assert!(out.location().ends_with("done=revoked"), "{out:?}");
    let state = server.lock();
    assert_eq!(state.asked, ["authorization_code", "refresh_token", "refresh_token"]);
    assert_eq!(state.wrong, Vec::<String>::new());
    assert!(state.received.iter().any(|value| value == "x y") && state.received.iter().any(|value| value == SECRET));
}

#[tokio::test]
async fn a_token_with_no_lifetime_is_used_for_one_call() {
    let server = Server::start();
    let world = world(&server).start();
    for expires_in in [0, 1] {
        server.lock().granted = serde_json::json!({ "expires_in": expires_in });
        let client = sign_in(&world, &server).await;
        for _ in 0..2 {
            world.turn(seconds(expires_in));
            server.lock().asked.clear();
            assert_eq!(client.graphql(ME).await.status, 200);
            assert_eq!(server.lock().asked, ["refresh_token"], "expires_in {expires_in}");
        }
    }
    assert_eq!(server.lock().wrong, Vec::<String>::new());
}

#[tokio::test]
async fn a_service_identity_whose_tokens_have_no_lifetime_is_not_renewed_in_a_loop() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    (server.lock().refresh, server.lock().granted) = (Some("first".to_owned()), serde_json::json!({ "expires_in": 0 }));
    let world = world(&server)
        .set("store.kind", "embedded")
        .set("store.path", folder.path().join("store.redb").display())
        .set("service.grant", "refresh_token")
        .set("service.refresh_token_file", file.display())
        .start();
    until("the first renewal", || async { (!server.lock().asked.is_empty()).then_some(()) }).await;
    for calls in 2..5 {
        assert_eq!(world.neighbour().graphql(ME).without("sec-fetch-site").await.status, 200);
        // The clock stands still, so only the calls ask.
        assert_eq!(server.lock().asked.len(), calls);
    }
    assert_eq!(server.lock().wrong, Vec::<String>::new());
}

#[tokio::test]
async fn a_refresh_without_an_answer_times_out_and_the_next_one_works() {
    let server = Server::start();
    let world = world(&server).start();
    let client = sign_in(&world, &server).await;
    world.turn(seconds(4000));
    server.lock().silent = true;
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(client.twin().graphql(ME).into_future())).collect();
    for call in calls {
        let answer = call.await.unwrap();
        assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "refresh-unavailable"));
    }
    server.lock().silent = false;
    until("a token", || async { (client.graphql(ME).await.status == 200).then_some(()) }).await;
    assert_eq!(server.lock().asked, ["authorization_code", "unanswered", "refresh_token"]);
}
