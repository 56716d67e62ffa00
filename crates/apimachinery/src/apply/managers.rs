//! Managers and what they manage: `metadata.managedFields` read, changed and written.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{
    set::Set,
    view::View,
    walk::{Comparison, reconcile},
};
use crate::status::ManagerConflict;

/// Entries of updates are merged, the oldest first, when there are more than this.
const MAX_UPDATE_MANAGERS: usize = 10;

/// Name of the entry into which old updates are merged.
const ANCIENT: &str = "ancient-changes";

/// Who wrote, how: what tells entries apart. An applier has one entry whatever version it applies in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) manager: String,
    pub(super) applied: bool,
    /// Version of an update; empty for an applier.
    pub(super) version: String,
    pub(super) subresource: String,
}

impl Identity {
    pub(super) fn apply(manager: &str, subresource: &str) -> Self {
        Identity {
            manager: named(manager),
            applied: true,
            version: String::new(),
            subresource: subresource.to_owned(),
        }
    }

    pub(super) fn update(manager: &str, version: &str, subresource: &str) -> Self {
        Identity {
            manager: named(manager),
            applied: false,
            version: version.to_owned(),
            subresource: subresource.to_owned(),
        }
    }
}

fn named(manager: &str) -> String {
    if manager.is_empty() {
        "unknown".to_owned()
    } else {
        manager.to_owned()
    }
}

/// What one manager manages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) version: String,
    pub(super) time: Option<String>,
    pub(super) set: Set,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(pub(super) BTreeMap<Identity, Entry>);

impl Managers {
    /// Reads `metadata.managedFields`.
    pub(super) fn read(entries: &Value) -> Result<Self, String> {
        let mut managers = BTreeMap::new();
        for (index, entry) in entries.as_array().into_iter().flatten().enumerate() {
            let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
            let applied = match text("operation") {
                "Apply" => true,
                "Update" => false,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            let version = text("apiVersion");
            if version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => {
                    return Err(format!(
                        "invalid fieldsType {other:?} in managed fields entry {index}"
                    ));
                }
            }
            let identity = Identity {
                manager: text("manager").to_owned(),
                applied,
                version: if applied {
                    String::new()
                } else {
                    version.to_owned()
                },
                subresource: text("subresource").to_owned(),
            };
            let set = entry
                .get("fieldsV1")
                .map_or_else(|| Ok(Set::default()), Set::from_fields)?;
            let time = entry.get("time").and_then(Value::as_str).map(str::to_owned);
            managers.insert(
                identity,
                Entry {
                    version: version.to_owned(),
                    time,
                    set,
                },
            );
        }
        Ok(Managers(managers))
    }

    /// The entries in the order of the API: appliers before updaters, older before newer, then by name.
    pub(super) fn write(&self) -> Value {
        let mut entries: Vec<(&Identity, &Entry)> = self.0.iter().collect();
        entries.sort_by_cached_key(|(identity, entry)| {
            (
                !identity.applied,
                seconds(entry),
                &identity.manager,
                &entry.version,
                &identity.subresource,
            )
        });
        entries
            .into_iter()
            .map(|(identity, entry)| {
                let text = |key: &str, text: &str| (key.to_owned(), Value::from(text));
                let operation = if identity.applied { "Apply" } else { "Update" };
                let mut written = Map::from_iter([
                    text("apiVersion", &entry.version),
                    text("fieldsType", "FieldsV1"),
                    // Moved: a macro would copy it.
                    ("fieldsV1".to_owned(), entry.set.to_fields()),
                    text("manager", &identity.manager),
                    text("operation", operation),
                ]);
                if !identity.subresource.is_empty() {
                    written.extend([text("subresource", &identity.subresource)]);
                }
                written.extend(entry.time.as_deref().map(|time| text("time", time)));
                Value::Object(written)
            })
            .collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adapts all sets to places that have become atomic in the schema.
    pub(super) fn reconcile(&mut self, view: View<'_>) {
        for entry in self.0.values_mut() {
            reconcile(&mut entry.set, view);
        }
    }

    /// What the change would take from managers other than `me`.
    pub(super) fn conflicts(&self, me: &Identity, change: &Comparison) -> Vec<(Identity, Set)> {
        if self.0.keys().all(|identity| identity == me) {
            return Vec::new();
        }
        let touched = change.modified.union(&change.added);
        self.0
            .iter()
            .filter(|(identity, _)| *identity != me)
            .map(|(identity, entry)| (identity.clone(), entry.set.intersection(&touched)))
            .filter(|(_, set)| !set.is_empty())
            .collect()
    }

    /// Takes what the change touches from all managers but `me`, and drops those who are left with nothing.
    pub(super) fn yield_to(&mut self, me: &Identity, change: &Comparison) {
        if self.0.is_empty()
            || (change.modified.is_empty() && change.added.is_empty() && change.removed.is_empty())
        {
            return;
        }
        let mut touched = change.modified.union(&change.added);
        touched.add(change.removed.clone());
        for (identity, entry) in &mut self.0 {
            if identity != me {
                entry.set.subtract(&touched);
            }
        }
        self.0.retain(|_, entry| !entry.set.is_empty());
    }

    /// Everything that anybody manages.
    pub(super) fn all(&self) -> Set {
        let mut all = Set::default();
        for entry in self.0.values() {
            all.add(entry.set.clone());
        }
        all
    }

    /// Merges the oldest updates of a version into one entry until there are few enough.
    pub(super) fn cap(&mut self) {
        let updates = self.0.keys().filter(|identity| !identity.applied);
        let mut excess = updates.clone().count().saturating_sub(MAX_UPDATE_MANAGERS);
        if excess == 0 {
            return;
        }
        let mut updates: Vec<Identity> = updates.cloned().collect();
        updates.sort_by_cached_key(|identity| (self.0.get(identity).map(seconds), identity.clone()));
        let mut first = BTreeMap::<String, Identity>::new();
        for identity in updates {
            if excess == 0 {
                break;
            }
            let version = identity.version.clone();
            let Some(oldest) = first.get(&version) else {
                first.insert(version, identity);
                continue;
            };
            let bucket = Identity::update(ANCIENT, &version, "");
            if !self.0.contains_key(&bucket)
                && let Some(entry) = self.0.remove(oldest)
            {
                self.0.insert(bucket.clone(), entry);
            }
            if identity == bucket {
                continue;
            }
            if let Some(entry) = self.0.remove(&identity)
                && let Some(ancient) = self.0.get_mut(&bucket)
            {
                ancient.set.add(entry.set);
                ancient.time = entry.time;
                excess -= 1;
            }
        }
    }
}

/// Conflicts as they are reported.
pub(super) fn reported(conflicts: &[(Identity, Set)]) -> Vec<ManagerConflict> {
    conflicts
        .iter()
        .flat_map(|(identity, set)| {
            set.paths().into_iter().map(|path| ManagerConflict {
                manager: identity.manager.clone(),
                subresource: identity.subresource.clone(),
                api_version: identity.version.clone(),
                is_update: !identity.applied,
                time: None,
                path,
            })
        })
        .collect()
}

fn seconds(entry: &Entry) -> i64 {
    entry
        .time
        .as_deref()
        .and_then(|time| time.parse::<Timestamp>().ok())
        .map_or(0, Timestamp::as_second)
}

/// The object without `metadata.managedFields`.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

/// An object's `metadata` without `managedFields`.
pub(super) fn without(object: &Value) -> Value {
    let metadata = object.get("metadata").and_then(Value::as_object);
    let rest = metadata.into_iter().flatten();
    let rest = rest.filter(|(name, _)| *name != "managedFields");
    Value::Object(rest.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Takes `managedFields` out of an object.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object
        .get_mut("metadata")?
        .as_object_mut()?
        .remove("managedFields")
}

/// Puts back what [`take`] gave.
pub(super) fn put_back(object: &mut Value, managed: Option<Value>) {
    if let Some(managed) = managed
        && let Some(object) = object.as_object_mut()
        && let Some(metadata) = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
    {
        metadata.insert("managedFields".into(), managed);
    }
}

/// Writes `metadata.managedFields`.
pub(super) fn put(object: &mut Value, managers: &Managers) {
    if managers.is_empty() {
        return strip(object);
    }
    if let Some(object) = object.as_object_mut()
        && let Some(metadata) = object
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()))
            .as_object_mut()
    {
        metadata.insert("managedFields".into(), managers.write());
    }
}
