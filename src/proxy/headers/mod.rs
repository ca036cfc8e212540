//! The header rules of both directions.
//!
//! [`AppHeaders`] are a client's fields except a deny list, [`ApiHeaders`] only those on an allow list; responses lose
//! hop-by-hop fields. Hop-by-hop fields are stripped first, with every field that any `Connection` line names, and ours
//! are set afterwards, so that no client can remove ours (docs/design.md "Headers").

mod reserved;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName,
    HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, RANGE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
    USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::cookies::RequestCookies;
use crate::fields::{Fields, Line, Names};
use crate::framing::{is_token, reads_as};
pub(crate) use reserved::{Owner, owner};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The organization a call acts for (Upwork's GraphQL documentation).
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-upwork-api-tenantid");
pub(crate) const USER_ID: HeaderName = HeaderName::from_static("x-upwork-user-id");
/// The nid.
pub(crate) const USER: HeaderName = HeaderName::from_static("x-upwork-user");
/// Percent-encoded if it is not ASCII.
pub(crate) const USER_NAME: HeaderName = HeaderName::from_static("x-upwork-user-name");
pub(crate) const ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-upwork-organization-id");
/// The user, signed.
pub(crate) const ASSERTION: HeaderName = HeaderName::from_static("x-upwork-assertion");
pub(crate) const TICKET: HeaderName = HeaderName::from_static("x-upwork-ticket");
/// The nid, for apps written for other proxies.
pub(crate) const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
/// Sent to a neighbour door that is not on loopback.
pub(crate) const SECRET: HeaderName = HeaderName::from_static("x-upwarden-secret");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// RFC 9110 section 7.6.1, in addition to what `Connection` names.
static HOP_BY_HOP: [HeaderName; 8] =
    [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE];

/// Fields that only we set (the user's in `gateway/upstreams/identity.rs`). A client's own are dropped, and so are
/// look-alikes: many servers turn every byte of a name that is not a letter or digit into `_` (RFC 3875 section 4.1.18
/// for `-`, lighttpd for all).
const OURS: [&str; 9] = [
    "x-upwork-user-id",
    "x-upwork-user",
    "x-upwork-user-name",
    "x-upwork-organization-id",
    "x-upwork-assertion",
    "x-upwork-ticket",
    "x-forwarded-user",
    "x-request-id",
    "x-upwarden-secret",
];

/// Fields that name a path, which some apps prefer to the target. The checked path must be the requested one
/// (docs/design.md "Paths"), so these are always dropped.
const PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Fields that frame a message: a server that reads `Content_Length` as one would read a different message.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// Set as `HTTP_PROXY` by CGI, it would choose the app's own proxy (CVE-2016-5385).
const CGI_PROXY: &str = "proxy";

/// The only fields of a caller that are sent to Upwork.
static TO_API: [HeaderName; 17] = [
    ACCEPT,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    CACHE_CONTROL,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_TYPE,
    EXPECT,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TENANT,
    USER_AGENT,
];

/// Upwork's instructions to browsers on its own site (docs/design.md "The brokered API"), and our own request id.
const NOT_FROM_API: [&str; 13] = [
    "set-cookie",
    "strict-transport-security",
    "alt-svc",
    "clear-site-data",
    "nel",
    "report-to",
    "reporting-endpoints",
    "public-key-pins",
    "expect-ct",
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "service-worker-allowed",
    "x-request-id",
];

/// The fields of a request to the app, in the order in which they are sent.
#[derive(Debug)]
pub struct AppHeaders {
    client: Fields,
    /// Our fields. Each replaces the client's fields of its name.
    ours: Vec<(HeaderName, HeaderValue)>,
    /// The names of our fields.
    names: Names,
}

/// The usual number of our fields; with more, the allocator leaves its fast path.
const OURS_USUALLY: usize = 14;

impl AppHeaders {
    /// The client's fields without hop-by-hop ones and without ours; a requested upgrade is requested again. `cookies`:
    /// those of the same request.
    pub fn from_client(mut client: Fields, cookies: &RequestCookies) -> Self {
        let upgrade = requested_upgrade(&client);
        let trailers = accepts_trailers(&client);
        let named = connection_names(client.get_all(CONNECTION));
        client.retain(|name, _| !(is_hop_by_hop(name, &named) || is_misleading(name.as_str())));
        let mut fields = Self { client, ours: Vec::with_capacity(OURS_USUALLY), names: Names::default() };
        if !cookies.is_empty() {
            fields.put(&COOKIE, cookies.others());
        }
        if trailers {
            fields.set(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = upgrade {
            fields.set(CONNECTION, HeaderValue::from_static("upgrade"));
            fields.set(UPGRADE, protocol);
        } else if trailers {
            fields.set(CONNECTION, HeaderValue::from_static("TE"));
        }
        fields
    }

    /// Sets one of our fields.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.names.add(&name);
        self.ours.push((name, value));
    }

    pub(crate) fn set_where_missing(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        if !self.client.contains_key(&name) && self.ours(&name).is_none() {
            self.set(name, value());
        }
    }

    pub(crate) fn drop_authorization(&mut self) {
        self.client.strip(&AUTHORIZATION);
    }

    /// Sets a field, or strips it if there is no value.
    pub(crate) fn put(&mut self, name: &HeaderName, value: Option<HeaderValue>) {
        match value {
            Some(value) => self.set(name.clone(), value),
            None => self.client.strip(name),
        }
    }

    /// The value of a field that only we set.
    pub(crate) fn ours(&self, name: &HeaderName) -> Option<&HeaderValue> {
        let ours = if self.names.may_have(name) { self.ours.as_slice() } else { &[] };
        ours.iter().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// The current fields.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let client = self.client.lines().filter(|line| self.ours(line.name).is_none());
        client.chain(self.ours.iter().map(|(name, value)| (name, value).into()))
    }

    /// Strips fields of the client.
    pub(crate) fn strip_where(&mut self, strip: impl Fn(&HeaderName) -> bool) {
        self.client.retain(|name, _| !strip(name));
    }
}

/// The fields of a call to Upwork, in the order in which they are sent.
#[derive(Debug)]
pub struct ApiHeaders(Fields);

impl ApiHeaders {
    /// `user_agent` and `tenant` are used if the caller sends none.
    pub fn from_caller(mut caller: Fields, user_agent: &HeaderValue, tenant: Option<&HeaderValue>) -> Self {
        let named = connection_names(caller.get_all(CONNECTION));
        let empty = |value: &HeaderValue| value.as_bytes().trim_ascii().is_empty();
        caller.retain(|name, value| {
            TO_API.contains(name) && !is_hop_by_hop(name, &named) && !(*name == USER_AGENT && empty(value))
        });
        for (name, value) in [(USER_AGENT, Some(user_agent)), (TENANT, tenant)] {
            if let Some(value) = value.filter(|_| !caller.contains_key(&name)) {
                caller.append(name, value.clone());
            }
        }
        Self(caller)
    }

    /// Sets one of our fields, replacing a previous one.
    pub(crate) fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.insert(name, value);
    }

    pub(crate) fn authorize(&mut self, mut value: HeaderValue) {
        value.set_sensitive(true);
        self.set(AUTHORIZATION, value);
    }

    /// The current fields.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.lines()
    }
}

/// Drops hop-by-hop fields, and cookies with our names.
pub(super) fn clean_app_response(headers: &mut Fields, owns: impl Fn(&str) -> bool) {
    let named = connection_names(headers.get_all(CONNECTION));
    // Browsers send a line without a name (`=a=b`) back as its value, `a=b`: RFC 6265bis section 5.6.
    let ours = |value: &HeaderValue| {
        let mut parts = value.as_bytes().split(|byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let name = parts.find(|part| !part.is_empty()).unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(|name| owns(name.trim()))
    };
    headers.retain(|name, value| {
        !is_hop_by_hop(name, &named) && *name != REQUEST_ID && !(*name == SET_COOKIE && ours(value))
    });
}

pub(super) fn clean_api_response(headers: &mut Fields) {
    let named = connection_names(headers.get_all(CONNECTION));
    headers.retain(|name, _| !is_hop_by_hop(name, &named) && !NOT_FROM_API.contains(&name.as_str()));
    // The answer is on the app's own origin: HTML from Upwork or its CDN must not run there.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    debug_assert!(!headers.contains_key(SET_COOKIE) && !headers.contains_key(STRICT_TRANSPORT_SECURITY));
    debug_assert!(!headers.contains_key(CLEAR_SITE_DATA));
}

/// The protocols a client asks to switch to, all of them or none (RFC 9110 section 7.8).
pub(crate) fn requested_upgrade(headers: &Fields) -> Option<HeaderValue> {
    let protocols = headers.get(UPGRADE)?;
    let named = headers.get_all(CONNECTION).flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut members = tokens(protocols).peekable();
    (named && members.peek().is_some() && members.all(may_switch)).then(|| protocols.clone())
}

/// Whether `member` names a protocol that carries no HTTP requests, which would be unchecked: RFC 9113 section 3.1
/// withdrew h2c by Upgrade, `TLS` and `HTTP` are RFC 2817's. A byte outside of `token ["/" token]` (RFC 9110 section
/// 7.8) disqualifies the whole field, since an app may skip that member and read the rest.
fn may_switch(member: &[u8]) -> bool {
    let begins = |name: &[u8]| member.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    member.splitn(2, |byte| *byte == b'/').all(is_token) && ![&b"h2"[..], b"http", b"tls"].into_iter().any(begins)
}

/// Asks for an upgrade: `Connection: upgrade` beside the protocol (RFC 9110 section 7.8).
pub(super) fn request_upgrade(headers: &mut Fields, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn accepts_trailers(headers: &Fields) -> bool {
    headers.get_all(TE).flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// The members of a list, as bytes: a member that is not text must not hide the others.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Every field that any `Connection` line names (RFC 9110 section 7.6.1), in order: a head has room for thousands.
fn connection_names<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Vec<HeaderName> {
    let options = lines.flat_map(tokens);
    // The usual options are hop-by-hop anyway.
    let names = options.filter(|option| !option.eq_ignore_ascii_case(KEEP_ALIVE.as_str().as_bytes()));
    let mut names: Vec<_> = names.filter_map(|token| HeaderName::from_bytes(token).ok()).collect();
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names
}

/// RFC 9110 section 7.6.1. `named`: what the message's `Connection` names.
fn is_hop_by_hop(name: &HeaderName, named: &[HeaderName]) -> bool {
    // `Trailer` describes the body, which is forwarded; without `Host` the request would be invalid.
    let is_named = || named.binary_search_by(|one| one.as_str().cmp(name.as_str())).is_ok();
    HOP_BY_HOP.contains(name) || (is_named() && *name != HOST && *name != TRAILER)
}

fn is_misleading(name: &str) -> bool {
    OURS.iter().chain(&PATHS).any(|ours| reads_as(name, ours))
        || FRAMING.iter().any(|framing| name != *framing && reads_as(name, framing))
        || name == CGI_PROXY
}

/// A text as a field value, percent-encoded if it is not printable ASCII or contains a percent sign.
pub(crate) fn ascii_value(text: &str) -> HeaderValue {
    const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%') && text.trim() == text;
    let value = if plain { text.to_owned() } else { utf8_percent_encode(text, ENCODED).to_string() };
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests;
