//! Defaulting: filling in what an object leaves out.

use serde_json::Value;

use super::Schema;

impl Schema {
    /// Gives absent properties their defaults, at every depth, as on create, update and read from the store.
    ///
    /// A `null` where the schema does not allow one is taken for an absent value: it gives way to the default, or goes.
    pub fn apply_defaults(&self, value: &mut Value) {
        fill(value, self);
    }
}

fn is_stray_null(value: &Value, schema: &Schema) -> bool {
    value.is_null() && !schema.nullable
}

fn fill(value: &mut Value, schema: &Schema) {
    match value {
        Value::Object(object) => {
            object.retain(|name, value| {
                !value.is_null()
                    || schema
                        .property(name)
                        .is_none_or(|s| s.nullable || s.default.is_some())
            });
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else {
                    continue;
                };
                match object.get_mut(name) {
                    None => {
                        object.insert(name.clone(), default.clone());
                    }
                    Some(value) if is_stray_null(value, property) => *value = default.clone(),
                    Some(_) => {}
                }
            }
            for (name, value) in object.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    fill(value, property);
                } else if let Some(values) = schema.additional.schema() {
                    fill_in_place(value, values);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = &schema.items {
                for item in items {
                    fill_in_place(item, schema);
                }
            }
        }
        _ => {}
    }
}

/// A list item or map value is never absent, so that its default only stands in for a stray null.
fn fill_in_place(value: &mut Value, schema: &Schema) {
    if let Some(default) = &schema.default
        && is_stray_null(value, schema)
    {
        *value = default.clone();
    }
    fill(value, schema);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use serde_json::json;

    #[test]
    fn fills_in_what_is_absent() {
        // The first four cases are the example of the Kubernetes documentation on defaulting and nullable.
        let foo = json!({"type": "object", "properties": {
            "foo": {"type": "string", "nullable": false, "default": "default"},
            "bar": {"type": "string", "nullable": true},
            "baz": {"type": "string"},
        }});
        let nested = json!({"type": "object", "properties": {
            "outer": {"type": "object", "default": {}, "properties": {"inner": {"type": "integer", "default": 3}}},
            "absent": {"type": "object", "properties": {"inner": {"type": "integer", "default": 3}}},
        }});
        let lists = json!({"type": "object", "properties": {
            "list": {"type": "array", "items": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"p": {"type": "string", "default": "TCP"}}}},
            "scalars": {"type": "array", "items": {"type": "string", "default": "x"}},
        }});
        let cases = [
            (
                &foo,
                json!({"foo": null, "bar": null, "baz": null}),
                json!({"foo": "default", "bar": null}),
            ),
            (&foo, json!({}), json!({"foo": "default"})),
            (
                &foo,
                json!({"foo": "x", "baz": "y"}),
                json!({"foo": "x", "baz": "y"}),
            ),
            (
                &foo,
                json!({"unknown": null}),
                json!({"unknown": null, "foo": "default"}),
            ),
            (&nested, json!({}), json!({"outer": {"inner": 3}})),
            (
                &nested,
                json!({"outer": {"inner": 4}, "absent": {}}),
                json!({"outer": {"inner": 4}, "absent": {"inner": 3}}),
            ),
            (
                &lists,
                json!({"list": [{}, {"p": "UDP"}], "map": {"a": {}}, "scalars": ["a", null]}),
                json!({"list": [{"p": "TCP"}, {"p": "UDP"}], "map": {"a": {"p": "TCP"}}, "scalars": ["a", "x"]}),
            ),
        ];
        for (schema, mut object, expected) in cases {
            let schema = Schema::from_json(schema).unwrap();
            schema.apply_defaults(&mut object);
            assert_eq!(object, expected);
            schema.apply_defaults(&mut object);
            assert_eq!(object, expected, "defaulting twice changes nothing");
        }
    }
}
