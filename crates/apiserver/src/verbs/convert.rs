//! Between the versions of a resource.
//!
//! Custom resources convert by their `apiVersion` alone (strategy `None`). Events are one store with two faces: the core
//! group's and that of `events.k8s.io`.

use choreo_apimachinery::registry::{Registry, ResourceInfo};
use serde_json::{Map, Value};

/// Whether an object read from the store may have to be converted for this resource.
pub(super) fn needed(registry: &Registry, info: &ResourceInfo) -> bool {
    if info.storage.group != info.group
        || info.storage.version != info.version
        || info.storage.kind != info.kind
    {
        return true;
    }
    // Objects that were written before the storage version changed keep their old form.
    info.is_crd
        && registry.group(&info.group).is_some_and(|g| {
            g.versions()
                .filter(|v| v.resource(&info.plural).is_some())
                .count()
                > 1
        })
}

/// An object in the form of a resource's version.
pub fn to_version(info: &ResourceInfo, object: Value) -> Value {
    into(&info.api_version(), &info.kind, object)
}

/// An object in the form in which the resource is stored.
pub(super) fn to_storage(info: &ResourceInfo, object: Value) -> Value {
    let storage = &info.storage;
    let version = if storage.group.is_empty() {
        storage.version.clone()
    } else {
        format!("{}/{}", storage.group, storage.version)
    };
    into(&version, &storage.kind, object)
}

fn into(api_version: &str, kind: &str, mut object: Value) -> Value {
    let Value::Object(map) = &mut object else {
        return object;
    };
    if map.get("apiVersion").and_then(Value::as_str) == Some(api_version) {
        return object;
    }
    if kind == "Event" {
        match api_version {
            "v1" => rename(map, EVENT.iter().map(|(core, new)| (*new, *core))),
            "events.k8s.io/v1" => rename(map, EVENT),
            _ => {}
        }
    }
    map.insert("apiVersion".to_owned(), api_version.into());
    map.insert("kind".to_owned(), kind.into());
    object
}

/// Fields of an Event that have other names in the two groups: core, `events.k8s.io`.
const EVENT: [(&str, &str); 8] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
    // The instance has the same name in both; listed so that the table is complete.
    ("reportingInstance", "reportingInstance"),
];

fn rename<'a>(map: &mut Map<String, Value>, names: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_have_two_faces() {
        let core = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {"name": "a"}, "message": "m", "reason": "r", "count": 2});
        let new = into("events.k8s.io/v1", "Event", core.clone());
        assert_eq!(
            new,
            json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "regarding": {"name": "a"}, "note": "m", "reason": "r", "deprecatedCount": 2})
        );
        assert_eq!(into("v1", "Event", new), core);
    }

    #[test]
    fn others_change_their_version_only() {
        let object = json!({"apiVersion": "a/v1", "kind": "K", "spec": {"message": 1}});
        assert_eq!(
            into("a/v2", "K", object),
            json!({"apiVersion": "a/v2", "kind": "K", "spec": {"message": 1}})
        );
    }
}
