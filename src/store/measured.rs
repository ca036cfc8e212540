//! The backend of a store, with its operations timed and counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StoreError;
use super::backend::{Backend, NewSealedRecord, SealedRecord, SessionRecord};
use super::{embedded, valkey};
use crate::clock::Timestamp;
use crate::telemetry::metrics::{Metrics, StoreOperation};
use crate::telemetry::trace;

#[derive(Clone, Debug)]
pub(super) enum Place {
    File(embedded::File),
    Server(valkey::Server),
}

#[derive(Clone, Debug)]
pub(super) struct MeasuredBackend {
    pub(super) place: Place,
    metrics: Option<Arc<Metrics>>,
}

/// Calls the method on whichever backend is configured.
macro_rules! call {
    ($self:ident.$method:ident($($argument:expr),*) as $operation:ident) => {
        $self.time(StoreOperation::$operation, async {
            match &$self.place {
                Place::File(file) => file.$method($($argument),*).await,
                Place::Server(server) => server.$method($($argument),*).await,
            }
        })
        .await
    };
}

impl MeasuredBackend {
    pub(super) fn new(place: Place) -> Self {
        Self { place, metrics: None }
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

impl Backend for MeasuredBackend {
    async fn load(&self, id: &str) -> Result<Option<String>, StoreError> {
        call!(self.load(id) as Read)
    }

    async fn save(&self, record: SessionRecord) -> Result<bool, StoreError> {
        call!(self.save(record) as Write)
    }

    async fn end(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        call!(self.end(id, owner) as Write)
    }

    async fn end_owned(&self, owner: &str, own: Option<&str>) -> Result<u64, StoreError> {
        call!(self.end_owned(owner, own) as Write)
    }

    async fn surplus(&self, owner: &str, most: usize) -> Result<Vec<String>, StoreError> {
        call!(self.surplus(owner, most) as Read)
    }

    async fn try_lock(&self, id: &str, owner: &str, lease: Duration) -> Result<bool, StoreError> {
        call!(self.try_lock(id, owner, lease) as Lock)
    }

    async fn unlock(&self, id: &str, owner: &str) -> Result<(), StoreError> {
        call!(self.unlock(id, owner) as Lock)
    }

    async fn get(&self, namespace: &str, name: &str) -> Result<Option<SealedRecord>, StoreError> {
        call!(self.get(namespace, name) as Read)
    }

    async fn names(&self, namespace: &str) -> Result<Vec<String>, StoreError> {
        call!(self.names(namespace) as Read)
    }

    async fn put(&self, namespace: &str, name: &str, new: NewSealedRecord<'_>) -> Result<bool, StoreError> {
        call!(self.put(namespace, name, new) as Write)
    }

    async fn delete(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        call!(self.delete(namespace, name) as Write)
    }

    async fn add(&self, name: &str, by: u64, expires_at: Timestamp) -> Result<u64, StoreError> {
        call!(self.add(name, by, expires_at) as Write)
    }

    fn healthy(&self) -> bool {
        match &self.place {
            Place::File(file) => file.healthy(),
            Place::Server(server) => server.healthy(),
        }
    }

    fn outage(&self) -> Option<String> {
        match &self.place {
            Place::File(file) => file.outage(),
            Place::Server(server) => server.outage(),
        }
    }

    async fn ready(&self) -> Result<(), StoreError> {
        match &self.place {
            Place::File(file) => file.ready().await,
            Place::Server(server) => server.ready().await,
        }
    }
}
