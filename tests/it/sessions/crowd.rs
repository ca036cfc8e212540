//! A crowd of browsers that go on asking with their cookies, whatever is killed meanwhile, and hold every answer against
//! what a person who is signed in may be told.

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ME;
use crate::harness::{Call, Client, FREELANCER, World, within};

/// Pages at once.
const AT_ONCE: usize = 50;
/// Calls of the API at once; each of them waits for its turn under Upwork's limits.
const CALLS_AT_ONCE: usize = 4;
/// Progress is waited for in steps of so many pages.
const STEP: usize = 500;
/// The session's cookie.
pub(super) const COOKIE: &str = "upwarden";

/// What came of the requests so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Pages that were answered well, by replica.
    pub(super) well: Vec<usize>,
    /// Calls of the API so far, each of another session, and how many were answered well.
    pub(super) calls: usize,
    pub(super) called: usize,
    /// 502 or 503.
    pub(super) refused: usize,
    /// No answer, or a broken one.
    pub(super) gone: usize,
    /// Sign-ins whose cookie has come.
    pub(super) begun: usize,
}

impl Tally {
    pub(super) fn all_well(&self) -> usize {
        self.well.iter().sum()
    }
}

/// Everybody who is signed in, and where they ask.
pub(super) struct Crowd {
    clients: Mutex<Vec<Client>>,
    doors: Mutex<Vec<SocketAddr>>,
    tally: watch::Sender<Tally>,
    over: CancellationToken,
}

impl Crowd {
    /// These browsers, asking at these doors in turn.
    pub(super) fn new(clients: Vec<Client>, doors: Vec<SocketAddr>) -> Self {
        let tally = watch::Sender::new(Tally { well: vec![0; doors.len()], ..Tally::default() });
        Self { clients: Mutex::new(clients), doors: Mutex::new(doors), tally, over: CancellationToken::new() }
    }

    /// A replica is elsewhere from now on.
    pub(super) fn moved(&self, replica: usize, door: SocketAddr) {
        self.doors.lock().unwrap()[replica] = door;
    }

    /// Everybody may go home.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits until the tally is as wanted.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Tally) -> bool) {
        let mut told = self.tally.subscribe();
        let came = tokio::time::timeout(crate::harness::PATIENCE, told.wait_for(|tally| wanted(tally))).await;
        assert!(came.is_ok(), "in vain waited for: {what}: {:?}", self.tally());
    }

    /// Waits until so many pages have been answered well, in steps, since each wait has its bound.
    pub(super) async fn pages(&self, wanted: usize) {
        for step in (0..wanted).step_by(STEP).chain([wanted]) {
            self.until("pages", |tally| tally.all_well() >= step).await;
        }
    }

    /// Waits until so many sign-ins have come through, in steps.
    pub(super) async fn sign_ins(&self, wanted: usize) {
        for step in (0..wanted).step_by(10).chain([wanted]) {
            self.until("sign-ins", |tally| tally.begun >= step).await;
        }
    }

    /// Opens pages and calls the API, fifty and four at once, until the end.
    pub(super) async fn ask_on(&self) {
        let on = || stream::iter(0..).take_until(self.over.cancelled());
        let pages = on().map(|number| self.page(number)).buffer_unordered(AT_ONCE);
        let calls = on().map(|number| self.call(number)).buffer_unordered(CALLS_AT_ONCE);
        tokio::join!(pages.for_each(std::future::ready), calls.for_each(std::future::ready));
    }

    /// Everybody in turn, the next time round at another replica.
    fn next(&self, number: usize) -> (Client, usize) {
        let (clients, doors) = (self.clients.lock().unwrap(), self.doors.lock().unwrap());
        let replica = (number + number / clients.len()) % doors.len();
        (clients[number % clients.len()].through(doors[replica]), replica)
    }

    async fn page(&self, number: usize) {
        let (client, replica) = self.next(number);
        // Each way has a way of its own to say that there is no session: 401, and 303.
        let asked = if number.is_multiple_of(2) { client.fetch("/x") } else { client.navigate("/x") };
        self.judge(asked, &client, |tally| tally.well[replica] += 1).await;
    }

    async fn call(&self, number: usize) {
        let (client, _) = self.next(number);
        self.tally.send_modify(|tally| tally.calls += 1);
        self.judge(client.graphql(ME), &client, |tally| tally.called += 1).await;
    }

    /// What somebody who is signed in may be told: what was asked for, or to come again.
    async fn judge(&self, asked: Call, client: &Client, well: impl Fn(&mut Tally)) {
        let answer = match asked.attempt().await {
            Ok(answer) => Some(answer.whole().await).filter(|answer| !answer.broken),
            Err(_) => None,
        };
        if answer.is_none() {
            look_again().await;
        }
        assert!(!client.cookie(COOKIE).is_empty(), "the cookie was cleared by {answer:?}");
        self.tally.send_modify(|tally| match answer {
            None => tally.gone += 1,
            Some(answer) => match answer.status.as_u16() {
                200 => well(tally),
                502 | 503 => tally.refused += 1,
                other => panic!("somebody who is signed in was told {other}: {}", answer.text()),
            },
        });
    }

    /// Signs in, one after the other, until the end.
    pub(super) async fn sign_in_on(&self, world: &World) {
        for number in 0.. {
            if self.over.is_cancelled() {
                return;
            }
            let doors = self.doors.lock().unwrap().clone();
            let door = |place: usize| doors[place % doors.len()];
            let client = world.client();
            let answered = sign_in(world, [client.through(door(number)), client.through(door(number + 1))]).await;
            // Whoever has the cookie is in, whatever became of the rest of the answer.
            if !client.cookie(COOKIE).is_empty() {
                self.clients.lock().unwrap().push(client);
                self.tally.send_modify(|tally| tally.begun += 1);
            }
            if answered.is_none() {
                look_again().await;
            }
        }
    }

    /// Everybody opens a page of every replica once more, and whoever called the API calls it again; how many they were.
    pub(super) async fn all_are_signed_in(&self) -> usize {
        let (clients, doors) = (self.clients.lock().unwrap().clone(), self.doors.lock().unwrap().clone());
        let at_all = doors.iter().flat_map(|door| clients.iter().map(|client| client.through(*door)));
        let pages = stream::iter(at_all).map(|client| async move {
            let answer = within(client.navigate("/x").into_future()).await;
            assert_eq!(answer.status, 200, "a session was lost: {}", answer.text());
        });
        let callers = clients.iter().enumerate().take(self.tally().calls);
        let elsewhere = callers.map(|(number, client)| client.through(doors[(number + 1) % doors.len()]));
        let calls = stream::iter(elsewhere).map(|client| async move {
            let answer = within(client.graphql(ME).into_future()).await;
            assert_eq!(answer.status, 200, "a session has lost its tokens: {}", answer.text());
        });
        let (pages, calls) = (pages.buffer_unordered(AT_ONCE), calls.buffer_unordered(CALLS_AT_ONCE));
        tokio::join!(pages.for_each(std::future::ready), calls.for_each(std::future::ready));
        clients.len()
    }
}

/// Between two looks, not for luck: who finds nobody there leaves the processor to who is starting.
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(15)).await;
}

/// A sign-in that begins at one replica and ends at another; none where it was cut short.
async fn sign_in(world: &World, [begins, ends]: [Client; 2]) -> Option<()> {
    let asked = begins.navigate("/x").attempt().await.ok()?;
    let location = asked.headers.get("location").map(|value| value.to_str().unwrap().to_owned());
    let back = world.upwork.consent(&location?, FREELANCER).await;
    ends.navigate(&back).header("sec-fetch-site", "cross-site").attempt().await.ok()?;
    Some(())
}
