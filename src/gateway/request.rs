//! Reads a request into [`RequestInfo`], which faults, logs and pages borrow, and the [`Message`], which is moved once
//! to the code that answers it. Facts come from Fetch Metadata (W3C), or from `Accept` if that is missing. Decides
//! nothing.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, EXPECT, HeaderName, HeaderValue, ORIGIN, REFERER, UPGRADE};
use http::{Method, Uri, Version};

use super::address_limits::Slot;
use super::config::PublicConfig;
use crate::body::Body;
use crate::broker::read_only::overrides_method;
use crate::cookies::RequestCookies;
use crate::fields::Fields;
use crate::http1::{Exchange, Head};
use crate::listener::{IncomingRequest, Peer, Rejection};
use crate::policy::{Facts, Site, Target};
use crate::proxy::forwarded::{Origin, is_forwarded};
use crate::proxy::headers::{REQUEST_ID, TRACEPARENT, TRACESTATE};
use crate::router::public_url::without_marker;
use crate::router::return_to::MAX_LENGTH;
use crate::router::{ReturnTo, is_ambiguous};
use crate::telemetry::trace::{self, Trace};
use crate::telemetry::{Door, RequestId};

const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
/// Destinations of what loads inside another page.
const FRAMES: [&str; 5] = ["iframe", "frame", "embed", "object", "fencedframe"];
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// What is known of a request, apart from its message.
#[derive(Clone, Debug)]
pub(super) struct RequestInfo {
    pub(super) id: RequestId,
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) client: ClientInfo,
    pub(super) fetch: FetchMetadata,
    /// `None` if requests are not traced.
    pub(super) trace: Option<Arc<Trace>>,
    /// Its `Cookie` fields, parsed once.
    pub(super) cookies: RequestCookies,
}

/// Where a request comes from.
#[derive(Clone, Debug)]
pub(super) struct ClientInfo {
    pub(super) origin: Origin,
    /// The address that limits count; `None` if it may stand for everyone behind a proxy.
    pub(super) limited_address: Option<IpAddr>,
    /// An address that is not trusted forwarded it.
    pub(super) by_unknown_proxy: bool,
}

/// The part of a request that is moved once, to the code that answers it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) version: Version,
    pub(super) headers: Fields,
    pub(super) body: Body,
    /// `None` under HTTP/2.
    pub(super) exchange: Option<Exchange>,
    /// The connection it came on.
    pub(super) peer: Arc<Peer>,
    /// Its place among its client's requests in flight, if they are limited.
    pub(super) slot: Option<Arc<Slot>>,
}

/// Who looks at the answer, and where the request was made.
#[derive(Clone, Debug)]
pub(super) struct FetchMetadata {
    /// The answer appears in the address bar.
    pub(super) navigation: bool,
    /// A person will see the answer as a page.
    pub(super) person: bool,
    pub(super) site: Site,
    /// For a request that loads a frame: the target of the surrounding page, if it is known to be ours.
    pub(super) framed_by: Option<String>,
}

/// Splits a request, and returns why the listener refused it, if it did.
pub(super) fn read(
    incoming: IncomingRequest,
    peer: &Arc<Peer>,
    config: &PublicConfig,
    owns_cookie: impl Fn(&str) -> bool,
) -> (RequestInfo, Message, Option<Rejection>) {
    let IncomingRequest { head, body, exchange, refused } = incoming;
    let Head { method, uri, version, mut headers } = head;
    if version == Version::HTTP_10 {
        // They have no meaning there (RFC 9110 sections 7.8 and 10.1.1).
        for name in [UPGRADE, EXPECT] {
            headers.strip(&name);
        }
    }
    if headers.contains_key(EXPECT) && !expects_continue(&headers) {
        headers.strip(&EXPECT);
    }
    let address = peer.address.map(|address| address.ip());
    let origin = match address {
        None if config.trust.unix && peer.door == Door::Public => Origin::by_unix(&headers, &config.trust),
        address => Origin::find(address, peer.tls, &headers, &config.trust),
    };
    let by_unknown_proxy = peer.door == Door::Public && !origin.trusted && is_forwarded(&headers);
    // No proxies are configured, and this address may be one.
    let may_be_shared = by_unknown_proxy && config.trust.proxies.is_empty();
    let given = || only(&headers, &REQUEST_ID).ok().flatten().and_then(RequestId::given);
    let id = if origin.trusted { given() } else { None }.unwrap_or_else(RequestId::next);
    // A neighbour's trace continues, too: it is the app itself, or runs beside it.
    let in_trace = || origin.trusted || peer.door == Door::Neighbour;
    let parent = || (only(&headers, &TRACEPARENT).ok().flatten(), joined(&headers, &TRACESTATE));
    let trace = trace::begin(|| in_trace().then(parent));
    let info = RequestInfo {
        id,
        trace,
        method,
        uri,
        client: ClientInfo {
            limited_address: origin.client.filter(|client| !may_be_shared && !config.trust.is_proxy(client)),
            by_unknown_proxy,
            origin,
        },
        fetch: fetch_metadata(&headers, &config.url, peer.door),
        cookies: RequestCookies::parse(&headers, owns_cookie),
    };
    let message = Message { version, headers, body, exchange, peer: peer.clone(), slot: None };
    (info, message, refused)
}

/// Whether the request has the one defined expectation and no other (RFC 9110 section 10.1.1). Upstreams read other
/// forms differently, and one that does not wait for the body would take it for a request.
fn expects_continue(headers: &Fields) -> bool {
    only(headers, &EXPECT).ok().flatten().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}

impl RequestInfo {
    pub(super) fn path(&self) -> &str {
        self.uri.path()
    }

    pub(super) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// GET or HEAD.
    pub(super) fn safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD)
    }

    /// Whether it may change something, so that a refusal loses it.
    pub(super) fn sends(&self) -> bool {
        !self.safe() && self.method != Method::OPTIONS
    }

    /// Where a sign-in should lead back to: this address, if the request can be repeated.
    pub(super) fn return_to(&self, prefix: &str) -> Option<ReturnTo> {
        let target = self.uri.path_and_query().filter(|_| self.safe())?;
        ReturnTo::parse(without_marker(target.as_str()), prefix)
    }

    /// Whether the address is too long for a sign-in to lead back to it.
    pub(super) fn is_too_long_to_return_to(&self) -> bool {
        self.safe() && self.uri.path_and_query().is_some_and(|target| target.as_str().len() > MAX_LENGTH)
    }

    /// `preflight`: this is a preflight, and preflights pass.
    pub(super) fn facts<'a>(&self, door: Door, target: Target<'a>, preflight: bool) -> Facts<'a> {
        Facts {
            door,
            target,
            safe: self.safe(),
            writes: self.sends(),
            navigation: self.fetch.navigation,
            overrides_method: target == Target::Api && overrides_method(self.uri.query()),
            preflight,
            site: self.fetch.site,
        }
    }
}

/// Joins the lines of a list; `None` if there are none, or if they are too long to pass on (W3C Trace Context section
/// 3.3.1.5).
fn joined(headers: &Fields, name: &HeaderName) -> Option<HeaderValue> {
    let lines: Vec<_> = headers.get_all(name).map(HeaderValue::as_bytes).collect();
    let whole = lines.join(&b","[..]);
    HeaderValue::from_bytes(&whole).ok().filter(|value| !value.is_empty() && value.len() <= 512)
}

/// A field has more than one line.
pub(super) struct RepeatedField;

/// The one value of a field.
pub(super) fn only<'a>(headers: &'a Fields, name: &HeaderName) -> Result<Option<&'a HeaderValue>, RepeatedField> {
    let mut values = headers.get_all(name);
    let first = values.next();
    if values.next().is_some() { Err(RepeatedField) } else { Ok(first) }
}

fn is(headers: &Fields, name: &HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

/// By Fetch Metadata, otherwise by `Accept` (docs/design.md "Navigations"). Scripts cannot make requests of mode
/// `navigate`; a service worker passes one on with the destination `empty`. A frame has no address bar.
fn fetch_metadata(headers: &Fields, public_url: &str, door: Door) -> FetchMetadata {
    let (site, framed_by) = (site(headers, public_url), framed_by(headers, public_url));
    let program = FetchMetadata { navigation: false, person: false, site, framed_by };
    if door == Door::Neighbour {
        // Callers there are programs, whatever they accept.
        return program;
    }
    // A socket or a script's request has no address bar.
    let silent = || headers.contains_key(UPGRADE) || is(headers, &REQUESTED_WITH, "XMLHttpRequest");
    let html = prefers_html(headers) && !silent();
    let Some(mode) = headers.get(MODE) else {
        return FetchMetadata { navigation: html && !is_ahead(headers), person: html, ..program };
    };
    let navigate = mode.as_bytes().eq_ignore_ascii_case(b"navigate");
    let navigation = navigate && !is_framed(headers) && !is_ahead(headers) && !silent();
    FetchMetadata { navigation, person: navigate || html, ..program }
}

/// Whether the browser prefetches a page.
fn is_ahead(headers: &Fields) -> bool {
    headers.get(PURPOSE).is_some_and(|value| value.as_bytes().starts_with(b"prefetch"))
}

fn is_framed(headers: &Fields) -> bool {
    let dest = headers.get(DEST).map(HeaderValue::as_bytes);
    dest.is_some_and(|dest| FRAMES.iter().any(|frame| dest.eq_ignore_ascii_case(frame.as_bytes())))
}

/// For a request that loads a frame: the target of the surrounding page; empty if it is unknown or not ours.
fn framed_by(headers: &Fields, public_url: &str) -> Option<String> {
    let around = || headers.get(REFERER)?.to_str().ok()?.strip_prefix(public_url);
    (is(headers, &MODE, "navigate") && is_framed(headers)).then(|| around().unwrap_or_default().to_owned())
}

/// Whether a request is clearly not a navigation. A service worker may pass a navigation on with the mode `same-origin`
/// and the destination `empty`, which a script's own request can have too.
pub(super) fn is_subresource(headers: &Fields) -> bool {
    let mode = ["cors", "no-cors", "websocket"].iter().any(|mode| is(headers, &MODE, mode));
    let page = |dest: &&str| is(headers, &DEST, dest);
    let dest = headers.contains_key(DEST) && !["document", "empty"].iter().chain(&FRAMES).any(page);
    mode || dest || (is_ahead(headers) && headers.contains_key(MODE))
}

/// `Accept` names `text/html` (or XHTML) with a weight no less than any other type it names (RFC 9110 section 12.5.1).
fn prefers_html(headers: &Fields) -> bool {
    let mut html: f32 = 0.0;
    let mut other: f32 = 0.0;
    for range in headers.get_all(ACCEPT).filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if is("text/html") || is("application/xhtml+xml") {
            html = html.max(weight);
        } else if is("application/json") || is("application/problem+json") || is("text/event-stream") {
            other = other.max(weight);
        }
    }
    html > 0.0 && html >= other
}

/// The site that made the request (docs/design.md "Other sites"): by `Sec-Fetch-Site`, otherwise by comparing `Origin`
/// with our own.
fn site(headers: &Fields, public_url: &str) -> Site {
    match (headers.get(SITE).map(HeaderValue::as_bytes), headers.get(ORIGIN).map(HeaderValue::as_bytes)) {
        (Some(b"same-origin"), _) => Site::Ours,
        (Some(b"none"), _) => Site::Direct,
        (None, Some(origin)) if origin.eq_ignore_ascii_case(public_url.as_bytes()) => Site::Ours,
        (None, None) => Site::Unknown,
        (Some(_), _) | (None, Some(_)) => Site::Foreign,
    }
}

/// Whether this is a CORS preflight (Fetch standard, "CORS-preflight request") for a path with one reading. Browsers
/// send no other, and only this one passes without a session.
pub(super) fn is_preflight(method: &Method, path: &str, headers: &Fields) -> bool {
    *method == Method::OPTIONS
        && !is_ambiguous(path)
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Whether the request has fields that only a browser sends.
pub(super) fn from_browser(headers: &Fields) -> bool {
    headers.contains_key(ORIGIN) || headers.get(SITE).is_some_and(|site| site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> Fields {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_navigation_of_a_document_is_one() {
        type Row<'a> = (&'a [(&'static str, &'static str)], bool, bool);
        let html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let table: &[Row<'_>] = &[
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", html)], true, true),
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("accept", html)], false, true),
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "object"), ("accept", html)], false, true),
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "empty"), ("accept", html)], true, true),
            (&[("sec-fetch-mode", "navigate"), ("accept", html)], true, true),
            (&[("sec-fetch-mode", "same-origin"), ("sec-fetch-dest", "empty"), ("accept", html)], false, true),
            (&[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "*/*")], false, false),
            (&[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty"), ("accept", "text/html")], false, true),
            (
                &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-purpose", "prefetch")],
                false,
                true,
            ),
            (&[("sec-fetch-mode", "websocket"), ("upgrade", "websocket")], false, false),
            (&[("accept", html)], true, true),
            (&[("accept", html), ("x-requested-with", "XMLHttpRequest")], false, false),
            (&[("accept", "*/*")], false, false),
            (&[("accept", "application/json, text/html;q=0.5")], false, false),
            (&[("accept", "text/event-stream")], false, false),
            (&[], false, false),
        ];
        for (fields, navigation, person) in table {
            let found = fetch_metadata(&map(fields), "", Door::Public);
            assert_eq!((found.navigation, found.person), (*navigation, *person), "{fields:?}");
        }
    }

    #[test]
    fn a_preflight_is_one_by_method_path_and_fields() {
        let fields = map(&[("origin", "https://a.example"), ("access-control-request-method", "PUT")]);
        assert!(is_preflight(&Method::OPTIONS, "/a", &fields));
        assert!(!is_preflight(&Method::OPTIONS, "/a/../b", &fields));
        assert!(!is_preflight(&Method::OPTIONS, "//a", &fields));
        assert!(!is_preflight(&Method::GET, "/a", &fields));
        assert!(!is_preflight(&Method::OPTIONS, "/a", &map(&[("origin", "https://a.example")])));
    }

    #[test]
    fn the_site_comes_from_fetch_metadata_or_else_from_origin() {
        let ours = "https://tools.example.com";
        let table: &[(&[(&'static str, &'static str)], Site)] = &[
            (&[("sec-fetch-site", "same-origin")], Site::Ours),
            (&[("sec-fetch-site", "none")], Site::Direct),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://tools.example.com")], Site::Foreign),
            (&[("sec-fetch-site", "cross-site")], Site::Foreign),
            (&[("origin", "https://tools.example.com")], Site::Ours),
            (&[("origin", "https://tools.example.com.evil.example")], Site::Foreign),
            (&[("origin", "null")], Site::Foreign),
            (&[], Site::Unknown),
        ];
        for (fields, expected) in table {
            assert_eq!(site(&map(fields), ours), *expected, "{fields:?}");
        }
    }
}
