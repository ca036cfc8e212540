//! Sign-out: cookies, Upwork's tokens, and open sockets at this and at other replicas.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::DAY;
use crate::harness::{App, FREELANCER, World, within};
use crate::stores::world::{Server, Transport};

fn ended(message: Option<Result<Message, Error>>) -> bool {
    message.is_none_or(|message| message.map_or(true, |message| message.is_close()))
}

/// A `Set-Cookie` line's name, and its attributes without its age.
fn attributes(line: &str) -> (String, Vec<String>) {
    let mut parts = line.split("; ");
    let name = parts.next().unwrap().split('=').next().unwrap().to_owned();
    (name, parts.filter(|part| !part.starts_with("Max-Age")).map(str::to_owned).collect())
}

#[tokio::test]
async fn every_cookie_is_cleared_with_the_attributes_it_was_set_with() {
    let upwork = upwarden::sandbox::Config { token_chars: 3000, ..upwarden::sandbox::Config::default() };
    let world = World::new().upwork(upwork).start();
    let client = world.client();
    let begun = client.navigate("/x").await;
    let back = world.upwork.consent(&begun.location(), FREELANCER).await;
    // Another sign-in is pending when the session ends.
    let mut set = client.navigate("/y").await.set_cookies();
    let entered = client.navigate(&back).await;
    set.extend(entered.set_cookies().into_iter().filter(|line| !line.contains("Max-Age=0")));
    let out = client.post("/upwork/auth/logout", "").await;
    let cleared: Vec<_> = out.set_cookies().iter().map(|line| attributes(line)).collect();
    for line in &set {
        assert!(cleared.contains(&attributes(line)), "{line} by {cleared:?}");
    }
    assert!(set.len() >= 4 && client.cookies().is_empty(), "{:?}", client.cookies());
    assert_eq!(world.counters().revoke, 1);
    assert_eq!(client.navigate(&out.location()).await.status, 200, "it lands outside the gate");
}

#[tokio::test]
async fn a_websocket_at_another_replica_ends_at_its_next_check() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let plan = World::new().set("store.kind", "valkey").set("store.url", server.url.expose());
    let world = plan.app(App::sample()).replicas(2).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = world.replica(&client, 1).websocket("/echo").await.unwrap();
    client.twin().post("/upwork/auth/logout", "").await;
    socket.send(Message::text("still")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "still");
    world.turn(Duration::from_secs(31));
    assert!(ended(within(socket.next()).await));
}

#[tokio::test]
async fn a_websocket_ends_when_its_session_does_and_not_before() {
    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/echo").await.unwrap();
    // The session is used and refreshed elsewhere, and so lives on.
    world.turn(10 * DAY);
    assert_eq!(client.graphql(super::ME).await.status, 200);
    world.turn(10 * DAY);
    socket.send(Message::text("on")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "on");
    world.turn(4 * DAY);
    assert!(ended(within(socket.next()).await));
}

#[tokio::test]
async fn sign_out_everywhere_does_nothing_with_the_cookie_store() {
    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut socket = client.websocket("/echo").await.unwrap();
    let refused = client.post("/upwork/auth/logout", "everywhere=1").await;
    assert_eq!((refused.status.as_u16(), refused.set_cookies().len(), world.counters().revoke), (400, 0, 0));
    socket.send(Message::text("on")).await.unwrap();
    assert_eq!(within(socket.next()).await.unwrap().unwrap().into_text().unwrap(), "on");
    assert_eq!(client.graphql(super::ME).await.status, 200);
}
