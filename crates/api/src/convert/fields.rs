//! Older names of fields.

use serde_json::{Map, Value, json};

use super::Context;
use crate::shape;

/// Older names of fields that mean the same, by kind: `(kinds, older, today's)`. An empty list of kinds means all.
const ALIASES: &[(&[&str], &str, &str)] = &[
    (&[], "componentOwner", "owner"),
    (&["Component"], "componentType", "type"),
    (&["Component"], "buildSpecInComponent", "build"),
    (&["Build"], "buildTemplate", "templateRef"),
    (&["Service", "ServiceBinding"], "serviceClassRef", "className"),
    (
        &["WebApplication", "WebApplicationBinding"],
        "webApplicationClassRef",
        "className",
    ),
    (
        &["ScheduledTask", "ScheduledTaskBinding"],
        "scheduledTaskClassRef",
        "className",
    ),
    (&["API"], "apiClassRef", "className"),
    (&["APIBinding"], "apiClassRef", "apiClassName"),
    (&["APIBinding"], "apiRef", "apiName"),
    (
        &["Service", "WebApplication", "ScheduledTask", "API"],
        "workloadRef",
        "workloadName",
    ),
    (
        &[
            "ServiceBinding",
            "WebApplicationBinding",
            "ScheduledTaskBinding",
            "ComponentBinding",
        ],
        "environmentRef",
        "environment",
    ),
    (
        &["APIBinding", "API", "Release"],
        "environmentRef",
        "environmentName",
    ),
    (
        &[
            "ServiceBinding",
            "WebApplicationBinding",
            "ScheduledTaskBinding",
            "ComponentBinding",
        ],
        "workload",
        "overrides",
    ),
    (&["Deployment"], "artifactRef", "deploymentArtifactRef"),
];

/// Gives fields the names that they have today, and rewrites those that had another shape.
pub(super) fn rename(kind: &str, mut spec: Map<String, Value>, context: &mut Context) -> Map<String, Value> {
    for (kinds, older, today) in ALIASES {
        if !kinds.is_empty() && !kinds.contains(&kind) {
            continue;
        }
        // `workload` is also a real field of some kinds; only where it is an alias does it get here.
        let Some(value) = spec.remove(*older) else {
            continue;
        };
        if value.is_null() {
            context.problem(
                format!("spec.{older}"),
                "has no value (only a comment?): write one, or leave the field out",
            );
        } else if spec.contains_key(*today) {
            context.problem(
                format!("spec.{older}"),
                format!("is another name of {today}, which is given as well"),
            );
        } else {
            spec.insert((*today).to_owned(), value);
        }
    }
    if let Some(owner) = spec.get_mut("owner").and_then(Value::as_object_mut) {
        for (older, today) in [("projectRef", "projectName"), ("componentRef", "componentName")] {
            rename_field(owner, older, today, "spec.owner", context);
        }
    }
    match kind {
        "Component" => {
            if let Some(build) = spec.get_mut("build").and_then(Value::as_object_mut) {
                rename_field(build, "buildTemplate", "templateRef", "spec.build", context);
                build_parts(build);
            }
        }
        "Build" => build_parts(&mut spec),
        "DataPlane" => data_plane(&mut spec, context),
        _ => {}
    }
    spec
}

fn rename_field(
    object: &mut Map<String, Value>,
    older: &str,
    today: &str,
    path: &str,
    context: &mut Context,
) {
    let Some(value) = object.remove(older) else { return };
    if object.contains_key(today) {
        context.problem(
            shape::field(path, older),
            format!("is another name of {today}, which is given as well"),
        );
    } else {
        object.insert(today.to_owned(), value);
    }
}

/// A repository and a template that are named by a bare text.
fn build_parts(build: &mut Map<String, Value>) {
    if let Some(Value::String(url)) = build.get("repository") {
        let repository = json!({"url": git_url(url), "appPath": "/"});
        build.insert("repository".to_owned(), repository);
    }
    if let Some(Value::String(name)) = build.get("templateRef") {
        let template = json!({"name": name});
        build.insert("templateRef".to_owned(), template);
    }
}

/// A repository's address, with the scheme that it is missing.
pub(super) fn git_url(address: &str) -> String {
    if address.contains("://") || address.contains('@') {
        address.to_owned()
    } else {
        format!("https://{address}")
    }
}

/// A data plane that is described by what it is made of: its one cluster becomes a list of one, and its type says
/// nothing that the list does not.
fn data_plane(spec: &mut Map<String, Value>, context: &mut Context) {
    let type_ = spec.remove("type");
    if let Some(shape) = spec.remove("kubernetes") {
        if spec.contains_key("clusters") {
            context.problem(
                "spec.kubernetes",
                "belongs to a data plane of one cluster; say it of each of the clusters",
            );
        } else if !spec.contains_key("kubernetesCluster") {
            let cluster = json!({"name": context.name, "primary": true, "kubernetes": shape});
            spec.insert("clusters".to_owned(), json!([cluster]));
        } else {
            context.note("spec.kubernetes describes a cluster that exists already, and was left out");
        }
    }
    let clusters = spec
        .get("clusters")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    if let Some(type_) = type_ {
        match (type_.as_str(), clusters.len()) {
            (Some("single-cluster"), 0 | 1) | (Some("multi-cluster" | "hybrid"), 1..) => {}
            (Some(type_ @ ("single-cluster" | "multi-cluster" | "hybrid")), count) => {
                context.problem(
                    "spec.type",
                    format!("says {type_}, but {count} clusters are listed"),
                );
            }
            _ => context.problem("spec.type", "must be single-cluster, multi-cluster or hybrid"),
        }
        context.note("spec.type was left out: it follows from the clusters that are listed");
    }
    let unreachable: Vec<&str> = clusters
        .iter()
        .filter(|cluster| cluster.get("kubernetesCluster").is_none() && cluster.get("endpoint").is_none())
        .filter_map(|cluster| cluster.get("name").and_then(Value::as_str))
        .collect();
    if !unreachable.is_empty() {
        let note = format!(
            "the platform does not create clusters: the data plane waits until kubernetesCluster or endpoint says how to \
             reach {}",
            unreachable.join(", ")
        );
        context.note(note);
    }
}
