//! Calls that may only read are looked through before they go on. What is looked at is what is sent, byte for byte.

use http::HeaderMap;
use http::header::EXPECT;

use crate::body::Body;
use crate::broker::names_graphql;
use crate::broker::read_only::{LongDocuments, MAX_BODY, Refusal, check_graphql, check_rest};
use crate::gateway::fault::Fault;
use crate::gateway::request::RequestInfo;
use crate::proxy::headers::strip;
use crate::router::Route;

/// The body to send on, where the call only reads, and documents that are to be parsed before it is sent.
pub(super) async fn check(
    request: &RequestInfo,
    headers: &mut HeaderMap,
    body: Body,
    route: Route,
) -> Result<(Body, Option<LongDocuments>), Fault> {
    let query = request.uri.query();
    if route != Route::Graphql && !names_graphql(request.path()) {
        check_rest(&request.method, query)?;
        if !http_body::Body::is_end_stream(&body) {
            return Err(Refusal::Unclear("a GET has a body").into());
        }
        return Ok((body, None));
    }
    let bytes = body.collect(MAX_BODY).await?;
    let documents = check_graphql(&request.method, headers, query, &bytes)?;
    // All of it is here, so the client need not be asked to go on.
    strip(headers, &EXPECT);
    Ok((Body::full(bytes), documents))
}
