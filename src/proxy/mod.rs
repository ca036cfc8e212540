//! Requests to an upstream, answers back, bodies streaming both ways.
//!
//! In: an authorized request as [`AppHeaders`] or [`ApiHeaders`], the only things it takes. Out: the upstream's answer,
//! cleaned of what ends here. It knows no tokens and no sessions, only an `Authorization` value.

pub(crate) mod client;
pub(crate) mod connect;
mod early;
mod elements;
pub(crate) mod forwarded;
pub(crate) mod headers;
mod pool;
pub(crate) mod upgrade;
mod upload;
pub(crate) mod via;
mod wire;

use std::path::PathBuf;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};

use crate::body::Body;
use crate::listener::Cut;
pub(crate) use client::{Client, Error};
pub(crate) use headers::{ApiHeaders, AppHeaders};
use upgrade::{End, Upgrades};

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// Over TCP.
    Tcp {
        /// Host name or address, IPv6 in brackets.
        host: String,
        /// Port.
        port: u16,
        /// TLS or plain.
        tls: bool,
    },
    /// Over a Unix socket, plain.
    Unix(PathBuf),
}

/// What `Host` the app sees: docs/configuration.md "app".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPolicy {
    /// The client's (`"keep"`).
    Keep,
    /// The app's own, from `app.url` (`"app"`).
    App,
    /// This one.
    Fixed(String),
}

/// The app behind us: docs/configuration.md "app".
#[derive(Clone, Debug)]
pub struct AppConfig {
    /// Where it is.
    pub upstream: Upstream,
    /// A CA trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// What `Host` it sees.
    pub host: HostPolicy,
    /// Drop the client's `Authorization` on the way to the app.
    pub drop_authorization: bool,
    /// Until a connection is made.
    pub connect_timeout: Duration,
    /// From the request's end to the answer's head.
    pub first_byte_timeout: Duration,
    /// Between two pieces of a body.
    pub idle_timeout: Duration,
}

impl Upstream {
    /// `Host` for a request to it (RFC 9110 section 7.2): the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        match self {
            Self::Unix(_) => "localhost".to_owned(),
            Self::Tcp { host, port: 443, tls: true } | Self::Tcp { host, port: 80, tls: false } => host.clone(),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

/// A client's request on its way to the app.
#[derive(Debug)]
pub(crate) struct Onward {
    /// The request as it came, for its method, target and upgrade.
    pub client: Parts,
    /// The fields it goes on with.
    pub headers: AppHeaders,
    /// Takes the two sockets over where both sides switch protocols.
    pub upgrades: Upgrades,
}

/// Sends a client's request on to the app. `owns` tells our cookies, which the app cannot set, from its own.
pub(crate) async fn to_app(
    app: &Client,
    onward: Onward,
    body: Body,
    owns: impl Fn(&str) -> bool,
) -> Result<Response<Body>, Error> {
    let Onward { mut client, headers, upgrades } = onward;
    // Both futures are taken before either message moves.
    let on_client = client.extensions.remove::<hyper::upgrade::OnUpgrade>();
    let client_cut = client.extensions.remove::<Cut>();
    let mut request = Request::new(body);
    *request.method_mut() = client.method.clone();
    *request.uri_mut() = origin_form(client.uri.path_and_query().cloned());
    *request.headers_mut() = headers.into_inner();
    let asked = request.headers().get(http::header::UPGRADE).cloned();
    let mut response = app.send(request).await?;
    let protocol = response.headers().get(http::header::UPGRADE).cloned();
    headers::clean_app_answer(response.headers_mut(), owns);
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let app_cut = response.extensions_mut().remove::<Cut>();
        let on_app = hyper::upgrade::on(&mut response);
        let offered = asked.zip(protocol).filter(|(asked, protocol)| is_offered(protocol, asked));
        let (Some(on_client), Some((_, protocol))) = (on_client, offered) else {
            // An upstream that switches unasked has left HTTP; dropping both ends closes them.
            return Err(Error::Switched);
        };
        let websocket = protocol.as_bytes().eq_ignore_ascii_case(b"websocket");
        client::ask_upgrade(response.headers_mut(), protocol);
        let (client, app) = (End { upgrade: on_client, cut: client_cut }, End { upgrade: on_app, cut: app_cut });
        upgrades.join(client, app, websocket);
    }
    Ok(response)
}

/// RFC 9110 section 7.8: a server switches to nothing but what the client named. Each may name several.
fn is_offered(protocol: &HeaderValue, asked: &HeaderValue) -> bool {
    let names = |value: &HeaderValue| -> Vec<Vec<u8>> {
        value.as_bytes().split(|byte| *byte == b',').map(|name| name.trim_ascii().to_ascii_lowercase()).collect()
    };
    let asked = names(asked);
    names(protocol).iter().all(|name| !name.is_empty() && asked.contains(name))
}

/// Sends a call on to Upwork.
pub(crate) async fn to_api(
    api: &Client,
    method: Method,
    target: PathAndQuery,
    headers: ApiHeaders,
    body: Body,
) -> Result<Response<Body>, Error> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = origin_form(Some(target));
    *request.headers_mut() = headers.into_inner();
    let mut response = api.send(request).await?;
    headers::clean_api_answer(response.headers_mut());
    Ok(response)
}

/// The target as RFC 9112 section 3.2.1 says, byte for byte as it came.
fn origin_form(target: Option<PathAndQuery>) -> Uri {
    target.map_or_else(Uri::default, Uri::from)
}
