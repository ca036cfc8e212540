//! The app that `upwarden demo` runs behind the sidecar, and an example of what an app has to do: almost nothing.
//!
//! In: requests that have come through the gate, with the identity headers the sidecar sets. Out: a page that shows
//! them, and what a page can do behind the gate: call the API, hold an event stream and a WebSocket, post a form. It
//! never sees a token, knows nothing of OAuth, and believes the identity headers because only the sidecar can reach it.

mod door;
mod live;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::body::Body;
use crate::clock::{SharedClock, SystemClock};
use crate::listener::plain;
use crate::recent::lock;

/// The header with which the app may call the API as its user.
const TICKET: &str = "x-upwork-ticket";
/// Notes kept; the oldest goes.
const NOTES: usize = 20;
/// Bytes of a posted form.
const FORM: usize = 4096;
/// Characters of a note.
const NOTE: usize = 280;

/// What the app has to be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// The sidecar's prefix, `/upwork`: where the page finds the API and the account page.
    pub prefix: String,
    /// The neighbour door, `http://127.0.0.1:4181`, for calls from the server; `None` leaves them out.
    pub neighbour: Option<String>,
}

/// The app. Clones share its notes.
#[derive(Clone)]
pub struct SampleApp {
    config: Arc<Config>,
    notes: Arc<Mutex<VecDeque<Note>>>,
    clock: SharedClock,
    /// Ends what would otherwise stay open for ever: event streams and web sockets.
    closing: CancellationToken,
}

struct Note {
    who: String,
    text: String,
}

impl SampleApp {
    /// An app without notes.
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            notes: Arc::default(),
            clock: Arc::new(SystemClock),
            closing: CancellationToken::new(),
        }
    }

    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>, _peer: SocketAddr) -> Response<Body> {
        match *request.method() {
            Method::GET | Method::HEAD => self.get(request).await,
            Method::POST if request.uri().path() == "/notes" => self.note(request).await,
            _ => {
                let mut response =
                    plain_text(StatusCode::METHOD_NOT_ALLOWED, "This app knows GET, and POST for /notes.\n");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
                response
            }
        }
    }

    async fn get(&self, request: Request<Body>) -> Response<Body> {
        match request.uri().path() {
            "/health" => plain_text(StatusCode::OK, "ok\n"),
            "/app.js" => answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("app.js")),
            "/app.css" => answer(StatusCode::OK, "text/css; charset=utf-8", include_str!("app.css")),
            "/headers" => json(StatusCode::OK, &received(request.headers())),
            "/events" => live::events(self.clock.clone(), self.closing.clone()),
            "/echo" => live::echo(request, self.closing.clone()),
            "/as-service" => self.ask(None).await,
            "/as-user" => match request.headers().get(TICKET) {
                Some(ticket) => self.ask(Some(ticket)).await,
                None => refusal(
                    StatusCode::CONFLICT,
                    "No X-Upwork-Ticket came with this request: it takes `app.tickets = true` and a session.",
                ),
            },
            _ => self.page(&request),
        }
    }

    /// Calls the API from the server, through the neighbour door.
    async fn ask(&self, ticket: Option<&HeaderValue>) -> Response<Body> {
        match &self.config.neighbour {
            Some(base) => door::ask(base, &self.config.prefix, ticket).await,
            None => refusal(StatusCode::CONFLICT, "This app was not told where the neighbour door is."),
        }
    }

    fn page(&self, request: &Request<Body>) -> Response<Body> {
        let identity = view::Identity::read(request.headers());
        let asked = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let notes = lock(&self.notes);
        let page = view::Page {
            prefix: &self.config.prefix,
            neighbour: self.config.neighbour.is_some(),
            ticket: request.headers().contains_key(TICKET),
            asked,
            identity: &identity,
            notes: notes.iter().map(|note| (note.who.as_str(), note.text.as_str())).collect(),
        };
        match page.html() {
            Ok(html) => {
                let mut response = answer(StatusCode::OK, "text/html; charset=utf-8", html);
                let policy = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                              form-action 'self'";
                response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
                response
            }
            Err(_) => plain_text(StatusCode::INTERNAL_SERVER_ERROR, "The sample app could not draw its page.\n"),
        }
    }

    async fn note(&self, request: Request<Body>) -> Response<Body> {
        let who = view::Identity::read(request.headers()).shown().to_owned();
        let Ok(form) = request.into_body().collect(FORM).await else {
            return plain_text(StatusCode::PAYLOAD_TOO_LARGE, "That note is too long.\n");
        };
        let text = url::form_urlencoded::parse(&form).find(|(name, _)| name == "text").map(|(_, text)| text);
        let text: String = text.as_deref().unwrap_or_default().trim().chars().take(NOTE).collect();
        if !text.is_empty() {
            let mut notes = lock(&self.notes);
            notes.push_front(Note { who, text });
            notes.truncate(NOTES);
        }
        let mut response = plain_text(StatusCode::SEE_OTHER, "Noted.\n");
        response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
        response
    }
}

/// Serves the app until `shutdown`; open event streams and web sockets end with it.
pub async fn run(app: SampleApp, listener: TcpListener, shutdown: CancellationToken) {
    let app = SampleApp { closing: shutdown.clone(), ..app };
    let handler = move |request, peer| {
        let app = app.clone();
        async move { app.handle(request, peer).await }
    };
    plain::serve(listener, handler, shutdown).await;
}

/// What the app received, for tests and the curious: each name with its values. A ticket is told, not shown.
fn received(headers: &HeaderMap) -> serde_json::Value {
    let mut all: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let text = match name.as_str() {
            TICKET => format!("(a ticket of {} characters)", value.len()),
            _ => String::from_utf8_lossy(value.as_bytes()).into_owned(),
        };
        all.entry(name.as_str()).or_default().push(text);
    }
    serde_json::json!(all)
}

/// A reason as JSON, as the page's script expects it.
fn refusal(status: StatusCode, reason: &str) -> Response<Body> {
    json(status, &serde_json::json!({ "error": reason }))
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    answer(status, "application/json", format!("{value:#}\n"))
}

fn plain_text(status: StatusCode, text: &'static str) -> Response<Body> {
    answer(status, "text/plain; charset=utf-8", text)
}

/// Nothing is kept by the browser: after signing out, Back shows nothing of the session.
fn answer(status: StatusCode, kind: &'static str, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
