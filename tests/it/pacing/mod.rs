//! The pacer against the sandbox, which enforces Upwork's limits on its own, with the default settings and callers that
//! obey `Retry-After`.

pub(crate) mod cluster;
mod replicas;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::{AUTHORIZATION, RETRY_AFTER};
use http::{Request, StatusCode};
use tokio::runtime::Handle;
use upwarden::sandbox::{Config, Sandbox};
use upwarden::testing::body::Body;
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::{Clock, ManualClock, Timestamp};
use upwarden::testing::pacing::{CallerId, Pacer};
use upwarden::testing::telemetry::Metrics;

/// Ten minutes into a UTC day.
const START: Timestamp = Timestamp::from_seconds(20_000 * 86_400 + 600);
/// What the limit allows: six minutes of 300, and 200 in twenty bursts of ten.
const BEST: Duration = Duration::from_secs(6 * 60 + 19);

struct World {
    clock: Arc<ManualClock>,
    pacer: Arc<Pacer>,
    sandbox: Sandbox,
    bearer: String,
    /// Whose calls were answered, in order.
    log: Mutex<Vec<usize>>,
}

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
impl World {
    fn new() -> Arc<Self> {
        let clock = ManualClock::at(START);
        let config = Config { limits: true, token_lifetime: Duration::from_hours(24), ..Config::default() };
        let sandbox = Sandbox::new(config, clock.clone());
        let granted = sandbox.grant("1181921839933591552", "client").unwrap();
        let pacer = Pacer::new(&Pace::default(), clock.clone(), Arc::new(Metrics::new()), Handle::current());
        let bearer = format!("Bearer {}", granted.access_token.expose());
        Arc::new(Self { clock, pacer, sandbox, bearer, log: Mutex::default() })
    }

    /// One call, asked for until it is made.
    async fn call(&self, caller: usize) {
        let permit = loop {
            match self.pacer.acquire(CallerId::user(&caller.to_string())).await {
                Ok(permit) => break permit,
                Err(refusal) => {
                    let again = self.clock.now().plus(Duration::from_secs(refusal.retry_after_seconds()));
                    self.clock.sleep_until(again).await;
                }
            }
        };
        let request = Request::get("/api/auth/v1/info.json").header(AUTHORIZATION, &self.bearer);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let answer = self.sandbox.handle(request.body(Body::empty()).unwrap(), peer).await;
        assert_eq!(answer.status(), StatusCode::OK);
        permit.answered(answer.status(), answer.headers().get(RETRY_AFTER));
        self.log.lock().unwrap().push(caller);
    }

    fn answered(&self) -> usize {
        self.log.lock().unwrap().len()
    }
}

#[tokio::test]
async fn two_thousand_calls_of_twenty_callers_get_no_429_and_waste_no_time() {
    let world = World::new();
    // The greedy caller has two hundred calls at a time, the others one each.
    let calls = (0..200).map(|_| (0, 5)).chain((1..20).map(|caller| (caller, if caller < 13 { 53 } else { 52 })));
    let tasks: Vec<_> = calls
        .map(|(caller, count)| {
            let world = world.clone();
            tokio::spawn(async move {
                for _ in 0..count {
                    world.call(caller).await;
                }
            })
        })
        .collect();
    while world.answered() < 2_000 {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        world.clock.advance(Duration::from_millis(50));
        assert!(world.clock.now().since(START) < BEST * 105 / 100, "{} calls in time", world.answered());
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(world.sandbox.counters().rate_limited, 0);
    let mut counts = [0_usize; 20];
    for caller in &world.log.lock().unwrap()[..1_000] {
        counts[*caller] += 1;
    }
    assert!(counts[1..].iter().all(|count| (45..=55).contains(count)), "{counts:?}");
    assert_eq!(world.pacer.quota().remaining, 38_000);
}
