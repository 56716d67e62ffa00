//! Between the versions of a resource.
//!
//! Custom resources convert by their `apiVersion` alone (strategy `None`). Some built-in kinds are one store with two faces:
//! events, which the core group and `events.k8s.io` have, and autoscalers.

use choreo_apimachinery::builtin;
use choreo_apimachinery::registry::{Registry, ResourceInfo};
use serde_json::Value;

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
pub fn to_version(info: &ResourceInfo, mut object: Value) -> Value {
    if info.is_crd {
        set_version(&mut object, &info.api_version());
    } else {
        builtin::convert(&mut object, info);
    }
    object
}

/// An object in the form in which the resource is stored.
pub(super) fn to_storage(info: &ResourceInfo, mut object: Value) -> Value {
    let storage = &info.storage;
    if info.is_crd {
        set_version(&mut object, &format!("{}/{}", storage.group, storage.version));
    } else if storage.group != info.group || storage.version != info.version {
        let registry = Registry::builtin();
        if let Some(stored) = registry.lookup(&storage.group, &storage.version, &storage.plural) {
            builtin::convert(&mut object, stored);
        }
    }
    object
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), api_version.into());
    }
}
