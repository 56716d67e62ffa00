//! The OpenAPI documents: one per group version (v3), and one for everything (v2).
//!
//! Schemas are those that the kinds publish; paths say which operations a resource has, on which kind, with which parameters.
//! That is what clients use them for: `explain`, validation before sending, and finding out what a server can do.

use std::collections::BTreeMap;

use choreo_apimachinery::registry::{Registry, ResourceInfo};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha512};

/// Where schemas are in a v3 document.
const V3: &str = "#/components/schemas/";

/// Where schemas are in a v2 document.
const V2: &str = "#/definitions/";

/// The metadata of an object.
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The metadata of a list.
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// The v3 document of a group version.
pub(super) fn v3(registry: &Registry, group: &str, version: &str) -> Value {
    let mut schemas = BTreeMap::new();
    let mut paths = Map::new();
    add(registry, group, version, &mut schemas, &mut paths);
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
            add(registry, group.name(), version.name(), &mut schemas, &mut paths);
        }
    }
    let mut document = json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "definitions": schemas,
    });
    for_v2(&mut document);
    document
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

fn add(
    registry: &Registry,
    group: &str,
    version: &str,
    schemas: &mut BTreeMap<String, Value>,
    paths: &mut Map<String, Value>,
) {
    let rows = registry
        .group(group)
        .and_then(|g| g.version(version))
        .into_iter()
        .flat_map(|v| v.resources());
    for info in rows {
        let name = match info.publish {
            Some(publish) => publish(schemas),
            None => custom(registry, info, schemas),
        };
        let gvk = json!([{"group": info.group, "kind": info.kind, "version": info.version}]);
        if let Some(schema) = schemas.get_mut(&name) {
            schema["x-kubernetes-group-version-kind"] = gvk;
        }
        add_paths(info, &name, paths);
    }
}

/// Publishes a custom resource and its list.
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
    let list = json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": format!("{V3}{LIST_META}")}]},
            "items": {"type": "array", "items": {"$ref": format!("{V3}{name}")}},
        },
        "x-kubernetes-group-version-kind": [{"group": info.group, "kind": info.list_kind, "version": info.version}],
    });
    schemas.insert(format!("{name}List"), list);
    name
}

fn add_paths(info: &ResourceInfo, name: &str, paths: &mut Map<String, Value>) {
    let root = if info.group.is_empty() {
        format!("/api/{}", info.version)
    } else {
        format!("/apis/{}/{}", info.group, info.version)
    };
    let scope = if info.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{root}{scope}/{}", info.plural);
    let operation = |method: &str, action: &str| {
        let mut operation = json!({
            "operationId": format!("{action}{}{}{}", camel(&info.group), camel(&info.version), info.kind),
            "parameters": parameters(method),
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": format!("{V3}{name}")}}}}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": info.group, "kind": info.kind, "version": info.version},
        });
        if matches!(method, "post" | "put") {
            operation["requestBody"] =
                json!({"content": {"*/*": {"schema": {"$ref": format!("{V3}{name}")}}}});
        }
        operation
    };
    let mut add = |path: &str, verbs: &[(&str, &str, &str)]| {
        let served: Map<String, Value> = verbs
            .iter()
            .filter(|(verb, ..)| info.has_verb(verb))
            .map(|(_, method, action)| ((*method).to_owned(), operation(method, action)))
            .collect();
        if !served.is_empty() {
            paths.insert(path.to_owned(), Value::Object(served));
        }
    };
    add(
        &collection,
        &[
            ("list", "get", "list"),
            ("create", "post", "post"),
            ("deletecollection", "delete", "deletecollection"),
        ],
    );
    add(
        &format!("{collection}/{{name}}"),
        &[
            ("get", "get", "get"),
            ("update", "put", "put"),
            ("patch", "patch", "patch"),
            ("delete", "delete", "delete"),
        ],
    );
    if info.namespaced {
        add(&format!("{root}/{}", info.plural), &[("list", "get", "list")]);
    }
    for sub in &info.subresources {
        let mut served = Map::new();
        for (verb, method) in [
            ("get", "get"),
            ("update", "put"),
            ("patch", "patch"),
            ("create", "post"),
        ] {
            if sub.verbs.iter().any(|v| v == verb) {
                let mut operation = operation(method, method);
                let (group, version) = if sub.version.is_empty() {
                    (&info.group, &info.version)
                } else {
                    (&sub.group, &sub.version)
                };
                operation["x-kubernetes-group-version-kind"] =
                    json!({"group": group, "kind": sub.kind, "version": version});
                served.insert(method.to_owned(), operation);
            }
        }
        paths.insert(
            format!("{collection}/{{name}}/{}", sub.name),
            Value::Object(served),
        );
    }
}

fn parameters(method: &str) -> Vec<Value> {
    let names: &[&str] = match method {
        "get" => &[
            "labelSelector",
            "fieldSelector",
            "limit",
            "continue",
            "resourceVersion",
            "resourceVersionMatch",
            "watch",
            "timeoutSeconds",
        ],
        "delete" => &["dryRun", "gracePeriodSeconds", "propagationPolicy"],
        "patch" => &["dryRun", "fieldManager", "fieldValidation", "force"],
        _ => &["dryRun", "fieldManager", "fieldValidation"],
    };
    names
        .iter()
        .map(|name| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}}))
        .collect()
}

fn camel(text: &str) -> String {
    text.split(['.', '-'])
        .map(|word| {
            word.chars()
                .take(1)
                .flat_map(char::to_uppercase)
                .chain(word.chars().skip(1))
                .collect::<String>()
        })
        .collect()
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
            // A parameter outside of the body says its type itself.
            if map
                .get("in")
                .is_some_and(|place| place.is_string() && place != "body")
                && map.get("name").is_some_and(Value::is_string)
                && let Some(Value::Object(schema)) = map.remove("schema")
            {
                map.extend(schema);
            }
            // Fields of a kind may have these names too (a schema within a definition has); keywords are told by their values.
            map.retain(|word, value| match word.as_str() {
                "oneOf" | "anyOf" => !value.is_array(),
                "nullable" => !value.is_boolean(),
                "requestBody" => value.get("content").is_none(),
                _ => true,
            });
            let media = |value: &Value| {
                value
                    .as_object()
                    .and_then(|m| m.get("*/*").or(m.get("application/json")))
                    .cloned()
            };
            if let Some(content) = map.get("content").and_then(media) {
                map.remove("content");
                map.insert("schema".to_owned(), content["schema"].clone());
            }
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
