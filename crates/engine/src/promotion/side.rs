//! Two revisions side by side: the new one's objects beside the old one's, and the old one's routes with a share for the new one.

use choreo_api::v1alpha1::{HeaderMatch, ReleaseResource};
use choreo_api::{labels, names};
use serde_json::{Value, json};

use super::effective::{CANDIDATE, Side, candidate_name};
use crate::{binding::Binding, render};

/// Whether an object leads traffic to a component, or guards it at a gateway: there is one of it for both revisions.
fn is_of_gateway(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().unwrap_or_default();
    group.starts_with("gateway.networking.k8s.io/") || group.starts_with("gateway.envoyproxy.io/")
}

/// Whether an object is a route to a backend of this name. What has no host of its own (TCP, UDP) has no second address either.
fn leads_to(object: &Value, backend: &str) -> bool {
    let rules = object.pointer("/spec/rules").and_then(Value::as_array);
    let to_it = |rule: &Value| {
        let backends = rule["backendRefs"].as_array();
        backends.is_some_and(|all| {
            all.iter()
                .any(|b| b["name"] == *backend && b.get("kind").is_none())
        })
    };
    object.pointer("/spec/hostnames").is_some() && rules.is_some_and(|rules| rules.iter().any(to_it))
}

/// Whether an object is a policy of one of these routes, or something that such a policy reads under the route's name.
fn guards_one(object: &Value, routes: &[Value]) -> bool {
    let targets = object.pointer("/spec/targetRefs").and_then(Value::as_array);
    let one = object.pointer("/spec/targetRef");
    let mut all = targets.into_iter().flatten().chain(one);
    all.any(|target| routes.contains(&target["name"]))
}

/// The objects of both.
pub(crate) fn side_by_side(
    binding: &Binding,
    side: &Side,
    stable: Vec<ReleaseResource>,
    candidate: Vec<ReleaseResource>,
) -> Vec<ReleaseResource> {
    let (component, track) = (&binding.owner.component_name, &binding.track);
    let old = names::workload(component, track);
    let new = candidate_name(component, track);
    let mut candidate: Vec<Value> = candidate.into_iter().map(|resource| resource.object).collect();
    // Its own address is where another track of this name would be; the guards of its routes come along.
    let shown: Vec<Value> = candidate
        .iter()
        .filter(|object| side.preview && leads_to(object, &new))
        .map(|route| route["metadata"]["name"].clone())
        .collect();
    candidate.retain(|object| {
        !is_of_gateway(object) || shown.contains(&object["metadata"]["name"]) || guards_one(object, &shown)
    });
    let mut objects: Vec<Value> = candidate
        .into_iter()
        .map(|object| beside(object, binding, side))
        .collect();
    for mut resource in stable {
        if is_of_gateway(&resource.object) {
            share(&mut resource.object, &old, &new, side);
        }
        // What both read (a Secret of the registry, say) is there once.
        let key = |object: &Value| (object["kind"].clone(), object["metadata"]["name"].clone());
        objects.retain(|object| key(object) != key(&resource.object));
        objects.push(resource.object);
    }
    render::sort(objects)
}

/// An object of the new revision: of the same release, and saying what it is.
fn beside(mut object: Value, binding: &Binding, side: &Side) -> Value {
    let release = labels::label_value(&names::release(binding.name()));
    for pointer in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = object.pointer_mut(pointer).and_then(Value::as_object_mut)
            && labels.contains_key(labels::RELEASE)
        {
            labels.insert(labels::RELEASE.to_owned(), json!(release));
        }
    }
    let is_workload = object.pointer("/spec/template/spec/containers").is_some();
    if is_workload && let Some(metadata) = object["metadata"].as_object_mut() {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        annotations[CANDIDATE] = json!(side.candidate);
    }
    object
}

/// Gives the new revision its share of a route to the old one.
fn share(route: &mut Value, old: &str, new: &str, side: &Side) {
    let Some(rules) = route.pointer_mut("/spec/rules").and_then(Value::as_array_mut) else {
        return;
    };
    let mut testers = Vec::new();
    for rule in rules.iter_mut() {
        let Some(backends) = rule["backendRefs"].as_array_mut() else {
            continue;
        };
        let Some(own) = backends
            .iter()
            .position(|b| b["name"] == *old && b.get("kind").is_none())
        else {
            continue;
        };
        let mut stable = backends[own].clone();
        let mut candidate = stable.clone();
        stable["weight"] = json!(100 - i32::from(side.weight));
        candidate["name"] = json!(new);
        candidate["weight"] = json!(side.weight);
        let mut alone = candidate.clone();
        backends.splice(own..=own, [stable, candidate]);
        if let Some(header) = &side.testers {
            alone["weight"] = json!(1);
            testers.extend(for_testers(rule, header, &alone));
        }
    }
    testers.append(rules);
    *rules = testers;
}

/// A rule for those who say that they test: as the other, and only to the new revision. Where requests cannot be told apart by
/// headers (TLS, TCP, UDP) there is none.
fn for_testers(rule: &Value, header: &HeaderMatch, backend: &Value) -> Option<Value> {
    let mut rule = rule.clone();
    for one in rule.get_mut("matches")?.as_array_mut()? {
        let headers = one.as_object_mut()?.entry("headers").or_insert_with(|| json!([]));
        headers
            .as_array_mut()?
            .push(json!({"type": "Exact", "name": header.name, "value": header.value}));
    }
    rule["backendRefs"] = json!([backend]);
    Some(rule)
}

/// All pods at once: the old ones stop before the new ones start.
pub(crate) fn all_at_once(resources: &mut [ReleaseResource]) {
    for resource in resources {
        let object = &mut resource.object;
        if object["kind"] == "Deployment" && object["apiVersion"] == "apps/v1" && object["spec"].is_object() {
            object["spec"]["strategy"] = json!({"type": "Recreate"});
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_shared_and_testers_go_to_the_new_one() {
        let mut route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "spec": {"rules": [{
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": "app", "port": 80}],
            }]},
        });
        let side = Side {
            stable: "a".to_owned(),
            candidate: "b".to_owned(),
            weight: 10,
            testers: Some(HeaderMatch {
                name: "x-test".to_owned(),
                value: "yes".to_owned(),
            }),
            preview: false,
        };
        share(&mut route, "app", "app-canary", &side);
        assert_eq!(
            route["spec"]["rules"],
            json!([
                {
                    "matches": [{
                        "path": {"type": "PathPrefix", "value": "/"},
                        "headers": [{"type": "Exact", "name": "x-test", "value": "yes"}],
                    }],
                    "backendRefs": [{"name": "app-canary", "port": 80, "weight": 1}],
                },
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [
                        {"name": "app", "port": 80, "weight": 90},
                        {"name": "app-canary", "port": 80, "weight": 10},
                    ],
                },
            ])
        );
    }
}
