//! Manifests held against the schemas of the kinds, without an API server: which fields are unknown, missing or of
//! the wrong type, and how a key is really spelled.
//!
//! This is the part of validation that a conversion needs. Everything else (bounds, patterns, CEL rules) is checked by
//! the API machinery, with the same schemas.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

use crate::convert::Problem;

/// The schema of a kind of `openchoreo.dev`. Each is read once, when it is needed.
pub(crate) fn schema(kind: &str) -> Option<&'static JSONSchemaProps> {
    static SCHEMAS: LazyLock<BTreeMap<&str, LazySchema>> = LazyLock::new(|| {
        let definitions = crate::crds::definitions();
        definitions
            .iter()
            .map(|d| (d.kind, LazySchema::new(d.json)))
            .collect()
    });
    SCHEMAS.get(kind)?.get()
}

struct LazySchema {
    json: &'static str,
    read: OnceLock<Option<JSONSchemaProps>>,
}

impl LazySchema {
    fn new(json: &'static str) -> Self {
        Self {
            json,
            read: OnceLock::new(),
        }
    }

    fn get(&self) -> Option<&JSONSchemaProps> {
        self.read
            .get_or_init(|| {
                let crd: CustomResourceDefinition = serde_json::from_str(self.json).ok()?;
                let version = crd.spec.versions.into_iter().next()?;
                version.schema?.open_api_v3_schema
            })
            .as_ref()
    }
}

/// The schema of the spec of a kind.
pub(crate) fn spec_schema(kind: &str) -> Option<&'static JSONSchemaProps> {
    schema(kind)?.properties.as_ref()?.get("spec")
}

fn preserves_unknown(schema: &JSONSchemaProps) -> bool {
    schema.x_kubernetes_preserve_unknown_fields == Some(true)
}

/// The schema of a value of a map, if the schema is one of a map.
fn map_values(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.additional_properties.as_ref()? {
        JSONSchemaPropsOrBool::Schema(values) => Some(values),
        JSONSchemaPropsOrBool::Bool(_) => None,
    }
}

fn list_items(schema: &JSONSchemaProps) -> Option<&JSONSchemaProps> {
    match schema.items.as_ref()? {
        JSONSchemaPropsOrArray::Schema(items) => Some(items),
        JSONSchemaPropsOrArray::Schemas(_) => None,
    }
}

/// The path of a field of an object or map.
pub(crate) fn field(path: &str, key: &str) -> String {
    let plain = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (path.is_empty(), plain) {
        (true, _) => key.to_owned(),
        (false, true) => format!("{path}.{key}"),
        (false, false) => format!("{path}[{key}]"),
    }
}

/// What is wrong with the shape of a value.
pub(crate) fn check(schema: &JSONSchemaProps, value: &Value, path: &str, problems: &mut Vec<Problem>) {
    let expected = schema.type_.as_deref().unwrap_or_default();
    if value.is_null() {
        problems.push(Problem::new(
            path,
            "has no value (only a comment?): write one, or leave the field out",
        ));
        return;
    }
    let fits = match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ if schema.x_kubernetes_int_or_string == Some(true) => value.is_string() || value.is_number(),
        _ => true,
    };
    if !fits {
        problems.push(Problem::new(
            path,
            format!("must be {}, but is {}", article(expected), describe(value)),
        ));
        return;
    }
    match value {
        Value::Object(object) => check_object(schema, object, path, problems),
        Value::Array(items) => {
            if let Some(schema) = list_items(schema) {
                for (index, item) in items.iter().enumerate() {
                    check(schema, item, &format!("{path}[{index}]"), problems);
                }
            }
        }
        Value::String(text) => check_enum(schema, text, path, problems),
        _ => {}
    }
}

fn check_object(
    schema: &JSONSchemaProps,
    object: &Map<String, Value>,
    path: &str,
    problems: &mut Vec<Problem>,
) {
    for name in schema.required.iter().flatten() {
        if !object.contains_key(name) {
            problems.push(Problem::new(field(path, name), "is required"));
        }
    }
    if let Some(values) = map_values(schema) {
        object
            .iter()
            .for_each(|(key, value)| check(values, value, &field(path, key), problems));
        return;
    }
    let empty = BTreeMap::new();
    let properties = schema.properties.as_ref().unwrap_or(&empty);
    for (key, value) in object {
        match properties.get(key) {
            Some(schema) => check(schema, value, &field(path, key), problems),
            None if preserves_unknown(schema) => {}
            None => problems.push(Problem::new(field(path, key), unknown(key, properties))),
        }
    }
}

fn unknown(key: &str, properties: &BTreeMap<String, JSONSchemaProps>) -> String {
    match properties.keys().find(|name| name.eq_ignore_ascii_case(key)) {
        Some(name) => format!("is not a field; did you mean {name:?}?"),
        None => {
            let names: Vec<&str> = properties.keys().map(String::as_str).collect();
            format!("is not a field; there are {}", names.join(", "))
        }
    }
}

fn check_enum(schema: &JSONSchemaProps, text: &str, path: &str, problems: &mut Vec<Problem>) {
    let Some(values) = &schema.enum_ else { return };
    let values: Vec<&str> = values.iter().filter_map(|value| value.0.as_str()).collect();
    if !values.contains(&text) {
        problems.push(Problem::new(
            path,
            format!("must be one of {}, but is {text:?}", values.join(", ")),
        ));
    }
}

fn article(type_: &str) -> &'static str {
    match type_ {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        _ => "a text or a number",
    }
}

/// What a value is, in the words of YAML.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("{value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) if text.chars().count() > 40 => "a text".to_owned(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// Spells keys as the schema does, whatever their case. Keys of maps are names, and stay as they are.
pub(crate) fn spell_keys(schema: &JSONSchemaProps, value: Value) -> Value {
    match value {
        Value::Object(object) => {
            if let Some(values) = map_values(schema) {
                return Value::Object(
                    object
                        .into_iter()
                        .map(|(key, value)| (key, spell_keys(values, value)))
                        .collect(),
                );
            }
            let Some(properties) = &schema.properties else {
                return Value::Object(object);
            };
            Value::Object(
                object
                    .into_iter()
                    .map(|(key, value)| {
                        match properties
                            .iter()
                            .find(|(name, _)| name.eq_ignore_ascii_case(&key))
                        {
                            Some((name, schema)) => (name.clone(), spell_keys(schema, value)),
                            None => (key, value),
                        }
                    })
                    .collect(),
            )
        }
        Value::Array(items) => match list_items(schema) {
            Some(schema) => Value::Array(items.into_iter().map(|item| spell_keys(schema, item)).collect()),
            None => Value::Array(items),
        },
        other => other,
    }
}
