//! Addresses and node ports of Services: what is needed is decided here, what is free is known to the server.

use serde_json::{Value, json};

use crate::field::{FieldError, FieldPath};

/// Gives out cluster addresses and node ports.
///
/// The server implements it over its objects. A value that was handed out stays taken until the Service is deleted; if the
/// write fails afterwards, the server returns it.
pub trait Allocator {
    /// A free cluster address, or the one asked for.
    ///
    /// # Errors
    /// Why the address cannot be had (`provided IP is already allocated`).
    fn cluster_ip(&self, wanted: Option<&str>) -> Result<String, String>;

    /// A free node port, or the one asked for.
    ///
    /// # Errors
    /// Why the port cannot be had (`provided port is already allocated`).
    fn node_port(&self, wanted: Option<u16>) -> Result<u16, String>;
}

/// Fills in the address and the node ports that a Service needs and does not have. `old` is the Service before an update:
/// what it has is not asked for again.
///
/// # Errors
/// The fields whose wanted values cannot be had.
pub fn allocate(service: &mut Value, old: Option<&Value>, allocator: &dyn Allocator) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let type_ = service
        .pointer("/spec/type")
        .and_then(Value::as_str)
        .unwrap_or("ClusterIP")
        .to_owned();
    let node_ports = match type_.as_str() {
        "NodePort" => true,
        "LoadBalancer" => service
            .pointer("/spec/allocateLoadBalancerNodePorts")
            .and_then(Value::as_bool)
            .unwrap_or(true),
        _ => false,
    };
    let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
        return errors;
    };
    let path = FieldPath::new("spec");
    if type_ != "ExternalName" {
        let wanted = spec
            .get("clusterIP")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let had = old
            .and_then(|o| o.pointer("/spec/clusterIP"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        if wanted.is_empty() {
            match allocator.cluster_ip(None) {
                Ok(ip) => {
                    spec.insert("clusterIPs".into(), json!([ip]));
                    spec.insert("clusterIP".into(), ip.into());
                }
                Err(why) => errors.push(FieldError::internal(&path.child("clusterIP"), why)),
            }
        } else if wanted != "None"
            && wanted != had
            && let Err(why) = allocator.cluster_ip(Some(&wanted))
        {
            let detail = format!("failed to allocate IP {wanted}: {why}");
            errors.push(FieldError::invalid(
                &path.child("clusterIPs"),
                json!([wanted]),
                detail,
            ));
        }
    }
    if !node_ports {
        return errors;
    }
    let had: Vec<u64> = old
        .and_then(|o| o.pointer("/spec/ports"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|p| p.get("nodePort").and_then(Value::as_u64))
        .collect();
    let ports = path.child("ports");
    for (index, port) in spec
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let at = ports.index(index);
        let at = at.child("nodePort");
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        let wanted = port.get("nodePort").and_then(Value::as_u64).unwrap_or(0);
        if had.contains(&wanted) {
            continue;
        }
        let asked = u16::try_from(wanted).ok().filter(|p| *p != 0);
        match allocator.node_port(asked) {
            Ok(number) => {
                port.insert("nodePort".into(), number.into());
            }
            Err(why) => errors.push(FieldError::invalid(&at, wanted, why)),
        }
    }
    errors
}
