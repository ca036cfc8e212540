//! Limits a door's connections, in total and for each client address.
//!
//! A connection gets a [`Permit`], whose `Drop` releases it, or the limit that it exceeds.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ipnet::IpNet;

use super::door::Limits;
use crate::descriptors::{Descriptor, Descriptors};
use crate::recent::lock;
use crate::telemetry::Door;
use crate::telemetry::metrics::{Metrics, Refusal};

#[derive(Debug)]
pub(super) struct Permits {
    door: Door,
    max: usize,
    max_per_address: Option<usize>,
    exempt: Vec<IpNet>,
    live: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    metrics: Arc<Metrics>,
    descriptors: Arc<Descriptors>,
}

/// One live connection, upgraded or not.
#[derive(Debug)]
pub(super) struct Permit {
    permits: Arc<Permits>,
    address: Option<IpAddr>,
    load: Option<Arc<AtomicUsize>>,
    _descriptor: Descriptor,
}

impl Permits {
    pub(super) fn new(
        door: Door,
        limits: &Limits,
        exempt: Vec<IpNet>,
        metrics: Arc<Metrics>,
        descriptors: Arc<Descriptors>,
    ) -> Arc<Self> {
        Arc::new(Self {
            door,
            max: limits.connections,
            max_per_address: limits.connections_per_address,
            exempt,
            live: AtomicUsize::new(0),
            by_address: Mutex::default(),
            metrics,
            descriptors,
        })
    }

    /// Waits briefly for a file descriptor if none is left.
    pub(super) async fn make_room(&self) {
        self.descriptors.make_room().await;
    }

    /// A permit for one more connection.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Permit, Refusal> {
        // A door has one acceptor, so nothing else adds between the check and the addition.
        if self.live.load(Ordering::Relaxed) >= self.max {
            return Err(Refusal::Connections);
        }
        let descriptor = self.descriptors.incoming().ok_or(Refusal::Connections)?;
        let counted = address.map_or(Ok(None), |address| self.count(address))?;
        self.live.fetch_add(1, Ordering::Relaxed);
        self.metrics.connections(self.door).increment(1.0);
        Ok(Permit { permits: self.clone(), address: counted, load: None, _descriptor: descriptor })
    }

    pub(super) fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|net| net.contains(&address.to_canonical()))
    }

    /// Counts one more connection of this address, if it has a limit, and returns what it was counted under.
    fn count(&self, address: IpAddr) -> Result<Option<IpAddr>, Refusal> {
        let Some(max) = self.max_per_address.filter(|_| !self.is_exempt(address)) else { return Ok(None) };
        let network = network(address);
        let mut counts = lock(&self.by_address);
        let count = counts.entry(network).or_insert(0);
        if *count >= max {
            return Err(Refusal::ConnectionsPerAddress);
        }
        *count += 1;
        Ok(Some(network))
    }
}

/// The network of one client: an IPv4 address, or a /64 of IPv6.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

impl Permit {
    /// Counts a connection whose client was not known when it was accepted.
    pub(super) fn count(&mut self, address: IpAddr) -> Result<(), Refusal> {
        self.address = self.permits.count(address)?;
        Ok(())
    }

    /// Also counts the connection into a worker's load.
    pub(super) fn on(mut self, load: Arc<AtomicUsize>) -> Self {
        load.fetch_add(1, Ordering::Relaxed);
        self.load = Some(load);
        self
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(load) = &self.load {
            load.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(address) = self.address {
            let mut counts = lock(&self.permits.by_address);
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        }
        self.permits.live.fetch_sub(1, Ordering::Relaxed);
        self.permits.metrics.connections(self.permits.door).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(most: usize, per_address: usize) -> Arc<Permits> {
        let limits = Limits { connections: most, connections_per_address: Some(per_address), ..Limits::default() };
        Permits::new(Door::Public, &limits, vec!["10.0.0.0/8".parse().unwrap()], Arc::default(), Descriptors::new(None))
    }

    fn take(permits: &Arc<Permits>, address: &str) -> Result<Permit, Refusal> {
        permits.take(Some(address.parse().unwrap()))
    }

    #[test]
    fn a_permit_gives_back_what_it_took() {
        let permits = permits(10, 1);
        let one = take(&permits, "192.0.2.1").unwrap();
        assert_eq!(take(&permits, "192.0.2.1").unwrap_err(), Refusal::ConnectionsPerAddress);
        assert_eq!(take(&permits, "::ffff:192.0.2.1").unwrap_err(), Refusal::ConnectionsPerAddress);
        let other = take(&permits, "192.0.2.2").unwrap();
        drop((one, other));
        assert_eq!(permits.live.load(Ordering::Relaxed), 0);
        assert!(permits.by_address.lock().unwrap().is_empty());
        assert!(take(&permits, "192.0.2.1").is_ok());
    }

    #[test]
    fn a_trusted_proxy_has_no_limit_of_its_own_but_counts_in_all() {
        let permits = permits(2, 1);
        let _held = (take(&permits, "10.1.1.1").unwrap(), take(&permits, "10.1.1.1").unwrap());
        assert_eq!(take(&permits, "10.1.1.1").unwrap_err(), Refusal::Connections);
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let permits = permits(10, 1);
        let _held = take(&permits, "2001:db8::1").unwrap();
        assert!(take(&permits, "2001:db8::2").is_err());
        assert!(take(&permits, "2001:db8:0:1::1").is_ok());
    }
}
