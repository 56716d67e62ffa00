//! The plan of each kind of target. One module per kind; [`of`] picks it.

use choreo_api::conditions::{Condition, reasons, types};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Map;

use crate::{
    plan::{Adoption, Plan, Status},
    problem::Problems,
    world::{AnyObject, ObjectRef, World},
};

pub(crate) mod binding;
mod blueprint;
pub(crate) mod cell;
mod class;
mod component;
mod configuration_group;
mod data_plane;
mod deployment;
mod endpoint;
mod environment;
pub(crate) mod managed_resource;
mod organization;
pub mod pipeline;
pub(crate) mod project;
mod runs;

pub(crate) fn of(world: &World, reference: &ObjectRef, object: &AnyObject) -> Plan {
    match object {
        AnyObject::Organization(o) => organization::plan(o),
        AnyObject::DataPlane(o) => data_plane::plan(o),
        AnyObject::Environment(o) => environment::plan(world, reference, o),
        AnyObject::DeploymentPipeline(o) => pipeline::plan(world, reference, o),
        AnyObject::ConfigurationGroup(o) => configuration_group::plan(world, reference, o),
        AnyObject::ServiceClass(o) => class::service(o),
        AnyObject::WebApplicationClass(o) => class::web_application(o),
        AnyObject::ScheduledTaskClass(o) => class::scheduled_task(o),
        AnyObject::APIClass(o) => class::api(o),
        AnyObject::ComponentType(o) => blueprint::component_type(world, reference, o),
        AnyObject::Trait(o) => blueprint::trait_(world, reference, o),
        AnyObject::ResourceType(o) => blueprint::resource_type(world, reference, o),
        AnyObject::ManagedResource(o) => managed_resource::plan(world, reference, o),
        AnyObject::Project(o) => project::plan(world, reference, o),
        AnyObject::Component(o) => component::plan(world, reference, o),
        AnyObject::ServiceBinding(_)
        | AnyObject::WebApplicationBinding(_)
        | AnyObject::ScheduledTaskBinding(_)
        | AnyObject::APIBinding(_)
        | AnyObject::ComponentBinding(_) => binding::plan(world, object),
        AnyObject::Endpoint(o) => endpoint::plan(world, reference, o),
        AnyObject::Deployment(o) => deployment::plan(world, reference, o),
        // Plain inputs: they are read by the plans of others and have no status of their own to compute.
        AnyObject::DeploymentTrack(_)
        | AnyObject::Workload(_)
        | AnyObject::Service(_)
        | AnyObject::WebApplication(_)
        | AnyObject::ScheduledTask(_)
        | AnyObject::API(_)
        | AnyObject::Build(_)
        | AnyObject::DeployableArtifact(_)
        | AnyObject::Promotion(_)
        | AnyObject::PromotionDecision(_)
        | AnyObject::PromotionBypass(_)
        | AnyObject::Release(_) => Plan::default(),
    }
}

/// What a binding would be rendered to, whatever promotions say.
pub(crate) fn rendered_objects(
    world: &World,
    binding: &crate::binding::Binding,
) -> Result<Vec<choreo_api::v1alpha1::ReleaseResource>, Problems> {
    binding::objects(world, binding)
}

/// Where the new revision of a component can be looked at while it runs beside the old one.
pub(crate) fn preview_addresses(world: &World, binding: &crate::binding::Binding) -> Vec<String> {
    binding::preview_addresses(world, binding)
}

/// A status with `Ready` as its only condition: false with the problems, or true with a message.
fn summary(meta: &ObjectMeta, problems: &Problems, ready: impl Into<String>) -> Status {
    let condition = problems.condition().unwrap_or_else(|| Condition::ready(ready));
    status(meta, vec![condition])
}

fn status(meta: &ObjectMeta, conditions: Vec<Condition>) -> Status {
    let generation = meta.generation;
    let conditions = conditions.into_iter().map(|c| c.observed(generation)).collect();
    Status {
        conditions,
        fields: Map::new(),
        observed_generation: generation,
    }
}

/// The condition of a step that must work out before the next: true, or false with the problems.
fn step(type_: &str, problems: &Problems, reason: &str, message: &str) -> Condition {
    match problems.condition() {
        Some(c) => Condition::new(type_, false, c.reason, c.message),
        None => Condition::new(type_, true, reason, message),
    }
}

/// Whether all declared restrictions are enforced.
fn policies(unenforced: &[String]) -> Condition {
    if unenforced.is_empty() {
        return Condition::new(
            types::POLICIES_ENFORCED,
            true,
            reasons::READY,
            "every declared restriction is enforced",
        );
    }
    let message = format!("not enforced by this data plane: {}", unenforced.join("; "));
    Condition::new(types::POLICIES_ENFORCED, false, reasons::NOT_EXPRESSIBLE, message)
}

/// The adoption of an object by its owner, when both exist and it has not happened yet.
fn adoption(world: &World, object: &ObjectRef, owner: &ObjectRef) -> Option<Adoption> {
    let (child, parent) = (world.get_any(object)?, world.get_any(owner)?);
    if child.meta().deletion_timestamp.is_some() || parent.meta().deletion_timestamp.is_some() {
        return None;
    }
    let done = is_owned(child.meta(), owner, parent.meta().uid.as_deref(), false);
    (!done).then(|| Adoption {
        object: object.clone(),
        owner: owner.clone(),
    })
}

/// Whether an object has this owner; a known uid must match.
fn is_owned(meta: &ObjectMeta, owner: &ObjectRef, uid: Option<&str>, controller: bool) -> bool {
    meta.owner_references.iter().flatten().any(|r| {
        r.kind == owner.kind.as_str()
            && r.name == owner.key.name
            && uid.is_none_or(|uid| r.uid == uid)
            && (!controller || r.controller == Some(true))
    })
}

/// Those of some objects that belong to an owner as their controller: the only ones that its plan may prune.
fn controlled_by<'a>(
    world: &'a World,
    candidates: impl IntoIterator<Item = ObjectRef> + 'a,
    owner: &'a ObjectRef,
) -> impl Iterator<Item = ObjectRef> + 'a {
    let uid = world.get_any(owner).and_then(|o| o.meta().uid.clone());
    candidates.into_iter().filter(move |r| {
        world.get_any(r).is_some_and(|o| {
            o.meta().deletion_timestamp.is_none() && is_owned(o.meta(), owner, uid.as_deref(), true)
        })
    })
}
