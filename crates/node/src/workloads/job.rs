//! Job: Pods until enough of them have succeeded.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    core::v1::{EnvVar, Pod},
};

use super::pods::{annotation, deletion_order, from_template, is_active, is_deleting, is_ready, phase, set};
use crate::core::{Action, Context, Name, Result, now, owner_reference};

const COMPONENT: &str = "job-controller";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// First and longest wait before a failed Pod is replaced.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(360));

/// The Pods of a Job, counted.
struct Counts {
    active: Vec<Arc<Pod>>,
    succeeded: i32,
    failed: i32,
    ready: i32,
    terminating: i32,
    indexes: BTreeSet<i32>,
    restarts: i32,
    last_failure: Option<Timestamp>,
}

impl Counts {
    fn of(pods: &[Arc<Pod>]) -> Self {
        let is = |wanted: &'static str| move |pod: &&Arc<Pod>| phase(pod) == wanted;
        let restarts = |pod: &Arc<Pod>| {
            let containers = pod
                .status
                .iter()
                .filter_map(|status| status.container_statuses.as_ref())
                .flatten();
            containers.map(|container| container.restart_count).sum::<i32>()
        };
        let active: Vec<_> = pods.iter().filter(|pod| is_active(pod)).cloned().collect();
        Self {
            succeeded: pods.iter().filter(is("Succeeded")).count() as i32,
            failed: pods.iter().filter(is("Failed")).count() as i32,
            ready: active.iter().filter(|pod| is_ready(pod)).count() as i32,
            terminating: pods.iter().filter(|pod| is_deleting(pod)).count() as i32,
            indexes: pods
                .iter()
                .filter(is("Succeeded"))
                .filter_map(|pod| annotation(&pod.metadata, INDEX))
                .collect(),
            restarts: active.iter().map(restarts).sum(),
            last_failure: pods
                .iter()
                .filter(is("Failed"))
                .filter_map(|pod| finished_at(pod))
                .max(),
            active,
        }
    }
}

fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref()?;
    containers
        .iter()
        .filter_map(|container| {
            Some(
                container
                    .state
                    .as_ref()?
                    .terminated
                    .as_ref()?
                    .finished_at
                    .as_ref()?
                    .0,
            )
        })
        .max()
}

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(job) = context.world.jobs.get(name) else {
        return Ok(Action::Wait);
    };
    let (Some(spec), Some(uid)) = (&job.spec, job.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    if job.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    if let Some(finished) = finished(&job) {
        return expire(context, &job, spec, finished).await;
    }
    let mut status = job.status.clone().unwrap_or_default();
    let suspended = spec.suspend == Some(true);
    let mut action = Action::Wait;
    suspend_condition(&mut status, suspended);
    if suspended {
        status.start_time = None;
    } else if status.start_time.is_none() {
        status.start_time = Some(now());
    }

    let counts = Counts::of(&context.world.pods.controlled_by(&name.namespace, uid));
    let end = if suspended {
        None
    } else {
        end(spec, &status, &counts, &mut action)
    };
    if suspended || end.is_some() {
        for pod in &counts.active {
            context.delete(&**pod, None).await?;
        }
    } else {
        action = action.or(start_pods(context, &job, spec, &counts).await?);
    }
    let counts = Counts::of(&context.world.pods.controlled_by(&name.namespace, uid));
    let count = |count: i32| (count > 0).then_some(count);
    status.active = count(counts.active.len() as i32);
    status.succeeded = count(counts.succeeded);
    status.failed = count(counts.failed);
    status.ready = Some(counts.ready);
    status.terminating = Some(counts.terminating);
    if is_indexed(spec) {
        status.completed_indexes = Some(ranges(&counts.indexes)).filter(|text| !text.is_empty());
    }
    if let Some(end) = &end {
        status.active = None;
        status.ready = Some(0);
        let (kinds, event) = match end {
            End::Complete => (["SuccessCriteriaMet", "Complete"], "Completed"),
            End::Failed(reason, _) => (["FailureTarget", "Failed"], *reason),
        };
        let (reason, message) = match end {
            End::Complete => (
                "CompletionsReached",
                "Reached expected number of succeeded pods".to_owned(),
            ),
            End::Failed(reason, message) => (*reason, message.clone()),
        };
        for kind in kinds {
            condition(&mut status, kind, "True", reason, &message);
        }
        match end {
            End::Complete => {
                status.completion_time = Some(now());
                context
                    .recorder
                    .normal(&*job, COMPONENT, event, "Job completed".into());
            }
            End::Failed(..) => context.recorder.warning(&*job, COMPONENT, event, message),
        }
    }
    if job.status.as_ref() != Some(&status) {
        let mut changed = (*job).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(action)
}

/// How a Job ends.
enum End {
    Complete,
    /// Reason and message.
    Failed(&'static str, String),
}

fn end(spec: &JobSpec, status: &JobStatus, counts: &Counts, action: &mut Action) -> Option<End> {
    let limit = spec.backoff_limit.unwrap_or(6);
    let on_failure = spec
        .template
        .spec
        .as_ref()
        .and_then(|pod| pod.restart_policy.as_deref())
        == Some("OnFailure");
    let too_many_restarts = on_failure
        && (if limit == 0 {
            counts.restarts > 0
        } else {
            counts.restarts >= limit
        });
    if counts.failed > limit || too_many_restarts {
        return Some(End::Failed(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit".into(),
        ));
    }
    if let (Some(deadline), Some(start)) = (spec.active_deadline_seconds, &status.start_time) {
        let passed = Duration::try_from(start.0.duration_until(Timestamp::now())).unwrap_or_default();
        let deadline = Duration::from_secs(deadline.max(0) as u64);
        if passed >= deadline {
            return Some(End::Failed(
                "DeadlineExceeded",
                "Job was active longer than specified deadline".into(),
            ));
        }
        *action = action.or(Action::After(deadline - passed));
    }
    let done = match spec.completions {
        Some(completions) if is_indexed(spec) => counts.indexes.len() as i32 >= completions,
        Some(completions) => counts.succeeded >= completions,
        // A work queue: one success means that no more is to be done.
        None => counts.succeeded > 0 && counts.active.is_empty(),
    };
    done.then_some(End::Complete)
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

/// Makes the Pods that are missing, or deletes those that are too many.
async fn start_pods(context: &Context, job: &Job, spec: &JobSpec, counts: &Counts) -> Result<Action> {
    let parallelism = spec.parallelism.unwrap_or(1).max(0);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min((completions - counts.succeeded).max(0)),
        None if counts.succeeded > 0 => counts.active.len() as i32,
        None => parallelism,
    };
    let active = counts.active.len() as i32;
    if active > wanted {
        let mut surplus = counts.active.clone();
        surplus.sort_by_cached_key(|pod| deletion_order(pod));
        for pod in &surplus[..(active - wanted) as usize] {
            context.delete(&**pod, None).await?;
        }
        return Ok(Action::Wait);
    }
    if active == wanted {
        return Ok(Action::Wait);
    }
    if let Some(last) = counts.last_failure {
        let exponent = (counts.failed - 1).clamp(0, 16) as u32;
        let wait = BACKOFF.0.saturating_mul(1 << exponent).min(BACKOFF.1);
        let passed = Duration::try_from(last.duration_until(Timestamp::now())).unwrap_or_default();
        if passed < wait {
            return Ok(Action::After(wait - passed));
        }
    }
    let busy: BTreeSet<i32> = counts
        .active
        .iter()
        .filter_map(|pod| annotation(&pod.metadata, INDEX))
        .collect();
    let mut indexes = (0..).filter(|index| !busy.contains(index) && !counts.indexes.contains(index));
    for _ in active..wanted {
        let index = if is_indexed(spec) { indexes.next() } else { None };
        let created = context.create(&pod(job, spec, index)).await?;
        let message = format!(
            "Created pod: {}",
            created.metadata.name.as_deref().unwrap_or_default()
        );
        context
            .recorder
            .normal(job, COMPONENT, "SuccessfulCreate", message);
    }
    Ok(Action::Wait)
}

fn pod(job: &Job, spec: &JobSpec, index: Option<i32>) -> Pod {
    let (namespace, name) = (
        job.metadata.namespace.as_deref().unwrap_or_default(),
        job.metadata.name.as_deref().unwrap_or_default(),
    );
    let uid = job.metadata.uid.as_deref().unwrap_or_default();
    let mut pod = from_template(&spec.template, namespace, owner_reference(job));
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
        ("controller-uid", uid),
        ("job-name", name),
    ] {
        set(&mut pod.metadata.labels, key, value);
    }
    pod.metadata.generate_name = Some(format!("{name}-"));
    if let Some(index) = index {
        pod.metadata.generate_name = Some(format!("{name}-{index}-"));
        set(&mut pod.metadata.annotations, INDEX, index.to_string());
        set(&mut pod.metadata.labels, INDEX, index.to_string());
        let containers = pod.spec.iter_mut().flat_map(|spec| &mut spec.containers);
        for container in containers {
            let variable = EnvVar {
                name: "JOB_COMPLETION_INDEX".into(),
                value: Some(index.to_string()),
                value_from: None,
            };
            container.env.get_or_insert_default().push(variable);
        }
    }
    pod
}

/// `0-2,5`
fn ranges(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let run = |(first, last): (i32, i32)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    runs.into_iter().map(run).collect::<Vec<_>>().join(",")
}

/// When the Job ended, if it has.
pub(super) fn finished(job: &Job) -> Option<Timestamp> {
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let ended = conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Complete" | "Failed") && condition.status == "True"
    })?;
    Some(
        ended
            .last_transition_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

pub(super) fn succeeded(job: &Job) -> bool {
    let conditions = job
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|condition| condition.type_ == "Complete" && condition.status == "True")
}

async fn expire(context: &Context, job: &Job, spec: &JobSpec, finished: Timestamp) -> Result<Action> {
    let Some(seconds) = spec.ttl_seconds_after_finished else {
        return Ok(Action::Wait);
    };
    let lifetime = Duration::from_secs(seconds.max(0) as u64);
    let passed = Duration::try_from(finished.duration_until(Timestamp::now())).unwrap_or_default();
    if passed < lifetime {
        return Ok(Action::After(lifetime - passed));
    }
    context.delete(job, None).await?;
    Ok(Action::Wait)
}

fn suspend_condition(status: &mut JobStatus, suspended: bool) {
    let known = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Suspended");
    if suspended {
        condition(status, "Suspended", "True", "JobSuspended", "Job suspended");
    } else if known {
        condition(status, "Suspended", "False", "JobResumed", "Job resumed");
    }
}

fn condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str) {
    let conditions = status.conditions.get_or_insert_default();
    if conditions
        .iter()
        .any(|known| known.type_ == kind && known.status == value)
    {
        return;
    }
    conditions.retain(|known| known.type_ != kind);
    conditions.push(JobCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_probe_time: Some(now()),
        last_transition_time: Some(now()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completed_indexes_are_written_as_ranges() {
        assert_eq!(ranges(&BTreeSet::from([0, 1, 2, 5, 7, 8])), "0-2,5,7-8");
        assert_eq!(ranges(&BTreeSet::new()), "");
    }
}
