//! What only a server does: it is reached in several ways, disappears, returns, and deletes expired records.

use std::time::Duration;

use futures_util::StreamExt;
use upwarden::testing::secret::Secret;
use upwarden::testing::store::{Config, ServerConfig, StoreError, StoredSession, check_url};

use upwarden::testing::tls::CertificateFiles;

use super::world::{LIFETIME, START, Server, Transport, World, session, until, within};

#[tokio::test]
async fn a_server_is_reached_over_tcp_and_tls_with_an_acl_user() {
    for transport in [Transport::Tcp, Transport::Tls] {
        let Some(server) = Server::start(transport) else { return };
        let ca_file = (transport == Transport::Tls).then(|| server.ca_file.clone());
        let mut world = World::cookie();
        world.config = Config::Valkey(ServerConfig { ca_file, ..ServerConfig::new(server.url.clone()) });
        world.store = world.open_again().unwrap();
        let value = world.save(session("aa", "1")).await;
        assert!(world.open(&value).await.is_some(), "{transport:?}");
    }
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it_and_its_renewal() {
    let Some(mut server) = Server::start(Transport::MutualTls) else { return };
    let mut world = World::cookie();
    let trusting = ServerConfig { ca_file: Some(server.ca_file.clone()), ..ServerConfig::new(server.url.clone()) };
    world.config = Config::Valkey(trusting.clone());
    let stranger = world.open_again().unwrap();
    until(async || {
        matches!(stranger.end_user("1", None).await, Err(StoreError::Down(why)) if !why.contains("yet")).then_some(())
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let own = server.certificate();
    let files = CertificateFiles { cert_file: folder.path().join("c.pem"), key_file: folder.path().join("k.pem") };
    let other = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    std::fs::write(&files.cert_file, other.cert.pem()).unwrap();
    std::fs::write(&files.key_file, other.signing_key.serialize_pem()).unwrap();
    world.config = Config::Valkey(ServerConfig { certificate: Some(files.clone()), ..trusting });
    world.store = world.open_again().unwrap();
    until(async || {
        matches!(world.store.end_user("1", None).await, Err(StoreError::Down(why)) if !why.contains("yet"))
            .then_some(())
    })
    .await;
    std::fs::copy(own.cert_file, &files.cert_file).unwrap();
    std::fs::copy(own.key_file, &files.key_file).unwrap();
    let value = until(async || {
        let ends_at = START.plus(LIFETIME);
        world.store.save(&StoredSession::new(session("aa", "1")), ends_at).await.ok()
    })
    .await;
    server.kill();
    server.restart();
    assert!(until(async || world.store.open(&value).await.ok()).await.is_some());
}

#[tokio::test]
async fn an_untrusted_certificate_or_a_wrong_password_is_a_store_that_is_down() {
    let Some(server) = Server::start(Transport::Tls) else { return };
    let mut world = World::cookie();
    let wrong = Secret::new(server.url.expose().replace("s3cr3t", "wr0ng"));
    for (url, ca_file, reason) in
        [(server.url.clone(), None, "TLS"), (wrong, Some(server.ca_file.clone()), "user and password")]
    {
        world.config = Config::Valkey(ServerConfig { ca_file, ..ServerConfig::new(url) });
        let store = world.open_again().unwrap();
        // Before the first refusal it may only report that there was no answer yet.
        let why = until(async || match store.end_user("1", None).await {
            Err(StoreError::Down(why)) if why.contains(reason) => Some(why),
            other => {
                assert!(matches!(other, Err(StoreError::Down(_))), "{other:?}");
                None
            }
        })
        .await;
        assert!(!store.healthy() && !why.contains("wr0ng"), "{why}");
    }
}

#[tokio::test]
async fn a_server_that_is_killed_is_down_and_its_sessions_are_there_when_it_is_back() {
    let Some(mut world) = World::valkey() else { return };
    let value = world.save(session("aa", "1")).await;
    let stored = world.open(&value).await.unwrap();
    world.server.as_mut().unwrap().kill();
    assert!(matches!(within(world.store.open(&value)).await, Err(StoreError::Down(_))));
    assert!(matches!(within(world.store.reload(&stored)).await, Err(StoreError::Down(_))));
    assert!(!world.store.healthy());
    world.server.as_mut().unwrap().restart();
    let back = until(async || world.store.open(&value).await.ok()).await;
    assert_eq!(back.unwrap().session.id, "aa");
    assert!(world.store.healthy());
}

#[tokio::test]
async fn no_acknowledged_session_is_lost_when_the_server_dies_during_ten_thousand_writes() {
    let Some(mut world) = World::valkey() else { return };
    let ids: Vec<String> = (0..10_000).map(|number| format!("{number:032x}")).collect();
    let mut server = world.server.take().unwrap();
    let mut acknowledged = Vec::new();
    let mut saves = futures_util::stream::iter(&ids)
        .map(|id| {
            let (store, ends_at) = (world.store.clone(), START.plus(LIFETIME));
            async move { (id, store.save(&StoredSession::new(session(id, "1")), ends_at).await) }
        })
        .buffer_unordered(200);
    while let Some((id, saved)) = within(saves.next()).await {
        match saved {
            Ok(value) => acknowledged.push((id, value)),
            Err(error) => assert!(matches!(error, StoreError::Down(_)), "{error:?}"),
        }
        if acknowledged.len() == 4_000 {
            server.kill();
            server.restart();
        }
    }
    assert!(acknowledged.len() > 9_000, "{}", acknowledged.len());
    let opened = futures_util::stream::iter(&acknowledged)
        .map(|(id, value)| async { (*id, within(world.store.open(value)).await.unwrap()) })
        .buffer_unordered(200);
    let mut opened = std::pin::pin!(opened);
    while let Some((id, stored)) = opened.next().await {
        assert_eq!(stored.expect("it was acknowledged").session.id, *id);
    }
}

#[tokio::test]
async fn a_request_during_a_restart_succeeds() {
    let Some(mut world) = World::valkey() else { return };
    let value = world.save(session("aa", "1")).await;
    let server = world.server.as_mut().unwrap();
    server.kill();
    server.restart();
    assert!(world.open(&value).await.is_some());
}

#[tokio::test]
async fn a_session_and_its_listing_expire_in_the_server() {
    let Some(world) = World::valkey() else { return };
    world.save(session("aa", "1")).await;
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut admin).await.unwrap();
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let left: u64 = redis::cmd("PTTL").arg(&key).query_async(&mut admin).await.unwrap();
        let all = u64::try_from(LIFETIME.as_millis()).unwrap();
        assert!(left > all - 60_000 && left <= all, "{key}: {left}");
    }
}

#[tokio::test]
async fn a_changed_or_exchanged_record_is_no_session() {
    let Some(world) = World::valkey() else { return };
    let value = world.save(session("aa", "1")).await;
    world.save(session("bb", "1")).await;
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let read = async |admin: &mut redis::aio::MultiplexedConnection, id: &str| -> String {
        redis::cmd("GET").arg(format!("upwarden:{{{id}}}:s")).query_async(admin).await.unwrap()
    };
    let good = read(&mut admin, "aa").await;
    let other = read(&mut admin, "bb").await;
    for bad in [other, String::new(), good.replacen(&good[60..61], "_", 1), good[..good.len() - 4].to_owned()] {
        let set = redis::cmd("SET").arg("upwarden:{aa}:s").arg(bad).query_async::<()>(&mut admin).await;
        set.unwrap();
        assert!(world.open(&value).await.is_none());
    }
    redis::cmd("SET").arg("upwarden:{aa}:s").arg(good).query_async::<()>(&mut admin).await.unwrap();
    assert!(world.open(&value).await.is_some());
}

#[tokio::test]
async fn a_dead_owners_lock_expires_and_no_one_frees_anothers() {
    let Some(world) = World::valkey() else { return };
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let mut died = redis::cmd("SET");
    died.arg("upwarden:{aa}:l").arg("a dead replica").arg("PX").arg(700);
    died.query_async::<()>(&mut admin).await.unwrap();
    let lock = within(world.store.lock("aa")).await.unwrap().expect("its lease has run out");
    let left: u64 = redis::cmd("PTTL").arg("upwarden:{aa}:l").query_async(&mut admin).await.unwrap();
    assert!(left > 0 && left <= 5000, "{left}");
    let mut taken = redis::cmd("SET");
    taken.arg("upwarden:{aa}:l").arg("another replica").arg("PX").arg(60_000);
    taken.query_async::<()>(&mut admin).await.unwrap();
    lock.release().await;
    let owner: String = redis::cmd("GET").arg("upwarden:{aa}:l").query_async(&mut admin).await.unwrap();
    assert_eq!(owner, "another replica");
}

#[tokio::test]
async fn a_lock_is_renewed_while_its_owner_lives() {
    let Some(world) = World::valkey() else { return };
    let mut admin = world.server.as_ref().unwrap().admin().await;
    let lock = within(world.store.lock("aa")).await.unwrap().unwrap();
    // The lease is shortened; the next renewal restores it.
    let left = async |admin: &mut redis::aio::MultiplexedConnection| -> i64 {
        redis::cmd("PTTL").arg("upwarden:{aa}:l").query_async(admin).await.unwrap()
    };
    let cut = redis::cmd("PEXPIRE").arg("upwarden:{aa}:l").arg(3000).query_async::<()>(&mut admin).await;
    cut.unwrap();
    within(async {
        while left(&mut admin).await <= 3000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    lock.release().await;
    assert_eq!(left(&mut admin).await, -2, "it is gone");
}

#[test]
fn a_url_is_checked_without_a_connection() {
    assert!(check_url(&Secret::new("rediss://user:pw@cache.internal:6380/1")).is_ok());
    assert!(check_url(&Secret::new("http://cache.internal")).is_err());
}

/// Makes the server a replica of one that is not there, as a failover does with a primary that comes back.
async fn demote(server: &Server) {
    let mut admin = server.admin().await;
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).query_async::<()>(&mut admin).await.unwrap();
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_still_read_from() {
    let Some(world) = World::valkey() else { return };
    let value = world.save(session("aa", "1")).await;
    let server = world.server.as_ref().unwrap();
    demote(server).await;
    let ends_at = START.plus(LIFETIME);
    let written = within(world.store.save(&StoredSession::new(session("bb", "1")), ends_at)).await;
    assert!(matches!(&written, Err(StoreError::Down(why)) if why.contains("READONLY")), "{written:?}");
    until(|| async {
        assert!(world.open(&value).await.is_some());
        world.store.may_sign_in().err()
    })
    .await;
    assert!(world.open(&value).await.is_some() && !world.store.healthy());
    let mut admin = server.admin().await;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async::<()>(&mut admin).await.unwrap();
    until(|| async { world.store.save(&StoredSession::new(session("cc", "1")), ends_at).await.ok() }).await;
    until(|| async { world.store.healthy().then_some(()) }).await;
}

#[tokio::test]
async fn another_server_at_the_same_address_takes_over_from_a_replica() {
    let (Some(old), Some(new)) = (Server::start(Transport::Socket), Server::start(Transport::Socket)) else { return };
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("primary.sock");
    std::os::unix::fs::symlink(old.socket(), &link).unwrap();
    let url = format!("redis+unix://{}?user=upwarden&pass=s3cr3t", link.display());
    let world = World::at(Config::Valkey(ServerConfig::new(Secret::new(url))));
    world.save(session("aa", "1")).await;
    demote(&old).await;
    let next = folder.path().join("next.sock");
    std::os::unix::fs::symlink(new.socket(), &next).unwrap();
    std::fs::rename(next, &link).unwrap();
    let ends_at = START.plus(LIFETIME);
    until(|| async { world.store.save(&StoredSession::new(session("bb", "1")), ends_at).await.ok() }).await;
    let mut admin = new.admin().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("upwarden:{bb}*").query_async(&mut admin).await.unwrap();
    assert_eq!(keys, ["upwarden:{bb}:s"]);
}
