//! The keywords of a definition's schema, one by one and against each other.

use serde_json::Value;

use super::{Additional, ListType, MapType, Schema, Type};
use crate::field::{FieldError, FieldPath};

const TYPES: &[&str] = &["array", "boolean", "integer", "number", "object", "string"];

/// Keywords of JSON Schema that definitions may not use.
const UNSUPPORTED: &[&str] = &[
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
    "id",
];

/// Checks what is lost when the schema is read: unknown types and unsupported keywords.
pub(super) fn keywords(json: &Value, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(object) = json.as_object() else {
        errors.push(FieldError::invalid(path, json.clone(), "must be an object"));
        return;
    };
    for name in UNSUPPORTED {
        if object
            .get(*name)
            .is_some_and(|v| !v.is_null() && v.as_str() != Some(""))
        {
            errors.push(FieldError::forbidden(
                &path.child(name),
                format!("{name} is not supported"),
            ));
        }
    }
    if let Some(type_) = object
        .get("type")
        .and_then(Value::as_str)
        .filter(|t| !t.is_empty())
    {
        if !TYPES.contains(&type_) {
            errors.push(FieldError::not_supported(&path.child("type"), type_, TYPES));
        }
        if type_ == "null" {
            let why = "type cannot be set to null, use nullable as an alternative";
            errors.push(FieldError::forbidden(&path.child("type"), why));
        }
    }
    for (name, allowed) in [
        ("x-kubernetes-map-type", &["atomic", "granular"][..]),
        ("x-kubernetes-list-type", &["atomic", "set", "map"][..]),
    ] {
        if let Some(value) = object.get(name).and_then(Value::as_str)
            && !allowed.contains(&value)
        {
            errors.push(FieldError::not_supported(&path.child(name), value, allowed));
        }
    }
    if object.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let at = path.child("x-kubernetes-preserve-unknown-fields");
        errors.push(FieldError::invalid(&at, false, "must be true or undefined"));
    }
    let list_type = object.get("x-kubernetes-list-type").and_then(Value::as_str);
    let has_keys = object
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array)
        .is_some_and(|k| !k.is_empty());
    if has_keys && list_type != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        let at = path.child("x-kubernetes-list-type");
        errors.push(match list_type {
            None => FieldError::required(&at, why),
            Some(other) => FieldError::invalid(&at, other, why),
        });
    }
    if let Some(properties) = object.get("properties").and_then(Value::as_object) {
        let declared_too = object
            .get("additionalProperties")
            .is_some_and(|a| !a.is_null() && a != &Value::Bool(true));
        if !properties.is_empty() && declared_too {
            let why = "additionalProperties and properties are mutual exclusive";
            errors.push(FieldError::forbidden(&path.child("additionalProperties"), why));
        }
        for (name, value) in properties {
            keywords(value, &path.child("properties").key(name), errors);
        }
    }
    match object.get("items") {
        Some(Value::Array(_)) => {
            let why = "items must be a schema object and not an array";
            errors.push(FieldError::forbidden(&path.child("items"), why));
        }
        Some(items @ Value::Object(_)) => keywords(items, &path.child("items"), errors),
        _ => {}
    }
    for name in ["additionalProperties", "not"] {
        if let Some(schema @ Value::Object(_)) = object.get(name) {
            keywords(schema, &path.child(name), errors);
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        for (i, schema) in object
            .get(name)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            keywords(schema, &path.child(name).index(i), errors);
        }
    }
}

/// Checks of keywords against each other, at every depth.
pub(super) fn keyword_values(
    schema: &Schema,
    is_root: bool,
    path: &FieldPath<'_>,
    errors: &mut Vec<FieldError>,
) {
    if schema.unique_items {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(FieldError::forbidden(&path.child("uniqueItems"), why));
    }
    if is_root {
        if schema.nullable {
            errors.push(FieldError::forbidden(
                &path.child("nullable"),
                "nullable cannot be true at the root",
            ));
        }
        for name in ["apiVersion", "kind", "metadata"] {
            if schema.properties.get(name).is_some_and(|p| p.default.is_some()) {
                let why = format!("must not be set in top-level {name}");
                errors.push(FieldError::forbidden(
                    &path.child("properties").key(name).child("default"),
                    why,
                ));
            }
        }
    }
    map_type(schema, path, errors);
    list_type(schema, path, errors);
    if let Additional::Schema(values) = &schema.additional {
        keyword_values(values, false, &path.child("additionalProperties"), errors);
    }
    for (name, property) in &schema.properties {
        keyword_values(property, false, &path.child("properties").key(name), errors);
    }
    if let Some(items) = &schema.items {
        keyword_values(items, false, &path.child("items"), errors);
    }
}

fn wrong_type(path: &FieldPath<'_>, type_: Option<Type>, why: String) -> FieldError {
    match type_ {
        None => FieldError::required(&path.child("type"), why),
        Some(other) => FieldError::invalid(&path.child("type"), other.as_str(), why),
    }
}

fn map_type(schema: &Schema, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    if schema.map_type.is_some() && schema.type_ != Some(Type::Object) {
        let why = "must be object if x-kubernetes-map-type is specified".to_owned();
        errors.push(wrong_type(path, schema.type_, why));
    }
}

fn list_type(schema: &Schema, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let Some(list_type) = &schema.list_type else {
        return;
    };
    if schema.type_ != Some(Type::Array) {
        let why = "must be array if x-kubernetes-list-type is specified".to_owned();
        errors.push(wrong_type(path, schema.type_, why));
        return;
    }
    let Some(items) = &schema.items else { return };
    let at = path.child("items");
    let nullable = |name: &str, errors: &mut Vec<FieldError>| {
        if items.nullable {
            let why = format!("cannot be nullable when x-kubernetes-list-type is {name}");
            errors.push(FieldError::forbidden(&at.child("nullable"), why));
        }
    };
    match list_type {
        ListType::Atomic => {}
        ListType::Set => {
            let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
            match items.type_ {
                Some(Type::Array) if !matches!(items.list_type, None | Some(ListType::Atomic)) => {
                    errors.push(FieldError::invalid(&at.child("x-kubernetes-list-type"), "", why));
                }
                Some(Type::Object) if items.map_type != Some(MapType::Atomic) => {
                    errors.push(FieldError::invalid(
                        &at.child("x-kubernetes-map-type"),
                        Value::Null,
                        why,
                    ));
                }
                _ => {}
            }
            nullable("set", errors);
        }
        ListType::Map(keys) => {
            let keys_at = path.child("x-kubernetes-list-map-keys");
            if keys.is_empty() {
                let why = "must not be empty if x-kubernetes-list-type is map";
                errors.push(FieldError::required(&keys_at, why));
            }
            if items.type_ != Some(Type::Object) {
                let why = "must be object if parent array's x-kubernetes-list-type is map";
                let type_ = items.type_.map_or("", Type::as_str);
                errors.push(FieldError::invalid(&at.child("type"), type_, why));
                return;
            }
            nullable("map", errors);
            for (i, key) in keys.iter().enumerate() {
                if keys[..i].contains(key) {
                    errors.push(FieldError::invalid(
                        &keys_at,
                        keys.clone(),
                        "must not contain duplicate entries",
                    ));
                }
                let properties = at.child("properties");
                let at = properties.key(key);
                let Some(property) = items.properties.get(key) else {
                    let why = "entries must all be names of item properties";
                    errors.push(FieldError::invalid(&keys_at, keys.clone(), why));
                    continue;
                };
                if matches!(property.type_, Some(Type::Array | Type::Object)) {
                    let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                    errors.push(FieldError::invalid(&at.child("type"), "object", why));
                }
                if !items.required.contains(key) && property.default.is_none() {
                    let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                    errors.push(FieldError::required(&at.child("default"), why));
                }
                if property.nullable {
                    let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                    errors.push(FieldError::forbidden(&at.child("nullable"), why));
                }
            }
        }
    }
}
