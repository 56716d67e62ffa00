//! The rules of a promotion. Each has a name, and a refusal says it.

use choreo_api::conditions::types;
use choreo_api::v1alpha1::{DeployableArtifact, DeploymentPipeline, PromotionSpec, common::ReleaseState};
use choreo_promotion::{Refusal, Text};
use kube::ResourceExt as _;

use super::{lane::binding_of, members, paths};
use crate::{binding::Binding, constraints, plans::pipeline, problem::quoted_list, world::World};

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

/// The way back leads past all demands, and therefore only to what was healthy in the environment before.
fn gone_back(world: &World, namespace: &str, spec: &PromotionSpec, artifact: &str) -> Option<Refusal> {
    let (component, target) = (&spec.owner.component_name, spec.target_environment.as_str());
    let binding = binding_of(world, namespace, component, spec.track(), target);
    let proven = binding.is_some_and(|binding| super::effective::proven(world, &binding, artifact));
    (!proven).then(|| {
        refusal(
            "RevisionNotProven",
            format!("{artifact} was never healthy in environment {target:?}: promote it instead"),
        )
    })
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
