//! The order of a release: what others need comes first, what closes before what opens. Deletion goes the other way.
//!
//! Policies that close are first, and those that let somebody in are last. Ways out are open before the pods that need
//! them start.

use std::cmp::Reverse;

use choreo_api::v1alpha1::ReleaseResource;
use serde_json::Value;

/// When an object is applied: lower phases first.
pub fn phase(object: &Value) -> u8 {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "Namespace" => 0,
        "ResourceQuota" | "LimitRange" => 1,
        "NetworkPolicy" | "CiliumNetworkPolicy" if denies(object) => 2,
        "ServiceAccount" | "Role" | "RoleBinding" => 3,
        "ConfigMap" | "Secret" | "ExternalSecret" | "SecretProviderClass" | "PersistentVolumeClaim" => 4,
        "NetworkPolicy" | "CiliumNetworkPolicy" if !is_ingress(object) => 5,
        "Service" => 6,
        "HorizontalPodAutoscaler" | "PodDisruptionBudget" => 8,
        "SecurityPolicy" | "BackendTrafficPolicy" | "HTTPRouteFilter" | "Backend" => 9,
        "HTTPRoute" | "GRPCRoute" | "TLSRoute" | "TCPRoute" | "UDPRoute" => 10,
        "NetworkPolicy" | "CiliumNetworkPolicy" => 11,
        // Workloads, and every kind that nobody has ranked.
        _ => 7,
    }
}

/// A policy without any permission.
fn denies(object: &Value) -> bool {
    let permissions = |section: &str| {
        object
            .pointer(&format!("/spec/{section}"))
            .and_then(Value::as_array)
            .is_some_and(|rules| {
                rules
                    .iter()
                    .any(|rule| rule.as_object().is_some_and(|r| !r.is_empty()))
            })
    };
    !permissions("ingress") && !permissions("egress")
}

fn is_ingress(object: &Value) -> bool {
    object.pointer("/spec/ingress").is_some()
}

/// Gives every object an id and puts all in order.
pub fn sort(objects: Vec<Value>) -> Vec<ReleaseResource> {
    let text = |object: &Value, pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut all: Vec<(u8, ReleaseResource)> = objects
        .into_iter()
        .map(|object| {
            let id = format!(
                "{}-{}",
                text(&object, "/kind").to_ascii_lowercase(),
                text(&object, "/metadata/name")
            );
            (phase(&object), ReleaseResource { id, object })
        })
        .collect();
    all.sort_by(|(a_phase, a), (b_phase, b)| (a_phase, &a.id).cmp(&(b_phase, &b.id)));
    all.into_iter().map(|(_, resource)| resource).collect()
}

/// The order of deletion: the reverse of that in which objects are applied.
pub fn sort_for_deletion(objects: &mut [Value]) {
    objects.sort_by_key(|object| Reverse(phase(object)));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Namespace, identities, configuration, workloads, routes; policies first where they close, last where they open.
    const ORDER: [&str; 14] = [
        "Namespace",
        "ResourceQuota",
        "NetworkPolicy deny",
        "ServiceAccount",
        "ConfigMap",
        "NetworkPolicy out",
        "Service",
        "Deployment",
        "HorizontalPodAutoscaler",
        "SecurityPolicy",
        "GRPCRoute",
        "HTTPRoute",
        "TCPRoute",
        "NetworkPolicy in",
    ];

    fn objects() -> Vec<Value> {
        let peers = json!([{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}]);
        ORDER
            .iter()
            .map(|what| {
                let (kind, name) = what.split_once(' ').unwrap_or((what, "a"));
                let spec = match name {
                    "deny" => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
                    "out" => json!({"egress": peers}),
                    "in" => json!({"ingress": [{"from": [{"podSelector": {}}]}]}),
                    _ => json!({}),
                };
                json!({"kind": kind, "metadata": {"name": name}, "spec": spec})
            })
            .collect()
    }

    fn told(object: &Value) -> String {
        let kind = object["kind"].as_str().unwrap_or_default();
        match object["metadata"]["name"].as_str().unwrap_or_default() {
            "a" => kind.to_owned(),
            name => format!("{kind} {name}"),
        }
    }

    #[test]
    fn whatever_order_they_come_in() {
        let mut mixed = objects();
        mixed.reverse();
        mixed.rotate_left(5);
        let sorted = sort(mixed);
        let found: Vec<String> = sorted.iter().map(|r| told(&r.object)).collect();
        assert_eq!(found, ORDER);
        let mut all: Vec<Value> = sorted.into_iter().map(|r| r.object).collect();
        sort_for_deletion(&mut all);
        let phases: Vec<u8> = all.iter().map(phase).collect();
        assert!(phases.is_sorted_by(|a, b| a >= b), "{phases:?}");
        assert_eq!(
            (told(&all[0]).as_str(), told(&all[13]).as_str()),
            ("NetworkPolicy in", "Namespace")
        );
    }
}
