//! Replicas with one Redis server between them, which runs upwarden's own script by a clock that the test turns.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use upwarden::testing::broker::Pace;
use upwarden::testing::clock::{Clock, ManualClock, Timestamp};
use upwarden::testing::pacing::{CallerId, Pacer, RateLimited};
use upwarden::testing::store::{RATE_LIMIT_KEYS, RATE_LIMIT_SCRIPT, RateReply, RateRequest, StoreError};
use upwarden::testing::telemetry::Metrics;

use super::START;
use crate::stores::world::{Server, Transport, within};

pub(super) const STEP: Duration = Duration::from_millis(50);
/// The script asks for the time; here it gets the test's.
pub(crate) const TURNED_CLOCK: &str = "
local real = redis
local redis = { call = function(name, ...)
    if name == 'TIME' then return { math.floor(ARGV[2] / 1000), ARGV[2] % 1000 * 1000 } end
    return real.call(name, ...)
end }
";

/// What is between the replicas.
struct Shared {
    connection: MultiplexedConnection,
    script: redis::Script,
    clock: Arc<ManualClock>,
    down: AtomicBool,
    round_trips: AtomicUsize,
    reservation: Mutex<Option<RateRequest>>,
}

impl Shared {
    async fn ask(&self, request: RateRequest) -> Result<RateReply, StoreError> {
        self.round_trips.fetch_add(1, Ordering::Relaxed);
        if self.down.load(Ordering::Relaxed) {
            return Err(StoreError::Down("it is turned off".to_owned()));
        }
        let mut run = self.script.key(&RATE_LIMIT_KEYS);
        let json = serde_json::to_string(&request).unwrap();
        if json.contains("\"call\":") {
            *self.reservation.lock().unwrap() = Some(request);
        }
        run.arg(json).arg(self.clock.now().millis());
        let reply: String = within(run.invoke_async(&mut self.connection.clone())).await.unwrap();
        Ok(serde_json::from_str(&reply).unwrap())
    }
}

pub(super) struct Replica {
    pub(super) pacer: Arc<Pacer>,
    clock: Arc<ManualClock>,
}

/// Replicas and what is between them.
pub(super) struct Cluster {
    pace: Pace,
    pub(super) replicas: Vec<Replica>,
    shared: Arc<Shared>,
    /// When each call was released, when it reached Upwork, and by whom it was made.
    pub(super) log: Arc<Mutex<Vec<(i64, i64, usize)>>>,
    steps: usize,
    _server: Server,
}

impl Cluster {
    /// One replica for each number, by which its clock is off in milliseconds.
    pub(super) async fn new(pace: Pace, skews: &[i64]) -> Option<Self> {
        let server = Server::start(Transport::Socket)?;
        let shared = Shared {
            connection: server.admin().await,
            script: redis::Script::new(&format!("{TURNED_CLOCK}{RATE_LIMIT_SCRIPT}")),
            clock: ManualClock::at(START),
            down: AtomicBool::new(false),
            round_trips: AtomicUsize::new(0),
            reservation: Mutex::default(),
        };
        let (shared, log) = (Arc::new(shared), Arc::default());
        let mut cluster = Self { pace, replicas: Vec::new(), shared, log, steps: 0, _server: server };
        for skew in skews {
            cluster.join(*skew);
        }
        cluster.settle().await;
        Some(cluster)
    }

    pub(super) fn join(&mut self, skew: i64) {
        let clock = ManualClock::at(Timestamp::from_millis(self.time().millis() + skew));
        let pacer = Pacer::new(&self.pace, clock.clone(), Arc::new(Metrics::new()), Handle::current());
        pacer.begin_sharing();
        self.replicas.push(Replica { pacer, clock });
    }

    pub(super) fn time(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Callers at a replica, each of which makes some calls one after the other. A call takes up to half a second to
    /// arrive.
    pub(super) fn call(
        &self,
        replica: usize,
        callers: usize,
        calls: usize,
    ) -> Vec<JoinHandle<Result<(), RateLimited>>> {
        let Replica { pacer, clock } = &self.replicas[replica];
        let task = |caller: usize| {
            let (pacer, clock, log, server) =
                (pacer.clone(), clock.clone(), self.log.clone(), self.shared.clock.clone());
            tokio::spawn(async move {
                let caller = CallerId::user(&caller.to_string());
                for _ in 0..calls {
                    let permit = pacer.acquire(caller.clone()).await?;
                    let released = server.now().millis();
                    let way = {
                        let mut log = log.lock().unwrap();
                        // The same numbers in every run.
                        let random = (log.len() as u64 + 7).wrapping_mul(6_364_136_223_846_793_005);
                        let way = (random >> 33) % 500;
                        log.push((released, released + i64::try_from(way).unwrap(), replica));
                        way
                    };
                    clock.sleep_until(clock.now().plus(Duration::from_millis(way))).await;
                    drop(permit);
                }
                Ok(())
            })
        };
        (0..callers).map(task).collect()
    }

    /// Lets everything happen that happens at this moment. Another replica comes first at each step.
    pub(super) async fn settle(&mut self) {
        loop {
            let before = self.round_trips();
            for place in 0..self.replicas.len() {
                let Replica { pacer, .. } = &self.replicas[(self.steps + place) % self.replicas.len()];
                let_all_run().await;
                pacer.sync(&|request| self.shared.ask(request)).await;
            }
            let_all_run().await;
            if self.round_trips() == before {
                return;
            }
        }
    }

    pub(super) async fn step(&mut self) {
        self.steps += 1;
        self.advance(STEP).await;
    }

    pub(super) async fn advance(&mut self, by: Duration) {
        for clock in self.replicas.iter().map(|replica| &replica.clock).chain([&self.shared.clock]) {
            clock.advance(by);
        }
        self.settle().await;
    }

    pub(super) async fn run_for(&mut self, span: Duration) {
        self.run_until(self.time().plus(span)).await;
    }

    pub(super) async fn run_until(&mut self, moment: Timestamp) {
        while self.time() < moment {
            self.step().await;
        }
    }

    pub(super) async fn run_until_released(&mut self, calls: usize) {
        while self.released() < calls {
            self.step().await;
            assert!(
                self.time().since(START) < Duration::from_hours(1),
                "{} of {calls} calls in an hour",
                self.released()
            );
        }
    }

    pub(super) fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::Relaxed)
    }

    pub(super) fn released(&self) -> usize {
        self.log.lock().unwrap().len()
    }

    pub(super) fn released_by(&self, replica: usize) -> usize {
        self.log.lock().unwrap().iter().filter(|(.., by)| *by == replica).count()
    }

    /// Sends the last request for a call again, as a connection does that broke before the answer came.
    pub(super) async fn send_reservation_again(&self) {
        let request = self.shared.reservation.lock().unwrap().clone().unwrap();
        self.shared.ask(request).await.unwrap();
    }

    pub(super) fn set_down(&self, down: bool) {
        self.shared.down.store(down, Ordering::Relaxed);
    }

    /// The calls beyond ten in any second or three hundred in any minute.
    pub(super) fn violations(&self) -> usize {
        let mut arrivals: Vec<i64> = self.log.lock().unwrap().iter().map(|(_, arrival, _)| *arrival).collect();
        arrivals.sort_unstable();
        let close =
            |count: usize, span: i64| arrivals.windows(count + 1).filter(move |calls| calls[count] - calls[0] < span);
        close(10, 1_000).count() + close(300, 60_000).count()
    }
}

async fn let_all_run() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}
