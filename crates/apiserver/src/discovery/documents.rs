//! The OpenAPI documents: one per group version (v3), and one for everything (v2).
//!
//! Schemas are those that the kinds publish; paths ([`super::paths`]) say which operations a resource has, on which kind, with
//! which parameters. That is what clients use them for: `explain`, validation before sending, and finding out what a server can
//! do.

use std::collections::BTreeMap;

use choreo_apimachinery::builtin;
use choreo_apimachinery::registry::{Registry, ResourceInfo};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

use super::paths::{PATCH, Paths, WATCH_EVENT};

/// Where schemas are in a v3 document.
pub(super) const V3: &str = "#/components/schemas/";

/// Where schemas are in a v2 document.
pub(super) const V2: &str = "#/definitions/";

/// The metadata of an object.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The metadata of a list.
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The v3 document of a group version.
pub(super) fn v3(registry: &Registry, group: &str, version: &str) -> Value {
    let mut schemas = BTreeMap::new();
    let mut paths = Map::new();
    add(registry, (group, version), &mut schemas, &mut paths, false);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// The v2 document.
pub(super) fn v2(registry: &Registry) -> Value {
    let mut schemas = BTreeMap::new();
    let mut paths = Map::new();
    for group in registry.groups() {
        for version in group.versions() {
            add(
                registry,
                (group.name(), version.name()),
                &mut schemas,
                &mut paths,
                true,
            );
        }
    }
    let mut schemas = Value::Object(schemas.into_iter().collect());
    for_v2(&mut schemas);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "definitions": schemas,
        "securityDefinitions": {"BearerToken": {
            "description": "A token in the header, behind the word Bearer.",
            "type": "apiKey", "name": "authorization", "in": "header",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// A text that changes with the document of a group version, without making the document: what the document says follows
/// from the rows of the group version.
pub(super) fn hash(registry: &Registry, group: &str, version: &str) -> String {
    let mut digest = Sha512::new();
    for info in registry
        .group(group)
        .and_then(|g| g.version(version))
        .into_iter()
        .flat_map(|v| v.resources())
    {
        digest.update(info.plural.as_bytes());
        digest.update(info.kind.as_bytes());
        for sub in &info.subresources {
            digest.update(sub.name.as_bytes());
        }
        if info.is_crd {
            digest.update(info.schema().to_json().to_string().as_bytes());
        }
    }
    hex::encode_upper(&digest.finalize()[..32])
}

/// Adds a group version: what its kinds publish, and its paths as v3 has them or as v2 has (`old`).
fn add(
    registry: &Registry,
    (group, version): (&str, &str),
    schemas: &mut BTreeMap<String, Value>,
    paths: &mut Map<String, Value>,
    old: bool,
) {
    let rows = registry
        .group(group)
        .and_then(|g| g.version(version))
        .into_iter()
        .flat_map(|v| v.resources());
    let mut paths = Paths::new(paths, old);
    let (mut all_custom, mut lists) = (true, Vec::new());
    for info in rows {
        let name = match info.publish {
            Some(publish) => publish(schemas),
            None => custom(registry, info, schemas),
        };
        all_custom &= info.is_crd;
        mark(schemas, &name, [&info.group, &info.version, &info.kind]);
        if info.has_verb("list") {
            lists.push((name.clone(), info));
        }
        paths.resource(info, &name, &mut |group, version, kind| {
            let publish = registry
                .by_api_version(&api_version(group, version), kind)
                .and_then(|info| info.publish)
                .or_else(|| builtin::spoken(group, version, kind))?;
            let name = publish(schemas);
            mark(schemas, &name, [group, version, kind]);
            Some(name)
        });
    }
    for (name, info) in lists {
        schemas
            .entry(format!("{name}List"))
            .or_insert_with(|| list_of(&name, info));
    }
    if !all_custom {
        paths.group_version(group, version);
    }
    for kind in ["APIResourceList", "DeleteOptions", "Status"] {
        if let Some(publish) = builtin::spoken("", "v1", kind) {
            let name = publish(schemas);
            mark(schemas, &name, ["", "v1", kind]);
        }
    }
    let patch = "What is to be changed, in one of the forms of patches.";
    schemas.insert(PATCH.to_owned(), json!({"type": "object", "description": patch}));
    schemas.insert(
        WATCH_EVENT.to_owned(),
        json!({
            "type": "object",
            "description": "One change.",
            "required": ["type", "object"],
            "properties": {
                "type": {"type": "string", "description": "ADDED, MODIFIED, DELETED, BOOKMARK or ERROR."},
                "object": {"type": "object", "description": "The object after it, before its deletion, or a Status."},
            },
        }),
    );
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Says of which kind a definition is.
fn mark(schemas: &mut BTreeMap<String, Value>, name: &str, [group, version, kind]: [&str; 3]) {
    if let Some(schema) = schemas.get_mut(name) {
        schema["x-kubernetes-group-version-kind"] =
            json!([{"group": group, "kind": kind, "version": version}]);
    }
}

/// The definition of a list.
fn list_of(name: &str, info: &ResourceInfo) -> Value {
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": format!("{V3}{LIST_META}")}]},
            "items": {"type": "array", "items": {"$ref": format!("{V3}{name}")}},
        },
        "x-kubernetes-group-version-kind": [{"group": info.group, "kind": info.list_kind, "version": info.version}],
    })
}

/// Publishes a custom resource.
fn custom(registry: &Registry, info: &ResourceInfo, schemas: &mut BTreeMap<String, Value>) -> String {
    // Any built-in kind brings the definitions of metadata along.
    if !schemas.contains_key(LIST_META)
        && let Some(publish) = registry
            .lookup("", "v1", "configmaps")
            .and_then(|info| info.publish)
    {
        let mut all = BTreeMap::new();
        publish(&mut all);
        schemas.extend(
            all.into_iter()
                .filter(|(name, _)| name.starts_with("io.k8s.apimachinery.")),
        );
    }
    let mut parts: Vec<&str> = info.group.split('.').collect();
    parts.reverse();
    let name = format!("{}.{}.{}", parts.join("."), info.version, info.kind);
    let mut schema = info.schema().to_json();
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    for (field, description) in [
        (
            "apiVersion",
            "The version of the group that this document is written in, such as example.dev/v1.",
        ),
        ("kind", "The kind of the object, in CamelCase."),
    ] {
        schema["properties"][field] = json!({"type": "string", "description": description});
    }
    schema["properties"]["metadata"] = json!({"description": "Name, labels and what else all objects have.", "allOf": [{"$ref": format!("{V3}{OBJECT_META}")}]});
    schemas.insert(name.clone(), schema);
    name
}

/// Turns what is v3 into v2: other places of schemas, nothing that the old form has no words for.
fn for_v2(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(reference)) = map.get_mut("$ref")
                && let Some(name) = reference.strip_prefix(V3)
            {
                *reference = format!("{V2}{name}");
            }
            // An allOf of one reference is how v3 puts a description next to a reference.
            if let Some(Value::Array(all)) = map.get("allOf")
                && let [Value::Object(only)] = all.as_slice()
                && let Some(reference) = only.get("$ref").cloned()
            {
                map.remove("allOf");
                map.insert("$ref".to_owned(), reference);
                return for_v2(value);
            }
            // Fields of a kind may have these names too (a schema within a definition has); keywords are told by their values.
            map.retain(|word, value| match word.as_str() {
                "oneOf" | "anyOf" => !value.is_array(),
                "nullable" => !value.is_boolean(),
                _ => true,
            });
            map.values_mut().for_each(for_v2);
        }
        Value::Array(items) => items.iter_mut().for_each(for_v2),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reference leads somewhere, in both forms and every group version.
    #[test]
    fn references_resolve() {
        fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        found.push(reference);
                    }
                    map.values().for_each(|v| references(v, found));
                }
                Value::Array(items) => items.iter().for_each(|v| references(v, found)),
                _ => {}
            }
        }
        let check = |document: &Value| {
            let mut found = Vec::new();
            references(document, &mut found);
            assert!(!found.is_empty());
            for reference in found {
                assert!(
                    document.pointer(reference.trim_start_matches('#')).is_some(),
                    "{reference}"
                );
            }
        };
        let registry = Registry::builtin();
        for group in registry.groups() {
            for version in group.versions() {
                check(&v3(&registry, group.name(), version.name()));
            }
        }
        check(&v2(&registry));
    }
}
