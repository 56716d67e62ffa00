//! Checks of resources inside resources (`x-kubernetes-embedded-resource`).

use serde_json::{Map, Value};

use super::Schema;
use crate::field::{FieldError, FieldPath};
use crate::meta::{names, validate_embedded_meta};

impl Schema {
    /// Checks `apiVersion`, `kind` and `metadata` of every embedded resource in a value.
    pub(crate) fn validate_embedded(
        &self,
        value: &Value,
        path: &FieldPath<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        if !self.facts().embedded {
            return;
        }
        match value {
            Value::Object(object) => {
                if self.embedded_resource {
                    check(object, path, errors);
                }
                for (name, value) in object {
                    if let Some(schema) = self.properties.get(name) {
                        schema.validate_embedded(value, &path.child(name), errors);
                    } else if let Some(schema) = self.additional.schema() {
                        schema.validate_embedded(value, &path.key(name), errors);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        schema.validate_embedded(item, &path.index(i), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

fn check(object: &Map<String, Value>, path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    let at = path.child("apiVersion");
    match object.get("apiVersion") {
        None => errors.push(FieldError::required(&at, "")),
        Some(Value::String(s)) if s.is_empty() => {
            errors.push(FieldError::invalid(&at, "", "must not be empty"))
        }
        Some(Value::String(s)) if s.matches('/').count() > 1 => {
            errors.push(FieldError::invalid(
                &at,
                s.as_str(),
                format!("unexpected GroupVersion string: {s}"),
            ));
        }
        Some(Value::String(_)) => {}
        Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
    }
    let at = path.child("kind");
    match object.get("kind") {
        None => errors.push(FieldError::required(&at, "")),
        Some(Value::String(s)) if s.is_empty() => {
            errors.push(FieldError::invalid(&at, "", "must not be empty"))
        }
        Some(Value::String(s)) => {
            let problems = names::dns1035_label(&s.to_lowercase());
            if !problems.is_empty() {
                let why = format!(
                    "may have mixed case, but should otherwise match: {}",
                    problems.join(",")
                );
                errors.push(FieldError::invalid(&at, s.as_str(), why));
            }
        }
        Some(other) => errors.push(FieldError::invalid(&at, other.clone(), "must be a string")),
    }
    if let Some(metadata) = object.get("metadata") {
        validate_embedded_meta(metadata, &path.child("metadata"), errors);
    }
}
