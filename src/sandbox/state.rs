//! What the sandbox remembers, behind one lock that is never held over an await.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::accounts::Account;
use super::counters::{Counters, Seen};
use super::faults::Faults;
use super::grants::{Grants, random_hex};
use super::limits::Limits;
use super::{Config, Release};
use crate::clock::SharedClock;
use crate::recent::lock;

/// How many API requests are kept for `GET /requests`.
const REQUESTS_KEPT: usize = 200;
/// How many browsers are remembered; the one more starts over.
const BROWSERS_KEPT: usize = 10_000;

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) clock: SharedClock,
    state: Mutex<State>,
    /// Counts the releases; a change lets go what is held.
    pub(super) release: watch::Sender<u64>,
    /// How many answers are held now.
    pub(super) held: watch::Sender<usize>,
    /// Ends the holding for good, at shutdown.
    pub(super) closing: CancellationToken,
}

impl Inner {
    pub(super) fn new(config: Config, clock: SharedClock) -> Self {
        Self {
            config,
            clock,
            state: Mutex::default(),
            release: watch::Sender::new(0),
            held: watch::Sender::new(0),
            closing: CancellationToken::new(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits for a release, or for `millis` of the machine's time (an answer is held like a slow network holds it, so a
    /// turned clock does not free it).
    pub(super) async fn hold(&self, mut release: Release, millis: Option<u64>) {
        let _counted = Held::new(&self.held);
        let limit = async {
            match millis {
                Some(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = release.changed() => {}
            () = limit => {}
            () = self.closing.cancelled() => {}
        }
    }
}

/// Counts a held answer for as long as it lives, also when its caller hangs up.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|count| *count += 1);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

#[derive(Default)]
pub(super) struct State {
    pub(super) grants: Grants,
    pub(super) browsers: Browsers,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
    pub(super) limits: Limits,
    /// `Type.field`s the key has no scope for.
    pub(super) missing_scopes: Vec<String>,
    /// Texts of the notes made by the mutation; a note's id is its place, from 1.
    pub(super) notes: Vec<String>,
    pub(super) requests: VecDeque<Seen>,
}

impl State {
    pub(super) fn remember_request(&mut self, seen: Seen) {
        if self.requests.len() >= REQUESTS_KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(seen);
    }
}

/// Who is signed in to the sandbox in which browser, and who consented to what.
#[derive(Default)]
pub(super) struct Browsers {
    signed_in: HashMap<String, &'static Account>,
    /// Account id and client id.
    consents: HashSet<(&'static str, String)>,
}

impl Browsers {
    pub(super) fn account(&self, browser: &str) -> Option<&'static Account> {
        self.signed_in.get(browser).copied()
    }

    pub(super) fn consented(&self, account: &Account, client: &str) -> bool {
        self.consents.contains(&(account.id, client.to_owned()))
    }

    /// Remembers a sign-in with consent; gives the browser's new cookie value.
    pub(super) fn accept(&mut self, account: &'static Account, client: &str) -> String {
        if self.signed_in.len() >= BROWSERS_KEPT {
            self.signed_in.clear();
        }
        self.consents.insert((account.id, client.to_owned()));
        let browser = random_hex(32);
        self.signed_in.insert(browser.clone(), account);
        browser
    }

    pub(super) fn sign_out(&mut self, browser: &str) {
        self.signed_in.remove(browser);
    }

    pub(super) fn forget_consents(&mut self) {
        self.consents.clear();
    }
}
