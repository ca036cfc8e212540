//! One request to somewhere, without following what it answers; and the app.
//!
//! In: where to, and what to ask. Out: status, headers and the beginning of a body, or the chain of causes why there is none.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, HeaderMap, USER_AGENT};
use http::{HeaderValue, Method, Request, StatusCode};
use url::Url;

use super::Finding;
use crate::body::Body;
use crate::config::Config;
use crate::descriptors::Descriptors;
use crate::oauth::Outbound;
use crate::proxy::client::Timeouts;
use crate::proxy::connect::Connector;
use crate::proxy::{Client, HostPolicy, Upstream};
use crate::telemetry::causes;
use crate::tls;

/// Bytes of a body that are read; less may be enough to know it.
const LONGEST: usize = 256 << 10;

const TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(5), first_byte: Duration::from_secs(15), idle: Duration::from_secs(5) };

/// What came back.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body; empty where it could not be read whole.
    pub(super) body: Vec<u8>,
}

impl Seen {
    /// A page where JSON was to be expected: mostly the bot wall of the CDN in front of Upwork.
    pub(super) fn is_page(&self) -> bool {
        self.body.trim_ascii_start().starts_with(b"<")
    }
}

async fn ask(client: Client, request: Request<Body>) -> Result<Seen, String> {
    let response = client.send(request).await.map_err(|error| causes(&error))?;
    let (head, body) = response.into_parts();
    let body = body.collect(LONGEST).await.map(|bytes| bytes.to_vec()).unwrap_or_default();
    Ok(Seen { status: head.status, headers: head.headers, body })
}

/// Asks one of Upwork's addresses, the way the broker does.
pub(super) async fn upwork(outbound: &Outbound, url: &Url, method: Method, json: &str) -> Result<Seen, String> {
    let host = url.host_str().ok_or("its address has no host")?.to_owned();
    let port = url.port_or_known_default().ok_or("its address has no port")?;
    let upstream = Upstream::Tcp { host, port, tls: url.scheme() == "https" };
    let roots = Arc::new(tls::client(outbound.ca_file.as_deref()).map_err(|error| causes(&error))?);
    let client =
        Client::new(Connector::new(&upstream, &roots, outbound.proxy.clone()), TIMEOUTS, Descriptors::new(None));
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, upstream.authority())
        .header(USER_AGENT, &outbound.user_agent);
    if !json.is_empty() {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let request = request.body(Body::full(json.to_owned())).map_err(|error| causes(&error))?;
    ask(client, request).await
}

/// Whether the app answers.
pub(super) async fn app(config: &Config) -> Finding {
    const WHAT: &str = "app";
    let app = &config.app;
    let roots = match tls::client(app.ca_file.as_deref()) {
        Ok(roots) => Arc::new(roots),
        Err(error) => return Finding::fail(WHAT, causes(&error), "set app.ca_file to a PEM file with its CA"),
    };
    let path = config.router.public_paths.first().map_or("/", String::as_str);
    let host = match &app.host {
        HostPolicy::App => app.upstream.authority(),
        HostPolicy::Fixed(host) => host.clone(),
        HostPolicy::Keep => authority(&config.gateway.public.url),
    };
    let request = Request::get(path).header(HOST, host).body(Body::empty());
    let Ok(request) = request else {
        return Finding::fail(WHAT, format!("GET {path} is no request"), "look at app.public_paths and app.host");
    };
    let client = Client::new(Connector::new(&app.upstream, &roots, None), TIMEOUTS, Descriptors::new(None));
    match ask(client, request).await {
        Ok(seen) if seen.status.is_server_error() => Finding::warn(
            WHAT,
            format!("{} answers GET {path} with {}", shown(&app.upstream), seen.status.as_u16()),
            "look at the app's own log",
        ),
        Ok(seen) => {
            Finding::ok(WHAT, format!("{} answers GET {path} with {}", shown(&app.upstream), seen.status.as_u16()))
        }
        Err(why) => Finding::fail(
            WHAT,
            format!("{} gives no answer: {why}", shown(&app.upstream)),
            "start the app, or correct app.url; for a certificate of its own set app.ca_file",
        ),
    }
}

fn shown(upstream: &Upstream) -> String {
    match upstream {
        Upstream::Tcp { tls, .. } => format!("{}://{}", if *tls { "https" } else { "http" }, upstream.authority()),
        Upstream::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Host and port of `https://host:port`.
fn authority(public_url: &str) -> String {
    public_url.split_once("://").map_or(public_url, |(_, authority)| authority).to_owned()
}
