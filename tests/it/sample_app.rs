//! The sample app over real sockets, as the sidecar would call it.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use upwarden::testing::body::Body;
use upwarden::testing::listener::plain;
use upwarden::testing::sample_app::{Config, SampleApp, run};

const MOST: usize = 1 << 20;

/// No wait of a test is longer than this.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("nothing came in 20 seconds")
}

struct App {
    address: SocketAddr,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl App {
    async fn start(neighbour: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let app = SampleApp::new(Config { prefix: "/upwork".to_owned(), neighbour });
        let task = tokio::spawn(run(app, listener, shutdown.clone()));
        Self { address, shutdown, task }
    }

    async fn send(&self, request: Request<Body>) -> Response<Body> {
        within(async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap().map(Body::from)
        })
        .await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
        let mut request = Request::builder().uri(path).header("host", "app");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        text(self.send(request.body(Body::empty()).unwrap()).await).await
    }

    /// Cancels, and shows that nothing is left open.
    async fn stop(self) {
        self.shutdown.cancel();
        within(self.task).await.unwrap();
    }
}

async fn text(response: Response<Body>) -> (StatusCode, String) {
    let status = response.status();
    let body = within(response.into_body().collect(MOST)).await.unwrap();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn it_shows_who_is_signed_in_and_what_was_asked_for() {
    let app = App::start(None).await;
    let headers = [
        ("x-upwork-user-name", "J%C3%BCrgen %3Cscript%3Ealert(1)%3C%2Fscript%3E"),
        ("x-upwork-user", "<img src=x>"),
        ("x-upwork-user-id", "1181921839933591552"),
        ("x-upwork-organization-id", "1181921839933591553"),
    ];
    let (status, page) = app.get("/deep/page?tab=2&x=%22%3E%3Cb%3E", &headers).await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("<span id=\"user\">Jürgen &lt;script&gt;alert(1)"), "{page}");
    assert!(page.contains("1181921839933591552") && page.contains("1181921839933591553"));
    assert!(page.contains("<code id=\"path\">&#x2f;deep&#x2f;page?tab=2&amp;x=%22%3E%3Cb%3E</code>"), "{page}");
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x>"));
    assert!(page.contains("data-prefix=\"&#x2f;upwork\""));
    app.stop().await;
}

#[tokio::test]
async fn it_reports_that_no_one_is_signed_in() {
    let app = App::start(None).await;
    let (_, page) = app.get("/", &[]).await;
    assert!(page.contains("<span id=\"user\">nobody</span>") && page.contains("No identity headers"));
    assert_eq!(app.get("/health", &[]).await, (StatusCode::OK, "ok\n".to_owned()));
    for (path, part) in [("/app.js", "EventSource"), ("/app.css", "--accent")] {
        let (status, body) = app.get(path, &[]).await;
        assert!(status == StatusCode::OK && body.contains(part), "{path}");
    }
    app.stop().await;
}

#[tokio::test]
async fn its_pages_run_no_script_but_its_own() {
    let app = App::start(None).await;
    let request = Request::builder().uri("/").header("host", "app").body(Body::empty()).unwrap();
    let response = app.send(request).await;
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()["cache-control"], "no-store");
    drop(response);
    app.stop().await;
}

#[tokio::test]
async fn it_lists_the_headers_it_received_but_not_the_ticket() {
    let app = App::start(None).await;
    let headers = [("cookie", "theme=dark"), ("x-upwork-ticket", "upwt_secret"), ("accept", "a"), ("accept", "b")];
    let (_, body) = app.get("/headers", &headers).await;
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["cookie"], serde_json::json!(["theme=dark"]));
    assert_eq!(json["accept"], serde_json::json!(["a", "b"]));
    assert_eq!(json["x-upwork-ticket"], serde_json::json!(["(a ticket of 11 characters)"]));
    app.stop().await;
}

#[tokio::test]
async fn a_posted_note_is_shown_escaped_with_its_author() {
    let app = App::start(None).await;
    let post = |path: &str, body: String| {
        let request = Request::builder().method(Method::POST).uri(path).header("host", "app");
        request.header("x-upwork-user-name", "Ann").body(Body::full(body)).unwrap()
    };
    let response = app.send(post("/notes", "text=%3Cb%3Emilk+%26+bread".to_owned())).await;
    assert_eq!((response.status(), &response.headers()["location"]), (StatusCode::SEE_OTHER, &"/".parse().unwrap()));
    app.send(post("/notes", "text=++".to_owned())).await;
    let (_, page) = app.get("/", &[]).await;
    assert!(page.contains("<span class=\"by\">Ann</span> &lt;b&gt;milk &amp; bread</li>"), "{page}");
    assert_eq!(page.matches("class=\"by\"").count(), 1, "an empty note is none");
    assert_eq!(app.send(post("/notes", "x".repeat(9000))).await.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(app.send(post("/", String::new())).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    app.stop().await;
}

#[tokio::test]
async fn its_event_stream_begins_at_once_and_ends_with_the_app() {
    let app = App::start(None).await;
    let request = Request::builder().uri("/events").header("host", "app").body(Body::empty()).unwrap();
    let response = app.send(request).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    let first = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
    let event = std::str::from_utf8(&first).unwrap();
    assert!(event.starts_with("id: 1\ndata: 2") && event.ends_with("Z\n\n"), "{event}");
    app.stop().await;
    while let Some(frame) = within(body.frame()).await {
        frame.expect("it ends as a whole message, not by a cut");
    }
}

#[tokio::test]
async fn its_websocket_echoes_and_ends_with_the_app() {
    let app = App::start(None).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut socket, _) = within(tokio_tungstenite::client_async("ws://app/echo", stream)).await.unwrap();
    for message in [Message::text("hello"), Message::binary(vec![0, 255])] {
        within(socket.send(message.clone())).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), message);
    }
    app.stop().await;
    assert!(matches!(within(socket.next()).await, Some(Ok(Message::Close(_))) | None));
}

#[tokio::test]
async fn an_address_that_speaks_websocket_says_so_to_others() {
    let app = App::start(None).await;
    assert_eq!(app.get("/echo", &[]).await.0, StatusCode::UPGRADE_REQUIRED);
    assert_eq!(app.get("/echo", &[("upgrade", "websocket")]).await.0, StatusCode::UPGRADE_REQUIRED);
    app.stop().await;
}

/// A neighbour door that reports who requested what.
async fn neighbour(shutdown: CancellationToken) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let handler = |request: Request<Body>, _| async move {
        let ticket = request.headers().get("x-upwork-ticket").map_or("none", |t| t.to_str().unwrap()).to_owned();
        let line = format!("{} {} {ticket}", request.method(), request.uri());
        let query = within(request.into_body().collect(MOST)).await.unwrap();
        let answer = serde_json::json!({ "line": line, "query": String::from_utf8_lossy(&query) });
        Response::builder()
            .status(203)
            .header("content-type", "application/json")
            .body(Body::full(answer.to_string()))
            .unwrap()
    };
    tokio::spawn(plain::serve(listener, handler, shutdown));
    address
}

#[tokio::test]
async fn its_server_calls_the_neighbour_door_as_the_user_or_as_the_service() {
    let shutdown = CancellationToken::new();
    let door = neighbour(shutdown.clone()).await;
    let app = App::start(Some(format!("http://{door}"))).await;
    for (path, headers, line) in [
        ("/as-user", &[("x-upwork-ticket", "upwt_a")][..], "POST /upwork/graphql upwt_a"),
        ("/as-service", &[("x-upwork-ticket", "upwt_a")][..], "POST /upwork/graphql none"),
    ] {
        let (status, body) = app.get(path, headers).await;
        assert_eq!(status.as_u16(), 203, "{path}: the answer comes back as it is");
        let json: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(json["line"], line);
        assert!(json["query"].as_str().unwrap().contains("user { id nid name }"));
    }
    let (status, body) = app.get("/as-user", &[]).await;
    assert!(status == StatusCode::CONFLICT && body.contains("app.tickets"), "{body}");
    app.stop().await;
    shutdown.cancel();
}

#[tokio::test]
async fn it_says_why_the_neighbour_door_does_not_answer() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let app = App::start(Some(format!("http://{free}"))).await;
    let (status, body) = app.get("/as-service", &[]).await;
    assert!(status == StatusCode::BAD_GATEWAY && body.contains("did not answer"), "{body}");
    app.stop().await;
    let app = App::start(None).await;
    assert_eq!(app.get("/as-service", &[]).await.0, StatusCode::CONFLICT);
    app.stop().await;
}
