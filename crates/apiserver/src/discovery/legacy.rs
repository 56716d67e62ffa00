//! Discovery with one document per group version.

use choreo_apimachinery::registry::{Group, Registry};
use serde_json::{Value, json};

use super::texts;

/// `/`: the paths that there are.
pub(super) fn paths(registry: &Registry) -> Value {
    let mut paths = vec![
        "/api".to_owned(),
        "/api/v1".to_owned(),
        "/apis".to_owned(),
        "/apis/".to_owned(),
    ];
    for group in registry.groups().filter(|g| !g.name().is_empty()) {
        paths.push(format!("/apis/{}", group.name()));
        paths.extend(
            group
                .versions()
                .map(|v| format!("/apis/{}/{}", group.name(), v.name())),
        );
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/openapi/v2",
            "/openapi/v3",
            "/readyz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.sort();
    json!({"paths": paths})
}

/// `/api`.
pub(super) fn core_versions(host: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": host}],
    })
}

/// `/apis`.
pub(super) fn groups(registry: &Registry) -> Value {
    let groups: Vec<Value> = registry
        .groups()
        .filter(|g| !g.name().is_empty())
        .map(describe)
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
pub(super) fn group(registry: &Registry, name: &str) -> Option<Value> {
    let mut group = describe(registry.group(name).filter(|g| !g.name().is_empty())?);
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    Some(group)
}

fn describe(group: &Group) -> Value {
    let versions: Vec<Value> = group
        .versions()
        .map(|v| json!({"groupVersion": format!("{}/{}", group.name(), v.name()), "version": v.name()}))
        .collect();
    json!({"name": group.name(), "versions": versions, "preferredVersion": versions.first()})
}

/// `/api/v1` and `/apis/<group>/<version>`.
pub(super) fn resources(registry: &Registry, group: &str, version: &str) -> Option<Value> {
    let found = registry.group(group)?.version(version)?;
    let mut resources = Vec::new();
    for info in found.resources() {
        let mut entry = json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.kind,
            "verbs": texts(&info.verbs),
        });
        if !info.short_names.is_empty() {
            entry["shortNames"] = texts(&info.short_names);
        }
        if !info.categories.is_empty() {
            entry["categories"] = texts(&info.categories);
        }
        if info.has_verb("create") && info.stored() {
            entry["storageVersionHash"] = info.storage_version_hash().into();
        }
        resources.push(entry);
        for sub in &info.subresources {
            let mut entry = json!({
                "name": format!("{}/{}", info.plural, sub.name),
                "singularName": "",
                "namespaced": info.namespaced,
                "kind": sub.kind,
                "verbs": texts(&sub.verbs),
            });
            if !sub.version.is_empty() {
                entry["group"] = sub.group.as_str().into();
                entry["version"] = sub.version.as_str().into();
            }
            resources.push(entry);
        }
    }
    let group_version = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Some(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}),
    )
}
