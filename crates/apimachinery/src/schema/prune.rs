//! Pruning: dropping what a schema does not know.

use serde_json::Value;

use super::{Additional, Schema};
use crate::field::{FieldPath, quote};
use crate::meta::object_meta_schema;

impl Schema {
    /// Drops every field of an object that the schema does not know and returns their paths, sorted.
    ///
    /// `object` is a whole resource: `apiVersion`, `kind` and `metadata` are always known, and metadata obeys the schema of
    /// object metadata where this schema does not describe it. Values are not checked.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        prune(object, Some(self), true, false, &FieldPath::ROOT, &mut dropped);
        dropped.sort_unstable();
        dropped
    }

    /// Like [`Schema::prune`] for a value that is part of a resource, such as its status.
    pub fn prune_part(&self, value: &mut Value, path: &FieldPath<'_>) -> Vec<String> {
        let mut dropped = Vec::new();
        prune(value, Some(self), false, false, path, &mut dropped);
        dropped.sort_unstable();
        dropped
    }

    /// The paths of all fields that [`Schema::prune`] would drop.
    #[must_use]
    pub fn unknown_fields(&self, object: &Value) -> Vec<String> {
        self.prune(&mut object.clone())
    }
}

/// What strict field validation says of a field that is not known.
#[must_use]
pub fn unknown_field_message(path: &str) -> String {
    format!("unknown field {}", quote(path))
}

fn is_meta(name: &str) -> bool {
    matches!(name, "apiVersion" | "kind" | "metadata")
}

/// `keeps` says that an enclosing schema preserves unknown fields of a list's items.
fn prune(
    value: &mut Value,
    schema: Option<&Schema>,
    is_resource: bool,
    keeps: bool,
    path: &FieldPath<'_>,
    dropped: &mut Vec<String>,
) {
    match value {
        Value::Object(object) => {
            let Some(schema) = schema else {
                if !keeps {
                    dropped.extend(object.keys().map(|name| path.child(name).to_string()));
                    object.clear();
                }
                return;
            };
            let keeps = keeps || schema.preserve_unknown;
            let is_resource = is_resource || schema.embedded_resource;
            object.retain(|name, value| {
                let at = path.child(name);
                if is_resource && is_meta(name) {
                    if name == "metadata" {
                        let meta = match schema.properties.get(name) {
                            Some(declared) if declared.properties.len() > 2 => declared,
                            _ => object_meta_schema(),
                        };
                        prune(value, Some(meta), false, false, &at, dropped);
                    }
                    return true;
                }
                if let Some(property) = schema.properties.get(name) {
                    prune(value, Some(property), false, false, &at, dropped);
                    return true;
                }
                match &schema.additional {
                    Additional::Schema(values) => prune(value, Some(values), false, false, &at, dropped),
                    Additional::Any => prune(value, None, false, keeps, &at, dropped),
                    Additional::None if keeps => {}
                    Additional::None => {
                        dropped.push(at.to_string());
                        return false;
                    }
                }
                true
            });
        }
        Value::Array(items) => {
            let keeps = keeps || schema.is_some_and(|s| s.preserve_unknown);
            let schema = schema.and_then(|s| s.items.as_deref());
            for (i, item) in items.iter_mut().enumerate() {
                prune(item, schema, false, keeps, &path.index(i), dropped);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        Schema::from_json(&json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "properties": {
                    "a": {"type": "string"},
                    "list": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
                    "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"k": {"type": "string"}}}},
                    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                             "properties": {"strict": {"type": "object", "properties": {"k": {"type": "string"}}}}},
                    "any": {"type": "object", "additionalProperties": true},
                    "embedded": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {
                        "spec": {"type": "object", "properties": {"k": {"type": "string"}}}}},
                }},
            },
        }))
        .unwrap()
    }

    #[test]
    fn drops_what_is_not_known() {
        let mut object = json!({
            "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "labels": {"x": "y"}, "typo": 1},
            "extra": 1,
            "spec": {
                "a": "x", "b": 1,
                "list": [{"k": "x"}, {"k": "x", "l": 1}],
                "map": {"x": {"k": "x", "l": 1}},
                "free": {"whatever": {"x": 1}, "strict": {"k": "x", "l": 1}},
                "any": {"scalar": 1, "object": {"x": 1}},
                "embedded": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"k": "x", "l": 1}, "m": 1},
            },
        });
        let unknown = schema().unknown_fields(&object);
        let dropped = schema().prune(&mut object);
        assert_eq!(unknown, dropped);
        assert_eq!(
            dropped,
            [
                "extra",
                "metadata.typo",
                "spec.any.object.x",
                "spec.b",
                "spec.embedded.m",
                "spec.embedded.spec.l",
                "spec.free.strict.l",
                "spec.list[1].l",
                "spec.map.x.l",
            ]
        );
        assert_eq!(
            object,
            json!({
                "apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "labels": {"x": "y"}},
                "spec": {
                    "a": "x", "list": [{"k": "x"}, {"k": "x"}], "map": {"x": {"k": "x"}},
                    "free": {"whatever": {"x": 1}, "strict": {"k": "x"}}, "any": {"scalar": 1, "object": {}},
                    "embedded": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}, "spec": {"k": "x"}},
                },
            })
        );
        assert_eq!(unknown_field_message("spec.b"), "unknown field \"spec.b\"");
    }
}
