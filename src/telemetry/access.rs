//! The access line: one event a request, nothing secret in it.
//!
//! In: the facts below. Out: one line at level `info`. A target's query is never logged, since a callback's holds a code.

use std::net::IpAddr;
use std::time::Duration;

use super::{Door, RequestId, RouteKind};

/// What a line tells.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Where it came in.
    pub door: Door,
    /// The id that page, problem and upstream's log share.
    pub id: RequestId,
    /// The method, where it was read.
    pub method: Option<&'a str>,
    /// The path, without its query, where it was read.
    pub path: Option<&'a str>,
    /// What kind of path.
    pub route: RouteKind,
    /// The status answered.
    pub status: u16,
    /// Until the head of the answer.
    pub took: Duration,
    /// The client as told by trusted proxies, else the peer.
    pub client: Option<IpAddr>,
    /// Upwork's id of the user, where one is signed in.
    pub user: Option<&'a str>,
    /// Process, user and group of a caller on a Unix socket.
    pub peer: Option<PeerIds>,
    /// The fault's name, where we answered in somebody's place.
    pub fault: Option<&'static str>,
    /// The rule that the message broke, where it was refused for one.
    pub reason: Option<&'static str>,
}

/// Who is at the other end of a Unix socket, as the kernel says (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIds {
    /// The process.
    pub pid: Option<i32>,
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

impl Line<'_> {
    /// Writes it.
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
