//! Personal access tokens in each store.

use std::time::Duration;

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use upwarden::testing::clock::Clock;
use upwarden::testing::session::PersonalToken;
use upwarden::testing::store::{NewTokenRecord, TokenRecord, TokenScope};

use super::world::{World, key, ring, within};

const TABLE: TableDefinition<'static, &'static str, &'static [u8]> = TableDefinition::new("upwarden");
const HOUR: Duration = Duration::from_hours(1);

/// Adds a token of this user, issued now.
pub(super) async fn add(world: &World, user: &str, life: Duration) -> (PersonalToken, TokenRecord) {
    let (token, now) = (PersonalToken::generate().unwrap(), world.clock.now());
    let (user, name) = (user.to_owned(), "report".to_owned());
    let new = NewTokenRecord { user, name, expires_at: now.plus(life), read_only: false, scope: TokenScope::Api };
    let record = within(world.store.add_token(&token, new, now)).await.unwrap();
    (token, record)
}

async fn ids(world: &World, user: &str) -> Vec<String> {
    within(world.store.tokens_of(user)).await.unwrap().into_iter().map(|record| record.id).collect()
}

/// Every name in the store.
async fn names(world: &mut World) -> Vec<String> {
    let admins = world.admins().await;
    if admins.is_empty() {
        // Only one process can have its file.
        world.store = World::cookie().store;
        let database = redb::Database::open(world.path()).unwrap();
        let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
        let names = table.iter().unwrap().map(|item| item.unwrap().0.value().to_owned()).collect();
        drop((table, database));
        world.store = world.open_again().unwrap();
        return names;
    }
    let mut names = Vec::new();
    for mut admin in admins {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut admin).await.unwrap();
        for list in keys.iter().filter(|name| name.ends_with(":n")) {
            let listed = redis::cmd("ZRANGE").arg(list).arg(0).arg(-1).query_async::<Vec<String>>(&mut admin).await;
            names.extend(listed.unwrap());
        }
        names.extend(keys);
    }
    names
}

#[tokio::test]
async fn a_users_tokens_are_theirs_alone_until_they_expire() {
    for world in World::with_records() {
        let (_, old) = add(&world, "1", HOUR).await;
        world.clock.advance(Duration::from_secs(1));
        let (_, young) = add(&world, "1", HOUR / 2).await;
        let (_, other) = add(&world, "2", HOUR).await;
        assert_eq!(ids(&world, "1").await, [young.id.as_str(), &old.id], "{}", world.kind);
        assert_eq!(ids(&world, "2").await, [other.id.as_str()]);
        assert!(ids(&world, "3").await.is_empty());
        assert_eq!(within(world.store.token_owners()).await.unwrap(), ["1", "2"]);
        world.clock.advance(HOUR / 2);
        assert_eq!(ids(&world, "1").await, [old.id.as_str()], "{}", world.kind);
        world.clock.advance(HOUR / 2);
        assert!(ids(&world, "1").await.is_empty() && ids(&world, "2").await.is_empty(), "{}", world.kind);
        assert!(within(world.store.token_owners()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_revoked_token_leaves_no_name_behind() {
    for mut world in World::with_records() {
        let (token, mine) = add(&world, "1", HOUR).await;
        let (_, other) = add(&world, "2", HOUR).await;
        assert!(!within(world.store.remove_token("2", &mine.id)).await.unwrap(), "{}: it is not theirs", world.kind);
        assert!(within(world.store.find_token(&token)).await.unwrap().is_some());
        assert!(within(world.store.remove_token("1", &mine.id)).await.unwrap());
        assert!(within(world.store.find_token(&token)).await.unwrap().is_none(), "{}", world.kind);
        assert!(ids(&world, "1").await.is_empty());
        let names = names(&mut world).await;
        assert!(!names.iter().any(|name| name.contains(&mine.id)), "{}: {names:?}", world.kind);
        assert!(names.iter().any(|name| name.contains(&other.id)), "{}: {names:?}", world.kind);
    }
}

#[tokio::test]
async fn a_users_tokens_are_found_without_reading_everyones() {
    let Some(world) = World::valkey() else { return };
    let (_, mine) = add(&world, "1", HOUR).await;
    add(&world, "2", HOUR).await;
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let gone: u64 = redis::cmd("DEL").arg("upwarden:{r:token}:n").query_async(&mut admin).await.unwrap();
    assert_eq!(gone, 1, "the list of all tokens");
    assert_eq!(ids(&world, "1").await, [mine.id]);
}

#[tokio::test]
async fn an_unused_token_outlives_the_key_that_sealed_it() {
    for world in World::with_records() {
        let (old, new) = (key(), key());
        world.ring.replace(ring(vec![old.clone()]));
        let (token, _) = add(&world, "1", HOUR).await;
        world.ring.replace(ring(vec![new.clone(), old]));
        assert_eq!(within(world.store.token_owners()).await.unwrap(), ["1"]);
        world.ring.replace(ring(vec![new]));
        assert!(within(world.store.find_token(&token)).await.unwrap().is_some(), "{}", world.kind);
        assert_eq!(ids(&world, "1").await.len(), 1);
    }
}

#[tokio::test]
async fn unknown_values_in_the_server_are_no_records() {
    let Some(world) = World::valkey() else { return };
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let mut hash = redis::cmd("HSET");
    hash.arg("upwarden:{r:token}").arg("0123").arg("0123456789abcdefsealed");
    hash.query_async::<()>(&mut admin).await.unwrap();
    let mut listed = redis::cmd("ZADD");
    listed.arg("upwarden:{r:token}:n").arg("inf").arg("short").arg("inf").arg("missing").arg("inf").arg("long");
    listed.query_async::<()>(&mut admin).await.unwrap();
    for (name, value) in [("short", "é"), ("long", "0123456789abcdefwhatever")] {
        let key = format!("upwarden:{{r:token:{name}}}");
        redis::cmd("SET").arg(key).arg(value).query_async::<()>(&mut admin).await.unwrap();
    }
    let (_, mine) = add(&world, "1", HOUR).await;
    assert_eq!(ids(&world, "1").await, [mine.id]);
    assert_eq!(within(world.store.token_owners()).await.unwrap(), ["1"]);
}
