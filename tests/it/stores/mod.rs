//! What all stores have in common, tested on each; then what only one of them has.

mod chaos;
mod crash;
mod lost;
pub(crate) mod nodes;
mod records;
mod refresh;
mod slots;
mod tokens;
mod valkey;
pub(crate) mod world;

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use upwarden::testing::seal::{Purpose, SharedKeyring};
use upwarden::testing::store::{StoreError, StoredSession, open_store};
use world::{LIFETIME, WHOLE, World, key, ring, session, tokens, within};

#[tokio::test]
async fn a_session_comes_back_from_its_cookie() {
    for world in World::all() {
        let value = world.save(session("aa", "1")).await;
        let stored = world.open(&value).await.expect(world.kind);
        assert_eq!(stored.session.tokens.access.expose(), "oauth2v2_access", "{}", world.kind);
        assert!(
            !stored.reseal && within(world.store.reload(&stored)).await.unwrap().is_some() && world.store.healthy()
        );
    }
}

#[tokio::test]
async fn rotating_a_key_signs_no_one_out() {
    for world in World::all() {
        let (old, new) = (key(), key());
        world.ring.replace(ring(vec![old.clone()]));
        let value = world.save(session("aa", "1")).await;
        world.ring.replace(ring(vec![new.clone(), old]));
        let stored = world.open(&value).await.expect(world.kind);
        assert!(stored.reseal, "{}", world.kind);
        let sealed_anew = within(world.store.save(&stored, stored.session.ends_at(WHOLE))).await.unwrap();
        world.ring.replace(ring(vec![new]));
        assert!(world.open(&value).await.is_none(), "{}", world.kind);
        assert!(!world.open(&sealed_anew).await.expect(world.kind).reseal);
    }
}

#[tokio::test]
async fn a_changed_or_foreign_value_is_no_session() {
    for world in World::all() {
        let value = world.save(session("aa", "1")).await;
        for place in [0, 10, 30, value.len() / 2, value.len() - 3] {
            let mut changed = value.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(world.open(&String::from_utf8(changed).unwrap()).await.is_none(), "{} {place}", world.kind);
        }
        let plain = world.ring.load().open(Purpose::Session, &value).unwrap();
        let login = world.ring.load().seal(Purpose::Login, &plain.bytes).unwrap();
        let foreign = ring(vec![key()]).seal(Purpose::Session, &plain.bytes).unwrap();
        for other in ["", "nonsense", login.as_str(), foreign.as_str(), &value[1..]] {
            assert!(world.open(other).await.is_none(), "{}", world.kind);
        }
    }
}

#[tokio::test]
async fn one_stores_cookie_is_no_session_of_another() {
    let cookie = World::cookie();
    for mut world in World::with_records() {
        world.ring.replace(ring(vec![key()]));
        let value = world.save(session("aa", "1")).await;
        cookie.ring.replace(world.ring.load().as_ref().clone());
        assert!(cookie.open(&value).await.is_none());
        let other = cookie.save(session("aa", "1")).await;
        assert!(world.open(&other).await.is_none(), "{}", world.kind);
        world.ring = SharedKeyring::new(ring(vec![key()]));
    }
}

#[tokio::test]
async fn the_cookie_from_before_a_refresh_leads_to_the_newest_tokens() {
    for world in World::with_records() {
        let value = world.save(session("aa", "1")).await;
        let stored = world.open(&value).await.unwrap();
        let newer = upwarden::testing::session::Session { tokens: tokens("newer", "newer_r"), ..session("aa", "1") };
        let newer = within(world.store.save_record(&stored.with(newer), stored.session.ends_at(WHOLE))).await.unwrap();
        assert_eq!(world.open(&value).await.unwrap().session.tokens.access.expose(), "newer", "{}", world.kind);
        let again = within(world.store.save(&newer, newer.session.ends_at(WHOLE))).await.unwrap();
        assert_eq!(world.open(&again).await.unwrap().session.tokens.access.expose(), "newer");
        let reloaded = within(world.store.reload(&stored)).await.unwrap().unwrap();
        assert_eq!(reloaded.session.tokens.access.expose(), "newer");
    }
}

#[tokio::test]
async fn a_late_write_does_not_restore_replaced_tokens() {
    for world in World::with_records() {
        let value = world.save(session("aa", "1")).await;
        let stored = world.open(&value).await.unwrap();
        let with = |before: &StoredSession, name: &str| {
            before.with(upwarden::testing::session::Session { tokens: tokens(name, name), ..session("aa", "1") })
        };
        let ends_at = stored.session.ends_at(WHOLE);
        let first = within(world.store.save_record(&with(&stored, "first"), ends_at)).await.unwrap();
        within(world.store.save_record(&with(&first, "second"), ends_at)).await.unwrap();
        // The first write once more, as if its answer had been lost.
        let late = within(world.store.save_record(&with(&stored, "first"), ends_at)).await.unwrap();
        assert_eq!(late.session.tokens.access.expose(), "second", "{}", world.kind);
        assert_eq!(world.open(&value).await.unwrap().session.tokens.access.expose(), "second", "{}", world.kind);
    }
}

#[tokio::test]
async fn a_session_ends_at_its_time() {
    for world in World::with_records() {
        let value = world.save(session("aa", "1")).await;
        world.clock.advance(LIFETIME.checked_sub(Duration::from_secs(1)).unwrap());
        assert!(world.open(&value).await.is_some(), "{}", world.kind);
        world.clock.advance(Duration::from_secs(1));
        assert!(world.open(&value).await.is_none(), "{}", world.kind);
    }
}

#[tokio::test]
async fn an_ended_session_is_gone_and_is_not_written_again() {
    for world in World::with_records() {
        let value = world.save(session("aa", "1")).await;
        let stored = world.open(&value).await.unwrap();
        within(world.store.end(&stored)).await.unwrap();
        assert!(world.open(&value).await.is_none(), "{}", world.kind);
        assert!(within(world.store.reload(&stored)).await.unwrap().is_none());
        let late = within(world.store.save(&stored.with(session("aa", "1")), stored.session.ends_at(WHOLE))).await;
        assert!(matches!(late, Err(StoreError::Ended)), "{} {late:?}", world.kind);
        assert!(world.open(&value).await.is_none());
        within(world.store.end(&stored)).await.expect("ending twice succeeds");
    }
}

#[tokio::test]
async fn signing_out_everywhere_ends_every_session_of_one_user_and_no_other() {
    for world in World::with_records() {
        let mut mine = Vec::new();
        for id in ["aa", "bb", "cc"] {
            mine.push(world.save(session(id, "1")).await);
        }
        let other = world.save(session("dd", "2")).await;
        assert_eq!(within(world.store.end_user("1", None)).await.unwrap(), 3, "{}", world.kind);
        for value in mine {
            assert!(world.open(&value).await.is_none());
        }
        assert!(world.open(&other).await.is_some());
        assert_eq!(within(world.store.end_user("1", None)).await.unwrap(), 0);
    }
    let refused = World::cookie().store.end_user("1", None).await;
    assert!(matches!(refused, Err(StoreError::NoRecords)));
}

#[tokio::test]
async fn a_lock_has_one_owner_at_a_time() {
    for world in World::with_records() {
        let first = within(world.store.lock("aa")).await.unwrap().unwrap();
        let other = within(world.store.lock("bb")).await.unwrap();
        assert!(other.is_some(), "another session's lock is free");
        let mut second = std::pin::pin!(world.store.lock("aa"));
        let early = tokio::time::timeout(Duration::from_millis(300), second.as_mut()).await;
        assert!(early.is_err(), "{}: two hold it", world.kind);
        first.release().await;
        let second = within(second).await.unwrap().unwrap();
        drop(second);
        assert!(within(world.store.lock("aa")).await.unwrap().is_some(), "{}: a dropped one is free", world.kind);
    }
    assert!(World::cookie().store.lock("aa").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_reports_that_its_runtime_has_stopped() {
    for mut world in World::with_records() {
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (handle, stop) = (control.handle().clone(), CancellationToken::new());
        let running = std::thread::spawn({
            let stop = stop.clone();
            move || control.block_on(stop.cancelled())
        });
        world.store = World::cookie().store;
        world.store = open_store(&world.config, world.ring.clone(), world.clock.clone(), handle).unwrap();
        let value = world.save(session("aa", "1")).await;
        assert!(world.open(&value).await.is_some(), "{}", world.kind);
        stop.cancel();
        running.join().unwrap();
        let refused = within(world.store.open(&value)).await;
        assert!(matches!(refused, Err(StoreError::Down(_))), "{} {refused:?}", world.kind);
    }
}

#[tokio::test]
async fn debug_shows_no_secret() {
    for world in World::all() {
        let value = world.save(session("aa", "1")).await;
        let stored: StoredSession = world.open(&value).await.unwrap();
        let shown = format!("{stored:?} {:?} {:?}", world.store, world.config);
        assert!(!shown.contains("oauth2v2_") && !shown.contains("s3cr3t"), "{shown}");
    }
}
