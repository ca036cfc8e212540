//! The time-outs of a connection, and clients that leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};
use upwarden::testing::body::Body;
use upwarden::testing::listener::Limits;

use crate::harness::door::echo;
use crate::harness::{App, Door, Raw, World, talk, until, within};

const SHORT: Duration = Duration::from_millis(50);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_head_or_body_that_stops_arriving_is_answered_408() {
    let world = World::open(App::default())
        .set("public.timeouts.head", "300ms")
        .set("public.timeouts.body_idle", "300ms")
        .start();
    let at = world.public_address();
    let timed_out = async |reason: &str| {
        let name = format!("upwarden_refused_total{{door=\"public\",reason=\"{reason}\"}}");
        until(reason, async || (world.metric(&name).await == 2).then_some(())).await;
    };
    assert!(talk(at, "GET / HTTP/1.1\r\nHos").await.starts_with("HTTP/1.1 408 "));
    assert!(talk(at, format!("{GET}GET")).await.contains("GET /\nHTTP/1.1 408 "));
    timed_out("head_timeout").await;
    for body in ["Content-Length: 9\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n5"] {
        let answer = talk(at, format!("POST / HTTP/1.1\r\nHost: a\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    timed_out("body_timeout").await;
    // A head's deadline counts from its first byte, so a connection that only waits is not slow.
    let mut idle = Raw::to(at).await;
    let mut space = [0];
    assert!(tokio::time::timeout(Duration::from_millis(600), idle.0.read(&mut space)).await.is_err());
    idle.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.until("GET /late\n").await;
}

#[tokio::test]
async fn a_heads_time_starts_after_the_answer_before_it_and_not_with_an_empty_line() {
    let go = Arc::new(Notify::new());
    let limits = Limits { head_timeout: SHORT, ..Limits::default() };
    let door = {
        let go = go.clone();
        Door { limits, ..Door::default() }.open(move |request: http::Request<Body>, peer| {
            let go = go.clone();
            async move {
                if request.uri().path() == "/slow" {
                    go.notified().await;
                }
                echo(request, peer).await
            }
        })
    };
    let (mut busy, mut stray) = (door.connect().await, door.connect().await);
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /next HT").await;
    stray.send("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n").await;
    stray.until("POST /form [hi]").await;
    // A head that begins later than theirs times out before theirs do.
    assert!(door.talk("GET").await.starts_with("HTTP/1.1 408"));
    door.counted("upwarden_refused_total{door=\"public\",reason=\"head_timeout\"} 1").await;
    go.notify_one();
    assert!(busy.read_to_end().await.contains("GET /slow []HTTP/1.1 408"));
    stray.send(GET).await;
    stray.until("GET / []").await;
    door.close().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_silently_by_its_own_time_out() {
    let idle = SHORT * 6;
    let limits = Limits { head_timeout: SHORT, idle_timeout: idle, ..Limits::default() };
    let door = Door { limits, ..Door::default() }.open(echo);
    let began = Instant::now();
    assert_eq!(door.talk("").await, "");
    assert!(began.elapsed() >= idle);
    let began = Instant::now();
    let answer = door.talk(GET).await;
    assert!(answer.ends_with("GET / []"), "{answer}");
    assert!(began.elapsed() >= idle);
    door.close().await;
}

#[tokio::test]
async fn an_answer_that_the_client_does_not_read_is_cut() {
    let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
    let door =
        Door { limits, ..Door::default() }.open(|_, _| async { Response::new(Body::full(vec![b'a'; 64 << 20])) });
    let mut client = door.connect().await;
    client.send(GET).await;
    door.counted("upwarden_connections{door=\"public\"} 1").await;
    door.counted("upwarden_connections{door=\"public\"} 0").await;
    drop(client);
    door.close().await;
}

#[tokio::test]
async fn a_client_that_closed_its_half_gets_its_answer() {
    let (asked, mut seen) = mpsc::unbounded_channel();
    let go = Arc::new(Notify::new());
    let door = {
        let go = go.clone();
        Door::default().open(move |_, _| {
            let (asked, go) = (asked.clone(), go.clone());
            async move {
                asked.send(()).unwrap();
                go.notified().await;
                Response::new(Body::full("late"))
            }
        })
    };
    let mut client = door.connect().await;
    client.send(GET).await;
    client.0.shutdown().await.unwrap();
    within(seen.recv()).await.unwrap();
    go.notify_one();
    assert!(client.read_to_end().await.ends_with("late"));
    door.close().await;
}

/// Reports when it is dropped.
struct Gone(mpsc::UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_leaves_cancels_its_handler() {
    let (gone, mut seen) = mpsc::unbounded_channel();
    let (asked, mut arrived) = mpsc::unbounded_channel();
    let door = Door::default().open(move |_, _| {
        let (gone, asked) = (Gone(gone.clone()), asked.clone());
        async move {
            let _gone = gone;
            asked.send(()).unwrap();
            std::future::pending::<Response<Body>>().await
        }
    });
    for reset in [true, false] {
        let mut client = door.connect().await;
        client.send(GET).await;
        within(arrived.recv()).await.unwrap();
        if reset {
            client.0.set_zero_linger().unwrap();
        }
        drop(client);
        // A client that closed only its half may still want the answer, so this takes a while.
        within(seen.recv()).await.unwrap();
    }
    door.close().await;
}
