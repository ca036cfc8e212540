//! The access line: one event at level `info` for each request.
//!
//! A target's query is never logged, because a callback's contains a code.

use std::net::IpAddr;

use super::json::{self, Fields};
use super::share::AccessShare;
use super::trace::TraceId;
use super::{Door, Format, RequestId, RouteKind};

/// The line's fields.
#[derive(Debug)]
pub(crate) struct AccessLine<'a> {
    pub door: Door,
    pub request_id: &'a RequestId,
    pub trace_id: Option<TraceId>,
    /// `None` if it could not be read, like the path.
    pub method: Option<&'a str>,
    /// Without its query.
    pub path: Option<&'a str>,
    pub route: RouteKind,
    pub status: u16,
    /// Until the head of the response.
    pub micros: u64,
    /// How long the app or Upwork took of it.
    pub upstream_micros: Option<u64>,
    /// Until the response's end, or until it was cut.
    pub total_micros: Option<u64>,
    /// Of the response's body, as far as it went to the client's connection.
    pub bytes: Option<u64>,
    /// The response did not come to its end: the client left, or the upstream broke off.
    pub cut: bool,
    /// The client according to trusted proxies, otherwise the peer.
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
            return json::write(tracing::Level::INFO, "request", |fields| self.record(fields));
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

    fn record(&self, fields: &mut Fields<'_, String>) {
        fields.text("door", Some(self.door.as_str()));
        fields.text("request_id", Some(self.request_id.as_str()));
        fields.shown("trace_id", self.trace_id);
        fields.text("method", self.method);
        fields.text("path", self.path);
        fields.text("route", Some(self.route.as_str()));
        fields.number("status", Some(self.status));
        fields.number("micros", Some(self.micros));
        fields.number("upstream_micros", self.upstream_micros);
        fields.number("total_micros", self.total_micros);
        fields.number("bytes", self.bytes);
        if self.cut {
            fields.flag("cut", true);
        }
        fields.address("client", self.client);
        fields.text("user", self.user);
        fields.number("peer_pid", self.peer.and_then(|peer| peer.pid));
        fields.number("peer_uid", self.peer.map(|peer| peer.uid));
        fields.number("peer_gid", self.peer.map(|peer| peer.gid));
        fields.text("fault", self.fault);
        fields.text("reason", self.reason);
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
        let mut written = String::new();
        json::line(&mut written, tracing::Level::INFO, "request", |fields| line.record(fields)).unwrap();
        let written: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&written).unwrap();
        let docs = include_str!("../../docs/operations.md");
        let (_, table) = docs.split_once("| field | meaning |\n").expect("the table");
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let written: BTreeSet<_> = written.keys().map(String::as_str).collect();
        assert_eq!(names.collect::<BTreeSet<_>>(), written, "left: docs/operations.md");
    }
}
