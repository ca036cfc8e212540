//! Calls Upwork's API on behalf of the caller.

use std::time::Duration;

use http::header::CONTENT_TYPE;

use super::app::body_fault;
use super::read_only::{self, CollectLimit};
use crate::broker::{ApiRequest, Broker, CallError, TokenSource, TokenUpdate};
use crate::gateway::fault::Fault;
use crate::gateway::request::{Message, RequestInfo};
use crate::oauth::refresh::RefreshError;
use crate::pacing::Quota;
use crate::response::Response;
use crate::router::Route;

#[derive(Clone, Debug)]
pub(in crate::gateway) struct ApiUpstream {
    broker: Broker,
    collect_limit: CollectLimit,
}

/// A call: its target, its token, and whether it may only read.
#[derive(Debug)]
pub(in crate::gateway) struct ApiCall {
    pub(in crate::gateway) route: Route,
    pub(in crate::gateway) source: TokenSource,
    pub(in crate::gateway) read_only: bool,
}

/// The outcome of a call.
#[derive(Debug)]
pub(in crate::gateway) struct CallOutcome {
    pub(in crate::gateway) result: Result<Response, CallFailure>,
    pub(in crate::gateway) update: Option<TokenUpdate>,
    /// How long Upwork's API took, if it was asked.
    pub(in crate::gateway) upstream: Option<Duration>,
}

#[derive(Debug)]
pub(in crate::gateway) enum CallFailure {
    /// Upwork has ended the grant behind the caller's token.
    Revoked,
    Fault(Fault),
}

impl ApiUpstream {
    pub(super) fn new(broker: Broker) -> Self {
        Self { broker, collect_limit: CollectLimit::default() }
    }

    pub(super) fn sibling(&self) -> Self {
        Self { broker: self.broker.sibling(), collect_limit: self.collect_limit.clone() }
    }

    pub(super) fn sweep(&self) {
        self.broker.sweep();
    }

    /// The calls left today.
    pub(in crate::gateway) fn quota(&self) -> Quota {
        self.broker.quota()
    }

    /// `path`: the part after our prefix.
    pub(in crate::gateway) async fn call(
        &self,
        request: &RequestInfo,
        path: &str,
        mut message: Message,
        call: ApiCall,
    ) -> Result<CallOutcome, Fault> {
        let target = self.broker.target(call.route, path, request.uri.query())?;
        let mut documents = None;
        if call.read_only {
            let names_graphql = self.broker.names_graphql(call.route, path);
            (message.body, documents) =
                read_only::check(request, &mut message.headers, message.body, names_graphql, &self.collect_limit)
                    .await?;
        }
        let service = matches!(call.source, TokenSource::Service(_));
        let exchange = message.exchange.take();
        let (method, headers, body) = (request.method.clone(), message.headers, message.body);
        let api_request = ApiRequest { method, headers, body, target, documents };
        let outcome = self.broker.call(api_request, call.source).await;
        let result = match outcome.response {
            Ok(mut response) => {
                response.headers.extend(self.quota().headers());
                Ok(response)
            }
            Err(CallError::Token(RefreshError::Revoked)) if !service => Err(CallFailure::Revoked),
            Err(error) => {
                let fault = body_fault(exchange.as_ref()).unwrap_or_else(|| Fault::of_call(error, service));
                Err(CallFailure::Fault(fault))
            }
        };
        Ok(CallOutcome { result, update: outcome.update, upstream: outcome.upstream })
    }
}

/// HTML instead of JSON: the bot check of Upwork's CDN. It is passed on unchanged, and says nothing about the session.
pub(in crate::gateway) fn is_cdn_wall(response: &Response) -> bool {
    let html = response.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    html && !response.status.is_success() && !response.status.is_redirection()
}
