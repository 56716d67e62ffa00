//! Cluster IPs and node ports of Services.
//!
//! The sets of used values live in memory and are read from the store once. A value that was handed out comes back when the
//! write it was for does not happen, or when the Service goes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use choreo_apimachinery::field::{FieldError, FieldPath};
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use parking_lot::Mutex;
use rand::RngExt;
use serde_json::{Map, Value, json};

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

/// Whether a part of a Service is in order; if not, what is wrong with it.
type Checked = std::result::Result<(), Vec<FieldError>>;

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
        let name = text(service, "/metadata/name").to_owned();
        let mut lease = Lease {
            taken: Used::default(),
            back: Some(self.used.clone()),
        };
        let mut used = self.used.lock();
        let outcome = fill(service, old, &mut used, &mut lease.taken);
        drop(used);
        match outcome {
            Ok(()) => Ok(lease),
            Err(errors) => Err(ApiError::invalid("", "Service", &name, &errors)),
        }
    }
}

fn fill(service: &mut Value, old: Option<&Value>, used: &mut Used, taken: &mut Used) -> Checked {
    let kind = match text(service, "/spec/type") {
        "" => "ClusterIP".to_owned(),
        kind => kind.to_owned(),
    };
    if !service["spec"].is_object() {
        service["spec"] = Value::Object(Map::new());
    }
    let spec_path = FieldPath::new("spec");
    let Some(spec) = service["spec"].as_object_mut() else {
        return Ok(());
    };
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            spec.remove(field);
        }
        return Ok(());
    }
    let old_address = old.map(|old| text(old, "/spec/clusterIP")).unwrap_or_default();
    let given = match spec.get("clusterIP").and_then(Value::as_str).unwrap_or_default() {
        "" => spec
            .get("clusterIPs")
            .and_then(|ips| ips.get(0))
            .and_then(Value::as_str)
            .unwrap_or_default(),
        given => given,
    };
    let path = spec_path.child("clusterIPs");
    let path = path.index(0);
    let chosen = match (given, old_address) {
        ("", "") => {
            let address = free_address(used).ok_or_else(|| {
                vec![FieldError::internal(
                    &path,
                    "failed to allocate IP: range is full",
                )]
            })?;
            used.addresses.insert(address);
            taken.addresses.insert(address);
            Ipv4Addr::from(address).to_string()
        }
        ("", old) => old.to_owned(),
        (given, "") if given != "None" => {
            let parsed: Option<Ipv4Addr> = given.parse().ok();
            let address = parsed
                .map(u32::from)
                .filter(|a| (NETWORK + 1..NETWORK + NETWORK_SIZE - 1).contains(a));
            let Some(address) = address else {
                let why = format!(
                    "failed to allocate IP {given}: the provided network does not match the current range"
                );
                return Err(vec![FieldError::invalid(&path, json!([given]), why)]);
            };
            if !used.addresses.insert(address) {
                let why = format!("failed to allocate IP {given}: provided IP is already allocated");
                return Err(vec![FieldError::invalid(&path, json!([given]), why)]);
            }
            taken.addresses.insert(address);
            given.to_owned()
        }
        (given, "") => given.to_owned(),
        (given, old) if given != old => {
            return Err(vec![FieldError::invalid(
                &path,
                json!([given]),
                "may not change once set",
            )]);
        }
        (given, _) => given.to_owned(),
    };
    spec.insert("clusterIP".to_owned(), chosen.as_str().into());
    spec.insert("clusterIPs".to_owned(), json!([chosen]));
    spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
    spec.entry("ipFamilyPolicy")
        .or_insert_with(|| "SingleStack".into());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        fill_ports(spec, old, used, taken)?;
    }
    Ok(())
}

fn fill_ports(
    spec: &mut Map<String, Value>,
    old: Option<&Value>,
    used: &mut Used,
    taken: &mut Used,
) -> Checked {
    let before: BTreeSet<u16> = old.map(|old| node_ports(old).collect()).unwrap_or_default();
    let Some(ports) = spec.get_mut("ports").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    let path = FieldPath::new("spec");
    let path = path.child("ports");
    for (index, port) in ports.iter_mut().enumerate() {
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        let given = port.get("nodePort").and_then(Value::as_u64).unwrap_or_default();
        let old_same = old
            .and_then(|old| old.pointer("/spec/ports"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find_map(|p| {
                (p.get("port") == port.get("port") && p.get("protocol") == port.get("protocol"))
                    .then(|| p.get("nodePort")?.as_u64())?
            });
        let wanted = if given == 0 { old_same } else { Some(given) };
        let chosen = match wanted {
            None => free_port(used).ok_or_else(|| {
                vec![FieldError::internal(
                    &path.index(index).child("nodePort"),
                    "failed to allocate a nodePort: range is full",
                )]
            })?,
            Some(wanted) => {
                let in_range = u16::try_from(wanted).ok().filter(|p| NODE_PORTS.contains(p));
                let at = path.index(index);
                let at = at.child("nodePort");
                let Some(port) = in_range else {
                    return Err(vec![FieldError::invalid(
                        &at,
                        wanted,
                        "provided port is not in the valid range. The range of valid ports is 30000-32767",
                    )]);
                };
                if used.ports.contains(&port) && !before.contains(&port) && !taken.ports.contains(&port) {
                    return Err(vec![FieldError::invalid(
                        &at,
                        wanted,
                        "provided port is already allocated",
                    )]);
                }
                port
            }
        };
        if used.ports.insert(chosen) {
            taken.ports.insert(chosen);
        }
        port.insert("nodePort".to_owned(), chosen.into());
    }
    Ok(())
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
    fn headless_and_external_services_have_none() {
        let allocator = Allocator::default();
        let (headless, _lease) = complete(&allocator, &json!({"clusterIP": "None"})).unwrap();
        assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));
        let (external, _lease) =
            complete(&allocator, &json!({"type": "ExternalName", "externalName": "x"})).unwrap();
        assert!(external["spec"].get("clusterIP").is_none());
        assert!(allocator.used.lock().addresses.is_empty());
    }

    #[test]
    fn updates_keep_address_and_ports() {
        let allocator = Allocator::default();
        let (old, lease) = complete(
            &allocator,
            &json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}]}),
        )
        .unwrap();
        lease.keep();
        let mut new = service(
            &json!({"type": "NodePort", "ports": [{"port": 80, "protocol": "TCP"}, {"port": 81, "protocol": "TCP"}]}),
        );
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
