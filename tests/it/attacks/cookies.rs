//! Tampering with sealed cookies: none opens, and none costs much.

use std::time::Duration;

use http::header::{COOKIE, HeaderValue};
use upwarden::sandbox;
use upwarden::testing::clock::Timestamp;
use upwarden::testing::cookies::{Jar, RequestCookies};
use upwarden::testing::oauth::{Login, State};
use upwarden::testing::seal::{Keyring, Purpose, SharedKeyring};
use upwarden::testing::session::{AccessToken, Grant, IdentityFields, RefreshToken, Session, Tokens, User};
use upwarden::testing::store::{CookieStore, Store, StoredSession};

use super::super::harness::{AGENCY, FREELANCER, World, between};
use super::super::stores::world::{Server, Transport};
use super::properties::{RING, sign_in};

const NAME: &str = "upwarden";

fn store() -> Store {
    Store::Cookie(CookieStore::new(SharedKeyring::new(RING.clone())))
}

/// A session with tokens of this many characters.
fn session(chars: usize) -> StoredSession {
    let now = Timestamp::from_seconds(1000);
    StoredSession::new(Session {
        id: "0".repeat(32),
        user: User { id: "1".to_owned(), nid: "foo".to_owned(), name: None },
        organization: None,
        grant: Grant::Code,
        tokens: Tokens {
            access: AccessToken::parse("a".repeat(chars)).unwrap(),
            refresh: Some(RefreshToken::parse("r".repeat(chars)).unwrap()),
            issued_at: now,
            expires_at: now.plus(Duration::from_hours(24)),
        },
        began_at: now,
        refreshed: None,
        checked: None,
        identity: IdentityFields::default(),
    })
}

/// The cookies of a browser after the session was set.
async fn pairs(chars: usize) -> Vec<(String, String)> {
    let value = store().save(&session(chars), Timestamp::from_seconds(2000)).await.unwrap();
    let lines = Jar::new(NAME, false).set(&value, Duration::from_mins(1), &RequestCookies::default()).unwrap();
    lines
        .iter()
        .map(|line| line.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn field(pairs: &[(String, String)]) -> Option<RequestCookies> {
    let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let value = HeaderValue::from_str(&text.join("; ")).ok()?;
    Some(RequestCookies::parse(&[(COOKIE, value)].into_iter().collect(), |_| true))
}

/// Whether any candidate of these cookies is a session.
async fn opens(pairs: &[(String, String)]) -> bool {
    let Some(cookies) = field(pairs) else { return false };
    for value in Jar::new(NAME, false).candidates(&cookies) {
        if store().open(&value).await.unwrap().is_some() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn a_cookie_with_any_bit_flipped_does_not_open() {
    let whole = pairs(10).await;
    assert!(opens(&whole).await && whole.len() == 1);
    for place in 0..whole[0].1.len() {
        for bit in 0..8 {
            let mut bytes = whole[0].1.clone().into_bytes();
            bytes[place] ^= 1 << bit;
            let Ok(bent) = String::from_utf8(bytes) else { continue };
            assert!(!opens(&[(NAME.to_owned(), bent)]).await, "byte {place} bit {bit}");
        }
    }
}

#[tokio::test]
async fn a_chunked_cookie_with_any_byte_changed_does_not_open() {
    let whole = pairs(4000).await;
    assert!(opens(&whole).await && whole.len() == 3, "{} pieces", whole.len());
    for piece in 0..whole.len() {
        for place in 0..whole[piece].1.len() {
            let mut bent = whole.clone();
            let mut bytes = bent[piece].1.clone().into_bytes();
            // A different bit in each byte, but not the highest, which would not be ASCII.
            bytes[place] ^= 1 << (place % 7);
            bent[piece].1 = String::from_utf8(bytes).unwrap();
            assert!(!opens(&bent).await, "piece {piece} byte {place}");
        }
    }
}

#[tokio::test]
async fn chunks_open_only_if_they_are_complete_in_order_and_of_one_session() {
    let (one, other) = (pairs(4000).await, pairs(4000).await);
    let with = |place: usize, value: &str| {
        let mut bent = one.clone();
        bent[place].1 = value.to_owned();
        bent
    };
    let mut swapped = one.clone();
    (swapped[1].1, swapped[2].1) = (one[2].1.clone(), one[1].1.clone());
    let without = |place: usize| {
        let mut bent = one.clone();
        bent.remove(place);
        bent
    };
    let mut table = vec![
        ("swapped", swapped),
        ("the first alone", one[..1].to_vec()),
        ("without the first", without(0)),
        ("without the second", without(1)),
        ("without the last", without(2)),
        ("another's second", with(1, &other[1].1)),
        ("an empty second", with(1, "")),
        ("the second as the last too", with(2, &one[1].1)),
        ("without its count", with(0, one[0].1.split_once('.').unwrap().1)),
    ];
    for (digit, name) in [
        ("0", "none"),
        ("1", "one"),
        ("2", "too few"),
        ("4", "too many"),
        ("6", "six"),
        ("9", "nine"),
        ("33", "two digits"),
        ("", "no digit"),
        ("+3", "a sign"),
        ("03", "a zero"),
    ] {
        let head = one[0].1.split_once('.').unwrap().1;
        table.push((name, with(0, &format!("{digit}.{head}"))));
    }
    for name in [
        "upwarden-0",
        "upwarden-5",
        "upwarden-01",
        "upwarden-",
        "upwarden-1x",
        "upwarden--1",
        "Upwarden-1",
        "upwarden_1",
    ] {
        let mut bent = one.clone();
        bent[1].0 = name.to_owned();
        table.push((name, bent));
    }
    for (name, bent) in table {
        assert!(!opens(&bent).await, "{name}");
    }
}

#[tokio::test]
async fn planted_cookies_do_not_hide_the_session() {
    let (one, other) = (pairs(4000).await, pairs(4000).await);
    let mut twice = other.clone();
    twice.extend(one.clone());
    assert!(opens(&twice).await);
    let planted =
        [vec![(NAME.to_owned(), "planted".to_owned()), ("upwarden-1".to_owned(), "x".to_owned())], one].concat();
    assert!(opens(&planted).await);
}

#[tokio::test]
async fn copies_of_one_cookie_make_one_store_read() {
    let Some(server) = Server::start(Transport::Tcp) else { return };
    let plan = World::new().set("store.kind", "valkey").set("store.url", server.url.expose());
    let world = plan.start();
    let client = world.sign_in(FREELANCER).await;
    let mut admin = server.admin().await;
    let reads = async |admin: &mut redis::aio::MultiplexedConnection| -> u64 {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(admin).await.unwrap();
        between(&stats, "cmdstat_get:calls=", ",").unwrap().parse().unwrap()
    };
    let before = reads(&mut admin).await;
    let copies = vec![format!("upwarden={}", client.cookie("upwarden")); 200].join("; ");
    assert_eq!(world.client().get("/").header("cookie", &copies).await.status, 200);
    // The store is probed periodically, which also reads.
    let read = reads(&mut admin).await - before;
    assert!((1..20).contains(&read), "{read}");
}

#[tokio::test]
async fn a_value_of_another_purpose_version_or_key_is_not_a_session() {
    let bytes = session(10).session.to_bytes();
    for purpose in [Purpose::Login, Purpose::State, Purpose::Ticket, Purpose::Grant] {
        let sealed = RING.seal(purpose, &bytes).unwrap();
        assert!(store().open(&sealed).await.unwrap().is_none(), "{purpose:?}");
    }
    let (state, cookies) = sign_in();
    let login = cookies.iter().next().unwrap().1.to_owned();
    let now = Timestamp::from_seconds(1001);
    assert!(
        Login::open(&RING, &login, now).is_some() && State::open(&RING, &state).is_some(),
        "each opens for its own purpose"
    );
    assert!(Login::open(&RING, &state, now).is_none() && State::open(&RING, &login).is_none());
    for value in [&login, &state] {
        assert!(store().open(value).await.unwrap().is_none());
    }
    let good = RING.seal(Purpose::Session, &bytes).unwrap();
    assert!(Login::open(&RING, &good, now).is_none() && State::open(&RING, &good).is_none());
    assert!(Login::open(&RING, &login, now.plus(Duration::from_secs(1201))).is_none(), "too late");
    // The version is the first byte, and its upper six bits are the first letter.
    for letter in ('A'..='Z').chain('a'..='z').filter(|letter| !good.starts_with(*letter)) {
        assert!(store().open(&format!("{letter}{}", &good[1..])).await.unwrap().is_none(), "{letter}");
    }
    let other = Keyring::generate().unwrap();
    assert!(store().open(&other.seal(Purpose::Session, &bytes).unwrap()).await.unwrap().is_none());
    for bent in
        [format!("{good}="), format!("{good}A"), format!(" {good}"), good.replace(['-', '_'], "+"), String::new()]
    {
        assert!(bent == good || store().open(&bent).await.unwrap().is_none(), "{bent}");
    }
}

#[tokio::test]
async fn a_thousand_cookies_of_our_name_are_opened_once_each() {
    let real = pairs(10).await;
    let mut many: Vec<(String, String)> = (0..999).map(|n| (NAME.to_owned(), format!("planted{n}"))).collect();
    many.extend(real);
    let jar = Jar::new(NAME, false);
    assert_eq!(jar.candidates(&field(&many).unwrap()).len(), 1000);
    assert!(opens(&many).await);
    let counted: Vec<(String, String)> = (0..4000).map(|n| (NAME.to_owned(), format!("5.{n}"))).collect();
    let pieces = (0..200).flat_map(|n| (1..5).map(move |place| (format!("{NAME}-{place}"), format!("{n}"))));
    let counted: Vec<_> = counted.into_iter().chain(pieces).collect();
    assert!(jar.candidates(&field(&counted).unwrap()).len() <= 512);
}

/// The same at the door: a cookie that does not open is a 401 and nothing more.
#[tokio::test]
async fn a_tampered_session_is_a_401_at_the_door() {
    let world = World::new().upwork(sandbox::Config { token_chars: 3000, ..sandbox::Config::default() }).start();
    let client = world.sign_in(FREELANCER).await;
    let jar = client.jar().clone();
    let names: Vec<String> = jar.names().iter().map(ToString::to_string).collect();
    let whole: Vec<(String, String)> =
        names.iter().map(|name| (name.clone(), jar.get(name).unwrap().to_owned())).collect();
    assert!(whole.len() > 1, "{names:?}");
    let ask = async |pairs: &[(String, String)]| {
        let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = world.client().get("/upwork/auth/session").header("cookie", &text.join("; ")).await;
        assert!(answer.set_cookies().is_empty());
        answer.status.as_u16()
    };
    assert_eq!(ask(&whole).await, 200);
    for piece in 0..whole.len() {
        for place in [0, 1, 2, 3, 10, 30, 500, whole[piece].1.len() - 1] {
            let mut bent = whole.clone();
            let letter = if whole[piece].1.as_bytes()[place] == b'A' { "B" } else { "A" };
            bent[piece].1.replace_range(place..=place, letter);
            assert_eq!(ask(&bent).await, 401, "piece {piece} place {place}");
        }
    }
    let planted: Vec<(String, String)> = (0..1000).map(|n| (NAME.to_owned(), n.to_string())).collect();
    assert_eq!(ask(&[planted, whole.clone()].concat()).await, 200);
    world.turn(Duration::from_hours(15 * 24));
    assert_eq!(ask(&whole).await, 401, "over");
}

#[tokio::test]
async fn live_sessions_of_two_users_in_one_request_count_as_none() {
    let world = World::new().start();
    let victim = world.sign_in(FREELANCER).await;
    let attacker = world.sign_in(AGENCY).await;
    let (victims, planted) = (victim.cookie("upwarden"), attacker.cookie("upwarden"));
    for line in [format!("upwarden={planted}; upwarden={victims}"), format!("upwarden={victims}; upwarden={planted}")] {
        assert_eq!(world.client().get("/x").header("cookie", &line).await.problem(), "sign-in-required");
    }
    assert!(world.app.seen().is_empty());
    // Copies of one session, and another session of the same user, do no harm.
    let again = world.sign_in(FREELANCER).await.cookie("upwarden");
    let line = format!("upwarden=x; upwarden={victims}; upwarden={victims}; upwarden={again}");
    assert_eq!(world.client().get("/x").header("cookie", &line).await.status, 200);
    assert_eq!(world.app.last().header("x-upwork-user-id"), FREELANCER);
}

#[tokio::test]
async fn forward_auth_does_not_outlive_the_recheck() {
    let world = World::new().start();
    let client = world.sign_in(FREELANCER).await;
    assert_eq!(client.get("/upwork/auth/verify").await.status, 204);
    world.turn(Duration::from_hours(23));
    assert_eq!(client.get("/upwork/auth/verify").await.status, 204, "Upwork was asked not long ago");
    world.turn(Duration::from_hours(2));
    let answer = client.get("/upwork/auth/verify").await;
    assert_eq!((answer.status.as_u16(), answer.set_cookies().len()), (401, 0));
    assert_eq!(client.get("/").await.status, 200, "the gate itself refreshes");
    assert_eq!(client.get("/upwork/auth/verify").await.status, 204);
}
