//! LimitRanger: what Pods and claims of a namespace ask for at least and at most, and what they get when they do not say.

use std::collections::BTreeMap;

use choreo_apimachinery::quantity::{self, Quantity};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;
use serde_json::{Map, Value};

use super::Operation;
use super::chain::Review;
use crate::quota::resources::{Resources, of_container, of_pod};
use crate::verbs::text;

/// Says which amounts were made up.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn items(value: &Value, pointer: &str) -> Vec<Value> {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.cloned().unwrap_or_default()
}

fn is(review: &Review<'_>, plural: &str) -> bool {
    let info = &review.target.resource;
    info.group.is_empty() && info.plural == plural && review.subresource.is_empty()
}

/// The limits of a namespace, of one type.
fn limits(snapshot: &Snapshot, namespace: &str, kind: &str) -> Vec<Value> {
    let ranges = snapshot.iter("limitranges", Some(namespace), None);
    ranges
        .flat_map(|range| items(&range.value(), "/spec/limits"))
        .filter(|limit| text(limit, "/type") == kind)
        .collect()
}

/// Gives the containers of a new Pod what they do not say. Says whether that was anything.
pub(super) fn mutate(review: &Review<'_>, pod: &mut Value) -> bool {
    if review.operation != Operation::Create || !is(review, "pods") {
        return false;
    }
    let snapshot = review.target.cluster.store().snapshot();
    if snapshot.count("limitranges") == 0 {
        return false;
    }
    let mut said = Vec::new();
    for limit in limits(&snapshot, &review.target.namespace, "Container") {
        for (field, what) in [("containers", "container"), ("initContainers", "init container")] {
            let Some(containers) = pod
                .pointer_mut(&format!("/spec/{field}"))
                .and_then(Value::as_array_mut)
            else {
                continue;
            };
            for container in containers.iter_mut().filter(|c| c.is_object()) {
                let name = text(container, "/name").to_owned();
                for (from, to, kind) in [
                    ("defaultRequest", "requests", "request"),
                    ("default", "limits", "limit"),
                ] {
                    let set = fill(container, to, limit.get(from));
                    if !set.is_empty() {
                        said.push(format!("{} {kind} for {what} {name}", set.join(", ")));
                    }
                }
            }
        }
    }
    if said.is_empty() {
        return false;
    }
    pod["metadata"]["annotations"][ANNOTATION] =
        format!("LimitRanger plugin set: {}", said.join("; ")).into();
    true
}

/// Sets amounts that are missing; gives their names.
fn fill(container: &mut Value, to: &str, defaults: Option<&Value>) -> Vec<String> {
    let Some(defaults) = defaults.and_then(Value::as_object).filter(|d| !d.is_empty()) else {
        return Vec::new();
    };
    if !container["resources"].is_object() {
        container["resources"] = Value::Object(Map::new());
    }
    let amounts = &mut container["resources"][to];
    if !amounts.is_object() {
        *amounts = Value::Object(Map::new());
    }
    let Some(amounts) = amounts.as_object_mut() else {
        return Vec::new();
    };
    let mut set = Vec::new();
    for (name, amount) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), amount.clone());
            set.push(name.clone());
        }
    }
    set
}

/// Refuses Pods and claims beyond the limits of their namespace.
///
/// # Errors
/// 403 with every limit that is not kept.
pub(super) fn validate(review: &Review<'_>, object: Option<&Value>) -> Result<()> {
    let (pods, claims) = (is(review, "pods"), is(review, "persistentvolumeclaims"));
    let Some(object) = object else { return Ok(()) };
    let info = &review.target.resource;
    let resized = info.group.is_empty() && info.plural == "pods" && review.subresource == "resize";
    if !(pods && review.operation == Operation::Create || resized || claims) {
        return Ok(());
    }
    let pods = pods || resized;
    let snapshot = review.target.cluster.store().snapshot();
    if snapshot.count("limitranges") == 0 {
        return Ok(());
    }
    let namespace = &review.target.namespace;
    let mut wrong = Vec::new();
    if pods {
        for limit in limits(&snapshot, namespace, "Container") {
            for field in ["containers", "initContainers"] {
                for container in items(object, &format!("/spec/{field}")) {
                    check(&limit, "Container", &of_container(&container), &mut wrong);
                }
            }
        }
        for limit in limits(&snapshot, namespace, "Pod") {
            check(&limit, "Pod", &of_pod(object), &mut wrong);
        }
    } else {
        let claim = Resources {
            requests: amounts(object.pointer("/spec/resources/requests")),
            limits: BTreeMap::new(),
        };
        for limit in limits(&snapshot, namespace, "PersistentVolumeClaim") {
            for (name, least) in amounts(limit.get("min")) {
                wrong.extend(least_kept(&name, "PersistentVolumeClaim", least, &claim));
            }
            for (name, most) in amounts(limit.get("max")) {
                let asked = claim.requests.get(&name).copied();
                if let Some(asked) = asked.filter(|asked| *asked > most) {
                    wrong.push(format!(
                        "maximum {name} usage per PersistentVolumeClaim is {most}, but request is {asked}"
                    ));
                }
            }
        }
    }
    let why = match wrong.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let info = &review.target.resource;
    Err(ApiError::forbidden("", &info.plural, review.name, &why))
}

fn amounts(map: Option<&Value>) -> BTreeMap<String, Quantity> {
    let map = map.and_then(Value::as_object).into_iter().flatten();
    map.filter_map(|(name, amount)| Some((name.clone(), quantity::from_json(amount).ok()?)))
        .collect()
}

fn check(limit: &Value, kind: &str, asked: &Resources, wrong: &mut Vec<String>) {
    for (name, least) in amounts(limit.get("min")) {
        wrong.extend(least_kept(&name, kind, least, asked));
    }
    for (name, most) in amounts(limit.get("max")) {
        wrong.extend(most_kept(&name, kind, most, asked));
    }
    for (name, most) in amounts(limit.get("maxLimitRequestRatio")) {
        wrong.extend(ratio_kept(&name, kind, most, asked));
    }
}

fn least_kept(name: &str, kind: &str, least: Quantity, asked: &Resources) -> Option<String> {
    let rule = format!("minimum {name} usage per {kind} is {least}");
    match (asked.requests.get(name), asked.limits.get(name)) {
        (None, _) => Some(format!("{rule}.  No request is specified")),
        (Some(request), _) if *request < least => Some(format!("{rule}, but request is {request}")),
        (_, Some(limit)) if *limit < least => Some(format!("{rule}, but limit is {limit}")),
        _ => None,
    }
}

fn most_kept(name: &str, kind: &str, most: Quantity, asked: &Resources) -> Option<String> {
    let rule = format!("maximum {name} usage per {kind} is {most}");
    match (asked.limits.get(name), asked.requests.get(name)) {
        (None, _) => Some(format!("{rule}.  No limit is specified")),
        (Some(limit), _) if *limit > most => Some(format!("{rule}, but limit is {limit}")),
        (_, Some(request)) if *request > most => Some(format!("{rule}, but request is {request}")),
        _ => None,
    }
}

fn ratio_kept(name: &str, kind: &str, most: Quantity, asked: &Resources) -> Option<String> {
    let rule = format!("{name} max limit to request ratio per {kind} is {most}");
    let amount = |amounts: &BTreeMap<String, Quantity>| amounts.get(name).copied().filter(|a| !a.is_zero());
    let Some(request) = amount(&asked.requests) else {
        return Some(format!("{rule}, but no request is specified or request is 0."));
    };
    let Some(limit) = amount(&asked.limits) else {
        return Some(format!("{rule}, but no limit is specified or limit is 0."));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > most.as_f64()).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
}
