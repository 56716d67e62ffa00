//! A task: a CronJob, and a Job for each run that somebody asked for.
//!
//! A task that has no schedule is a CronJob that rests: what a run of it consists of is there to be seen, and
//! `kubectl create job --from` works as for any other.

use choreo_api::{
    annotations,
    conditions::reasons,
    labels, names,
    v1alpha1::{
        ComponentKind, FrozenScheduledTask, ScheduledTaskClassSpec, TaskSettings, common::ReleaseState,
    },
};
use serde_json::{Map, Value, json};

use super::{Input, class::CRON_JOB, meta::Meta, pod};
use crate::{
    cron,
    problem::{Problem, Problems},
};

/// The schedule of a CronJob that rests anyway: Kubernetes wants one.
const NO_SCHEDULE: &str = "0 0 1 1 *";

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Result<Vec<Value>, Problems> {
    let task = Task::of(input)?;
    let cron_job = task.cron_job(input, meta)?;
    let mut objects = Vec::new();
    let newest = input.runs.len().saturating_sub(1);
    for (i, run) in input.runs.iter().enumerate() {
        objects.push(job(&cron_job, meta, run, i < newest)?);
    }
    objects.push(cron_job);
    Ok(objects)
}

/// The name of the Job of a run.
pub(crate) fn job_name(component: &str, track: &str, run: &str) -> String {
    names::k8s_name(
        names::LABEL_LIMIT,
        &[&names::workload(component, track), "run", run],
    )
    .replace('.', "-")
}

struct Task<'a> {
    frozen: &'a FrozenScheduledTask,
    describe: String,
    template: Value,
    manual: bool,
}

impl<'a> Task<'a> {
    fn of(input: &'a Input<'_>) -> Result<Self, Problems> {
        let missing = || Problem::error(reasons::RENDER_FAILED, "the artifact has no scheduledTask");
        let frozen = input.source.scheduled_task.as_ref().ok_or_else(missing)?;
        let (describe, template) = match &input.source.class {
            None => (String::new(), Value::Null),
            Some(class) => {
                let describe = format!("{} {:?}", class.kind, class.name);
                let spec: ScheduledTaskClassSpec = serde_json::from_value(class.spec.clone())
                    .map_err(|e| Problem::error(reasons::RENDER_FAILED, format!("{describe} spec: {e}")))?;
                (describe, spec.cron_job_template.unwrap_or_default())
            }
        };
        let kind = ComponentKind::from_name(input.source.type_.as_deref().unwrap_or_default());
        Ok(Self {
            frozen,
            describe,
            template,
            manual: kind == ComponentKind::ManualTask,
        })
    }

    fn cron_job(&self, input: &Input<'_>, meta: &Meta) -> Result<Value, Problems> {
        let mut problems = Problems::new();
        if !input.workload.endpoints.is_empty() {
            problems.invalid(
                "workload endpoints: a task answers nobody; remove them, or make the component a Service",
            );
        }
        let schedule = self.schedule(input, &mut problems);
        let time_zone = input
            .overrides
            .time_zone
            .as_ref()
            .or(self.frozen.time_zone.as_ref());
        if let Some(Err(why)) = time_zone.map(|zone| cron::check_time_zone(zone)) {
            problems.invalid(format!("timeZone: {why}"));
        }
        let pod = problems.take(pod::template(input, meta, None));
        let Some(pod) = pod.filter(|_| problems.is_empty()) else {
            return Err(problems);
        };

        // Exhaustive on purpose: a setting that is added must be rendered, or left out knowingly, here.
        let TaskSettings {
            concurrency_policy,
            successful_jobs_history_limit,
            failed_jobs_history_limit,
            starting_deadline_seconds,
            backoff_limit,
            active_deadline_seconds,
            suspend,
        } = &self.frozen.settings;
        let mut spec = Map::new();
        let mut set = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                spec.insert(key.to_owned(), value);
            }
        };
        set("schedule", schedule.map(|s| json!(s)));
        set("timeZone", time_zone.map(|z| json!(z)));
        set("concurrencyPolicy", concurrency_policy.map(|p| json!(p)));
        set(
            "successfulJobsHistoryLimit",
            successful_jobs_history_limit.map(|n| json!(n)),
        );
        set(
            "failedJobsHistoryLimit",
            failed_jobs_history_limit.map(|n| json!(n)),
        );
        set(
            "startingDeadlineSeconds",
            starting_deadline_seconds.map(|n| json!(n)),
        );
        let rests = self.manual || input.state == ReleaseState::Suspend;
        set("suspend", rests.then_some(true).or(*suspend).map(|s| json!(s)));
        let mut job = Map::new();
        if let Some(limit) = backoff_limit {
            job.insert("backoffLimit".to_owned(), json!(limit));
        }
        if let Some(seconds) = active_deadline_seconds {
            job.insert("activeDeadlineSeconds".to_owned(), json!(seconds));
        }
        job.insert("template".to_owned(), pod);
        spec.insert(
            "jobTemplate".to_owned(),
            json!({"metadata": {"labels": meta.labels}, "spec": job}),
        );

        let name = names::cron_job(input.component, input.track);
        let mut generated = meta.object(&CRON_JOB.api_version(), CRON_JOB.kind, &name);
        generated.insert("spec".to_owned(), Value::Object(spec));
        CRON_JOB.assemble(
            input,
            &self.describe,
            with_restart_policy(self.template.clone()),
            &Value::Object(generated),
            &meta.selector,
        )
    }

    /// The schedule, unless the class's holds.
    fn schedule(&self, input: &Input<'_>, problems: &mut Problems) -> Option<String> {
        let own = input
            .overrides
            .schedule
            .as_ref()
            .or(self.frozen.schedule.as_ref());
        let of_class = self.template.get("schedule").and_then(Value::as_str);
        if self.manual {
            if own.is_some() {
                problems.invalid(
                    "schedule: a ManualTask runs when somebody starts it; remove the schedule, or make the component a ScheduledTask",
                );
            }
            return of_class.is_none().then(|| NO_SCHEDULE.to_owned());
        }
        match (own, of_class) {
            (Some(own), _) => {
                if let Err(why) = cron::check(own) {
                    problems.invalid(format!("schedule: {why}"));
                }
            }
            (None, Some(of_class)) => {
                if let Err(why) = cron::check(of_class) {
                    problems.push(Problem::error(
                        reasons::RENDER_FAILED,
                        format!("{} spec.cronJobTemplate.schedule: {why}", self.describe),
                    ));
                }
            }
            (None, None) => problems.invalid(
                "schedule: neither the ScheduledTask nor its class has one; give it in spec.schedule of the ScheduledTask",
            ),
        }
        own.cloned()
    }
}

/// A Job's pods must not be restarted for ever: without a word of the class, they are tried again where they are.
fn with_restart_policy(mut template: Value) -> Value {
    if template.is_null() {
        template = json!({});
    }
    let mut at = &mut template;
    for field in ["jobTemplate", "spec", "template", "spec"] {
        let Some(object) = at.as_object_mut() else {
            return template;
        };
        at = object.entry(field).or_insert_with(|| json!({}));
    }
    if let Some(pod) = at.as_object_mut() {
        pod.entry("restartPolicy").or_insert_with(|| json!("OnFailure"));
    }
    template
}

/// One run: a Job of what the CronJob would start.
fn job(cron_job: &Value, meta: &Meta, run: &str, superseded: bool) -> Result<Value, Problems> {
    let missing = || Problem::error(reasons::RENDER_FAILED, "the CronJob has no jobTemplate");
    let template = cron_job.pointer("/spec/jobTemplate").ok_or_else(missing)?;
    let (component, track) = (&meta.component, &meta.track);
    let mut object = meta.object("batch/v1", "Job", &job_name(component, track, run));
    object.insert(
        "spec".to_owned(),
        template.get("spec").cloned().unwrap_or_default(),
    );
    let mut own = template
        .pointer("/metadata/annotations")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    own.insert(annotations::APPLY.to_owned(), json!("once"));
    own.insert(
        annotations::DECLARED_BY.to_owned(),
        json!(format!("binding runs[{run}]")),
    );
    if superseded {
        own.insert(annotations::SUPERSEDED.to_owned(), json!("true"));
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), Value::Object(own));
        if let Some(of_job) = metadata.get_mut("labels").and_then(Value::as_object_mut) {
            let more = template.pointer("/metadata/labels").and_then(Value::as_object);
            for (key, value) in more.into_iter().flatten() {
                of_job.entry(key.clone()).or_insert_with(|| value.clone());
            }
            of_job.insert(labels::RUN.to_owned(), json!(labels::label_value(run)));
        }
    }
    Ok(Value::Object(object))
}
