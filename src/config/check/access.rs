//! The keys of `access` and `session`: who may sign in, the session keys, and how long sessions live.

use std::path::PathBuf;
use std::time::Duration;

use super::app::Site;
use crate::clock::Timestamp;
use crate::config::parse::{self, ValueError};
use crate::config::reader::Reader;
use crate::config::session_keys::{self, KeyError, SessionKeys};
use crate::policy::Access;
use crate::secret::Secret;
use crate::session::{self, Lifetime};

pub(super) fn access(reader: &mut Reader) -> Option<Access> {
    let users = reader.parsed_list("access.users", id);
    let organizations = reader.parsed_list("access.organizations", id);
    let anyone = reader.parsed("access.anyone", parse::switch);
    let not_before = not_before(reader);
    let (users, organizations, anyone) = (users?, organizations?, anyone?);
    let listed = !users.is_empty() || !organizations.is_empty();
    if anyone && listed {
        let why = "it admits everyone, but users or organizations are listed as well";
        reader.problem("access.anyone", why, "remove either access.anyone or the lists");
    }
    if !anyone && !listed {
        let remedy = "set who may sign in: access.users = [\"1181921839933591552\"] (user ids), access.organizations = […], \
                      or access.anyone = true for everyone with an Upwork account";
        match ["access.users", "access.organizations", "access.anyone"].into_iter().find(|key| reader.given(key)) {
            Some(key) => {
                reader.problem(key, "no one may sign in: the lists are empty and access.anyone is not true", remedy);
            }
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

/// Upwork's ids are numbers (docs/upwork.md); a name or nid instead would admit no one.
pub(super) fn id(text: &str) -> Result<String, ValueError> {
    let remedy = "write the number, such as 1181921839933591552; /upwork/auth/ and the page for users who are not \
                  admitted show it";
    parse::only(text, |byte| byte.is_ascii_digit(), "is not an id; ids are numbers", remedy)
}

fn not_before(reader: &mut Reader) -> Option<std::collections::BTreeMap<String, Timestamp>> {
    const KEY: &str = "access.not_before";
    let mut times = std::collections::BTreeMap::new();
    let entries = reader.map(KEY)?;
    let count = entries.len();
    for (user, text) in entries {
        if let Err(error) = id(&user) {
            reader.problem(KEY, format!("{} {}", parse::shown(&user), error.why), error.remedy);
        } else if let Some(time) = Timestamp::parse_rfc3339(&text) {
            times.insert(user, time);
        } else {
            let why = format!("{} for user {} is not an RFC 3339 time", parse::shown(&text), parse::shown(&user));
            reader.problem(KEY, why, "write \"2026-11-24T00:00:00Z\"");
        }
    }
    (times.len() == count).then_some(times)
}

const MAKE_A_KEY: &str = "run `upwarden key`, store the key in a file that only this user can read, and name the file in \
                          session.key_files";

pub(super) fn keys(reader: &mut Reader) -> Option<SessionKeys> {
    if !reader.given("session.keys") && !reader.given("session.key_files") {
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
    let mut errors: Vec<_> = keys.files().iter().filter_map(|path| session_keys::lines(path).err()).collect();
    if errors.is_empty() {
        errors.extend(keys.read().err());
    }
    for error in errors {
        let remedy = if matches!(error, KeyError::Duplicate { .. }) { "remove one of the two" } else { MAKE_A_KEY };
        reader.problem(key, error.to_string(), remedy);
    }
    Some(keys)
}

pub(super) fn session(reader: &mut Reader, site: Option<&Site>) -> Option<session::Config> {
    let named = reader.parsed("session.cookie", cookie);
    let idle = reader.parsed("session.lifetime", lifetime);
    let max = reader.parsed("session.max_lifetime", lifetime);
    let per_user = reader.count("session.max_per_user", 1_000_000);
    let recheck = reader.duration("session.recheck");
    let secure = site?.secure;
    // RFC 6265bis section 4.1.3: browsers accept these prefixes only with Secure.
    let prefixed = named.as_ref().is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        name.starts_with("__host-") || name.starts_with("__secure-")
    });
    if prefixed && !secure {
        let why = "browsers reject a cookie with this prefix over plain http";
        reader.problem("session.cookie", why, "use a name without __Host- or __Secure-, or an https public_url");
    }
    let hosted = |name: &String| name.to_ascii_lowercase().starts_with("__host-");
    if secure && named.as_ref().is_some_and(|name| !hosted(name)) {
        let why = "without the prefix __Host- a sibling domain can plant a cookie of this name";
        reader.problem("session.cookie", why, "use a name that begins with __Host-, or leave it out");
    }
    let default = if secure { "__Host-upwarden" } else { "upwarden" };
    let lifetime = Lifetime { idle: idle?, max };
    Some(session::Config { cookie: named.unwrap_or_else(|| default.to_owned()), secure, lifetime, per_user, recheck })
}

/// RFC 6265bis section 4.1.1: a cookie name is a token (RFC 9110 section 5.6.2).
fn cookie(text: &str) -> Result<String, ValueError> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.len() > 64 {
        return Err(ValueError::new("is too long for a cookie name", "use at most 64 characters"));
    }
    parse::only(text, token, "is not a valid cookie name", "use only letters, digits, - and _")
}

fn lifetime(text: &str) -> Result<Duration, ValueError> {
    let lifetime = parse::positive_duration(text)?;
    if lifetime < Duration::from_mins(1) {
        return Err(ValueError::new(
            "is shorter than a minute",
            "write 1m or more; Upwork's refresh tokens live for 14d",
        ));
    }
    Ok(lifetime)
}
