//! The access line: one event at level `info` for each request.
//!
//! A target's query is never logged: a callback's holds a code.

use std::net::IpAddr;
use std::time::Duration;

use super::{Door, RequestId, RouteKind};

#[derive(Debug)]
pub(crate) struct AccessLine<'a> {
    pub door: Door,
    pub id: RequestId,
    /// `None` if it could not be read, like the path.
    pub method: Option<&'a str>,
    /// Without its query.
    pub path: Option<&'a str>,
    pub route: RouteKind,
    pub status: u16,
    /// Until the head of the response.
    pub took: Duration,
    /// The client according to trusted proxies, else the peer.
    pub client: Option<IpAddr>,
    /// Upwork's id of the signed-in user.
    pub user: Option<&'a str>,
    pub peer: Option<PeerIds>,
    /// The fault's name, if we answered instead of an upstream.
    pub fault: Option<&'static str>,
    /// The rule that a refused message broke.
    pub reason: Option<&'static str>,
}

/// The process at the other end of a Unix socket, according to the kernel (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIds {
    pub pid: Option<i32>,
    pub uid: u32,
    pub gid: u32,
}

impl AccessLine<'_> {
    pub(crate) fn write(&self) {
        let micros = u64::try_from(self.took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            door = self.door.as_str(),
            request_id = %self.id,
            method = self.method,
            path = self.path,
            route = self.route.as_str(),
            status = self.status,
            micros,
            client = self.client.map(tracing::field::display),
            user = self.user,
            peer_pid = self.peer.and_then(|peer| peer.pid),
            peer_uid = self.peer.map(|peer| peer.uid),
            peer_gid = self.peer.map(|peer| peer.gid),
            fault = self.fault,
            reason = self.reason,
            "request"
        );
    }
}
