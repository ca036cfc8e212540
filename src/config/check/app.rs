//! `public_url`, `prefix`, and the keys of `app`.

use url::{Host, Url};

use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::proxy::client::Timeouts;
use crate::proxy::{AppConfig, HostPolicy, Upstream};
use crate::tls::is_dns_name;

/// The address of the public door, as browsers know it.
pub(super) struct Site {
    /// `https://tools.example.com`.
    pub(super) public_url: String,
    pub(super) secure: bool,
    /// `/upwork`.
    pub(super) prefix: String,
}

pub(super) fn site(reader: &mut Reader) -> Option<Site> {
    let url = reader.parsed("public_url", |text| parse::origin(text).and_then(parse::confidential));
    let prefix = reader.parsed("prefix", prefix);
    let url = url?;
    // Lower-case host, no default port, no final slash: what browsers send as Origin (RFC 6454 section 6.2).
    let public_url = url.origin().ascii_serialization();
    Some(Site { public_url, secure: url.scheme() == "https", prefix: prefix? })
}

fn prefix(text: &str) -> Result<String, ValueError> {
    let plain = |segment: &str| {
        let bytes = segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
        !segment.is_empty() && bytes && segment != "." && segment != ".."
    };
    match text.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok(text.to_owned()),
        _ => Err(ValueError::new(
            "is not a plain path",
            "write a path such as /upwork: a slash at the start, none at the end, and letters, digits and -._~ between",
        )),
    }
}

pub(super) fn health_path(reader: &mut Reader, site: Option<&Site>) -> Option<String> {
    let path = reader.parsed("public.health_path", unambiguous_path)?;
    let prefix = &site?.prefix;
    if is_below(prefix, &path) {
        let why = format!("{} is below the prefix {prefix}", parse::shown(&path));
        reader.problem("public.health_path", why, "choose a path such as /healthz");
    }
    Some(path)
}

pub(super) fn is_below(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A path with one reading (docs/reference.md "Ambiguous paths").
pub(super) fn unambiguous_path(text: &str) -> Result<String, ValueError> {
    let lower = text.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\?#\"<>^`{|};".contains(&byte);
    let escapes = lower.split('%').skip(1).all(|rest| {
        let hex = rest.get(..2).is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        hex && !["2e", "2f", "5c", "00"].iter().any(|bad| rest.starts_with(bad))
    });
    let dotted = lower.split('/').any(|segment| segment == "." || segment == "..");
    if text.starts_with('/') && !text.contains("//") && lower.bytes().all(plain) && escapes && !dotted {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(
        "is not an unambiguous path",
        "start with a slash; leave out //, . and .. segments, queries, ;, %2e, %2f, %5c and %00",
    ))
}

pub(super) fn app(reader: &mut Reader) -> Option<AppConfig> {
    let upstream = reader.parsed("app.url", upstream);
    let ca_file = reader.ca_file("app.ca_file");
    let tls_name = reader.parsed("app.tls_name", tls_name);
    if let (Some(_), Some(upstream)) = (&tls_name, &upstream)
        && let Err(error) = speaks_tls(upstream)
    {
        reader.problem("app.tls_name", error.why, error.remedy);
    }
    let host = reader.parsed("app.host", host);
    if matches!((&host, &upstream), (Some(HostPolicy::App), Some(Upstream::Unix(_)))) {
        reader.problem(
            "app.host",
            "\"app\" stands for the host of app.url, and a Unix socket has no host",
            "write \"keep\", or the host that the app expects",
        );
    }
    let drop_authorization = reader.switch("app.drop_authorization");
    let http2 = reader.switch("app.http2");
    let timeouts = Timeouts {
        connect: reader.duration("app.timeouts.connect"),
        first_byte: reader.duration("app.timeouts.first_byte"),
        idle: reader.duration("app.timeouts.idle"),
    };
    Some(AppConfig { upstream: upstream?, ca_file, tls_name, host: host?, drop_authorization, http2, timeouts })
}

pub(super) fn upstream(text: &str) -> Result<Upstream, ValueError> {
    if let Some(path) = parse::unix(text) {
        return path.map(Upstream::Unix);
    }
    let url = parse::origin(text)?;
    let upstream = Upstream::of(&url).filter(|_| url.port() != Some(0));
    upstream.ok_or_else(|| ValueError::new("has no host or port", "write http://127.0.0.1:3000"))
}

/// The name in a certificate, also sent as SNI, which takes DNS names only (RFC 6066 section 3).
pub(super) fn tls_name(text: &str) -> Result<String, ValueError> {
    let error = || ValueError::new("is not a DNS name", "write a name in the app's certificate, such as app.internal");
    if is_dns_name(text) { Ok(text.to_ascii_lowercase()) } else { Err(error()) }
}

pub(super) fn speaks_tls(upstream: &Upstream) -> Result<(), ValueError> {
    if matches!(upstream, Upstream::Tcp { tls: true, .. }) {
        return Ok(());
    }
    let why = format!("{upstream} shows no certificate: it is not https");
    Err(ValueError::new(why, "remove it, or write https:// in the url"))
}

fn host(text: &str) -> Result<HostPolicy, ValueError> {
    match text {
        "keep" => Ok(HostPolicy::Keep),
        "app" => Ok(HostPolicy::App),
        host => authority(host).map(HostPolicy::Fixed),
    }
}

/// `host` or `host:port`, as in a `Host` field (RFC 9110 section 7.2).
fn authority(text: &str) -> Result<String, ValueError> {
    let error = || ValueError::new("is not a host", "write \"keep\", \"app\", or a host such as intranet.example:8080");
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    let url = Url::parse(&format!("http://{text}/")).map_err(|_| error())?;
    if plain && matches!(url.host(), Some(Host::Domain(_) | Host::Ipv4(_) | Host::Ipv6(_))) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(error())
}
