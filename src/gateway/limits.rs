//! Small memories of the gate: how many sign-ins an address began, how many requests it has in flight, and which upgraded
//! connections a session has.
//!
//! In: addresses, session ids. Out: yes or no; a token that is cancelled when the session ends. All are bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::fault::Fault;
use crate::body::{self, Body};
use crate::clock::Timestamp;
use crate::proxy::forwarded::Origin;
use crate::telemetry::Door;
use crate::telemetry::metrics::Refusal;

/// Addresses remembered at the most; beyond, the ones that rested longest are forgotten.
const MOST_ADDRESSES: usize = 10_000;
/// A spent burst is whole again after this.
const REFILL: Duration = Duration::from_secs(60);

/// Lets each address begin a burst of sign-ins, refilled over a minute (RFC 9700's advice to limit by address).
#[derive(Debug)]
pub(super) struct SignIns {
    burst: f64,
    spent: Mutex<HashMap<IpAddr, (f64, Timestamp)>>,
}

impl SignIns {
    pub(super) fn new(burst: u32) -> Self {
        Self { burst: f64::from(burst), spent: Mutex::default() }
    }

    /// Whether `address` may begin one more.
    pub(super) fn allow(&self, address: IpAddr, now: Timestamp) -> bool {
        let address = client_of(address);
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.len() >= MOST_ADDRESSES && !spent.contains_key(&address) {
            spent.retain(|_, (_, last)| now.since(*last) < REFILL);
            if spent.len() >= MOST_ADDRESSES {
                spent.clear();
            }
        }
        let (level, last) = spent.entry(address).or_insert((0.0, now));
        let rested = now.since(*last).as_secs_f64() / REFILL.as_secs_f64() * self.burst;
        *level = (*level - rested).max(0.0);
        *last = now;
        let allowed = *level + 1.0 <= self.burst;
        if allowed {
            *level += 1.0;
        }
        allowed
    }
}

/// Of IPv6 a whole /64 is one client: that is what one is given.
fn client_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
    }
}

/// Requests in flight of the clients that trusted proxies tell of: a proxy's connections are many clients' together.
#[derive(Debug)]
pub(super) struct InFlight {
    most: usize,
    counts: Mutex<HashMap<IpAddr, usize>>,
}

/// The place of one of them, until its answer was taken.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<InFlight>,
    client: IpAddr,
}

impl InFlight {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, counts: Mutex::default() })
    }

    /// A place for one more of `client`'s; `None` where it has as many as it may.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let client = client_of(client);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(client).or_insert(0);
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { all: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.all.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.client);
            }
        }
    }
}

impl Shared {
    /// The place of a request, where a trusted proxy tells of its client; the proxies themselves need none.
    pub(super) fn place(&self, origin: &Origin) -> Result<Option<Place>, Fault> {
        let exempt = |address: &IpAddr| self.config.trusted_proxies.iter().any(|net| net.contains(address));
        let client = origin.client.filter(|client| origin.trusted && !exempt(client));
        let (Some(all), Some(client)) = (&self.in_flight, client) else { return Ok(None) };
        all.take(client).map(Some).ok_or_else(|| {
            self.metrics.refused(Door::Public, Refusal::ConnectionsPerAddress);
            Fault::TooManyAtOnce
        })
    }
}

/// An answer's body, which keeps its request's place.
pub(super) struct Placed {
    body: Body,
    _place: Place,
}

impl Placed {
    pub(super) fn new(body: Body, place: Place) -> Self {
        Self { body, _place: place }
    }
}

impl http_body::Body for Placed {
    type Data = Bytes;
    type Error = body::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, body::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends the upgraded connections of a session with it.
#[derive(Debug, Default)]
pub(super) struct SessionEnds(Mutex<HashMap<String, Watched>>);

#[derive(Debug)]
struct Watched {
    token: Weak<CancellationToken>,
    ends_at: Timestamp,
}

impl SessionEnds {
    /// The token of a session's upgrades; it lives as long as one of them. True where it is the first, and so has nobody
    /// who looks after it yet.
    pub(super) fn watch(&self, session: &str, ends_at: Timestamp) -> (Arc<CancellationToken>, bool) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = known.get(session).and_then(|watched| watched.token.upgrade()) {
            return (token, false);
        }
        known.retain(|_, watched| watched.token.strong_count() > 0);
        let token = Arc::new(CancellationToken::new());
        known.insert(session.to_owned(), Watched { token: Arc::downgrade(&token), ends_at });
        (token, true)
    }

    /// The session was refreshed, and lives longer.
    pub(super) fn extend(&self, session: &str, ends_at: Timestamp) {
        if let Some(watched) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get_mut(session) {
            watched.ends_at = watched.ends_at.max(ends_at);
        }
    }

    /// When the session ends, as long as one of its upgrades lives.
    pub(super) fn ends_at(&self, session: &str) -> Option<Timestamp> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(session).filter(|watched| watched.token.strong_count() > 0).map(|watched| watched.ends_at)
    }

    /// The session is over.
    pub(super) fn end(&self, session: &str) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(session);
        if let Some(token) = known.and_then(|watched| watched.token.upgrade()) {
            token.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_burst_and_gets_it_back() {
        let limit = SignIns::new(3);
        let (one, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Timestamp::from_seconds(1000);
        assert_eq!([(); 4].map(|()| limit.allow(one, start)), [true, true, true, false]);
        assert!(limit.allow(other, start));
        assert!(limit.allow(one, start.plus(Duration::from_secs(20))));
        assert!(!limit.allow(one, start.plus(Duration::from_secs(20))));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_client() {
        let limit = SignIns::new(2);
        let start = Timestamp::from_seconds(1000);
        let allowed = |address: &str| limit.allow(address.parse().unwrap(), start);
        assert!(allowed("2001:db8::1") && allowed("2001:db8::ffff:1") && !allowed("2001:db8::2"));
        assert!(allowed("2001:db8:0:1::1"));
    }

    #[test]
    fn a_client_has_so_many_in_flight_and_each_gives_its_place_back() {
        let all = InFlight::new(2);
        let take = |address: &str| all.take(address.parse().unwrap());
        let held = (take("2001:db8::1").unwrap(), take("2001:db8::2").unwrap(), take("192.0.2.1").unwrap());
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        drop(held);
        assert!(all.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn the_end_of_a_session_reaches_its_upgrades() {
        let ends = SessionEnds::default();
        let soon = Timestamp::from_seconds(10);
        let ((one, first), (same, second), (other, _)) =
            (ends.watch("a", soon), ends.watch("a", soon), ends.watch("b", soon));
        assert!(first && !second);
        ends.extend("b", Timestamp::from_seconds(20));
        assert_eq!(ends.ends_at("b"), Some(Timestamp::from_seconds(20)));
        ends.end("a");
        assert!(one.is_cancelled() && same.is_cancelled() && !other.is_cancelled());
        drop(other);
        assert_eq!(ends.ends_at("b"), None);
        let _watched = ends.watch("c", soon);
        assert_eq!(ends.0.lock().unwrap().len(), 1, "what nobody watches is forgotten");
    }
}
