//! Sends spans to a collector, by OTLP over HTTP.
//!
//! Takes spans from the tracer's queue in batches. A batch is retried for a while if the collector is unreachable, then
//! dropped and counted. No request waits for it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::telemetry::causes;
use crate::telemetry::metrics::SpanCounters;
use crate::telemetry::trace::{Span, Tracer, encode};
use crate::tls;

const BATCH: usize = 512;
const LINGER: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between the tries of one batch.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Starts to send spans to the collector at `base`, its URL without `/v1/traces`. The task ends soon after `ended`.
pub(super) fn start(
    base: &Url,
    counters: SpanCounters,
    ended: CancellationToken,
) -> Result<(Arc<Tracer>, JoinHandle<()>), tls::Error> {
    let (tracer, spans) = Tracer::new(counters.overflow.clone());
    let exporter = Exporter::new(base, counters)?;
    Ok((tracer, tokio::spawn(exporter.run(spans, ended))))
}

struct Exporter {
    http: reqwest::Client,
    url: Url,
    counters: SpanCounters,
    /// The log has said that the collector is unreachable.
    warned: bool,
}

impl Exporter {
    fn new(base: &Url, counters: SpanCounters) -> Result<Self, tls::Error> {
        let mut url = base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["v1", "traces"]);
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(None, None)?)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| rustls::Error::General(causes(&error)))?;
        Ok(Self { http, url, counters, warned: false })
    }

    /// Runs until the tracer is gone or `ended`, then tries once to send the remaining spans.
    async fn run(mut self, mut spans: mpsc::Receiver<Span>, ended: CancellationToken) {
        let mut batch = Vec::new();
        while !ended.is_cancelled() {
            let filling = async {
                if spans.recv_many(&mut batch, BATCH).await > 0 {
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

    async fn deliver(&mut self, batch: &[Span], ended: &CancellationToken) {
        let body = encode(batch);
        let mut pauses = PAUSES.iter();
        let why = loop {
            let why = match self.http.post(self.url.clone()).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => {
                    self.counters.exported.increment(batch.len() as u64);
                    self.warned = false;
                    return;
                }
                Ok(answer) if !is_retryable(answer.status()) => break format!("it answers {}", answer.status()),
                Ok(answer) => format!("it answers {}", answer.status()),
                Err(error) => causes(&error.without_url()),
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
