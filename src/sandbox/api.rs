//! The API: GraphQL, two calls of the older REST API, and a few that only the sandbox has. Every answer carries the headers
//! of a CDN.

use std::net::SocketAddr;

use aws_lc_rs::digest::{self, SHA256};
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use super::accounts::Account;
use super::counters::ReceivedRequest;
use super::faults::Target;
use super::grants::to_hex;
use super::graphql::{self, Context};
use super::params::Params;
use super::paths::GRAPHQL_PATH;
use super::state::{Inner, ReleaseSignal};
use super::{answers, bodies, fixtures};
use crate::body::{Body, WithField};
use crate::clock::Timestamp;

const MAX_QUERY: usize = 1024 * 1024;
/// 1 TiB, the limit of `/api/sandbox/bytes`.
const MAX_BYTES: u64 = 1 << 40;

pub(super) fn is_api(path: &str) -> bool {
    path == GRAPHQL_PATH || path.starts_with("/api/") || path.starts_with("/gds/")
}

pub(super) async fn call(
    inner: &Inner,
    request: Request<Body>,
    peer: SocketAddr,
    release: ReleaseSignal,
) -> Response<Body> {
    let now = inner.clock.now();
    let (fault, admitted) = {
        let mut state = inner.lock();
        let fault = state.faults.take(Target::Api, |_| true);
        let admitted = state.admit(inner, peer);
        // Counted last: a test that sees the count also finds the request.
        state.remember_request(ReceivedRequest::of(&request));
        state.counters.count_api(request.uri().path());
        (fault, admitted)
    };
    let again = release.clone();
    let work = async {
        if !admitted {
            // Inferred: whether Upwork sends Retry-After is not known, so clients must not rely on it.
            return answers::too_many_requests(None);
        }
        match holder(inner, request.headers(), now) {
            None => {
                // Read first, as a real server does: closing with an unread body would reset the connection.
                let length = http_body::Body::size_hint(request.body()).exact();
                if length.is_some_and(|length| length <= MAX_QUERY as u64) {
                    let _ = request.into_body().collect(MAX_QUERY).await;
                }
                answers::authentication_failed()
            }
            Some(account) => route(inner, request, account, again).await,
        }
    };
    answers::through_cdn(bodies::inject(inner, fault, release, work).await)
}

fn holder(inner: &Inner, headers: &HeaderMap, now: Timestamp) -> Option<&'static Account> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    let (scheme, token) = line.to_str().ok()?.split_once(' ')?;
    let state = inner.lock();
    let account = scheme.eq_ignore_ascii_case("bearer").then(|| state.grants.holder(token.trim(), now))??;
    Some(state.acting.get(account.id).copied().unwrap_or(account))
}

async fn route(
    inner: &Inner,
    request: Request<Body>,
    account: &'static Account,
    release: ReleaseSignal,
) -> Response<Body> {
    let now = inner.clock.now();
    let path = request.uri().path().to_owned();
    if let Some(answer) = fixtures::for_path(inner.config.fixtures.as_deref(), &path).await {
        return answer;
    }
    let get = request.method() == Method::GET || request.method() == Method::HEAD;
    match path.as_str() {
        GRAPHQL_PATH if request.method() == Method::POST => graphql(inner, request, account).await,
        GRAPHQL_PATH => answers::text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").with(ALLOW, "POST"),
        "/api/auth/v1/info.json" if get => answers::json(StatusCode::OK, &info(account, now)),
        "/api/hr/v2/users/me.json" if get => answers::json(StatusCode::OK, &me(account, now)),
        "/api/auth/v1/info.json" | "/api/hr/v2/users/me.json" => {
            answers::legacy_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", now)
        }
        "/api/sandbox/echo" => echo(request).await,
        "/api/sandbox/bytes" if get => bytes(&request),
        "/api/sandbox/stream" if get => stream(inner, release),
        "/api/sandbox/cached" if get => cached(),
        _ => answers::legacy_error(StatusCode::NOT_FOUND, "Not Found", now),
    }
}

async fn graphql(inner: &Inner, request: Request<Body>, account: &'static Account) -> Response<Body> {
    let tenant = request.headers().get("x-upwork-api-tenantid");
    // A tenant that is not text is not one of the account's.
    let tenant = tenant.map(|tenant| tenant.to_str().unwrap_or("?").to_owned());
    let moved = || account.organizations.last().copied().filter(|_| inner.lock().moved.contains(account.id));
    let organization = if tenant.is_none() { moved() } else { None };
    let organization = organization.or_else(|| account.organization(tenant.as_deref()));
    let Ok(posted) = request.into_body().collect(MAX_QUERY).await else {
        return answers::text(StatusCode::PAYLOAD_TOO_LARGE, "Payload Too Large");
    };
    if let Some(answer) = fixtures::for_operation(inner.config.fixtures.as_deref(), &posted).await {
        return answer;
    }
    let mut context = Context { account, organization, state: &mut inner.lock() };
    answers::json(StatusCode::OK, &graphql::answer(&posted, &mut context))
}

fn auth_user(account: &Account) -> Value {
    json!({
        "first_name": account.first_name, "last_name": account.last_name,
        "timezone": "America/Tijuana", "timezone_offset": "-25200",
    })
}

fn yes(condition: bool) -> &'static str {
    if condition { "yes" } else { "no" }
}

fn info(account: &Account, now: Timestamp) -> Value {
    json!({
        "server_time": now.seconds(),
        "auth_user": auth_user(account),
        "info": {
            "ref": account.rid,
            "has_agency": if account.role == "agency" { "1" } else { "0" },
            "capacity": {
                "provider": yes(account.provider), "buyer": yes(!account.provider), "affiliate_manager": "no",
            },
            "profile_url": format!("https://www.upwork.com/users/~{:0>16}", account.rid),
            "portrait_50_img": account.photo_url(),
            "location": {"city": "Tijuana", "state": "", "country": "Mexico"},
        },
    })
}

fn me(account: &Account, now: Timestamp) -> Value {
    json!({
        "server_time": now.seconds(),
        "auth_user": auth_user(account),
        "user": {
            "id": account.nid, "reference": account.rid,
            "first_name": account.first_name, "last_name": account.last_name,
            "email": account.email, "status": "active",
            "profile_key": format!("~~{:0>16}", account.rid),
            "is_provider": if account.provider { "1" } else { "0" },
        },
    })
}

/// The request as it arrived, with the length and the SHA-256 of its body.
async fn echo(request: Request<Body>) -> Response<Body> {
    let received = ReceivedRequest::of(&request);
    let mut body = request.into_body();
    let (mut length, mut sum) = (0_u64, digest::Context::new(&SHA256));
    let mut trailers = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return answers::text(StatusCode::BAD_REQUEST, "The body was cut") };
        if let Some(data) = frame.data_ref() {
            length += data.len() as u64;
            sum.update(data);
        }
        if let Some(fields) = frame.trailers_ref() {
            trailers.extend(fields.keys().map(ToString::to_string));
        }
    }
    let sum = to_hex(sum.finish().as_ref());
    answers::json(
        StatusCode::OK,
        &json!({
            "method": received.method, "target": received.target, "headers": received.headers, "trailers": trailers,
            "body_length": length, "body_sha256": sum,
        }),
    )
}

/// `n` bytes in pieces, without a length.
fn bytes(request: &Request<Body>) -> Response<Body> {
    let query = Params::parse(request.uri().query().unwrap_or_default().as_bytes());
    match query.get("n").and_then(|n| n.parse().ok()).filter(|n| *n <= MAX_BYTES) {
        None => answers::text(StatusCode::BAD_REQUEST, "n is missing: the number of bytes, at most 1099511627776"),
        Some(length) => Response::new(bodies::pattern(length)).with(CONTENT_TYPE, "application/octet-stream"),
    }
}

/// An answer that allows shared caches to store it, with every field for that.
fn cached() -> Response<Body> {
    answers::text(StatusCode::OK, "cached")
        .with(CACHE_CONTROL, "public, max-age=600, s-maxage=900")
        .with(HeaderName::from_static("surrogate-control"), "max-age=900")
        .with(HeaderName::from_static("cdn-cache-control"), "max-age=900")
}

/// Two server-sent events; the second is sent after the next `POST /release`, or at shutdown.
fn stream(inner: &Inner, mut release: ReleaseSignal) -> Response<Body> {
    let closing = inner.closing.clone();
    let wait = async move {
        tokio::select! {
            // An error means that the sandbox is gone, and then there is nothing to wait for.
            _ = release.changed() => {}
            () = closing.cancelled() => {}
        }
    };
    Response::new(bodies::two_events(wait)).with(CONTENT_TYPE, "text/event-stream")
}
