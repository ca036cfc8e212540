//! Header names that a configuration cannot set (`app.headers`): ours, and those with a meaning in HTTP or for proxies.

use super::{CGI_PROXY, OURS, PATHS, TRACEPARENT, TRACESTATE};
use crate::framing::{begins_like, reads_as};

/// The owner of a reserved name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Upwarden,
    Http,
}

const OUR_PREFIXES: [&str; 2] = ["x-upwork-", "x-upwarden-"];

const HTTP: [&str; 37] = [
    "accept",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-real-ip",
];
const HTTP_PREFIXES: [&str; 6] = ["accept-", "access-control-", "content-", "if-", "proxy-", "sec-"];

/// The owner of `name`, or of a name that some server could read it as; `None` if it is free.
pub(crate) fn owner(name: &str) -> Option<Owner> {
    let is = |known: &&str| reads_as(name, *known);
    let begins = |prefix: &&str| begins_like(name, *prefix);
    let traced = || [TRACEPARENT, TRACESTATE].iter().any(|known| reads_as(name, known.as_str()));
    if OUR_PREFIXES.iter().any(begins) || OURS.iter().any(is) || traced() {
        return Some(Owner::Upwarden);
    }
    let http = HTTP.iter().chain(&PATHS).chain([&CGI_PROXY]).any(is) || HTTP_PREFIXES.iter().any(begins);
    http.then_some(Owner::Http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_that_we_set_is_reserved_and_names_of_apps_are_free() {
        for name in OURS.into_iter().chain(["X-Upwork-Assertion", "x_upwork_anything", "X-Upwarden-X", "traceparent"]) {
            assert_eq!(owner(name), Some(Owner::Upwarden), "{name}");
        }
        for name in HTTP.into_iter().chain(PATHS).chain([
            "Content-Length",
            "content_length",
            "Transfer_Encoding",
            "Proxy",
            "Proxy-Authorization",
            "Sec-Fetch-Site",
            "X-Real-IP",
            "x.forwarded.for",
            "If-Match",
        ]) {
            assert_eq!(owner(name), Some(Owner::Http), "{name}");
        }
        for name in ["X-WEBAUTH-USER", "X-Team", "Remote-User", "X-Forwarded-Preferred-Username", "X-Auth-Request-User"]
        {
            assert_eq!(owner(name), None, "{name}");
        }
    }
}
