//! The service identity with a refresh token: kept alive, rotated, recovered, and reported when it is dead.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use upwarden::sandbox::{self, Fault, GRAPHQL_PATH, REVOKE_PATH, Sandbox, TOKEN_PATH, Target, Times};
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::{Clock, ManualClock, Timestamp};
use upwarden::testing::descriptors::Descriptors;
use upwarden::testing::listener::plain;
use upwarden::testing::oauth::{
    Config, Dependencies, Outbound, RefreshError, ServiceConfig, ServiceGrant, ServiceIdentity, Upwork,
};
use upwarden::testing::pacing::Pacer;
use upwarden::testing::seal::{Keyring, SharedKeyring};
use upwarden::testing::secret::Secret;
use upwarden::testing::session::Grant;
use upwarden::testing::store::{self, Store};
use upwarden::testing::telemetry::Metrics;

use super::{WHO, ask, whom};
use crate::harness::{AGENCY, FREELANCER, World, until};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const START: Timestamp = Timestamp::from_seconds(1_795_485_600);
const DAY: Duration = Duration::from_hours(24);

/// A sandbox, a store and a file with a refresh token.
struct Scene {
    sandbox: Sandbox,
    clock: Arc<ManualClock>,
    url: url::Url,
    store: Store,
    metrics: Arc<Metrics>,
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Scene {
    async fn start(config: sandbox::Config) -> Self {
        let clock = ManualClock::at(START);
        let sandbox = Sandbox::new(config, clock.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url::Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let (shutdown, upwork) = (CancellationToken::new(), sandbox.clone());
        let answer = move |request, peer| {
            let upwork = upwork.clone();
            async move { upwork.handle(request, peer).await }
        };
        tokio::spawn(plain::serve(listener, answer, shutdown.clone()));
        let folder = tempfile::tempdir().unwrap();
        let ring = SharedKeyring::new(Keyring::generate().unwrap());
        let place = store::Config::Embedded { path: folder.path().join("store.redb") };
        let store = store::open_store(&place, ring, clock.clone(), Handle::current()).unwrap();
        let scene = Self { sandbox, clock, url, store, metrics: Arc::new(Metrics::new()), folder, shutdown };
        scene.write(FREELANCER);
        scene
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("refresh-token")
    }

    /// As `upwarden login` would write it.
    fn write(&self, account: &str) {
        let granted = self.sandbox.grant(account, KEY).unwrap();
        std::fs::write(self.file(), format!("{}\n", granted.refresh_token.expose())).unwrap();
    }

    /// Another process over the same store.
    fn process(&self) -> Arc<ServiceIdentity> {
        let at = |path: &str| self.url.join(path).unwrap();
        let config = Config {
            client_id: KEY.to_owned(),
            client_secret: Secret::new("x").into(),
            grant: Grant::Code,
            authorize_url: at("/"),
            token_url: at(TOKEN_PATH),
            revoke_url: at(REVOKE_PATH),
            graphql_url: at(GRAPHQL_PATH),
            issuer: None,
            redirect_uri: "http://127.0.0.1/".to_owned(),
            implicit_identity: false,
            outbound: Outbound { user_agent: "test".to_owned(), ..Outbound::default() },
        };
        let service = ServiceConfig {
            grant: ServiceGrant::RefreshToken { file: Some(self.file()) },
            client_id: KEY.to_owned(),
            client_secret: Secret::new("x").into(),
            redirect_uri: None,
        };
        let pace = Pace { per_second: 100_000, per_minute: 100_000, ..Pace::default() };
        let pacer = Pacer::new(&pace, self.clock.clone(), self.metrics.clone(), Handle::current());
        let deps = Dependencies {
            upwork: Upwork::new(config, self.clock.clone(), Handle::current(), pacer, Descriptors::new(None)),
            store: self.store.clone(),
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            control: Handle::current(),
        };
        ServiceIdentity::new(service, deps)
    }

    fn refreshes(&self) -> u64 {
        self.sandbox.counters().token.refresh_token
    }

    fn seconds_left(&self) -> f64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix("upwarden_service_refresh_token_seconds_left "));
        line.map_or(-1.0, |value| value.parse().unwrap())
    }
}

#[tokio::test]
async fn it_lives_for_months_without_any_call() {
    let scene = Scene::start(sandbox::Config { strict: true, ..sandbox::Config::default() }).await;
    let service = scene.process();
    let end = START.plus(DAY * 120);
    let mut rounds = 0;
    while scene.clock.now() < end {
        let next = service.renew_if_due().await.unwrap();
        let wait = next.since(scene.clock.now());
        assert!(wait > Duration::ZERO && wait <= DAY, "{wait:?}");
        assert!(scene.seconds_left() > 12.0 * 86_400.0);
        scene.clock.advance(wait);
        rounds += 1;
    }
    assert_eq!(scene.refreshes(), rounds, "twice a day");
    assert!(service.token(None).await.is_ok());
    // Another replica uses what is stored.
    scene.process().token(None).await.unwrap();
    assert!(scene.refreshes() <= rounds + 1);
}

#[tokio::test]
async fn it_is_never_lost_while_upwork_answers_at_least_once_in_two_weeks() {
    let scene = Scene::start(sandbox::Config::default()).await;
    let service = scene.process();
    service.renew_if_due().await;
    for _ in 0..8 {
        // Thirteen and a half days without an answer, then one.
        let back = scene.clock.now().plus(DAY * 13 + DAY / 2);
        scene.clock.advance(DAY);
        while scene.clock.now() < back {
            scene.sandbox.fault(Target::Token, Fault::InternalError, Times::Only(1));
            let next = service.renew_if_due().await.unwrap();
            scene.clock.advance(next.since(scene.clock.now()).max(Duration::from_hours(6)));
        }
        assert!(service.problem().borrow().is_none(), "not dead yet");
        service.renew_if_due().await;
        assert!(service.token(None).await.is_ok());
    }
}

#[tokio::test]
async fn it_recovers_when_killed_between_receiving_and_storing_a_token() {
    let scene = Scene::start(sandbox::Config::default()).await;
    scene.process().renew_if_due().await;
    for round in 0..5 {
        // The next process refreshes and dies before it stores the answer, so the record is unchanged.
        scene.clock.advance(Duration::from_hours(13));
        let record = scene.store.get_grant("service").await.unwrap().unwrap();
        scene.process().renew_if_due().await;
        scene.store.put_grant("service", &record.bytes, &store::Expect::Anything).await.unwrap();
        // Upwork accepts the old token for a day; the next start refreshes at once and does not wait for a call.
        scene.clock.advance(Duration::from_hours(9));
        let service = scene.process();
        service.renew_if_due().await;
        assert!(service.problem().borrow().is_none() && service.token(None).await.is_ok(), "{round}");
    }
}

#[tokio::test]
async fn two_processes_share_one_rotation() {
    let scene = Scene::start(sandbox::Config { strict: true, ..sandbox::Config::default() }).await;
    let (one, other) = (scene.process(), scene.process());
    one.renew_if_due().await;
    scene.clock.advance(Duration::from_hours(30));
    let (a, b) = tokio::join!(one.token(None), other.token(None));
    assert_eq!(a.unwrap().expose(), b.unwrap().expose(), "one rotation for both");
    assert_eq!(scene.refreshes(), 2);
}

#[tokio::test]
async fn the_file_is_imported_once_and_again_only_when_the_grant_is_dead() {
    let scene = Scene::start(sandbox::Config::default()).await;
    let service = scene.process();
    service.renew_if_due().await;
    // Another token in the file changes nothing while the record is valid.
    scene.write(AGENCY);
    scene.clock.advance(DAY);
    scene.process().renew_if_due().await;
    assert_eq!(scene.refreshes(), 2);
    scene.sandbox.revoke_all();
    let before = scene.refreshes();
    scene.clock.advance(DAY);
    let late = service.token(None).await;
    assert!(matches!(&late, Err(RefreshError::Misconfigured(why)) if why.contains("upwarden login")), "{late:?}");
    // One request for the record and one for the file; more callers do not add any.
    assert_eq!(scene.refreshes(), before + 2);
    for process in [&service, &service, &scene.process()] {
        assert!(process.token(None).await.is_err());
    }
    assert!(scene.refreshes() <= before + 3);
    assert!(service.problem().borrow().as_ref().is_some_and(|why| why.contains("ended")));
    assert!(scene.seconds_left().abs() < 1.0);
    scene.write(FREELANCER);
    assert!(service.token(None).await.is_ok(), "the running process uses a new login");
    assert!(service.problem().borrow().is_none());
}

#[tokio::test]
async fn a_dead_identity_is_reported_by_readyz_with_200_and_calls_get_503() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("refresh-token");
    std::fs::write(&file, "oauth2v2_00000000000000000000000000000000\n").unwrap();
    let world = World::new()
        .set("store.kind", "embedded")
        .set("store.path", folder.path().join("store.redb").display())
        .set("service.grant", "refresh_token")
        .set("service.refresh_token_file", file.display())
        .start();
    let answer = ask(&world.neighbour(), WHO).await;
    assert_eq!((answer.status.as_u16(), answer.problem().as_str()), (503, "service-unavailable"));
    until("the note", || async {
        let ready = world.admin().get("/readyz").await;
        (ready.status == 200 && ready.text().contains("service identity: dead")).then_some(())
    })
    .await;
    assert!(world.admin().get("/metrics").await.text().contains("upwarden_service_refresh_token_seconds_left 0"));
    let granted = world.upwork.sandbox.grant(AGENCY, KEY).unwrap();
    std::fs::write(&file, granted.refresh_token.expose()).unwrap();
    assert_eq!(whom(&ask(&world.neighbour(), WHO).await), AGENCY);
    until("the note gone", || async { (world.admin().get("/readyz").await.text() == "ready\n").then_some(()) }).await;
}
