//! Parsers for durations, sizes, addresses and URLs. Each turns a text into a value, or into an error that says what to
//! write instead.
//!
//! An error never repeats the text, which may be secret; the reader adds it if it may be shown.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

/// Why a text is not a valid value, in words that follow the text itself, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError {
    pub(crate) why: String,
    pub(crate) remedy: String,
}

impl ValueError {
    pub(super) fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: remedy.into() }
    }
}

/// Longer than any setting needs, and short enough to add to any timestamp.
const LONGEST: Duration = Duration::from_hours(400 * 24);

fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

/// `"10s"`, `"500ms"`, `"5m"`, `"1h"`, `"14d"`.
pub(super) fn duration(text: &str) -> Result<Duration, ValueError> {
    let error = || ValueError::new("is not a duration", "write a number and a unit: 500ms, 10s, 5m, 1h or 14d");
    let (number, unit) = number_and_unit(text).ok_or_else(error)?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(error()),
    };
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(|| ValueError::new("is too long", "write 400d or less"))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, ValueError> {
    let duration = duration(text)?;
    if duration.is_zero() { Err(ValueError::new("is zero", "write a duration above zero")) } else { Ok(duration) }
}

/// `"64KiB"`, `"1MiB"`, `"2GiB"`, or a plain number of bytes.
pub(super) fn size(text: &str) -> Result<u64, ValueError> {
    let error =
        || ValueError::new("is not a size", "write a number of bytes, or a number and a unit: 64KiB, 1MiB, 2GiB");
    let (number, unit) = number_and_unit(text).ok_or_else(error)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(error()),
    };
    number.checked_mul(1 << shift).ok_or_else(error)
}

pub(super) fn count<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, ValueError> {
    let error =
        || ValueError::new(format!("is not a whole number from {least} to {most}"), "write such a number, in digits");
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = if digits { text.parse().map_err(|_| error())? } else { return Err(error()) };
    if number < least || number > most {
        return Err(error());
    }
    T::try_from(number).map_err(|_| error())
}

pub(super) fn bytes(text: &str, least: usize, most: usize) -> Result<usize, ValueError> {
    let size = usize::try_from(size(text)?).unwrap_or(usize::MAX);
    if size >= least && size <= most {
        return Ok(size);
    }
    Err(ValueError::new(format!("is not between {least} and {most} bytes"), "write a size between the two"))
}

/// Refuses a text with any byte that is not allowed.
pub(super) fn only(text: &str, allowed: impl Fn(u8) -> bool, why: &str, remedy: &str) -> Result<String, ValueError> {
    if text.bytes().all(allowed) { Ok(text.to_owned()) } else { Err(ValueError::new(why, remedy)) }
}

pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ValueError::new("is neither true nor false", "write true or false")),
    }
}

pub(super) fn choice<T: Clone>(text: &str, choices: &[(&str, T)]) -> Result<T, ValueError> {
    choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        ValueError::new("is not one of the choices", format!("write {}", words.join(" or ")))
    })
}

/// An IP address and a port; `localhost` is 127.0.0.1.
pub(crate) fn socket(text: &str) -> Result<SocketAddr, ValueError> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        ValueError::new(
            "is not an address with a port",
            "write 127.0.0.1:4180, [::1]:4180, or 0.0.0.0:4180 for every interface",
        )
    })
}

/// The path of `unix:/run/app.sock`; `None` if the text does not start with `unix:`.
pub(super) fn unix(text: &str) -> Option<Result<PathBuf, ValueError>> {
    let path = text.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let plain = Path::new(path).is_absolute() && path.len() > 1 && !path.contains('\0');
    // sockaddr_un holds 108 bytes with the final NUL.
    Some(if plain && path.len() < 108 {
        Ok(PathBuf::from(path))
    } else {
        Err(ValueError::new(
            "is not the path of a Unix socket",
            "write unix:/run/app.sock: an absolute path of at most 107 bytes",
        ))
    })
}

/// An address or a network: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
pub(super) fn network(text: &str) -> Result<IpNet, ValueError> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse::<IpNet>().map(|net| net.trunc())).map_err(|_| {
        ValueError::new(
            "is neither an IP address nor a network",
            "write 10.0.0.1 or 10.0.0.0/8; names are not looked up",
        )
    })
}

/// An `http` or `https` URL with a host, without user, password and fragment.
pub(super) fn web_url(text: &str) -> Result<Url, ValueError> {
    let error = |why: &str| ValueError::new(why, "write a URL such as https://tools.example.com");
    // `localhost:3000` would be read as a URL of the scheme `localhost`.
    if !text.contains("://") {
        let scheme =
            if Url::parse(&format!("http://{text}")).is_ok_and(|url| is_loopback(&url)) { "http" } else { "https" };
        return Err(error(&format!("has no scheme; put {scheme}:// in front of it")));
    }
    let url = Url::parse(text).map_err(|cause| error(&format!("is not a URL ({cause})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(error("is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ValueError::new("contains a user or password", "remove everything before the @"));
    }
    if url.fragment().is_some() {
        return Err(ValueError::new("has a fragment", "remove the # and what follows"));
    }
    Ok(url)
}

pub(super) fn origin(text: &str) -> Result<Url, ValueError> {
    let url = web_url(text)?;
    if url.path() == "/" && url.query().is_none() {
        return Ok(url);
    }
    Err(ValueError::new("has a path or a query", format!("write {}", url.origin().ascii_serialization())))
}

/// A URL that is https, or http on a loopback host.
pub(super) fn confidential(url: Url) -> Result<Url, ValueError> {
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err(ValueError::new(
        "is plain http to another machine, which the network can read",
        "use https; http is allowed only for localhost, 127.0.0.0/8 and [::1]",
    ))
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A text that is allowed in a header field: visible ASCII and inner spaces.
pub(super) fn field_value(text: &str) -> Result<String, ValueError> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text {
        return Ok(text.to_owned());
    }
    Err(ValueError::new(
        "contains characters that are not allowed in a header",
        "use only ASCII letters, digits and punctuation",
    ))
}

/// A text as it may be shown: quoted, cut at 80 characters, without the user and password of a URL.
pub(super) fn shown(text: &str) -> String {
    let text = match text.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, rest)) => format!("{scheme}://…@{rest}"),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    };
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_units() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("14d", 1_209_600_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "10", "s", "1.5s", "-1s", "10 minutes", "99999999999999999999s", "18446744073709551615d", "401d", "é"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        for (text, bytes) in [("0", 0), ("65536", 65_536), ("64KiB", 65_536), ("1 MiB", 1 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "64kb", "KiB", "-1", "1.5MiB", "18446744073709551615KiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_numeric_or_localhost() {
        assert!(socket("127.0.0.1:0").is_ok() && socket("[::1]:80").is_ok() && socket("localhost:80").is_ok());
        assert!(socket("example.com:80").is_err() && socket(":80").is_err() && socket("127.0.0.1").is_err());
        assert_eq!(unix("unix:/run/a.sock"), Some(Ok("/run/a.sock".into())));
        assert_eq!(unix("unix:///run/a.sock"), Some(Ok("/run/a.sock".into())));
        assert!(unix("unix:a.sock").is_some_and(|path| path.is_err()));
        assert!(unix("127.0.0.1:1").is_none());
        assert_eq!(network("10.1.2.3/8").map(|net| net.to_string()), Ok("10.0.0.0/8".to_owned()));
        assert!(network("10.0.0.1").is_ok() && network("fd00::/8").is_ok() && network("proxy").is_err());
    }

    #[test]
    fn plain_http_is_only_for_loopback() {
        for url in ["https://a.example", "http://localhost:1", "http://127.9.9.9", "http://[::1]:2"] {
            assert!(web_url(url).and_then(confidential).is_ok(), "{url}");
        }
        for (text, scheme) in [("localhost:3000", "http"), ("127.0.0.1:1", "http"), ("tools.example.com", "https")] {
            let error = web_url(text).unwrap_err();
            assert!(error.why.contains(&format!("put {scheme}:// in front")), "{error:?}");
        }
        for url in [
            "http://a.example",
            "http://localhost.evil.example",
            "http://10.0.0.1",
            "ftp://a.example",
            "https://u:p@a.example",
            "a.example",
        ] {
            assert!(web_url(url).and_then(confidential).is_err(), "{url}");
        }
    }

    #[test]
    fn a_shown_text_has_no_password_and_is_cut() {
        assert_eq!(shown("https://me:hunter2@x.example/a"), "\"https://…@x.example/a\"");
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
