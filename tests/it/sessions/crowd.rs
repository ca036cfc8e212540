//! A crowd of browsers that keep sending requests with their cookies while things are killed, and that check every answer
//! against what a signed-in user may get.

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
/// Pages between two checks of the progress.
const STEP: usize = 500;
/// The session's cookie.
pub(super) const COOKIE: &str = "upwarden";

/// The answers so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Pages answered with 200, by replica.
    pub(super) well: Vec<usize>,
    /// API calls so far, each by another session, and how many were answered with 200.
    pub(super) calls: usize,
    pub(super) called: usize,
    /// 502 or 503.
    pub(super) refused: usize,
    /// No answer, or a broken one.
    pub(super) gone: usize,
    /// Sign-ins whose cookie has arrived.
    pub(super) begun: usize,
}

impl Tally {
    pub(super) fn all_well(&self) -> usize {
        self.well.iter().sum()
    }
}

/// The signed-in browsers, and the doors that they use.
pub(super) struct Crowd {
    clients: Mutex<Vec<Client>>,
    doors: Mutex<Vec<SocketAddr>>,
    tally: watch::Sender<Tally>,
    over: CancellationToken,
}

impl Crowd {
    /// These browsers, which use these doors in turn.
    pub(super) fn new(clients: Vec<Client>, doors: Vec<SocketAddr>) -> Self {
        let tally = watch::Sender::new(Tally { well: vec![0; doors.len()], ..Tally::default() });
        Self { clients: Mutex::new(clients), doors: Mutex::new(doors), tally, over: CancellationToken::new() }
    }

    /// A replica has moved to another address.
    pub(super) fn moved(&self, replica: usize, door: SocketAddr) {
        self.doors.lock().unwrap()[replica] = door;
    }

    /// Stops all requests.
    pub(super) fn end(&self) {
        self.over.cancel();
    }

    pub(super) fn tally(&self) -> Tally {
        self.tally.borrow().clone()
    }

    /// Waits for a state of the tally.
    pub(super) async fn until(&self, what: &str, wanted: impl Fn(&Tally) -> bool) {
        let mut tally = self.tally.subscribe();
        let came = tokio::time::timeout(crate::harness::PATIENCE, tally.wait_for(|tally| wanted(tally))).await;
        assert!(came.is_ok(), "no {what} within the time: {:?}", self.tally());
    }

    /// Waits for a number of pages, in steps, since each wait has its bound.
    pub(super) async fn pages(&self, wanted: usize) {
        for step in (0..wanted).step_by(STEP).chain([wanted]) {
            self.until("pages", |tally| tally.all_well() >= step).await;
        }
    }

    /// Waits for a number of sign-ins, in steps.
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

    /// Each browser in turn, in each round at another replica.
    fn next(&self, number: usize) -> (Client, usize) {
        let (clients, doors) = (self.clients.lock().unwrap(), self.doors.lock().unwrap());
        let replica = (number + number / clients.len()) % doors.len();
        (clients[number % clients.len()].through(doors[replica]), replica)
    }

    async fn page(&self, number: usize) {
        let (client, replica) = self.next(number);
        // Without a session a fetch gets a 401, and a navigation a 303.
        let asked = if number.is_multiple_of(2) { client.fetch("/x") } else { client.navigate("/x") };
        self.judge(asked, &client, |tally| tally.well[replica] += 1).await;
    }

    async fn call(&self, number: usize) {
        let (client, _) = self.next(number);
        self.tally.send_modify(|tally| tally.calls += 1);
        self.judge(client.graphql(ME), &client, |tally| tally.called += 1).await;
    }

    /// Checks that a signed-in user gets the requested page, or a temporary error.
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
                other => panic!("a signed-in user got {other}: {}", answer.text()),
            },
        });
    }

    /// Signs in one browser after the other until the end.
    pub(super) async fn sign_in_on(&self, world: &World) {
        for number in 0.. {
            if self.over.is_cancelled() {
                return;
            }
            let doors = self.doors.lock().unwrap().clone();
            let door = |place: usize| doors[place % doors.len()];
            let client = world.client();
            let answered = sign_in(world, [client.through(door(number)), client.through(door(number + 1))]).await;
            // With the cookie it is signed in, even if the rest of the answer was lost.
            if !client.cookie(COOKIE).is_empty() {
                self.clients.lock().unwrap().push(client);
                self.tally.send_modify(|tally| tally.begun += 1);
            }
            if answered.is_none() {
                look_again().await;
            }
        }
    }

    /// All browsers open a page of every replica once more, and those that called the API call it again. Returns their number.
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

/// Leaves the processor to the process that is starting, after a request that found none.
async fn look_again() {
    tokio::time::sleep(Duration::from_millis(15)).await;
}

/// A sign-in that begins at one replica and ends at another; `None` where it was cut off.
async fn sign_in(world: &World, [begins, ends]: [Client; 2]) -> Option<()> {
    let asked = begins.navigate("/x").attempt().await.ok()?;
    let location = asked.headers.get("location").map(|value| value.to_str().unwrap().to_owned());
    let back = world.upwork.consent(&location?, FREELANCER).await;
    ends.navigate(&back).header("sec-fetch-site", "cross-site").attempt().await.ok()?;
    Some(())
}
