//! The routes of the Gateway API, and what they lead to.

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
pub(super) fn status(world: &World, kind: Kind, route: &DynamicObject) -> Value {
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
        let (accepted, why, text) = accepts(world, &gateway, kind, route, parent);
        let generation = route.metadata.generation;
        entries.push(json!({
            "parentRef": parent,
            "controllerName": GATEWAY_CONTROLLER,
            "conditions": [
                condition(before, generation, "Accepted", accepted, why, &text),
                condition(before, generation, "ResolvedRefs", resolved, reason, &message),
            ],
        }));
    }
    json!({"parents": entries})
}

/// What a listener's protocol must be for a kind of route.
pub(super) fn protocols(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::HttpRoute | Kind::GrpcRoute => &["HTTP", "HTTPS"],
        Kind::TlsRoute => &["TLS"],
        Kind::TcpRoute => &["TCP"],
        Kind::UdpRoute => &["UDP"],
        _ => &[],
    }
}

type Verdict = (bool, &'static str, String);

/// Whether the gateway has a listener for the route.
fn accepts(
    world: &World,
    gateway: &DynamicObject,
    kind: Kind,
    route: &DynamicObject,
    parent: &Value,
) -> Verdict {
    let no = |reason, text: &str| (false, reason, text.to_owned());
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
        return no("NoMatchingParent", "the gateway has no such listener");
    }
    let speaks: Vec<_> = named
        .into_iter()
        .filter(|listener| {
            listener["protocol"]
                .as_str()
                .is_some_and(|protocol| protocols(kind).contains(&protocol))
        })
        .collect();
    if speaks.is_empty() {
        return no(
            "NotAllowedByListeners",
            &format!(
                "no listener of the gateway speaks what a {} needs: {}",
                kind.name(),
                protocols(kind).join(" or ")
            ),
        );
    }
    let same = gateway.metadata.namespace == route.metadata.namespace;
    let allowed = speaks.iter().any(|listener| {
        let from = listener
            .pointer("/allowedRoutes/namespaces/from")
            .and_then(Value::as_str)
            .unwrap_or("Same");
        from == "All" || from == "Selector" || (from == "Same" && same)
    });
    if !allowed {
        return no(
            "NotAllowedByListeners",
            "no listener of the gateway allows routes of this namespace",
        );
    }
    let hosts: Vec<&str> = route
        .data
        .pointer("/spec/hostnames")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let serves = speaks.iter().any(|listener| {
        let own = listener["hostname"].as_str().unwrap_or_default();
        own.is_empty() || hosts.is_empty() || hosts.iter().any(|host| overlap(own, host))
    });
    if !serves {
        return no(
            "NoMatchingListenerHostname",
            "no listener of the gateway serves a host of the route",
        );
    }
    if let Some(other) = earlier(world, kind, route, parent) {
        return no(
            "UnsupportedValue",
            &format!(
                "{} {other} has the listener already, and it can lead to one only",
                kind.name()
            ),
        );
    }
    (true, "Accepted", "route is accepted (simulated)".to_owned())
}

/// Whether a listener's host and a route's have a name in common; either may begin with `*.`.
fn overlap(listener: &str, host: &str) -> bool {
    match (listener.strip_prefix('*'), host.strip_prefix('*')) {
        (Some(a), Some(b)) => a.ends_with(b) || b.ends_with(a),
        (Some(suffix), None) => host.ends_with(suffix) && host.len() > suffix.len(),
        (None, Some(suffix)) => listener.ends_with(suffix) && listener.len() > suffix.len(),
        (None, None) => listener == host,
    }
}

/// The route that has a raw listener because it is older, or the first by name among those of one age.
fn earlier(world: &World, kind: Kind, route: &DynamicObject, parent: &Value) -> Option<Name> {
    if !matches!(kind, Kind::TcpRoute | Kind::UdpRoute) {
        return None;
    }
    let section = |of: &Value| of.get("sectionName").cloned();
    let rank = |of: &DynamicObject| (of.metadata.creation_timestamp.clone(), Name::of(of));
    let target = gateway_of(route, parent);
    let others = world.foreign(kind).all();
    let rivals = others.into_iter().filter(|other| {
        rank(other) < rank(route)
            && parents(other).any(|p| gateway_of(other, p) == target && section(p) == section(parent))
    });
    rivals.map(|other| Name::of(&*other)).min()
}

/// Whether the Services and servers that the route leads to are there.
fn backends(world: &World, route: &DynamicObject) -> Verdict {
    let own = route.metadata.namespace.as_deref().unwrap_or_default();
    let rules = route.data.pointer("/spec/rules").and_then(Value::as_array);
    let backends = rules
        .into_iter()
        .flatten()
        .filter_map(|rule| rule.get("backendRefs")?.as_array())
        .flatten();
    for backend in backends {
        let text = |field: &str| backend.get(field).and_then(Value::as_str);
        let name = Name::new(text("namespace").unwrap_or(own), text("name").unwrap_or_default());
        let (kind, there) = match text("kind").unwrap_or("Service") {
            "Service" => ("Service", world.services.get(&name).is_some()),
            "Backend" => ("Backend", world.foreign(Kind::Backend).get(&name).is_some()),
            other => {
                return (
                    false,
                    "InvalidKind",
                    format!("the gateway does not know backends of kind {other}"),
                );
            }
        };
        if !there {
            return (false, "BackendNotFound", format!("{kind} {name} not found"));
        }
    }
    (true, "ResolvedRefs", "all references are resolved".to_owned())
}

/// A server outside is taken as it is written: nobody is asked whether it answers.
pub(super) fn backend_status(backend: &DynamicObject) -> Value {
    let before = backend.data.pointer("/status/conditions");
    let accepted = condition(
        before,
        backend.metadata.generation,
        "Accepted",
        true,
        "Accepted",
        "the backend was accepted (simulated)",
    );
    json!({"conditions": [accepted]})
}

#[cfg(test)]
mod tests {
    use super::overlap;

    #[test]
    fn hosts_overlap_as_the_gateway_api_says() {
        assert!(overlap("*.example.com", "a.b.example.com"));
        assert!(!overlap("*.example.com", "example.com"));
        assert!(overlap("a.example.com", "*.example.com"));
        assert!(overlap("*.example.com", "*.a.example.com"));
        assert!(!overlap("*.example.com", "a.example.org"));
    }
}
