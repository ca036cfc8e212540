//! Ten thousand sessions, real replicas and a real Redis, which are killed under traffic.
//!
//! Some sessions come from sign-ins, which continue throughout. The others are written into the store directly, with the
//! replicas' key, since ten thousand sign-ins would take minutes. Each has its own grant at the sandbox, and behaves like the
//! others from then on; its first API call refreshes. `stores` tests each store by itself.

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use tokio::runtime::Handle;
use upwarden::sandbox::Sandbox;
use upwarden::testing::clock::{Clock, SystemClock};
use upwarden::testing::seal::{Key, Keyring, SharedKeyring};
use upwarden::testing::secret::Secret;
use upwarden::testing::session::{AccessToken, Grant, IdentityFields, Lifetime, RefreshToken, Session, Tokens, User};
use upwarden::testing::store::{Config, ServerConfig, StoredSession, open_store};

use super::DAY;
use super::crowd::{COOKIE, Crowd};
use super::stores::{plan, serve_at};
use crate::harness::{Client, FREELANCER, Plan, Upwarden, World, full, listener, until, within};
use crate::stores::world::{Server, Transport};

/// With limits that this crowd at one address does not reach.
fn roomy(plan: Plan) -> Plan {
    let limits = [
        ("public.limits.sign_ins_per_address", 1_000_000),
        ("session.max_per_user", 1_000_000),
        // A replica that was away assumes the most that others may have used: every second of a minute in full.
        ("pace.per_second", 1_000),
        ("pace.per_minute", 60_000),
        ("pace.per_day", 1_000_000),
    ];
    limits.into_iter().fold(plan, |plan, (key, limit)| plan.set(key, limit))
}

/// The value of a setting of the world's sidecars.
fn setting<'a>(world: &'a World, key: &str) -> &'a str {
    world.settings().iter().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap()
}

/// A session as a sign-in now would make it.
fn session(number: usize, sandbox: &Sandbox, client_id: &str) -> Session {
    let (granted, now) = (sandbox.grant(FREELANCER, client_id).unwrap(), SystemClock.now());
    Session {
        id: format!("{number:032x}"),
        user: User { id: FREELANCER.to_owned(), nid: "foofreelancer".to_owned(), name: None },
        organization: None,
        grant: Grant::Code,
        tokens: Tokens {
            access: AccessToken::parse(granted.access_token.expose().to_owned()).unwrap(),
            refresh: Some(RefreshToken::parse(granted.refresh_token.expose().to_owned()).unwrap()),
            issued_at: now,
            expires_at: now.plus(DAY),
        },
        began_at: now,
        refreshed: None,
        checked: None,
        identity: IdentityFields::default(),
    }
}

/// Browsers with sessions that were written into this store.
async fn sealed(world: &World, store: &Config, count: usize) -> Vec<Client> {
    let key = Key::parse(&Secret::new(setting(world, "session.keys"))).unwrap();
    let ring = SharedKeyring::new(Keyring::new(vec![key]).unwrap().named(&world.url("")));
    let store = open_store(store, ring, Arc::new(SystemClock), Handle::current()).unwrap();
    let (store, sandbox, client_id) = (&store, &world.upwork.sandbox, setting(world, "upwork.client_id"));
    let saved = stream::iter(0..count).map(|number| async move {
        let session = session(number, sandbox, client_id);
        let ends_at = session.ends_at(Lifetime { idle: 14 * DAY, max: None });
        let value = within(store.save(&StoredSession::new(session), ends_at)).await.unwrap();
        let client = world.client();
        client.plant(COOKIE, &value);
        client
    });
    let clients = saved.buffer_unordered(200).collect().await;
    // Each one's first call refreshes, so that kills interrupt refreshes too.
    sandbox.expire_all();
    clients
}

/// A replica in its own process.
struct Replica {
    process: Upwarden,
    public: SocketAddr,
    admin: SocketAddr,
}

impl Replica {
    /// Starts one, and waits until it is ready.
    async fn start(world: &World, own: &[(&str, &str)]) -> Self {
        let (public, admin) = (listener().local_addr().unwrap(), listener().local_addr().unwrap());
        let (process, public) = serve_at(world, own, public, admin).await;
        let this = Self { process, public, admin };
        this.ready().await;
        this
    }

    async fn ready(&self) {
        let admin = Client::at(self.admin);
        until("a replica is ready", async || {
            let answer = admin.get("/readyz").attempt().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }
}

/// Kills this replica under traffic, and starts it again at another address.
async fn kill(world: &World, crowd: &Crowd, replica: &mut Replica, (number, own): (usize, &[(&str, &str)])) {
    let before = crowd.tally();
    replica.process.kill();
    crowd.until("the kill is noticed", |tally| tally.gone > before.gone).await;
    *replica = Replica::start(world, own).await;
    crowd.moved(number, replica.public);
    let before = crowd.tally();
    crowd.until("it serves again", |tally| tally.well[number] > before.well[number]).await;
}

/// Kills the server under traffic, and starts it again on the same files.
async fn kill_redis(crowd: &Crowd, mut redis: Server) -> Server {
    let before = crowd.tally();
    redis.kill();
    crowd.until("its end is noticed", |tally| tally.refused > before.refused).await;
    let restarted = tokio::task::spawn_blocking(move || {
        redis.restart();
        redis
    });
    within(restarted).await.unwrap()
}

#[tokio::test]
async fn kill_9_of_a_replica_and_of_redis_loses_none_of_ten_thousand_sessions() {
    let Some(redis) = Server::start(Transport::Tcp) else { return };
    let (count, sign_ins) = if full() { (10_000, 100) } else { (1_000, 20) };
    let world = roomy(plan(&redis)).start();
    let store = Config::Valkey(ServerConfig::new(redis.url.clone()));
    let mut replicas = vec![Replica::start(&world, &[]).await, Replica::start(&world, &[]).await];
    let crowd = Crowd::new(sealed(&world, &store, count).await, replicas.iter().map(|one| one.public).collect());
    let script = async {
        crowd.pages(count / 4).await;
        crowd.sign_ins(5).await;
        kill(&world, &crowd, &mut replicas[1], (1, &[])).await;
        crowd.pages(count / 2).await;
        let _redis = kill_redis(&crowd, redis).await;
        for replica in &replicas {
            replica.ready().await;
        }
        crowd.pages(count).await;
        crowd.sign_ins(sign_ins).await;
        crowd.end();
        let all = crowd.all_are_signed_in().await;
        assert!(all >= count + sign_ins, "{all}");
    };
    tokio::join!(script, crowd.ask_on(), crowd.sign_in_on(&world), crowd.sign_in_on(&world));
}

#[tokio::test]
async fn kill_9_of_the_process_with_the_file_loses_none_of_a_thousand_sessions() {
    let count = if full() { 1_000 } else { 200 };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let world = roomy(World::new()).start();
    let clients = sealed(&world, &Config::Embedded { path: path.clone() }, count).await;
    let path = path.display().to_string();
    let own = [("store.kind", "embedded"), ("store.path", path.as_str())];
    let mut replica = Replica::start(&world, &own).await;
    let crowd = Crowd::new(clients, vec![replica.public]);
    let script = async {
        for round in 1..=3 {
            crowd.pages(count * round / 3).await;
            crowd.sign_ins(5 * round).await;
            kill(&world, &crowd, &mut replica, (0, &own)).await;
        }
        crowd.sign_ins(20).await;
        crowd.end();
        let all = crowd.all_are_signed_in().await;
        assert!(all >= count + 20, "{all}");
    };
    tokio::join!(script, crowd.ask_on(), crowd.sign_in_on(&world), crowd.sign_in_on(&world));
}
