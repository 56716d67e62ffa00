//! Cluster IPs and node ports of Services.
//!
//! The sets of used values live in memory and are read from the store once. A value that was handed out comes back when the
//! write it was for does not happen, or when the Service goes.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use choreo_apimachinery::builtin;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt;
use serde_json::Value;

use crate::verbs::text;

/// First address of the service network `10.96.0.0/16`.
const NETWORK: u32 = 0x0A60_0000;

/// Addresses in the service network.
const NETWORK_SIZE: u32 = 1 << 16;

/// Addresses at the start of the network that are only given out on request (`kubernetes` has .1, DNS .10).
const RESERVED: u32 = 256;

/// Ports that node ports are taken from.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

#[derive(Debug, Default)]
struct Used {
    addresses: BTreeSet<u32>,
    ports: BTreeSet<u16>,
}

/// Hands out cluster IPs and node ports of one logical cluster.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    used: Arc<Mutex<Used>>,
}

/// What was handed out for one write. Goes back unless kept.
#[derive(Debug, Default)]
pub(crate) struct Lease {
    taken: Used,
    back: Option<Arc<Mutex<Used>>>,
}

impl Lease {
    /// The write has happened.
    pub(crate) fn keep(mut self) {
        self.back = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(used) = self.back.take() {
            let mut used = used.lock();
            used.addresses.retain(|a| !self.taken.addresses.contains(a));
            used.ports.retain(|p| !self.taken.ports.contains(p));
        }
    }
}

fn is_service(info: &ResourceInfo) -> bool {
    info.group.is_empty() && info.plural == "services"
}

impl Allocator {
    /// Reads what the Services of a cluster use.
    pub(crate) fn load(snapshot: &Snapshot) -> Allocator {
        let allocator = Allocator::default();
        {
            let mut used = allocator.used.lock();
            for object in snapshot.iter("services", None, None) {
                let service = object.value();
                used.addresses.extend(address(&service));
                used.ports.extend(node_ports(&service));
            }
        }
        allocator
    }

    /// Completes a new Service.
    ///
    /// # Errors
    /// 422 for an address or port that is taken or out of range, 500 when none is left.
    pub(crate) fn for_create(&self, info: &ResourceInfo, service: &mut Value) -> Result<Lease> {
        if is_service(info) {
            self.complete(service, None)
        } else {
            Ok(Lease::default())
        }
    }

    /// Completes a changed Service: keeps what it has, adds what its type needs now.
    ///
    /// # Errors
    /// As [`Allocator::for_create`], and 422 for a changed address.
    pub(crate) fn for_update(&self, info: &ResourceInfo, old: &Value, service: &mut Value) -> Result<Lease> {
        if is_service(info) && old.get("spec") != service.get("spec") {
            self.complete(service, Some(old))
        } else {
            Ok(Lease::default())
        }
    }

    /// Takes back what a Service that is gone had.
    pub(crate) fn release(&self, info: &ResourceInfo, service: &Value) {
        if is_service(info) {
            let mut used = self.used.lock();
            if let Some(address) = address(service) {
                used.addresses.remove(&address);
            }
            for port in node_ports(service) {
                used.ports.remove(&port);
            }
        }
    }

    fn complete(&self, service: &mut Value, old: Option<&Value>) -> Result<Lease> {
        let session = Session {
            used: RefCell::new(self.used.lock()),
            taken: RefCell::default(),
        };
        let errors = builtin::allocate(service, old, &session);
        let lease = Lease {
            taken: session.taken.into_inner(),
            back: Some(self.used.clone()),
        };
        drop(session.used);
        if errors.is_empty() {
            return Ok(lease);
        }
        Err(ApiError::invalid(
            "",
            "Service",
            text(service, "/metadata/name"),
            &errors,
        ))
    }
}

/// One write's access to the sets, which stay locked meanwhile.
struct Session<'a> {
    used: RefCell<MutexGuard<'a, Used>>,
    taken: RefCell<Used>,
}

impl builtin::Allocator for Session<'_> {
    fn cluster_ip(&self, wanted: Option<&str>) -> std::result::Result<String, String> {
        let mut used = self.used.borrow_mut();
        let address = match wanted {
            None => free_address(&used).ok_or("range is full")?,
            Some(wanted) => {
                let address = wanted
                    .parse::<Ipv4Addr>()
                    .map(u32::from)
                    .map_err(|_| "not a valid IP address")?;
                if !(NETWORK + 1..NETWORK + NETWORK_SIZE - 1).contains(&address) {
                    let network = Ipv4Addr::from(NETWORK);
                    return Err(format!(
                        "the provided IP ({wanted}) is not in the valid range. The range of valid IPs is {network}/16"
                    ));
                }
                if used.addresses.contains(&address) {
                    return Err("provided IP is already allocated".to_owned());
                }
                address
            }
        };
        used.addresses.insert(address);
        self.taken.borrow_mut().addresses.insert(address);
        Ok(Ipv4Addr::from(address).to_string())
    }

    fn node_port(&self, wanted: Option<u16>) -> std::result::Result<u16, String> {
        let mut used = self.used.borrow_mut();
        let port = match wanted {
            None => free_port(&used).ok_or("range is full")?,
            Some(port) if !NODE_PORTS.contains(&port) => {
                return Err(
                    "provided port is not in the valid range. The range of valid ports is 30000-32767"
                        .to_owned(),
                );
            }
            Some(port) if used.ports.contains(&port) => {
                return Err("provided port is already allocated".to_owned());
            }
            Some(port) => port,
        };
        used.ports.insert(port);
        self.taken.borrow_mut().ports.insert(port);
        Ok(port)
    }
}

fn free_address(used: &Used) -> Option<u32> {
    let mut random = rand::rng();
    for _ in 0..64 {
        let address = NETWORK + random.random_range(RESERVED..NETWORK_SIZE - 1);
        if !used.addresses.contains(&address) {
            return Some(address);
        }
    }
    (NETWORK + RESERVED..NETWORK + NETWORK_SIZE - 1).find(|a| !used.addresses.contains(a))
}

fn free_port(used: &Used) -> Option<u16> {
    let mut random = rand::rng();
    for _ in 0..64 {
        let port = random.random_range(NODE_PORTS);
        if !used.ports.contains(&port) {
            return Some(port);
        }
    }
    NODE_PORTS.into_iter().find(|p| !used.ports.contains(p))
}

fn address(service: &Value) -> Option<u32> {
    text(service, "/spec/clusterIP")
        .parse::<Ipv4Addr>()
        .ok()
        .map(u32::from)
}

fn node_ports(service: &Value) -> impl Iterator<Item = u16> + '_ {
    let ports = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    ports
        .filter_map(|p| p.get("nodePort")?.as_u64())
        .filter_map(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(spec: &Value) -> Value {
        json!({"metadata": {"name": "s"}, "spec": spec})
    }

    fn complete(allocator: &Allocator, spec: &Value) -> Result<(Value, Lease)> {
        let mut service = service(spec);
        let lease = allocator.complete(&mut service, None)?;
        Ok((service, lease))
    }

    #[test]
    fn addresses_are_distinct_and_come_back() {
        let allocator = Allocator::default();
        let (a, lease_a) = complete(&allocator, &json!({})).unwrap();
        let (b, lease_b) = complete(&allocator, &json!({})).unwrap();
        assert_ne!(a["spec"]["clusterIP"], b["spec"]["clusterIP"]);
        lease_a.keep();
        drop(lease_b);
        assert_eq!(allocator.used.lock().addresses.len(), 1);
        let taken = a["spec"]["clusterIP"].clone();
        assert_eq!(
            complete(&allocator, &json!({"clusterIP": taken}))
                .unwrap_err()
                .code,
            422
        );
    }

    #[test]
    fn updates_keep_address_and_ports() {
        let allocator = Allocator::default();
        let (old, lease) = complete(
            &allocator,
            &json!({"type": "NodePort", "ports": [{"port": 80}, null]}),
        )
        .unwrap();
        lease.keep();
        let mut new = old.clone();
        new["spec"]["ports"][1] = json!({"port": 81, "protocol": "TCP"});
        allocator.complete(&mut new, Some(&old)).unwrap().keep();
        assert_eq!(new["spec"]["clusterIP"], old["spec"]["clusterIP"]);
        assert_eq!(
            new["spec"]["ports"][0]["nodePort"],
            old["spec"]["ports"][0]["nodePort"]
        );
        assert_ne!(
            new["spec"]["ports"][0]["nodePort"],
            new["spec"]["ports"][1]["nodePort"]
        );
    }
}
