//! Refreshes over several replicas that share a store, against a sandbox that revokes a family on any replay.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use upwarden::sandbox::{self, Fault, GRAPHQL_PATH, REVOKE_PATH, Sandbox, TOKEN_PATH, Target, Times};
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::ManualClock;
use upwarden::testing::descriptors::Descriptors;
use upwarden::testing::listener::plain;
use upwarden::testing::oauth::{Config as OauthConfig, Dependencies, Outbound, RefreshError, Refresher, Upwork};
use upwarden::testing::pacing::Pacer;
use upwarden::testing::secret::Secret;
use upwarden::testing::session::{AccessToken, Grant, RefreshToken, Session, Tokens};
use upwarden::testing::store::{Store, StoredSession};
use upwarden::testing::telemetry::Metrics;

use super::world::{START, WHOLE, World, until, within};

/// Users are not rechecked.
const NEVER: Duration = Duration::from_hours(365 * 24);
const CLIENT: &str = "0123456789abcdef0123456789abcdef";
const FREELANCER: &str = "1181921839933591552";

/// A sandbox, and a session whose token is due.
struct Scene {
    world: World,
    sandbox: Sandbox,
    url: url::Url,
    shutdown: CancellationToken,
    /// The session's cookie.
    value: String,
}

struct Replica {
    store: Store,
    refresher: Arc<Refresher>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Scene {
    async fn start(world: World) -> Self {
        let config = sandbox::Config { strict: true, ..sandbox::Config::default() };
        let sandbox = Sandbox::new(config, world.clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url::Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let shutdown = CancellationToken::new();
        let upwork = sandbox.clone();
        let answer = move |request, peer| {
            let upwork = upwork.clone();
            async move { upwork.handle(request, peer).await }
        };
        tokio::spawn(plain::serve(listener, answer, shutdown.clone()));
        let granted = sandbox.grant(FREELANCER, CLIENT).unwrap();
        let tokens = Tokens {
            access: AccessToken::parse(granted.access_token.expose().to_owned()).unwrap(),
            refresh: Some(RefreshToken::parse(granted.refresh_token.expose().to_owned()).unwrap()),
            issued_at: START,
            expires_at: START.plus(Duration::from_hours(24)),
        };
        let value = world.save(Session { tokens, ..super::session("aa", FREELANCER) }).await;
        world.clock.advance(Duration::from_hours(24));
        Self { world, sandbox, url, shutdown, value }
    }

    /// With its own store and refreshes, like another process.
    fn replica(&self) -> Replica {
        let store = self.world.open_again().unwrap();
        Replica { refresher: self.refresher(store.clone(), self.world.clock.clone()), store }
    }

    fn refresher(&self, store: Store, clock: Arc<ManualClock>) -> Arc<Refresher> {
        let at = |path: &str| self.url.join(path).unwrap();
        let config = OauthConfig {
            client_id: CLIENT.to_owned(),
            client_secret: Secret::new("any").into(),
            grant: Grant::Code,
            authorize_url: at("/"),
            token_url: at(TOKEN_PATH),
            revoke_url: at(REVOKE_PATH),
            graphql_url: at(GRAPHQL_PATH),
            issuer: None,
            redirect_uri: "http://localhost:3000/callback".to_owned(),
            implicit_identity: false,
            outbound: Outbound { user_agent: "upwarden-test".to_owned(), ..Outbound::default() },
        };
        let metrics = Arc::new(Metrics::new());
        let pace = Pace { per_second: 100_000, per_minute: 100_000, ..Pace::default() };
        let pacer = Pacer::new(&pace, clock.clone(), metrics.clone(), Handle::current());
        let upwork = Upwork::new(config, clock.clone(), Handle::current(), pacer, Descriptors::new(None));
        let deps = Dependencies { upwork, store, metrics, clock, control: Handle::current() };
        Refresher::new(deps, WHOLE, NEVER)
    }

    fn calls(&self) -> u64 {
        self.sandbox.counters().token.refresh_token
    }
}

impl Replica {
    async fn open(&self, scene: &Scene) -> StoredSession {
        within(self.store.open(&scene.value)).await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn three_replicas_with_one_server_make_one_token_call() {
    let Some(world) = World::valkey() else { return };
    let scene = Scene::start(world).await;
    let replicas = [scene.replica(), scene.replica(), scene.replica()];
    let mut refreshes = Vec::new();
    for replica in &replicas {
        let stored = replica.open(&scene).await;
        refreshes.extend((0..67).map(|_| replica.refresher.fresh(stored.clone(), None)));
    }
    let answers = within(futures_util::future::join_all(refreshes)).await;
    let first = answers[0].as_ref().unwrap().session.tokens.access.expose().to_owned();
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().session.tokens.access.expose() == first));
    assert_eq!(scene.calls(), 1);
    let later = replicas[2].open(&scene).await;
    assert_eq!(later.session.tokens.access.expose(), first, "the cookie from before leads to it");
    // A 401 after which another replica has refreshed costs no call either.
    scene.sandbox.expire_all();
    let rejected = &later.session.tokens.access;
    within(replicas[0].refresher.fresh(later.clone(), Some(rejected))).await.unwrap();
    let mended = within(replicas[1].refresher.fresh(later.clone(), Some(rejected))).await.unwrap();
    assert_ne!(mended.session.tokens.access.expose(), first);
    assert_eq!(scene.calls(), 2);
}

#[tokio::test]
async fn tokens_received_while_the_store_was_down_are_not_lost() {
    let Some(world) = World::valkey() else { return };
    let mut scene = Scene::start(world).await;
    let replica = scene.replica();
    let stored = replica.open(&scene).await;
    scene.sandbox.fault(Target::Token, slow(), Times::Only(1));
    let refresh = tokio::spawn({
        let (refresher, stored) = (replica.refresher.clone(), stored.clone());
        async move { refresher.fresh(stored, None).await }
    });
    within(scene.sandbox.held(1)).await;
    scene.world.server.as_mut().unwrap().kill();
    scene.sandbox.release();
    let answer = within(refresh).await.unwrap();
    assert!(matches!(answer, Err(RefreshError::Store(_))), "{answer:?}");
    scene.world.server.as_mut().unwrap().restart();
    let fresh = until(async || replica.refresher.fresh(stored.clone(), None).await.ok()).await;
    assert_eq!(scene.calls(), 1, "a second call would have revoked the family");
    let stored = replica.open(&scene).await;
    assert_eq!(stored.session.tokens.access.expose(), fresh.session.tokens.access.expose());
}

#[tokio::test]
async fn tokens_received_while_the_store_was_down_are_written_without_another_request() {
    let Some(world) = World::valkey() else { return };
    let mut scene = Scene::start(world).await;
    let (here, there) = (scene.replica(), scene.replica());
    let stored = here.open(&scene).await;
    scene.sandbox.fault(Target::Token, slow(), Times::Only(1));
    let refresh = tokio::spawn({
        let (refresher, stored) = (here.refresher.clone(), stored.clone());
        async move { refresher.fresh(stored, None).await }
    });
    within(scene.sandbox.held(1)).await;
    scene.world.server.as_mut().unwrap().kill();
    scene.sandbox.release();
    let answer = within(refresh).await.unwrap();
    assert!(matches!(answer, Err(RefreshError::Store(_))), "{answer:?}");
    scene.world.server.as_mut().unwrap().restart();
    let old = stored.session.tokens.access.expose();
    let written = until(async || {
        let found = there.store.open(&scene.value).await.ok().flatten()?;
        (found.session.tokens.access.expose() != old).then_some(found)
    })
    .await;
    within(there.refresher.fresh(written, None)).await.unwrap();
    assert_eq!(scene.calls(), 1, "a second call would have revoked the family");
}

#[tokio::test]
async fn a_store_that_is_down_leaves_the_session_alone() {
    let Some(world) = World::valkey() else { return };
    let mut scene = Scene::start(world).await;
    let replica = scene.replica();
    let stored = replica.open(&scene).await;
    scene.world.server.as_mut().unwrap().kill();
    let answer = within(replica.refresher.fresh(stored, None)).await;
    assert!(matches!(answer, Err(RefreshError::Store(_))), "{answer:?}");
    assert_eq!(scene.calls(), 0);
}

#[tokio::test]
async fn a_session_signed_out_during_its_refresh_does_not_come_back() {
    for world in World::with_records() {
        let scene = Scene::start(world).await;
        let store = scene.world.store.clone();
        let refresher = scene.refresher(store.clone(), scene.world.clock.clone());
        let stored = scene.world.open(&scene.value).await.unwrap();
        scene.sandbox.fault(Target::Token, slow(), Times::Only(1));
        let refresh = tokio::spawn({
            let stored = stored.clone();
            async move { refresher.fresh(stored, None).await }
        });
        within(scene.sandbox.held(1)).await;
        within(store.end_user(FREELANCER, None)).await.unwrap();
        scene.sandbox.release();
        let answer = within(refresh).await.unwrap();
        assert!(matches!(answer, Err(RefreshError::Revoked)), "{answer:?}");
        assert!(scene.world.open(&scene.value).await.is_none(), "{}", scene.world.kind);
    }
}

#[tokio::test]
async fn a_refusal_of_upwork_ends_the_session_for_every_replica() {
    for world in World::with_records() {
        let scene = Scene::start(world).await;
        let refresher = scene.refresher(scene.world.store.clone(), scene.world.clock.clone());
        let stored = scene.world.open(&scene.value).await.unwrap();
        scene.sandbox.revoke_all();
        let answer = within(refresher.fresh(stored, None)).await;
        assert!(matches!(answer, Err(RefreshError::Revoked)), "{answer:?}");
        assert!(scene.world.open(&scene.value).await.is_none(), "{}", scene.world.kind);
    }
}

#[tokio::test]
async fn the_cookie_store_refreshes_once_too() {
    let scene = Scene::start(World::cookie()).await;
    let replica = scene.replica();
    let stored = replica.open(&scene).await;
    let refreshes = (0..200).map(|_| replica.refresher.fresh(stored.clone(), None));
    let answers = within(futures_util::future::join_all(refreshes)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(scene.calls(), 1);
}

fn slow() -> Fault {
    Fault::Slow { millis: None }
}
