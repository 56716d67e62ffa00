//! `metrics.k8s.io/v1beta1`: what Pods and nodes use now, for `kubectl top` and autoscalers.
//!
//! Nothing is stored and nothing is measured here: each request asks the [`PodAccess`]. The group is served only where there is
//! one.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::response::Response;
use choreo_apimachinery::crd;
use choreo_apimachinery::registry::{Generation, ResourceInfo};
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Snapshot};
use http::StatusCode;
use serde_json::{Map, Value, json};

use crate::dispatch::Context;
use crate::handlers;
use crate::request::{ListOptions, Verb};
use crate::verbs::{Filter, Listed, Target, View, now, text};
use choreo_pod_access::{ContainerStats, PodAccess, PodStats};

/// The group.
pub(crate) const GROUP: &str = "metrics.k8s.io";

/// The time that processor use is an average over.
const WINDOW: &str = "1s";

/// The resources of the group.
pub(crate) fn rows() -> Vec<ResourceInfo> {
    [
        ("pods", "PodMetrics", "Namespaced"),
        ("nodes", "NodeMetrics", "Cluster"),
    ]
    .into_iter()
    .flat_map(|(plural, kind, scope)| row(plural, kind, scope))
    .collect()
}

fn row(plural: &str, kind: &str, scope: &str) -> Vec<ResourceInfo> {
    let usage = json!({"type": "object", "additionalProperties": {"x-kubernetes-int-or-string": true}});
    let mut properties = json!({
        "timestamp": {"type": "string", "format": "date-time"},
        "window": {"type": "string"},
    });
    if plural == "pods" {
        let container = json!({"type": "object", "properties": {"name": {"type": "string"}, "usage": usage}});
        properties["containers"] = json!({"type": "array", "items": container});
    } else {
        properties["usage"] = usage;
    }
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": scope,
            // The singular is empty upstream, too, so that `kubectl get pod` means the Pods.
            "names": {"plural": plural, "kind": kind, "listKind": format!("{kind}List"), "singular": ""},
            "versions": [{
                "name": "v1beta1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}},
            }],
        },
    });
    let rows = crd::rows(&definition).unwrap_or_default();
    rows.into_iter()
        .map(|row| ResourceInfo {
            verbs: ["get", "list"].map(str::to_owned).to_vec(),
            generation: Generation::None,
            ..row
        })
        .collect()
}

/// Answers with what is used.
///
/// # Errors
/// 404 for a Pod or node that nothing is known of, 405 for what is not reading.
pub(crate) async fn answer(context: &Context, target: &Target, access: &dyn PodAccess) -> Result<Response> {
    let stats = access
        .stats()
        .await
        .map_err(|error| super::access::refused(&error))?;
    let snapshot = context.cluster.store().snapshot();
    let made = if target.resource.plural == "nodes" {
        nodes(&stats, &snapshot)
    } else {
        pods(&stats, &snapshot)
    };
    match context.info.verb {
        Verb::Get => {
            let name = &context.info.name;
            let found = made.into_iter().find(|object| {
                let metadata = &object["metadata"];
                metadata["name"] == name.as_str() && text(metadata, "/namespace") == target.namespace
            });
            let found = found.ok_or_else(|| target.not_found(name))?;
            let answer = context.negotiate(target, false)?;
            let view = View::Made(Arc::new(found), 0);
            handlers::object(answer, StatusCode::OK, target, &view, &[], &context.query)
        }
        Verb::List => {
            let answer = context.negotiate(target, true)?;
            let options = ListOptions::parse(&context.query, false)?;
            let filter = Filter::parse(&target.resource, &options.label_selector, &options.field_selector)?;
            let wanted = |object: &Value| {
                let namespace = text(object, "/metadata/namespace");
                (target.namespace.is_empty() || target.namespace == namespace) && filter.accepts_value(object)
            };
            let items = made.into_iter().filter(wanted);
            let listed = Listed {
                items: items.map(|object| View::Made(Arc::new(object), 0)).collect(),
                revision: snapshot.revision(),
                continue_token: String::new(),
                remaining: None,
            };
            handlers::listed_as(context, answer, target, listed).await
        }
        _ => Err(ApiError::method_not_supported(
            GROUP,
            &target.resource.plural,
            context.info.verb.as_str(),
        )),
    }
}

fn usage<'a>(containers: impl IntoIterator<Item = &'a ContainerStats>) -> Value {
    let (mut cpu, mut memory) = (0_u64, 0_u64);
    for container in containers {
        cpu = cpu.saturating_add(container.cpu_nanos_per_second);
        memory = memory.saturating_add(container.memory_bytes);
    }
    json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)})
}

fn metrics(kind: &str, stored: Option<&Value>, mut metadata: Map<String, Value>) -> Value {
    metadata.insert("creationTimestamp".to_owned(), now().into());
    let labels = stored.and_then(|object| object.pointer("/metadata/labels"));
    if let Some(labels) = labels {
        metadata.insert("labels".to_owned(), labels.clone());
    }
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/v1beta1"), "metadata": metadata, "timestamp": now(), "window": WINDOW,
    })
}

fn pods(stats: &[PodStats], snapshot: &Snapshot) -> Vec<Value> {
    let mut made = BTreeMap::new();
    for pod in stats {
        let stored = snapshot.get(&Key::new("pods", &pod.namespace, &pod.pod));
        let stored = stored.map(|object| object.value());
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), pod.pod.as_str().into());
        metadata.insert("namespace".to_owned(), pod.namespace.as_str().into());
        let mut object = metrics("PodMetrics", stored.as_deref(), metadata);
        let containers = pod.containers.iter();
        let containers: Vec<Value> = containers
            .map(|container| json!({"name": container.name, "usage": usage([container])}))
            .collect();
        object["containers"] = containers.into();
        made.insert((pod.namespace.clone(), pod.pod.clone()), object);
    }
    made.into_values().collect()
}

/// What the Pods of each node use together.
fn nodes(stats: &[PodStats], snapshot: &Snapshot) -> Vec<Value> {
    let mut by_node: BTreeMap<String, Vec<&ContainerStats>> = BTreeMap::new();
    for pod in stats {
        if let Some(stored) = snapshot.get(&Key::new("pods", &pod.namespace, &pod.pod)) {
            let node = text(&stored.value(), "/spec/nodeName").to_owned();
            by_node.entry(node).or_default().extend(&pod.containers);
        }
    }
    // A node that runs nothing uses nothing.
    let mut made = Vec::new();
    for node in snapshot.iter("nodes", None, None) {
        let stored = node.value();
        let name = text(&stored, "/metadata/name");
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), name.into());
        let mut object = metrics("NodeMetrics", Some(&stored), metadata);
        object["usage"] = usage(by_node.remove(name).unwrap_or_default());
        made.push(object);
    }
    made
}
