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
