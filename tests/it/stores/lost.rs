//! Answers that are lost: the command may have run, is sent again, and must have the same result.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use upwarden::testing::clock::Clock;
use upwarden::testing::secret::Secret;
use upwarden::testing::session::PersonalToken;
use upwarden::testing::store::{Config, Expect, NewTokenRecord, ServerConfig, TokenScope};

use super::world::{Server, Transport, World, within};

/// A proxy before a server, which can lose an answer.
struct LossyProxy {
    world: World,
    lose: Arc<AtomicBool>,
    _server: Server,
    _ended: DropGuard,
}

impl LossyProxy {
    async fn open() -> Option<Self> {
        let server = Server::start(Transport::Tcp)?;
        let (rest, port) = server.url.expose().rsplit_once(':').unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (target, near) = (format!("127.0.0.1:{port}"), listener.local_addr().unwrap().port());
        let mut world = World::cookie();
        world.config = Config::Valkey(ServerConfig::new(Secret::new(format!("{rest}:{near}"))));
        let (lose, ended) = (Arc::<AtomicBool>::default(), CancellationToken::new());
        let (losing, stop) = (lose.clone(), ended.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while let Ok((near, _)) = listener.accept().await {
                tokio::spawn(pass(near, target.clone(), losing.clone()));
            }
        }));
        world.store = world.open_again().unwrap();
        Some(Self { world, lose, _server: server, _ended: ended.drop_guard() })
    }

    /// Loses the next answer to a request that changes a record, and everything after it.
    fn lose_one(&self) {
        self.lose.store(true, Ordering::SeqCst);
    }

    fn lost(&self) -> bool {
        !self.lose.load(Ordering::SeqCst)
    }
}

async fn pass(mut near: TcpStream, target: String, lose: Arc<AtomicBool>) {
    let mut far = TcpStream::connect(target).await.unwrap();
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut losing = false;
    loop {
        tokio::select! {
            read = near.read(&mut asked) => match read {
                Ok(length) if length > 0 => {
                    let said = String::from_utf8_lossy(&asked[..length]);
                    // No other command in the meantime names one.
                    let names_it = said.contains("EVALSHA") && said.contains("lost") || said.contains("{r:token:");
                    losing |= names_it && lose.swap(false, Ordering::SeqCst);
                    far.write_all(&asked[..length]).await.unwrap();
                }
                Ok(_) | Err(_) => return,
            },
            read = far.read(&mut answered) => match read {
                Ok(length) if length > 0 && !losing => near.write_all(&answered[..length]).await.unwrap(),
                Ok(_) | Err(_) => return,
            },
        }
    }
}

#[tokio::test]
async fn a_write_sent_again_is_no_conflict() {
    let Some(proxy) = LossyProxy::open().await else { return };
    let store = &proxy.world.store;
    // The server knows the script from here on.
    within(store.put_grant("lost", b"none", &Expect::Anything)).await.unwrap();
    within(store.delete_grant("lost")).await.unwrap();
    proxy.lose_one();
    let version = within(store.put_grant("lost", b"one", &Expect::Absent)).await.unwrap();
    assert!(proxy.lost());
    let version = version.expect("no one else wrote it");
    proxy.lose_one();
    let after = within(store.put_grant("lost", b"two", &Expect::Version(version.clone()))).await.unwrap();
    assert!(proxy.lost() && after.is_some());
    let late = within(store.put_grant("lost", b"three", &Expect::Version(version))).await.unwrap();
    assert!(late.is_none(), "another writer's version is still a conflict");
    assert_eq!(within(store.get_grant("lost")).await.unwrap().unwrap().bytes.as_slice(), b"two");
}

#[tokio::test]
async fn a_token_is_revoked_even_if_the_answer_was_lost() {
    let Some(proxy) = LossyProxy::open().await else { return };
    let (store, now) = (&proxy.world.store, proxy.world.clock.now());
    let token = PersonalToken::generate().unwrap();
    let new = NewTokenRecord {
        user: "1".to_owned(),
        name: "report".to_owned(),
        expires_at: now.plus(Duration::from_secs(60)),
        read_only: false,
        scope: TokenScope::Api,
    };
    let record = within(store.add_token(&token, new, now)).await.unwrap();
    // The server knows the script from here on.
    within(store.delete_grant("none")).await.unwrap();
    proxy.lose_one();
    assert!(within(store.remove_token("1", &record.id)).await.unwrap() && proxy.lost());
    assert!(!within(store.remove_token("1", &record.id)).await.unwrap(), "there is none");
}
