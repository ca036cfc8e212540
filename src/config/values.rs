//! Texts read as what they mean: durations, sizes, addresses, URLs.
//!
//! In: a text. Out: a value, or why it is none and what to write instead. It never repeats the text, which may be
//! secret; the reader does, where it may.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::value::{Tag, Value};
use ipnet::IpNet;
use url::{Host, Url};

/// Why a text is not what is wanted, in words that follow the text itself, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) why: String,
    pub(super) remedy: String,
}

impl Bad {
    pub(super) fn new(why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: remedy.into() }
    }
}

/// Longer than any setting needs, and short enough to add to any moment.
const LONGEST: Duration = Duration::from_hours(400 * 24);

/// `"10s"`, `"500ms"`, `"5m"`, `"1h"`, `"14d"`.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    let bad = || Bad::new("is not a duration", "write a number and a unit: 500ms, 10s, 5m, 1h or 14d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let millis = match unit.trim_start() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        "d" => 24 * 3600 * 1000,
        _ => return Err(bad()),
    };
    let duration = number.checked_mul(millis).map(Duration::from_millis);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(|| Bad::new("is too long", "write 400d or less"))
}

/// A duration that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, Bad> {
    let duration = duration(text)?;
    if duration.is_zero() { Err(Bad::new("is no time at all", "write a duration above zero")) } else { Ok(duration) }
}

/// `"64KiB"`, `"1MiB"`, `"2GiB"`, or a plain number of bytes.
pub(super) fn size(text: &str) -> Result<u64, Bad> {
    let bad = || Bad::new("is not a size", "write a number of bytes, or a number and a unit: 64KiB, 1MiB, 2GiB");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return Err(bad()),
    };
    number.checked_mul(1 << shift).ok_or_else(bad)
}

/// A whole number from `least` to `most`.
pub(super) fn count<T: TryFrom<u64>>(text: &str, least: u64, most: u64) -> Result<T, Bad> {
    let bad = || Bad::new(format!("is not a whole number from {least} to {most}"), "write such a number, digits only");
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = if digits { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
    if number < least || number > most {
        return Err(bad());
    }
    T::try_from(number).map_err(|_| bad())
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, Bad> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Bad::new("is neither true nor false", "write true or false")),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Bad> {
    choices.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        Bad::new("is not one of the choices", format!("write {}", words.join(" or ")))
    })
}

/// An IP address and a port; `localhost` is 127.0.0.1.
pub(super) fn socket(text: &str) -> Result<SocketAddr, Bad> {
    let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    numeric.as_deref().unwrap_or(text).parse().map_err(|_| {
        Bad::new(
            "is not an address with a port",
            "write 127.0.0.1:4180, [::1]:4180, or 0.0.0.0:4180 for every interface",
        )
    })
}

/// The path in `unix:/run/app.sock`; `None` where the text does not begin with `unix:`.
pub(super) fn unix(text: &str) -> Option<Result<PathBuf, Bad>> {
    let path = text.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let plain = Path::new(path).is_absolute() && path.len() > 1 && !path.contains('\0');
    // sockaddr_un holds 108 bytes with the final NUL.
    Some(if plain && path.len() < 108 {
        Ok(PathBuf::from(path))
    } else {
        Err(Bad::new(
            "is not the path of a Unix socket",
            "write unix:/run/app.sock: an absolute path of at most 107 bytes",
        ))
    })
}

/// An address or a network: `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
pub(super) fn network(text: &str) -> Result<IpNet, Bad> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse::<IpNet>().map(|net| net.trunc())).map_err(|_| {
        Bad::new("is neither an IP address nor a network", "write 10.0.0.1 or 10.0.0.0/8; names are not looked up")
    })
}

/// An `http` or `https` URL with a host, without user, password and fragment.
pub(super) fn web_url(text: &str) -> Result<Url, Bad> {
    let bad = |why: &str| Bad::new(why, "write a URL such as https://tools.example.com");
    let url = Url::parse(text).map_err(|error| bad(&format!("is not a URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(bad("is not an http or https URL"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Bad::new("holds a user or password", "remove what stands before the @"));
    }
    if url.fragment().is_some() {
        return Err(Bad::new("has a fragment", "remove what begins with the #"));
    }
    Ok(url)
}

/// A URL of nothing but scheme, host and port.
pub(super) fn origin(text: &str) -> Result<Url, Bad> {
    let url = web_url(text)?;
    if url.path() == "/" && url.query().is_none() {
        return Ok(url);
    }
    Err(Bad::new("has a path or a query", format!("write only {}", url.origin().ascii_serialization())))
}

/// A URL that is https, or http on a loopback host.
pub(super) fn confidential(url: Url) -> Result<Url, Bad> {
    if url.scheme() == "https" || is_loopback(&url) {
        return Ok(url);
    }
    Err(Bad::new(
        "is plain http beyond this machine, where anyone on the way reads what passes",
        "write https; http is for localhost, 127.0.0.0/8 and [::1] only",
    ))
}

/// True for localhost, 127.0.0.0/8 and `[::1]`.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A text that may stand in a header field: visible ASCII and inner spaces.
pub(super) fn field_value(text: &str) -> Result<String, Bad> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text {
        return Ok(text.to_owned());
    }
    Err(Bad::new("holds characters that may not stand in a header", "use ASCII letters, digits and signs only"))
}

/// The texts of a list: an array, or as one text JSON (`["a","b"]`) or with commas (`a,b`).
pub(super) fn list(value: &Value) -> Result<Vec<String>, Bad> {
    let bad = || Bad::new("is not a list of texts", "write [\"a\", \"b\"]; in the environment also a,b");
    match value {
        Value::Array(_, items) => items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(bad)).collect(),
        Value::String(_, text) if text.trim_start().starts_with('[') => match json(text)? {
            array @ Value::Array(..) => list(&array),
            _ => Err(bad()),
        },
        Value::String(_, text) => {
            Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
        }
        _ => Err(bad()),
    }
}

/// JSON with every scalar as its text.
pub(super) fn json(text: &str) -> Result<Value, Bad> {
    let bad = |why: String| Bad::new(why, "write JSON, with texts and long numbers in \"quotes\"");
    let read = serde_json::from_str(text)
        .map_err(|error| bad(format!("is not JSON (at line {}, column {})", error.line(), error.column())))?;
    texts(read).ok_or_else(|| bad("holds null or a number that JSON does not keep exactly".to_owned()))
}

fn texts(value: serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::Null => None,
        serde_json::Value::Bool(switch) => Some(Value::from(switch.to_string())),
        serde_json::Value::Number(number) if number.is_f64() => None,
        serde_json::Value::Number(number) => Some(Value::from(number.to_string())),
        serde_json::Value::String(text) => Some(Value::from(text)),
        serde_json::Value::Array(items) => {
            Some(Value::Array(Tag::Default, items.into_iter().map(texts).collect::<Option<_>>()?))
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().map(|(name, value)| Some((name, texts(value)?)));
            Some(Value::Dict(Tag::Default, entries.collect::<Option<_>>()?))
        }
    }
}

/// A text as it may be shown to a person: quoted, cut at 80 characters, without a URL's user and password.
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
    fn durations_and_sizes_need_their_units() {
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
    fn lists_come_as_arrays_json_or_with_commas() {
        let long = "1181921839933591552";
        for text in [format!("[{long}, \"b\"]"), format!(" {long} , b,"), format!("[\"{long}\",\"b\"]")] {
            assert_eq!(list(&Value::from(text)), Ok(vec![long.to_owned(), "b".to_owned()]));
        }
        for text in ["[1,", "[99999999999999999999999]", "[null]", "[[1]]", "[] x"] {
            assert!(list(&Value::from(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_are_numbers_and_localhost() {
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
    fn plain_http_is_for_loopback() {
        for url in ["https://a.example", "http://localhost:1", "http://127.9.9.9", "http://[::1]:2"] {
            assert!(web_url(url).and_then(confidential).is_ok(), "{url}");
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
    fn a_shown_text_has_no_password_and_an_end() {
        assert_eq!(shown("https://me:hunter2@x.example/a"), "\"https://…@x.example/a\"");
        assert!(shown(&"x".repeat(500)).chars().count() < 90);
    }
}
