//! What objects count for, and what a namespace has.

use std::collections::BTreeSet;

use choreo_apimachinery::quantity::{self, Quantity};
use choreo_store::Snapshot;
use serde_json::Value;

use super::resources::of_pod;
use super::{Amounts, scopes};
use crate::verbs::text;

/// What one object counts for.
pub(super) fn of(group: &str, plural: &str, object: &Value) -> Amounts {
    let one = Quantity::from_integer(1);
    let mut amounts = Amounts::new();
    let counted = if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    };
    amounts.insert(counted, one);
    if !group.is_empty() {
        return amounts;
    }
    match plural {
        "pods" => pod(object, &mut amounts),
        "services" => service(object, &mut amounts),
        "persistentvolumeclaims" => claim(object, &mut amounts),
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => {
            amounts.insert(plural.to_owned(), one);
        }
        _ => {}
    }
    amounts
}

fn pod(pod: &Value, amounts: &mut Amounts) {
    // What has run to its end takes nothing any more.
    if matches!(text(pod, "/status/phase"), "Succeeded" | "Failed") {
        return;
    }
    amounts.insert("pods".to_owned(), Quantity::from_integer(1));
    let asked = of_pod(pod);
    for (name, amount) in asked.requests {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            amounts.insert(name.clone(), amount);
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in asked.limits {
        amounts.insert(format!("limits.{name}"), amount);
    }
}

fn service(service: &Value, amounts: &mut Amounts) {
    let one = Quantity::from_integer(1);
    amounts.insert("services".to_owned(), one);
    let kind = text(service, "/spec/type");
    let ports = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let allocates = service
        .pointer("/spec/allocateLoadBalancerNodePorts")
        .and_then(Value::as_bool)
        != Some(false);
    if kind == "LoadBalancer" {
        amounts.insert("services.loadbalancers".to_owned(), one);
    }
    if kind == "NodePort" || (kind == "LoadBalancer" && allocates) {
        let ports = i64::try_from(ports).unwrap_or(i64::MAX);
        amounts.insert("services.nodeports".to_owned(), Quantity::from_integer(ports));
    }
}

fn claim(claim: &Value, amounts: &mut Amounts) {
    let one = Quantity::from_integer(1);
    amounts.insert("persistentvolumeclaims".to_owned(), one);
    let class = text(claim, "/spec/storageClassName");
    let of_class = |what: &str| format!("{class}.storageclass.storage.k8s.io/{what}");
    if !class.is_empty() {
        amounts.insert(of_class("persistentvolumeclaims"), one);
    }
    let asked = claim
        .pointer("/spec/resources/requests/storage")
        .and_then(|amount| quantity::from_json(amount).ok());
    if let Some(asked) = asked {
        amounts.insert("requests.storage".to_owned(), asked);
        if !class.is_empty() {
            amounts.insert(of_class("requests.storage"), asked);
        }
    }
}

/// The resource whose objects a name of a quota is about: group and plural.
fn counted(name: &str) -> Option<(String, String)> {
    if let Some(rest) = name.strip_prefix("count/") {
        let (plural, group) = rest.split_once('.').unwrap_or((rest, ""));
        return Some((group.to_owned(), plural.to_owned()));
    }
    let plural = match name {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => name,
        "services" | "services.loadbalancers" | "services.nodeports" => "services",
        "persistentvolumeclaims" | "requests.storage" => "persistentvolumeclaims",
        _ if name.contains(".storageclass.storage.k8s.io/") => "persistentvolumeclaims",
        "pods" | "cpu" | "memory" | "ephemeral-storage" => "pods",
        _ if name.starts_with("requests.") || name.starts_with("limits.") => "pods",
        _ => return None,
    };
    Some((String::new(), plural.to_owned()))
}

/// What a namespace has of some of the things that a quota counts.
pub(super) fn in_namespace(
    snapshot: &Snapshot,
    quota: &Value,
    namespace: &str,
    names: &BTreeSet<&str>,
) -> Amounts {
    let zero = Quantity::from_integer(0);
    let mut used: Amounts = names.iter().map(|name| ((*name).to_owned(), zero)).collect();
    let resources: BTreeSet<(String, String)> = names.iter().filter_map(|name| counted(name)).collect();
    for (group, plural) in resources {
        let stored = if group.is_empty() {
            plural.clone()
        } else {
            format!("{group}/{plural}")
        };
        for object in snapshot.iter(&stored, Some(namespace), None) {
            let object = object.value();
            if !scopes::matches(quota, &group, &plural, &object) {
                continue;
            }
            for (name, amount) in of(&group, &plural, &object) {
                if let Some(sum) = used.get_mut(&name)
                    && let Some(more) = sum.checked_add(amount)
                {
                    // The first amount says how the sum is written.
                    *sum = if sum.is_zero() { amount } else { more };
                }
            }
        }
    }
    used
}
