//! A revision: whether it is the one that runs, and how far it has come.

use choreo_api::{
    conditions::{Condition, reasons, types},
    names,
    v1alpha1::{Deployment, DeploymentPhase, Release},
};
use serde_json::json;

use super::status;
use crate::{
    plan::Plan,
    world::{ObjectRef, World},
};

pub(super) fn plan(world: &World, reference: &ObjectRef, deployment: &Deployment) -> Plan {
    let Some(binding) = &deployment.spec.binding_ref else {
        return Plan::default();
    };
    let release_name = names::release(&binding.name);
    let release = world.get::<Release>(&reference.key.namespace, &release_name);
    let current = release.filter(|r| r.spec.deployment_ref.as_deref() == Some(reference.key.name.as_str()));
    let (phase, ready) = match current {
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
    Plan {
        status: Some(status),
        ..Plan::default()
    }
}
