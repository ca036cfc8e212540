//! The app's paths, its page and its notes.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::header::{ALLOW, CONTENT_SECURITY_POLICY, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::answers::{answer, json, plain_text, refusal};
use super::door::TICKET;
use super::{door, live, view};
use crate::body::{Body, WithField};
use crate::clock::{SharedClock, SystemClock};
use crate::listener::plain;
use crate::recent::lock;

/// Notes kept; the oldest is dropped.
const MAX_NOTES: usize = 20;
const MAX_FORM_BYTES: usize = 4096;
const MAX_NOTE_CHARS: usize = 280;

#[derive(Clone, Debug)]
pub struct Config {
    /// The sidecar's prefix, `/upwork`, with the API and the account page.
    pub prefix: String,
    /// The neighbour door, `http://127.0.0.1:4181`, for calls from the server; `None` leaves them out of the page.
    pub neighbour: Option<String>,
}

/// Clones share their notes.
#[derive(Clone)]
pub struct SampleApp {
    config: Arc<Config>,
    notes: Arc<Mutex<VecDeque<Note>>>,
    clock: SharedClock,
    /// Closes event streams and web sockets, which would otherwise stay open.
    closing: CancellationToken,
}

struct Note {
    who: String,
    text: String,
}

impl SampleApp {
    pub fn new(config: Config) -> Self {
        Self {
            config: Arc::new(config),
            notes: Arc::default(),
            clock: Arc::new(SystemClock),
            closing: CancellationToken::new(),
        }
    }

    pub async fn handle(&self, request: Request<Body>, _peer: SocketAddr) -> Response<Body> {
        match *request.method() {
            Method::GET | Method::HEAD => self.get(request).await,
            Method::POST if request.uri().path() == "/notes" => self.note(request).await,
            _ => plain_text(StatusCode::METHOD_NOT_ALLOWED, "This app supports GET, and POST to /notes.\n")
                .with(ALLOW, "GET, HEAD"),
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
            "/as-service" => self.call_api(None).await,
            "/as-user" => match request.headers().get(TICKET) {
                Some(ticket) => self.call_api(Some(ticket)).await,
                None => refusal(
                    StatusCode::CONFLICT,
                    "No X-Upwork-Ticket came with this request: that needs `app.tickets = true` and a session.",
                ),
            },
            _ => self.page(&request),
        }
    }

    /// Calls the API from the server, through the neighbour door.
    async fn call_api(&self, ticket: Option<&HeaderValue>) -> Response<Body> {
        match &self.config.neighbour {
            Some(base) => door::call(base, &self.config.prefix, ticket).await,
            None => refusal(StatusCode::CONFLICT, "This app has no address of the neighbour door."),
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
                let policy = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; \
                              form-action 'self'";
                answer(StatusCode::OK, "text/html; charset=utf-8", html).with(CONTENT_SECURITY_POLICY, policy)
            }
            Err(_) => plain_text(StatusCode::INTERNAL_SERVER_ERROR, "The sample app could not render its page.\n"),
        }
    }

    async fn note(&self, request: Request<Body>) -> Response<Body> {
        let who = view::Identity::read(request.headers()).shown().to_owned();
        let Ok(form) = request.into_body().collect(MAX_FORM_BYTES).await else {
            return plain_text(StatusCode::PAYLOAD_TOO_LARGE, "That note is too long.\n");
        };
        let text = url::form_urlencoded::parse(&form).find(|(name, _)| name == "text").map(|(_, text)| text);
        let text: String = text.as_deref().unwrap_or_default().trim().chars().take(MAX_NOTE_CHARS).collect();
        if !text.is_empty() {
            let mut notes = lock(&self.notes);
            notes.push_front(Note { who, text });
            notes.truncate(MAX_NOTES);
        }
        plain_text(StatusCode::SEE_OTHER, "Noted.\n").with(LOCATION, "/")
    }
}

/// Serves the app until `shutdown`, which also closes event streams and web sockets.
pub async fn run(app: SampleApp, listener: TcpListener, shutdown: CancellationToken) {
    let app = SampleApp { closing: shutdown.clone(), ..app };
    let handler = move |request, peer| {
        let app = app.clone();
        async move { app.handle(request, peer).await }
    };
    plain::serve(listener, handler, shutdown).await;
}

/// The headers that the app received: each name with its values. Of a ticket only its length is shown.
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
