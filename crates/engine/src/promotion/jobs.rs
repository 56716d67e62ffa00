//! Gates that are containers: a Job in a cell, carried there and watched by a Release of its own.

use choreo_api::labels::{self, annotations};
use choreo_api::names;
use choreo_api::v1alpha1::{Gate, GateCell, HealthStatus, JobGate, Promotion, Release};
use choreo_promotion::{Check, Finding};
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::{GATE_OF, paths, policy};
use crate::{
    place::Place,
    plan::Child,
    problem::Problems,
    render,
    world::{Kind, ObjectRef, World},
};

/// The gate that a check is of.
pub fn gate_for(
    world: &World,
    namespace: &str,
    promotion: &Promotion,
    name: &str,
    round: u32,
) -> Option<Gate> {
    let way = paths::way_of(world, namespace, &promotion.spec)?;
    if round == 0 {
        policy::gate_of(way.target, name).cloned()
    } else {
        policy::analysis_of(way.target, name).cloned()
    }
}

fn name_of(promotion: &str, gate: &str, round: u32, attempt: u32) -> String {
    let (round, attempt) = (round.to_string(), attempt.to_string());
    names::k8s_name(names::LABEL_LIMIT, &[promotion, gate, &round, &attempt]).replace('.', "-")
}

/// Where to read more of a check that is a Job.
pub fn log_of(promotion: &str, gate: &str, round: u32, attempt: u32) -> String {
    format!("release/{}", name_of(promotion, gate, round, attempt))
}

/// The release of an attempt's Job; none if the gate is no Job.
///
/// # Errors
/// Why there is no cell to run it in.
pub fn gate_release(
    world: &World,
    promotion: &Promotion,
    gate: &str,
    round: u32,
    attempt: u32,
) -> Option<Result<Child, Problems>> {
    let namespace = promotion.namespace().unwrap_or_default();
    let found = gate_for(world, &namespace, promotion, gate, round)?;
    let job = found.job.as_ref()?;
    let spec = &promotion.spec;
    let environment = match job.cell {
        GateCell::Source => paths::way_of(world, &namespace, spec)?.source,
        GateCell::Target => &spec.target_environment,
    };
    let place = match Place::find(world, &namespace, &spec.owner.project_name, environment) {
        Ok(place) => place,
        Err(problems) => return Some(Err(problems)),
    };
    let name = name_of(&promotion.name_any(), gate, round, attempt);
    let of = labels::Labels::new()
        .organization(&namespace)
        .project(&spec.owner.project_name)
        .component(&spec.owner.component_name)
        .environment(environment)
        .name(&name)
        .with(GATE_OF, &promotion.name_any());
    let object = object(&place, &name, job, &found, &of, promotion);
    let owner = ObjectRef::new(Kind::Promotion, &namespace, promotion.name_any());
    Some(Ok(Child::new(
        &owner,
        json!({
            "apiVersion": Kind::Release.api_version(),
            "kind": "Release",
            "metadata": {"name": name, "namespace": namespace, "labels": of.build()},
            "spec": {
                "owner": {"projectName": spec.owner.project_name, "componentName": spec.owner.component_name},
                "environmentName": environment,
                "dataPlane": place.plane.name,
                "resources": render::sort(vec![object]),
            },
        }),
    )))
}

fn object(
    place: &Place,
    name: &str,
    job: &JobGate,
    gate: &Gate,
    of: &labels::Labels,
    promotion: &Promotion,
) -> Value {
    let labels = of
        .clone()
        .app(name, &place.project)
        .with(labels::RELEASE, name)
        .build();
    let seconds = gate
        .timeout
        .as_deref()
        .map_or(300, |t| policy::milliseconds(t) / 1000)
        .max(1);
    let mut container = json!({
        "name": "gate",
        "image": job.image,
        "env": [
            {"name": "CHOREO_PROMOTION", "value": promotion.name_any()},
            {"name": "CHOREO_COMPONENT", "value": promotion.spec.owner.component_name},
            {"name": "CHOREO_TARGET_ENVIRONMENT", "value": promotion.spec.target_environment},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        },
    });
    for (field, values) in [("command", &job.command), ("args", &job.args)] {
        if !values.is_empty() {
            container[field] = json!(values);
        }
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": place.namespace,
            "labels": labels,
            "annotations": {
                annotations::APPLY: "once",
                annotations::DECLARED_BY: format!("gate {} of the way to {}", gate.name, promotion.spec.target_environment),
            },
        },
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": seconds,
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "restartPolicy": "Never",
                    "automountServiceAccountToken": false,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "containers": [container],
                },
            },
        },
    })
}

/// What became of a check's Job, if it is one and has ended.
pub(super) fn report(
    world: &World,
    namespace: &str,
    promotion: &Promotion,
    check: &Check,
) -> Option<(Finding, String)> {
    let name = name_of(&promotion.name_any(), &check.name, check.round, check.attempt);
    let release = world.get::<Release>(namespace, &name)?;
    let status = release.status.as_ref()?;
    let job = status.resources.iter().find(|r| r.kind == "Job")?;
    let message = job.message.clone().unwrap_or_default();
    match job.health_status {
        HealthStatus::Healthy => Some((Finding::Passed, "the job is complete".to_owned())),
        HealthStatus::Degraded => Some((Finding::Failed, format!("the job failed: {message}"))),
        _ => None,
    }
}
