//! What a request says about itself: who is looking, and from where it was made.
//!
//! In: the fields. Out: bare facts for the policy (W3C Fetch Metadata; `Accept` where it is missing). Nothing here decides.

use http::header::{ACCEPT, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName, ORIGIN, UPGRADE};
use http::{HeaderValue, Method};

use crate::policy::Site;
use crate::router::is_ambiguous;

const MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// `Sec-Fetch-Site`.
pub(super) const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const REQUESTED_WITH: HeaderName = HeaderName::from_static("x-requested-with");

/// What is known of who looks at the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Looking {
    /// An address bar follows the answer.
    pub(super) navigation: bool,
    /// The browser said so outright: mode `navigate`, destination `document`.
    pub(super) document: bool,
    /// A person will see the answer as a page.
    pub(super) person: bool,
}

fn is(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
}

/// By Fetch Metadata, else by `Accept` (docs/design.md "Navigations").
pub(super) fn looking(headers: &HeaderMap) -> Looking {
    // A page fetched ahead, a socket or a script's request is nobody's address bar.
    let silent = headers.contains_key(UPGRADE) || is(headers, &REQUESTED_WITH, "XMLHttpRequest");
    let ahead = headers.get(PURPOSE).is_some_and(|value| value.as_bytes().starts_with(b"prefetch"));
    let html = prefers_html(headers);
    if headers.contains_key(MODE) {
        let navigate = is(headers, &MODE, "navigate");
        let document = navigate && headers.get(DEST).is_none_or(|_| is(headers, &DEST, "document"));
        let said = navigate && is(headers, &DEST, "document");
        Looking { navigation: document && !ahead && !silent, document: said, person: navigate || (html && !silent) }
    } else {
        Looking { navigation: html && !silent && !ahead, document: false, person: html && !silent }
    }
}

/// `Accept` names `text/html` (or XHTML) with a weight no less than any other type it names (RFC 9110 section 12.5.1).
fn prefers_html(headers: &HeaderMap) -> bool {
    let mut html: f32 = 0.0;
    let mut other: f32 = 0.0;
    for range in
        headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','))
    {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        match media.as_str() {
            "text/html" | "application/xhtml+xml" => html = html.max(weight),
            "application/json" | "application/problem+json" | "text/event-stream" => other = other.max(weight),
            _ => {}
        }
    }
    html > 0.0 && html >= other
}

/// Where the request was made (docs/design.md "Other sites"): `Sec-Fetch-Site`, else `Origin` against our own.
pub(super) fn site(headers: &HeaderMap, public_url: &str) -> Site {
    match (headers.get(SITE).map(HeaderValue::as_bytes), headers.get(ORIGIN).map(HeaderValue::as_bytes)) {
        (Some(b"same-origin" | b"none"), _) => Site::Ours,
        (None, Some(origin)) if origin.eq_ignore_ascii_case(public_url.as_bytes()) => Site::Ours,
        (None, None) => Site::Unsaid,
        (Some(_), _) | (None, Some(_)) => Site::Foreign,
    }
}

/// A CORS preflight (Fetch standard, "CORS-preflight request") for a path with one reading: browsers send no other, and
/// no other goes anywhere without a session.
pub(super) fn is_preflight(method: &Method, path: &str, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && !is_ambiguous(path)
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Anything that only a browser sends along.
pub(super) fn from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) || headers.get(SITE).is_some_and(|site| site != "none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_navigation_of_a_document_is_one() {
        type Row<'a> = (&'a [(&'static str, &'static str)], bool, bool);
        let html = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let table: &[Row<'_>] = &[
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("accept", html)], true, true),
            (&[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe"), ("accept", html)], false, true),
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
            let found = looking(&map(fields));
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
    fn the_site_is_said_by_fetch_metadata_else_by_origin() {
        let ours = "https://tools.example.com";
        let table: &[(&[(&'static str, &'static str)], Site)] = &[
            (&[("sec-fetch-site", "same-origin")], Site::Ours),
            (&[("sec-fetch-site", "none")], Site::Ours),
            (&[("sec-fetch-site", "same-site"), ("origin", "https://tools.example.com")], Site::Foreign),
            (&[("sec-fetch-site", "cross-site")], Site::Foreign),
            (&[("origin", "https://tools.example.com")], Site::Ours),
            (&[("origin", "https://tools.example.com.evil.example")], Site::Foreign),
            (&[("origin", "null")], Site::Foreign),
            (&[], Site::Unsaid),
        ];
        for (fields, expected) in table {
            assert_eq!(site(&map(fields), ours), *expected, "{fields:?}");
        }
    }
}
