//! Lists whose items must be unique: sets, and maps in the form of lists.

use serde_json::{Map, Value};

use super::{ListType, Schema};
use crate::field::{FieldError, FieldPath};

impl Schema {
    /// Reports repeated items of all lists that must have none.
    pub(super) fn validate_unique_lists(
        &self,
        value: &Value,
        path: &FieldPath<'_>,
        errors: &mut Vec<FieldError>,
    ) {
        if !self.facts().unique_lists {
            return;
        }
        match value {
            Value::Object(object) => {
                for (name, value) in object {
                    if let Some(schema) = self.properties.get(name) {
                        schema.validate_unique_lists(value, &path.child(name), errors);
                    } else if let Some(schema) = self.additional.schema() {
                        schema.validate_unique_lists(value, &path.key(name), errors);
                    }
                }
            }
            Value::Array(items) => {
                match &self.list_type {
                    Some(ListType::Set) => {
                        for i in repeated(items.iter()) {
                            errors.push(FieldError::duplicate(&path.index(i), items[i].clone()));
                        }
                    }
                    Some(ListType::Map(keys)) => unique_by_keys(items, keys, path, errors),
                    Some(ListType::Atomic) | None => {}
                }
                if let Some(schema) = &self.items {
                    for (i, item) in items.iter().enumerate() {
                        schema.validate_unique_lists(item, &path.index(i), errors);
                    }
                }
            }
            _ => {}
        }
    }
}

fn unique_by_keys(items: &[Value], keys: &[String], path: &FieldPath<'_>, errors: &mut Vec<FieldError>) {
    for (i, item) in items.iter().enumerate() {
        if !item.is_object() && !item.is_null() {
            let why = "must be an object for an array of list-type map";
            errors.push(FieldError::invalid(&path.index(i), item.clone(), why));
            return;
        }
    }
    if items.len() < 2 {
        return;
    }
    let key_of = |item: &Value| -> Value {
        keys.iter()
            .filter_map(|k| item.get(k).map(|v| (k.clone(), v.clone())))
            .collect::<Map<_, _>>()
            .into()
    };
    // One key, always there, is the common case and needs no copies.
    let repeats = match keys {
        [key] if items.iter().all(|i| i.get(key).is_some()) => {
            repeated(items.iter().filter_map(|i| i.get(key)))
        }
        _ => {
            let values: Vec<Value> = items.iter().map(key_of).collect();
            repeated(values.iter())
        }
    };
    for i in repeats {
        errors.push(FieldError::duplicate(&path.index(i), key_of(&items[i])));
    }
}

/// The indices at which a value occurs for the second time.
pub(super) fn repeated<'v>(values: impl Iterator<Item = &'v Value>) -> Vec<usize> {
    let mut counts = std::collections::HashMap::new();
    let mut indices = Vec::new();
    for (i, value) in values.enumerate() {
        let count = counts.entry(value).or_insert(0_u32);
        *count += 1;
        if *count == 2 {
            indices.push(i);
        }
    }
    indices
}
