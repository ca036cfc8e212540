//! The configuration as a whole.

use std::path::Path;

use proptest::prelude::*;

use super::schema::Kind;
use super::*;
use crate::listener::{Address, Owner};
use crate::oauth::{Grant, ServiceGrant};
use crate::proxy::{HostPolicy, Upstream};
use crate::telemetry;

const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
const VALKEY: [&str; 2] = ["store.kind=valkey", "store.url=valkeys+sentinel://me:pw@x,y:26379/main"];
const LEAST: &[(&str, &str)] = &[
    ("UPWARDEN_PUBLIC_URL", "https://tools.example.com"),
    ("UPWARDEN_APP__URL", "http://127.0.0.1:3000"),
    ("UPWARDEN_UPWORK__CLIENT_ID", "0123456789abcdef0123456789abcdef"),
    ("UPWARDEN_UPWORK__CLIENT_SECRET", "0123456789012345"),
    ("UPWARDEN_SESSION__KEYS", KEY),
    ("UPWARDEN_ACCESS__USERS", "1181921839933591552"),
];

fn sources(env: &[(&str, &str)]) -> Sources {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { env, ..Sources::default() }
}

/// The smallest valid configuration, with these settings on top.
fn with(sets: &[&str]) -> Result<Config, Problems> {
    with_memory(None, sets)
}

pub(super) fn with_memory(memory: Option<u64>, sets: &[&str]) -> Result<Config, Problems> {
    load(&Sources { sets: sets.iter().map(|set| (*set).to_owned()).collect(), memory, ..sources(LEAST) })
}

fn keys(outcome: Result<Config, Problems>) -> Vec<String> {
    outcome.err().map(|problems| problems.0.into_iter().map(|problem| problem.key).collect()).unwrap_or_default()
}

#[test]
fn the_environment_alone_is_enough_and_the_defaults_apply() {
    let config = load(&sources(LEAST)).unwrap();
    assert_eq!(config.gateway.public.url, "https://tools.example.com");
    assert_eq!(config.router.prefix, "/upwork");
    assert_eq!(config.oauth.redirect_uri, "https://tools.example.com/upwork/auth/callback");
    assert_eq!(config.oauth.client_secret.load().expose(), "0123456789012345");
    assert_eq!(config.oauth.token_url.as_str(), "https://www.upwork.com/api/v3/oauth2/token");
    assert_eq!(config.oauth.grant, Grant::Code);
    assert_eq!(config.oauth.outbound.user_agent, concat!("upwarden/", env!("CARGO_PKG_VERSION")));
    assert_eq!(config.access.users.iter().collect::<Vec<_>>(), ["1181921839933591552"]);
    assert_eq!(config.session.cookie, "__Host-upwarden");
    let pace = config.broker.pace;
    assert_eq!((pace.per_second, pace.per_minute, pace.per_day, pace.wait.as_secs()), (10, 300, 40_000, 10));
    assert_eq!(config.broker.retry_body, 64 << 10);
    let limits = &config.server.limits;
    assert_eq!((limits.head_bytes, limits.head_fields, limits.connections), (64 << 10, 200, 10_000));
    assert_eq!((limits.body_bytes, limits.connections_per_address), (None, None));
    let timeouts = [limits.head_timeout, limits.idle_timeout, limits.body_idle_timeout, limits.upgrade_idle_timeout];
    assert_eq!(timeouts.map(|timeout| timeout.as_secs()), [15, 90, 60, 3600]);
    assert_eq!(config.gateway.neighbour.hosts, ["localhost", "127.0.0.1", "[::1]"]);
    assert_eq!(config.server.public, Address::Tcp("127.0.0.1:4180".parse().unwrap()));
    assert_eq!(config.server.admin, Address::Tcp("127.0.0.1:4182".parse().unwrap()));
    assert!(config.server.neighbour.is_none() && config.service.is_none());
    assert!((1..=4).contains(&config.server.workers));
    assert_eq!(config.telemetry.format, telemetry::Format::Json);
    let terminal = load(&Sources { terminal: true, ..sources(LEAST) }).unwrap();
    assert_eq!(terminal.telemetry.format, telemetry::Format::Text);
}

#[test]
fn every_missing_key_is_reported_at_once() {
    let found = keys(load(&Sources::default()));
    let wanted = ["public_url", "app.url", "access.users", "upwork.client_id", "upwork.client_secret", "session.keys"];
    assert_eq!(found, wanted);
}

#[test]
fn rules_across_keys_hold() {
    let table: &[(&[&str], &str)] = &[
        (&["upwork.grant=implicit"], "upwork.implicit_identity"),
        (&["store.kind=embedded"], "store.path"),
        (&["store.kind=valkey"], "store.url"),
        (&["store.path=/x"], "store.kind"),
        (&["store.kind=valkey", "store.url=http://x"], "store.url"),
        (&["store.kind=valkey", "store.url=redis://x/one"], "store.url"),
        (&["store.kind=valkey", "store.url=rediss://x#insecure"], "store.url"),
        (&[VALKEY[0], VALKEY[1], "store.cert_file=/x"], "store.key_file"),
        (&[VALKEY[0], VALKEY[1], "store.key_file=/x"], "store.cert_file"),
        (&[VALKEY[0], VALKEY[1], "store.cert_file=/x", "store.key_file=/x"], "store.cert_file"),
        (&["service.client_id=other"], "service.grant"),
        (&["service.grant=client_credentials", "service.client_id=other"], "service.client_secret"),
        (&["service.grant=client_credentials", "service.refresh_token_file=x"], "service.refresh_token_file"),
        (&["public_url=http://localhost:4180", "session.cookie=__Host-x"], "session.cookie"),
        (&["app.url=unix:/run/app.sock", "app.host=app"], "app.host"),
        (&["app.url=unix:/run/app.sock", "app.tls_name=app.internal"], "app.tls_name"),
        (&["app.url=http://10.0.0.9", "app.tls_name=app.internal"], "app.tls_name"),
        (&["public.proxy_protocol=true"], "public.proxy_protocol"),
        (
            &["public.proxy_protocol=true", "public.listen=unix:/run/p.sock", "public.trusted_proxies=10.0.0.1"],
            "public.proxy_protocol",
        ),
        (&["app.url=unix:/run/p.sock", "public.listen=unix:/run//p.sock"], "app.url"),
        (&["neighbour.listen=unix:/run/p.sock", "public.listen=unix:/run/p.sock"], "neighbour.listen"),
        (&["upwork.client_secret=a", "upwork.client_secret_file=/b"], "upwork.client_secret"),
        (&["session.keys=[]"], "session.keys"),
        (&[&format!("session.keys={KEY},{KEY}")], "session.keys"),
        (&["session.key_files=/nowhere/key"], "session.key_files"),
        (&["access.users="], "access.users"),
        (&["app.url="], "app.url"),
        (&["app.url=http://127.0.0.1:4180"], "app.url"),
        (&["app.url=http://LOCALHOST:4182"], "app.url"),
        (&["app.url=https://[::1]:7000", "public.listen=[::]:7000"], "app.url"),
        (&["app.url=http://10.0.0.9:7000", "public.listen=10.0.0.9:7000"], "app.url"),
        (&["app.url=http://0.0.0.0:4180"], "app.url"),
        (&["app.url=http://127.0.0.1:80", "neighbour.listen=127.0.0.1:80"], "app.url"),
        (&["app.url=unix:/run/n.sock", "neighbour.listen=unix:/run/n.sock"], "app.url"),
    ];
    for (sets, key) in table {
        assert_eq!(keys(with(sets)), [*key], "{sets:?}");
    }
    for sets in [
        &["upwork.grant=implicit", "upwork.implicit_identity=accepted"][..],
        &["upwork.grant=implicit", "access.users=[]", "access.anyone=true"],
        &["store.kind=embedded", "store.path=/x", "service.grant=refresh_token"],
        &["store.kind=valkey", "store.url=rediss://me:pw@x:6379/0"],
        &VALKEY,
        &["store.kind=valkey", "store.url=unix:///run/valkey.sock"],
        &["neighbour.listen=0.0.0.0:4181", "neighbour.secret=long enough"],
        &["public_url=http://LOCALHOST:80/"],
        &["app.url=http://10.0.0.9:4180", "public.listen=10.0.0.8:4180", "drain.delay=1h"],
    ] {
        assert!(with(sets).is_ok(), "{sets:?}: {:?}", with(sets));
    }
}

#[test]
fn urls_and_names_are_normalized() {
    let config = with(&["public_url=HTTPS://Tools.Example.COM:443/"]).unwrap();
    assert_eq!(config.gateway.public.url, "https://tools.example.com");
    let config =
        with(&["public_url=http://localhost:4180", "neighbour.listen=unix:/run/n.sock", "neighbour.mode=0600"])
            .unwrap();
    assert_eq!((config.session.cookie.as_str(), config.session.secure), ("upwarden", false));
    assert_eq!(config.server.neighbour, Some(Address::Unix { path: "/run/n.sock".into(), mode: 0o600, owner: None }));
    assert_eq!(config.gateway.neighbour.address.as_deref(), Some("unix:/run/n.sock"));
    let config = with(&["public.listen=unix:/run/p.sock", "public.mode=0600", "public.owner=:7"]).unwrap();
    let owner = Some(Owner { key: "public.owner", user: None, group: Some(7) });
    assert_eq!(config.server.public, Address::Unix { path: "/run/p.sock".into(), mode: 0o600, owner });
    let tcp = |host: &str, port, tls| Upstream::Tcp { host: host.to_owned(), port, tls };
    let app = |set: &str| with(&["app.url=https://App.Internal/", set]).unwrap().app;
    assert_eq!(app("app.url=http://127.0.0.1:3000").upstream, tcp("127.0.0.1", 3000, false));
    assert_eq!(app("app.url=http://[::1]:80").upstream, tcp("[::1]", 80, false));
    assert_eq!(app("app.url=unix:/run/app.sock").upstream, Upstream::Unix("/run/app.sock".into()));
    let named = app("app.tls_name=App.Internal");
    assert_eq!((named.upstream, named.tls_name.as_deref()), (tcp("app.internal", 443, true), Some("app.internal")));
    assert_eq!(app("app.host=Intranet.Example:8080").host, HostPolicy::Fixed("intranet.example:8080".to_owned()));
    let config = with(&["service.grant=client_credentials"]).unwrap().service.unwrap();
    assert_eq!(
        (config.grant, config.client_secret.load().expose()),
        (ServiceGrant::ClientCredentials, "0123456789012345")
    );
}

#[test]
fn the_proxy_of_the_environment_is_used_for_https_only() {
    let mut env = LEAST.to_vec();
    env.push(("HTTPS_PROXY", "proxy.example:3128"));
    let proxy = |env: &[(&str, &str)]| load(&sources(env)).unwrap().oauth.outbound.proxy.map(String::from);
    assert_eq!(proxy(&env).as_deref(), Some("http://proxy.example:3128/"));
    env.extend([
        ("UPWARDEN_UPWORK__TOKEN_URL", "http://127.0.0.1:4183/token"),
        ("UPWARDEN_UPWORK__GRAPHQL_URL", "http://127.0.0.1:4183/graphql"),
    ]);
    assert_eq!(proxy(&env), None);
    env.push(("UPWARDEN_UPWORK__PROXY", "http://other.example:1"));
    assert_eq!(proxy(&env).as_deref(), Some("http://other.example:1/"));
}

#[test]
fn a_secret_from_a_file_loses_one_line_break_and_the_later_layer_wins() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let path = secret.to_str().unwrap();
    let set = format!("upwork.client_secret_file={path}");
    for (content, wanted) in [("a b", "a b"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a ")] {
        std::fs::write(&secret, content).unwrap();
        // The environment's client_secret is given as well; --set stands above it.
        assert_eq!(with(&[&set]).unwrap().oauth.client_secret.load().expose(), wanted);
    }
    let file = folder.path().join("u.toml");
    std::fs::write(&file, format!("upwork.client_secret_file = '{path}'\n")).unwrap();
    let config = load(&Sources { file: Some(file), ..sources(LEAST) }).unwrap();
    assert_eq!(config.oauth.client_secret.load().expose(), "0123456789012345");
    for (content, why) in [("", "is empty"), ("\n", "is empty")] {
        std::fs::write(&secret, content).unwrap();
        let problems = with(&[&set]).unwrap_err().0;
        assert_eq!(problems[0].key, "upwork.client_secret_file");
        assert!(problems[0].why.contains(path) && problems[0].why.contains(why), "{problems:?}");
    }
    std::fs::remove_file(&secret).unwrap();
    assert!(with(&[&set]).unwrap_err().0[0].why.contains("cannot be read"));
}

#[test]
fn problems_in_the_file_have_their_line_and_ids_stay_exact() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.toml");
    let text = "app.url = 5\n\n[access]\nusers = [1181921839933591552]\n[pace]\nwait = 10\n";
    std::fs::write(&path, text).unwrap();
    let env: Vec<_> =
        LEAST.iter().copied().filter(|(name, _)| !name.contains("APP__") && !name.contains("USERS")).collect();
    let problems = load(&Sources { file: Some(path.clone()), ..sources(&env) }).unwrap_err().0;
    let found: Vec<_> = problems.iter().map(|problem| (problem.key.clone(), problem.source.to_string())).collect();
    let at = |line: u32| format!("{}:{line}", path.display());
    assert_eq!(found, [("app.url".to_owned(), at(1)), ("pace.wait".to_owned(), at(6))]);
    std::fs::write(&path, text.replace("= 5", "= 'http://a'").replace("= 10", "= '10s'")).unwrap();
    let config = load(&Sources { file: Some(path), ..sources(&env) }).unwrap();
    assert!(config.access.users.contains("1181921839933591552"));
}

#[test]
fn an_unknown_table_is_reported_with_the_nearest_known_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.toml");
    for (table, remedy) in [("acces", "did you mean [access]?"), ("public.limit", "did you mean [public.limits]?")] {
        std::fs::write(&path, format!("[{table}]\nusers = ['1']\n")).unwrap();
        let problems = load(&Sources { file: Some(path.clone()), ..sources(LEAST) }).unwrap_err().0;
        assert_eq!((problems.len(), problems[0].key.as_str()), (1, table), "{problems:?}");
        assert!(problems[0].remedy.contains(remedy), "{problems:?}");
    }
}

#[test]
fn unusable_certificates_are_reported_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (one, other) = (made("one.example"), made("other.example"));
    let (cert, key) = (file("cert", &one.cert.pem()), file("key", &one.signing_key.serialize_pem()));
    let (others, text) = (file("others", &other.signing_key.serialize_pem()), file("text", "no PEM\n"));
    let table = [
        ("/nowhere/cert", key.as_str(), "No such file"),
        (&cert, "/nowhere/key", "No such file"),
        (&text, &key, "contains no certificate"),
        (&cert, &text, "no items found"),
        (&cert, &others, "does not belong to the certificate"),
    ];
    for (cert, key, why) in table {
        let set = format!("public.tls.certificates=[{{\"cert_file\":\"{cert}\",\"key_file\":\"{key}\"}}]");
        let problems = with(&[&set]).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].why.contains(why), "{why}: {problems:?}");
    }
    let set = format!("public.tls.certificates=[{{\"cert_file\":\"{cert}\",\"key_file\":\"{key}\"}}]");
    assert!(with(&[&set]).is_ok());
}

#[test]
fn keys_that_an_unreadable_file_may_set_are_not_reported_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("u.toml");
    for content in [None, Some(&b"app.url = \n"[..]), Some(b"\xff")] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let given = Sources { file: Some(path.clone()), ..sources(&[("UPWARDEN_LOG__LEVEL", "loud")]) };
        assert_eq!(keys(load(&given)), [file::WHOLE, "log.level"]);
    }
}

#[test]
fn no_secret_is_ever_shown() {
    let secret = "73317331733173317331";
    let table = [
        format!("session.keys={secret}"),
        format!("session.keys=[{secret}"),
        format!("store.url={secret}"),
        format!("upwork.proxy=ftp://a:{secret}@b"),
        format!("app.url=http://me:{secret}@127.0.0.1"),
        format!("public_url=https://me:{secret}@a.example"),
        format!("upwork.token_url=ftp://me:{secret}@a.example"),
        format!("upwork.cleint_secret={secret}"),
        secret.to_owned(),
    ];
    for set in table {
        let problems = with(&[&set, "store.kind=valkey"]).unwrap_err();
        assert!(!format!("{problems}{problems:?}").contains(secret), "{problems}");
    }
    let config = with(&[&format!("upwork.client_secret={secret}"), &format!("neighbour.secret={secret}")]).unwrap();
    assert_eq!(config.oauth.client_secret.load().expose(), secret);
    assert!(!format!("{config:?}").contains(secret));
}

#[test]
fn the_admin_address_is_found_in_a_broken_configuration() {
    let of = |env: &[(&str, &str)]| admin_address(&sources(env)).map(|address| address.to_string());
    assert_eq!(of(&[("UPWARDEN_APP__URL", "?")]).unwrap(), "127.0.0.1:4182");
    assert_eq!(of(&[("UPWARDEN_ADMIN__LISTEN", "0.0.0.0:1")]).unwrap(), "0.0.0.0:1");
    assert!(of(&[("UPWARDEN_ADMIN__LISTEN", "x")]).is_err());
    assert!(admin_address(&Sources { file: Some("/nowhere".into()), ..Sources::default() }).is_err());
}

#[test]
fn the_example_loads_once_its_secrets_are_given() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let example = |env: &[(&str, &str)]| load(&Sources { file: Some(path.clone()), ..sources(env) });
    let config = example(&[("UPWARDEN_UPWORK__CLIENT_SECRET", "x"), ("UPWARDEN_SESSION__KEYS", KEY)]);
    assert!(config.is_ok(), "{}", config.unwrap_err());
    assert_eq!(keys(example(&[])), ["upwork.client_secret", "session.keys"]);
}

#[test]
fn every_key_is_read() {
    for key in schema::KEYS {
        // No key accepts it: an empty text, or a list that does not end.
        let value = if matches!(key.kind, Kind::List | Kind::Secrets) { "[" } else { "" };
        let found = keys(with(&[&format!("{}={value}", key.name)]));
        assert!(found.iter().any(|found| found == key.name), "{}: {found:?}", key.name);
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        value in "\\PC{0,40}",
        place in 0..schema::KEYS.len(),
    ) {
        let key = schema::KEYS[place].name;
        let mut problems = Vec::new();
        file::parse(Path::new("u.toml"), &bytes, &mut problems);
        file::parse(Path::new("u.toml"), format!("{key} = {value}").as_bytes(), &mut problems);
        let mut given = sources(LEAST);
        // No arbitrary path is read here.
        if !key.ends_with("_file") && !key.ends_with("_files") && !key.contains("certificates") {
            given.env.push((schema::variable(key), value.clone()));
        }
        given.env.push((format!("UPWARDEN_{value}"), value.clone()));
        given.sets.push(value);
        let outcome = load(&given);
        prop_assert!(outcome.is_err_and(|problems| !problems.0.is_empty() && !problems.to_string().is_empty()));
    }

    #[test]
    fn no_value_of_a_known_key_makes_it_panic(entries in proptest::collection::vec((0..schema::KEYS.len(), 0..9_usize), 0..12)) {
        let values = ["1", "\"\"", "[]", "{}", "[[1]]", "[{a=1}]", "true", "1.5", "{a.b=[1]}"];
        let lines: Vec<_> = entries.iter().map(|(key, value)| format!("{} = {}", schema::KEYS[*key].name, values[*value])).collect();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("u.toml");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let outcome = load(&Sources { file: Some(path), ..Sources::default() });
        prop_assert!(outcome.is_err());
    }
}
