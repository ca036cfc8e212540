//! What each value of a key leads to.

use super::*;
use crate::config::tests::with_memory;

fn with(sets: &[&str]) -> Config {
    with_memory(None, sets).unwrap()
}

#[test]
fn what_is_probably_not_intended_is_a_warning() {
    const DOOR: &str = "neighbour.listen=127.0.0.1:4181";
    const GRANT: &str = "service.grant=client_credentials";
    const TICKETS: &str = "app.tickets=true";
    const ASSERTION: &str = "app.assertion=my-app";
    const HEADERS: &str = "app.headers={\"X-Team\":\"tools\"}";
    let table: &[(&[&str], &[&str])] = &[
        (&[], &[]),
        (&[DOOR], &["neighbour.listen"]),
        (&[DOOR, GRANT], &[]),
        (&[DOOR, TICKETS], &[]),
        (&[GRANT], &["service.grant"]),
        (&[TICKETS], &["app.tickets"]),
        (&["app.tokens=true"], &["app.tokens"]),
        (&["app.tokens=true", "store.kind=embedded", "store.path=/tmp/upwarden/x"], &[]),
        (&[ASSERTION, HEADERS], &[]),
        (
            &[ASSERTION, HEADERS, "upwork.grant=implicit", "access.users=[]", "access.anyone=true"],
            &["app.headers", "app.assertion"],
        ),
        (&[ASSERTION, "upwork.grant=implicit", "upwork.implicit_identity=accepted"], &[]),
        (&["public.trusted_proxies=0.0.0.0/0"], &["public.trusted_proxies"]),
        (&["public.trusted_proxies=10.0.0.0/8,::/0"], &["public.trusted_proxies"]),
        (&["public.trusted_proxies=10.0.0.0/8"], &[]),
        (&["public.listen=unix:/run/p.sock"], &["public.listen"]),
        (&["public.listen=unix:/run/p.sock", "public.trusted_proxies=10.0.0.1"], &["public.listen"]),
        (&["public.listen=unix:/run/p.sock", "public.trusted_proxies=unix"], &[]),
        (&["public.listen=unix:/run/p.sock", "public.trusted_proxies=unix", "public.proxy_protocol=true"], &[]),
        (&["public.limits.connections=100", "public.limits.connections_per_address=100"], &[]),
        (
            &["public.limits.connections=100", "public.limits.connections_per_address=101"],
            &["public.limits.connections_per_address"],
        ),
        (&["pace.per_second=10", "pace.per_minute=10", "pace.per_day=10"], &[]),
        (&["pace.per_minute=9"], &["pace.per_minute"]),
        (&["pace.per_day=299"], &["pace.per_day"]),
        (&["pace.per_second=301"], &["pace.per_minute"]),
    ];
    for (sets, keys) in table {
        let warnings = with(sets).warnings;
        let found: Vec<_> = warnings.iter().map(|warning| warning.key.as_str()).collect();
        assert_eq!(found, *keys, "{sets:?}");
        for warning in &warnings {
            let key = format!("--set {}", warning.key);
            let given = sets.iter().any(|set| key.ends_with(set.split('=').next().unwrap()));
            assert_eq!(warning.source.to_string(), if given { key } else { "the default".to_owned() });
        }
    }
}

#[test]
fn an_added_header_cannot_be_a_trusted_header_too() {
    let proxy = ["public.trusted_proxies=10.0.0.1", "public.trusted_headers=X-Forwarded-Groups"];
    let attempt =
        |name: &str| with_memory(None, &[&proxy[..], &[&format!("app.headers={{\"{name}\":\"{{nid}}\"}}")]].concat());
    assert_eq!(attempt("X-Forwarded-Preferred-Username").unwrap().gateway.app_headers.len(), 1);
    assert_eq!(attempt("X_Forwarded-Groups").unwrap_err().0[0].key, "app.headers");
}

#[test]
fn the_number_of_connections_follows_the_memory_unless_it_is_given() {
    let with_memory = |memory: u64, sets: &[&str]| with_memory(Some(memory), sets).unwrap();
    let small = with_memory(256 << 20, &[]);
    assert_eq!((small.server.limits.connections, small.server.unread_answers() >> 20), (2048, 128));
    assert!(small.warnings.is_empty());
    let sets = ["public.limits.connections=10000"];
    let given = with_memory(256 << 20, &sets);
    assert_eq!(given.server.limits.connections, 10_000);
    assert_eq!(given.warnings[0].key, "public.limits.connections");
    assert!(with_memory(1 << 30, &sets).warnings.is_empty());
}

#[test]
fn only_what_no_reload_replaces_needs_a_restart() {
    let running = with(&["log.level=info", "access.organizations=2"]);
    let changed = with(&[
        "app.url=http://127.0.0.1:4000",
        "prefix=/u",
        "access.users=1,2",
        "upwork.client_secret=x",
        "upwork.proxy=http://p:1",
    ]);
    assert_eq!(changed.needs_restart(&running), ["app.url", "prefix", "upwork.proxy", "log.level"]);
    assert!(running.needs_restart(&running).is_empty());
    assert!(!format!("{changed:?}").contains("secret\": \""));
}

#[test]
fn another_logo_in_the_same_file_needs_a_restart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let load = |colour: &str| {
        let svg = format!("<svg xmlns='http://www.w3.org/2000/svg' fill='{colour}'/>");
        std::fs::write(file.path(), svg).unwrap();
        with(&[&format!("pages.logo_file={}", file.path().display())])
    };
    let (running, same, changed) = (load("red"), load("red"), load("blue"));
    assert!(same.needs_restart(&running).is_empty());
    assert_eq!(changed.needs_restart(&running), ["pages.logo_file"]);
    assert!(running.files.contains(&file.path().to_owned()), "a change of it is looked for");
}

/// 108 bytes.
const LONG_PATH: &str =
    "unix:/run/upwarden/012345012345678901234567890123456789012345678901234567890123456789012345678901234567890/p.sock";
const WRONG: &[(&str, &[&str])] = &[
    ("public_url", &["tools.example.com", "http://tools.example.com", "https://tools.example.com/path"]),
    ("public_url", &["https://me:pw@tools.example.com"]),
    ("prefix", &["", "/", "upwork", "/upwork/", "//a", "/a//b", "/a b", "/%61", "/..", "/a/.", "/é"]),
    ("workers", &["0"]),
    ("public.listen", &["unix:relative.sock", "unix:", "4180", LONG_PATH]),
    ("public.mode", &["1777"]),
    ("public.owner", &["root"]),
    ("public.h2c", &["yes"]),
    (
        "public.health_path",
        &["", "healthz", "/a/../b", "/upwork/health", "/a?b", "//a", "/a/.", "/a%2Fb", "/%2e", "/%5C"],
    ),
    ("public.health_path", &["/%00", "/a#b", "/a;b", "/a\\b", "/%zz", "/%4", "/é", "/a b"]),
    ("public.tls.certificates", &["[{\"cert_file\":\"x\"}]"]),
    ("public.tls.certificates", &["[{\"cert_file\":\"/nowhere/x\",\"key_file\":\"/nowhere/y\"}]"]),
    ("public.trusted_proxies", &["10.0.0.0/8,ingress", "unix:/run/p.sock", "unix"]),
    ("public.proxy_protocol", &["v2"]),
    ("public.trusted_headers", &["X-Forwarded-Prefix", "X-Real-IP"]),
    ("public.limits.head_bytes", &["4KiB"]),
    ("public.limits.head_fields", &["-1"]),
    ("public.limits.body_bytes", &["lots"]),
    ("public.limits.connections", &["0"]),
    ("public.timeouts.head", &["15"]),
    ("public.timeouts.idle", &["0s"]),
    ("neighbour.listen", &["0.0.0.0:4181", "127.0.0.1:4180", "unix:relative.sock"]),
    ("neighbour.mode", &["0999"]),
    ("neighbour.owner", &["root"]),
    ("neighbour.hosts", &["http://a"]),
    ("neighbour.secret", &["é"]),
    ("admin.listen", &["0.0.0.0:4180"]),
    (
        "app.url",
        &["http://127.0.0.1:3000/path", "ftp://a", "127.0.0.1:3000", "unix:app.sock", "http://a:0", "http://a/?b"],
    ),
    ("app.ca_file", &["/nowhere/ca.pem"]),
    ("app.tls_name", &["", "10.0.0.1", "::1", "[::1]", "https://app", "app:443", "*.internal", "a b", "é", "app."]),
    ("app.host", &["a b", "a/b", "a@b", "a:99999", "a\r\nx"]),
    ("routes", &["/health", "[{\"public\":true}]", "[{\"path\":\"/a/../b\"}]", "[{\"path\":\"/upwork/auth\"}]"]),
    ("routes", &["[{\"path\":\"/a\",\"tls_name\":\"app.internal\"}]"]),
    ("routes", &["[{\"path\":\"/a\",\"url\":\"https://10.0.0.2\",\"tls_name\":\"10.0.0.2\"}]"]),
    ("routes", &["[{\"path\":\"/.well-known/upwarden/jwks.json\"}]"]),
    ("routes", &["[{\"path\":\"/a\",\"pubic\":true}]", "[{\"path\":\"/a\",\"url\":\"127.0.0.1:3000\"}]"]),
    ("routes", &["[{\"path\":\"/a\",\"users\":[\"ann\"]}]", "[{\"path\":\"/a\",\"users\":[]}]"]),
    ("routes", &["[{\"path\":\"/a\",\"public\":true,\"read_only\":true}]", "[{\"path\":\"/a\"},{\"path\":\"/a\"}]"]),
    ("routes", &["[{\"path\":\"/a\",\"methods\":[\"POST\"],\"read_only\":true}]"]),
    ("routes", &["[{\"path\":\"/a\",\"methods\":[\"post\"]}]", "[{\"path\":\"/a\",\"timeouts\":{\"read\":\"1s\"}}]"]),
    ("routes", &["[{\"path\":\"/a\",\"url\":\"http://127.0.0.1:4180\"}]", "[{\"path\":\"/a\",\"timeouts\":\"1s\"}]"]),
    ("pages.name", &["a\nb", "An app whose name is so long that it does not fit into one line of a page"]),
    ("pages.logo_file", &["/nowhere/logo.svg", "Cargo.toml", "/dev/zero"]),
    ("pages.support", &["http://help.example.com", "help"]),
    ("pages.accent", &["green", "#12"]),
    (
        "pages.sign_out_to",
        &["www.example.com", "http://www.example.com", "https://www.example.com/?x", "https://a/b/%2e%2e%2f"],
    ),
    ("pages.sign_out_to", &["https://www.example.com,https://a;b/", "https://me@www.example.com", "https://a/#b"]),
    ("app.preflight", &["maybe"]),
    ("app.tickets", &["1"]),
    ("app.tokens", &["yes"]),
    ("app.headers", &["X-Team", "{\"X-Team\":[\"a\"]}", "{\"X-Team\":\"\"}", "{\"X-Team\":\"é\"}", "{\"a b\":\"x\"}"]),
    ("app.headers", &["{\"X-Team\":\"{email}\"}", "{\"X-Team\":\"{nid\"}", "{\"X-Team\":\"a\",\"x_team\":\"b\"}"]),
    ("app.headers", &["{\"X-Upwork-User\":\"{nid}\"}", "{\"x_upwork_role\":\"a\"}", "{\"X-Request-Id\":\"a\"}"]),
    (
        "app.headers",
        &["{\"Host\":\"a\"}", "{\"Cookie\":\"a\"}", "{\"Authorization\":\"a\"}", "{\"Content_Length\":\"1\"}"],
    ),
    (
        "app.headers",
        &["{\"Connection\":\"a\"}", "{\"X-Forwarded-For\":\"a\"}", "{\"Forwarded\":\"a\"}", "{\"TE\":\"a\"}"],
    ),
    ("app.assertion", &["true", "false", "é"]),
    ("app.timeouts.connect", &["5 seconds"]),
    ("upwork.client_id", &["a b"]),
    ("upwork.grant", &["token"]),
    ("upwork.authorize_url", &["https://www.upwork.com/authorize?tenant=x&client_id=mine"]),
    ("upwork.token_url", &["http://mirror.example/token"]),
    ("upwork.api_url", &["https://www.upwork.com/api"]),
    ("upwork.user_agent", &["é"]),
    ("upwork.proxy", &["socks5://127.0.0.1", "https://proxy.example"]),
    ("upwork.retry_body", &["1GiB"]),
    ("upwork.implicit_identity", &["yes"]),
    ("access.users", &["[1.5]", "foofreelancer", "1181921839933591552,~01abc"]),
    ("access.organizations", &["Acme Inc"]),
    ("access.anyone", &["true"]),
    ("access.not_before", &["{\"1\":\"yesterday\"}", "{\"foofreelancer\":\"2026-11-24T00:00:00Z\"}", "1=2026"]),
    ("session.keys", &["short"]),
    ("session.cookie", &["a;b", "upwarden", "__Secure-upwarden"]),
    ("session.lifetime", &["1s"]),
    ("session.recheck", &["never"]),
    ("session.max_lifetime", &["never", "1s"]),
    ("store.kind", &["redis"]),
    ("service.grant", &["refresh_token", "password"]),
    ("pace.per_second", &["0"]),
    ("pace.wait", &["soon"]),
    ("log.format", &["xml"]),
    ("log.level", &["loud"]),
    ("log.access", &["yes", "0", "1.5", "-1"]),
    ("drain.delay", &["5", "3601s"]),
];

#[test]
fn a_plain_path_is_a_prefix_and_an_unambiguous_one_a_health_check() {
    for path in ["/upwork", "/a/b-c/d_e.f~g"] {
        assert_eq!(with(&[&format!("prefix={path}")]).router.prefix, path);
    }
    for path in ["/health", "/assets/", "/", "/a%20b", "/.well-known/x"] {
        let config = with(&[&format!("public.health_path={path}")]);
        assert_eq!(config.server.health_path.as_deref(), Some(path));
    }
}

#[test]
fn each_wrong_value_is_one_problem_of_its_own_key() {
    for (key, value) in WRONG.iter().flat_map(|(key, values)| values.iter().map(move |value| (key, value))) {
        let problems = with_memory(None, &[&format!("{key}={value}")]).unwrap_err().0;
        assert_eq!(problems.len(), 1, "{key}={value}: {problems:?}");
        assert_eq!((problems[0].key.as_str(), problems[0].source.to_string()), (*key, format!("--set {key}")));
        assert!(problems[0].why.len() > 10 && problems[0].remedy.len() > 10, "{problems:?}");
    }
}
