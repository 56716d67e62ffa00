//! Which old value belongs to a new one.
//!
//! Fields belong together by name, items of list-maps by their keys; items of other lists belong to nothing.

use std::collections::HashMap;

use serde_json::Value;

use super::{ListType, Schema};

/// The items of an old list, findable by their keys.
pub(crate) struct OldItems<'v> {
    keys: &'v [String],
    schema: Option<&'v Schema>,
    by_key: HashMap<Vec<Option<&'v Value>>, &'v Value>,
}

impl<'v> OldItems<'v> {
    /// The items of `old`, a list of `schema`, if that is a list-map.
    pub(crate) fn new(schema: &'v Schema, old: &'v Value) -> Option<Self> {
        let (Some(ListType::Map(keys)), Some(items)) = (&schema.list_type, old.as_array()) else {
            return None;
        };
        let schema = schema.items.as_deref();
        let mut by_key = HashMap::with_capacity(items.len());
        for item in items.iter().filter(|i| i.is_object()) {
            // The first of several items of one key counts.
            by_key.entry(key_of(keys, schema, item)).or_insert(item);
        }
        Some(Self { keys, schema, by_key })
    }

    /// The old item with the keys of `new`.
    pub(crate) fn get(&self, new: &Value) -> Option<&'v Value> {
        self.by_key.get(&key_of(self.keys, self.schema, new)).copied()
    }
}

/// The values of an item's keys; an absent one counts as its default.
fn key_of<'a>(keys: &[String], schema: Option<&'a Schema>, item: &'a Value) -> Vec<Option<&'a Value>> {
    let default = |name: &String| schema?.properties.get(name)?.default.as_ref();
    keys.iter()
        .map(|name| item.get(name).or_else(|| default(name)))
        .collect()
}
