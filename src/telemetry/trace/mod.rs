//! Traces of requests, for OpenTelemetry.
//!
//! A request runs in a [`Tracer::scope`], where the code that it calls finds its trace, so that no parameter is needed.
//! Without a tracer, each function here only checks a thread-local variable. A span has no attribute from a header, a
//! query or a body.

mod context;
mod otlp;
mod span;

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, UNIX_EPOCH};

use http::HeaderValue;
use metrics::Counter;
use tokio::sync::mpsc;
use tokio::task_local;

pub(crate) use context::{SpanContext, TraceId};
pub(crate) use otlp::encode;
pub(crate) use span::Span;
use span::{Kind, Value};

use super::access::AccessLine;

/// Maximum number of spans waiting for the collector. One more is dropped and counted.
pub(crate) const QUEUE: usize = 4096;

task_local! {
    static CURRENT: Scope;
}

#[derive(Clone, Debug)]
struct Scope {
    tracer: Arc<Tracer>,
    /// Set as soon as the request was read.
    trace: Arc<OnceLock<Arc<Trace>>>,
}

/// When something began, by both clocks.
#[derive(Clone, Copy, Debug)]
struct Moment {
    wall: u64,
    instant: Instant,
}

impl Moment {
    #[expect(clippy::disallowed_methods, reason = "a span tells the system's time, whatever the Clock says")]
    fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { wall: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX), instant: Instant::now() }
    }

    fn end(self) -> u64 {
        self.wall.saturating_add(u64::try_from(self.instant.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Where spans go.
#[derive(Debug)]
pub(crate) struct Tracer {
    spans: mpsc::Sender<Span>,
    dropped: Counter,
}

impl Tracer {
    /// A tracer, and the receiver of its spans.
    pub(crate) fn new(dropped: Counter) -> (Arc<Self>, mpsc::Receiver<Span>) {
        let (spans, receiver) = mpsc::channel(QUEUE);
        (Arc::new(Self { spans, dropped }), receiver)
    }

    /// A request, which begins its trace inside.
    pub(crate) async fn scope<F: Future>(self: Arc<Self>, request: F) -> F::Output {
        CURRENT.scope(Scope { tracer: self, trace: Arc::default() }, request).await
    }

    fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }
}

/// Runs in the trace of the caller, on whatever task.
pub(crate) fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let scope = CURRENT.try_with(Clone::clone).ok();
    async move {
        match scope {
            Some(scope) => CURRENT.scope(scope, work).await,
            None => work.await,
        }
    }
}

/// The trace of one request.
#[derive(Debug)]
pub(crate) struct Trace {
    tracer: Arc<Tracer>,
    context: SpanContext,
    parent: Option<u64>,
    state: Option<HeaderValue>,
    began: Moment,
}

/// Begins the trace of the request that this task handles: a new one, or the one that a trusted `traceparent` and
/// `tracestate` name. `None` if there is no tracer; then `given` is not called.
pub(crate) fn begin<'a>(
    given: impl FnOnce() -> Option<(Option<&'a HeaderValue>, Option<HeaderValue>)>,
) -> Option<Arc<Trace>> {
    CURRENT
        .try_with(|scope| {
            let (parent, state) = given().unwrap_or_default();
            let parent = parent.and_then(|value| SpanContext::parse(value.as_bytes()));
            let trace = Trace {
                tracer: scope.tracer.clone(),
                context: parent.map_or_else(SpanContext::root, SpanContext::child),
                parent: parent.map(|parent| parent.span),
                // It belongs to its `traceparent` (W3C Trace Context section 3.3).
                state: state.filter(|_| parent.is_some()),
                began: Moment::now(),
            };
            scope.trace.get_or_init(|| Arc::new(trace)).clone()
        })
        .ok()
}

/// A span of the request that this task works for; `None` if it is not traced.
pub(crate) fn child(name: &'static str) -> Option<OpenSpan> {
    let trace = CURRENT.try_with(|scope| scope.trace.get().cloned()).ok()??;
    if !trace.context.sampled {
        return None;
    }
    let context = trace.context.child();
    Some(OpenSpan(Box::new(Open { trace, context, name, began: Moment::now(), status: None, failed: true })))
}

impl Trace {
    pub(crate) fn id(&self) -> TraceId {
        self.context.trace
    }

    /// The request has ended as its line says.
    pub(crate) fn finish(&self, line: &AccessLine<'_>) {
        if !self.context.sampled {
            return;
        }
        let text = |name, value: Option<&str>| value.map(|value| (name, Value::Text(value.to_owned())));
        let number = |name, value: Option<u64>| value.map(|value| (name, Value::Number(value)));
        let attributes = [
            text("http.request.method", line.method),
            text("url.path", line.path),
            text("http.route", Some(line.route.as_str())),
            number("http.response.status_code", Some(u64::from(line.status))),
            number("http.response.body.size", line.bytes),
            text("upwarden.door", Some(line.door.as_str())),
            text("upwarden.request_id", Some(&line.request_id.to_string())),
            text("error.type", line.fault),
        ];
        self.tracer.send(Span {
            context: self.context,
            parent: self.parent,
            state: self.state.clone(),
            name: format!("{} {}", line.method.unwrap_or("HTTP"), line.route.as_str()),
            kind: Kind::Server,
            start: self.began.wall,
            end: self.began.end(),
            attributes: attributes.into_iter().flatten().collect(),
            // A client's own mistakes are no failure of the server (semantic conventions for HTTP).
            failed: line.status >= 500 || line.cut,
        });
    }
}

/// A span in progress. It ends when it is dropped, as failed unless a success was reported.
#[derive(Debug)]
pub(crate) struct OpenSpan(Box<Open>);

#[derive(Debug)]
struct Open {
    trace: Arc<Trace>,
    context: SpanContext,
    name: &'static str,
    began: Moment,
    status: Option<u16>,
    failed: bool,
}

impl OpenSpan {
    /// `traceparent` and `tracestate` for the request to the callee.
    pub(crate) fn headers(&self) -> (HeaderValue, Option<HeaderValue>) {
        (self.0.context.header(), self.0.trace.state.clone())
    }

    pub(crate) fn succeeded(mut self) {
        self.0.failed = false;
    }

    /// It was answered with this status.
    pub(crate) fn answered(mut self, status: u16) {
        self.0.status = Some(status);
        self.0.failed = status >= 400;
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        let Open { trace, context, name, began, status, failed } = &*self.0;
        let status = status.map(|status| ("http.response.status_code", Value::Number(u64::from(status))));
        trace.tracer.send(Span {
            context: *context,
            parent: Some(trace.context.span),
            state: trace.state.clone(),
            name: (*name).to_owned(),
            kind: Kind::Client,
            start: began.wall,
            end: began.end(),
            attributes: status.into_iter().collect(),
            failed: *failed,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    #[tokio::test]
    async fn spans_beyond_the_queue_are_dropped_and_counted() {
        let metrics = Metrics::new();
        let (tracer, mut spans) = Tracer::new(metrics.spans().overflow);
        let request = async {
            begin(|| None).unwrap();
            for _ in 0..QUEUE + 10 {
                child("store read").unwrap().succeeded();
            }
        };
        tracer.scope(request).await;
        assert!(metrics.render().contains("upwarden_spans_dropped_total{reason=\"overflow\"} 10\n"));
        assert!(spans.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_span_of_another_task_belongs_to_the_request_that_began_it() {
        let (tracer, mut spans) = Tracer::new(Counter::noop());
        let request = async {
            let trace = begin(|| None).unwrap();
            tokio::spawn(carry(async { child("token").unwrap().answered(200) })).await.unwrap();
            trace
        };
        let trace = tracer.scope(request).await;
        let span = spans.recv().await.unwrap();
        assert_eq!((span.context.trace, span.parent), (trace.id(), Some(trace.context.span)));
        assert!(!span.failed);
    }

    #[tokio::test]
    async fn without_a_tracer_nothing_is_evaluated_or_allocated() {
        let asked = std::cell::Cell::new(false);
        let none = begin(|| {
            asked.set(true);
            None
        });
        assert!(none.is_none() && !asked.get() && child("app").is_none());
        assert!(carry(async { child("app").is_none() }).await);
    }
}
