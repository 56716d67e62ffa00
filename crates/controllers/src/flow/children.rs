//! Writing, adopting and removing the objects that a plan names.

use std::sync::Arc;

use choreo_api::finalizers;
use choreo_engine::plan::{Adoption, Child, Target};
use choreo_engine::world::{Kind, ObjectRef as EngineRef};
use kube::core::DynamicObject;
use serde_json::{Value, json};

use crate::context::Context;
use crate::runtime::ObjectRef;
use crate::runtime::packed::Kept;
use crate::view::{ControlSnapshot, object_ref};
use crate::write::Failure;
use crate::write::applier::Slot;

/// The owner as it is in the cluster; `None` if it is gone or going, so that nothing new is to be made for it.
fn live_owner<'s>(snapshot: &'s ControlSnapshot, owner: &EngineRef) -> Option<&'s Arc<Kept>> {
    let owner = snapshot.kept(&object_ref(owner))?;
    (!owner.is_deleting()).then_some(owner)
}

fn owner_reference(owner: &Kept, controller: bool) -> Value {
    let mut reference = json!({
        "apiVersion": owner.api_version(),
        "kind": owner.address().kind.kind,
        "name": owner.address().name,
        "uid": owner.uid(),
    });
    if controller {
        reference["controller"] = Value::Bool(true);
        reference["blockOwnerDeletion"] = Value::Bool(true);
    }
    reference
}

/// True if `owner` is an owner of the object.
fn is_owned_by(object: &DynamicObject, owner: &Kept) -> bool {
    object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .any(|reference| owner.uid() == Some(reference.uid.as_str()))
}

/// Makes a child what the plan says. An object of that name that does not belong to the owner is left alone.
pub(crate) async fn apply(
    context: &Context,
    manager: &str,
    snapshot: &ControlSnapshot,
    child: &Child,
) -> Result<(), Failure> {
    let Some(owner) = live_owner(snapshot, &child.owner) else {
        return Ok(());
    };
    let Some(address) = ObjectRef::of_value(&child.object) else {
        return Err(Failure::Rejected(format!(
            "a {} without a name was planned",
            child.kind()
        )));
    };
    // Most looks find what was made at an earlier one.
    let control = &context.control;
    let planned = (
        Slot::Child(manager),
        control.digest(&(&child.object, owner.uid())),
    );
    if let Some(kept) = context.snapshot().kept(&address)
        && control.is_settled(kept, planned.0, planned.1)
    {
        return Ok(());
    }
    let mut desired = child.object.clone();
    let resource = context.resource(&address.kind)?;
    let live = match context.snapshot().get(&address) {
        Some(live) => Some(live),
        // Made by somebody else without our labels, and so not watched: it must be found before it is written to.
        None if is_watched_by_label(&address) => context
            .control
            .get(resource, &address.namespace, &address.name)
            .await?
            .map(Arc::new),
        None => None,
    };
    let shared = is_shared(&address);
    if let Some(live) = &live
        && !is_owned_by(live, owner)
        && !shared
    {
        return Err(Failure::Foreign(format!(
            "{address} exists and does not belong to {}; rename or delete it",
            object_ref(&child.owner)
        )));
    }
    // A namespace that was there before its organization is used, and outlives it.
    let adopted_namespace = shared && live.as_ref().is_some_and(|live| !is_owned_by(live, owner));
    if !adopted_namespace {
        desired["metadata"]["ownerReferences"] = json!([owner_reference(owner, true)]);
    }
    if address.kind.kind == Kind::Release.as_str() {
        // Set with the creation, so that there is no moment in which a release could go without cleaning up.
        desired["metadata"]["finalizers"] = json!([finalizers::RELEASE_CLEANUP]);
    }
    // Derived objects are ours as a whole: what somebody edited in them is put right.
    control.apply(resource, manager, &desired, true).await?;
    if let Some(kept) = context.snapshot().kept(&address)
        && control.is_settled(kept, Slot::Object(manager), control.digest(&desired))
    {
        control.settle(kept, planned.0, planned.1);
    }
    Ok(())
}

/// Kinds of which the cache holds only what has our label.
fn is_watched_by_label(address: &ObjectRef) -> bool {
    matches!(
        address.kind.kind.as_str(),
        "Namespace" | "Role" | "RoleBinding" | "ResourceQuota"
    )
}

/// Namespaces may be there before us.
fn is_shared(address: &ObjectRef) -> bool {
    address.kind.kind == "Namespace" && address.kind.group.is_empty()
}

/// Adds an owner to an object that somebody else wrote.
pub(super) async fn adopt(
    context: &Context,
    manager: &str,
    snapshot: &ControlSnapshot,
    adoption: &Adoption,
) -> Result<(), Failure> {
    let Some(owner) = live_owner(snapshot, &adoption.owner) else {
        return Ok(());
    };
    let address = object_ref(&adoption.object);
    let Some(live) = snapshot.get(&address) else {
        return Ok(());
    };
    if live.metadata.deletion_timestamp.is_some() || is_owned_by(&live, owner) {
        return Ok(());
    }
    let resource = context.resource(&address.kind)?;
    let mut desired = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        // The UID makes the apply fail, instead of creating the object, if it has been deleted meanwhile.
        "metadata": {"name": address.name, "uid": live.metadata.uid,
                     "ownerReferences": [owner_reference(owner, false)]},
    });
    if !address.namespace.is_empty() {
        desired["metadata"]["namespace"] = Value::String(address.namespace.clone());
    }
    context
        .control
        .apply(resource, manager, &desired, true)
        .await
        .map(drop)
}

/// Deletes an object that the target owned and no longer wants.
pub(super) async fn prune(
    context: &Context,
    snapshot: &ControlSnapshot,
    target: &Target,
    object: &EngineRef,
) -> Result<(), Failure> {
    let owner = match target {
        Target::Object(owner) => owner.clone(),
        Target::Cell {
            namespace, project, ..
        } => EngineRef::new(Kind::Project, namespace.clone(), project.clone()),
    };
    let Some(owner) = snapshot.kept(&object_ref(&owner)) else {
        return Ok(());
    };
    let address = object_ref(object);
    let Some(live) = snapshot.get(&address) else {
        return Ok(());
    };
    if live.metadata.deletion_timestamp.is_some() || !is_owned_by(&live, owner) {
        return Ok(());
    }
    let resource = context.resource(&address.kind)?;
    context
        .control
        .delete(resource, &address, live.metadata.uid.clone())
        .await
}
