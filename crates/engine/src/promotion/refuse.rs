//! The rules of a promotion. Each has a name, and a refusal says it.

use choreo_api::conditions::types;
use choreo_api::v1alpha1::{
    Component, DeployableArtifact, DeploymentPipeline, PromotionSpec, RolloutType, common::ReleaseState,
};
use choreo_promotion::{Refusal, Text};
use kube::ResourceExt as _;

use super::{lane::binding_of, members, paths};
use crate::{
    binding::Binding, constraints, plans::pipeline, problem::quoted_list, render::Family, revision,
    world::World,
};

fn refusal(rule: &str, message: impl AsRef<str>) -> Refusal {
    Refusal {
        rule: Text::from(rule),
        message: Text::from(message.as_ref()),
    }
}

/// The rules that a promotion of an artifact breaks now. `artifact` is the one that it names or means; none if there is none.
pub fn refusals(
    world: &World,
    namespace: &str,
    spec: &PromotionSpec,
    artifact: Option<&str>,
) -> Vec<Refusal> {
    let (owner, target) = (&spec.owner, spec.target_environment.as_str());
    let mut all = Vec::new();
    let Some(artifact) = artifact else {
        all.push(match &spec.source_environment {
            Some(source) => refusal(
                "ArtifactNotInSource",
                format!(
                    "nothing of component {:?} is deployed to environment {source:?}",
                    owner.component_name
                ),
            ),
            None => refusal(
                "RevisionNotKept",
                format!(
                    "environment {target:?} has no such revision of component {:?} to go back to",
                    owner.component_name
                ),
            ),
        });
        return all;
    };
    match world.get::<DeployableArtifact>(namespace, artifact) {
        None => all.push(refusal(
            "ArtifactNotFound",
            format!("DeployableArtifact {artifact:?} not found in namespace {namespace:?}"),
        )),
        Some(found) => {
            if found.spec.owner.as_ref().is_some_and(|of| of != owner) {
                all.push(refusal(
                    "ArtifactOfAnother",
                    format!("DeployableArtifact {artifact:?} belongs to another component"),
                ));
            }
            all.extend(constrained(world, namespace, spec, found));
            if let Some(way) = paths::way_of(world, namespace, spec).filter(|_| !spec.is_rollback()) {
                all.extend(candidate_name_taken(world, namespace, spec, found, way));
            }
        }
    }
    let Some(pipeline) = paths::pipeline_of(world, namespace, &owner.project_name) else {
        all.push(refusal(
            "NoPipeline",
            format!(
                "project {:?}, or its deployment pipeline, does not exist",
                owner.project_name
            ),
        ));
        return all;
    };
    match &spec.source_environment {
        Some(source) => {
            all.extend(along(pipeline, source, target));
            all.extend(in_source(world, namespace, spec, source, artifact));
        }
        None => all.extend(gone_back(world, namespace, spec, artifact)),
    }
    all
}

/// The way back leads to a revision that is kept. What was healthy here before passes no gate; anything else passes all of them.
fn gone_back(world: &World, namespace: &str, spec: &PromotionSpec, artifact: &str) -> Option<Refusal> {
    let (component, target) = (&spec.owner.component_name, spec.target_environment.as_str());
    let binding = binding_of(world, namespace, component, spec.track(), target);
    let kept = binding.is_some_and(|binding| {
        let mut all = revision::history(world, &binding.reference).into_iter();
        all.any(|d| d.spec.deployment_artifact_ref.as_deref() == Some(artifact))
    });
    (!kept).then(|| {
        refusal(
            "RevisionNotKept",
            format!("no revision of environment {target:?} that is kept has {artifact}: promote it instead"),
        )
    })
}

/// While two revisions run side by side, the new one needs a name of its own.
fn candidate_name_taken(
    world: &World,
    namespace: &str,
    spec: &PromotionSpec,
    artifact: &DeployableArtifact,
    way: paths::Way<'_>,
) -> Option<Refusal> {
    let in_steps = way
        .target
        .strategy
        .as_ref()
        .is_some_and(|s| matches!(s.type_, RolloutType::Canary | RolloutType::BlueGreen));
    if !in_steps || Family::of(&artifact.spec) != Family::LongRunning {
        return None;
    }
    let component = &spec.owner.component_name;
    let name = super::candidate_name(component, spec.track());
    let other = world
        .get::<Component>(namespace, &name)
        .filter(|other| other.spec.owner.project_name == spec.owner.project_name);
    let track = super::candidate_track(spec.track());
    let beside = binding_of(world, namespace, component, &track, &spec.target_environment);
    let taken = match (other, beside) {
        (Some(_), _) => format!("component {name:?}"),
        (None, Some(_)) => format!("track {track:?}"),
        (None, None) => return None,
    };
    Some(refusal(
        "CandidateNameTaken",
        format!(
            "the new revision would be called {name:?} beside the old one, as {taken} is: rename that, or choose strategy RollingUpdate"
        ),
    ))
}

/// The rules that the pipeline alone decides: whether it leads from a source to a target.
pub(crate) fn path_refusal(world: &World, namespace: &str, spec: &PromotionSpec) -> Option<Refusal> {
    let pipeline = paths::pipeline_of(world, namespace, &spec.owner.project_name)?;
    along(
        pipeline,
        spec.source_environment.as_deref()?,
        &spec.target_environment,
    )
}

/// Whether the pipeline leads from one to the other.
fn along(pipeline: &DeploymentPipeline, source: &str, target: &str) -> Option<Refusal> {
    let name = pipeline.name_any();
    let order = match pipeline::order(pipeline) {
        Ok(order) => order,
        Err(problem) => return Some(refusal("PipelineInvalid", problem.message)),
    };
    if paths::way(pipeline, source, target).is_some() {
        return None;
    }
    let before: Vec<&str> = paths::ways_into(pipeline, target).map(|way| way.source).collect();
    let at = |environment: &str| order.environments.iter().position(|e| e == environment);
    Some(match (at(source), at(target)) {
        (Some(from), Some(to)) if from < to && !before.is_empty() => refusal(
            "EnvironmentSkipped",
            format!(
                "DeploymentPipeline {name:?} leads to {target:?} from {}, not from {source:?}: promote there first",
                quoted_list(before)
            ),
        ),
        _ => refusal(
            "NoPath",
            format!("DeploymentPipeline {name:?} has no path from {source:?} to {target:?}"),
        ),
    })
}

/// Whether the artifact runs well in the source environment, and has passed what led there.
fn in_source(
    world: &World,
    namespace: &str,
    spec: &PromotionSpec,
    source: &str,
    artifact: &str,
) -> Vec<Refusal> {
    let component = &spec.owner.component_name;
    let there = binding_of(world, namespace, component, spec.track(), source);
    let Some(binding) = there.filter(|b| b.state != ReleaseState::Undeploy) else {
        return vec![refusal(
            "ArtifactNotInSource",
            format!("component {component:?} is not deployed to environment {source:?}"),
        )];
    };
    let running = super::effective(world, &binding).stable(&binding);
    if running.as_deref() != Some(artifact) {
        return vec![refusal(
            "ArtifactNotInSource",
            format!(
                "environment {source:?} runs {}, not {artifact}",
                running.as_deref().unwrap_or("nothing")
            ),
        )];
    }
    let mut all = Vec::new();
    match binding.conditions.iter().find(|c| c.type_ == types::READY) {
        Some(ready) if ready.is_true() => {}
        Some(ready) => all.push(refusal(
            "ArtifactNotHealthy",
            format!(
                "{artifact} is not healthy in environment {source:?}: {}",
                ready.message
            ),
        )),
        None => all.push(refusal(
            "ArtifactNotHealthy",
            format!("{artifact} is not known to be healthy in environment {source:?} yet"),
        )),
    }
    let rolling = members(world, namespace, component, spec.track(), source).find(|other| {
        let status = other.status.as_ref();
        status.is_some_and(|s| {
            s.artifact.as_deref() == Some(artifact) && s.phase.is_some_and(|p| !p.is_final()) && s.released
        })
    });
    if let Some(other) = rolling {
        all.push(refusal(
            "ArtifactNotVerified",
            format!(
                "Promotion {:?} of {artifact} to environment {source:?} has not ended yet",
                other.name_any()
            ),
        ));
    }
    all
}

/// The target environment's constraints.
fn constrained(
    world: &World,
    namespace: &str,
    spec: &PromotionSpec,
    artifact: &DeployableArtifact,
) -> Vec<Refusal> {
    let Some(mut binding) = super::preview::binding_in(world, namespace, spec, artifact) else {
        return Vec::new();
    };
    binding.artifact = Some(artifact.name_any());
    let none = choreo_api::v1alpha1::WorkloadTemplate::default();
    let workload = artifact.spec.workload.as_ref().unwrap_or(&none);
    constraints::violations(world, &binding, &artifact.spec, workload)
        .into_iter()
        .map(|problem| refusal("ConstraintViolated", problem.message))
        .collect()
}

impl super::Effective {
    /// The artifact that runs as the stable one.
    pub fn stable(&self, binding: &Binding) -> Option<String> {
        match self {
            Self::AsWritten => binding.artifact.clone(),
            Self::Only { artifact, .. } => artifact.clone(),
            Self::Two(side) => Some(side.stable.clone()),
            Self::Hold(_) => None,
        }
    }
}
