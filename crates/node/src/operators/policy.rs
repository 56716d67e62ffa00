//! SecurityPolicy and BackendTrafficPolicy of Envoy Gateway.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{GATEWAY_CONTROLLER, KINDS, Kind, condition, route};
use crate::core::{Name, World};

/// One entry for each gateway that the policy's targets lead to. A target that is not there has none, as with the real one.
pub(super) fn status(world: &World, policy: &DynamicObject) -> Value {
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
        let accepted = condition(
            before,
            policy.metadata.generation,
            "Accepted",
            true,
            "Accepted",
            "policy has been accepted (simulated)",
        );
        entries.push(
            json!({"ancestorRef": ancestor, "controllerName": GATEWAY_CONTROLLER, "conditions": [accepted]}),
        );
    }
    json!({"ancestors": entries})
}

fn ancestors(world: &World, policy: &DynamicObject) -> Vec<Value> {
    let own = policy.metadata.namespace.as_deref().unwrap_or_default();
    let one = policy.data.pointer("/spec/targetRef").into_iter();
    let many = policy
        .data
        .pointer("/spec/targetRefs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let mut found: Vec<Value> = Vec::new();
    for target in one.chain(many) {
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
            Kind::HttpRoute | Kind::GrpcRoute => route::parents(&object)
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
