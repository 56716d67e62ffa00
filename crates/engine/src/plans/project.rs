//! A project: its pipeline and its cells.

use std::collections::BTreeSet;

use choreo_api::{
    conditions::{Condition, reasons, types},
    names,
    v1alpha1::{CellStatus, DeploymentPipeline, Project, Release},
};
use serde_json::json;

use super::{pipeline, status};
use crate::{
    binding,
    plan::Plan,
    problem::{Problem, Problems},
    world::{Kind, ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, project: &Project) -> Plan {
    let namespace = &reference.key.namespace;
    let mut problems = Problems::new();
    let name = &project.spec.deployment_pipeline_ref;
    let order = match world.get::<DeploymentPipeline>(namespace, name) {
        None => {
            problems.push(Problem::waiting(
                reasons::PIPELINE_NOT_FOUND,
                format!("DeploymentPipeline {name:?} not found in namespace {namespace:?}: create it, or change spec.deploymentPipelineRef"),
            ));
            Vec::new()
        }
        Some(pipeline) => match pipeline::order(pipeline) {
            Ok(order) => order.environments,
            Err(problem) => {
                problems.push(problem);
                Vec::new()
            }
        },
    };
    let mut environments: Vec<String> = environments(world, reference).into_iter().collect();
    environments.sort_by_key(|e| (order.iter().position(|o| o == e).unwrap_or(usize::MAX), e.clone()));
    let mut cells = Vec::new();
    for environment in environments {
        let of_cell = super::cell::plan(world, namespace, &reference.key.name, &environment);
        problems.extend(of_cell.problems);
        let release = names::cell_release(&reference.key.name, &environment);
        cells.push(CellStatus {
            namespace: names::cell_namespace(namespace, &reference.key.name, &environment),
            ready: is_ready(world, namespace, &release),
            release: Some(release),
            environment,
        });
    }
    let components = world.referrers_of(reference, &[Kind::Component]);
    let components = components.filter(|component| world.contains(component)).count();
    let ready = problems.condition().unwrap_or_else(|| {
        let waiting: Vec<&str> = cells
            .iter()
            .filter(|c| !c.ready)
            .map(|c| c.environment.as_str())
            .collect();
        if waiting.is_empty() {
            Condition::ready(format!("{components} components, {} cells", cells.len()))
        } else {
            Condition::not_ready(
                reasons::PROGRESSING,
                format!("the cells in {} are being set up", waiting.join(", ")),
            )
        }
    });
    let mut status = status(&project.metadata, vec![ready]);
    status
        .fields
        .insert("componentCount".to_owned(), json!(components));
    if !cells.is_empty() {
        status.fields.insert("cells".to_owned(), json!(cells));
    }
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}

/// The environments in which something of a project runs.
pub(crate) fn environments(world: &World, project: &ObjectRef) -> BTreeSet<String> {
    let all = world
        .environments_of(project)
        .chain(binding::environments_through_apis(world, project));
    all.map(str::to_owned).collect()
}

fn is_ready(world: &World, namespace: &str, release: &str) -> bool {
    world
        .get_any(&ObjectRef::new(Kind::Release, namespace, release))
        .is_some()
        && world
            .get::<Release>(namespace, release)
            .and_then(|r| r.status.as_ref())
            .is_some_and(|s| {
                s.conditions
                    .iter()
                    .any(|c| c.type_ == types::READY && c.is_true())
            })
}
