//! Which Pods a quota with scopes counts.

use serde_json::Value;

use super::resources::is_best_effort;
use crate::verbs::text;

/// Whether the quota counts an object.
pub(super) fn matches(quota: &Value, group: &str, plural: &str, object: &Value) -> bool {
    let list = |pointer: &str| {
        quota
            .pointer(pointer)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let scopes = list("/spec/scopes");
    let selectors = list("/spec/scopeSelector/matchExpressions");
    if scopes.is_empty() && selectors.is_empty() {
        return true;
    }
    // Only Pods have scopes.
    if !group.is_empty() || plural != "pods" {
        return false;
    }
    let named = scopes.iter().filter_map(Value::as_str);
    named.into_iter().all(|scope| is_in(scope, object)) && selectors.iter().all(|s| selected(s, object))
}

fn is_in(scope: &str, pod: &Value) -> bool {
    let ends = pod
        .pointer("/spec/activeDeadlineSeconds")
        .and_then(Value::as_i64)
        .is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(pod),
        "NotBestEffort" => !is_best_effort(pod),
        "PriorityClass" => !text(pod, "/spec/priorityClassName").is_empty(),
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

fn selected(selector: &Value, pod: &Value) -> bool {
    let scope = text(selector, "/scopeName");
    let class = text(pod, "/spec/priorityClassName");
    let named = |value: &Value| value.as_str() == Some(class);
    let values = selector["values"].as_array().map_or(&[][..], Vec::as_slice);
    match text(selector, "/operator") {
        "Exists" => is_in(scope, pod),
        "DoesNotExist" => !is_in(scope, pod),
        "In" if scope == "PriorityClass" => values.iter().any(named),
        "NotIn" if scope == "PriorityClass" => !values.iter().any(named),
        _ => false,
    }
}

/// Whether a Pod wants to be near, or far from, Pods of other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    let affinity = &pod["spec"]["affinity"];
    let mut terms: Vec<&Value> = Vec::new();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let list = |field: &str| affinity[kind][field].as_array().into_iter().flatten();
        terms.extend(list("requiredDuringSchedulingIgnoredDuringExecution"));
        terms.extend(list("preferredDuringSchedulingIgnoredDuringExecution").map(|t| &t["podAffinityTerm"]));
    }
    terms.into_iter().any(|term| {
        term["namespaces"].as_array().is_some_and(|n| !n.is_empty()) || term["namespaceSelector"].is_object()
    })
}
