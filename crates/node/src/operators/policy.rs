//! Policies of Envoy Gateway.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{GATEWAY_CONTROLLER, KINDS, Kind, ROUTES, condition, route};
use crate::core::{Name, World};

/// One entry for each gateway that the policy's targets lead to. A target that is not there has none, as with the real one.
pub(super) fn status(world: &World, kind: Kind, policy: &DynamicObject) -> Value {
    let known = policy
        .data
        .pointer("/status/ancestors")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let (ours, mut entries): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|entry| entry["controllerName"] == GATEWAY_CONTROLLER);
    for ancestor in ancestors(world, policy) {
        let before = ours
            .iter()
            .find(|entry| entry["ancestorRef"] == ancestor)
            .and_then(|entry| entry.get("conditions"));
        let (holds, reason, message) = verdict(world, kind, policy);
        let accepted = condition(
            before,
            policy.metadata.generation,
            "Accepted",
            holds,
            reason,
            &message,
        );
        entries.push(
            json!({"ancestorRef": ancestor, "controllerName": GATEWAY_CONTROLLER, "conditions": [accepted]}),
        );
    }
    json!({"ancestors": entries})
}

/// Whether the policy can be followed: the Secrets that it names must be there, and its kind must fit its target.
fn verdict(world: &World, kind: Kind, policy: &DynamicObject) -> (bool, &'static str, String) {
    let own = policy.metadata.namespace.as_deref().unwrap_or_default();
    let references = policy
        .data
        .pointer("/spec/apiKeyAuth/credentialRefs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .chain(policy.data.pointer("/spec/basicAuth/users"));
    for reference in references {
        let text = |field: &str| reference.get(field).and_then(Value::as_str);
        let name = Name::new(text("namespace").unwrap_or(own), text("name").unwrap_or_default());
        if world.secrets.get(&name).is_none() {
            return (
                false,
                "Invalid",
                format!("Secret {name} not found: create it, with the accepted credentials"),
            );
        }
    }
    if kind == Kind::SecurityPolicy
        && targets(policy).any(|t| matches!(t["kind"].as_str(), Some("TLSRoute" | "UDPRoute")))
    {
        return (
            false,
            "Invalid",
            "a SecurityPolicy cannot be about a TLSRoute or UDPRoute".to_owned(),
        );
    }
    (
        true,
        "Accepted",
        "policy has been accepted (simulated)".to_owned(),
    )
}

fn targets(policy: &DynamicObject) -> impl Iterator<Item = &Value> {
    let one = policy.data.pointer("/spec/targetRef").into_iter();
    let many = policy
        .data
        .pointer("/spec/targetRefs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    one.chain(many)
}

fn ancestors(world: &World, policy: &DynamicObject) -> Vec<Value> {
    let own = policy.metadata.namespace.as_deref().unwrap_or_default();
    let mut found: Vec<Value> = Vec::new();
    for target in targets(policy) {
        let text = |field: &str| target.get(field).and_then(Value::as_str).unwrap_or_default();
        let name = Name::new(own, text("name"));
        let Some(kind) = KINDS.into_iter().find(|kind| kind.name() == text("kind")) else {
            continue;
        };
        let Some(object) = world.foreign(kind).get(&name) else {
            continue;
        };
        let gateways: Vec<Name> = match kind {
            Kind::Gateway => vec![name],
            kind if ROUTES.contains(&kind) => route::parents(&object)
                .filter_map(|parent| route::gateway_of(&object, parent))
                .filter(|gateway| world.foreign(Kind::Gateway).get(gateway).is_some())
                .collect(),
            _ => continue,
        };
        for gateway in gateways {
            let ancestor = json!({
                "group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name,
            });
            if !found.contains(&ancestor) {
                found.push(ancestor);
            }
        }
    }
    found
}
