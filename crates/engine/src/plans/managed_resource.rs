//! A managed resource: whether its type takes it, and how it fares in the environments that use it.

use std::collections::BTreeSet;

use choreo_api::{
    conditions::{Condition, reasons, types},
    labels, names,
    v1alpha1::{ManagedResource, Release},
};
use serde_json::json;

use super::status;
use crate::{
    place::Place,
    plan::Plan,
    problem::Problems,
    resolve::managed,
    world::{Kind, ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, resource: &ManagedResource) -> Plan {
    let namespace = &reference.key.namespace;
    let name = &reference.key.name;
    let mut problems = Problems::new();
    let mut waiting = Vec::new();
    let mut environments = BTreeSet::new();
    for (project, environment) in cells(world, reference) {
        environments.insert(environment.clone());
        // Where a cell cannot be, its project or environment says why.
        let Ok(place) = Place::find(world, namespace, &project, &environment) else {
            continue;
        };
        if problems
            .take(managed::resolve(world, &place, name, Some(&resource.spec.type_)))
            .is_none()
        {
            continue;
        }
        let release = names::resource_release(&project, &environment, name);
        let ready = world.get::<Release>(namespace, &release).and_then(|r| {
            let status = r.status.as_ref()?;
            status.conditions.iter().find(|c| c.type_ == types::READY)
        });
        match ready {
            Some(ready) if ready.is_true() => {}
            Some(ready) => waiting.push(format!("{project} in {environment}: {}", ready.message)),
            None => waiting.push(format!("{project} in {environment}: it is being made")),
        }
    }
    if environments.is_empty() {
        problems.extend(managed::type_missing(
            world,
            namespace,
            name,
            &resource.spec.type_,
        ));
    }
    let ready = problems.condition().unwrap_or_else(|| {
        if !waiting.is_empty() {
            Condition::not_ready(reasons::PROGRESSING, waiting.join("; "))
        } else if environments.is_empty() {
            Condition::ready("can be used; nothing does yet")
        } else {
            let names: Vec<&str> = environments.iter().map(String::as_str).collect();
            Condition::ready(format!("ready in {}", names.join(", ")))
        }
    });
    let mut status = status(&resource.metadata, vec![ready]);
    if !environments.is_empty() {
        status
            .fields
            .insert("environments".to_owned(), json!(environments));
    }
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

/// The cells that a resource has a release in.
fn cells(world: &World, resource: &ObjectRef) -> BTreeSet<(String, String)> {
    let namespace = &resource.key.namespace;
    let releases = world.resource_releases(namespace).filter(|release| {
        let labels = release.metadata.labels.as_ref();
        labels.and_then(|l| l.get(labels::MANAGED_RESOURCE)) == Some(&labels::label_value(&resource.key.name))
            && release.metadata.deletion_timestamp.is_none()
    });
    releases
        .map(|r| (r.spec.owner.project_name.clone(), r.spec.environment_name.clone()))
        .collect()
}

/// The managed resource that a release is of.
pub(crate) fn of_release(release: &Release) -> Option<ObjectRef> {
    let name = release.metadata.labels.as_ref()?.get(labels::MANAGED_RESOURCE)?;
    let namespace = release.metadata.namespace.clone().unwrap_or_default();
    Some(ObjectRef::new(Kind::ManagedResource, namespace, name))
}
