//! A call from the app's server to the API through the neighbour door: plain HTTP, no token, no OAuth. It sends the user's
//! ticket to no other address.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::answers::refusal;
use crate::body::{Body, Error, WithField};

/// The header with which the app calls the API as its user.
pub(super) const TICKET: &str = "x-upwork-ticket";

/// Longer than the sidecar holds a call back for its rate limit.
const TIMEOUT: Duration = Duration::from_secs(30);

const QUERY: &str = r#"{"query":"{ user { id nid name } organization { id name } }"}"#;

/// Who am I? With a ticket the call acts as the user, without one as the service identity.
pub(super) async fn call(base: &str, prefix: &str, ticket: Option<&HeaderValue>) -> Response<Body> {
    match timeout(TIMEOUT, send(base, prefix, ticket)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => refusal(StatusCode::BAD_GATEWAY, &format!("The neighbour door did not answer: {error}")),
        Err(_) => refusal(StatusCode::GATEWAY_TIMEOUT, "The neighbour door did not answer in 30 seconds."),
    }
}

async fn send(base: &str, prefix: &str, ticket: Option<&HeaderValue>) -> Result<Response<Body>, Error> {
    let base: Uri = base.parse()?;
    let authority = base.authority().ok_or("its address has no host")?;
    let port = authority.port_u16().unwrap_or(80);
    let stream = TcpStream::connect(format!("{}:{port}", authority.host())).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer's last byte, or with an error that the answer's body reports too.
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
        request.headers_mut().insert(TICKET, ticket);
    }
    let (answer, body) = sender.send_request(request).await?.into_parts();
    let mut response = Response::new(Body::from(body)).with(CACHE_CONTROL, "no-store");
    *response.status_mut() = answer.status;
    let kind = answer.headers.get(CONTENT_TYPE).cloned();
    response.headers_mut().insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/json")));
    Ok(response)
}
