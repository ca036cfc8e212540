//! HTTP/2 clients that are slow, silent or in a hurry: each is served or cut off, and others do not notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::sync::Notify;
use upwarden::testing::body::Body;

use crate::harness::frames::{
    CANCEL, END_HEADERS, END_STREAM, Frame, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, frame, get,
};
use crate::harness::{App, Raw, World, until, within};

const GET: u8 = END_HEADERS | END_STREAM;

fn world(app: App) -> World {
    World::open(app)
        .set("public.h2c", true)
        .set("public.timeouts.idle", "400ms")
        .set("public.timeouts.head", "400ms")
        .start()
}

/// Answers `/held` when it is notified, `/big` with 4 MiB, and counts the requests for `/held`.
fn app() -> (App, Arc<AtomicUsize>, Arc<Notify>) {
    let (asked, go) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (seen, let_go) = (asked.clone(), go.clone());
    let app = App::new(move |request| {
        let (asked, go) = (asked.clone(), go.clone());
        async move {
            match request.uri().path() {
                "/held" => {
                    asked.fetch_add(1, Ordering::Relaxed);
                    go.notified().await;
                    Response::new(Body::full("held"))
                }
                "/big" => Response::new(Body::full(vec![b'b'; 4 << 20])),
                _ => Response::new(Body::full("here")),
            }
        }
    });
    (app, seen, let_go)
}

#[tokio::test]
async fn a_request_that_crosses_our_goaway_is_answered_however_long_it_takes() {
    let (app, asked, go) = app();
    let world = world(app);
    let mut client = Frames::to(world.public_address()).await;
    client.send(&frame(HEADERS, GET, 1, &get("/"))).await;
    assert_eq!(client.body(1).await, "here");
    let last = |frame: &Frame| u32::from_be_bytes(frame.payload[..4].try_into().unwrap());
    let goaway = async |client: &mut Frames| loop {
        let frame = client.next().await.expect("a GOAWAY");
        if frame.kind == GOAWAY {
            break last(&frame);
        }
    };
    assert_eq!(goaway(&mut client).await, (1 << 31) - 1, "idle for too long");
    client.send(&frame(HEADERS, GET, 3, &get("/held"))).await;
    until("the app to be asked", async || (asked.load(Ordering::Relaxed) == 1).then_some(())).await;
    // The client does not answer our ping. That ends only the wait for its answer.
    assert_eq!(goaway(&mut client).await, 3);
    go.notify_one();
    assert_eq!(client.body(3).await, "held");
    assert_eq!(client.goaway().await, None, "then it ends");
}

#[tokio::test]
async fn a_page_that_cancels_everything_it_was_loading_keeps_its_connection() {
    let (app, asked, go) = app();
    let world = world(app);
    let mut client = Frames::to(world.public_address()).await;
    for stream in (1..300).step_by(2) {
        client.send(&frame(HEADERS, GET, stream, &get("/held"))).await;
    }
    until("all at the app", async || (asked.load(Ordering::Relaxed) == 150).then_some(())).await;
    for stream in (1..300).step_by(2) {
        client.send(&frame(RST_STREAM, 0, stream, &CANCEL)).await;
    }
    client.send(&frame(HEADERS, GET, 301, &get("/held"))).await;
    until("the next page", async || (asked.load(Ordering::Relaxed) == 151).then_some(())).await;
    go.notify_waiters();
    assert_eq!(client.body(301).await, "held");
}

#[tokio::test]
async fn an_answer_for_which_the_client_opens_no_window_is_reset() {
    let (app, ..) = app();
    let world = world(app);
    let mut client = Frames::to(world.public_address()).await;
    // RFC 9113 section 6.5.2: SETTINGS_INITIAL_WINDOW_SIZE is 0.
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
    client.send(&frame(HEADERS, GET, 1, &get("/big"))).await;
    loop {
        let frame = client.next().await.expect("a reset");
        if frame.kind == RST_STREAM {
            assert_eq!((frame.stream, &frame.payload[..]), (1, &CANCEL[..]));
            break;
        }
    }
    world.refused("answer_timeout").await;
    // The connection still serves other streams, although its own window was used up.
    client.send(&frame(8, 0, 0, &[0, 16, 0, 0])).await;
    client.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])).await;
    client.send(&frame(HEADERS, GET, 3, &get("/"))).await;
    assert_eq!(client.body(3).await, "here");
}

#[tokio::test]
async fn a_head_that_does_not_arrive_ends_the_connection() {
    let (app, ..) = app();
    let world = world(app);
    let half = frame(HEADERS, END_STREAM, 1, &get("/"));
    let whole = frame(HEADERS, GET, 1, &get("/"));
    for bytes in [&half[..], &whole[..4], &whole[..20], &frame(PING, 0, 0, &[7; 8])[..12]] {
        let mut slow = Frames::to(world.public_address()).await;
        slow.send(bytes).await;
        while slow.next().await.is_some() {}
    }
    let name = "upwarden_refused_total{door=\"public\",reason=\"head_timeout\"}";
    assert_eq!(world.metric(name).await, 4);
    let silent = Raw::to(world.public_address()).await;
    let mut silent = Frames(silent.0);
    silent.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    while silent.next().await.is_some() {}
    assert_eq!(world.metric(name).await, 5, "the preface alone does not start anything");
    assert!(world.app.seen().is_empty());
}

#[tokio::test]
async fn a_flood_of_pings_or_settings_is_stopped_even_if_the_answers_are_read() {
    for kind in [PING, SETTINGS] {
        let (app, ..) = app();
        let world = world(app);
        let bad = Frames::to(world.public_address()).await;
        let (mut reader, mut writer) = bad.0.into_split();
        let reading = tokio::spawn(async move {
            let mut waste = Vec::new();
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut waste).await;
        });
        let flood = frame(kind, 0, 0, if kind == PING { &[7; 8] } else { &[] }).repeat(1000);
        let mut sent = 0;
        while sent < 100 && tokio::io::AsyncWriteExt::write_all(&mut writer, &flood).await.is_ok() {
            sent += 1;
        }
        within(reading).await.unwrap();
        world.refused("http2_abuse").await;
    }
}
