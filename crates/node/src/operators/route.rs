//! HTTPRoute and GRPCRoute.

use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{GATEWAY_CONTROLLER, Kind, condition};
use crate::core::{Name, World};

/// The references of a route to its parents.
pub(super) fn parents(route: &DynamicObject) -> impl Iterator<Item = &Value> {
    route
        .data
        .pointer("/spec/parentRefs")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The gateway that a reference means; `None` if it means something else.
pub(super) fn gateway_of(route: &DynamicObject, parent: &Value) -> Option<Name> {
    let text = |field: &str| parent.get(field).and_then(Value::as_str);
    let is_gateway = text("kind").is_none_or(|kind| kind == "Gateway")
        && text("group").is_none_or(|group| group == "gateway.networking.k8s.io");
    let own = route.metadata.namespace.as_deref().unwrap_or_default();
    is_gateway.then(|| Name::new(text("namespace").unwrap_or(own), text("name").unwrap_or_default()))
}

/// One entry for each parent that is there; a gateway that is not has nobody to speak for it. Entries of other controllers stay.
pub(super) fn status(world: &World, route: &DynamicObject) -> Value {
    let known = route
        .data
        .pointer("/status/parents")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let (ours, mut entries): (Vec<_>, Vec<_>) = known
        .into_iter()
        .partition(|entry| entry["controllerName"] == GATEWAY_CONTROLLER);
    let (resolved, reason, message) = backends(world, route);
    for parent in parents(route) {
        let Some(gateway) =
            gateway_of(route, parent).and_then(|name| world.foreign(Kind::Gateway).get(&name))
        else {
            continue;
        };
        let before = ours
            .iter()
            .find(|entry| entry["parentRef"] == *parent)
            .and_then(|entry| entry.get("conditions"));
        let (accepted, why, text) = accepts(&gateway, route, parent);
        let generation = route.metadata.generation;
        entries.push(json!({
            "parentRef": parent,
            "controllerName": GATEWAY_CONTROLLER,
            "conditions": [
                condition(before, generation, "Accepted", accepted, why, text),
                condition(before, generation, "ResolvedRefs", resolved, reason, &message),
            ],
        }));
    }
    json!({"parents": entries})
}

/// Whether the gateway has a listener for the route.
fn accepts(
    gateway: &DynamicObject,
    route: &DynamicObject,
    parent: &Value,
) -> (bool, &'static str, &'static str) {
    let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
    let section = parent.get("sectionName").and_then(Value::as_str);
    let port = parent.get("port").and_then(Value::as_i64);
    let named: Vec<_> = listeners
        .into_iter()
        .flatten()
        .filter(|listener| {
            section.is_none_or(|section| listener["name"] == section)
                && port.is_none_or(|port| listener["port"] == port)
        })
        .collect();
    if named.is_empty() {
        return (false, "NoMatchingParent", "the gateway has no such listener");
    }
    let same = gateway.metadata.namespace == route.metadata.namespace;
    let allowed = named.iter().any(|listener| {
        let from = listener
            .pointer("/allowedRoutes/namespaces/from")
            .and_then(Value::as_str)
            .unwrap_or("Same");
        from == "All" || from == "Selector" || (from == "Same" && same)
    });
    if !allowed {
        return (
            false,
            "NotAllowedByListeners",
            "no listener of the gateway allows routes of this namespace",
        );
    }
    (true, "Accepted", "route is accepted (simulated)")
}

/// Whether the Services that the route leads to are there.
fn backends(world: &World, route: &DynamicObject) -> (bool, &'static str, String) {
    let own = route.metadata.namespace.as_deref().unwrap_or_default();
    let rules = route.data.pointer("/spec/rules").and_then(Value::as_array);
    let backends = rules
        .into_iter()
        .flatten()
        .filter_map(|rule| rule.get("backendRefs")?.as_array())
        .flatten();
    for backend in backends {
        let text = |field: &str| backend.get(field).and_then(Value::as_str);
        if text("kind").is_some_and(|kind| kind != "Service") {
            continue;
        }
        let name = Name::new(text("namespace").unwrap_or(own), text("name").unwrap_or_default());
        if world.services.get(&name).is_none() {
            return (false, "BackendNotFound", format!("Service {name} not found"));
        }
    }
    (true, "ResolvedRefs", "all references are resolved".to_owned())
}
