//! The access line: one event at level `info` for each request.
//!
//! A target's query is never logged: a callback's holds a code.

use std::net::IpAddr;

use serde::Serialize;

use super::{Door, Format, RequestId, RouteKind, json};

/// The line's fields, as JSON has them.
#[derive(Debug, Serialize)]
pub(crate) struct AccessLine<'a> {
    pub door: Door,
    pub request_id: RequestId,
    /// `None` if it could not be read, like the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<&'a str>,
    /// Without its query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<&'a str>,
    pub route: RouteKind,
    pub status: u16,
    /// Until the head of the response.
    pub micros: u64,
    /// The client according to trusted proxies, else the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// Upwork's id of the signed-in user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(flatten)]
    pub peer: Option<PeerIds>,
    /// The fault's name, if we answered instead of an upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<&'static str>,
    /// The rule that a refused message broke.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// The process at the other end of a Unix socket, according to the kernel (`SO_PEERCRED`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PeerIds {
    #[serde(rename = "peer_pid", skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    #[serde(rename = "peer_uid")]
    pub uid: u32,
    #[serde(rename = "peer_gid")]
    pub gid: u32,
}

impl AccessLine<'_> {
    pub(crate) fn write(&self) {
        let config = super::config();
        if !config.is_none_or(|config| config.access) || !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        if config.is_some_and(|config| config.format == Format::Json) {
            return json::write(tracing::Level::INFO, "request", self);
        }
        tracing::info!(
            door = self.door.as_str(),
            request_id = %self.request_id,
            method = self.method,
            path = self.path,
            route = self.route.as_str(),
            status = self.status,
            micros = self.micros,
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
