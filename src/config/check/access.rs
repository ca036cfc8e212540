//! Who may enter, the session keys, the session and its store.

use std::path::PathBuf;
use std::time::Duration;

use super::app::Site;
use crate::clock::Timestamp;
use crate::config::keys::{self, KeyError, SessionKeys};
use crate::config::reader::Reader;
use crate::config::values::{self, Bad};
use crate::policy::Access;
use crate::secret::Secret;
use crate::{session, store};

pub(super) fn access(reader: &mut Reader) -> Option<Access> {
    let users = reader.parsed_list("access.users", id);
    let organizations = reader.parsed_list("access.organizations", id);
    let anyone = reader.switch("access.anyone");
    let not_before = not_before(reader);
    let (users, organizations, anyone) = (users?, organizations?, anyone?);
    let listed = !users.is_empty() || !organizations.is_empty();
    if anyone && listed {
        let why = "anyone may enter, yet users or organizations are listed too: one of the two is not meant";
        reader.problem("access.anyone", why, "remove access.anyone, or the lists");
    }
    if !anyone && !listed {
        let remedy = "say who may enter: access.users = [\"1181921839933591552\"] (user ids), access.organizations = […], \
                      or access.anyone = true for everybody who has an Upwork account";
        match ["access.users", "access.organizations", "access.anyone"].into_iter().find(|key| reader.given(key)) {
            Some(key) => reader.problem(key, "nobody may enter: the lists are empty, and anyone is not true", remedy),
            None => reader.missing("access.users", remedy),
        }
    }
    Some(Access {
        users: users.into_iter().collect(),
        organizations: organizations.into_iter().collect(),
        anyone,
        not_before: not_before?,
    })
}

/// Upwork's ids are numbers (docs/upwork.md); a name or nid in their place would admit nobody.
fn id(text: &str) -> Result<String, Bad> {
    let remedy =
        "write the number that /upwork/auth/ and the page of who is not admitted show, such as 1181921839933591552";
    super::only(text, |byte| byte.is_ascii_digit(), "is not an id, which is a number", remedy)
}

fn not_before(reader: &mut Reader) -> Option<std::collections::BTreeMap<String, Timestamp>> {
    const KEY: &str = "access.not_before";
    let mut moments = std::collections::BTreeMap::new();
    let entries = reader.map(KEY)?;
    let count = entries.len();
    for (user, text) in entries {
        if let Err(bad) = id(&user) {
            reader.problem(KEY, format!("{} {}", values::shown(&user), bad.why), bad.remedy);
        } else if let Some(moment) = Timestamp::parse_rfc3339(&text) {
            moments.insert(user, moment);
        } else {
            let why = format!("{} for user {} is not a moment in RFC 3339", values::shown(&text), values::shown(&user));
            reader.problem(KEY, why, "write \"2026-11-24T00:00:00Z\"");
        }
    }
    (moments.len() == count).then_some(moments)
}

const MAKE_A_KEY: &str = "upwarden key prints one: put it into a file that only this user may read, and name the file \
                          in session.key_files";

pub(super) fn keys(reader: &mut Reader) -> Option<SessionKeys> {
    if !reader.given("session.keys") && !reader.given("session.key_files") {
        reader.pick("session.keys", "session.key_files");
        reader.missing("session.keys", MAKE_A_KEY);
        return None;
    }
    let key = reader.pick("session.keys", "session.key_files")?;
    let items = reader.list(key)?;
    if items.is_empty() {
        reader.problem(key, "the list is empty", MAKE_A_KEY);
        return None;
    }
    let keys = if key == "session.keys" {
        SessionKeys::Inline(items.iter().map(|text| Secret::new(text.trim())).collect())
    } else {
        SessionKeys::Files(items.into_iter().map(PathBuf::from).collect())
    };
    let mut errors: Vec<_> = keys.files().iter().filter_map(|path| keys::lines(path).err()).collect();
    if errors.is_empty() {
        errors.extend(keys.read().err());
    }
    for error in errors {
        let remedy = if matches!(error, KeyError::Duplicate { .. }) { "keep one of the two" } else { MAKE_A_KEY };
        reader.problem(key, error.to_string(), remedy);
    }
    Some(keys)
}

pub(super) fn session(reader: &mut Reader, site: Option<&Site>) -> Option<session::Config> {
    let named = reader.parsed("session.cookie", cookie);
    let lifetime = reader.parsed("session.lifetime", lifetime);
    let recheck = reader.duration("session.recheck");
    let secure = site?.secure;
    // RFC 6265bis section 4.1.3: browsers take these prefixes with Secure only.
    let prefixed = named.as_ref().is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.starts_with("__host-") || name.starts_with("__secure-")
    });
    if prefixed && !secure {
        let why = "browsers drop a cookie with this prefix on plain http";
        reader.problem("session.cookie", why, "use a name without __Host- or __Secure-, or an https public_url");
    }
    let default = if secure { "__Host-upwarden" } else { "upwarden" };
    Some(session::Config {
        cookie: named.unwrap_or_else(|| default.to_owned()),
        secure,
        lifetime: lifetime?,
        recheck: recheck?,
    })
}

/// RFC 6265bis section 4.1.1: a cookie's name is a token (RFC 9110 section 5.6.2).
fn cookie(text: &str) -> Result<String, Bad> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() > 64 {
        return Err(Bad::new("is too long for a cookie's name", "use at most 64 characters"));
    }
    super::only(text, token, "is not a cookie's name", "use letters, digits, - and _ only")
}

fn lifetime(text: &str) -> Result<Duration, Bad> {
    let lifetime = values::positive_duration(text)?;
    if lifetime < Duration::from_mins(1) {
        return Err(Bad::new(
            "is shorter than a minute",
            "write a longer one; 14d is what Upwork's refresh tokens live",
        ));
    }
    Ok(lifetime)
}

pub(super) fn store(reader: &mut Reader) -> Option<store::Config> {
    #[derive(Clone, Copy)]
    enum Kind {
        Cookie,
        Embedded,
        Valkey,
    }
    let kinds = [("cookie", Kind::Cookie), ("embedded", Kind::Embedded), ("valkey", Kind::Valkey)];
    let kind = reader.parsed("store.kind", |text| values::choice(text, &kinds));
    let path = reader.path("store.path");
    let url = reader.secret("store.url");
    let ca_file = reader.ca_file("store.ca_file");
    let has_url = reader.given("store.url") || reader.given("store.url_file");
    if !reader.given("store.kind") && (has_url || reader.given("store.path")) {
        let remedy =
            "write store.kind = \"embedded\" (with store.path) or \"valkey\" (with store.url), or remove these keys";
        reader.missing("store.kind", remedy);
        return None;
    }
    match kind? {
        Kind::Cookie => Some(store::Config::Cookie),
        Kind::Embedded => {
            if !reader.given("store.path") {
                reader.missing(
                    "store.path",
                    "write the file that sessions shall live in: store.path = \"/var/lib/upwarden/sessions.redb\"",
                );
            }
            Some(store::Config::Embedded { path: path? })
        }
        Kind::Valkey => {
            if !has_url {
                reader.missing("store.url", "write store.url = \"rediss://user:password@host:6379\", or the file that holds it in store.url_file");
            }
            let url = url?;
            let key = if reader.given("store.url") { "store.url" } else { "store.url_file" };
            // What the store itself would say when it is opened.
            if let Err(why) = store::check_url(&url) {
                reader.problem(key, &why, "write rediss://user:password@host:6379/0, redis:// or valkey:// without TLS, or unix:///path of its socket");
                return None;
            }
            Some(store::Config::Valkey { url, ca_file })
        }
    }
}
