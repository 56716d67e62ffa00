//! Which controller looks after which target, and which targets a change concerns.

use std::collections::BTreeSet;

use choreo_api::labels;
use choreo_api::v1alpha1::{Organization, Release};
use choreo_engine::plan::Target;
use choreo_engine::world::{Kind, ObjectRef as EngineRef, World};
use kube::core::DynamicObject;

use crate::runtime::object::{is_status_only, split_api_version};
use crate::runtime::{Change, ObjectRef};
use crate::view::{ControlSnapshot, engine_ref};

/// The planning controllers: the name of each, with the kinds that it looks after.
pub const CONTROLLERS: &[(&str, &[Kind])] = &[
    ("organization", &[Kind::Organization]),
    ("environment", &[Kind::Environment]),
    ("pipeline", &[Kind::DeploymentPipeline]),
    ("project", &[Kind::Project]),
    ("component", &[Kind::Component]),
    ("binding", &choreo_engine::binding::KINDS),
    ("deployment", &[Kind::Deployment]),
    ("endpoint", &[Kind::Endpoint]),
    ("managed-resource", &[Kind::ManagedResource]),
    ("configuration-group", &[Kind::ConfigurationGroup]),
    (
        "classes",
        &[
            Kind::ServiceClass,
            Kind::WebApplicationClass,
            Kind::ScheduledTaskClass,
            Kind::APIClass,
            Kind::ComponentType,
            Kind::Trait,
            Kind::ResourceType,
        ],
    ),
];

/// The controller of cells, which are no objects.
pub const CELL: &str = "cell";

/// The planning controller of a target; `None` for targets that another controller looks after.
pub fn controller_of(target: &Target) -> Option<&'static str> {
    match target {
        Target::Cell { .. } => Some(CELL),
        Target::Object(object) => CONTROLLERS
            .iter()
            .find(|(_, kinds)| kinds.contains(&object.kind))
            .map(|(name, _)| *name),
    }
}

/// The targets to plan again after a change; `before` and `after` are the states around it.
pub fn affected_by(before: &ControlSnapshot, after: &ControlSnapshot, change: &Change) -> BTreeSet<Target> {
    let mut targets = BTreeSet::new();
    if let Some(reference) = engine_ref(&change.object) {
        targets.extend(choreo_engine::by_change(
            &before.view.world,
            &after.view.world,
            &reference,
        ));
    }
    // An organization that is going waits for the end of what is in it.
    if change.after.is_none() && change.object.kind.group == labels::GROUP {
        let name = &change.object.namespace;
        let organization = after.view.world.get::<Organization>("", name);
        if organization.is_some_and(|organization| organization.metadata.deletion_timestamp.is_some()) {
            targets.insert(Target::Object(EngineRef::new(
                Kind::Organization,
                "",
                name.clone(),
            )));
        }
    }
    // Whoever made the object sees to it that it stays as planned. No status is planned by the maker of its object.
    if let (Some(old), Some(new)) = (&change.before, &change.after)
        && is_status_only(old, new)
    {
        return targets;
    }
    for (state, object) in [(before, &change.before), (after, &change.after)] {
        if let Some(object) = object {
            targets.extend(owners(&state.view.world, object));
        }
    }
    targets
}

/// Kinds whose status is passed on to other statuses and to nothing else.
const TELL: [Kind; 4] = [
    Kind::Component,
    Kind::DeployableArtifact,
    Kind::Deployment,
    Kind::Release,
];

/// Kinds that are made with all that there is to say, so that a look at a new one only leads to its status.
const RECORDS: [Kind; 2] = [Kind::Deployment, Kind::Endpoint];

/// Whether nothing follows for `target` from a change but what it tells: in a rush this lets go before what leads to objects.
/// `told` says that nothing but the status of the object has changed.
pub fn only_tells(change: &Change, told: bool, target: &Target) -> bool {
    let Some(changed) = engine_ref(&change.object) else {
        return false;
    };
    let is_new = change.before.is_none() && change.after.is_some();
    let is_record =
        RECORDS.contains(&changed.kind) && target.as_object().is_some_and(|target| *target == changed);
    let tells = TELL.contains(&changed.kind) || choreo_engine::binding::KINDS.contains(&changed.kind);
    is_new && is_record || told && tells
}

/// The targets that an object was derived from.
fn owners(world: &World, object: &DynamicObject) -> Vec<Target> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let mut targets: Vec<Target> = object
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| owner.controller == Some(true))
        .filter(|owner| split_api_version(&owner.api_version).0 == labels::GROUP)
        .filter_map(|owner| {
            let namespace = if owner.kind == Kind::Organization.as_str() {
                ""
            } else {
                &namespace
            };
            engine_ref(&ObjectRef::new(
                labels::GROUP,
                &owner.kind,
                namespace,
                &owner.name,
            ))
            .map(Target::Object)
        })
        .collect();
    if let Some(reference) = engine_ref(&ObjectRef::of(object)).filter(|object| object.kind == Kind::Release)
        && let Some(release) = world.get::<Release>(&reference.key.namespace, &reference.key.name)
        && release.spec.owner.component_name.is_none()
    {
        targets.push(Target::Cell {
            namespace,
            project: release.spec.owner.project_name.clone(),
            environment: release.spec.environment_name.clone(),
        });
    }
    targets
}
