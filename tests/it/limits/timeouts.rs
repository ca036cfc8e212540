//! The times of a connection, and clients that leave.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use upwarden::testing::body::Body;
use upwarden::testing::listener::Limits;

use crate::harness::door::echo;
use crate::harness::{Door, within};

const SHORT: Duration = Duration::from_millis(50);
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_head_that_takes_too_long_is_answered_408() {
    let limits = Limits { head_timeout: SHORT, ..Limits::default() };
    let door = Door { limits, ..Door::default() }.open(echo);
    let answer = door.talk("GET / HTTP/1.1\r\nHos").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.ends_with("head_timeout"), "{answer}");
    let answer = door.talk(format!("{GET}GET")).await;
    assert!(answer.contains("GET / []HTTP/1.1 408"), "{answer}");
    door.counted("upwarden_refused_total{door=\"public\",reason=\"head_timeout\"} 2").await;
    door.close().await;
}

#[tokio::test]
async fn the_time_of_a_head_begins_behind_the_answer_before_it_and_an_empty_line_begins_none() {
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
    // A head that begins after theirs is out of time before theirs are.
    assert!(door.talk("GET").await.starts_with("HTTP/1.1 408"));
    door.counted("upwarden_refused_total{door=\"public\",reason=\"head_timeout\"} 1").await;
    go.notify_one();
    assert!(busy.read_to_end().await.contains("GET /slow []HTTP/1.1 408"));
    stray.send(GET).await;
    stray.until("GET / []").await;
    door.close().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word_and_not_by_the_time_of_heads() {
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
async fn a_body_of_which_nothing_comes_is_ended_with_408() {
    let limits = Limits { body_idle_timeout: SHORT, ..Limits::default() };
    let door = Door { limits, ..Door::default() }.open(echo);
    for message in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5",
    ] {
        let answer = door.talk(message).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.ends_with("body_timeout"), "{answer}");
    }
    door.counted("upwarden_refused_total{door=\"public\",reason=\"body_timeout\"} 2").await;
    door.close().await;
}

#[tokio::test]
async fn an_answer_that_nobody_takes_is_cut() {
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
async fn a_client_that_closed_its_half_is_answered() {
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

/// Says so when it is dropped.
struct Gone(mpsc::UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[tokio::test]
async fn a_client_that_goes_away_cancels_its_handler() {
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
        // A closed half alone might still want its answer, so that one takes a while.
        within(seen.recv()).await.unwrap();
    }
    door.close().await;
}
