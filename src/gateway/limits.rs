//! Two small memories of the gate: how many sign-ins an address began, and how many requests it has in flight.
//!
//! In: addresses. Out: yes or no; a place that is given back. Both are bounded.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::Shared;
use super::fault::Fault;
use crate::body::{self, Body};
use crate::clock::Timestamp;
use crate::proxy::forwarded::Origin;
use crate::recent::lock;
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
        let mut spent = lock(&self.spent);
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
        let mut counts = lock(&self.counts);
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
        let mut counts = lock(&self.all.counts);
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
}
