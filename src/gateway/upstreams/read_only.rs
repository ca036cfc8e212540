//! Checks read-only calls before they are sent. What is checked is what is sent, byte for byte.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::body::Body;
use crate::broker::read_only::{LongDocuments, MAX_BODY, Refusal, check_graphql, check_rest};
use crate::fields::Fields;
use crate::gateway::fault::{ClientFault, Fault};
use crate::gateway::request::RequestInfo;
use crate::listener::Rejection;

/// Bodies that are collected or waiting at once, across all workers, each up to 1 MiB.
const MAX_COLLECTED: usize = 64;
/// Time limit for receiving a whole body. Documents are short.
const DEADLINE: Duration = Duration::from_secs(10);

/// Limits the memory for collected bodies.
#[derive(Clone, Debug)]
pub(super) struct CollectLimit(Arc<Semaphore>);

impl Default for CollectLimit {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_COLLECTED)))
    }
}

impl CollectLimit {
    async fn collect(&self, body: Body) -> Result<(Bytes, OwnedSemaphorePermit), Fault> {
        let all = async {
            // The semaphore is never closed.
            let place =
                self.0.clone().acquire_owned().await.map_err(|_| ClientFault::Refused(Rejection::BODY_TIMEOUT))?;
            Ok((body.collect(MAX_BODY).await?, place))
        };
        let late = |_| Fault::from(ClientFault::Refused(Rejection::BODY_TIMEOUT));
        tokio::time::timeout(DEADLINE, all).await.map_err(late).flatten()
    }
}

/// If the call only reads: the body to send, and documents to parse before it is sent. `names_graphql`: it may contain
/// a document.
pub(super) async fn check(
    request: &RequestInfo,
    headers: &mut Fields,
    body: Body,
    names_graphql: bool,
    collect_limit: &CollectLimit,
) -> Result<(Body, Option<LongDocuments>), Fault> {
    let query = request.uri.query();
    if !names_graphql {
        check_rest(&request.method, query)?;
        if !http_body::Body::is_end_stream(&body) {
            return Err(Refusal::Unclear("a GET has a body").into());
        }
        return Ok((body, None));
    }
    if http_body::Body::is_end_stream(&body) {
        return Ok((body, check_graphql(&request.method, headers, query, &[])?));
    }
    let (bytes, place) = collect_limit.collect(body).await?;
    let documents = check_graphql(&request.method, headers, query, &bytes)?;
    // The body is complete, so the client need not be asked to continue.
    headers.strip(&EXPECT);
    Ok((Body::full(bytes).holding(place), documents))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::FutureExt as _;
    use futures_util::stream::pending;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    fn endless() -> Body {
        let body = StreamBody::new(pending::<Result<Frame<Bytes>, Infallible>>());
        Body::wrap(body.map_err(|never| match never {}))
    }

    #[tokio::test(start_paused = true)]
    async fn a_bounded_number_of_bodies_is_collected_for_a_bounded_time() {
        let collect_limit = CollectLimit::default();
        let mut slow: Vec<_> = (0..MAX_COLLECTED).map(|_| Box::pin(collect_limit.collect(endless()))).collect();
        for body in &mut slow {
            assert!(body.now_or_never().is_none());
        }
        let mut next = Box::pin(collect_limit.collect(Body::full("{}")));
        assert!((&mut next).now_or_never().is_none(), "it waits for a place");
        drop(slow.pop());
        let (bytes, place) = next.await.unwrap();
        assert_eq!(bytes, "{}");
        let mut late = Box::pin(collect_limit.collect(Body::full("{}")));
        assert!((&mut late).now_or_never().is_none(), "a body that waits for its turn keeps its place");
        drop(place);
        assert!(late.await.is_ok());
        for body in slow {
            assert!(matches!(body.await, Err(Fault::Client(ClientFault::Refused(Rejection::BODY_TIMEOUT)))));
        }
    }
}
