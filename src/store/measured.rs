//! A backend whose operations are timed and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StoreError;
use super::backend::{Backend, NewSealedRecord, SealedRecord, SessionRecord};
use crate::clock::Timestamp;
use crate::telemetry::metrics::{Metrics, StoreOperation};
use crate::telemetry::trace;

#[derive(Clone, Debug)]
pub struct Measured<B> {
    pub(super) backend: B,
    metrics: Option<Arc<Metrics>>,
}

impl<B> Measured<B> {
    /// Measures nothing yet.
    pub(super) fn new(backend: B) -> Self {
        Self { backend, metrics: None }
    }

    pub(super) fn by(self, metrics: Arc<Metrics>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    async fn time<T>(
        &self,
        operation: StoreOperation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (span, started) = (trace::child(operation.span()), Instant::now());
        let outcome = work.await;
        if let Some(metrics) = &self.metrics {
            metrics.store(operation, started.elapsed(), matches!(outcome, Err(StoreError::Down(_))));
        }
        if let (Some(span), Ok(_)) = (span, &outcome) {
            span.succeeded();
        }
        outcome
    }
}

impl<B: Backend> Backend for Measured<B> {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        self.time(StoreOperation::Read, self.backend.load(id)).await
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        self.time(StoreOperation::Write, self.backend.save(record)).await
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        self.time(StoreOperation::Write, self.backend.end(id, owner)).await
    }

    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError> {
        self.time(StoreOperation::Write, self.backend.end_owned(owner, own)).await
    }

    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError> {
        self.time(StoreOperation::Read, self.backend.surplus(owner, most)).await
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        self.time(StoreOperation::Lock, self.backend.try_lock(id, owner, lease)).await
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        self.time(StoreOperation::Lock, self.backend.unlock(id, owner)).await
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError> {
        self.time(StoreOperation::Read, self.backend.get(namespace, name)).await
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        self.time(StoreOperation::Read, self.backend.names(namespace)).await
    }

    async fn put(&self, namespace: &str, name: &str, new: NewSealedRecord<'_>) -> Result<bool, StoreError> {
        self.time(StoreOperation::Write, self.backend.put(namespace, name, new)).await
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        self.time(StoreOperation::Write, self.backend.delete(namespace, name)).await
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        self.time(StoreOperation::Write, self.backend.add(name, by, expires_at)).await
    }

    fn healthy(&self) -> bool {
        self.backend.healthy()
    }

    fn outage(&self) -> Option<String> {
        self.backend.outage()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.backend.ready().await
    }
}
