//! Between the versions of a resource, and from the schema under which an object was written to that of today.
//!
//! Some built-in kinds are one store with two faces: events, which the core group and `events.k8s.io` have, and autoscalers.
//! Custom resources convert by their `apiVersion` alone (strategy `None`) or by a webhook ([`super::webhook`]); what comes out
//! is pruned to the schema of its version and gets the defaults of that.

use std::sync::Arc;

use choreo_apimachinery::builtin;
use choreo_apimachinery::registry::{Registry, ResourceInfo};
use choreo_apimachinery::status::Result;
use choreo_store::Object;
use serde_json::Value;

use super::{Target, View, text, webhook};

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

/// A stored object as the resource's clients see it, as far as that can be told without asking a webhook.
pub(super) fn view(target: &Target, object: Arc<Object>) -> View {
    let info = &target.resource;
    // Defaults may be newer than the object.
    let outdated = info.is_crd && object.revision() < info.since;
    if !target.converts && !outdated {
        return View::Stored(object);
    }
    let stored = object.value();
    let made = if !info.is_crd {
        to_version(info, (*stored).clone())
    } else if text(&stored, "/apiVersion") == info.api_version() {
        if !outdated {
            return View::Stored(object);
        }
        let mut value = (*stored).clone();
        info.schema().apply_defaults(&mut value);
        value
    } else if info.conversion.is_some() {
        return View::Foreign(object);
    } else {
        to_version(info, (*stored).clone())
    };
    if made == *stored {
        View::Stored(object)
    } else {
        View::Made(Arc::new(made), object.revision())
    }
}

/// Asks the webhook for the views that only it can make. In one request: a list costs no more than an object.
///
/// # Errors
/// 500 when the webhook fails; clients see no object in another version than they asked for.
pub(super) async fn settle(target: &Target, views: &mut [View]) -> Result<()> {
    let foreign: Vec<(usize, Arc<Object>)> = views
        .iter()
        .enumerate()
        .filter_map(|(at, view)| match view {
            View::Foreign(object) => Some((at, object.clone())),
            _ => None,
        })
        .collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let mut missing = Vec::new();
    for (at, object) in foreign {
        match target.cluster.converted.get(target, object.revision()) {
            Some(value) => views[at] = View::Made(value, object.revision()),
            None => missing.push((at, object)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let values: Vec<Arc<Value>> = missing.iter().map(|(_, object)| object.value()).collect();
    let converted = webhook::convert(target, &target.resource.api_version(), &values).await?;
    for ((at, object), value) in missing.into_iter().zip(converted) {
        let value = Arc::new(finish(&target.resource, value));
        target
            .cluster
            .converted
            .put(target, object.revision(), value.clone());
        views[at] = View::Made(value, object.revision());
    }
    Ok(())
}

/// An object in the form of a resource's version, without asking a webhook.
pub fn to_version(info: &ResourceInfo, mut object: Value) -> Value {
    if info.is_crd {
        set_version(&mut object, &info.api_version());
        finish(info, object)
    } else {
        builtin::convert(&mut object, info);
        object
    }
}

/// What a conversion made, as the schema of its version has it.
fn finish(info: &ResourceInfo, mut object: Value) -> Value {
    let schema = info.schema();
    let metadata = object.as_object_mut().and_then(|map| map.remove("metadata"));
    schema.prune(&mut object);
    if let (Some(map), Some(metadata)) = (object.as_object_mut(), metadata) {
        map.insert("metadata".to_owned(), metadata);
    }
    schema.apply_defaults(&mut object);
    object
}

/// Whether an object is stored in another version than objects of its resource are today.
pub(super) fn is_outdated(target: &Target, object: &Object) -> bool {
    let info = &target.resource;
    let storage = &info.storage;
    info.is_crd
        && target.converts
        && text(&object.value(), "/apiVersion") != format!("{}/{}", storage.group, storage.version)
}

/// An object in the form in which the resource is stored.
///
/// # Errors
/// 500 when the webhook that converts it fails.
pub(super) async fn to_storage(target: &Target, mut object: Value) -> Result<Value> {
    let info = &target.resource;
    let storage = &info.storage;
    if storage.group == info.group && storage.version == info.version {
        return Ok(object);
    }
    if !info.is_crd {
        if let Some(stored) = Registry::builtin().lookup(&storage.group, &storage.version, &storage.plural) {
            builtin::convert(&mut object, stored);
        }
        return Ok(object);
    }
    let wanted = format!("{}/{}", storage.group, storage.version);
    if info.conversion.is_some() {
        let mut converted = webhook::convert(target, &wanted, &[Arc::new(object)]).await?;
        object = converted.pop().unwrap_or_default();
    } else {
        set_version(&mut object, &wanted);
    }
    let served = target.cluster.served().clone();
    // A version that is stored but not served has no row; its objects are kept as they came.
    let row = served
        .registry()
        .lookup(&storage.group, &storage.version, &storage.plural);
    Ok(match row {
        Some(row) => finish(row, object),
        None => object,
    })
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion".to_owned(), api_version.into());
    }
}
