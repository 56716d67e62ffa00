//! Component types, traits and resource types: every mistake in them, found when they are written.

use choreo_api::v1alpha1::{ComponentType, ResourceType, Trait};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::summary;
use crate::{
    blueprint,
    plan::Plan,
    problem::Problems,
    world::{Kind, ObjectRef, World},
};

pub(super) fn component_type(world: &World, reference: &ObjectRef, type_: &ComponentType) -> Plan {
    let problems = blueprint::component_type(&type_.spec);
    checked(world, reference, &type_.metadata, problems, Kind::Component)
}

pub(super) fn trait_(world: &World, reference: &ObjectRef, trait_: &Trait) -> Plan {
    let problems = blueprint::trait_(&trait_.spec);
    checked(world, reference, &trait_.metadata, problems, Kind::Component)
}

pub(super) fn resource_type(world: &World, reference: &ObjectRef, type_: &ResourceType) -> Plan {
    let problems = blueprint::resource_type(&type_.spec);
    checked(world, reference, &type_.metadata, problems, Kind::ManagedResource)
}

fn checked(world: &World, reference: &ObjectRef, meta: &ObjectMeta, problems: Problems, users: Kind) -> Plan {
    let mut status = summary(meta, &problems, "can be used");
    // Whoever names it finds the organization's own first, so that one of the platform may be hidden by it.
    let used_by = world
        .referrers(reference)
        .filter(|r| r.kind == users)
        .filter(|r| {
            let nearer = ObjectRef::new(reference.kind, &r.key.namespace, &reference.key.name);
            nearer == *reference || !world.contains(&nearer)
        })
        .count();
    status.fields.insert("usedBy".to_owned(), json!(used_by));
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}
