//! `[[routes]]`: parts of the app with their own upstream or rules.

use std::collections::BTreeMap;
use std::time::Duration;

use super::access::id;
use super::app::{Site, is_below, speaks_tls, tls_name, unambiguous_path, upstream};
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::config::value::Value;
use crate::policy::{Access, AppRoute, Routes};
use crate::proxy::client::Timeouts;
use crate::proxy::{AppConfig, HostPolicy, Upstream};
use crate::router::JWKS;

const KEY: &str = "routes";
const KEYS: &str =
    "a route has path, methods, url, tls_name, http2, public, users, organizations, read_only and timeouts";

/// The routes, and their own upstreams, which they number from 1.
pub(super) fn routes(
    reader: &mut Reader,
    site: Option<&Site>,
    app: Option<&AppConfig>,
) -> Option<(Routes, Vec<AppConfig>)> {
    let tables = reader.tables_of_values(KEY)?;
    let (site, app) = (site?, app?);
    let mut upstreams: Vec<AppConfig> = vec![app.clone()];
    let mut routes = Vec::new();
    let count = tables.len();
    for (place, table) in tables.into_iter().enumerate() {
        let path = table.get("path").and_then(Value::as_text).unwrap_or_default().to_owned();
        let read = route(table, &site.prefix, app);
        let (route, upstream) = match read {
            Ok(read) => read,
            Err(error) => {
                reader.problem(KEY, format!("route {} ({path}): {}", place + 1, error.why), error.remedy);
                continue;
            }
        };
        let known = upstreams.iter().position(|known| *known == upstream);
        let place = known.unwrap_or(upstreams.len());
        if known.is_none() {
            upstreams.push(upstream);
        }
        routes.push(AppRoute { upstream: place, ..route });
    }
    let complete = routes.len() == count;
    let routes = Routes::new(routes);
    for hidden in routes.unreachable() {
        let why =
            format!("no request reaches the route of {}: another route for this path has its methods", hidden.path);
        reader.problem(KEY, why, "remove one of the two, or give the first `methods`");
    }
    upstreams.remove(0);
    complete.then_some((routes, upstreams))
}

fn route(
    mut table: BTreeMap<String, Value>,
    prefix: &str,
    app: &AppConfig,
) -> Result<(AppRoute, AppConfig), ValueError> {
    let path = text(&mut table, "path", unambiguous_path)?;
    let path = path.ok_or_else(|| ValueError::new("it has no path", "write path = \"/admin\""))?;
    if is_below(prefix, &path) {
        let why = format!("it is below the prefix {prefix}, whose paths never go to the app");
        return Err(ValueError::new(why, "remove it, or choose another prefix"));
    }
    if path == JWKS {
        let why = "it is where upwarden serves the public keys of app.assertion";
        return Err(ValueError::new(why, "remove it, or choose another path"));
    }
    let methods = list(&mut table, "methods", method)?.unwrap_or_default();
    let public = text(&mut table, "public", parse::switch)?.unwrap_or_default();
    let read_only = text(&mut table, "read_only", parse::switch)?.unwrap_or_default();
    let users = list(&mut table, "users", id)?;
    let organizations = list(&mut table, "organizations", id)?;
    let url = text(&mut table, "url", upstream)?;
    let named = text(&mut table, "tls_name", tls_name)?;
    let http2 = text(&mut table, "http2", parse::switch)?;
    let [connect, first_byte, idle] = timeouts(&mut table)?;
    if let Some(unknown) = table.keys().next() {
        return Err(ValueError::new(format!("there is no {unknown}"), KEYS));
    }
    let admits = (users.is_some() || organizations.is_some()).then(|| Access {
        users: users.into_iter().flatten().collect(),
        organizations: organizations.into_iter().flatten().collect(),
        ..Access::default()
    });
    if admits.as_ref().is_some_and(|access| access.users.is_empty() && access.organizations.is_empty()) {
        return Err(ValueError::new("it admits no one: its lists are empty", "list who may open it"));
    }
    // Another upstream inherits neither the app's certificate name nor its protocol.
    let inherited = app.tls_name.clone().filter(|_| url.is_none());
    let http2 = http2.unwrap_or(app.http2 && url.is_none());
    let upstream = AppConfig {
        tls_name: named.clone().or(inherited),
        http2,
        upstream: url.unwrap_or_else(|| app.upstream.clone()),
        timeouts: Timeouts {
            connect: connect.unwrap_or(app.timeouts.connect),
            first_byte: first_byte.unwrap_or(app.timeouts.first_byte),
            idle: idle.unwrap_or(app.timeouts.idle),
        },
        ..app.clone()
    };
    if named.is_some() {
        let not_tls = |error: ValueError| ValueError::new(format!("tls_name: {}", error.why), error.remedy);
        speaks_tls(&upstream.upstream).map_err(not_tls)?;
    }
    let route = AppRoute { path, methods, public, admits, read_only, upstream: 0 };
    contradictions(&route, &upstream)?;
    Ok((route, upstream))
}

fn contradictions(route: &AppRoute, upstream: &AppConfig) -> Result<(), ValueError> {
    if route.public && route.restricts() {
        let remedy = "remove `public`, or the lists and `read_only`; `methods` limits what is public";
        return Err(ValueError::new("it is public, but restricts its users", remedy));
    }
    let reads = |method: &String| ["GET", "OPTIONS"].contains(&method.as_str());
    if route.read_only && !route.methods.is_empty() && !route.methods.iter().any(reads) {
        let why = "it refuses every request: it is read-only, but none of its methods reads";
        return Err(ValueError::new(why, "remove `read_only`, or add \"GET\" to its methods"));
    }
    if upstream.host == HostPolicy::App && matches!(upstream.upstream, Upstream::Unix(_)) {
        let why = "app.host is \"app\", the host of the upstream, and a Unix socket has no host";
        return Err(ValueError::new(why, "set app.host to \"keep\", or to the host that the app expects"));
    }
    Ok(())
}

/// RFC 9110 section 9.1: a method is a token, and case-sensitive.
fn method(text: &str) -> Result<String, ValueError> {
    let upper = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
    if text == "HEAD" {
        return Err(ValueError::new("comes with GET", "write \"GET\""));
    }
    parse::only(text, upper, "is not a method", "write it in capitals: \"POST\"")
}

fn timeouts(table: &mut BTreeMap<String, Value>) -> Result<[Option<Duration>; 3], ValueError> {
    const WRITE: &str = "write timeouts = { connect = \"5s\", first_byte = \"60s\", idle = \"60s\" }, or some of them";
    let mut given = match table.remove("timeouts") {
        None => BTreeMap::new(),
        Some(Value::Table(given)) => given,
        Some(Value::Text(_) | Value::List(_)) => return Err(ValueError::new("timeouts is not a table", WRITE)),
    };
    let mut found = [None; 3];
    for (place, name) in found.iter_mut().zip(["connect", "first_byte", "idle"]) {
        *place = text(&mut given, name, parse::positive_duration)?;
    }
    match given.keys().next() {
        Some(unknown) => Err(ValueError::new(format!("there is no timeouts.{unknown}"), WRITE)),
        None => Ok(found),
    }
}

/// Why an entry is wrong, with its name and its value.
fn named(name: &str, value: &str, error: ValueError) -> ValueError {
    ValueError::new(format!("{name} {} {}", parse::shown(value), error.why), error.remedy)
}

fn text<T>(
    table: &mut BTreeMap<String, Value>,
    name: &str,
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Option<T>, ValueError> {
    let Some(value) = table.remove(name) else { return Ok(None) };
    let single = || ValueError::new(format!("{name} is not a single value"), "write one value");
    let text = value.as_text().ok_or_else(single)?;
    read(text).map(Some).map_err(|error| named(name, text, error))
}

fn list<T>(
    table: &mut BTreeMap<String, Value>,
    name: &str,
    read: impl Fn(&str) -> Result<T, ValueError>,
) -> Result<Option<Vec<T>>, ValueError> {
    let Some(value) = table.remove(name) else { return Ok(None) };
    let items = value.to_list().map_err(|error| ValueError::new(format!("{name} {}", error.why), error.remedy))?;
    items.iter().map(|item| read(item).map_err(|error| named(name, item, error))).collect::<Result<_, _>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_in_capitals_and_head_comes_with_get() {
        assert!(method("GET").is_ok() && method("M-SEARCH").is_ok());
        assert!(method("get").is_err() && method("HEAD").is_err() && method("A B").is_err());
    }
}
