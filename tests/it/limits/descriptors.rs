//! File descriptors: shared between clients and the app, and never exhausted for the admin door.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use tokio::io::AsyncWriteExt;
use upwarden::testing::body::Body;

use crate::harness::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, RST_STREAM, SETTINGS, field, frame, get};
use crate::harness::{App, Raw, Start, until, within};

#[tokio::test]
async fn the_admin_door_answers_however_many_connections_it_has() {
    let sidecar = Start::with(App::default()).after("ulimit -n 200").start();
    let mut held = Vec::new();
    for number in 0..250 {
        let mut client = Raw::to(sidecar.admin).await;
        if number % 2 == 0 {
            client.send("GET /livez HTTP/1.1\r\nHost: a\r\nx-slow: ").await;
        }
        held.push(client);
    }
    assert_eq!(sidecar.admin().get("/livez").await.status, 200);
    assert_eq!(sidecar.client().get("/others").await.status, 200);
    // The oldest was closed for them.
    assert_eq!(held[0].rest().await, "");
}

#[tokio::test]
async fn scarce_descriptors_are_shared_and_some_are_kept_for_the_admin_door() {
    let sidecar = Start::with(App::default()).after("ulimit -n 100").set("workers", 1).start();
    let mut crowd = Vec::new();
    for _ in 0..80 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push((client.until("\r\n\r\n").await, client));
    }
    let turned_away = crowd.iter().filter(|(answer, _)| answer.starts_with("HTTP/1.1 503")).count();
    // A quarter is reserved, an eighth of the rest is for connections to the app; the idle one was given back.
    assert_eq!(turned_away, 80 - 66);
    assert_eq!(sidecar.admin().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn idle_connections_to_the_app_are_closed_for_new_clients() {
    let met = Arc::new(tokio::sync::Barrier::new(60));
    let app = App::new(move |request| {
        let met = met.clone();
        async move {
            if request.uri().path() == "/together" {
                met.wait().await;
            }
            Response::new(Body::full("here"))
        }
    });
    let sidecar = Start::with(app).after("ulimit -n 200").set("workers", 2).start();
    // 150 in all, 18 of them kept for the app: sixty clients leave sixty idle connections.
    let mut crowd = Vec::new();
    for _ in 0..60 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET /together HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push(client);
    }
    for client in &mut crowd {
        assert!(client.until("here").await.starts_with("HTTP/1.1 200"));
    }
    for _ in 0..60 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"), "after {}", crowd.len());
        crowd.push(client);
    }
}

#[tokio::test]
async fn connected_clients_share_what_is_left_for_the_app() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let app = App::new(move |request| {
        let seen = seen.clone();
        async move {
            if request.uri().path() == "/held" {
                seen.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            Response::new(Body::full("here"))
        }
    });
    let sidecar = Start::with(app).after("ulimit -n 100").set("workers", 1).start();
    let mut crowd = Vec::new();
    for _ in 0..65 {
        crowd.push(Raw::to(sidecar.public).await);
    }
    until("all connections", async || {
        let metrics = sidecar.admin().get("/metrics").await.text();
        metrics.contains("upwarden_connections{door=\"public\"} 65\n").then_some(())
    })
    .await;
    // Ten descriptors are left, and as many requests have a connection to the app.
    for client in &mut crowd[..10] {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    until("ten at the app", async || (asked.load(Ordering::Relaxed) == 10).then_some(())).await;
    let late = &mut crowd[10];
    late.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let answer = late.until("\"request_id\"").await;
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2") && answer.contains(":overloaded"),
        "{answer}"
    );
    crowd.drain(..10);
    until("a free place", async || {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn unread_answers_do_not_block_other_clients() {
    let app = App::new(|request| async move {
        let long = request.uri().path() == "/long";
        Response::new(Body::full(if long { vec![b'x'; 1 << 20] } else { b"here".to_vec() }))
    });
    let sidecar = Start::with(app).after("ulimit -n 512").set("workers", 2).set("public.h2c", true);
    let sidecar = sidecar.set("public.trusted_proxies", "127.0.0.1/32").start();
    // Two clients with 200 requests each and no window at all, which ask again for what is cut off.
    let mut floods = Vec::new();
    for client in ["203.0.113.1", "203.0.113.2"] {
        let address = sidecar.public;
        let get = move |path: &str| [get(path), field("x-forwarded-for", client)].concat();
        floods.push(tokio::spawn(async move {
            let mut bad = Frames::to(address).await;
            // SETTINGS_INITIAL_WINDOW_SIZE 0 (RFC 9113 section 6.5.2).
            bad.send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
            let mut next = 1;
            for _ in 0..200 {
                bad.send(&frame(HEADERS, END_HEADERS | END_STREAM, next, &get("/long"))).await;
                next += 2;
            }
            let (mut heads, mut resets) = (0, 0);
            while let Some(came) = bad.next().await {
                heads += usize::from(came.kind == HEADERS);
                if came.kind == RST_STREAM {
                    resets += 1;
                    bad.send(&frame(HEADERS, END_HEADERS | END_STREAM, next, &get("/long"))).await;
                    next += 2;
                }
            }
            (heads, resets)
        }));
    }
    // Its own pages need no descriptor but the client's.
    let mut crowd = Vec::new();
    for number in 0..100 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET /upwork/auth/session HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let answer = client.until("\r\n\r\n").await;
        assert!(!answer.contains("Too many connections"), "{number}: a connection was refused");
        crowd.push(client);
    }
    // Others are served while the two go on.
    for _ in 0..5 {
        until("an answer", async || {
            let answer = within(sidecar.client().get("/").attempt()).await.ok()?.whole().await;
            (answer.status == 200).then_some(())
        })
        .await;
    }
    drop(sidecar);
    let mut cut = 0;
    for flood in floods {
        let (heads, resets) = flood.await.unwrap();
        assert!(heads > 0);
        cut += resets;
    }
    assert!(cut > 0, "the longest unread were cut");
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    let sidecar = Start::with(App::default()).after("ulimit -Sn 64").set("public.limits.connections", 200).start();
    let mut crowd = Vec::new();
    for _ in 0..150 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200"));
        crowd.push(client);
    }
}

#[tokio::test]
async fn running_out_of_descriptors_is_survived() {
    // So few that even the reserve is not enough.
    let sidecar = Start::with(App::default()).after("ulimit -n 26").set("workers", 1).start();
    assert_eq!(sidecar.client().get("/before").await.text(), "GET /before\n");
    let mut crowd = Vec::new();
    for _ in 0..30 {
        let mut client = Raw::to(sidecar.public).await;
        let _ = client.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push(client);
    }
    // When some have left, everyone is served again.
    drop(crowd);
    until("recovery", async || {
        let answer = within(sidecar.client().get("/after").attempt()).await.ok()?.whole().await;
        (answer.status == 200).then_some(())
    })
    .await;
    let metrics = sidecar.admin().get("/metrics").await.text();
    let accept = "upwarden_refused_total{door=\"public\",reason=\"accept\"} ";
    assert!(metrics.contains(accept), "{metrics}");
}
