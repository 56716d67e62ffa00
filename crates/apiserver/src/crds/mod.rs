//! CustomResourceDefinitions: their status, and the registry that follows them.
//!
//! A definition is served as soon as the write that brought it is answered: its status is worked out while it is written,
//! and the registry is swapped right after. Writes of definitions are serialised by [`lock`].

pub(crate) mod cleanup;
mod status;

use std::sync::Arc;

use choreo_apimachinery::crd;
use choreo_apimachinery::registry::Registry;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Object, Snapshot};
use serde_json::Value;
use tokio::sync::MutexGuard;

use crate::verbs::{Target, is_deleting, metadata_mut, text};

/// Definitions as the store knows them.
pub(crate) const RESOURCE: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// Finalizer that keeps a definition until its objects are gone.
pub(crate) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// Whether the target is the collection of definitions.
pub(crate) fn is_definition(target: &Target) -> bool {
    target.storage_resource() == RESOURCE
}

/// Adds the definitions of a store to a registry.
pub(crate) fn load(registry: &mut Registry, snapshot: &Snapshot) {
    for object in snapshot.iter(RESOURCE, None, None) {
        serve(registry, object);
    }
}

/// Serves a definition's versions, if its names were accepted.
fn serve(registry: &mut Registry, stored: &Object) {
    let definition = match crd::Definition::read(stored.json().clone()) {
        Ok(definition) => definition,
        Err(error) => {
            tracing::error!(definition = %stored.key(), "stored definition is not served: {error}");
            return;
        }
    };
    let (group, plural) = (definition.group(), definition.plural());
    if !definition.is_established() {
        return registry.remove_crd(group, plural);
    }
    match definition.rows() {
        Ok(rows) => registry.add_crd(rows),
        Err(errors) => {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            tracing::error!(
                definition = definition.name(),
                "stored definition is not served: {}",
                errors.join("; ")
            );
            registry.remove_crd(group, plural);
        }
    }
}

/// Waits until no other definition is being written; for other resources there is nothing to wait for.
pub(crate) async fn lock(target: &Target) -> Option<MutexGuard<'_, ()>> {
    if is_definition(target) {
        Some(target.cluster.definitions.lock().await)
    } else {
        None
    }
}

/// Checks a new or changed definition and works out its status. Leaves other objects alone.
///
/// # Errors
/// 422 for a definition that cannot be served; 405 for a custom resource whose definition is going away.
pub(crate) fn prepare(target: &Target, old: Option<&Value>, object: &mut Value) -> Result<()> {
    if !is_definition(target) {
        return if old.is_none() && target.resource.is_crd {
            check_not_terminating(target)
        } else {
            Ok(())
        };
    }
    crd::set_defaults(object);
    let errors = crd::validate(object, old);
    if !errors.is_empty() {
        return Err(ApiError::invalid(
            &target.resource.group,
            &target.resource.kind,
            text(object, "/metadata/name"),
            &errors,
        ));
    }
    status::compute(target.cluster.served().registry(), old, object);
    Ok(())
}

/// No new objects while the old ones are being removed.
fn check_not_terminating(target: &Target) -> Result<()> {
    // What is served now, and not when the request came in.
    let info = &target.resource;
    let served = target.cluster.served();
    let current = served.registry().lookup(&info.group, &info.version, &info.plural);
    if current.is_none_or(|current| !current.terminating) {
        return Ok(());
    }
    let mut error = ApiError::method_not_supported(&target.resource.group, &target.resource.plural, "create");
    error.message = "create not allowed while custom resource definition is terminating".to_owned();
    Err(error)
}

/// Keeps a definition that is to be deleted until its objects are gone.
pub(crate) fn prepare_delete(target: &Target, definition: &mut Value) {
    if !is_definition(target) || is_deleting(definition) {
        return;
    }
    let group = text(definition, "/spec/group").to_owned();
    let resource = format!("{group}/{}", text(definition, "/spec/names/plural"));
    if target.cluster.store().count(&resource) == 0 {
        return;
    }
    status::set(
        definition,
        "Terminating",
        true,
        "InstanceDeletionPending",
        "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
    );
    let metadata = metadata_mut(definition);
    let finalizers = metadata
        .entry("finalizers")
        .or_insert_with(|| Value::Array(Vec::new()));
    if let Some(finalizers) = finalizers.as_array_mut()
        && !finalizers.iter().any(|f| f.as_str() == Some(FINALIZER))
    {
        finalizers.push(FINALIZER.into());
    }
}

/// Follows a written definition.
pub(crate) fn written(target: &Target, stored: &Arc<Object>) {
    if is_definition(target) {
        change(target, |registry| serve(registry, stored));
    }
}

/// Follows a definition that is gone. One that waited for its names is seen to by [`cleanup`].
pub(crate) fn removed(target: &Target, last: &Arc<Object>) {
    if is_definition(target) {
        let definition = last.value();
        change(target, |registry| {
            registry.remove_crd(
                text(&definition, "/spec/group"),
                text(&definition, "/spec/names/plural"),
            );
        });
    }
}

fn change(target: &Target, edit: impl FnOnce(&mut Registry)) {
    let mut registry = target.cluster.served().registry().clone();
    edit(&mut registry);
    target.cluster.swap(registry);
}
