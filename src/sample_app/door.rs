//! A call from the app's server to the API, as any app next door would make it: plain HTTP, no token, no OAuth.
//!
//! In: where the neighbour door is, and perhaps the user's ticket. Out: the API's answer, or why there is none. It never
//! tells the ticket to anyone but that door.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::body::{Body, Error};

/// Longer than the sidecar lets a call wait its turn.
const PATIENCE: Duration = Duration::from_secs(30);

const QUERY: &str = r#"{"query":"{ user { id nid name } organization { id name } }"}"#;

/// Who am I? With a ticket the user answers to it, without one the service identity.
pub(super) async fn ask(base: &str, prefix: &str, ticket: Option<&HeaderValue>) -> Response<Body> {
    match timeout(PATIENCE, send(base, prefix, ticket)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            super::refusal(StatusCode::BAD_GATEWAY, &format!("The neighbour door did not answer: {error}"))
        }
        Err(_) => super::refusal(StatusCode::GATEWAY_TIMEOUT, "The neighbour door did not answer in 30 seconds."),
    }
}

async fn send(base: &str, prefix: &str, ticket: Option<&HeaderValue>) -> Result<Response<Body>, Error> {
    let base: Uri = base.parse()?;
    let authority = base.authority().ok_or("its address names no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect(format!("{}:{port}", authority.host())).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's last byte, or with an error that the answer's body tells too.
    tokio::spawn(connection);

    let mut request = Request::builder()
        .method(Method::POST)
        .uri(format!("{prefix}/graphql"))
        .header(HOST, authority.as_str())
        .header(CONTENT_TYPE, "application/json")
        .body(Body::full(QUERY))?;
    if let Some(ticket) = ticket {
        let mut ticket = ticket.clone();
        ticket.set_sensitive(true);
        request.headers_mut().insert(super::TICKET, ticket);
    }
    let (answer, body) = sender.send_request(request).await?.into_parts();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = answer.status;
    let kind = answer.headers.get(CONTENT_TYPE).cloned();
    response.headers_mut().insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
