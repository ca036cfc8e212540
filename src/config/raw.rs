//! The configuration as written: every key there is, what kind of value it takes, and its default.
//!
//! In: nothing. Out: one table, which the reader, the check for unknown keys, the example file and its tests share.
//! Defaults are written as a user would write them, so that they are read by the same code.

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One text, number, duration, size or switch; what it must look like, the check knows.
    Plain,
    /// One text that is never shown.
    Secret,
    /// Texts.
    List,
    /// Texts that are never shown.
    Secrets,
    /// Texts by name.
    Map,
    /// Tables of texts.
    Tables,
}

impl Kind {
    /// True where a value must never be printed.
    pub(super) const fn is_secret(self) -> bool {
        matches!(self, Self::Secret | Self::Secrets)
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// `upwork.client_id`.
    pub(super) name: &'static str,
    /// What it takes.
    pub(super) kind: Kind,
    /// Its default as it would be written; `None` for none.
    pub(super) default: Option<&'static str>,
}

const fn plain(name: &'static str, default: &'static str) -> Key {
    Key { name, kind: Kind::Plain, default: Some(default) }
}

const fn unset(name: &'static str) -> Key {
    Key { name, kind: Kind::Plain, default: None }
}

const fn secret(name: &'static str) -> Key {
    Key { name, kind: Kind::Secret, default: None }
}

const fn list(name: &'static str, default: &'static str) -> Key {
    Key { name, kind: Kind::List, default: Some(default) }
}

const fn of(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, default: None }
}

/// Every key of docs/configuration.md.
pub(super) const KEYS: &[Key] = &[
    unset("public_url"),
    plain("prefix", "/upwork"),
    unset("workers"),
    plain("public.listen", "127.0.0.1:4180"),
    of("public.tls.certificates", Kind::Tables),
    plain("public.h2c", "false"),
    list("public.trusted_proxies", "[]"),
    plain("public.read_only", "false"),
    plain("public.limits.head_bytes", "64KiB"),
    plain("public.limits.head_fields", "200"),
    unset("public.limits.body_bytes"),
    plain("public.limits.connections", "10000"),
    unset("public.limits.connections_per_address"),
    plain("public.limits.sign_ins_per_address", "200"),
    plain("public.timeouts.head", "15s"),
    plain("public.timeouts.idle", "90s"),
    plain("public.timeouts.body_idle", "60s"),
    plain("public.timeouts.upgrade_idle", "1h"),
    unset("neighbour.listen"),
    list("neighbour.hosts", r#"["localhost", "127.0.0.1", "[::1]"]"#),
    plain("neighbour.mode", "0660"),
    unset("neighbour.owner"),
    secret("neighbour.secret"),
    unset("neighbour.secret_file"),
    plain("neighbour.read_only", "false"),
    plain("admin.listen", "127.0.0.1:4182"),
    unset("app.url"),
    unset("app.ca_file"),
    plain("app.host", "keep"),
    list("app.public_paths", "[]"),
    plain("app.preflight", "gate"),
    plain("app.tickets", "false"),
    plain("app.drop_authorization", "false"),
    plain("app.timeouts.connect", "5s"),
    plain("app.timeouts.first_byte", "60s"),
    plain("app.timeouts.idle", "60s"),
    unset("upwork.client_id"),
    secret("upwork.client_secret"),
    unset("upwork.client_secret_file"),
    plain("upwork.grant", "code"),
    plain("upwork.authorize_url", "https://www.upwork.com/ab/account-security/oauth2/authorize"),
    plain("upwork.token_url", "https://www.upwork.com/api/v3/oauth2/token"),
    plain("upwork.revoke_url", "https://www.upwork.com/api/v3/oauth2/token/revoke"),
    plain("upwork.graphql_url", "https://api.upwork.com/graphql"),
    plain("upwork.api_url", "https://www.upwork.com"),
    unset("upwork.issuer"),
    plain("upwork.user_agent", concat!("upwarden/", env!("CARGO_PKG_VERSION"))),
    unset("upwork.organization"),
    secret("upwork.proxy"),
    unset("upwork.proxy_file"),
    unset("upwork.ca_file"),
    plain("upwork.retry_body", "64KiB"),
    unset("upwork.implicit_identity"),
    list("access.users", "[]"),
    list("access.organizations", "[]"),
    plain("access.anyone", "false"),
    of("access.not_before", Kind::Map),
    of("session.keys", Kind::Secrets),
    of("session.key_files", Kind::List),
    unset("session.cookie"),
    plain("session.lifetime", "14d"),
    plain("session.recheck", "24h"),
    plain("store.kind", "cookie"),
    unset("store.path"),
    secret("store.url"),
    unset("store.url_file"),
    unset("store.ca_file"),
    unset("service.grant"),
    unset("service.client_id"),
    secret("service.client_secret"),
    unset("service.client_secret_file"),
    unset("service.redirect_uri"),
    unset("service.refresh_token_file"),
    plain("pace.per_second", "10"),
    plain("pace.per_minute", "300"),
    plain("pace.per_day", "40000"),
    plain("pace.wait", "10s"),
    unset("log.format"),
    plain("log.level", "info"),
    plain("drain.delay", "5s"),
    plain("drain.timeout", "25s"),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// True where keys live below this name: `app`, `public.tls`.
pub(super) fn is_group(name: &str) -> bool {
    KEYS.iter().any(|key| key.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
}

/// The known key that looks most like `name`; `None` where none does.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let likeness = |known: &str| {
        let whole = strsim::normalized_damerau_levenshtein(known, name);
        let group = |name: &str| name.rsplit_once('.').map(|(group, _)| group.to_owned());
        let floor = if group(known) == group(name) && last(known).contains(&last(name)) {
            // `upwork.secret` is `upwork.client_secret`.
            0.75
        } else if last(known) == last(name) {
            // `client_id` at the top level is `upwork.client_id` in the wrong place.
            0.7
        } else {
            0.0
        };
        whole.max(floor) + whole / 100.0
    };
    let best = KEYS.iter().map(|key| (likeness(key.name), key.name)).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

/// The group of keys that looks most like `name`; `None` where none does.
pub(super) fn nearest_group(name: &str) -> Option<&'static str> {
    let groups = KEYS.iter().flat_map(|key| key.name.match_indices('.').filter_map(|(dot, _)| key.name.get(..dot)));
    let likeness = |group: &'static str| (strsim::normalized_damerau_levenshtein(group, name), group);
    let best = groups.map(likeness).max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= 0.6).then_some(best.1)
}

/// The environment variable of a key: `UPWARDEN_UPWORK__CLIENT_ID`.
pub(super) fn variable(name: &str) -> String {
    format!("UPWARDEN_{}", name.replace('.', "__").to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_can_also_come_from_a_file() {
        for key in KEYS.iter().filter(|key| key.kind == Kind::Secret) {
            assert!(find(&format!("{}_file", key.name)).is_some(), "{}", key.name);
        }
    }

    #[test]
    fn a_slip_of_the_pen_finds_its_key() {
        assert_eq!(nearest("upwork.cleint_id"), Some("upwork.client_id"));
        assert_eq!(nearest("upwork_client_id"), Some("upwork.client_id"));
        assert_eq!(nearest("client_id"), Some("upwork.client_id"));
        assert_eq!(nearest("upwork.secret"), Some("upwork.client_secret"));
        assert_eq!(nearest("publicurl"), Some("public_url"));
        assert_eq!(nearest("session.keyfiles"), Some("session.key_files"));
        assert_eq!(nearest("zzzzzz"), None);
        assert_eq!((nearest_group("acces"), nearest_group("public.limit")), (Some("access"), Some("public.limits")));
        assert_eq!((nearest_group("applications"), nearest_group("zz")), (None, None));
    }

    #[test]
    fn no_key_is_listed_twice_and_none_is_a_group() {
        for (place, key) in KEYS.iter().enumerate() {
            assert!(!is_group(key.name), "{}", key.name);
            assert!(KEYS.iter().skip(place + 1).all(|other| other.name != key.name), "{}", key.name);
        }
    }
}
