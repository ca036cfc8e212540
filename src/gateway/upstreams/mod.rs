//! The worker's upstreams: the app behind the gate, and Upwork's API.

mod api;
mod app;
mod read_only;

use std::sync::Arc;

use crate::broker::Broker;
use crate::proxy::Client;
pub(super) use api::{ApiCall, ApiUpstream, CallFailure, CallOutcome, is_cdn_wall};
pub(crate) use app::AppSettings;
pub(super) use app::{AppUpstream, Told, asks_upgrade, ends_here};

#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    pub(super) app: AppUpstream,
    pub(super) api: ApiUpstream,
}

impl Upstreams {
    pub(crate) fn new(app: Client, settings: Arc<AppSettings>, broker: Broker) -> Self {
        Self { app: AppUpstream::new(app, settings), api: ApiUpstream::new(broker) }
    }

    /// The same upstreams, with connections of their own for another worker.
    pub(super) fn sibling(&self) -> Self {
        Self { app: self.app.sibling(), api: self.api.sibling() }
    }

    /// Closes upstream connections that were idle for too long.
    pub(super) fn sweep(&self) {
        self.app.sweep();
        self.api.sweep();
    }
}
