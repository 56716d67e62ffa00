//! A revision: whether it is the one that runs, and how far it has come.

use choreo_api::{
    conditions::{Condition, reasons, types},
    names,
    v1alpha1::{
        Deployment, DeploymentPhase, Release,
        common::{ReleaseState, TypedRef},
    },
};
use kube::ResourceExt as _;
use serde_json::json;

use super::status;
use crate::{
    binding::Binding,
    plan::Plan,
    revision,
    world::{ObjectRef, World, binding_kind},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, deployment: &Deployment) -> Plan {
    let Some(binding) = &deployment.spec.binding_ref else {
        return Plan::default();
    };
    let release_name = names::release(&binding.name);
    let release = world.get::<Release>(&reference.key.namespace, &release_name);
    let current = release.filter(|r| r.spec.deployment_ref.as_deref() == Some(reference.key.name.as_str()));
    let (phase, ready) = match current {
        None if release.is_none() && awaits_release(world, reference, binding) => (
            DeploymentPhase::Progressing,
            Condition::not_ready(
                reasons::PROGRESSING,
                format!("Release {release_name:?} is being written"),
            ),
        ),
        None => (
            DeploymentPhase::Superseded,
            Condition::not_ready(
                reasons::WAITING,
                "not the revision that runs: another one took its place, or nothing is deployed",
            ),
        ),
        Some(release) => {
            let observed = release
                .status
                .as_ref()
                .filter(|s| s.observed_generation == release.metadata.generation);
            match observed.and_then(|s| s.conditions.iter().find(|c| c.type_ == types::READY)) {
                Some(c) if c.is_true() => (DeploymentPhase::Complete, Condition::ready("it is what runs")),
                Some(c) if c.reason == reasons::DEGRADED => (
                    DeploymentPhase::Failed,
                    Condition::not_ready(c.reason.clone(), c.message.clone()),
                ),
                Some(c) => (
                    DeploymentPhase::Progressing,
                    Condition::not_ready(c.reason.clone(), c.message.clone()),
                ),
                None => (
                    DeploymentPhase::Progressing,
                    Condition::not_ready(
                        reasons::PROGRESSING,
                        format!("Release {release_name:?} is being applied"),
                    ),
                ),
            }
        }
    };
    let mut status = status(&deployment.metadata, vec![ready]);
    status.fields.insert("phase".to_owned(), json!(phase));
    status.fields.insert("release".to_owned(), json!(release_name));
    // Once proven, always proven: it may be gone back to.
    let before = deployment.status.as_ref().is_some_and(|s| s.proven);
    if before || phase == DeploymentPhase::Complete {
        status.fields.insert("proven".to_owned(), json!(true));
    }
    Plan {
        status: Some(status),
        ..Plan::default()
    }
}

/// Whether a revision is the newest of a binding that wants to run, so that its release is about to be made.
fn awaits_release(world: &World, deployment: &ObjectRef, binding: &TypedRef) -> bool {
    let Some(kind) = binding_kind(&binding.kind) else {
        return false;
    };
    let binding = ObjectRef::new(kind, &deployment.key.namespace, &binding.name);
    let runs = Binding::find(world, &binding).is_some_and(|b| b.state != ReleaseState::Undeploy);
    let newest = revision::history(world, &binding).pop();
    runs && newest.is_some_and(|newest| newest.name_any() == deployment.key.name)
}
