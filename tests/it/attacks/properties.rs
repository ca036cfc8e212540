//! What must hold for any input, one function per parser. The ordinary test run calls them with proptest, and the targets
//! in `fuzz/` with libFuzzer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::LazyLock;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, TE, TRAILER, UPGRADE, VIA};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use upwarden::config::{self, Sources};
use upwarden::testing::broker::ApiTarget;
use upwarden::testing::clock::Timestamp;
use upwarden::testing::cookies::{Jar, RequestCookies};
use upwarden::testing::fields::{Fields, Line};
use upwarden::testing::oauth::{
    Authorization, Callback, CallbackError, Client, Login, LoginCookies, Response, State, TokenError, TokenGrant,
    TokenRequest,
};
use upwarden::testing::policy::{AppRoute, Routes};
use upwarden::testing::proxy::{ApiHeaders, AppHeaders, Claims, Origin, Trust, Via};
use upwarden::testing::router::{self, AuthPath, ReturnTo, Route};
use upwarden::testing::seal::{Key, Keyring, Purpose, SharedKeyring};
use upwarden::testing::secret::Secret;
use url::Url;

pub(crate) const PREFIX: &str = "/upwork";
pub(crate) const BASE: &str = "https://tools.example.com/upwork/auth/callback?code=x";
/// A text that looks like a token and must never appear in an error.
pub(crate) const TOKEN: &str = "oauth2v2_0123456789abcdef0123456789abcdef";

/// A key ring for all properties; its key is not a secret.
pub(crate) static RING: LazyLock<Keyring> = LazyLock::new(|| {
    let key = Key::parse(&Secret::new("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8")).expect("32 bytes");
    Keyring::new(vec![key]).expect("a key")
});

fn login_cookies(session_cookie: &str, secure: bool) -> LoginCookies {
    LoginCookies::new(session_cookie, secure, SharedKeyring::new(RING.clone()))
}

/// The lines `name: value` that are valid fields.
pub(crate) fn fields(bytes: &[u8]) -> Fields {
    let mut headers = Fields::default();
    for line in bytes.split(|byte| *byte == b'\n').take(300) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(value)) = (parts.next(), parts.next()) else { continue };
        let field = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.trim_ascii()));
        if let (Ok(name), Ok(value)) = field {
            headers.append(name, value);
        }
    }
    headers
}

/// Any `Cookie` lines: nothing opens, everything is bounded, and no other cookie is touched.
pub(crate) fn cookie(bytes: &[u8]) {
    let mut headers = Fields::default();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(COOKIE, value);
        }
    }
    for (name, secure) in [("upwarden", false), ("__Host-upwarden", true)] {
        let jar = Jar::new(name, secure);
        let cookies = RequestCookies::parse(&headers, |_| true);
        let shown = cookies.iter().filter(|(shown, _)| *shown == name).count();
        let found = jar.candidates(&cookies);
        assert!(found.len() <= shown + 512, "{} candidates of {shown} cookies", found.len());
        assert!(found.iter().all(|value| value.len() <= 5 * 4096));
        assert!(found.iter().all(|value| RING.open(Purpose::Session, value).is_none()));
        for line in jar.clear(&cookies) {
            let line = line.to_str().expect("our own lines are ASCII");
            assert!(line.split('=').next().is_some_and(|name| jar.owns(name)) && line.contains("Max-Age=0"), "{line}");
        }
        let now = Timestamp::from_seconds(0);
        assert!(login_cookies(name, secure).open(&cookies, now).pending.is_empty());
    }
}

/// A value of any length comes back whole among a browser's other cookies, or is refused at once.
pub(crate) fn cookie_round_trip(length: usize, others: &str) {
    let jar = Jar::new("__Host-upwarden", true);
    let value: String = ('a'..='z').cycle().take(length).collect();
    let others: String = others.chars().filter(|c| !c.is_control() && *c != '_').collect();
    let Ok(lines) = jar.set(&value, Duration::from_mins(1), &RequestCookies::default()) else {
        assert!(length > 19_000, "{length} bytes are refused");
        return;
    };
    let mut sent = vec![others.clone()];
    for line in &lines {
        let line = line.to_str().expect("our own lines are ASCII");
        assert!(line.ends_with("; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=60"), "{line}");
        let pair = line.split(';').next().expect("a pair");
        assert!(pair.len() <= 4097 && lines.len() <= 5, "name, = and value: {}", pair.len());
        sent.push(pair.to_owned());
    }
    sent.push(others);
    let mut headers = Fields::default();
    headers.insert(COOKIE, HeaderValue::from_str(&sent.join("; ")).expect("no control characters"));
    assert_eq!(jar.candidates(&RequestCookies::parse(&headers, |_| true)), [value]);
}

/// A sign-in as it began: the ring's `state` for a query, and the request field with its cookie.
pub(crate) fn sign_in() -> (String, RequestCookies) {
    let config = upwarden::testing::oauth::Config {
        client_id: "c".to_owned(),
        client_secret: Secret::new("s").into(),
        grant: upwarden::testing::oauth::Grant::Code,
        authorize_url: Url::parse("https://upwork.example/authorize").expect("a URL"),
        token_url: Url::parse("https://upwork.example/token").expect("a URL"),
        revoke_url: Url::parse("https://upwork.example/revoke").expect("a URL"),
        graphql_url: Url::parse("https://upwork.example/graphql").expect("a URL"),
        issuer: None,
        redirect_uri: BASE.to_owned(),
        implicit_identity: false,
        outbound: upwarden::testing::oauth::Outbound::default(),
    };
    let now = Timestamp::from_seconds(1000);
    let request = Login::begin(&config, &RING, &ReturnTo::home(), 0, now).expect("random bytes");
    let url = Url::parse(&request.url).expect("a URL");
    let state = url.query_pairs().find(|(name, _)| name == "state").expect("a state").1.into_owned();
    let cookie = HeaderValue::from_str(&format!("upwarden-login-1={}", request.cookie)).expect("ASCII");
    (state, RequestCookies::parse(&[(COOKIE, cookie)].into_iter().collect(), |_| true))
}

/// A callback's query yields no code without this browser's own state, given once.
pub(crate) fn callback(text: &str) {
    static SIGN_IN: LazyLock<(String, RequestCookies)> = LazyLock::new(sign_in);
    let (state, cookies) = &*SIGN_IN;
    let now = Timestamp::from_seconds(1001);
    let browser = login_cookies("upwarden", false).open(cookies, now);
    assert!(browser.pending.len() == 1 && browser.any_cookie);
    let verify = |text: &str| {
        let callback = Callback::parse(text)?;
        let state = callback.state(&RING);
        callback.verify(state.as_ref(), &browser, None, now).map(|verified| verified.outcome)
    };
    if Callback::parse(text).is_ok() {
        assert!(!text.contains(state.as_str()), "guessed");
        let unknown = matches!(verify(text), Err(CallbackError::BadState(_) | CallbackError::DeniedWithoutState(_)));
        assert!(unknown, "{text:?} is no sign-in of this browser");
    }
    // The same after a valid state, compared with what another parser reads.
    let whole = format!("state={state}&{text}");
    let value_of = |name: &str| -> Vec<String> {
        let pairs = url::form_urlencoded::parse(whole.as_bytes());
        pairs.filter(|(known, _)| known == name).map(|(_, value)| value.into_owned()).collect()
    };
    if let Ok(Ok(authorization)) = verify(&whole) {
        assert_eq!(value_of("state").iter().filter(|value| !value.is_empty()).count(), 1, "{text:?}");
        assert!(value_of("error").iter().all(String::is_empty), "{text:?}");
        let brings = if matches!(authorization, Authorization::Code(_)) { "code" } else { "access_token" };
        assert_eq!(value_of(brings).iter().filter(|value| !value.is_empty()).count(), 1, "{text:?}");
        let shown = format!("{authorization:?}");
        assert!(value_of(brings).iter().all(|value| value.len() < 20 || !shown.contains(value.as_str())), "{shown}");
    }
    assert!(State::open(&RING, text).is_none() && Login::open(&RING, text, now).is_none());
}

/// Where a return address leads in a browser; `None` if it is refused.
pub(crate) fn return_to(text: &str) -> Option<Url> {
    let place = ReturnTo::parse(text, PREFIX)?;
    let place = place.as_str();
    assert!(place.len() <= router::MAX_LENGTH && place.bytes().all(|byte| byte.is_ascii_graphic()));
    assert!(place.starts_with('/') && !place.starts_with("//") && !place.contains('\\'), "{text:?} → {place:?}");
    let base = Url::parse(BASE).expect("a URL");
    let there = base.join(place).expect("what was accepted can be read");
    stays(text, &there);
    assert_eq!(&there[url::Position::BeforePath..], place, "{text:?}");
    assert_eq!(ReturnTo::parse(place, PREFIX).as_ref().map(ReturnTo::as_str), Some(place), "{text:?}");
    Some(there)
}

/// The address is on our origin and neither begins nor ends a sign-in.
pub(crate) fn stays(text: &str, there: &Url) {
    assert_eq!(there.origin().ascii_serialization(), "https://tools.example.com", "{text:?}");
    let config = router::Config { prefix: PREFIX.to_owned(), jwks: true };
    let route = router::route(&config, there.path());
    let harmless = matches!(route, Route::App | Route::Auth(AuthPath::Account));
    assert!(harmless, "{text:?} → {there} is {route:?}");
}

/// The name as read by servers that treat several characters as the same.
fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

/// A client's fields on their way to the app and to Upwork: no field of ours, no hop-by-hop field, no cookie of ours.
pub(crate) fn headers(bytes: &[u8]) {
    let client = fields(bytes);
    let jar = Jar::new("upwarden", false);
    let logins = login_cookies("upwarden", false);
    let owns = |name: &str| jar.owns(name) || logins.owns(name);
    let named: BTreeSet<String> = client
        .get_all(CONNECTION)
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let app = AppHeaders::from_client(client.clone(), &RequestCookies::parse(&client, owns));
    for Line { name, value, .. } in app.lines() {
        let known = folded(name.as_str());
        let ours = ["user-id", "user", "user-name", "organization-id", "ticket"]
            .iter()
            .any(|end| known == format!("x-upwork-{end}"))
            || ["x-forwarded-user", "x-request-id", "x-upwarden-secret", "x-original-url", "x-rewrite-url"]
                .contains(&known.as_str());
        assert!(!ours, "{name} is forwarded");
        match name {
            name if name == TE => assert_eq!(value, "trailers"),
            name if name == CONNECTION => assert!(value == "TE" || value == "upgrade", "{value:?}"),
            name if name == UPGRADE => assert!(client.get_all(UPGRADE).any(|asked| asked == value)),
            name => {
                let hop = ["keep-alive", "proxy-connection", "proxy-authorization", "transfer-encoding"];
                assert!(!hop.contains(&name.as_str()), "{name} is forwarded");
                assert!(
                    name == HOST || name == TRAILER || !named.contains(name.as_str()),
                    "{name} was listed in Connection"
                );
                assert!(name == COOKIE || client.get_all(name).any(|sent| sent == value), "{name} is new");
            }
        }
    }
    assert!(RequestCookies::parse(&sent(&app).into(), owns).is_empty(), "a cookie of ours is forwarded");
    let agent = HeaderValue::from_static("agent");
    let api = ApiHeaders::from_caller(client, &agent, None);
    let never = [AUTHORIZATION, COOKIE, HOST, CONNECTION];
    assert!(api.lines().all(|line| !never.contains(line.name) && !line.name.as_str().contains("forwarded")));
}

fn sent(headers: &AppHeaders) -> HeaderMap {
    headers.lines().map(|line| (line.name.clone(), line.value.clone())).collect()
}

/// What an untrusted client claims about addresses reaches no one; what a trusted proxy claims breaks nothing.
pub(crate) fn forwarded(bytes: &[u8]) {
    let client = fields(bytes);
    let trust = Trust::new("https://tools.example.com", vec!["10.0.0.0/8".parse().expect("a network")]);
    let peers: [(IpAddr, bool); 2] = [([192, 0, 2, 7].into(), false), ([10, 0, 0, 1].into(), true)];
    for (peer, believed) in peers {
        let origin = Origin::find(Some(peer), true, &client, &trust);
        assert_eq!(origin.trusted, believed);
        let mut told = AppHeaders::from_client(client.clone(), &RequestCookies::default());
        origin.write_to(&mut told, &Claims::read(&client));
        told.set(VIA, Via::new(1).field(&client, http::Version::HTTP_11));
        let told = sent(&told);
        let via = told.get_all("via").iter().count();
        assert_eq!((told.get_all("x-forwarded-proto").iter().count(), via), (1, 1));
        let ours =
            ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded"];
        for (name, value) in &told {
            let folded = folded(name.as_str());
            let claim = folded.starts_with("x-forwarded-") || folded == "forwarded" || folded == "x-real-ip";
            assert!(!claim || ours.contains(&name.as_str()), "{name}: {value:?} is a stranger's");
        }
        if believed {
            continue;
        }
        assert_eq!((origin.client, origin.https), (Some(peer), true));
        assert_eq!(told.get("x-real-ip").expect("ours"), "192.0.2.7");
        assert_eq!(told.get("x-forwarded-for").expect("ours"), "192.0.2.7");
    }
}

/// The path as the most careless chain of servers could read it: fully decoded, backslashes as slashes, parameters removed,
/// empty and dot segments resolved, in lower case.
pub(crate) fn careless(path: &str) -> String {
    let mut reading = path.to_owned();
    for _ in 0..10 {
        let next = percent_decoded(&reading);
        if next == reading {
            break;
        }
        reading = next;
    }
    let mut segments: Vec<String> = Vec::new();
    for segment in reading.replace('\\', "/").split('/') {
        let segment = segment.split(['\0', ';']).next().unwrap_or_default().trim().to_ascii_lowercase();
        match segment.as_str() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn percent_decoded(text: &str) -> String {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        let digits = more.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.filter(|digits| *first == b'%' && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            decoded.push(byte);
            rest = more.get(2..).unwrap_or_default();
        } else {
            decoded.push(*first);
            rest = more;
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A path: every server behind us would read it as the router does, or it is neither ours nor public.
pub(crate) fn route(path: &str) {
    let config = router::Config { prefix: PREFIX.to_owned(), jwks: true };
    let reading = careless(path);
    let route = router::route(&config, path);
    match route {
        Route::App => app_route(path, &reading),
        Route::Api => {
            assert_eq!(format!("{PREFIX}{}", config.below_prefix(path)), path);
            assert!(!router::is_ambiguous(path) && reading.starts_with("/upwork/api"), "{path:?}");
        }
        Route::Graphql | Route::Auth(_) => {
            assert!(path.starts_with("/upwork/") || ["/upwork", "/upwork/auth"].contains(&path));
        }
        Route::Unknown | Route::Ambiguous => {}
    }
    if let Ok(target) = ApiTarget::parse(route, config.below_prefix(path), Some("q=%2e"), "/graphql", &[]) {
        let expected =
            if route == Route::Graphql { "/graphql" } else { path.strip_prefix(PREFIX).expect("the prefix") };
        assert_eq!(target.path_and_query().as_str(), format!("{expected}?q=%2e"));
        let version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
        let is_oauth = |segment: &str| segment.strip_prefix("oauth").is_some_and(version);
        assert!(!reading.split('/').any(is_oauth), "{path:?} reaches {reading:?}");
    }
}

/// A path of the app: a public route is read alike by everyone, and none leads past a route that restricts.
fn app_route(path: &str, reading: &str) {
    let is_below = |reading: &str, place: &str| {
        reading.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let public = |path: &str| AppRoute { path: path.to_owned(), public: true, ..AppRoute::last() };
    let open = Routes::new(vec![public("/health"), public("/assets/")]);
    if open.find("GET", path).is_some_and(|route| route.public) {
        let stays = ["/health", "/assets"].iter().any(|public| is_below(reading, public));
        assert!(!router::is_ambiguous(path) && stays, "{path:?} is public and may be read as {reading:?}");
    }
    let admin = AppRoute { path: "/admin".to_owned(), read_only: true, ..AppRoute::last() };
    if Routes::new(vec![admin]).find("GET", path).is_some_and(|route| !route.read_only) {
        let admin = is_below(&reading.to_ascii_lowercase(), "/admin");
        assert!(!admin, "{path:?} is not restricted and may be read as {reading:?}");
    }
}

/// A configuration file is read or refused, and neither result prints the secret.
pub(crate) fn config(file: &std::path::Path, text: &[u8], set: &str) {
    std::fs::write(file, text).expect("a temporary file");
    let env = vec![("UPWARDEN_UPWORK__CLIENT_SECRET".to_owned(), TOKEN.to_owned())];
    let sources = Sources { file: Some(file.to_owned()), env, sets: vec![set.to_owned()], ..Sources::default() };
    let text = match config::load(&sources) {
        Ok(config) => format!("{config:?}"),
        Err(problems) => {
            assert!(!problems.0.is_empty());
            format!("{problems} {problems:?}")
        }
    };
    assert!(!text.contains(TOKEN), "a secret is printed");
}

/// An answer of the token endpoint is tokens or an error, and no error repeats a token.
pub(crate) fn token_answer(status: u16, body: &[u8]) {
    let Ok(status) = StatusCode::from_u16(status) else { return };
    let request = TokenRequest {
        client: Client { id: "id", secret: &Secret::new(TOKEN), redirect_uri: "" },
        grant: TokenGrant::ClientCredentials,
        sent_at: Timestamp::from_seconds(1000),
    };
    match request.read(&Response { status, retry_after: None, body: body.to_vec() }) {
        Ok(tokens) => {
            assert!(status.is_success());
            assert!(tokens.expires_at >= tokens.issued_at && tokens.due_at() <= tokens.expires_at);
            assert!(HeaderValue::from_str(&format!("Bearer {}", tokens.access.expose())).is_ok());
            assert!(!format!("{tokens:?}").contains(TOKEN));
        }
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(TOKEN) && text.len() < 2000, "{text}");
            assert!(!matches!(error, TokenError::InvalidGrant(_)) || status.is_client_error());
        }
    }
}
