//! The schema and the rules of `metadata`.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::names;
use crate::field::{FieldError, FieldPath};
use crate::schema::{ListType, MapType, Schema, Type};

/// All keys and values of an object's annotations together may be this long, in bytes.
const ANNOTATIONS_LIMIT: usize = 256 << 10;

const IMMUTABLE: &str = "field is immutable";

static OBJECT_META: LazyLock<Schema> = LazyLock::new(|| {
    let text = || Schema::of(Type::String);
    let time = || Schema {
        format: Some("date-time".to_owned()),
        nullable: true,
        ..text()
    };
    let integer = || Schema {
        format: Some("int64".to_owned()),
        ..Schema::of(Type::Integer)
    };
    let flag = || Schema::of(Type::Boolean);
    let texts = || Schema {
        nullable: true,
        ..Schema::map_of(text())
    };
    let object = |properties: Vec<(&str, Schema)>| Schema {
        properties: properties
            .into_iter()
            .map(|(k, v)| (k.to_owned(), Arc::new(v)))
            .collect(),
        ..Schema::of(Type::Object)
    };
    let list = |items: Schema, list_type: Option<ListType>| Schema {
        list_type,
        nullable: true,
        ..Schema::list_of(items)
    };
    let owner = Schema {
        required: ["apiVersion", "kind", "name", "uid"].map(str::to_owned).to_vec(),
        map_type: Some(MapType::Atomic),
        ..object(vec![
            ("apiVersion", text()),
            ("kind", text()),
            ("name", text()),
            ("uid", text()),
            ("controller", flag()),
            ("blockOwnerDeletion", flag()),
        ])
    };
    let managed = object(vec![
        ("manager", text()),
        ("operation", text()),
        ("apiVersion", text()),
        ("time", time()),
        ("fieldsType", text()),
        (
            "fieldsV1",
            Schema {
                preserve_unknown: true,
                ..Schema::of(Type::Object)
            },
        ),
        ("subresource", text()),
    ]);
    object(vec![
        ("name", text()),
        ("generateName", text()),
        ("namespace", text()),
        ("selfLink", text()),
        ("uid", text()),
        ("resourceVersion", text()),
        ("generation", integer()),
        ("creationTimestamp", time()),
        ("deletionTimestamp", time()),
        ("deletionGracePeriodSeconds", integer()),
        ("labels", texts()),
        ("annotations", texts()),
        (
            "ownerReferences",
            list(owner, Some(ListType::Map(vec!["uid".to_owned()]))),
        ),
        ("finalizers", list(text(), Some(ListType::Set))),
        ("managedFields", list(managed, None)),
    ])
});

/// The schema of `metadata`, the same for every kind.
#[must_use]
pub fn object_meta_schema() -> &'static Schema {
    &OBJECT_META
}

/// Checks the metadata of an object that is to be created. A name must have been generated before.
///
/// `check_name` is the kind's own format, such as [`names::dns1123_subdomain`].
#[must_use]
pub fn validate_object_meta(
    metadata: &Map<String, Value>,
    namespaced: bool,
    check_name: fn(&str) -> Vec<String>,
    path: &FieldPath<'_>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let prefix = text(metadata, "generateName");
    if !prefix.is_empty() {
        for problem in check_name(&names::mask_trailing_dash(prefix)) {
            errors.push(FieldError::invalid(&path.child("generateName"), prefix, problem));
        }
    }
    let name = text(metadata, "name");
    if name.is_empty() {
        errors.push(FieldError::required(
            &path.child("name"),
            "name or generateName is required",
        ));
    } else {
        for problem in check_name(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, problem));
        }
    }
    let namespace = text(metadata, "namespace");
    let at = path.child("namespace");
    if !namespaced {
        if !namespace.is_empty() {
            errors.push(FieldError::forbidden(&at, "not allowed on this type"));
        }
    } else if namespace.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        for problem in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid(&at, namespace, problem));
        }
    }
    common(metadata, path, &mut errors);
    finalizers(metadata, path, &mut errors);
    errors
}

/// Checks the metadata of an update against that of the object that is there.
#[must_use]
pub fn validate_object_meta_update(
    new: &Map<String, Value>,
    old: &Map<String, Value>,
    path: &FieldPath<'_>,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for name in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        let of = |metadata: &Map<String, Value>| {
            metadata
                .get(name)
                .filter(|v| !v.is_null() && v.as_str() != Some(""))
                .cloned()
        };
        let value = of(new);
        if value != of(old) {
            let shown = value.unwrap_or_else(|| match name {
                "name" | "namespace" | "uid" => "".into(),
                _ => Value::Null,
            });
            errors.push(FieldError::invalid(&path.child(name), shown, IMMUTABLE));
        }
    }
    if old.get("deletionTimestamp").is_some_and(|t| !t.is_null()) {
        let before: Vec<&str> = texts(old, "finalizers").collect();
        let mut added: Vec<&str> = texts(new, "finalizers").filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            added.sort_unstable();
            let shown: Vec<String> = added.iter().map(|f| crate::field::quote(f)).collect();
            let why = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                shown.join(", ")
            );
            errors.push(FieldError::forbidden(&path.child("finalizers"), why));
        }
    }
    let generation = |m: &Map<String, Value>| m.get("generation").and_then(Value::as_i64).unwrap_or_default();
    if generation(new) < generation(old) {
        errors.push(FieldError::invalid(
            &path.child("generation"),
            generation(new),
            "must not be decremented",
        ));
    }
    common(new, path, &mut errors);
    errors
}

/// Checks the metadata of a resource inside another one, where every part is optional.
pub fn validate_embedded_meta(metadata: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(object) = metadata.as_object() else {
        let why = "json: cannot unmarshal into Go value of type v1.ObjectMeta";
        errors.push(FieldError::invalid(path, metadata.clone(), why));
        return;
    };
    let wrong = OBJECT_META.validate(metadata, path);
    if !wrong.is_empty() {
        errors.extend(wrong);
        return;
    }
    let (name, namespace) = (text(object, "name"), text(object, "namespace"));
    if !name.is_empty() {
        for problem in names::path_segment(name) {
            errors.push(FieldError::invalid(&path.child("name"), name, problem));
        }
    }
    if !namespace.is_empty() {
        for problem in names::dns1123_label(namespace) {
            errors.push(FieldError::invalid(&path.child("namespace"), namespace, problem));
        }
    }
    common(object, path, errors);
    finalizers(object, path, errors);
}

fn text<'v>(object: &'v Map<String, Value>, name: &str) -> &'v str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn texts<'v>(object: &'v Map<String, Value>, name: &str) -> impl Iterator<Item = &'v str> {
    object
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

fn entries<'v>(object: &'v Map<String, Value>, name: &str) -> impl Iterator<Item = (&'v str, &'v str)> {
    let map = object.get(name).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
}

fn common(metadata: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if let Some(generation) = metadata
        .get("generation")
        .and_then(Value::as_i64)
        .filter(|g| *g < 0)
    {
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&path.child("generation"), generation, why));
    }
    let at = path.child("labels");
    for (key, value) in entries(metadata, "labels") {
        for problem in names::qualified_name(key) {
            errors.push(FieldError::invalid(&at, key, problem));
        }
        for problem in names::label_value(value) {
            errors.push(FieldError::invalid(&at, value, problem));
        }
    }
    let at = path.child("annotations");
    let mut size = 0;
    for (key, value) in entries(metadata, "annotations") {
        size += key.len() + value.len();
        for problem in names::qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&at, key, problem));
        }
    }
    if size > ANNOTATIONS_LIMIT {
        errors.push(FieldError::too_long(&at, ANNOTATIONS_LIMIT as u64));
    }
    owners(metadata, &path.child("ownerReferences"), errors);
}

fn owners(metadata: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(owners) = metadata.get("ownerReferences").and_then(Value::as_array) else {
        return;
    };
    let mut controller: Option<String> = None;
    for (i, owner) in owners.iter().enumerate() {
        let Some(owner) = owner.as_object() else { continue };
        let at = path.index(i);
        let version = text(owner, "apiVersion");
        if version.is_empty() {
            errors.push(FieldError::required(&at.child("apiVersion"), "must not be empty"));
        } else if version.matches('/').count() > 1 || version.ends_with('/') {
            let why = "must be <group>/<version> or <version>";
            errors.push(FieldError::invalid(&at.child("apiVersion"), version, why));
        }
        for name in ["kind", "name", "uid"] {
            if text(owner, name).is_empty() {
                errors.push(FieldError::required(&at.child(name), "must not be empty"));
            }
        }
        if version == "v1" && text(owner, "kind") == "Event" {
            let why = "/v1, Kind=Event is disallowed from being an owner";
            errors.push(FieldError::invalid(&at, Value::Object(owner.clone()), why));
        }
        if owner.get("controller") == Some(&Value::Bool(true)) {
            let this = format!("{}/{}", text(owner, "kind"), text(owner, "name"));
            if let Some(first) = &controller {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                errors.push(FieldError::invalid(path, owners.clone(), why));
            } else {
                controller = Some(this);
            }
        }
    }
}

fn finalizers(metadata: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("finalizers");
    let all: Vec<&str> = texts(metadata, "finalizers").collect();
    for finalizer in &all {
        for problem in names::qualified_name(finalizer) {
            errors.push(FieldError::invalid(&at, *finalizer, problem));
        }
    }
    if all.contains(&"orphan") && all.contains(&"foregroundDeletion") {
        let why = "finalizer orphan and foregroundDeletion cannot be both set";
        errors.push(FieldError::invalid(&at, all, why));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn check(metadata: &Value, namespaced: bool) -> Vec<String> {
        let path = FieldPath::new("metadata");
        validate_object_meta(
            metadata.as_object().unwrap(),
            namespaced,
            names::dns1123_label,
            &path,
        )
        .iter()
        .map(ToString::to_string)
        .collect()
    }

    #[test]
    fn creation() {
        assert!(
            check(
                &json!({"name": "a", "namespace": "b", "labels": {"x": "y"}, "generateName": "a-"}),
                true
            )
            .is_empty()
        );
        assert_eq!(
            check(&json!({}), false),
            ["metadata.name: Required value: name or generateName is required"]
        );
        assert_eq!(
            check(&json!({"name": "a"}), true),
            ["metadata.namespace: Required value"]
        );
        assert_eq!(
            check(&json!({"name": "a", "namespace": "b"}), false),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert_eq!(
            check(
                &json!({"name": "a", "ownerReferences": [{"apiVersion": "v1", "kind": "K", "name": "n"}]}),
                false
            ),
            ["metadata.ownerReferences[0].uid: Required value: must not be empty"]
        );
        assert_eq!(
            check(
                &json!({"name": "a", "finalizers": ["orphan", "foregroundDeletion"]}),
                false
            ),
            [
                "metadata.finalizers: Invalid value: [\"orphan\",\"foregroundDeletion\"]: finalizer orphan and \
                 foregroundDeletion cannot be both set"
            ]
        );
    }

    #[test]
    fn update() {
        let old = json!({"name": "a", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/b"], "generation": 2});
        let new = json!({"name": "b", "uid": "1", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a/c", "a/b"], "generation": 1});
        let path = FieldPath::new("metadata");
        let errors: Vec<String> =
            validate_object_meta_update(new.as_object().unwrap(), old.as_object().unwrap(), &path)
                .iter()
                .map(ToString::to_string)
                .collect();
        assert_eq!(
            errors,
            [
                "metadata.name: Invalid value: \"b\": field is immutable",
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
                 finalizers []string{\"a/c\"}",
                "metadata.generation: Invalid value: 1: must not be decremented",
            ]
        );
    }
}
