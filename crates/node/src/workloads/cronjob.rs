//! CronJob: a Job whenever the schedule says so.

use std::{str::FromStr, sync::Arc, time::Duration};

use croner::Cron;
use jiff::{SignedDuration, Timestamp, Zoned, tz::TimeZone};
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobSpec, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
};

use super::job::{finished, succeeded};
use crate::core::{Action, Context, Name, Result, owner_reference};

const COMPONENT: &str = "cronjob-controller";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Missed times that are looked through; beyond, only the last of them could be of interest anyway.
const MISSED: usize = 100;

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(cron_job) = context.world.cron_jobs.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&cron_job.spec, cron_job.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    if cron_job.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    let mut jobs = context.world.jobs.controlled_by(&name.namespace, uid);
    clean_up(context, spec, &jobs).await?;

    let mut last = cron_job
        .status
        .as_ref()
        .and_then(|status| status.last_schedule_time.as_ref())
        .map(|time| time.0);
    let mut action = Action::Wait;
    if spec.suspend != Some(true) {
        match schedule(spec) {
            Ok((cron, zone)) => {
                let created = cron_job.metadata.creation_timestamp.as_ref().map(|time| time.0);
                let now = Timestamp::now();
                let (due, next) = due(
                    &cron,
                    &zone,
                    last.or(created).unwrap_or(now),
                    now,
                    spec.starting_deadline_seconds,
                );
                if let Some(due) = due
                    && let Some(job) = start(context, &cron_job, spec, &jobs, due).await?
                {
                    last = Some(due);
                    jobs.push(job);
                }
                if let Some(next) = next {
                    action = Action::After(Duration::try_from(now.duration_until(next)).unwrap_or_default());
                }
            }
            Err(message) => context
                .recorder
                .warning(&*cron_job, COMPONENT, "UnparseableSchedule", message),
        }
    }
    write_status(context, name, &jobs, last).await?;
    Ok(action)
}

fn schedule(spec: &CronJobSpec) -> std::result::Result<(Cron, TimeZone), String> {
    let cron = Cron::from_str(&spec.schedule)
        .map_err(|error| format!("unparseable schedule {:?}: {error}", spec.schedule))?;
    let zone = match spec.time_zone.as_deref() {
        None | Some("") => TimeZone::UTC,
        Some(name) => TimeZone::get(name).map_err(|error| format!("unknown time zone {name:?}: {error}"))?,
    };
    Ok((cron, zone))
}

/// The last time that is due and has not been served, and the next one after `now`.
fn due(
    cron: &Cron,
    zone: &TimeZone,
    last: Timestamp,
    now: Timestamp,
    deadline: Option<i64>,
) -> (Option<Timestamp>, Option<Timestamp>) {
    let next_after = |time: Timestamp| -> Option<Timestamp> {
        let zoned: Zoned = time.to_zoned(zone.clone());
        cron.find_next_occurrence(&zoned, false)
            .ok()
            .map(|next| next.timestamp())
    };
    let earliest = deadline.map_or(last, |seconds| last.max(now - SignedDuration::from_secs(seconds)));
    let mut due = None;
    let mut time = earliest;
    for _ in 0..MISSED {
        match next_after(time) {
            Some(next) if next <= now => {
                due = Some(next);
                time = next;
            }
            _ => break,
        }
    }
    if due.is_some_and(|due| next_after(due).is_some_and(|next| next <= now)) {
        // More were missed than are looked through: the last one is the one before the next.
        let zoned = now.to_zoned(zone.clone());
        due = cron
            .find_previous_occurrence(&zoned, true)
            .ok()
            .map(|last| last.timestamp());
    }
    (due, next_after(now))
}

/// Makes the Job of one time, unless the policy says otherwise.
async fn start(
    context: &Context,
    cron_job: &CronJob,
    spec: &CronJobSpec,
    jobs: &[Arc<Job>],
    due: Timestamp,
) -> Result<Option<Arc<Job>>> {
    let active = jobs.iter().filter(|job| finished(job).is_none());
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if active.clone().next().is_some() => {
            let message =
                "Not starting job because prior execution is running and concurrency policy is Forbid"
                    .to_owned();
            context
                .recorder
                .normal(cron_job, COMPONENT, "JobAlreadyActive", message);
            return Ok(None);
        }
        Some("Replace") => {
            for job in active {
                context.delete(&**job, None).await?;
            }
        }
        _ => {}
    }
    let meta = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.into(), due.to_string());
    let name = format!(
        "{}-{}",
        cron_job.metadata.name.as_deref().unwrap_or_default(),
        due.as_second() / 60
    );
    let job = Job {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            namespace: cron_job.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner_reference(cron_job)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    };
    match context.create(&job).await {
        Ok(created) => {
            context.recorder.normal(
                cron_job,
                COMPONENT,
                "SuccessfulCreate",
                format!("Created job {name}"),
            );
            Ok(Some(created))
        }
        Err(error) if error.is_exists() => Ok(context.world.jobs.get(&Name::of(&job))),
        Err(error) => {
            let message = format!("Error creating job: {}", error.message());
            context
                .recorder
                .warning(cron_job, COMPONENT, "FailedCreate", message);
            Err(error)
        }
    }
}

async fn write_status(
    context: &Context,
    name: &Name,
    jobs: &[Arc<Job>],
    last: Option<Timestamp>,
) -> Result<()> {
    let Some(cron_job) = context.world.cron_jobs.get(name) else {
        return Ok(());
    };
    let active: Vec<_> = jobs
        .iter()
        .filter(|job| finished(job).is_none())
        .map(|job| ObjectReference {
            api_version: Some("batch/v1".into()),
            kind: Some("Job".into()),
            namespace: job.metadata.namespace.clone(),
            name: job.metadata.name.clone(),
            uid: job.metadata.uid.clone(),
            ..ObjectReference::default()
        })
        .collect();
    let mut status = cron_job.status.clone().unwrap_or_default();
    // References that differ in their version only are the same.
    let uids = |references: &[ObjectReference]| {
        references
            .iter()
            .map(|reference| reference.uid.clone())
            .collect::<Vec<_>>()
    };
    if uids(status.active.as_deref().unwrap_or_default()) != uids(&active) {
        status.active = Some(active).filter(|active| !active.is_empty());
    }
    status.last_schedule_time = last.map(Time);
    let success = jobs
        .iter()
        .filter(|job| succeeded(job))
        .filter_map(|job| finished(job))
        .max();
    if let Some(success) = success {
        let known = status
            .last_successful_time
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0);
        status.last_successful_time = Some(Time(known.max(success)));
    }
    if cron_job.status.as_ref() != Some(&status) {
        let mut changed = (*cron_job).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(())
}

/// Deletes finished Jobs beyond the limits, oldest first.
async fn clean_up(context: &Context, spec: &CronJobSpec, jobs: &[Arc<Job>]) -> Result<()> {
    for (success, limit) in [
        (true, spec.successful_jobs_history_limit.unwrap_or(3)),
        (false, spec.failed_jobs_history_limit.unwrap_or(1)),
    ] {
        let mut old: Vec<_> = jobs
            .iter()
            .filter(|job| finished(job).is_some() && succeeded(job) == success)
            .collect();
        old.sort_by_key(|job| (finished(job), job.metadata.name.clone()));
        let surplus = old.len().saturating_sub(limit.max(0) as usize);
        for job in &old[..surplus] {
            context.delete(&***job, None).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        format!("2026-03-01T{text}Z").parse().unwrap()
    }

    fn run(
        schedule: &str,
        last: &str,
        now: &str,
        deadline: Option<i64>,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        due(
            &Cron::from_str(schedule).unwrap(),
            &TimeZone::UTC,
            time(last),
            time(now),
            deadline,
        )
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        assert_eq!(
            run("*/5 * * * *", "10:00:00", "10:04:59", None),
            (None, Some(time("10:05:00")))
        );
    }

    #[test]
    fn of_several_missed_times_the_last_counts() {
        assert_eq!(
            run("*/5 * * * *", "10:00:00", "10:16:00", None),
            (Some(time("10:15:00")), Some(time("10:20:00")))
        );
        assert_eq!(
            run("* * * * *", "00:00:00", "23:00:30", None),
            (Some(time("23:00:00")), Some(time("23:01:00")))
        );
    }

    #[test]
    fn a_deadline_forgets_what_was_missed_long_ago() {
        assert_eq!(run("0 10 * * *", "09:00:00", "11:00:00", Some(60)).0, None);
        assert_eq!(
            run("0 10 * * *", "09:00:00", "10:00:30", Some(60)).0,
            Some(time("10:00:00"))
        );
    }
}
