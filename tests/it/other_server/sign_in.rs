//! Sign-in, refresh and sign-out as a strict server sees them.

use super::server::Server;
use super::{ME, SECRET, seconds, sign_in, world};

#[tokio::test]
async fn a_strict_server_finds_nothing_wrong_from_sign_in_to_sign_out() {
    let server = Server::start();
    // What the address says already, and a word that this server wants, are kept apart.
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
async fn a_token_of_no_life_is_used_once_and_each_call_asks_for_one() {
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
