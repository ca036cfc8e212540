//! Bodies to the app and back: piece by piece, whole, with trailers.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upwarden::testing::body::Body;

use crate::harness::{App, FREELANCER, Raw, World, feed, head, within};

#[tokio::test]
async fn an_answer_may_stream_while_its_chunked_request_does() {
    // Echoes each piece as it comes.
    let app = App::new(|request| async { Response::new(request.into_body()) });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let (pieces, body) = feed();
    let asking = client.call(Method::POST, "/echo").body(body).open();
    pieces.send(Bytes::from_static(b"one")).await.unwrap();
    let mut answer = within(asking).await;
    assert_eq!(answer.text().await, "one", "the answer begins before the request has ended");
    for piece in ["two", "three"] {
        pieces.send(Bytes::from_static(piece.as_bytes())).await.unwrap();
        assert_eq!(answer.text().await, piece);
    }
    drop(pieces);
    let rest = answer.whole().await;
    assert!(rest.body.is_empty() && !rest.broken);
}

#[tokio::test]
async fn an_answer_may_stream_while_its_sized_request_does() {
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
async fn large_bodies_come_through_whole() {
    let app = App::new(|request| async { Response::new(request.into_body()) });
    let world = World::new().app(app).start();
    let client = world.sign_in(FREELANCER).await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|place| u8::try_from(place % 251).unwrap()).collect();
    let answer = client.post("/", large.clone()).await;
    assert!(answer.body == large, "{} bytes", answer.body.len());
}

#[tokio::test]
async fn events_pass_one_at_a_time() {
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

    let world = World::new().app(App::sample()).start();
    let client = world.sign_in(FREELANCER).await;
    let mut events = client.get("/events").header("accept", "text/event-stream").open().await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    for id in 1..=2 {
        assert!(events.text().await.starts_with(&format!("id: {id}\n")));
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_when_both_sides_ask() {
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
        let seen = format!("te {te:?} trailer {announced:?} sent {sent:?}");
        response.headers_mut().insert("x-seen", HeaderValue::from_str(&seen.replace('"', "'")).unwrap());
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
    let answer = world.client().fetch("/").header("te", "trailers").header("connection", "te").await;
    assert_eq!((answer.text().as_str(), answer.broken), ("body", false));
    assert_eq!(answer.trailers.expect("trailers")["x-sum"], "42");
    let mut plain = Raw::to(world.public_address()).await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    let got = plain.rest().await;
    assert!(got.contains("te None") && got.ends_with("4\r\nbody\r\n0\r\n\r\n"), "the client did not ask: {got}");
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
