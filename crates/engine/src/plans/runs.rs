//! The runs of a task that somebody asked for: each starts once.
//!
//! What has been started is known from two places: the binding's status, which outlives everything but the binding, and
//! the release, which the status is read from. A run that the status knows and the release does not have is over and
//! gone; it is not started again.
//!
//! When the task last ran is told by its objects' own statuses, as far as the release keeps them.

use choreo_api::{
    names,
    v1alpha1::{
        HealthStatus, Release, ReleaseResource, RunPhase, ScheduledTaskBinding, TaskRun, common::ReleaseState,
    },
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use crate::{binding::Binding, render::task, world::World};

/// The runs whose Jobs are to be in the release.
pub(super) fn wanted(world: &World, binding: &Binding) -> Vec<String> {
    let there = |run: &String| is_in_release(world, binding, run);
    let known = |run: &String| binding.known_runs.iter().any(|r| r.id == *run);
    binding
        .runs
        .iter()
        .filter(|run| there(run) || binding.state == ReleaseState::Active && !known(run))
        .cloned()
        .collect()
}

/// How many runs are remembered whose names were taken away.
const REMEMBERED: usize = 64;

/// What is known of each run: first of those whose names were taken away, so that they do not start again.
pub(super) fn observed(world: &World, binding: &Binding) -> Vec<TaskRun> {
    let release = release(world, binding);
    let mut runs: Vec<TaskRun> = binding
        .known_runs
        .iter()
        .filter(|known| !binding.runs.contains(&known.id))
        .cloned()
        .map(|mut gone| {
            if matches!(gone.phase, RunPhase::Pending | RunPhase::Running) {
                gone.phase = RunPhase::Failed;
                gone.message = Some("its name was taken away before the run had ended".to_owned());
            }
            gone
        })
        .collect();
    runs.drain(..runs.len().saturating_sub(REMEMBERED));
    for id in &binding.runs {
        let known = binding.known_runs.iter().find(|r| r.id == *id);
        let job = task::job_name(&binding.owner.component_name, &binding.track, id);
        let resource = release
            .and_then(|r| r.status.as_ref())
            .and_then(|s| s.resources.iter().find(|r| r.kind == "Job" && r.name == job));
        let fresh = resource.map(|r| match r.health_status {
            HealthStatus::Healthy => (RunPhase::Succeeded, None),
            HealthStatus::Degraded => (RunPhase::Failed, r.message.clone()),
            HealthStatus::Missing | HealthStatus::Unknown => (RunPhase::Pending, r.message.clone()),
            HealthStatus::Progressing | HealthStatus::Suspended => (RunPhase::Running, None),
        });
        let (phase, message) = match (fresh, known) {
            // What has ended stays so.
            (_, Some(known)) if matches!(known.phase, RunPhase::Succeeded | RunPhase::Failed) => {
                (known.phase, known.message.clone())
            }
            (Some(fresh), _) => fresh,
            (None, Some(known)) if is_in_release(world, binding, id) => (known.phase, known.message.clone()),
            (None, Some(_)) => (
                RunPhase::Failed,
                Some("the task was undeployed before the run had ended".to_owned()),
            ),
            // Not started, and nothing says that it will be before the task is active again.
            (None, None) if !is_in_release(world, binding, id) => continue,
            (None, None) => (RunPhase::Pending, None),
        };
        runs.push(TaskRun {
            id: id.clone(),
            job,
            phase,
            message,
        });
    }
    runs
}

/// When the task last ran, and when it last ran with success: of all that the release knows, and what was known before.
pub(super) fn times(world: &World, binding: &Binding) -> (Option<Time>, Option<Time>) {
    let known = world.get::<ScheduledTaskBinding>(binding.namespace(), binding.name());
    let known = known.and_then(|binding| binding.status.as_ref());
    let (mut ran, mut succeeded) = known.map_or((None, None), |status| {
        (status.last_run_time.clone(), status.last_success_time.clone())
    });
    let resources = release(world, binding).and_then(|release| release.status.as_ref());
    for resource in resources.iter().flat_map(|status| &status.resources) {
        let time = |field: &str| -> Option<Time> {
            let text = resource.status.as_ref()?.get(field)?.as_str()?;
            text.parse().ok().map(Time)
        };
        for field in ["lastScheduleTime", "startTime"] {
            ran = ran.max(time(field));
        }
        for field in ["lastSuccessfulTime", "completionTime"] {
            succeeded = succeeded.max(time(field));
        }
    }
    (ran, succeeded)
}

fn release<'a>(world: &'a World, binding: &Binding) -> Option<&'a Release> {
    world
        .get::<Release>(binding.namespace(), &names::release(binding.name()))
        .map(AsRef::as_ref)
        .filter(|r| r.metadata.deletion_timestamp.is_none())
}

fn is_in_release(world: &World, binding: &Binding, run: &str) -> bool {
    let job = task::job_name(&binding.owner.component_name, &binding.track, run);
    let text = |object: &Value, pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    release(world, binding).is_some_and(|r| {
        let is_run = |r: &ReleaseResource| {
            text(&r.object, "/kind") == "Job" && text(&r.object, "/metadata/name") == job
        };
        r.spec.resources.open().is_ok_and(|all| all.iter().any(is_run))
    })
}
