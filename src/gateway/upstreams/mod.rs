//! The worker's upstreams: the app, and Upwork's API.

mod api;
mod app;
mod assertion;
mod identity;
mod read_only;

use std::sync::Arc;

use crate::broker::Broker;
use crate::policy::{Routes, Target};
pub(super) use api::{ApiCall, ApiUpstream, CallFailure, CallOutcome, is_cdn_wall};
pub(crate) use app::{AppSettings, AppUpstream};
pub(super) use app::{SessionContext, asks_upgrade};
pub(crate) use assertion::Assertions;
pub(crate) use identity::{AddedHeader, IdentityHeaders, Part, UserField};

#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    pub(super) routes: Arc<Routes>,
    /// The upstream of `app.url`.
    pub(super) app: AppUpstream,
    /// The upstreams of routes that have their own.
    others: Vec<AppUpstream>,
    pub(super) api: ApiUpstream,
}

impl Upstreams {
    /// `others`: in the order of the routes' numbers, from 1.
    pub(crate) fn new(routes: Arc<Routes>, app: AppUpstream, others: Vec<AppUpstream>, broker: Broker) -> Self {
        Self { routes, app, others, api: ApiUpstream::new(broker) }
    }

    /// The upstream for this part of the app.
    pub(super) fn of(&self, target: Target<'_>) -> &AppUpstream {
        let place = if let Target::App(route) = target { route.upstream } else { 0 };
        place.checked_sub(1).and_then(|place| self.others.get(place)).unwrap_or(&self.app)
    }

    /// The same upstreams with their own connections, for another worker.
    pub(super) fn sibling(&self) -> Self {
        let others = self.others.iter().map(AppUpstream::sibling).collect();
        Self { routes: self.routes.clone(), app: self.app.sibling(), others, api: self.api.sibling() }
    }

    /// Closes upstream connections that were idle for too long.
    pub(super) fn sweep(&self) {
        self.app.sweep();
        self.others.iter().for_each(AppUpstream::sweep);
        self.api.sweep();
    }
}
