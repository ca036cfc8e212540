//! Each limit and time-out through the whole sidecar: what is answered, and what is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::harness::{App, Raw, Start, World, head, until, within};
use upwarden::testing::body::Body;

/// Sends all of it and reads to the end.
async fn talk(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut client = Raw::to(address).await;
    let _ = client.0.write_all(bytes.as_ref()).await;
    client.rest().await
}

#[tokio::test]
async fn heads_and_bodies_have_their_limits() {
    let world = World::open(App::default())
        .set("public.limits.head_bytes", "16KiB")
        .set("public.limits.head_fields", 20)
        .set("public.limits.body_bytes", "1KiB")
        .start();
    let at = world.public_address();
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}\r\n\r\n", "y".repeat(17 << 10));
    assert!(talk(at, long).await.starts_with("HTTP/1.1 431 "));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(20));
    assert!(talk(at, many).await.starts_with("HTTP/1.1 431 "));
    world.refused("head_too_large").await;
    let told = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n";
    assert!(talk(at, told).await.starts_with("HTTP/1.1 413 "));
    let untold = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
        format!("100\r\n{}\r\n", "z".repeat(256)).repeat(5)
    );
    let answer = talk(at, untold).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close"), "{answer}");
    world.refused("body_too_large").await;
    assert!(world.app.seen().iter().all(|seen| seen.method != "GET"), "no refused head reached the app");
}

#[tokio::test]
async fn what_a_client_leaves_hanging_times_out() {
    let world = World::open(App::default())
        .set("public.timeouts.head", "300ms")
        .set("public.timeouts.body_idle", "300ms")
        .start();
    let at = world.public_address();
    assert!(talk(at, "GET / HTTP/1.1\r\nHo").await.starts_with("HTTP/1.1 408 "));
    world.refused("head_timeout").await;
    let answer = talk(at, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    world.refused("body_timeout").await;
    // The deadline of a head is counted from its first byte: a connection that only waits is not slow.
    let mut idle = Raw::to(at).await;
    let mut space = [0];
    assert!(tokio::time::timeout(Duration::from_millis(600), idle.0.read(&mut space)).await.is_err());
    idle.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
    idle.until("GET /late\n").await;
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_a_504_and_one_that_stops_a_cut() {
    let app = App::raw(|mut stream| async move {
        let asked = head(&mut stream).await.unwrap_or_default();
        if asked.starts_with("GET /half") {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await.unwrap();
        }
        std::future::pending::<()>().await;
        drop(stream);
    });
    let world = World::open(app).set("app.timeouts.first_byte", "300ms").set("app.timeouts.idle", "300ms").start();
    let slow = world.client().get("/silent").await;
    assert_eq!((slow.status.as_u16(), slow.problem().as_str()), (504, "app-slow"));
    let half = world.client().get("/half").await;
    assert_eq!((half.status.as_u16(), &half.body[..], half.broken), (200, &b"half"[..], true));
    assert!(world.metric("upwarden_upstream_errors_total{side=\"app\"}").await > 0);
}

#[tokio::test]
async fn a_full_door_says_so_and_the_admin_door_answers() {
    let world = World::open(App::default()).set("public.limits.connections", 3).start();
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut client = Raw::to(world.public_address()).await;
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("GET /held\n").await;
        held.push(client);
    }
    let answer = talk(world.public_address(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "), "{answer}");
    world.refused("connections").await;
    assert_eq!(world.admin().get("/readyz").await.status, 200);
    held.pop();
    until("room", async || {
        let mut client = Raw::to(world.public_address()).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_admin_door_answers_however_many_hold_it() {
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
    // The oldest made room.
    assert_eq!(held[0].rest().await, "");
}

#[tokio::test]
async fn an_address_has_its_share_and_a_trusted_proxy_more() {
    for (trusted, status) in [("", "503"), ("127.0.0.0/8", "200")] {
        let world = World::open(App::default())
            .set("public.limits.connections_per_address", 2)
            .set("public.trusted_proxies", trusted)
            .start();
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut client = Raw::to(world.public_address()).await;
            client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
            client.until("GET /held\n").await;
            held.push(client);
        }
        let mut third = Raw::to(world.public_address()).await;
        third.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(third.until("\r\n\r\n").await.starts_with(&format!("HTTP/1.1 {status}")), "trusted: {trusted:?}");
    }
}

#[tokio::test]
async fn few_descriptors_are_shared_and_leave_the_admin_door_some() {
    let sidecar = Start::with(App::default()).after("ulimit -n 100").set("workers", 1).start();
    let mut crowd = Vec::new();
    for _ in 0..80 {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push((client.until("\r\n\r\n").await, client));
    }
    let turned_away = crowd.iter().filter(|(answer, _)| answer.starts_with("HTTP/1.1 503")).count();
    // A quarter is kept, an eighth of the rest is for connections to the app; the one that lay idle was given back.
    assert_eq!(turned_away, 80 - 66);
    assert_eq!(sidecar.admin().get("/readyz").await.status, 200);
}

#[tokio::test]
async fn connections_that_lie_idle_at_the_app_make_room() {
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
    // 150 in all, 18 of them kept for the app: sixty clients leave sixty idle connections behind them.
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
async fn those_who_are_connected_share_what_is_left_for_the_app() {
    let asked = Arc::new(AtomicUsize::new(0));
    let seen = asked.clone();
    let held = App::new(move |request| {
        let seen = seen.clone();
        async move {
            if request.uri().path() == "/held" {
                seen.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            Response::new(Body::full("here"))
        }
    });
    let sidecar = Start::with(held).after("ulimit -n 100").set("workers", 1).start();
    let mut crowd = Vec::new();
    for _ in 0..65 {
        crowd.push(Raw::to(sidecar.public).await);
    }
    until("all of them", async || {
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
    let told = late.until("\"request_id\"").await;
    assert!(
        told.starts_with("HTTP/1.1 503") && told.contains("retry-after: 2") && told.contains(":overloaded"),
        "{told}"
    );
    crowd.drain(..10);
    until("room", async || {
        let mut client = Raw::to(sidecar.public).await;
        client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.until("\r\n\r\n").await.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_soft_limit_of_descriptors_is_raised_as_far_as_it_goes() {
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
    // So few that what is kept for other things is not enough.
    let sidecar = Start::with(App::default()).after("ulimit -n 26").set("workers", 1).start();
    assert_eq!(sidecar.client().get("/before").await.text(), "GET /before\n");
    let mut crowd = Vec::new();
    for _ in 0..30 {
        let mut client = Raw::to(sidecar.public).await;
        let _ = client.0.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        crowd.push(client);
    }
    // When some have gone, everybody is served again.
    drop(crowd);
    until("recovery", async || {
        let answer = within(sidecar.client().get("/after").attempt()).await.ok()?.whole().await;
        (answer.status == 200).then_some(())
    })
    .await;
    let told = sidecar.admin().get("/metrics").await.text();
    let accept = "upwarden_refused_total{door=\"public\",reason=\"accept\"} ";
    assert!(told.contains(accept), "{told}");
}

#[tokio::test]
async fn a_client_that_a_trusted_proxy_tells_of_has_its_share_of_requests() {
    let (go, at_work) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let app = {
        let (go, at_work) = (go.clone(), at_work.clone());
        App::new(move |request| {
            let (go, at_work) = (go.clone(), at_work.clone());
            async move {
                if request.uri().path() == "/slow" {
                    let go = go.notified();
                    at_work.fetch_add(1, Ordering::Relaxed);
                    go.await;
                }
                Response::new(Body::empty())
            }
        })
    };
    let world = World::open(app)
        .set("public.limits.connections_per_address", 2)
        .set("public.trusted_proxies", "127.0.0.0/8")
        .start();
    let ask = |path: &str, client: &str| {
        let call = world.client().get(path);
        if client.is_empty() { call } else { call.header("x-forwarded-for", client) }
    };
    let slow: Vec<_> = (0..2).map(|_| tokio::spawn(ask("/slow", "203.0.113.9").open())).collect();
    until("both at work", async || (at_work.load(Ordering::Relaxed) == 2).then_some(())).await;
    let third = ask("/", "203.0.113.9").await;
    assert_eq!((third.status.as_u16(), third.header("retry-after")), (503, "2"));
    world.refused("connections_per_address").await;
    for other in ["203.0.113.10", ""] {
        assert_eq!(ask("/", other).await.status, 200, "{other:?}");
    }
    go.notify_waiters();
    for slow in slow {
        assert_eq!(slow.await.unwrap().whole().await.status, 200);
    }
    until("room", async || (ask("/", "203.0.113.9").await.status == 200).then_some(())).await;
}
