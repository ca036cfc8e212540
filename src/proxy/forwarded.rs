//! Who the client is, and how the app is told: `X-Forwarded-*`, `Forwarded` (RFC 7239).
//!
//! In: the peer's address, what it claims, and who is believed. Out: one [`Origin`], and fields for the app. A stranger's
//! claims are dropped, never extended (docs/design.md "Forwarded addresses").

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri;
use ipnet::IpNet;

use super::elements::{address, addresses, element, hops, last};
use super::headers::{AppHeaders, begins_like, reads_as};
use crate::framing::is_host;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// Whether some app reads the field `name` as a claim about the client: the whole family, since apps believe more of it
/// than we read (`-Prefix`, `-Uri`, `-Email`, `-Client-Cert` …), in every spelling.
fn is_claim(name: &str) -> bool {
    begins_like(name, "x-forwarded-") || reads_as(name, FORWARDED.as_str()) || reads_as(name, "x-real-ip")
}

/// Where a request came from, as far as we believe it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The socket's other end; `None` on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The client: the peer, or the last address that no trusted proxy owns.
    pub client: Option<IpAddr>,
    /// `https` or `http`, as the client saw it.
    pub https: bool,
    /// The host the client asked for, with its port where it named one.
    pub host: Option<HeaderValue>,
    /// The port the client asked for, where a trusted proxy told it by itself.
    pub port: Option<u16>,
    /// The peer is one of `public.trusted_proxies`.
    pub trusted: bool,
}

impl Origin {
    /// Believes `headers` only where the peer is trusted.
    pub fn find(peer: Option<IpAddr>, tls: bool, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let host = headers.get(HOST).cloned();
        let peer = peer.map(|peer| peer.to_canonical());
        let believes = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
        let Some(address) = peer.filter(|peer| believes(*peer)) else {
            return Self { peer, client: peer, https: tls, host, port: None, trusted: false };
        };
        let told = if is_by_family(headers) {
            Told::by_family(headers, address, believes)
        } else {
            Told::by_forwarded(headers, address, believes)
        };
        Self {
            peer,
            client: Some(told.client),
            https: told.proto.as_deref().and_then(is_secure).unwrap_or(tls),
            host: told.host.filter(|host| is_host(host)).and_then(|host| HeaderValue::from_bytes(&host).ok()).or(host),
            port: told.port,
            trusted: true,
        }
    }

    /// Tells the app.
    pub fn tell(&self, headers: &mut AppHeaders, client: &Claims) {
        let proto = if self.https { "https" } else { "http" };
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let address = self.peer.map(|peer| peer.to_string()).unwrap_or_default();
        let (open, node, shut) = match self.peer {
            Some(IpAddr::V6(_)) => ("\"[", address.as_str(), "]\""),
            Some(IpAddr::V4(_)) => ("", address.as_str(), ""),
            None => ("", "unknown", ""),
        };
        let mut element = self.before(client.forwarded.as_deref(), 64 + host.len());
        element.extend(["for=", open, node, shut]);
        if !host.is_empty() {
            element.push_str(";host=\"");
            element.extend(host.chars().filter(|c| !matches!(c, '"' | '\\')));
            element.push('"');
        }
        element.extend([";proto=", proto]);
        let mut addresses = self.before(client.addresses.as_deref(), address.len());
        addresses.push_str(&address);
        // No address is told of a Unix socket: what a trusted proxy said of its own client stands.
        let addresses = addresses.trim_end_matches(", ");
        let addresses = (!addresses.is_empty()).then(|| HeaderValue::from_str(addresses).ok()).flatten();
        // A look-alike (`x_forwarded_for`) is nobody's honest field.
        let plain = |name: &str| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
        headers.strip_where(|name| is_claim(name) && !(self.trusted && plain(name)));
        headers.put(&FOR, addresses);
        headers.put(&FORWARDED, HeaderValue::try_from(element).ok());
        headers.put(&PROTO, Some(HeaderValue::from_static(proto)));
        headers.put(&FORWARDED_HOST, self.host.clone());
        let named = uri::Authority::try_from(host).ok().and_then(|host| host.port_u16());
        let port = named.or(self.port).unwrap_or(if self.https { 443 } else { 80 });
        headers.put(&PORT, Some(HeaderValue::from(port)));
    }

    /// The chain that a trusted peer sent, ready for one more, with room for it.
    fn before(&self, chain: Option<&str>, room: usize) -> String {
        let chain = chain.filter(|_| self.trusted).unwrap_or_default();
        let mut begun = String::with_capacity(chain.len() + 2 + room);
        begun.push_str(chain);
        if !chain.is_empty() {
            begun.push_str(", ");
        }
        begun
    }
}

/// What a trusted peer says of its client.
struct Told {
    client: IpAddr,
    proto: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    port: Option<u16>,
}

impl Told {
    /// By `X-Forwarded-*`. A proxy that writes one of them knows nothing of `Forwarded`, which then is a stranger's.
    fn by_family(headers: &HeaderMap, peer: IpAddr, believes: impl Fn(IpAddr) -> bool) -> Self {
        let claims = addresses(headers, &FOR).into_iter().map(|claim| claim.and_then(address));
        let port = last(headers, &PORT).and_then(|port| std::str::from_utf8(port).ok()?.parse().ok());
        Self {
            client: nearest(peer, claims, believes).0,
            proto: last(headers, &PROTO).map(<[u8]>::to_vec),
            host: last(headers, &FORWARDED_HOST).map(<[u8]>::to_vec),
            port: port.filter(|port| *port != 0),
        }
    }

    /// By `Forwarded` (RFC 7239): each proxy tells of its own client in one element, so protocol and host are those of the
    /// element that named the client.
    fn by_forwarded(headers: &HeaderMap, peer: IpAddr, believes: impl Fn(IpAddr) -> bool) -> Self {
        let mut hops = hops(headers);
        let claims = hops.iter().map(|hop| hop.as_ref().and_then(|hop| address(hop.client.as_deref()?)));
        let (client, at) = nearest(peer, claims, believes);
        let hop = if at < hops.len() { hops.swap_remove(at) } else { None };
        let (proto, host) = hop.map(|hop| (hop.proto, hop.host)).unwrap_or_default();
        Self { client, proto, host, port: None }
    }
}

/// The client, and which claim named it: from the right, an address counts while everyone to its right is trusted. Who
/// cannot be read ends that, and the last one who could be is the client: what stands further left may be a stranger's
/// own words.
fn nearest(
    peer: IpAddr,
    claims: impl Iterator<Item = Option<IpAddr>>,
    believes: impl Fn(IpAddr) -> bool,
) -> (IpAddr, usize) {
    let (mut client, mut at) = (peer, 0);
    for (number, claim) in claims.enumerate() {
        let Some(claim) = claim else { break };
        (client, at) = (claim, number);
        if !believes(claim) {
            break;
        }
    }
    (client, at)
}

/// A WebSocket's schemes are those of the request that opens it (RFC 6455 section 3).
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

/// What the client's own fields claimed, read before they are replaced.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    addresses: Option<String>,
    forwarded: Option<String>,
}

impl Claims {
    /// Reads them. What is no text keeps its place in the chains, as one who is not known: an app that reads them must
    /// not stumble over a stranger's byte, and pass by what stands behind it. Both chains tell what the believed one
    /// does: which of them an app reads is its own choice, and the other may be a stranger's.
    pub fn read(headers: &HeaderMap) -> Self {
        if is_by_family(headers) {
            let known = addresses(headers, &FOR);
            let nodes: Vec<String> = known.iter().map(|claim| claim.and_then(address)).map(element_of).collect();
            let known: Vec<&str> = known.into_iter().map(|claim| claim.unwrap_or(UNKNOWN)).collect();
            Self { addresses: chain(&known), forwarded: chain(&nodes) }
        } else {
            let lines: Vec<&HeaderValue> = headers.get_all(FORWARDED).iter().collect();
            let elements = lines.into_iter().rev().flat_map(element).map(|element| element.unwrap_or("for=unknown"));
            let named = hops(headers).into_iter().map(|hop| address(hop?.client.as_deref()?));
            let named: Vec<String> =
                named.map(|named| named.map_or_else(|| UNKNOWN.to_owned(), |named| named.to_string())).collect();
            Self { addresses: chain(&named), forwarded: chain(&elements.collect::<Vec<&str>>()) }
        }
    }
}

const UNKNOWN: &str = "unknown";

/// Whether a trusted proxy tells of its client by `X-Forwarded-*`, and `Forwarded` is a stranger's.
fn is_by_family(headers: &HeaderMap) -> bool {
    [FOR, PROTO, FORWARDED_HOST, PORT].iter().any(|name| headers.contains_key(name))
}

/// RFC 7239 section 6: an IPv6 address stands in brackets and quotes.
fn element_of(client: Option<IpAddr>) -> String {
    match client {
        Some(IpAddr::V4(client)) => format!("for={client}"),
        Some(IpAddr::V6(client)) => format!("for=\"[{client}]\""),
        None => "for=unknown".to_owned(),
    }
}

/// A chain from the left to the right, of what was read from the right.
fn chain<T: AsRef<str>>(elements: &[T]) -> Option<String> {
    let mut chain = String::new();
    for element in elements.iter().rev().map(AsRef::as_ref) {
        if !chain.is_empty() {
            chain.push_str(", ");
        }
        chain.push_str(element);
    }
    (!chain.is_empty()).then_some(chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn told(peer: &str, fields: &[(&'static str, &str)], trusted: &[&str]) -> (Origin, HeaderMap) {
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let client = map(fields);
        let origin = Origin::find(Some(peer.parse().unwrap()), false, &client, &trusted);
        let claims = Claims::read(&client);
        let mut headers = AppHeaders::from_client(client, &crate::cookies::RequestCookies::default());
        origin.tell(&mut headers, &claims);
        (origin, headers.into_inner())
    }

    #[test]
    fn a_strangers_claims_are_dropped() {
        let fields = [
            ("host", "app.example:8080"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "10.0.0.1"),
            ("forwarded", "for=10.0.0.1"),
            ("x_forwarded_for", "10.0.0.1"),
            ("x-forwarded_proto", "https"),
            ("x.real.ip", "10.0.0.1"),
            ("x-forwarded-uri", "/admin"),
            ("x-forwarded-email", "root@example"),
            ("x-forwarded-client-cert", "By=x"),
        ];
        let (origin, headers) = told("192.0.2.7", &fields, &["10.0.0.0/8"]);
        assert_eq!(origin.client, Some("192.0.2.7".parse().unwrap()));
        assert!(!origin.https);
        let expected = map(&[
            ("host", "app.example:8080"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "app.example:8080"),
            ("x-forwarded-port", "8080"),
            ("forwarded", "for=192.0.2.7;host=\"app.example:8080\";proto=http"),
        ]);
        assert_eq!(headers, expected);
    }

    #[test]
    fn a_trusted_proxys_claims_are_extended() {
        let fields = [
            ("host", "inner"),
            ("x-forwarded-for", "6.6.6.6, 198.51.100.9"),
            ("x-forwarded-for", "10.0.0.2"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "tools.example"),
            ("x-forwarded-prefix", "/p"),
            ("x_forwarded_host", "evil"),
        ];
        let (origin, headers) = told("10.0.0.1", &fields, &["10.0.0.0/8"]);
        assert_eq!(origin.client, Some("198.51.100.9".parse().unwrap()));
        assert!(origin.https);
        assert_eq!(origin.host.unwrap(), "tools.example");
        assert_eq!(headers.get("x-forwarded-for").unwrap(), "6.6.6.6, 198.51.100.9, 10.0.0.2, 10.0.0.1");
        assert_eq!(headers.get("x-forwarded-port").unwrap(), "443");
        assert_eq!(headers.get("x-forwarded-prefix").unwrap(), "/p");
        assert!(!headers.contains_key("x_forwarded_host"));
    }

    const PROXY: &[&str] = &["10.0.0.0/8"];

    fn client(fields: &[(&'static str, &str)]) -> String {
        told("10.0.0.1", fields, PROXY).0.client.unwrap().to_string()
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
        assert_eq!(client(&[("forwarded", "for=\"[2001:db8::1]:99\";proto=https, for=10.0.0.3")]), "2001:db8::1");
        for (name, value) in [("x-forwarded-for", ""), ("x-forwarded-proto", "http"), ("x-forwarded-host", "a")] {
            let fields = [(name, value), ("forwarded", "for=6.6.6.6;proto=https;host=evil")];
            let (origin, _) = told("10.0.0.1", &fields, PROXY);
            assert_eq!((client(&fields).as_str(), origin.https), ("10.0.0.1", false), "{name}");
            assert!(origin.host.is_none_or(|host| host == "a"), "{name}");
        }
    }

    #[test]
    fn both_chains_tell_what_was_believed() {
        let both = |fields: &[(&'static str, &str)]| {
            let (_, headers) = told("10.0.0.1", fields, PROXY);
            ["x-forwarded-for", "forwarded"].map(|name| headers.get(name).unwrap().to_str().unwrap().to_owned())
        };
        let end = "for=10.0.0.1;proto=http";
        let claims = [("x-forwarded-for", "5.6.7.8, [2001:db8::1]:80, x"), ("forwarded", "for=1.2.3.4")];
        let expected = format!("for=5.6.7.8, for=\"[2001:db8::1]\", for=unknown, {end}");
        assert_eq!(both(&claims), ["5.6.7.8, [2001:db8::1]:80, x, 10.0.0.1", expected.as_str()]);
        let chain = "for=\"[2001:db8::1]:80\", for=_hidden, proto=http, for=5.6.7.8";
        let expected = "2001:db8::1, unknown, unknown, 5.6.7.8, 10.0.0.1";
        assert_eq!(both(&[("forwarded", chain)]), [expected.to_owned(), format!("{chain}, {end}")]);
        assert_eq!(both(&[("x-forwarded-proto", "http"), ("forwarded", "for=1.2.3.4")]), ["10.0.0.1", end]);
    }

    #[test]
    fn an_unreadable_claim_ends_the_belief_and_nothing_else() {
        for (value, expected) in [
            ("1.1.1.1, nonsense, 10.0.0.5", "10.0.0.5"),
            ("\u{ff}, 203.0.113.9", "203.0.113.9"),
            ("6.6.6.6, \u{ff}", "10.0.0.1"),
            ("6.6.6.6, \u{ff}, 10.0.0.5", "10.0.0.5"),
            (", 203.0.113.9, ,", "203.0.113.9"),
            ("203.0.113.9:1234", "203.0.113.9"),
        ] {
            assert_eq!(client(&[("x-forwarded-for", value), ("forwarded", "for=6.6.6.6")]), expected, "{value}");
        }
        assert_eq!(client(&[("x-forwarded-for", "\u{ff}"), ("x-forwarded-for", "203.0.113.9")]), "203.0.113.9");
        let fields = [("x-forwarded-for", "6.6.6.6, \u{ff}, , 203.0.113.9")];
        let (_, headers) = told("10.0.0.1", &fields, PROXY);
        assert_eq!(headers.get("x-forwarded-for").unwrap(), "6.6.6.6, unknown, 203.0.113.9, 10.0.0.1");
    }

    #[test]
    fn forwarded_is_taken_apart_outside_of_its_quoted_strings() {
        for (value, expected) in [
            ("for=203.0.113.9;by=\"a,b;for=6.6.6.6\"", "203.0.113.9"),
            ("for=6.6.6.6;x=\"\\\", for=7.7.7.7\", for=203.0.113.9", "203.0.113.9"),
            ("for=\"x, for=203.0.113.9", "203.0.113.9"),
            ("for=\"x, for=\"[2001:db8::1]:80\"", "2001:db8::1"),
            ("for=203.0.113.9, for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, proto=https", "10.0.0.1"),
            ("For=\"203.0.113.9\" ; Proto=http", "203.0.113.9"),
        ] {
            assert_eq!(client(&[("forwarded", value)]), expected, "{value}");
        }
        // A string that only one of two readers sees the end of is told to nobody.
        for open in ["for=\"x", "for=\"x\\\"", "for=\u{ff}"] {
            let (_, headers) = told("10.0.0.1", &[("forwarded", open), ("forwarded", "for=203.0.113.9")], PROXY);
            let expected = "for=unknown, for=203.0.113.9, for=10.0.0.1;proto=http";
            assert_eq!(headers.get("forwarded").unwrap(), expected, "{open}");
        }
    }

    #[test]
    fn protocol_host_and_port_are_believed_where_they_are_some() {
        let seen = |fields: &[(&'static str, &str)]| {
            let (origin, headers) = told("10.0.0.1", fields, PROXY);
            let host = origin.host.map(|host| host.to_str().unwrap().to_owned()).unwrap_or_default();
            format!("{} {host} {}", origin.https, headers.get("x-forwarded-port").unwrap().to_str().unwrap())
        };
        assert_eq!(seen(&[("x-forwarded-proto", "wss"), ("x-forwarded-host", "a")]), "true a 443");
        assert_eq!(seen(&[("x-forwarded-proto", "ws"), ("x-forwarded-host", "a")]), "false a 80");
        assert_eq!(seen(&[("host", "b"), ("x-forwarded-host", "a b\"c")]), "false b 80");
        assert_eq!(seen(&[("host", "b"), ("x-forwarded-port", "8443")]), "false b 8443");
        assert_eq!(seen(&[("host", "b:1"), ("x-forwarded-port", "8443")]), "false b:1 1");
        assert_eq!(seen(&[("host", "b"), ("x-forwarded-port", "0x1")]), "false b 80");
        let chain = "for=203.0.113.9;proto=https;host=\"shown:8443\", for=10.0.0.2;proto=http;host=inner";
        assert_eq!(seen(&[("host", "b"), ("forwarded", chain)]), "true shown:8443 8443");
        assert_eq!(seen(&[("host", "b"), ("forwarded", "proto=https;host=shown")]), "true shown 443");
    }
}
