//! GatewayClass and Gateway.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{ROUTES, condition, route};
use crate::core::{Name, World};

/// Where a simulated gateway would be.
const ADDRESS: &str = "127.0.0.1";

pub(super) fn class_status(class: &DynamicObject) -> Value {
    let before = class.data.pointer("/status/conditions");
    let accepted = condition(
        before,
        class.metadata.generation,
        "Accepted",
        true,
        "Accepted",
        "simulated",
    );
    json!({"conditions": [accepted]})
}

pub(super) fn status(world: &World, gateway: &DynamicObject) -> Value {
    let generation = gateway.metadata.generation;
    let name = Name::of(gateway);
    let before = |listener: &str| {
        let known = gateway
            .data
            .pointer("/status/listeners")
            .and_then(Value::as_array);
        known
            .into_iter()
            .flatten()
            .find(|known| known["name"] == listener)
            .and_then(|known| known.get("conditions"))
    };
    let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
    let listeners: Vec<Value> = listeners
        .into_iter()
        .flatten()
        .map(|listener| {
            let listener_name = listener["name"].as_str().unwrap_or_default();
            let set = |kind, reason, message| {
                condition(before(listener_name), generation, kind, true, reason, message)
            };
            json!({
                "name": listener_name,
                "attachedRoutes": attached(world, &name, listener_name),
                "supportedKinds": supported(listener),
                "conditions": [
                    set("Programmed", "Programmed", "listener is simulated"),
                    set("Accepted", "Accepted", "listener is valid"),
                    set("ResolvedRefs", "ResolvedRefs", "all references are resolved"),
                ],
            })
        })
        .collect();
    let before = gateway.data.pointer("/status/conditions");
    json!({
        "addresses": [{"type": "IPAddress", "value": ADDRESS}],
        "conditions": [
            condition(before, generation, "Accepted", true, "Accepted", "gateway is valid"),
            condition(before, generation, "Programmed", true, "Programmed", "gateway is simulated: nothing listens"),
        ],
        "listeners": listeners,
    })
}

/// The kinds of route that a listener's protocol carries.
fn supported(listener: &Value) -> Vec<Value> {
    let protocol = listener["protocol"].as_str().unwrap_or_default();
    ROUTES
        .into_iter()
        .filter(|kind| route::protocols(*kind).contains(&protocol))
        .map(|kind| json!({"group": "gateway.networking.k8s.io", "kind": kind.name()}))
        .collect()
}

/// Number of routes that name the listener, or all of the gateway's.
fn attached(world: &World, gateway: &Name, listener: &str) -> usize {
    let routes = ROUTES.into_iter().flat_map(|kind| world.foreign(kind).all());
    routes
        .filter(|found| {
            route::parents(found).any(|parent| {
                let section = parent.get("sectionName").and_then(Value::as_str);
                route::gateway_of(found, parent).as_ref() == Some(gateway)
                    && section.is_none_or(|section| section == listener)
            })
        })
        .count()
}
