//! Answers that begin before the request has ended, `Expect: 100-continue`, trailers, and what must pass untouched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use upwarden::testing::body::Body;

use crate::harness::{App, Raw, World, feed, head, within};

/// An app that reads the head, says this, and tells what came after it until the connection ended.
fn blunt(answer: &'static [u8]) -> (App, UnboundedReceiver<Vec<u8>>) {
    let (told, after) = unbounded_channel();
    let app = App::raw(move |mut stream| {
        let told = told.clone();
        async move {
            if head(&mut stream).await.is_none() {
                return;
            }
            stream.write_all(answer).await.unwrap();
            let mut after = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut after).await;
            let _ = told.send(after);
        }
    });
    (app, after)
}

#[tokio::test]
async fn an_answer_that_comes_before_the_upload_ends_reaches_the_client() {
    for (answer, status) in [
        (&b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig"[..], 413),
        (&b"HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 3\r\n\r\nwho"[..], 401),
    ] {
        let (app, _) = blunt(answer);
        let world = World::open(app).start();
        let (pieces, body) = feed();
        pieces.send("the first of many".into()).await.unwrap();
        let call = world.client().call(http::Method::POST, "/up").body(body).open();
        // The upload never ends, and the answer is there all the same.
        let got = call.await;
        assert_eq!(got.status, status);
        assert_eq!(got.headers["connection"], "close");
        assert_eq!(got.whole().await.body.len(), 3);
        drop(pieces);
    }
}

#[tokio::test]
async fn a_client_that_is_expected_sends_only_when_the_app_says_so() {
    // What it sends all the same is a request of its own making to whoever takes the refusal for the end.
    let body = "POST /hidden HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let ask = "POST /up HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
    let ask = format!("{ask}Content-Length: {}\r\n\r\n", body.len());
    for status in ["413 Too Large", "417 Expectation Failed", "401 No"] {
        let answer: &'static [u8] = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n\r\nno.\n").leak().as_bytes();
        let (app, mut after) = blunt(answer);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send(&ask).await;
        let got = client.until("no.\n").await;
        assert!(got.starts_with(&format!("HTTP/1.1 {}", &status[..3])), "no 100 comes first: {got}");
        assert!(got.contains("connection: close\r\n"), "nobody knows what the client sends next: {got}");
        client.send(body).await;
        let after = within(after.recv()).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&after), "", "nothing of the body was sent, and the connection was closed");
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn nothing_of_an_upload_is_sent_after_the_end_of_its_answer() {
    for framed in ["content-length: 3\r\n\r\nbig", "transfer-encoding: chunked\r\n\r\n3\r\nbig\r\n0\r\n\r\n"] {
        let answer: &'static [u8] = format!("HTTP/1.1 413 Too Large\r\n{framed}").leak().as_bytes();
        let (app, mut after) = blunt(answer);
        let world = World::open(app).start();
        let mut client = Raw::to(world.public_address()).await;
        client.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nbegun").await;
        client.until("big").await;
        let _ = client.0.write_all(b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let after = within(after.recv()).await.unwrap();
        assert!(b"begun".starts_with(&after[..]), "{}", String::from_utf8_lossy(&after));
    }
}

#[tokio::test]
async fn an_answer_may_go_on_while_its_upload_does() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            let mut piece = [0; 2];
            stream.read_exact(&mut piece).await.unwrap();
            stream.write_all(&piece).await.unwrap();
        }
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n").await;
    client.until("\r\n\r\n").await;
    for piece in ["ab", "cd", "ef", "gh", "ij"] {
        client.send(piece).await;
        client.until(piece).await;
    }
}

#[tokio::test]
async fn what_is_refused_at_the_gate_leaves_the_connection() {
    let world = World::new().start();
    for door in [world.public_address(), world.neighbour_address()] {
        let mut client = Raw::to(door).await;
        for _ in 0..3 {
            client.send(format!("POST /upwork/graphql HTTP/1.1\r\nHost: {door}\r\nContent-Length: 5\r\n")).await;
            client.send("Authorization: Bearer upwd_nobodys\r\n\r\n").await;
            let got = client.until("request_id").await;
            assert!(got.contains("HTTP/1.1 401") && !got.contains("connection: close"), "{got}");
            client.send("hello").await;
        }
    }
}

#[tokio::test]
async fn http_1_0_neither_expects_nor_upgrades() {
    let world = World::open(App::default()).start();
    let mut client = Raw::to(world.public_address()).await;
    client
        .send(
            "POST /up HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Content-Length: 2\r\n\r\nhi",
        )
        .await;
    let got = client.rest().await;
    assert!(got.starts_with("HTTP/1.0 200") || got.starts_with("HTTP/1.1 200"), "no 100 comes first: {got}");
    let seen = world.app.last();
    assert_eq!((seen.header("expect"), seen.header("upgrade"), seen.header("connection")), ("", "", ""));
}

#[tokio::test]
async fn the_apps_100_lets_the_body_flow() {
    let app = App::raw(|mut stream| async move {
        let head = head(&mut stream).await.unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"), "{head}");
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    let begun = Instant::now();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    assert!(client.until("hello").await.starts_with("HTTP/1.1 200"));
    assert!(begun.elapsed() < Duration::from_millis(900), "nobody waited for a time-out");
}

#[tokio::test]
async fn an_app_that_says_no_100_gets_the_body_after_a_second() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.unwrap();
        stream.write_all(&body).await.unwrap();
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    client.until("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    assert!(client.until("hello").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_upload_that_pauses_is_no_slow_app() {
    let app = App::raw(|mut stream| async move {
        head(&mut stream).await.unwrap();
        let mut body = [0; 10];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole").await.unwrap();
        std::future::pending::<()>().await;
    });
    let world = World::open(app).set("app.timeouts.first_byte", "200ms").start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
    let mut space = [0];
    // Several times as long as the app has to answer.
    assert!(tokio::time::timeout(Duration::from_secs(1), client.0.read(&mut space)).await.is_err(), "no 504 yet");
    client.send("later").await;
    assert!(client.until("whole").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn trailers_go_both_ways_where_both_sides_asked() {
    let app = App::new(|request| async {
        let te = request.headers().get("te").cloned();
        let announced = request.headers().get("trailer").cloned();
        let sent = request.into_body().into_data_stream_and_trailers().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        let frames = [Ok::<_, std::convert::Infallible>(Frame::data("body".into())), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).map_err(|never| match never {});
        let mut response = Response::new(Body::wrap(body));
        response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let told = format!("te {te:?} trailer {announced:?} sent {sent:?}");
        response.headers_mut().insert("x-told", HeaderValue::from_str(&told.replace('"', "'")).unwrap());
        response
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client
        .send(
            "POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\nTrailer: X-Up\r\n\
             Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Up: 7\r\n\r\n",
        )
        .await;
    let got = client.rest().await;
    assert!(got.contains("te Some('trailers') trailer Some('X-Up') sent Some('7')"), "{got}");
    assert!(got.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"), "{got}");
    let mut plain = Raw::to(world.public_address()).await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let got = plain.rest().await;
    assert!(got.contains("te None") && got.ends_with("4\r\nbody\r\n0\r\n\r\n"), "nobody asked: {got}");
    assert!(!got.contains("trailer: "), "none is announced: {got}");
}

/// The trailers that a body ends with.
trait Trailers {
    async fn into_data_stream_and_trailers(self) -> Option<String>;
}

impl Trailers for Body {
    async fn into_data_stream_and_trailers(self) -> Option<String> {
        let trailers = BodyExt::collect(self).await.ok()?.trailers().cloned()?;
        Some(trailers.get("x-up")?.to_str().ok()?.to_owned())
    }
}

#[tokio::test]
async fn events_pass_one_by_one() {
    let (events, body) = feed();
    let body = Arc::new(std::sync::Mutex::new(Some(body)));
    let app = App::new(move |_| {
        let body = body.lock().unwrap().take().unwrap_or_else(Body::empty);
        async move {
            let mut response = Response::new(body);
            response.headers_mut().insert("content-type", HeaderValue::from_static("text/event-stream"));
            response
        }
    });
    let world = World::open(app).start();
    let opening = tokio::spawn(world.client().get("/events").open());
    events.send("data: 0\n\n".into()).await.unwrap();
    let mut got = opening.await.unwrap();
    assert_eq!(got.headers["content-type"], "text/event-stream");
    for number in 0..20 {
        // Each is read before the next is written.
        assert_eq!(got.text().await, format!("data: {number}\n\n"));
        events.send(format!("data: {}\n\n", number + 1).into()).await.unwrap();
    }
    drop(events);
}

#[tokio::test]
async fn ranges_conditions_and_codings_pass_untouched() {
    let app = App::new(|request| async move {
        let mut response = Response::new(Body::full(&b"\x1f\x8b\x08\x00raw"[..]));
        *response.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        for (name, value) in [
            ("content-range", "bytes 0-6/100"),
            ("content-encoding", "gzip"),
            ("etag", "W/\"x\""),
            ("vary", "accept-encoding"),
            ("last-modified", "Tue, 24 Nov 2026 00:00:00 GMT"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        if request.headers().contains_key("if-none-match") {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
        }
        response
    });
    let world = World::open(app).start();
    let asked = [
        ("range", "bytes=0-6"),
        ("if-range", "W/\"x\""),
        ("accept-encoding", "zstd, br;q=0.5"),
        ("if-modified-since", "Tue, 24 Nov 2026 00:00:00 GMT"),
    ];
    let got = world.client().get("/file").headers(&asked).await;
    assert_eq!((got.status.as_u16(), &got.body[..]), (206, &b"\x1f\x8b\x08\x00raw"[..]));
    assert_eq!((got.header("content-range"), got.header("content-encoding")), ("bytes 0-6/100", "gzip"));
    assert_eq!((got.header("etag"), got.header("content-length")), ("W/\"x\"", "7"));
    for (name, value) in asked {
        assert_eq!(world.app.last().header(name), value);
    }
    let unchanged = world.client().get("/file").header("if-none-match", "W/\"x\"").await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("etag"), unchanged.body.len()), (304, "W/\"x\"", 0));
}
