//! What the server, not the client, decides about objects of built-in kinds when they are written.

use serde_json::{Map, Value, json};

use super::parts;
use crate::pointer::at;
use crate::registry::ResourceInfo;

/// Prepares a new object that has its metadata (name, uid) and defaults: fields that clients may not set are reset, fields
/// that the server sets are set. What is set here is nobody's in `managedFields`, which are written before.
///
/// Addresses and node ports of Services need to know those that are taken: see [`super::allocate`].
pub fn prepare_create(info: &ResourceInfo, object: &mut Value) {
    let kind = (info.group.as_str(), info.kind.as_str());
    let status = match kind {
        ("", "Namespace") => Some(json!({"phase": "Active"})),
        ("", "Pod") => Some(json!({"phase": "Pending", "qosClass": quality_of_service(object)})),
        ("", "PersistentVolume" | "PersistentVolumeClaim") => Some(json!({"phase": "Pending"})),
        ("", "Service") | ("networking.k8s.io", "Ingress") => Some(json!({"loadBalancer": {}})),
        // A node registers itself with its status.
        ("", "Node") => object.get("status").cloned(),
        _ if info.status => Some(empty_status(info)),
        _ => return,
    };
    if let (Some(map), Some(status)) = (object.as_object_mut(), status) {
        map.insert("status".into(), status);
    }
    match kind {
        ("", "Namespace") => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
        }
        ("", "Service") => service(object),
        ("batch", "Job") => job(object),
        _ => {}
    }
}

/// Counters that are published even when nothing has been counted yet.
fn empty_status(info: &ResourceInfo) -> Value {
    match info.kind.as_str() {
        "ReplicaSet" | "ReplicationController" => json!({"replicas": 0}),
        "HorizontalPodAutoscaler" => json!({"desiredReplicas": 0}),
        "PodDisruptionBudget" => json!({
            "currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0,
        }),
        "StatefulSet" => json!({"availableReplicas": 0, "replicas": 0}),
        "DaemonSet" => json!({
            "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
        }),
        _ => json!({}),
    }
}

/// Prepares a changed object: fields that clients may not change by this subresource (or may leave out) keep their value.
pub fn prepare_update(info: &ResourceInfo, subresource: &str, old: &Value, new: &mut Value) {
    let kind = (info.group.as_str(), info.kind.as_str());
    match subresource {
        "" => {}
        "ephemeralcontainers" if kind == ("", "Pod") => return parts::debugged(old, new),
        "resize" if kind == ("", "Pod") => return parts::resized(old, new),
        _ => return,
    }
    match kind {
        ("", "Namespace") => {
            // Only the `finalize` subresource changes these.
            if let Some(finalizers) = old.pointer("/spec/finalizers") {
                new["spec"]["finalizers"] = finalizers.clone();
            }
        }
        ("", "Service") => keep_allocated(old, new),
        ("batch", "Job") if is_absent(new.pointer("/spec/selector")) => {
            if let Some(selector) = old.pointer("/spec/selector") {
                new["spec"]["selector"] = selector.clone();
            }
        }
        _ => {}
    }
}

fn is_absent(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(l)) => l.is_empty(),
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(Value::Bool(_)) => false,
    }
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    at(object, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Guaranteed if every container limits CPU and memory and requests just that, BestEffort if none asks for anything.
pub(super) fn quality_of_service(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = ["/spec/initContainers", "/spec/containers"]
        .iter()
        .filter_map(|list| pod.pointer(list).and_then(Value::as_array))
        .flatten()
        .collect();
    let amounts = |container: &Value, of: &str, name: &str| {
        container
            .pointer(&format!("/resources/{of}/{name}"))
            .map(ToString::to_string)
    };
    let mut any = false;
    let mut all = true;
    for container in containers {
        for resource in ["cpu", "memory"] {
            let (limit, request) = (
                amounts(container, "limits", resource),
                amounts(container, "requests", resource),
            );
            any |= limit.is_some() || request.is_some();
            all &= limit.is_some() && (request.is_none() || request == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

fn service(object: &mut Value) {
    if text(object, "/spec/type") == "ExternalName" {
        return;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let family = match spec.get("clusterIP").and_then(Value::as_str) {
        Some(ip) if ip.contains(':') => "IPv6",
        _ => "IPv4",
    };
    if is_absent(spec.get("ipFamilies")) {
        spec.insert("ipFamilies".into(), json!([family]));
    }
    if is_absent(spec.get("ipFamilyPolicy")) {
        spec.insert("ipFamilyPolicy".into(), "SingleStack".into());
    }
    match (
        is_absent(spec.get("clusterIP")),
        is_absent(spec.get("clusterIPs")),
    ) {
        (false, true) => {
            let ip = spec.get("clusterIP").cloned().unwrap_or_default();
            spec.insert("clusterIPs".into(), Value::Array(vec![ip]));
        }
        (true, false) => {
            let first = spec
                .get("clusterIPs")
                .and_then(|ips| ips.get(0))
                .cloned()
                .unwrap_or_default();
            spec.insert("clusterIP".into(), first);
        }
        _ => {}
    }
}

/// A client that does not know the address or the node ports of a Service keeps them by leaving them out.
fn keep_allocated(old: &Value, new: &mut Value) {
    let (Some(old), Some(new)) = (
        old.get("spec"),
        new.get_mut("spec").and_then(Value::as_object_mut),
    ) else {
        return;
    };
    let type_of = |spec: Option<&Value>| spec.and_then(Value::as_str).unwrap_or_default().to_owned();
    let (was, is) = (type_of(old.get("type")), type_of(new.get("type")));
    let has_address = |type_: &str| matches!(type_, "ClusterIP" | "NodePort" | "LoadBalancer");
    if has_address(&was) && has_address(&is) {
        let addressed = !is_absent(new.get("clusterIP"));
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if is_absent(new.get(field))
                && (!addressed
                    || !field.starts_with("clusterIP")
                    || new.get("clusterIP") == old.get("clusterIP"))
                && let Some(value) = old.get(field)
            {
                new.insert(field.into(), value.clone());
            }
        }
    }
    if is == "ExternalName" && has_address(&was) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if new.get(field) == old.get(field) {
                new.remove(field);
            }
        }
    }
    let has_node_ports = |type_: &str| matches!(type_, "NodePort" | "LoadBalancer");
    let same = |a: &Value, b: &Value, field: &str| {
        a.get(field).unwrap_or(&Value::Null) == b.get(field).unwrap_or(&Value::Null)
    };
    let old_ports = old
        .get("ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut taken: Vec<Value> = Vec::new();
    for port in new
        .get_mut("ports")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        let known = old_ports
            .iter()
            .find(|old| same(old, port, "port") && same(old, port, "protocol"))
            .and_then(|old| old.get("nodePort"));
        let Some(known) = known.filter(|n| !is_absent(Some(n))) else {
            continue;
        };
        let Some(port) = port.as_object_mut() else {
            continue;
        };
        if has_node_ports(&was) && has_node_ports(&is) {
            if is_absent(port.get("nodePort")) && !taken.contains(known) {
                port.insert("nodePort".into(), known.clone());
            }
        } else if is == "ClusterIP" && port.get("nodePort") == Some(known) {
            port.remove("nodePort");
        }
        taken.extend(port.get("nodePort").cloned());
    }
}

/// A Job selects its Pods by its own uid, unless the client takes that over.
fn job(object: &mut Value) {
    if object.pointer("/spec/manualSelector") == Some(&Value::Bool(true)) {
        return;
    }
    let (uid, name) = (
        text(object, "/metadata/uid").to_owned(),
        text(object, "/metadata/name").to_owned(),
    );
    if uid.is_empty() {
        return;
    }
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    let selector = spec.entry("selector").or_insert_with(|| json!({}));
    if let Some(labels) = map_at(selector, "matchLabels") {
        labels.insert("batch.kubernetes.io/controller-uid".into(), uid.as_str().into());
    }
    let template = spec.entry("template").or_insert_with(|| json!({}));
    if let Some(metadata) = template
        .as_object_mut()
        .map(|t| t.entry("metadata").or_insert_with(|| json!({})))
        && let Some(labels) = map_at(metadata, "labels")
    {
        for (key, value) in [
            ("batch.kubernetes.io/controller-uid", &uid),
            ("batch.kubernetes.io/job-name", &name),
            ("controller-uid", &uid),
            ("job-name", &name),
        ] {
            labels.insert(key.into(), value.as_str().into());
        }
    }
}

fn map_at<'v>(object: &'v mut Value, field: &str) -> Option<&'v mut Map<String, Value>> {
    object
        .as_object_mut()?
        .entry(field)
        .or_insert_with(|| json!({}))
        .as_object_mut()
}
