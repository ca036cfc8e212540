//! The state of the sandbox, behind one lock that is never held over an await.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::accounts::Account;
use super::config::Config;
use super::counters::{Counters, ReceivedRequest};
use super::faults::Faults;
use super::grants::{Grants, random_hex};
use super::limits::Limits;
use crate::clock::SharedClock;
use crate::recent::lock;

/// API requests kept for `GET /requests`.
const MAX_REQUESTS: usize = 200;
/// With one more, all browsers are signed out.
const MAX_BROWSERS: usize = 10_000;

/// Tells a request that held answers were released.
pub(super) type ReleaseSignal = watch::Receiver<u64>;

pub(super) struct Inner {
    pub(super) config: Config,
    pub(super) clock: SharedClock,
    state: Mutex<State>,
    pub(super) release: watch::Sender<u64>,
    pub(super) held: watch::Sender<usize>,
    /// Releases all answers permanently, at shutdown.
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

    /// Waits for a release, or for `millis` of the machine's time: like on a slow network, turning the clock does not help.
    pub(super) async fn hold(&self, mut release: ReleaseSignal, millis: Option<u64>) {
        let _counted = HeldAnswer::new(&self.held);
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

/// Counts a held answer while it lives, also if its client hangs up.
struct HeldAnswer<'a>(&'a watch::Sender<usize>);

impl<'a> HeldAnswer<'a> {
    fn new(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|count| *count += 1);
        Self(held)
    }
}

impl Drop for HeldAnswer<'_> {
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
    /// The fields, as `Type.field`, that the key has no scope for.
    pub(super) missing_scopes: Vec<String>,
    /// Users whose tokens act as another account, or for the last of their organizations.
    pub(super) acting: HashMap<&'static str, &'static Account>,
    pub(super) moved: HashSet<&'static str>,
    /// The notes made by the mutation; a note's id is its place, from 1.
    pub(super) notes: Vec<String>,
    pub(super) requests: VecDeque<ReceivedRequest>,
}

impl State {
    /// Whether the limits, where they are enforced, admit one more call of this address.
    pub(super) fn admit(&mut self, inner: &Inner, peer: SocketAddr) -> bool {
        let admitted = !inner.config.limits || self.limits.admit(peer.ip(), &inner.config.rates, inner.clock.now());
        self.counters.rate_limited += u64::from(!admitted);
        admitted
    }

    pub(super) fn remember_request(&mut self, request: ReceivedRequest) {
        if self.requests.len() >= MAX_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
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

    /// Remembers a sign-in with consent; returns the browser's new cookie value.
    pub(super) fn accept(&mut self, account: &'static Account, client: &str) -> String {
        if self.signed_in.len() >= MAX_BROWSERS {
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
