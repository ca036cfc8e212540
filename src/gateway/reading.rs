//! Calls that may only read: looked through before they go on.
//!
//! In: a call and its body. Out: the same body, whole, where it only reads; else the fault. What is looked at is what is
//! sent, byte for byte.

use http::header::EXPECT;
use http::request::Parts;

use super::fault::Fault;
use crate::body::{Body, CollectError};
use crate::broker::read_only::{LONGEST_BODY, Refusal, check_graphql, check_rest};
use crate::listener::Refused;
use crate::proxy::headers::strip;
use crate::router::Route;

/// The body to send on, where the call only reads.
pub(super) async fn only_reads(head: &mut Parts, body: Body, route: Route) -> Result<Body, Fault> {
    let refused = |refusal: Refusal| Fault::ReadOnly { why: refusal.to_string(), too_long: false };
    let query = head.uri.query();
    if route != Route::Graphql {
        check_rest(&head.method, query).map_err(refused)?;
        if !http_body::Body::is_end_stream(&body) {
            return Err(refused(Refusal::Unclear("a GET has a body")));
        }
        return Ok(body);
    }
    let bytes = body.collect(LONGEST_BODY).await.map_err(|error| match error {
        CollectError::TooLong => {
            Fault::ReadOnly { why: Refusal::Unclear("it is longer than 1 MiB").to_string(), too_long: true }
        }
        CollectError::Cut(error) => Refused::of(error.as_ref()).map_or(Fault::ClientGone, Fault::Refused),
    })?;
    check_graphql(&head.method, &head.headers, query, &bytes).map_err(refused)?;
    // It is all here, so nobody has to be asked to go on.
    strip(&mut head.headers, &EXPECT);
    Ok(Body::full(bytes))
}
