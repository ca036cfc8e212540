//! Which series exist: those that can change.

use super::Refusal;
use crate::telemetry::Door;

/// The features of this process, which determine the events that can happen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope {
    pub neighbour: bool,
    pub tls: bool,
    pub http2: bool,
    pub proxy_protocol: bool,
    pub body_limit: bool,
    pub address_limit: bool,
    /// Tokens that can be refreshed.
    pub refreshes: bool,
    /// A store besides the cookies.
    pub store: bool,
}

impl Scope {
    pub(super) const ALL: Self = Self {
        neighbour: true,
        tls: true,
        http2: true,
        proxy_protocol: true,
        body_limit: true,
        address_limit: true,
        refreshes: true,
        store: true,
    };

    pub(super) fn has(self, door: Door) -> bool {
        door == Door::Public || self.neighbour
    }

    /// Whether `door` can refuse for this reason.
    pub(super) fn refuses(self, door: Door, refusal: Refusal) -> bool {
        let public = door == Door::Public;
        self.has(door)
            && match refusal {
                Refusal::Tls => public && self.tls,
                Refusal::ProxyProtocol => public && self.proxy_protocol,
                Refusal::Http2Abuse => public && self.http2,
                Refusal::ConnectionsPerAddress => public && self.address_limit,
                Refusal::BodyTooLarge => self.body_limit,
                Refusal::BadMessage
                | Refusal::HeadTooLarge
                | Refusal::HeadTimeout
                | Refusal::BodyTimeout
                | Refusal::AnswerTimeout
                | Refusal::AnswerCut
                | Refusal::Connections
                | Refusal::Accept => true,
            }
    }
}
