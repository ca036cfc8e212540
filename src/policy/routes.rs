//! The table of routes to the app: `[[routes]]` with the longest path first, and `app.*` last.
//!
//! Takes a method and a path, and finds the route; decides nothing. A public route matches its exact spelling only. A
//! route that restricts matches every spelling that some server could read as its path.

use std::cmp::Reverse;

use super::access::Access;
use crate::router::percent::readings;
use crate::router::{covers, is_ambiguous};

/// Rounds of percent-decoding that are checked. A path with more is ambiguous.
const ROUNDS: usize = 4;

/// Part of the app: which requests it gets, and what they need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppRoute {
    /// Matches whole segments: `/health` matches `/health` and `/health/live`; `/assets/` matches everything below it.
    pub path: String,
    /// Empty for all. `GET` includes `HEAD`.
    pub methods: Vec<String>,
    /// Needs no session.
    pub public: bool,
    /// Which of the users whom the access rules admit are admitted here; `None` for all of them.
    pub admits: Option<Access>,
    /// Only GET, HEAD and OPTIONS.
    pub read_only: bool,
    /// Its place in the list of upstreams.
    pub upstream: usize,
}

impl AppRoute {
    /// The route of `app.*`: every path, with a session, at the first upstream.
    pub fn last() -> Self {
        Self { path: "/".to_owned(), methods: Vec::new(), public: false, admits: None, read_only: false, upstream: 0 }
    }

    /// Whether it refuses requests that `app.*` would allow.
    pub(crate) fn restricts(&self) -> bool {
        self.admits.is_some() || self.read_only
    }

    fn takes(&self, method: &str) -> bool {
        let method = if method == "HEAD" { "GET" } else { method };
        self.methods.is_empty() || self.methods.iter().any(|known| known == method)
    }

    /// Whether `other`, which comes first, takes all of its requests.
    fn is_hidden_by(&self, other: &Self) -> bool {
        let takes_all = || !self.methods.is_empty() && self.methods.iter().all(|method| other.takes(method));
        self.path == other.path && (other.methods.is_empty() || takes_all())
    }
}

/// Every route, in the order in which they are tried.
#[derive(Clone, Debug)]
pub struct Routes {
    all: Vec<AppRoute>,
    last: AppRoute,
    /// One of them restricts, so an ambiguous path could be meant for it.
    restricted: bool,
}

impl Routes {
    /// Sorts them: the longest path first, and for the same path those with methods first.
    pub fn new(mut all: Vec<AppRoute>) -> Self {
        all.sort_by_key(|route| (Reverse(route.path.len()), route.methods.is_empty()));
        let restricted = all.iter().any(AppRoute::restricts);
        Self { all, last: AppRoute::last(), restricted }
    }

    /// The route of a request; `None` if its path has two readings and one of them may lead to a route that restricts.
    pub fn find(&self, method: &str, path: &str) -> Option<&AppRoute> {
        if self.all.is_empty() {
            return Some(&self.last);
        }
        let ambiguous = is_ambiguous(path);
        if ambiguous && self.restricted {
            return None;
        }
        let mut lenient = None;
        let found = self.all.iter().filter(|route| route.takes(method)).find(|route| {
            if !route.restricts() {
                return covers(&route.path, path) && !(route.public && ambiguous);
            }
            lenient
                .get_or_insert_with(|| lenient_readings(path))
                .iter()
                .any(|reading| leads_below(&route.path, reading))
        });
        Some(found.unwrap_or(&self.last))
    }

    /// In the order in which they are tried, with `app.*` as the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &AppRoute> {
        self.all.iter().chain([&self.last])
    }

    /// Whether a request whose path is not known could be for a route that restricts.
    pub(crate) fn restrict(&self) -> bool {
        self.restricted
    }

    pub(crate) fn last(&self) -> &AppRoute {
        &self.last
    }

    /// The routes that no request can reach, because others come first.
    pub(crate) fn unreachable(&self) -> Vec<&AppRoute> {
        let hidden =
            |(place, route): &(usize, &AppRoute)| self.all.iter().take(*place).any(|other| route.is_hidden_by(other));
        self.all.iter().enumerate().filter(hidden).map(|(_, route)| route).collect()
    }
}

/// The path as lenient servers read it: decoded, in lower case, and without the parameters of its segments.
fn lenient_readings(path: &str) -> Vec<Vec<u8>> {
    readings(path.as_bytes(), ROUNDS).all.iter().map(|reading| folded(reading)).collect()
}

fn folded(path: &[u8]) -> Vec<u8> {
    let name = |segment: &[u8]| segment.split(|byte| *byte == b';').next().unwrap_or_default().to_ascii_lowercase();
    path.split(|byte| *byte == b'/').map(name).collect::<Vec<_>>().join(&b'/')
}

/// A suffix such as `.json` or a blank ends a segment too: some frameworks treat it as a format, or drop it.
fn leads_below(route: &str, reading: &[u8]) -> bool {
    let route = folded(&percent_encoding::percent_decode_str(route.trim_end_matches('/')).collect::<Vec<_>>());
    let rest = reading.strip_prefix(route.as_slice());
    let goes_on = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | 0x80..);
    rest.is_some_and(|rest| !rest.first().is_some_and(goes_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> AppRoute {
        AppRoute { path: path.to_owned(), ..AppRoute::last() }
    }

    fn public(path: &str) -> AppRoute {
        AppRoute { public: true, ..route(path) }
    }

    fn admin(path: &str) -> AppRoute {
        AppRoute { admits: Some(Access { users: ["1".to_owned()].into(), ..Access::default() }), ..route(path) }
    }

    fn methods(route: AppRoute, methods: &[&str]) -> AppRoute {
        AppRoute { methods: methods.iter().map(|method| (*method).to_owned()).collect(), ..route }
    }

    fn at(upstream: usize, route: AppRoute) -> AppRoute {
        AppRoute { upstream, ..route }
    }

    /// For each request, the path of its route, or `400`.
    #[test]
    fn each_request_has_its_route() {
        let open = Routes::new(vec![
            public("/health"),
            public("/assets/"),
            at(1, route("/api")),
            at(2, route("/api/v2")),
            methods(public("/webhook"), &["POST"]),
            methods(public("/docs"), &["GET"]),
        ]);
        let table = [
            // Whole segments, in one spelling.
            (&open, "GET", "/health", "/health"),
            (&open, "POST", "/health/live", "/health"),
            (&open, "GET", "/healthy", "/"),
            (&open, "GET", "/Health", "/"),
            (&open, "GET", "/he%61lth", "/"),
            (&open, "GET", "/health;x", "/"),
            (&open, "GET", "/assets", "/"),
            (&open, "GET", "/assets/a%20b.css", "/assets/"),
            (&open, "GET", "/health/../x", "/"),
            (&open, "GET", "/health/%2e%2e/x", "/"),
            (&open, "GET", "/assets/a%2fb", "/"),
            // The longest path wins, and what goes to another upstream may be spelled freely.
            (&open, "GET", "/api", "/api"),
            (&open, "GET", "/api/v2/x", "/api/v2"),
            (&open, "GET", "/api/v20", "/api"),
            (&open, "GET", "/api/group%2fproject", "/api"),
            // Methods.
            (&open, "POST", "/webhook", "/webhook"),
            (&open, "GET", "/webhook", "/"),
            (&open, "post", "/webhook", "/"),
            (&open, "HEAD", "/docs/x", "/docs"),
            (&open, "OPTIONS", "*", "/"),
        ];
        finds(&table);
    }

    fn finds(table: &[(&Routes, &str, &str, &str)]) {
        for (routes, method, path, expected) in table {
            let found = routes.find(method, path).map_or("400", |route| route.path.as_str());
            assert_eq!(found, *expected, "{method} {path}");
        }
    }

    #[test]
    fn a_route_that_restricts_covers_every_spelling_of_its_path() {
        let restricted = Routes::new(vec![
            admin("/admin"),
            public("/admin/logo.svg"),
            AppRoute { read_only: true, ..route("/archive/2025") },
            methods(admin("/jobs"), &["DELETE"]),
            at(1, route("/api")),
        ]);
        let table = [
            (&restricted, "GET", "/admin", "/admin"),
            (&restricted, "GET", "/ADMIN/x", "/admin"),
            (&restricted, "GET", "/%61dmin", "/admin"),
            (&restricted, "GET", "/%2561dmin", "/admin"),
            (&restricted, "GET", "/admin;x=1/y", "/admin"),
            (&restricted, "GET", "/admin.json", "/admin"),
            (&restricted, "GET", "/admin%20", "/admin"),
            (&restricted, "GET", "/admin%3fx", "/admin"),
            (&restricted, "GET", "/administrator", "/"),
            (&restricted, "GET", "/admin-panel", "/"),
            (&restricted, "GET", "/x/admin", "/"),
            (&restricted, "GET", "/admin/logo.svg", "/admin/logo.svg"),
            (&restricted, "GET", "/admin/Logo.svg", "/admin"),
            (&restricted, "GET", "/archive;x/2025/a", "/archive/2025"),
            (&restricted, "DELETE", "/jobs/1", "/jobs"),
            (&restricted, "GET", "/jobs/1", "/"),
            (&restricted, "GET", "/admin/../x", "400"),
            (&restricted, "GET", "//admin", "400"),
            (&restricted, "GET", "/x/..%2fadmin", "400"),
            (&restricted, "GET", "/api/group%2fproject", "400"),
        ];
        finds(&table);
    }

    #[test]
    fn a_route_after_one_with_the_same_path_and_methods_is_unreachable() {
        let post = |path: &str| methods(public(path), &["POST"]);
        let table: &[(&[AppRoute], usize)] = &[
            (&[public("/a"), public("/b"), post("/a")], 0),
            (&[public("/a"), admin("/a")], 1),
            (&[post("/a"), post("/a")], 1),
            (&[post("/a"), methods(admin("/a"), &["POST", "PUT"])], 0),
            (&[methods(admin("/a"), &["POST", "PUT"]), post("/a")], 1),
            (&[public("/"), public("/a")], 0),
        ];
        for (routes, count) in table {
            assert_eq!(Routes::new(routes.to_vec()).unreachable().len(), *count, "{routes:?}");
        }
    }
}
