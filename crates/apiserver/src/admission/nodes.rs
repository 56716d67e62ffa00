//! What nodes have to do with new objects: kube-apiserver's steps TaintNodesByCondition and PodTopologyLabels.

use choreo_store::Key;
use serde_json::{Value, json};

use super::Operation;
use super::chain::Review;
use crate::verbs::text;

/// Where a node is; its Pods are said to be there too.
const PLACES: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Taints a new node until it is ready, and labels a Pod that gets a node with where that is. Says whether that was anything.
pub(super) fn mutate(review: &Review<'_>, object: &mut Value) -> bool {
    let info = &review.target.resource;
    if review.operation != Operation::Create || !info.group.is_empty() {
        return false;
    }
    match (info.plural.as_str(), review.subresource) {
        ("nodes", "") => taint(object),
        ("pods", "") => place(review, "/spec/nodeName", object),
        ("pods", "binding") if text(object, "/target/kind") == "Node" => {
            place(review, "/target/name", object)
        }
        _ => false,
    }
}

fn taint(node: &mut Value) -> bool {
    let taint = json!({"key": crate::taints::NOT_READY, "effect": "NoSchedule"});
    let taints = &mut node["spec"]["taints"];
    if taints.is_null() {
        *taints = json!([]);
    }
    // Whatever it is that is no list, the schema refuses it.
    let Some(taints) = taints.as_array_mut() else {
        return false;
    };
    let is_same = |other: &Value| other["key"] == taint["key"] && other["effect"] == taint["effect"];
    if taints.iter().any(is_same) {
        return false;
    }
    taints.push(taint);
    true
}

fn place(review: &Review<'_>, path: &str, object: &mut Value) -> bool {
    let name = text(object, path);
    if name.is_empty() {
        return false;
    }
    let Some(node) = review.target.cluster.store().get(&Key::new("nodes", "", name)) else {
        return false;
    };
    let node = node.value();
    let mut changed = false;
    for label in PLACES {
        let Some(value) = node["metadata"]["labels"].get(label) else {
            continue;
        };
        let labels = &mut object["metadata"]["labels"];
        if (labels.is_object() || labels.is_null()) && labels[label] != *value {
            labels[label] = value.clone();
            changed = true;
        }
    }
    changed
}
