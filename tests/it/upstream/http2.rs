//! An app that speaks HTTP/2: by prior knowledge, and by ALPN.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio_rustls::TlsAcceptor;
use upwarden::testing::body::{Body, Error};

use crate::harness::{App, Certificate, FREELANCER, Plan, World, listener, within};

/// An app on HTTP/2 alone, and how many connections were made to it.
struct Http2App {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Http2App {
    /// Answers with `answer`; a connection sends GOAWAY after `requests`.
    fn new<H, F>(requests: usize, answer: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::raw(move |stream| {
            let (answer, served) = (answer.clone(), Arc::new(AtomicUsize::new(0)));
            async move {
                let counted = served.clone();
                let service = service_fn(move |request| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
                let mut leaving = false;
                // An app's connection ends as it will.
                let _ = poll_fn(|cx| {
                    let polled = connection.as_mut().poll(cx);
                    if served.load(Ordering::Relaxed) >= requests && !leaving {
                        leaving = true;
                        connection.as_mut().graceful_shutdown();
                        return connection.as_mut().poll(cx);
                    }
                    polled
                })
                .await;
            }
        })
    }

    fn raw<H, F>(talk: H) -> Self
    where
        H: Fn(TcpStream) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let socket = listener();
        let url = format!("http://{}", socket.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            let socket = TcpListener::from_std(socket).unwrap();
            while let Ok((stream, _)) = socket.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(talk(stream));
            }
        });
        Self { url, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// A gate in front of it, with one worker, on HTTP/1 and on HTTP/2 by prior knowledge.
    fn world(&self) -> Plan {
        World::open(App::default())
            .set("app.url", &self.url)
            .set("app.http2", true)
            .set("public.h2c", true)
            .set("workers", 1)
    }
}

async fn client(world: &World) -> SendRequest<Body> {
    let stream = TcpStream::connect(world.public_address()).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// A body of the frames that are sent.
fn frames() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async {
        let frame: Frame<Bytes> = receiver.recv().await?;
        Some((Ok::<_, Error>(frame), receiver))
    });
    (sender, Body::wrap(StreamBody::new(frames)))
}

fn to(world: &World, path: &str) -> http::request::Builder {
    Request::builder().uri(world.url(path))
}

async fn text(request: Request<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let whole = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let fields: Vec<_> = parts.headers.iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
    let said = format!("{:?} {} {}\n{}\n", parts.version, parts.method, parts.uri, fields.join("\n"));
    Response::new(Body::full([said.as_bytes(), &whole].concat()))
}

#[tokio::test]
async fn the_app_gets_the_request_in_the_form_of_its_protocol() {
    let app = Http2App::new(usize::MAX, text);
    let world = app.world().set("access.anyone", true).set("routes", "[]").start();
    let client = world.sign_in(FREELANCER).await;
    let fields = [("x-upwork-user-id", "1"), ("expect", "100-continue"), ("connection", "x-gone"), ("x-gone", "1")];
    let answer = client.post("/a?b=%63", "hello").headers(&fields).header("te", "trailers").await;
    let said = answer.text();
    let host = world.public_address();
    assert!(said.starts_with(&format!("HTTP/2.0 POST http://{host}/a?b=%63\n")) && said.ends_with("\nhello"), "{said}");
    assert!(
        said.contains(&format!("x-upwork-user-id: \"{FREELANCER}\"")) && said.contains("te: \"trailers\""),
        "{said}"
    );
    assert!(said.contains("x-forwarded-for: \"127.0.0.1\"") && said.contains("via: \"1.1 upwarden-"), "{said}");
    for absent in ["host", "connection", "expect", "x-gone", "transfer-encoding", "cookie"] {
        assert!(!said.contains(&format!("\n{absent}: ")), "{absent} {said}");
    }
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
    let answer = client.get("/ws").headers(&upgrade).await;
    assert_eq!(answer.status, 200, "HTTP/2 has no upgrades: {}", answer.text());
    assert!(!answer.text().contains("\nupgrade: "), "{}", answer.text());
}

#[tokio::test]
async fn pieces_and_trailers_pass_both_ways_while_both_sides_speak() {
    let app = Http2App::new(usize::MAX, |request: Request<Incoming>| async move {
        let (sender, body) = frames();
        let mut asked = request.into_body();
        tokio::spawn(async move {
            while let Some(Ok(frame)) = asked.frame().await {
                sender.send(frame).await.unwrap();
            }
        });
        Response::new(body)
    });
    let world = app.world().start();
    let mut client = client(&world).await;
    let (sender, body) = frames();
    let answer = within(client.send_request(to(&world, "/echo").method("POST").body(body).unwrap())).await.unwrap();
    assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
    let mut answer = answer.into_body();
    for piece in ["one", "two", "three"] {
        within(sender.send(Frame::data(Bytes::from(piece)))).await.unwrap();
        let echoed = within(answer.frame()).await.unwrap().unwrap();
        assert_eq!(echoed.into_data().unwrap(), piece, "before the next is sent");
    }
    let trailers =
        HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
    within(sender.send(Frame::trailers(trailers.clone()))).await.unwrap();
    drop(sender);
    assert_eq!(within(answer.frame()).await.unwrap().unwrap().into_trailers().unwrap(), trailers);
}

#[tokio::test]
async fn the_requests_of_a_worker_share_a_connection() {
    let app = Http2App::new(usize::MAX, text);
    let world = app.world().start();
    let client = world.client();
    let all = (0..40).map(|number| client.get(&format!("/{number}")).into_future());
    for answer in futures_util::future::join_all(all).await {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(app.connections(), 1);
    assert_eq!(world.metric("upwarden_upstream_connections_opened_total{upstream=\"app\"}").await, 1);
}

#[tokio::test]
async fn an_app_that_closes_its_connections_loses_no_request() {
    let app = Http2App::new(7, text);
    let world = app.world().start();
    let client = world.client();
    for round in 0..10 {
        let all = (0..8).map(|number| client.get(&format!("/{round}/{number}")).into_future());
        for answer in futures_util::future::join_all(all).await {
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    assert!(app.connections() > 5, "{}", app.connections());
}

#[tokio::test]
async fn a_request_that_the_app_did_not_process_is_sent_again_if_it_is_still_complete() {
    let app = Http2App::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut refused = false;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            if std::mem::replace(&mut refused, true) {
                respond.send_response(Response::new(()), true).unwrap();
            } else {
                respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
    });
    // Each connection refuses its first request; a body that is gone cannot be sent twice.
    let world = app.world().start();
    let answer = world.client().post("/", "body").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"), "{}", answer.text());
    assert_eq!(world.client().get("/").await.status, 200);
    let app = Http2App::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    });
    let world = app.world().start();
    assert_eq!(world.client().get("/").await.problem(), "app-broken");
    assert_eq!(app.connections(), 2, "no more than once again");
}

#[tokio::test]
async fn a_reset_reaches_the_other_side() {
    let app = Http2App::raw(|stream| async move {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"begun"), false).unwrap();
            tokio::spawn(async move {
                // Long enough for what was sent to leave.
                tokio::task::yield_now().await;
                body.send_reset(h2::Reason::INTERNAL_ERROR);
            });
        }
    });
    let world = app.world().start();
    let mut sender = client(&world).await;
    let cut = match within(sender.send_request(to(&world, "/").body(Body::empty()).unwrap())).await {
        Ok(answer) => answer.status() != StatusCode::OK || within(answer.into_body().collect()).await.is_err(),
        Err(_) => true,
    };
    assert!(cut, "a reset is never a whole answer");

    let (gone, left) = oneshot::channel::<()>();
    let gone = Arc::new(std::sync::Mutex::new(Some(gone)));
    let app = Http2App::new(usize::MAX, move |_| {
        let gone = gone.lock().unwrap().take();
        async move {
            let endless = futures_util::stream::unfold(gone, |gone| async move {
                let _ = &gone;
                std::future::pending::<()>().await;
                Some((Ok::<_, Error>(Frame::data(Bytes::new())), gone))
            });
            Response::new(Body::wrap(StreamBody::new(endless)))
        }
    });
    let world = app.world().start();
    let mut sender = client(&world).await;
    let answer = within(sender.send_request(to(&world, "/").body(Body::empty()).unwrap())).await.unwrap();
    drop(answer);
    assert!(within(left).await.is_err(), "the app's answer is dropped");
}

#[tokio::test]
async fn an_app_that_does_not_answer_is_slow_and_one_without_http2_is_broken() {
    let app = Http2App::new(usize::MAX, |_| std::future::pending());
    let world = app.world().set("app.timeouts.first_byte", "200ms").start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (504, "app-slow"), "{}", answer.text());
    let world = World::open(App::default()).set("app.http2", true).start();
    let answer = world.client().get("/").await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, "app-broken"), "{}", answer.text());
}

#[tokio::test]
async fn under_tls_the_app_has_to_agree_to_http2() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::write(folder.path(), "localhost");
    for (protocols, problem) in
        [(vec![b"h2".to_vec()], ""), (vec![], "app-down"), (vec![b"http/1.1".to_vec()], "app-down")]
    {
        let mut config = certificate.server();
        config.alpn_protocols = protocols.clone();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let app = Http2App::raw(move |stream| {
            let acceptor = acceptor.clone();
            async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let service = service_fn(|request| async { Ok::<_, Infallible>(text(request).await) });
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        let url = app.url.replace("http://127.0.0.1", "https://localhost");
        let world = app.world().set("app.url", url).set("app.ca_file", certificate.file.display()).start();
        let answer = world.client().get("/").await;
        if problem.is_empty() {
            assert!(answer.text().starts_with("HTTP/2.0 GET https://"), "{}", answer.text());
        } else {
            assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (502, problem), "{protocols:?}");
        }
    }
}

#[tokio::test]
async fn a_route_speaks_the_protocol_that_it_names() {
    let app = Http2App::new(usize::MAX, text);
    let routes = serde_json::json!([
        { "path": "/", "public": true },
        { "path": "/grpc.Service", "public": true, "url": app.url, "http2": true },
    ]);
    let world = World::new().set("routes", routes).start();
    assert!(world.client().get("/grpc.Service/Call").await.text().starts_with("HTTP/2.0 GET "));
    assert_eq!(world.client().get("/a").await.text(), "GET /a\n");
}
