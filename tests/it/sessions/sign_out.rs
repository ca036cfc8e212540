//! Sign-out: cookies, Upwork's tokens, and open sockets at this and at other replicas.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::plain;

use super::DAY;
use crate::harness::{AGENCY, App, FREELANCER, Raw, World, head, within};
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

/// An answer that begins and never ends.
fn endless() -> http::Response<Body> {
    let first = stream::iter([Ok(Frame::data("first".into()))]);
    http::Response::new(Body::wrap(StreamBody::new(first.chain(stream::pending()))))
}

/// Upwork's API, which begins an answer and never ends it.
async fn endless_api() -> (std::net::SocketAddr, tokio_util::sync::DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
    let answer = |_: http::Request<Body>, _: std::net::SocketAddr| std::future::ready(endless());
    tokio::spawn(plain::serve(listener, answer, shutdown.clone()));
    (address, shutdown.drop_guard())
}

#[tokio::test]
async fn event_streams_and_long_answers_of_app_and_api_end_with_their_session() {
    let (api, _ended) = endless_api().await;
    let plan = World::new().set("upwork.api_url", format!("http://{api}")).public("/health");
    let world = plan.app(App::new(|_| async { endless() })).start();
    let (client, other) = (world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await);
    let mut open = Vec::new();
    for target in ["/events", "/upwork/api/hr/v2/users/me.json"] {
        for client in [&client, &other] {
            let mut answer = client.get(target).open().await;
            assert_eq!(answer.text().await, "first", "{target}");
            open.push(answer);
        }
    }
    let mut public = world.client().get("/health").open().await;
    assert_eq!(public.text().await, "first");
    assert_eq!(client.twin().post("/upwork/auth/logout", "").await.status, 303);
    for number in [0, 2] {
        assert!(matches!(open[number].piece().await, Some(Err(_))), "{number}");
    }
    // Another user's go on, until that session ends too.
    for left in [&mut open.remove(3), &mut open.remove(1), &mut public] {
        let more = tokio::time::timeout(Duration::from_millis(50), left.piece()).await;
        assert!(more.is_err(), "{more:?}");
    }
}

/// An app that notes what it is sent, and answers nothing but a 101.
fn noting(switches: bool) -> (App, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (notes, arrived) = mpsc::unbounded_channel();
    let app = App::raw(move |mut stream| {
        let notes = notes.clone();
        async move {
            let asked = head(&mut stream).await.unwrap();
            if switches && asked.contains("upgrade: echo") {
                stream.write_all(b"HTTP/1.1 101 Yes\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await.unwrap();
            }
            let mut piece = [0; 1024];
            // A piece of no bytes stands for the end.
            while let Ok(count) = stream.read(&mut piece).await {
                notes.send(piece[..count].to_vec()).unwrap();
                if count == 0 {
                    return;
                }
            }
            notes.send(Vec::new()).unwrap();
        }
    });
    (app, arrived)
}

#[tokio::test]
async fn nothing_that_is_sent_after_a_sign_out_reaches_the_app() {
    for (switches, fields, piece) in [
        (true, "Connection: Upgrade\r\nUpgrade: echo\r\n", "hello"),
        (false, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n"),
    ] {
        let (app, mut noted) = noting(switches);
        let world = World::new().app(app).start();
        let client = world.sign_in(FREELANCER).await;
        let cookies = client.jar().field().unwrap();
        let mut raw = Raw::to(world.public_address()).await;
        let method = if switches { "GET" } else { "POST" };
        raw.send(format!(
            "{method} /open HTTP/1.1\r\nHost: {}\r\nCookie: {cookies}\r\n{fields}\r\n",
            world.public_address()
        ))
        .await;
        if switches {
            raw.until("\r\n\r\n").await;
        }
        raw.send(piece).await;
        assert!(String::from_utf8_lossy(&within(noted.recv()).await.unwrap()).contains("hello"));
        assert_eq!(client.twin().post("/upwork/auth/logout", "").await.status, 303);
        raw.send(piece).await;
        let after = within(noted.recv()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&after), "", "{fields}");
    }
}

#[tokio::test]
async fn an_event_stream_at_another_replica_ends_at_its_next_check_and_at_expiry() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let plan = World::new().set("store.kind", "valkey").set("store.url", server.url.expose());
    let world = plan.app(App::new(|_| async { endless() })).replicas(2).start();
    let (client, expiring) = (world.sign_in(FREELANCER).await, world.sign_in(AGENCY).await);
    let mut streams = Vec::new();
    for client in [&client, &expiring] {
        let mut answer = world.replica(client, 1).get("/events").open().await;
        assert_eq!(answer.text().await, "first");
        streams.push(answer);
    }
    client.twin().post("/upwork/auth/logout", "").await;
    world.turn(Duration::from_secs(31));
    assert!(matches!(streams[0].piece().await, Some(Err(_))));
    world.turn(15 * DAY);
    assert!(matches!(streams[1].piece().await, Some(Err(_))));
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
