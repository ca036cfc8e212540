//! The header rules of both directions, each as a type that nothing else makes.
//!
//! In: a client's or an upstream's fields. Out: [`AppHeaders`] (everything but a list), [`ApiHeaders`] (only a list), and
//! answers without what ends here. Hop-by-hop fields are stripped first, every `Connection` line of them, and ours are set
//! afterwards, so that no client can name ours away (docs/design.md "Headers").

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderMap,
    HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, RANGE, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, USER_AGENT, X_CONTENT_TYPE_OPTIONS,
};

use crate::cookies::RequestCookies;
use crate::framing::is_token;

/// `X-Request-Id`.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `X-Upwork-API-TenantId`: the organization a call acts for (Upwork's GraphQL documentation).
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-upwork-api-tenantid");
/// `X-Upwork-User-Id`.
pub(crate) const USER_ID: HeaderName = HeaderName::from_static("x-upwork-user-id");
/// `X-Upwork-User`: the nid.
pub(crate) const USER: HeaderName = HeaderName::from_static("x-upwork-user");
/// `X-Upwork-User-Name`, percent-encoded where it is not ASCII.
pub(crate) const USER_NAME: HeaderName = HeaderName::from_static("x-upwork-user-name");
/// `X-Upwork-Organization-Id`.
pub(crate) const ORGANIZATION_ID: HeaderName = HeaderName::from_static("x-upwork-organization-id");
/// `X-Upwork-Ticket`.
pub(crate) const TICKET: HeaderName = HeaderName::from_static("x-upwork-ticket");
/// `X-Forwarded-User`: the nid, for apps that know other proxies.
pub(crate) const FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
/// `X-Upwarden-Secret`: shown at a neighbour door beyond loopback.
pub(crate) const SECRET: HeaderName = HeaderName::from_static("x-upwarden-secret");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");

/// Fields that only we set; a client's own are dropped, look-alikes too: many a server behind us turns every byte of a
/// name that is no letter or digit into `_` (RFC 3875 section 4.1.18 for `-`, lighttpd for all).
const OURS: [&str; 8] = [
    "x-upwork-user-id",
    "x-upwork-user",
    "x-upwork-user-name",
    "x-upwork-organization-id",
    "x-upwork-ticket",
    "x-forwarded-user",
    "x-request-id",
    "x-upwarden-secret",
];

/// Fields that name another path than the target does, which some apps prefer to the target: what was judged is what is
/// asked for (docs/design.md "Paths"), so nobody's go on.
const PATHS: [&str; 2] = ["x-original-url", "x-rewrite-url"];

/// Fields that frame a message; who reads `Content_Length` as one would read another message than we judged.
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];

/// Set as `HTTP_PROXY` by CGI, it would choose the app's own proxy (CVE-2016-5385).
const CGI_PROXY: &str = "proxy";

/// What goes on from a caller to Upwork; nothing else does.
const TO_API: [HeaderName; 17] = [
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

/// What Upwork says to its own browsers, and not to ours (docs/design.md "The brokered API").
const NOT_FROM_API: [&str; 12] = [
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
];

/// A request's fields on their way to the app.
#[derive(Debug)]
pub struct AppHeaders(HeaderMap);

impl AppHeaders {
    /// The client's fields without hop-by-hop ones and without ours; an upgrade that was asked for is asked for anew.
    /// `cookies` are those of the same request.
    pub fn from_client(mut headers: HeaderMap, cookies: &RequestCookies) -> Self {
        let upgrade = requested_upgrade(&headers);
        let trailers = accepts_trailers(&headers);
        strip_hop_by_hop(&mut headers);
        drop_what_misleads(&mut headers);
        if !cookies.is_empty() {
            match cookies.others() {
                Some(others) => drop(headers.insert(COOKIE, others)),
                None => strip(&mut headers, &COOKIE),
            }
        }
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if let Some(protocol) = upgrade {
            super::client::ask_upgrade(&mut headers, protocol);
        } else if trailers {
            headers.insert(CONNECTION, HeaderValue::from_static("TE"));
        }
        Self(headers)
    }

    /// Sets one of ours.
    pub fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.insert(name, value);
    }

    /// Sets a field that the client did not send.
    pub fn set_where_missing(&mut self, name: HeaderName, value: impl FnOnce() -> HeaderValue) {
        self.0.entry(name).or_insert_with(value);
    }

    /// Drops the client's `Authorization`.
    pub fn drop_authorization(&mut self) {
        strip(&mut self.0, &AUTHORIZATION);
    }

    /// Sets a field, or strips it where there is no value.
    pub(super) fn put(&mut self, name: &HeaderName, value: Option<HeaderValue>) {
        match value {
            Some(value) => drop(self.0.insert(name, value)),
            None => strip(&mut self.0, name),
        }
    }

    /// The fields, to be looked at.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// Strips every field whose name `drop` says.
    pub(super) fn strip_where(&mut self, drop: impl Fn(&str) -> bool) {
        strip_where(&mut self.0, drop);
    }

    /// The fields, to be sent.
    pub(super) fn into_inner(self) -> HeaderMap {
        self.0
    }
}

/// A request's fields on their way to Upwork.
#[derive(Debug, Clone)]
pub struct ApiHeaders(HeaderMap);

impl ApiHeaders {
    /// Only what is on the list; `user_agent` and `tenant` where the caller sends none.
    pub fn from_caller(caller: &HeaderMap, user_agent: &HeaderValue, tenant: Option<&HeaderValue>) -> Self {
        let named = connection_names(caller);
        let mut headers = HeaderMap::with_capacity(TO_API.len());
        for name in TO_API.iter().filter(|name| !named.contains(name)) {
            for value in caller.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        headers.entry(USER_AGENT).or_insert_with(|| user_agent.clone());
        if let Some(tenant) = tenant {
            headers.entry(TENANT).or_insert_with(|| tenant.clone());
        }
        Self(headers)
    }

    /// The bearer; replaces what was there.
    pub fn authorize(&mut self, mut value: HeaderValue) {
        value.set_sensitive(true);
        self.0.insert(AUTHORIZATION, value);
    }

    /// The fields, to be looked at.
    pub fn as_map(&self) -> &HeaderMap {
        &self.0
    }

    /// The target's host.
    pub fn host(&mut self, value: HeaderValue) {
        self.0.insert(HOST, value);
    }

    /// The fields, to be sent.
    pub(super) fn into_inner(self) -> HeaderMap {
        self.0
    }
}

/// Drops what of the app's answer ends here, and cookies by our names.
pub(super) fn clean_app_answer(headers: &mut HeaderMap, owns: impl Fn(&str) -> bool) {
    strip_hop_by_hop(headers);
    // A line without a name (`=a=b`) is sent back as its value, `a=b`: RFC 6265bis section 5.6.
    let ours = |value: &HeaderValue| {
        let names = value.as_bytes().split(|byte| *byte == b'=').map(<[u8]>::trim_ascii);
        let name = names.into_iter().find(|name| !name.is_empty()).unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(|name| owns(name.trim()))
    };
    if headers.get_all(SET_COOKIE).iter().any(ours) {
        let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
        strip(headers, &SET_COOKIE);
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
    strip(headers, &REQUEST_ID);
}

/// Drops what of Upwork's answer stays behind.
pub(super) fn clean_api_answer(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    for name in NOT_FROM_API {
        strip(headers, &HeaderName::from_static(name));
    }
    strip(headers, &REQUEST_ID);
    // It is data, and stands on the app's own origin: what Upwork or its CDN answers in HTML must not run there.
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    debug_assert!(!headers.contains_key(SET_COOKIE) && !headers.contains_key(STRICT_TRANSPORT_SECURITY));
    debug_assert!(!headers.contains_key(CLEAR_SITE_DATA));
}

/// The protocols a client asks to switch to, where it asks as RFC 9110 section 7.8 says; all of them, or none.
pub(crate) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocols = headers.get(UPGRADE)?;
    let named = headers.get_all(CONNECTION).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    let mut members = tokens(protocols).peekable();
    (named && members.peek().is_some() && members.all(may_switch)).then(|| protocols.clone())
}

/// Whether `member` is a protocol, and none that carries requests of its own, which nobody would judge: h2c by Upgrade was
/// taken back by RFC 9113 section 3.1, `TLS` and `HTTP` are RFC 2817's. Any byte that is none of a name's (RFC 9110
/// section 7.8: `token ["/" token]`) makes it none, since an app may pass it by and read the rest.
fn may_switch(member: &[u8]) -> bool {
    let begins = |name: &[u8]| member.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    member.splitn(2, |byte| *byte == b'/').all(is_token) && ![&b"h2"[..], b"http", b"tls"].into_iter().any(begins)
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers.get_all(TE).iter().flat_map(tokens).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// A list's members, by bytes: one that is no text must not hide the others.
fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Every field that any `Connection` line names (RFC 9110 section 7.6.1).
fn connection_names(headers: &HeaderMap) -> Vec<HeaderName> {
    headers.get_all(CONNECTION).iter().flat_map(tokens).filter_map(|token| HeaderName::from_bytes(token).ok()).collect()
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        // `Trailer` describes the body that goes on; a `Host` named away would leave none.
        for name in connection_names(headers).iter().filter(|name| **name != HOST && **name != TRAILER) {
            strip(headers, name);
        }
        strip(headers, &CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE]
    {
        strip(headers, &name);
    }
}

fn drop_what_misleads(headers: &mut HeaderMap) {
    strip_where(headers, |name| {
        OURS.iter().chain(&PATHS).any(|ours| reads_as(name, ours))
            || FRAMING.iter().any(|framing| name != *framing && reads_as(name, framing))
            || name == CGI_PROXY
    });
}

/// Whether some server takes the field `name` for `known`, which is in lower case.
pub(super) fn reads_as(name: &str, known: &str) -> bool {
    known.len() == name.len() && begins_like(name, known)
}

/// Whether some server takes the beginning of the field `name` for `known`, which is in lower case.
pub(super) fn begins_like(name: &str, known: &str) -> bool {
    name.len() >= known.len()
        && known.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && !b.is_ascii_alphanumeric()))
}

/// Removes every line of the fields whose name `drop` says.
pub(super) fn strip_where(headers: &mut HeaderMap, drop: impl Fn(&str) -> bool) {
    let found: Vec<HeaderName> = headers.keys().filter(|name| drop(name.as_str())).cloned().collect();
    for name in found {
        strip(headers, &name);
    }
}

/// Removes every line of a field.
#[expect(clippy::disallowed_methods, reason = "the one place that strips; the entry's removal takes every line along")]
pub(crate) fn strip(headers: &mut HeaderMap, name: &HeaderName) {
    while headers.remove(name).is_some() {}
}

/// A text as a field value: percent-encoded where it is not printable ASCII, and where it has a percent sign of its own.
pub(crate) fn ascii_value(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'%') && text.trim() == text;
    let encoded = if plain { text.to_owned() } else { percent_encode(text) };
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn percent_encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len() * 3), |mut encoded, byte| {
        if (b'!'..=b'~').contains(&byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests;
