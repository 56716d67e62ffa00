//! The ways into an environment, and which of them are guarded.

use choreo_api::v1alpha1::{
    DeploymentPipeline, Environment, Project, PromotionSpec, RolloutType, TargetEnvironment,
    common::ComponentOwner,
};

use crate::{plans::pipeline, world::World};

/// A way from one environment to another.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Where from.
    pub source: &'a str,
    /// Where to, and what that takes.
    pub target: &'a TargetEnvironment,
}

/// What keeps an artifact from running in an environment just because somebody writes it there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Nothing.
    None,
    /// Approvals, checks, a way of rolling out, or times in which nothing is promoted.
    Promotions,
}

/// The pipeline of a project.
pub fn pipeline_of<'a>(world: &'a World, namespace: &str, project: &str) -> Option<&'a DeploymentPipeline> {
    let project = world.get::<Project>(namespace, project)?;
    world
        .get::<DeploymentPipeline>(namespace, &project.spec.deployment_pipeline_ref)
        .map(AsRef::as_ref)
}

/// The environment that no way leads to.
pub fn first_environment(pipeline: &DeploymentPipeline) -> Option<String> {
    pipeline::order(pipeline).ok().map(|order| order.first)
}

/// All ways into an environment.
pub fn ways_into<'a>(
    pipeline: &'a DeploymentPipeline,
    environment: &'a str,
) -> impl Iterator<Item = Way<'a>> {
    pipeline.spec.promotion_paths.iter().flat_map(move |path| {
        path.target_environment_refs
            .iter()
            .filter(move |target| target.name == environment)
            .map(|target| Way {
                source: &path.source_environment_ref,
                target,
            })
    })
}

/// The way from one environment to another.
pub fn way<'a>(pipeline: &'a DeploymentPipeline, source: &str, environment: &'a str) -> Option<Way<'a>> {
    ways_into(pipeline, environment).find(|way| way.source == source)
}

/// The way that a promotion takes. The way back has no source; what it demands, if anything, is what the way there demands, and of
/// several the first.
pub fn way_of<'a>(world: &'a World, namespace: &str, spec: &'a PromotionSpec) -> Option<Way<'a>> {
    let pipeline = pipeline_of(world, namespace, &spec.owner.project_name)?;
    match &spec.source_environment {
        Some(source) => way(pipeline, source, &spec.target_environment),
        None => ways_into(pipeline, &spec.target_environment).next(),
    }
}

fn demands(target: &TargetEnvironment) -> bool {
    let steps = target
        .strategy
        .as_ref()
        .is_some_and(|s| matches!(s.type_, RolloutType::Canary | RolloutType::BlueGreen));
    target.needs_approval() || !target.gates.is_empty() || steps
}

/// Whether an environment of a pipeline is guarded. The first one never is: nothing is promoted to it.
pub fn is_guarded(pipeline: &DeploymentPipeline, environment: &str, object: Option<&Environment>) -> bool {
    let frozen = object.is_some_and(|object| !object.spec.freezes.is_empty());
    let mut ways = ways_into(pipeline, environment).peekable();
    let leads_there = ways.peek().is_some();
    leads_there && (frozen || ways.any(|way| demands(way.target)))
}

/// Whether an environment is guarded for a component of a project.
pub fn guard(world: &World, namespace: &str, owner: &ComponentOwner, environment: &str) -> Guard {
    let Some(pipeline) = pipeline_of(world, namespace, &owner.project_name) else {
        return Guard::None;
    };
    let object = world
        .get::<Environment>(namespace, environment)
        .map(AsRef::as_ref);
    if is_guarded(pipeline, environment, object) {
        Guard::Promotions
    } else {
        Guard::None
    }
}
