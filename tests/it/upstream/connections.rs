//! Connections to the app: pooled, closed in time, never retried where that could do harm, and freed when the client leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::harness::{App, FREELANCER, Raw, World, head, until, within};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// An app that closes each connection after `answers` without announcing it, and counts connections and requests.
fn fickle(answers: usize, line: &'static str) -> (App, Arc<[AtomicUsize; 2]>) {
    let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let counted = counts.clone();
    let app = App::raw(move |mut stream| {
        let counts = counts.clone();
        async move {
            counts[0].fetch_add(1, Ordering::Relaxed);
            for _ in 0..answers {
                if head(&mut stream).await.is_none() {
                    return;
                }
                counts[1].fetch_add(1, Ordering::Relaxed);
                let answer = OK.replace("\r\n\r\n", &format!("\r\n{line}\r\n"));
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    });
    (app, counted)
}

#[tokio::test]
async fn a_get_survives_an_app_that_closes_idle_connections() {
    let (app, counts) = fickle(3, "");
    let world = World::open(app).set("workers", 1).start();
    let mut client = Raw::to(world.public_address()).await;
    for number in 0..300 {
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let answer = client.until("ok").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{number}: {answer}");
    }
    assert_eq!(counts[1].load(Ordering::Relaxed), 300, "each was sent once");
    let connections = counts[0].load(Ordering::Relaxed);
    assert!((100..=200).contains(&connections), "pooled: {connections}");
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_request_with_trailers() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let app = App::raw(move |mut stream| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            while head(&mut stream).await.is_some() {
                let mut body = Vec::new();
                while !body.ends_with(b"x-up: 7\r\n\r\n") {
                    body.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    });
    let world = World::open(app).set("workers", 1).start();
    let mut client = Raw::to(world.public_address()).await;
    for _ in 0..3 {
        let ask = "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Up\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.send([ask, "2\r\nhi\r\n0\r\nX-Up: 7\r\n\r\n"].concat()).await;
        client.until("ok").await;
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn gets_of_many_clients_survive_an_app_that_closes_idle_connections() {
    let (app, counts) = fickle(3, "");
    let world = World::open(app).start();
    let at = world.public_address();
    let clients: Vec<_> = (0..16)
        .map(|number| {
            tokio::spawn(async move {
                let mut client = Raw::to(at).await;
                for turn in 0..50 {
                    client.send(format!("GET /{number}/{turn} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
                    let answer = client.until("ok").await;
                    assert!(answer.starts_with("HTTP/1.1 200"), "{number}/{turn}: {answer}");
                }
            })
        })
        .collect();
    for client in clients {
        within(client).await.unwrap();
    }
    assert_eq!(counts[1].load(Ordering::Relaxed), 800, "each was sent once");
}

#[tokio::test]
async fn at_most_128_idle_connections_are_kept() {
    const CROWD: usize = 150;
    let (open_now, crowd) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Barrier::new(CROWD)));
    let counted = open_now.clone();
    let app = App::raw(move |mut stream| {
        let (open_now, crowd) = (open_now.clone(), crowd.clone());
        async move {
            open_now.fetch_add(1, Ordering::Relaxed);
            let mut first = true;
            while head(&mut stream).await.is_some() {
                if std::mem::take(&mut first) {
                    // No one is answered before everyone has asked, so that no connection is shared.
                    crowd.wait().await;
                }
                let _ = stream.write_all(OK.as_bytes()).await;
            }
            open_now.fetch_sub(1, Ordering::Relaxed);
        }
    });
    let world = World::open(app).set("workers", 1).start();
    let mut clients = Vec::new();
    for _ in 0..CROWD {
        let mut client = Raw::to(world.public_address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        clients.push(client);
    }
    for client in &mut clients {
        client.until("ok").await;
    }
    until("the other connections to be closed", async || (counted.load(Ordering::Relaxed) == 128).then_some(())).await;
}

#[tokio::test]
async fn idle_connections_are_kept_no_longer_than_the_app_allows() {
    // We keep a second less than the app does, so none of its one second is left.
    let (app, counts) = fickle(10, "Keep-Alive: timeout=1\r\n");
    let world = World::open(app).set("workers", 1).start();
    for _ in 0..3 {
        assert_eq!(world.client().get("/").await.text(), "ok");
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), 3);

    let (app, counts) = fickle(10, "Keep-Alive: timeout=60\r\n");
    let world = World::open(app).set("workers", 1).start();
    for _ in 0..3 {
        assert_eq!(world.client().get("/").await.text(), "ok");
    }
    assert_eq!(counts[0].load(Ordering::Relaxed), 1);
}

/// An app that answers the first request of a connection and closes it when another one comes.
fn trap() -> (App, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let app = App::raw(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut first = true;
            while let Some(head) = head(&mut stream).await {
                seen.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                if !first {
                    return;
                }
                first = false;
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        }
    });
    (app, kept)
}

#[tokio::test]
async fn a_get_is_retried_once_and_a_post_never() {
    let (app, seen) = trap();
    let world = World::open(app).set("workers", 1).start();
    let client = world.client();
    assert_eq!(client.get("/1").await.text(), "ok");
    assert_eq!(client.get("/2").await.text(), "ok", "sent on the old connection, answered on a fresh one");
    assert_eq!(client.post("/3", "body").await.status, 502);
    assert_eq!(client.get("/4").await.text(), "ok");
    assert_eq!(client.post("/5", "").await.status, 502, "without a body, too");
    assert_eq!(client.get("/6").await.text(), "ok");
    let put = client.call(http::Method::PUT, "/7").body(upwarden::testing::body::Body::full("body")).await;
    assert_eq!(put.status, 502, "idempotent, but part of its body was sent");
    let seen = seen.lock().unwrap();
    let count = |part: &str| seen.iter().filter(|line| line.contains(part)).count();
    assert_eq!((count("/2"), count("/3"), count("/5"), count("/7")), (2, 1, 1, 1), "{seen:?}");
}

#[tokio::test]
async fn a_get_is_not_retried_after_the_first_byte_of_its_answer() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let app = App::raw(move |mut stream| {
        let asked = asked.clone();
        async move {
            head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            if head(&mut stream).await.is_some() {
                asked.fetch_add(1, Ordering::Relaxed);
                stream.write_all(b"HTTP/1.1 2").await.unwrap();
            }
        }
    });
    let world = World::open(app).set("workers", 1).start();
    assert_eq!(world.client().get("/").await.text(), "ok");
    assert_eq!(world.client().get("/").await.status, 502);
    assert_eq!(counted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_get_on_a_fresh_connection_is_not_retried() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let app = App::raw(move |mut stream| {
        let asked = asked.clone();
        async move {
            head(&mut stream).await;
            asked.fetch_add(1, Ordering::Relaxed);
        }
    });
    let world = World::open(app).start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"));
    assert_eq!(counted.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_app() {
    let (sender, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let app = App::raw(move |mut stream| {
        let sender = sender.clone();
        async move {
            let asked = head(&mut stream).await.unwrap_or_default();
            let endless = asked.starts_with("GET /endless");
            if endless {
                stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
            }
            let mut waste = [0; 64];
            loop {
                tokio::select! {
                    read = stream.read(&mut waste) => if !matches!(read, Ok(1..)) { break },
                    () = tokio::time::sleep(Duration::from_millis(5)), if endless => {
                        if stream.write_all(b"1\r\nx\r\n").await.is_err() { break }
                    }
                }
            }
            sender.send(()).unwrap();
        }
    });
    let world = World::open(app).start();
    let mut client = Raw::to(world.public_address()).await;
    client.send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.until("1\r\nx\r\n").await;
    drop(client);
    within(gone.recv()).await.unwrap();
    // Also while the app has sent nothing.
    let mut client = Raw::to(world.public_address()).await;
    client.send("POST /silent HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhalf").await;
    drop(client);
    within(gone.recv()).await.unwrap();
}

#[tokio::test]
async fn an_app_that_is_down_is_a_502_at_once_and_is_served_when_it_is_back() {
    let world = World::open(App::default()).start();
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    drop(world);
    let world = World::open(App::default()).set("app.url", format!("http://{at}")).start();
    let begun = std::time::Instant::now();
    let down = world.client().get("/").await;
    assert_eq!((down.status.as_u16(), down.problem().as_str()), (502, "app-down"));
    let page = world.client().navigate("/").await;
    assert_eq!(page.status, 502);
    assert!(page.text().contains("http-equiv=\"refresh\"") || page.headers.contains_key("refresh"), "{}", page.text());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    let back = std::net::TcpListener::bind(at).unwrap();
    back.set_nonblocking(true).unwrap();
    let back = TcpListener::from_std(back).unwrap();
    let serving = tokio::spawn(App::default().serve(back, String::new()));
    until("the app to be served", async || (world.client().get("/").await.status == 200).then_some(())).await;
    serving.abort();
}

#[tokio::test]
async fn an_app_behind_a_unix_socket_is_reached() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new().app(App::default().on(&folder.path().join("app.sock"))).start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.post("/x?y=1", "body").await.text(), "POST /x?y=1\nbody");
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
}
