//! A store that is down, or refuses writes: what clients get, and the state afterwards.

use redis::aio::MultiplexedConnection;
use redis::cmd;

use super::stores::{plan, readiness};
use super::{DAY, ME, SECOND};
use crate::harness::{AGENCY, FREELANCER, Raw, until, within};
use crate::stores::world::{Server, Transport};

/// Sends a command as the administrator.
async fn operate(admin: &mut MultiplexedConnection, words: &[&str]) {
    let (name, arguments) = words.split_first().unwrap();
    within(cmd(name).arg(arguments).query_async::<()>(admin)).await.unwrap();
}

#[tokio::test]
async fn a_sign_out_everywhere_that_failed_can_be_repeated() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let (here, there) = (world.sign_in(FREELANCER).await, world.sign_in(FREELANCER).await);
    let mut admin = server.admin().await;
    operate(&mut admin, &["ACL", "SETUSER", "upwarden", "-zrange"]).await;
    let out = || here.post("/upwork/auth/logout", "everywhere=1").header("origin", &world.url(""));
    // Without the store a call waits for its replica's part of the limits.
    let refused = world.turning(out()).await;
    assert_eq!((refused.status.as_u16(), refused.problem().as_str()), (503, "store-down"));
    assert_eq!(world.counters().revoke, 1, "the grant is revoked nonetheless");
    assert_eq!(here.get("/x").await.status, 200, "the session that asked can ask again");
    operate(&mut admin, &["ACL", "SETUSER", "upwarden", "+zrange"]).await;
    assert_eq!(world.turning(out()).await.location(), "/upwork/auth/logout?done=revoked&everywhere=1");
    for client in [&here, &there] {
        assert_eq!(client.get("/x").await.problem(), "sign-in-required");
    }
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_down_for_writes_and_serves_reads() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let client = world.sign_in(FREELANCER).await;
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    let mut admin = server.admin().await;
    operate(&mut admin, &["CONFIG", "SET", "maxmemory", "1"]).await;
    until("no readiness", async || (readiness(&world).await == 503).then_some(())).await;
    assert_eq!(client.get("/x").await.status, 200, "the session is read");
    world.turn(DAY);
    let answer = client.graphql(ME).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "store-down"));
    assert!(!answer.header("retry-after").is_empty() && answer.set_cookies().is_empty(), "{answer:?}");
    let stranger = world.client().navigate("/x").await;
    assert_eq!((stranger.status.as_u16(), stranger.header("location")), (503, ""));
    assert_eq!(world.counters().token.refresh_token, 0, "no token is requested that could not be saved");
    operate(&mut admin, &["CONFIG", "SET", "maxmemory", "0"]).await;
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    // Its token expired more than `session.recheck` ago, so a request to the app refreshes it first.
    world.turn(DAY + SECOND);
    until("a fresh token", async || {
        assert_eq!(client.get("/x").await.status, 200);
        (world.counters().token.refresh_token == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_code_that_arrives_while_the_store_is_down_can_be_redeemed_later() {
    let Some(mut server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let client = world.client();
    let back = world.callback(&client, "/x").await;
    server.kill();
    let page = client.navigate(&back).await;
    assert_eq!((page.status.as_u16(), page.header("location")), (503, ""));
    assert_eq!(world.counters().token.authorization_code, 0, "it is not redeemed");
    server.restart();
    until("readiness", async || (readiness(&world).await == 200).then_some(())).await;
    let answer = world.turning(client.navigate(&back)).await;
    assert_eq!(answer.location(), "/x", "the same address works");
    assert_eq!((client.get("/x").await.status.as_u16(), world.counters().revoke), (200, 0));
}

#[tokio::test]
async fn a_grant_whose_session_cannot_be_saved_is_revoked() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let mut admin = server.admin().await;
    drop(world.sign_in(FREELANCER).await);
    let lists: Vec<String> = within(cmd("KEYS").arg("upwarden:{u:*").query_async(&mut admin)).await.unwrap();
    // A key of the wrong type cannot list a session.
    operate(&mut admin, &["SET", &lists[0], "no list"]).await;
    let client = world.client();
    let page = world.sign_in_with(&client, FREELANCER, "/x").await;
    assert_eq!((page.status.as_u16(), page.header("location")), (503, ""));
    assert_eq!((world.counters().token.authorization_code, world.counters().revoke), (2, 1));
    assert_eq!(world.sign_in(AGENCY).await.get("/x").await.status, 200, "others can sign in");
}

#[tokio::test]
async fn public_paths_are_served_without_a_store_and_without_identity() {
    let Some(mut server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).public("/health").start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
    server.kill();
    until("no readiness", async || (readiness(&world).await == 503).then_some(())).await;
    assert_eq!(client.get("/health").await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), "");
    assert_eq!(client.get("/x").await.problem(), "store-down");
}

#[tokio::test]
async fn a_sign_out_completes_when_its_client_disconnects() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let world = plan(&server).start();
    let client = world.sign_in(FREELANCER).await;
    let copy = client.twin();
    let mut admin = server.admin().await;
    // The store holds every write back.
    operate(&mut admin, &["CLIENT", "PAUSE", "600000", "WRITE"]).await;
    let mut raw = Raw::to(world.public_address()).await;
    let (host, cookies) = (world.public_address(), client.jar().field().unwrap());
    raw.send(&format!(
        "POST /upwork/auth/logout HTTP/1.1\r\nHost: {host}\r\nCookie: {cookies}\r\nContent-Length: 0\r\n\r\n"
    ))
    .await;
    until("a write that waits", async || {
        let clients: String = within(cmd("CLIENT").arg("LIST").query_async(&mut admin.clone())).await.unwrap();
        clients.contains("flags=b").then_some(())
    })
    .await;
    raw.0.set_zero_linger().unwrap();
    drop(raw);
    let gone = "upwarden_requests_total{route=\"auth\",status=\"4xx\"}";
    until("the end of the connection", async || (world.metric(gone).await > 0).then_some(())).await;
    operate(&mut admin, &["CLIENT", "UNPAUSE"]).await;
    until("the revocation", async || {
        world.turn(SECOND);
        (world.counters().revoke == 1).then_some(())
    })
    .await;
    assert_eq!(copy.get("/x").await.problem(), "sign-in-required");
}
