//! Finds the client's address and passes it to the app: `X-Forwarded-*`, `Forwarded` (RFC 7239).
//!
//! Derives one [`Origin`] from the peer's address, its claims and the trusted proxies, and writes the fields for the
//! app. Claims of an untrusted peer are dropped, never extended (docs/design.md "Forwarded addresses").

mod elements;

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderName, HeaderValue};
use http::uri;
use ipnet::IpNet;

use super::headers::AppHeaders;
use crate::fields::Fields;
use crate::framing::{begins_like, is_host, reads_as};
use crate::router::PublicUrl;
use elements::{Hop, address, addresses, elements, of_hop};

static FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
static REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const UNKNOWN: &str = "unknown";

/// Whether some app reads the field `name` as a claim about the client. This covers the whole family in every spelling,
/// since apps read more of it than we do (`-Prefix`, `-Uri`, `-Email`, `-Client-Cert` …).
fn is_claim(name: &str) -> bool {
    begins_like(name, "x-forwarded-") || reads_as(name, FORWARDED.as_str()) || reads_as(name, REAL_IP.as_str())
}

/// Whether a proxy, or a client that imitates one, claims to forward the request.
pub(crate) fn is_forwarded(headers: &Fields) -> bool {
    [&FOR, &FORWARDED, &REAL_IP].into_iter().any(|name| headers.contains_key(name))
}

/// The proxies whose claims are trusted, and what applies without claims.
#[derive(Clone, Debug)]
pub struct Trust {
    /// Proxies whose claims about their clients are trusted.
    pub(crate) proxies: Vec<IpNet>,
    /// Whether programs that connect to the public door's Unix socket are such proxies.
    pub(crate) unix: bool,
    /// The scheme and port of requests for its host, unless a proxy or our own TLS says otherwise.
    public_url: PublicUrl,
}

impl Trust {
    /// `public_url` has a scheme and a host, and no path.
    pub fn new(public_url: &str, proxies: Vec<IpNet>) -> Self {
        Self { proxies, unix: false, public_url: PublicUrl::new(public_url) }
    }

    #[must_use]
    pub(crate) fn with_unix(self, unix: bool) -> Self {
        Self { unix, ..self }
    }

    pub(crate) fn is_proxy(&self, address: &IpAddr) -> bool {
        self.proxies.iter().any(|net| net.contains(address))
    }

    fn is_public_host(&self, host: Option<&HeaderValue>) -> bool {
        host.and_then(|host| host.to_str().ok()).is_some_and(|host| self.public_url.has_host(host))
    }
}

/// Where a request came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The socket's other end; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The peer, or the last address that is not a trusted proxy.
    pub client: Option<IpAddr>,
    /// Whether the client used https, according to a trusted proxy, our own TLS, or the host of `public_url`.
    pub https: bool,
    /// The host the client requested, with its port if it named one.
    pub host: Option<HeaderValue>,
    /// The port from a trusted proxy's `X-Forwarded-Port`, unless the address is that of `public_url`.
    pub port: Option<u16>,
    /// The peer is one of `public.trusted_proxies`.
    pub trusted: bool,
}

impl Origin {
    /// Uses the claims in `headers` only if the peer is trusted.
    pub fn find(peer: Option<IpAddr>, tls: bool, headers: &Fields, trust: &Trust) -> Self {
        let peer = peer.map(|peer| peer.to_canonical());
        let trusted = peer.is_some_and(|peer| trust.is_proxy(&peer));
        let claims = if trusted { TrustedClaims::read(headers, peer, trust) } else { TrustedClaims::default() };
        Self { trusted, ..Self::of(peer, claims, tls, headers, trust) }
    }

    /// The origin of a request from a trusted proxy at the public door's Unix socket.
    pub(crate) fn by_unix(headers: &Fields, trust: &Trust) -> Self {
        let claims = TrustedClaims::read(headers, None, trust);
        Self { trusted: true, ..Self::of(None, claims, false, headers, trust) }
    }

    fn of(peer: Option<IpAddr>, claims: TrustedClaims, tls: bool, headers: &Fields, trust: &Trust) -> Self {
        let host = claims.host.filter(|host| is_host(host)).and_then(|host| HeaderValue::from_bytes(&host).ok());
        let host = host.or_else(|| headers.get(HOST).cloned());
        let (ours, ours_https) = (trust.is_public_host(host.as_ref()), trust.public_url.is_https());
        let https = claims.proto.as_deref().and_then(is_secure).unwrap_or(tls || (ours && ours_https));
        Self {
            peer,
            client: claims.client.or(peer),
            https,
            host,
            port: claims.port.filter(|_| !(ours && https == ours_https)),
            trusted: false,
        }
    }

    /// Replaces the client's claims with ours.
    pub fn write_to(&self, headers: &mut AppHeaders, client: &Claims) {
        self.fields(client).write_to(headers, &[]);
    }

    /// The fields for the app, appended to the `client`'s own chains.
    pub(crate) fn fields(&self, client: &Claims) -> ForwardedFields {
        let proto = if self.https { "https" } else { "http" };
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let address = self.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let (open, node, close) = match self.peer {
            Some(IpAddr::V6(_)) => ("\"[", address.as_str(), "]\""),
            Some(IpAddr::V4(_)) => ("", address.as_str(), ""),
            None => ("", "unknown", ""),
        };
        let mut element = self.before(client.forwarded.as_deref(), 64 + host.len());
        element.extend(["for=", open, node, close]);
        if !host.is_empty() {
            element.push_str(";host=\"");
            element.extend(host.chars().filter(|c| !matches!(c, '"' | '\\')));
            element.push('"');
        }
        element.extend([";proto=", proto]);
        let mut addresses = self.before(client.addresses.as_deref(), address.len());
        addresses.push_str(&address);
        // A Unix socket has no address, so the chain of a trusted proxy is not extended.
        let addresses = addresses.trim_end_matches(", ");
        let addresses = (!addresses.is_empty()).then(|| HeaderValue::from_str(addresses).ok()).flatten();
        let named = uri::Authority::try_from(host).ok().and_then(|host| host.port_u16());
        let port = named.or(self.port).unwrap_or(if self.https { 443 } else { 80 });
        ForwardedFields {
            origin: self.clone(),
            addresses,
            client: self.client.and_then(|client| HeaderValue::try_from(client.to_string()).ok()),
            element: HeaderValue::try_from(element).ok(),
            proto: HeaderValue::from_static(proto),
            port: HeaderValue::from(port),
        }
    }

    /// The chain of a trusted peer, ready for one more element of `room` bytes.
    fn before(&self, chain: Option<&str>, room: usize) -> String {
        let chain = chain.filter(|_| self.trusted).unwrap_or_default();
        let mut text = String::with_capacity(chain.len() + 2 + room);
        text.push_str(chain);
        if !chain.is_empty() {
            text.push_str(", ");
        }
        text
    }
}

/// The fields that describe one origin to the app.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedFields {
    origin: Origin,
    addresses: Option<HeaderValue>,
    client: Option<HeaderValue>,
    element: Option<HeaderValue>,
    proto: HeaderValue,
    port: HeaderValue,
}

impl ForwardedFields {
    /// Whether they also describe `origin`. A trusted proxy's clients differ with every request.
    pub(crate) fn describe(&self, origin: &Origin) -> bool {
        !origin.trusted && self.origin == *origin
    }

    /// Keeps only those of a trusted proxy's other claims that `passes` names, since it may pass on a client's own.
    pub(crate) fn write_to(&self, headers: &mut AppHeaders, passes: &[HeaderName]) {
        let passes = if self.origin.trusted { passes } else { &[] };
        headers.strip_where(|name| is_claim(name.as_str()) && !passes.contains(name));
        headers.put(&REAL_IP, self.client.clone());
        headers.put(&FOR, self.addresses.clone());
        headers.put(&FORWARDED, self.element.clone());
        headers.put(&PROTO, Some(self.proto.clone()));
        headers.put(&FORWARDED_HOST, self.origin.host.clone());
        headers.put(&PORT, Some(self.port.clone()));
    }
}

/// What a trusted peer says about its client.
#[derive(Default)]
struct TrustedClaims {
    client: Option<IpAddr>,
    proto: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    port: Option<u16>,
}

impl TrustedClaims {
    /// Each proxy describes its own client, in an element of `Forwarded` (RFC 7239), or in one element of each
    /// `X-Forwarded-*` if it appends to them. So protocol, host and port are taken at the position where the chain of
    /// addresses ends.
    fn read(headers: &Fields, peer: Option<IpAddr>, trust: &Trust) -> Self {
        if has_x_forwarded(headers) {
            let claims = addresses(headers, &FOR).map(|claim| claim.and_then(address));
            let (client, at) = nearest(peer, claims, trust);
            let port = of_hop(headers, &PORT, at).and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
            return Self {
                client,
                proto: of_hop(headers, &PROTO, at).map(<[u8]>::to_vec),
                host: of_hop(headers, &FORWARDED_HOST, at).map(<[u8]>::to_vec),
                port: port.filter(|port| *port != 0),
            };
        }
        let mut hops: Vec<Option<Hop>> = hops(headers).collect();
        let (client, at) = nearest(peer, hops.iter().map(|hop| hop.as_ref()?.client), trust);
        let hop = if at < hops.len() { hops.swap_remove(at) } else { None };
        let (proto, host) = hop.map(|hop| (hop.proto, hop.host)).unwrap_or_default();
        Self { client, proto, host, port: None }
    }
}

/// The client, and the claim that named it: from the right, an address counts while all addresses to its right are
/// trusted. An unreadable one ends the search, and the last readable one is the client: what is further left may be
/// forged. On a Unix socket there may be none.
fn nearest(
    peer: Option<IpAddr>,
    claims: impl Iterator<Item = Option<IpAddr>>,
    trust: &Trust,
) -> (Option<IpAddr>, usize) {
    let (mut client, mut at) = (peer, 0);
    for (number, claim) in claims.enumerate() {
        let Some(claim) = claim else { break };
        (client, at) = (Some(claim), number);
        if !trust.is_proxy(&claim) {
            break;
        }
    }
    (client, at)
}

/// A WebSocket's scheme counts as that of the request that opens it (RFC 6455 section 3).
fn is_secure(proto: &[u8]) -> Option<bool> {
    let is = |known: &str| proto.eq_ignore_ascii_case(known.as_bytes());
    if is("https") || is("wss") {
        Some(true)
    } else if is("http") || is("ws") {
        Some(false)
    } else {
        None
    }
}

/// The chains of the client's own fields, read before they are replaced.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    addresses: Option<String>,
    forwarded: Option<String>,
}

impl Claims {
    /// An element that is not text becomes `unknown` in the chains, so that no app fails on it and skips the rest. Both
    /// chains say what the trusted one does: an app may read either, and the other may be forged.
    pub fn read(headers: &Fields) -> Self {
        if has_x_forwarded(headers) {
            let nodes = addresses(headers, &FOR).map(|claim| element_of(claim.and_then(address)));
            let claims = addresses(headers, &FOR).map(|claim| claim.unwrap_or(UNKNOWN));
            Self { addresses: chain(claims), forwarded: chain(nodes) }
        } else {
            let clients = hops(headers).map(|hop| hop?.client);
            let clients = clients.map(|client| client.map_or_else(|| UNKNOWN.to_owned(), |client| client.to_string()));
            let elements = elements(headers).map(|element| element.unwrap_or("for=unknown"));
            Self { addresses: chain(clients), forwarded: chain(elements) }
        }
    }
}

/// Whether a trusted proxy describes its client by `X-Forwarded-*`; then `Forwarded` is not its own.
fn has_x_forwarded(headers: &Fields) -> bool {
    [&FOR, &PROTO, &FORWARDED_HOST, &PORT].into_iter().any(|name| headers.contains_key(name))
}

/// The elements of `Forwarded`, each read.
fn hops(headers: &Fields) -> impl Iterator<Item = Option<Hop>> {
    elements(headers).map(|element| element.map(Hop::read))
}

/// RFC 7239 section 6: an IPv6 address is in brackets and quotes.
fn element_of(client: Option<IpAddr>) -> String {
    match client {
        Some(IpAddr::V4(client)) => format!("for={client}"),
        Some(IpAddr::V6(client)) => format!("for=\"[{client}]\""),
        None => "for=unknown".to_owned(),
    }
}

/// A chain from left to right, of elements read from right to left.
fn chain<T: AsRef<str>>(elements: impl Iterator<Item = T>) -> Option<String> {
    let mut elements: Vec<T> = elements.collect();
    elements.reverse();
    let elements: Vec<&str> = elements.iter().map(AsRef::as_ref).collect();
    (!elements.is_empty()).then(|| elements.join(", "))
}

#[cfg(test)]
mod tests;
