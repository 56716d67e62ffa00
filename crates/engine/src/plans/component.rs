//! A component: freezes its current state and hands it to the pipeline's first environment.

use std::collections::BTreeSet;

use choreo_api::{
    conditions::{Condition, reasons, types},
    labels::Labels,
    names,
    v1alpha1::{
        Component, ComponentEnvironmentStatus, DeployableArtifact, DeploymentPipeline, Project, Workload,
        common::ReleaseState,
    },
};
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::{adoption, controlled_by, pipeline, status, step};
use crate::{
    binding::Binding,
    build::BUILT_BY,
    freeze::{self, Frozen},
    plan::{Child, Plan, Status},
    problem::{Problem, Problems},
    world::{Kind, ObjectRef, World, is_default_track},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, component: &Component) -> Plan {
    let namespace = &reference.key.namespace;
    let project_name = &component.spec.owner.project_name;
    let outcome = freeze::component(world, component);
    let mut problems = Problems::new();
    let mut plan = Plan::default();

    let project = ObjectRef::new(Kind::Project, namespace, project_name);
    plan.adopt.extend(adoption(world, reference, &project));
    plan.adopt.extend(
        outcome
            .parts
            .iter()
            .filter_map(|part| adoption(world, part, reference)),
    );

    // A binding that somebody wrote goes with its component, too.
    let bindings = Binding::of_component(world, namespace, &reference.key.name);
    plan.adopt.extend(
        bindings
            .iter()
            .filter_map(|b| adoption(world, &b.reference, reference)),
    );

    // So do its promotions, and what was decided about them.
    for promotion in world.referrers_of(reference, &[Kind::Promotion]) {
        plan.adopt.extend(adoption(world, promotion, reference));
        let about = world.referrers_of(promotion, &[Kind::PromotionDecision, Kind::PromotionBypass]);
        plan.adopt
            .extend(about.filter_map(|about| adoption(world, about, promotion)));
    }

    let project = world.get::<Project>(namespace, project_name);
    match project {
        None => problems.push(Problem::waiting(
            reasons::PROJECT_NOT_FOUND,
            format!(
                "Project {project_name:?} not found in namespace {namespace:?}: create it, or change spec.owner.projectName of {reference}"
            ),
        )),
        Some(p) if p.metadata.deletion_timestamp.is_some() => {
            problems.push(Problem::waiting(reasons::PROJECT_NOT_FOUND, format!("Project {project_name:?} is being deleted")));
        }
        Some(_) => {}
    }
    problems.extend(outcome.problems.clone());
    let mut order = Vec::new();
    if let Some(project) = project.filter(|p| p.metadata.deletion_timestamp.is_none()) {
        for frozen in &outcome.frozen {
            plan.children.push(artifact(reference, component, frozen));
        }
        match first_environment(world, namespace, project) {
            Err(problem) => problems.push(problem),
            Ok(pipeline) => {
                for frozen in outcome.frozen.iter().filter(|f| f.auto_deploy) {
                    match binding(world, reference, component, frozen, &pipeline.first) {
                        Ok(child) => plan.children.extend(child),
                        Err(problem) => problems.push(problem),
                    }
                }
                order = pipeline.environments;
            }
        }
    }
    plan.prune = unused_artifacts(world, reference, &outcome.frozen, &outcome.problems);
    plan.status = Some(summarize(world, component, &outcome.frozen, &problems, &order));
    plan.problems = problems;
    plan
}

fn first_environment(world: &World, namespace: &str, project: &Project) -> Result<pipeline::Order, Problem> {
    let name = &project.spec.deployment_pipeline_ref;
    let of = format!("Project {:?}", project.name_any());
    let pipeline = world.get::<DeploymentPipeline>(namespace, name).ok_or_else(|| {
        Problem::waiting(
            reasons::PIPELINE_NOT_FOUND,
            format!(
                "DeploymentPipeline {name:?} not found in namespace {namespace:?}: create it, or change spec.deploymentPipelineRef of {of}"
            ),
        )
    })?;
    pipeline::order(pipeline)
}

fn labels(namespace: &str, component: &Component, track: &str) -> Labels {
    Labels::new()
        .organization(namespace)
        .project(&component.spec.owner.project_name)
        .component(&component.name_any())
        .track(track)
}

fn artifact(reference: &ObjectRef, component: &Component, frozen: &Frozen) -> Child {
    let namespace = &reference.key.namespace;
    let track = frozen.spec.track();
    Child::new(
        reference,
        json!({
            "apiVersion": Kind::DeployableArtifact.api_version(),
            "kind": "DeployableArtifact",
            "metadata": {
                "name": frozen.name,
                "namespace": namespace,
                "labels": labels(namespace, component, track).name(&frozen.name).build(),
            },
            "spec": frozen.spec,
        }),
    )
}

/// The binding in the first environment, unless somebody looks after it by hand.
fn binding(
    world: &World,
    reference: &ObjectRef,
    component: &Component,
    frozen: &Frozen,
    environment: &str,
) -> Result<Option<Child>, Problem> {
    let namespace = &reference.key.namespace;
    let track = frozen.spec.track();
    let name = names::binding(&reference.key.name, track, environment);
    let kind = crate::binding::kind_for(&frozen.spec);
    let this = ObjectRef::new(kind, namespace, &name);
    let mut artifact = frozen.name.clone();
    for other in crate::binding::KINDS
        .into_iter()
        .map(|k| ObjectRef::new(k, namespace, &name))
    {
        let Some(existing) = Binding::find(world, &other) else {
            continue;
        };
        if other != this
            || existing.owner.component_name != reference.key.name
            || existing.environment != environment
        {
            return Err(Problem::error(
                reasons::INVALID,
                format!(
                    "{other} is in the way: it belongs to component {:?} in environment {:?}; delete it or rename the component",
                    existing.owner.component_name, existing.environment
                ),
            ));
        }
        if existing.artifact.is_none() && existing.inline.is_some() {
            return Ok(None);
        }
        if let Some(pinned) = existing.artifact.filter(|_| existing.pinned) {
            artifact = pinned;
        }
    }
    let mut spec = Map::new();
    spec.insert("owner".to_owned(), json!(frozen.spec.owner));
    if !is_default_track(track) {
        spec.insert("track".to_owned(), json!(track));
    }
    match (kind, &frozen.spec.api) {
        (Kind::APIBinding, Some(api)) => {
            spec.insert("environmentName".to_owned(), json!(environment));
            spec.insert("apiName".to_owned(), json!(frozen.typed.key.name));
            spec.insert("apiClassName".to_owned(), json!(api.api.class_name));
        }
        _ => {
            spec.insert("environment".to_owned(), json!(environment));
        }
    }
    if let Some(class) = &frozen.spec.class
        && !matches!(kind, Kind::APIBinding | Kind::ComponentBinding)
    {
        spec.insert("className".to_owned(), json!(class.name));
    }
    spec.insert("artifactRef".to_owned(), json!(artifact));
    let labels = labels(namespace, component, track)
        .environment(environment)
        .name(&name)
        .build();
    Ok(Some(Child::new(
        reference,
        json!({
            "apiVersion": kind.api_version(),
            "kind": kind.as_str(),
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": spec,
        }),
    )))
}

/// Artifacts of the component that are neither current nor used by a binding or in any history.
fn unused_artifacts(
    world: &World,
    component: &ObjectRef,
    current: &[Frozen],
    problems: &Problems,
) -> Vec<ObjectRef> {
    // What could not be frozen is not known: as long as something is in the way of a track, its artifacts stay.
    let is_known = |a: &DeployableArtifact| {
        problems.is_empty() || current.iter().any(|f| f.spec.track() == a.spec.track())
    };
    let names: BTreeSet<&str> = current.iter().map(|f| f.name.as_str()).collect();
    let candidates: Vec<ObjectRef> = world
        .referring::<DeployableArtifact>(component)
        .filter(|a| is_known(a))
        .map(|a| ObjectRef::new(Kind::DeployableArtifact, &component.key.namespace, a.name_any()))
        .filter(|r| !names.contains(r.key.name.as_str()) && world.referrers(r).next().is_none())
        .collect();
    controlled_by(world, candidates, component).collect()
}

fn summarize(
    world: &World,
    component: &Component,
    frozen: &[Frozen],
    problems: &Problems,
    order: &[String],
) -> Status {
    let namespace = component.namespace().unwrap_or_default();
    let mut bindings = Binding::of_component(world, &namespace, &component.name_any());
    let position = |b: &Binding| {
        order
            .iter()
            .position(|e| *e == b.environment)
            .unwrap_or(usize::MAX)
    };
    bindings.sort_by_key(|b| (position(b), b.environment.clone(), b.track.clone()));

    let ready = ready(&bindings, problems, frozen);
    let artifact = step(
        types::ARTIFACT_READY,
        &(if frozen.is_empty() {
            problems.clone()
        } else {
            Problems::new()
        }),
        reasons::READY,
        &frozen
            .first()
            .map(|f| format!("DeployableArtifact {:?}", f.name))
            .unwrap_or_default(),
    );
    let mut status = status(&component.metadata, vec![ready, artifact]);
    if let Some(newest) = frozen.iter().find(|f| is_default_track(f.spec.track())) {
        status
            .fields
            .insert("latestArtifact".to_owned(), json!(newest.name));
    }
    if let Some(build) = build_that_runs(world, &namespace, component) {
        status.fields.insert("latestBuild".to_owned(), json!(build));
    }
    let environments: Vec<ComponentEnvironmentStatus> = bindings.iter().map(environment_status).collect();
    if !environments.is_empty() {
        let value = serde_json::to_value(environments).unwrap_or(Value::Null);
        status.fields.insert("environments".to_owned(), value);
    }
    status
}

/// The build that wrote the component's workload: the newest one that ended well.
fn build_that_runs(world: &World, namespace: &str, component: &Component) -> Option<String> {
    let reference = ObjectRef::new(Kind::Component, namespace, component.name_any());
    world
        .referring::<Workload>(&reference)
        .filter(|workload| is_default_track(workload.spec.track()))
        .find_map(|workload| workload.annotations().get(BUILT_BY).cloned())
}

fn environment_status(binding: &Binding) -> ComponentEnvironmentStatus {
    let ready = binding.conditions.iter().find(|c| c.type_ == types::READY);
    let urls = binding
        .addresses
        .iter()
        .flat_map(|a| [&a.public, &a.organization])
        .filter_map(|access| access.as_ref()?.uri.clone())
        .collect();
    ComponentEnvironmentStatus {
        environment: binding.environment.clone(),
        track: binding.track.clone(),
        binding: Some(binding.name().to_owned()),
        artifact: binding.artifact.clone(),
        revision: binding.revision,
        ready: ready.is_some_and(Condition::is_true),
        message: ready.map(|c| c.message.clone()),
        urls,
    }
}

/// A component is ready when it could be frozen and is ready wherever it should run.
fn ready(bindings: &[Binding], problems: &Problems, frozen: &[Frozen]) -> Condition {
    if let Some(condition) = problems.condition() {
        return condition;
    }
    let wanted: Vec<&Binding> = bindings
        .iter()
        .filter(|b| b.state != ReleaseState::Undeploy)
        .collect();
    if wanted.is_empty() {
        let deploys = frozen.iter().any(|f| f.auto_deploy);
        let message = if deploys {
            "the first environment's binding is being written"
        } else if bindings.is_empty() {
            "spec.autoDeploy is false: promote the artifact, or write a binding, to deploy it"
        } else {
            "undeployed everywhere"
        };
        let reason = if bindings.is_empty() {
            reasons::WAITING
        } else {
            reasons::UNDEPLOYED
        };
        return Condition::not_ready(reason, message);
    }
    let mut waiting = Vec::new();
    let mut reason = None;
    for binding in &wanted {
        match binding.conditions.iter().find(|c| c.type_ == types::READY) {
            Some(c) if c.is_true() => {}
            Some(c) => {
                reason.get_or_insert_with(|| c.reason.clone());
                waiting.push(format!("{}: {}", binding.environment, c.message));
            }
            None => {
                reason.get_or_insert_with(|| reasons::PROGRESSING.to_owned());
                waiting.push(format!(
                    "{}: {} is being worked on",
                    binding.environment, binding.reference
                ));
            }
        }
    }
    match reason {
        Some(reason) => Condition::not_ready(reason, waiting.join("; ")),
        None => {
            let names: Vec<&str> = wanted.iter().map(|b| b.environment.as_str()).collect();
            Condition::ready(format!("ready in {}", names.join(", ")))
        }
    }
}
