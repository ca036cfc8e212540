//! Who the client is, and how the app is told: `X-Forwarded-*`, `Forwarded` (RFC 7239), `Via` (RFC 9110 section 7.6.3).
//!
//! In: the peer's address, what it claims, and who is believed. Out: one [`Origin`], and fields for the app. A stranger's
//! claims are dropped, never extended (docs/lessons.md 16).

use std::net::IpAddr;

use http::header::{FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue, VIA};
use ipnet::IpNet;

use super::headers::{AppHeaders, begins_like, reads_as};

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
            return Self { peer, client: peer, https: tls, host, trusted: false };
        };
        let client = claimed_addresses(headers).into_iter().rev().map_while(|claim| claim).fold(
            (address, true),
            // From the right: an address counts while everyone to its right is trusted.
            |(client, on), claim| if on { (claim, believes(claim)) } else { (client, false) },
        );
        let https = last(headers, &PROTO).map_or(tls, |proto| proto.eq_ignore_ascii_case("https"));
        let host = last(headers, &FORWARDED_HOST).and_then(|host| HeaderValue::from_str(host).ok()).or(host);
        Self { peer, client: Some(client.0), https, host, trusted: true }
    }

    /// Tells the app.
    pub fn tell(&self, headers: &mut AppHeaders, client: &Claims) {
        let proto = if self.https { "https" } else { "http" };
        let host = self.host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let address = self.peer.map(|peer| peer.to_string());
        let node = match self.peer {
            Some(IpAddr::V6(peer)) => format!("\"[{peer}]\""),
            Some(IpAddr::V4(peer)) => peer.to_string(),
            None => "unknown".to_owned(),
        };
        let element = if host.is_empty() {
            format!("for={node};proto={proto}")
        } else {
            format!("for={node};host=\"{}\";proto={proto}", host.replace(['"', '\\'], ""))
        };
        let chain = |before: &Option<String>, now: Option<String>| match (before.as_ref().filter(|_| self.trusted), now)
        {
            (Some(before), Some(now)) => HeaderValue::from_str(&format!("{before}, {now}")).ok(),
            (Some(before), None) => HeaderValue::from_str(before).ok(),
            (None, now) => now.and_then(|now| HeaderValue::from_str(&now).ok()),
        };
        // A look-alike (`x_forwarded_for`) is nobody's honest field.
        let plain = |name: &str| name.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric());
        headers.strip_where(|name| is_claim(name) && !(self.trusted && plain(name)));
        headers.put(&FOR, chain(&client.addresses, address));
        headers.put(&FORWARDED, chain(&client.forwarded, Some(element)));
        headers.put(&PROTO, Some(HeaderValue::from_static(proto)));
        headers.put(&FORWARDED_HOST, self.host.clone());
        let default = if self.https { "443" } else { "80" };
        let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        headers.put(&PORT, HeaderValue::from_str(port.unwrap_or(default)).ok());
        headers.put(&VIA, chain_via(client.via.as_deref()));
    }
}

/// What the client's own fields claimed, read before they are replaced.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    addresses: Option<String>,
    forwarded: Option<String>,
    via: Option<String>,
}

impl Claims {
    /// Reads them.
    pub fn read(headers: &HeaderMap) -> Self {
        Self { addresses: joined(headers, &FOR), forwarded: joined(headers, &FORWARDED), via: joined(headers, &VIA) }
    }
}

fn chain_via(before: Option<&str>) -> Option<HeaderValue> {
    let Some(before) = before else { return Some(HeaderValue::from_static("1.1 upwarden")) };
    HeaderValue::from_str(&format!("{before}, 1.1 upwarden")).ok()
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<&str> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn last<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let value = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    value.rsplit(',').next().map(str::trim).filter(|value| !value.is_empty())
}

/// Every address of `X-Forwarded-For`, or else of `Forwarded`, left to right; `None` where one cannot be read.
fn claimed_addresses(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    if let Some(list) = joined(headers, &FOR) {
        return list.split(',').map(|text| address(text.trim())).collect();
    }
    let Some(list) = joined(headers, &FORWARDED) else { return Vec::new() };
    list.split(',')
        .map(|element| {
            let pair = element.split(';').find_map(|pair| {
                let (name, value) = pair.split_once('=')?;
                name.trim().eq_ignore_ascii_case("for").then_some(value)
            })?;
            address(pair.trim().trim_matches('"'))
        })
        .collect()
}

/// `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    let parsed =
        text.parse::<IpAddr>().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    parsed
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
        .map(|address: IpAddr| address.to_canonical())
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
        let mut headers = AppHeaders::from_client(client, |_| false);
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
            ("via", "1.1 upwarden"),
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
            ("via", "2 edge"),
        ];
        let (origin, headers) = told("10.0.0.1", &fields, &["10.0.0.0/8"]);
        assert_eq!(origin.client, Some("198.51.100.9".parse().unwrap()));
        assert!(origin.https);
        assert_eq!(origin.host.unwrap(), "tools.example");
        assert_eq!(headers.get("x-forwarded-for").unwrap(), "6.6.6.6, 198.51.100.9, 10.0.0.2, 10.0.0.1");
        assert_eq!(headers.get("x-forwarded-port").unwrap(), "443");
        assert_eq!(headers.get("via").unwrap(), "2 edge, 1.1 upwarden");
        assert_eq!(headers.get("x-forwarded-prefix").unwrap(), "/p");
        assert!(!headers.contains_key("x_forwarded_host"));
    }

    #[test]
    fn forwarded_is_read_where_there_is_no_x_forwarded_for() {
        let fields = [("forwarded", "for=\"[2001:db8::1]:99\";proto=https, for=10.0.0.3")];
        let (origin, _) = told("10.0.0.1", &fields, &["10.0.0.0/8"]);
        assert_eq!(origin.client, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn an_unreadable_claim_ends_the_belief() {
        let (origin, _) = told("10.0.0.1", &[("x-forwarded-for", "1.1.1.1, nonsense, 10.0.0.5")], &["10.0.0.0/8"]);
        assert_eq!(origin.client, Some("10.0.0.5".parse().unwrap()));
    }
}
