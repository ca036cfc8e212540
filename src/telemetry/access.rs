//! The access line: one event at level `info` for each request.
//!
//! A target's query is never logged: a callback's holds a code.

use std::net::IpAddr;

use serde::Serialize;

use super::share::AccessShare;
use super::trace::TraceId;
use super::{Door, Format, RequestId, RouteKind, json};

/// The line's fields, as JSON has them.
#[derive(Debug, Serialize)]
pub(crate) struct AccessLine<'a> {
    pub door: Door,
    pub request_id: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
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
    /// How long the app or Upwork took of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_micros: Option<u64>,
    /// Until the response's end, or until it was cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total_micros: Option<u64>,
    /// Of the response's body, as far as it went to the client's connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// The response did not come to its end: the client left, or the upstream broke off.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
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
    fn failed(&self) -> bool {
        self.status >= 400 || self.cut || self.fault.is_some()
    }

    pub(crate) fn write(&self) {
        let config = super::config();
        let share = config.map_or(AccessShare::ALL, |config| config.access);
        if !(self.failed() || share.takes_next())
            || share == AccessShare::NONE
            || !tracing::enabled!(tracing::Level::INFO)
        {
            return;
        }
        if config.is_some_and(|config| config.format == Format::Json) {
            return json::write(tracing::Level::INFO, "request", self);
        }
        tracing::info!(
            door = self.door.as_str(),
            request_id = %self.request_id,
            trace_id = self.trace_id.map(tracing::field::display),
            method = self.method,
            path = self.path,
            route = self.route.as_str(),
            status = self.status,
            micros = self.micros,
            upstream_micros = self.upstream_micros,
            total_micros = self.total_micros,
            bytes = self.bytes,
            cut = self.cut.then_some(true),
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_table_in_the_docs_has_every_field() {
        let id = RequestId::next();
        let line = AccessLine {
            door: Door::Public,
            request_id: &id,
            trace_id: Some(TraceId::random()),
            method: Some("GET"),
            path: Some("/"),
            route: RouteKind::App,
            status: 200,
            micros: 1,
            upstream_micros: Some(1),
            total_micros: Some(1),
            bytes: Some(1),
            cut: true,
            client: Some([127, 0, 0, 1].into()),
            user: Some("1"),
            peer: Some(PeerIds { pid: Some(1), uid: 1, gid: 1 }),
            fault: Some("fault"),
            reason: Some("reason"),
        };
        let line = serde_json::to_value(&line).unwrap();
        let common = ["timestamp", "level", "message"].map(str::to_owned);
        let written: BTreeSet<_> = common.into_iter().chain(line.as_object().unwrap().keys().cloned()).collect();
        let docs = include_str!("../../docs/operations.md");
        let (_, table) = docs.split_once("| field | is |\n").expect("the table");
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
        assert_eq!(names.map(str::to_owned).collect::<BTreeSet<_>>(), written, "left: docs/operations.md");
    }
}
