//! What caches may store of an answer: an answer for one user is never shared with another (RFC 9111 section 5.2.2.7).

use http::StatusCode;
use http::header::{CACHE_CONTROL, HeaderValue, VARY};

use crate::fields::Fields;
use crate::response::Response;

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");
const OUR_VARY: HeaderValue = HeaderValue::from_static("Cookie, Authorization");

/// An answer of the API is for its caller only: no directive allows a shared cache to store it, and without directives
/// from Upwork no cache may.
pub(super) fn keep_private(headers: &mut Fields) {
    let said: Vec<&[u8]> = headers.get_all(CACHE_CONTROL).map(HeaderValue::as_bytes).collect();
    let value = restricted(&said.join(&b','));
    headers.insert(CACHE_CONTROL, value);
    headers.retain(|name, _| {
        let name = name.as_str();
        !name.ends_with("cdn-cache-control") && !matches!(name, "surrogate-control" | "x-accel-expires")
    });
    let varies = headers.get_all(VARY).filter_map(|line| line.to_str().ok()).collect::<Vec<_>>().join(", ");
    let value = match varies.as_str() {
        "" => OUR_VARY,
        varies => HeaderValue::try_from(format!("{varies}, Cookie, Authorization"))
            .unwrap_or_else(|_| HeaderValue::from_static("*")),
    };
    headers.insert(VARY, value);
}

/// The directives, without those that allow a shared cache to store the answer. Directives that are not understood
/// allow nothing.
fn restricted(said: &[u8]) -> HeaderValue {
    let Ok(said) = std::str::from_utf8(said) else { return NO_STORE };
    let directives = || said.split(',').map(str::trim).filter(|directive| !directive.is_empty());
    if directives().next().is_none() || said.contains('"') {
        return NO_STORE;
    }
    let shares = |directive: &str| {
        let name = directive.split('=').next().unwrap_or_default().trim();
        ["public", "private", "s-maxage"].iter().any(|shared| name.eq_ignore_ascii_case(shared))
    };
    let kept = directives().filter(|directive| !shares(directive));
    HeaderValue::try_from(["private"].into_iter().chain(kept).collect::<Vec<_>>().join(", ")).unwrap_or(NO_STORE)
}

/// Makes an answer of the app to its user private, if the app says nothing about caches. A 304 changes the stored
/// answer (RFC 9111 section 3.2), so it stays as it is.
pub(crate) fn private_unless_said(response: &mut Response) {
    let updates = matches!(response.status, StatusCode::NOT_MODIFIED | StatusCode::SWITCHING_PROTOCOLS);
    if !updates && !response.headers.contains_key(CACHE_CONTROL) {
        response.headers.insert(CACHE_CONTROL, PRIVATE);
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;

    #[test]
    fn no_directive_allows_a_shared_cache_to_store_an_answer_of_the_api() {
        for (said, expected) in [
            (vec![], "no-store"),
            (vec![""], "no-store"),
            (vec!["public, max-age=600"], "private, max-age=600"),
            (vec!["Public", "S-MaxAge=9 , max-age=3"], "private, max-age=3"),
            (vec!["s-maxage = 9"], "private"),
            (vec!["no-store"], "private, no-store"),
            (vec!["private, no-cache"], "private, no-cache"),
            (vec!["private=\"x, public\""], "no-store"),
        ] {
            let mut headers: Fields =
                said.iter().map(|line| (CACHE_CONTROL, HeaderValue::from_str(line).unwrap())).collect();
            keep_private(&mut headers);
            assert_eq!(headers.get_all(CACHE_CONTROL).collect::<Vec<_>>(), [expected], "{said:?}");
            assert_eq!(headers.get(VARY).unwrap(), "Cookie, Authorization");
        }
    }

    #[test]
    fn fields_for_shared_caches_are_gone_and_vary_grows() {
        let fields = ["surrogate-control", "cdn-cache-control", "cloudflare-cdn-cache-control", "x-accel-expires"];
        let mut headers: Fields = fields
            .into_iter()
            .chain(["vary"])
            .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("Accept-Encoding")))
            .collect();
        headers.append(VARY, HeaderValue::from_static("Origin"));
        keep_private(&mut headers);
        assert!(fields.iter().all(|name| !headers.contains_key(HeaderName::from_static(name))));
        assert_eq!(headers.get_all(VARY).collect::<Vec<_>>(), ["Accept-Encoding, Origin, Cookie, Authorization"]);
    }
}
