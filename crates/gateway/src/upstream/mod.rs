//! What requests are forwarded to: endpoints, their connections, and the limits of a rule's backends.

pub(crate) mod connect;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod limits;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::api::envoy::LoadBalancerType;
use crate::dial::Target;
use crate::proxy::workers;

/// How long an endpoint that could not be reached is passed over while others are there.
const PENALTY: Duration = Duration::from_secs(1);

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// A pod, reached through the dialler.
    Pod(Target),
    /// A server outside, reached from this host.
    Outside {
        /// Name or address.
        host: Arc<str>,
        port: u16,
        /// The name that its certificate must have; `None` is plain text.
        tls: Option<Arc<str>>,
    },
}

/// The version of HTTP that an endpoint is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Http1,
    /// With prior knowledge, or by ALPN where there is TLS.
    Http2,
}

/// One endpoint with its connections. Routes that lead to the same Service share them.
pub(crate) struct Endpoint {
    pub(crate) address: Address,
    /// Requests under way.
    pub(crate) active: AtomicU32,
    /// When it could not be reached for the last time, in milliseconds since [`epoch`]; 0 is never.
    failed: AtomicU64,
    /// Of each thread of the proxy its own.
    idle: [Mutex<Vec<http1::Idle>>; workers::MOST],
    shared: [http2::Shared; workers::MOST],
}

fn epoch() -> Instant {
    static EPOCH: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

fn since_epoch() -> u64 {
    u64::try_from(epoch().elapsed().as_millis())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
}

impl Endpoint {
    pub(crate) fn new(address: Address) -> Arc<Self> {
        Arc::new(Self {
            address,
            active: AtomicU32::new(0),
            failed: AtomicU64::new(0),
            idle: Default::default(),
            shared: Default::default(),
        })
    }

    /// The idle connections of this thread.
    pub(crate) fn idle(&self) -> &Mutex<Vec<http1::Idle>> {
        &self.idle[workers::index()]
    }

    /// The connection of this thread that requests share.
    pub(crate) fn shared(&self) -> &http2::Shared {
        &self.shared[workers::index()]
    }

    pub(crate) fn mark_failed(&self) {
        self.failed.store(since_epoch(), Ordering::Relaxed);
    }

    fn is_penalized(&self) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed != 0 && since_epoch().saturating_sub(failed) < PENALTY.as_millis() as u64
    }
}

/// The endpoints of one port of a Service, or of a Backend. Replaced at once when they change; requests under way keep theirs.
#[derive(Default)]
pub(crate) struct Endpoints {
    list: ArcSwap<Vec<Arc<Endpoint>>>,
    turn: AtomicUsize,
}

impl std::fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = self.list.load();
        f.debug_list()
            .entries(list.iter().map(|endpoint| &endpoint.address))
            .finish()
    }
}

impl Endpoints {
    pub(crate) fn of(list: Vec<Arc<Endpoint>>) -> Self {
        Self {
            list: ArcSwap::from_pointee(list),
            turn: AtomicUsize::new(0),
        }
    }

    /// Replaces the pods. Those that stay keep their connections.
    pub(crate) fn set(&self, namespace: &Arc<str>, addresses: &[SocketAddr]) {
        let before = self.list.load();
        let same = before.len() == addresses.len()
            && before.iter().zip(addresses).all(|(endpoint, address)| {
                matches!(&endpoint.address, Address::Pod(target) if target.address == *address)
            });
        if same {
            return;
        }
        let known: std::collections::HashMap<SocketAddr, &Arc<Endpoint>> = before
            .iter()
            .filter_map(|endpoint| match &endpoint.address {
                Address::Pod(target) => Some((target.address, endpoint)),
                Address::Outside { .. } => None,
            })
            .collect();
        let list = addresses.iter().map(|address| match known.get(address) {
            Some(endpoint) => Arc::clone(endpoint),
            None => Endpoint::new(Address::Pod(Target {
                namespace: Arc::clone(namespace),
                address: *address,
            })),
        });
        self.list.store(Arc::new(list.collect()));
    }

    /// Closes connections that nobody has used for a while.
    pub(crate) fn sweep(&self) {
        for endpoint in self.list.load().iter() {
            for idle in &endpoint.idle {
                http1::drop_old(&mut idle.lock());
            }
        }
    }

    /// An endpoint for the next attempt, other than those that were tried if there is one.
    pub(crate) fn pick(&self, how: LoadBalancerType, tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let list = self.list.load();
        match list.as_slice() {
            [] => return None,
            [only] => return Some(Arc::clone(only)),
            _ => {}
        }
        let is_new = |endpoint: &&Arc<Endpoint>| !tried.iter().any(|other| Arc::ptr_eq(other, endpoint));
        let is_well = |endpoint: &&Arc<Endpoint>| !endpoint.is_penalized();
        // Most of the time every endpoint is a candidate, and nothing has to be collected.
        if tried.is_empty() && list.iter().all(|endpoint| is_well(&endpoint)) {
            return self.among(how, list.len(), |i| &list[i]);
        }
        let mut candidates: Vec<&Arc<Endpoint>> = list.iter().filter(is_new).filter(is_well).collect();
        if candidates.is_empty() {
            candidates = list.iter().filter(is_new).collect();
        }
        if candidates.is_empty() {
            candidates = list.iter().collect();
        }
        self.among(how, candidates.len(), |i| candidates[i])
    }

    fn among<'e>(
        &self,
        how: LoadBalancerType,
        count: usize,
        get: impl Fn(usize) -> &'e Arc<Endpoint>,
    ) -> Option<Arc<Endpoint>> {
        if count == 0 {
            return None;
        }
        let turn = || self.turn.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(match how {
            LoadBalancerType::RoundRobin => get(turn() % count),
            LoadBalancerType::Random => get(rand::random_range(0..count)),
            LoadBalancerType::LeastRequest => {
                // Two of them, the one after the other in turn and any: of two that are equally busy the first wins, so that a
                // quiet gateway spreads requests evenly.
                let (first, second) = (get(turn() % count), get(rand::random_range(0..count)));
                let load = |endpoint: &Endpoint| endpoint.active.load(Ordering::Relaxed);
                if load(second) < load(first) { second } else { first }
            }
        }))
    }
}

/// Counts a request of an endpoint for as long as it lives.
pub(crate) struct Active(pub(crate) Arc<Endpoint>);

impl Active {
    pub(crate) fn new(endpoint: Arc<Endpoint>) -> Self {
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        Self(endpoint)
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u8) -> Endpoints {
        let set = Endpoints::default();
        let addresses: Vec<SocketAddr> = (1..=count)
            .map(|i| SocketAddr::from(([10, 0, 0, i], 80)))
            .collect();
        set.set(&"ns".into(), &addresses);
        set
    }

    #[test]
    fn every_attempt_is_at_another_endpoint() {
        let set = endpoints(3);
        let mut tried = Vec::new();
        for _ in 0..3 {
            let next = set.pick(LoadBalancerType::LeastRequest, &tried).unwrap();
            assert!(!tried.iter().any(|other| Arc::ptr_eq(other, &next)));
            tried.push(next);
        }
        assert!(set.pick(LoadBalancerType::LeastRequest, &tried).is_some());
    }

    #[test]
    fn what_cannot_be_reached_is_passed_over() {
        let set = endpoints(2);
        let bad = set.pick(LoadBalancerType::RoundRobin, &[]).unwrap();
        bad.mark_failed();
        for _ in 0..10 {
            let next = set.pick(LoadBalancerType::RoundRobin, &[]).unwrap();
            assert!(!Arc::ptr_eq(&next, &bad));
        }
    }

    #[test]
    fn endpoints_that_stay_are_the_same() {
        let set = endpoints(2);
        let before = set.list.load_full();
        set.set(
            &"ns".into(),
            &[
                SocketAddr::from(([10, 0, 0, 2], 80)),
                SocketAddr::from(([10, 0, 0, 9], 80)),
            ],
        );
        assert!(Arc::ptr_eq(&set.list.load()[0], &before[1]));
    }
}
