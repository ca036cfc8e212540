//! HTTP/2 clients that break the protocol or flood us, while others are served.

use http::Response;
use upwarden::testing::body::Body;

use crate::harness::frames::{
    CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, field, frame, get,
};
use crate::harness::{App, Raw, World, logs, until, within};

fn world() -> World {
    World::open(App::default()).set("public.h2c", true).start()
}

/// Requests of other clients, over HTTP/1 and HTTP/2.
async fn others_are_served(world: &World) {
    assert_eq!(world.client().get("/other").await.text(), "GET /other\n");
    let mut other = Frames::to(world.public_address()).await;
    other.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/h2"))).await;
    assert_eq!(other.body(1).await, "GET /h2\n");
}

#[tokio::test]
async fn a_rapid_reset_is_stopped_before_most_of_it_reaches_the_app() {
    let world = world();
    let mut bad = Frames::to(world.public_address()).await;
    // CVE-2023-44487: begin and abort, thousands of times.
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/bad")));
        flood.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    // The connection may be closed before everything is sent.
    let (mut reader, mut writer) = bad.0.into_split();
    let flooding = tokio::spawn(async move {
        let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &flood).await;
        writer
    });
    others_are_served(&world).await;
    let mut waste = Vec::new();
    let _ = within(tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut waste)).await;
    flooding.await.unwrap();
    world.refused("http2_abuse").await;
    others_are_served(&world).await;
    let reached = world.app.seen().iter().filter(|seen| seen.target == "/bad").count();
    assert!(reached <= 1_000, "{reached} of 10,000 aborted requests reached the app");
    bad = Frames::to(world.public_address()).await;
    bad.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/again"))).await;
    assert_eq!(bad.body(1).await, "GET /again\n", "the address is not locked out");
}

#[tokio::test]
async fn a_flood_of_continuation_frames_ends_the_connection() {
    let world = world();
    let mut bad = Frames::to(world.public_address()).await;
    bad.send(&frame(HEADERS, END_STREAM, 1, &get("/bad"))).await;
    let more = field("x-more", &"m".repeat(100)).repeat(150);
    let mut sent = 0;
    // CVE-2024-24549 and similar: endless fields without END_HEADERS.
    while sent < 64 << 20 && bad.send(&frame(CONTINUATION, 0, 1, &more)).await {
        sent += more.len();
    }
    assert!(sent < 64 << 20, "{sent} bytes of one head were accepted");
    others_are_served(&world).await;
    world.refused("http2_abuse").await;
    assert!(world.app.seen().iter().all(|seen| seen.target != "/bad"));
}

#[tokio::test]
async fn a_head_that_is_too_long_is_answered() {
    let world = World::open(App::default()).set("public.h2c", true).set("public.limits.head_bytes", "16KiB").start();
    let mut bad = Frames::to(world.public_address()).await;
    let more = field("x-more", &"m".repeat(100)).repeat(150);
    bad.send(&frame(HEADERS, END_STREAM, 1, &get("/bad"))).await;
    bad.send(&frame(CONTINUATION, END_HEADERS, 1, &more)).await;
    let answer = loop {
        let frame = bad.next().await.expect("an answer");
        if frame.stream == 1 {
            break frame;
        }
    };
    assert_eq!(answer.kind, HEADERS, "{answer:?}");
    assert!(world.app.seen().is_empty());
    others_are_served(&world).await;
}

#[tokio::test]
async fn a_flood_of_pings_with_unread_answers_is_stopped() {
    let world = world();
    let mut bad = Frames::to(world.public_address()).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(1000);
    let flood = async {
        let mut sent = 0;
        // No answer is read: the queue of answers must not grow without end.
        while sent < 2_000 && bad.send(&pings).await {
            sent += 1;
        }
        sent
    };
    let sent = tokio::time::timeout(std::time::Duration::from_secs(2), flood).await;
    assert!(sent.is_err() || sent.unwrap() < 2_000, "two million pings were accepted");
    others_are_served(&world).await;
}

#[tokio::test]
async fn floods_of_frames_that_change_nothing_end_the_connection() {
    let grow = [0, 0, 0, 1];
    for (flood, what) in [
        (frame(WINDOW_UPDATE, 0, 0, &grow), "windows of the connection"),
        (frame(WINDOW_UPDATE, 0, 1, &grow), "windows of a stream that has ended"),
        (frame(RST_STREAM, 0, 1, &CANCEL), "resets of a stream that has ended"),
        (frame(PING, 1, 0, &[7; 8]), "answers to pings that were not sent"),
        (frame(SETTINGS, 1, 0, &[]), "acknowledged settings"),
    ] {
        let world = world();
        let mut bad = Frames::to(world.public_address()).await;
        bad.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/first"))).await;
        assert_eq!(bad.body(1).await, "GET /first\n");
        for _ in 0..30 {
            if !bad.send(&flood.repeat(1000)).await {
                break;
            }
        }
        bad.goaway().await;
        let open = "upwarden_connections{door=\"public\"}";
        until(what, async || (world.metric(open).await == 0).then_some(())).await;
        world.refused("http2_abuse").await;
        others_are_served(&world).await;
    }
}

#[tokio::test]
async fn a_client_that_opens_its_window_for_each_piece_is_no_flood() {
    let app = App::new(|_| async { Response::new(Body::full(vec![b'x'; 100 << 20])) });
    let world = World::open(app).set("public.h2c", true).start();
    let mut client = Frames::to(world.public_address()).await;
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/long"))).await;
    let (mut read, mut updates) = (0, 0);
    while read < 100 << 20 {
        let came = client.next().await.expect("the connection stays");
        if came.kind == SETTINGS && came.flags == 0 {
            client.send(&frame(SETTINGS, 1, 0, &[])).await;
        }
        if came.kind == DATA && !came.payload.is_empty() {
            read += came.payload.len();
            let grow = u32::try_from(came.payload.len()).unwrap().to_be_bytes();
            // A nervous client: a piece of the window at a time, for the stream and for the connection.
            let (first, second) = (u32::from_be_bytes(grow) / 2, u32::from_be_bytes(grow).div_ceil(2));
            for part in [first, second].into_iter().filter(|part| *part > 0) {
                let part = part.to_be_bytes();
                let both = [frame(WINDOW_UPDATE, 0, 1, &part), frame(WINDOW_UPDATE, 0, 0, &part)].concat();
                client.send(&both).await;
                updates += 2;
            }
        }
    }
    assert!(updates > 20_000, "{updates}");
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    for bytes in [
        // DATA on an idle stream; a header block of stream 0; an odd window; settings, a header block and a PING of a bad length.
        frame(0, 0, 1, b"x"),
        frame(HEADERS, END_HEADERS, 0, &get("/")),
        frame(8, 0, 0, &[0, 0, 0, 0]),
        frame(4, 0, 0, &[0; 5]),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x80]),
        frame(6, 0, 0, &[0; 7]),
    ] {
        let world = world();
        let mut bad = Frames::to(world.public_address()).await;
        bad.send(&bytes).await;
        assert!(bad.goaway().await.is_some_and(|code| code != 0), "{bytes:?}");
        world.refused("http2_abuse").await;
    }
}

#[tokio::test]
async fn split_cookies_reach_the_app_as_one() {
    let world = world();
    let mut client = Frames::to(world.public_address()).await;
    let head = [get("/"), field("cookie", "a=b"), field("cookie", "c=d"), field("te", "trailers")].concat();
    client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
    client.body(1).await;
    let seen = world.app.last();
    assert_eq!((seen.headers.get_all("cookie").iter().count(), seen.header("cookie")), (1, "a=b; c=d"));
    assert_eq!((seen.header("host"), seen.header("te")), ("a", "trailers"));
}

#[tokio::test]
async fn connection_specific_fields_are_a_protocol_error() {
    // RFC 9113 section 8.2.2: the stream is in error, and nothing of it reaches the app.
    let world = world();
    for name in ["connection", "upgrade", "transfer-encoding", "keep-alive", "Upper"] {
        let mut client = Frames::to(world.public_address()).await;
        let head = [get("/bad"), field(name, "x")].concat();
        client.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &head)).await;
        let refused = loop {
            let frame = client.next().await.expect("an error");
            match frame.kind {
                RST_STREAM => break frame.payload,
                GOAWAY => break frame.payload[4..8].to_vec(),
                _ => assert_ne!(frame.stream, 1, "{name}: {frame:?}"),
            }
        };
        assert_eq!(refused, [0, 0, 0, 1], "{name}: PROTOCOL_ERROR");
    }
    others_are_served(&world).await;
    assert!(world.app.seen().iter().all(|seen| seen.target != "/bad"));
    // The HTTP library itself resets these streams, or ends the connection.
    let counted = async |reason: &str| {
        world.metric(&format!("upwarden_refused_total{{door=\"public\",reason=\"{reason}\"}}")).await
    };
    assert!(counted("bad_message").await >= 4);
    until("all of them", async || (counted("bad_message").await + counted("http2_abuse").await == 5).then_some(()))
        .await;
    assert!(logs().contains("PROTOCOL_ERROR"));
}

#[tokio::test]
async fn prior_knowledge_is_refused_unless_it_is_configured() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(client.rest().await.starts_with("HTTP/1.1 505 "));
    assert!(world.app.seen().is_empty());
}
