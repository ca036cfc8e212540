//! Sends spans to a collector, by OTLP over HTTP.
//!
//! Takes spans from the tracer's queue in batches. A batch is retried for a while if the collector is unreachable, then
//! dropped and counted. No request waits for it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::descriptors::Descriptors;
use crate::proxy::client::{Client, Timeouts};
use crate::proxy::connect::Connector;
use crate::proxy::endpoint::{Endpoint, SetupError};
use crate::telemetry::causes;
use crate::telemetry::metrics::{SpanCounters, UpstreamMetrics};
use crate::telemetry::trace::{Span, Tracer, encode};

const BATCH: usize = 512;
const LINGER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUTS: Timeouts = Timeouts { connect: TIMEOUT, first_byte: TIMEOUT, idle: TIMEOUT };
/// Bytes of an answer, which says no more than its status.
const MAX_BODY: usize = 64 << 10;
/// How often idle connections are checked.
const SWEEP: Duration = Duration::from_secs(30);
/// Between the tries of one batch.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Starts to send spans to the collector at `base`, its URL without `/v1/traces`. The task ends soon after `ended`.
pub(super) fn start(
    base: &Url,
    counters: SpanCounters,
    descriptors: &Arc<Descriptors>,
    ended: CancellationToken,
) -> Result<(Arc<Tracer>, JoinHandle<()>), SetupError> {
    let (tracer, spans) = Tracer::new(counters.overflow.clone());
    let exporter = Exporter::new(base, counters, descriptors)?;
    Ok((tracer, tokio::spawn(exporter.run(spans, ended))))
}

struct Exporter {
    collector: Endpoint,
    counters: SpanCounters,
    /// The log has said that the collector is unreachable.
    warned: bool,
}

impl Exporter {
    fn new(base: &Url, counters: SpanCounters, descriptors: &Arc<Descriptors>) -> Result<Self, SetupError> {
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "traces"]);
        }
        let collector = Endpoint::new(&url, |upstream| {
            let connector = Connector::new(upstream, None, None)?;
            Ok(Client::new(connector, TIMEOUTS, descriptors.clone(), UpstreamMetrics::uncounted()))
        })?;
        Ok(Self { collector, counters, warned: false })
    }

    /// Runs until the tracer is gone or `ended`, then tries once to send the remaining spans.
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, ended: CancellationToken) {
        let mut batch = Vec::new();
        while !ended.is_cancelled() {
            let filling = async {
                if self.receive(&mut spans, &mut batch).await > 0 {
                    let full = async { while batch.len() < BATCH && spans.recv_many(&mut batch, BATCH).await > 0 {} };
                    let _ = tokio::time::timeout(LINGER, full).await;
                }
            };
            ended.run_until_cancelled(filling).await;
            if batch.is_empty() {
                break;
            }
            self.deliver(&batch, &ended).await;
            batch.clear();
        }
        spans.close();
        while spans.recv_many(&mut batch, BATCH).await > 0 {
            self.deliver(&batch, &ended).await;
            batch.clear();
        }
    }

    /// Waits for spans, and closes idle connections meanwhile.
    async fn receive(&self, spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) -> usize {
        loop {
            match tokio::time::timeout(SWEEP, spans.recv_many(batch, BATCH)).await {
                Ok(count) => return count,
                Err(_) => self.collector.client.sweep(),
            }
        }
    }

    async fn send(&self, body: Vec<u8>) -> Result<StatusCode, String> {
        let json = (CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = async {
            let response = self.collector.send(&Method::POST, &[json], body).await.map_err(|error| causes(&error))?;
            let status = response.status;
            // Read to its end, so that the connection can be used again.
            let _ = response.body.collect(MAX_BODY).await;
            Ok(status)
        };
        tokio::time::timeout(TIMEOUT, answer).await.unwrap_or_else(|_| Err("it does not answer in time".to_owned()))
    }

    async fn deliver(&mut self, batch: &[Span], ended: &CancellationToken) {
        let body = encode(batch).to_string().into_bytes();
        let mut pauses = PAUSES.iter();
        let why = loop {
            let why = match self.send(body.clone()).await {
                Ok(status) if status.is_success() => {
                    self.counters.exported.increment(batch.len() as u64);
                    self.warned = false;
                    return;
                }
                Ok(status) if !is_retryable(status) => break format!("it answers {status}"),
                Ok(status) => format!("it answers {status}"),
                Err(why) => why,
            };
            let Some(pause) = pauses.next() else { break why };
            if ended.run_until_cancelled(tokio::time::sleep(*pause)).await.is_none() {
                break why;
            }
        };
        self.counters.undelivered.increment(batch.len() as u64);
        if !std::mem::replace(&mut self.warned, true) {
            tracing::warn!(why, "the collector of telemetry.otlp_url takes no spans; they are dropped until it does");
        }
    }
}

/// OTLP 1.3, "Retryable Response Codes".
fn is_retryable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
