//! A deployment pipeline: the environments in order, and the first of them.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::{
    conditions::reasons,
    v1alpha1::{DeploymentPipeline, Environment},
};
use kube::ResourceExt as _;
use serde_json::json;

use super::summary;
use crate::{
    plan::Plan,
    problem::{Problem, Problems, quoted_list},
    world::{ObjectRef, World},
};

/// The environments of a pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The one that no path leads to.
    pub first: String,
    /// All of them, each after those that lead to it, by name among equals.
    pub environments: Vec<String>,
}

/// Puts a pipeline's environments in order.
///
/// # Errors
/// When there is no environment, a cycle, or more than one environment that no path leads to.
pub fn order(pipeline: &DeploymentPipeline) -> Result<Order, Problem> {
    let of = format!("DeploymentPipeline {:?} spec.promotionPaths", pipeline.name_any());
    let mut incoming: BTreeMap<&str, usize> = BTreeMap::new();
    let mut outgoing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for path in &pipeline.spec.promotion_paths {
        incoming.entry(&path.source_environment_ref).or_default();
        for target in &path.target_environment_refs {
            let new = outgoing
                .entry(&path.source_environment_ref)
                .or_default()
                .insert(&target.name);
            *incoming.entry(&target.name).or_default() += usize::from(new);
        }
    }
    let firsts: Vec<&str> = incoming
        .iter()
        .filter(|(_, n)| **n == 0)
        .map(|(name, _)| *name)
        .collect();
    let mut ready: BTreeSet<&str> = firsts.iter().copied().collect();
    let mut environments = Vec::new();
    while let Some(name) = ready.pop_first() {
        environments.push(name.to_owned());
        for target in outgoing.get(name).into_iter().flatten() {
            if let Some(left) = incoming.get_mut(target) {
                *left -= 1;
                if *left == 0 {
                    ready.insert(target);
                }
            }
        }
    }
    let in_cycle: Vec<&str> = incoming
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(name, _)| *name)
        .collect();
    if !in_cycle.is_empty() {
        return Err(Problem::error(
            reasons::PIPELINE_CYCLE,
            format!(
                "{of}: the paths form a cycle; {} cannot be put in order: remove a path between them",
                quoted_list(in_cycle)
            ),
        ));
    }
    match firsts.as_slice() {
        [] => Err(Problem::error(
            reasons::INVALID,
            format!("{of}: names no environment; add a path"),
        )),
        [first] => Ok(Order {
            first: (*first).to_owned(),
            environments,
        }),
        _ => Err(Problem::error(
            reasons::INVALID,
            format!(
                "{of}: no path leads to {}, so there is no single first environment: add a path to all but one of them",
                quoted_list(firsts)
            ),
        )),
    }
}

pub(super) fn plan(world: &World, reference: &ObjectRef, pipeline: &DeploymentPipeline) -> Plan {
    let namespace = &reference.key.namespace;
    let mut problems = Problems::new();
    let order = order(pipeline);
    let paths = &pipeline.spec.promotion_paths;
    let targets = paths
        .iter()
        .flat_map(|p| p.target_environment_refs.iter().map(|t| &t.name));
    let named: BTreeSet<&String> = paths
        .iter()
        .map(|p| &p.source_environment_ref)
        .chain(targets)
        .collect();
    for name in named {
        if world.get::<Environment>(namespace, name).is_none() {
            problems.push(Problem::waiting(
                reasons::ENVIRONMENT_NOT_FOUND,
                format!("Environment {name:?} not found in namespace {namespace:?}: create it, or correct spec.promotionPaths"),
            ));
        }
    }
    let order = match order {
        Ok(order) => Some(order),
        Err(problem) => {
            problems.push(problem);
            None
        }
    };
    let message = order
        .as_ref()
        .map(|o| o.environments.join(" -> "))
        .unwrap_or_default();
    let mut status = summary(&pipeline.metadata, &problems, message);
    if let Some(order) = order {
        status
            .fields
            .insert("firstEnvironment".to_owned(), json!(order.first));
        status
            .fields
            .insert("environments".to_owned(), json!(order.environments));
    }
    Plan {
        status: Some(status),
        problems,
        ..Plan::default()
    }
}
