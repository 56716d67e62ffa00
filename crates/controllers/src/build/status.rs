//! The status of a build.

use choreo_api::conditions::{self, Condition, ConditionStatus, reasons, types};
use choreo_api::v1alpha1::{BuildStatus, BuiltImage};
use choreo_engine::build::Outcome;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::Value;

use super::deliver::Delivered;

/// Whether nothing will change any more.
pub(super) fn is_over(conditions: &[Condition]) -> bool {
    let completed = conditions::find(conditions, types::COMPLETED);
    let delivered = conditions::find(conditions, types::WORKLOAD_UPDATED);
    match completed.map(|condition| (condition.status, condition.reason.as_str())) {
        Some((ConditionStatus::False, reasons::FAILED)) => true,
        Some((ConditionStatus::True, _)) => {
            delivered.is_some_and(|d| d.is_true() || d.reason == reasons::SUPERSEDED)
        }
        _ => false,
    }
}

/// A status in the making.
pub(super) struct Report {
    status: BuildStatus,
    ready: Option<Condition>,
    started: Option<Condition>,
    completed: Option<Condition>,
    delivered: Option<Condition>,
}

impl Report {
    /// Goes on from what is known.
    pub(super) fn of(before: &BuildStatus) -> Self {
        let known = |type_| conditions::find(&before.conditions, type_).cloned();
        Self {
            status: before.clone(),
            ready: None,
            started: known(types::STARTED),
            completed: known(types::COMPLETED),
            delivered: known(types::WORKLOAD_UPDATED),
        }
    }

    fn not_ready(mut self, reason: &str, message: &str) -> Self {
        self.ready = Some(Condition::not_ready(reason, message));
        self
    }

    /// Something stands in the way of the start.
    pub(super) fn not_started(mut self, why: Condition) -> Self {
        self.started = Some(Condition::new(
            types::STARTED,
            false,
            why.reason.clone(),
            why.message.clone(),
        ));
        self.ready = Some(why);
        self
    }

    /// There is no build plane, or it does not answer.
    pub(super) fn waiting_for_plane(mut self, has_started: bool, message: &str, reason: &str) -> Self {
        if has_started {
            self.completed = Some(Condition::new(
                types::COMPLETED,
                ConditionStatus::Unknown,
                reason,
                message,
            ));
            return self.not_ready(reason, message);
        }
        self.not_started(Condition::not_ready(reason, message))
    }

    /// The build plane does not take what it is given, or does not let us look.
    pub(super) fn not_applied(self, message: &str) -> Self {
        let has_started = self.started.as_ref().is_some_and(Condition::is_true);
        self.waiting_for_plane(has_started, message, reasons::APPLY_FAILED)
    }

    /// The workflow is there.
    pub(super) fn started(&mut self, namespace: &str, workflow: &str, live: &Value) {
        let message = format!("Workflow {workflow:?} in namespace {namespace:?} of the build plane");
        self.started = Some(Condition::new(types::STARTED, true, reasons::SUCCEEDED, message));
        self.status.workflow = Some(workflow.to_owned());
        let time = |field: &str| -> Option<Time> {
            serde_json::from_value(live.pointer(&format!("/status/{field}"))?.clone()).ok()
        };
        self.status.start_time = time("startedAt").or(self.status.start_time.take());
        self.status.completion_time = time("finishedAt").or(self.status.completion_time.take());
    }

    /// The workflow is under way.
    pub(super) fn running(mut self, message: &str) -> Self {
        let completed = Condition::new(types::COMPLETED, false, reasons::IN_PROGRESS, message);
        self.completed = Some(completed);
        self.not_ready(reasons::IN_PROGRESS, message)
    }

    /// The workflow ended badly. A build is not repeated: another one is made.
    pub(super) fn failed(mut self, why: &str) -> Self {
        self.completed = Some(Condition::new(types::COMPLETED, false, reasons::FAILED, why));
        self.not_ready(
            reasons::FAILED,
            &format!("{why}; to try again, create another Build"),
        )
    }

    /// The workflow ended well.
    pub(super) fn succeeded(mut self, outcome: &Outcome, delivered: Delivered) -> Self {
        let image = outcome.image.clone().unwrap_or_default();
        self.completed = Some(Condition::new(
            types::COMPLETED,
            true,
            reasons::SUCCEEDED,
            format!("built {image}"),
        ));
        self.status.image_status = outcome.image.clone().map(|image| BuiltImage { image });
        self.status.commit = outcome.revision.clone();
        self.status.workload = delivered.workload;
        self.ready = Some(match delivered.condition.reason.as_str() {
            // It did what it was made for, and is of no consequence any more.
            reasons::SUPERSEDED => Condition::ready(&delivered.condition.message),
            _ if delivered.condition.is_true() => Condition::ready(&delivered.condition.message),
            reason => Condition::not_ready(reason, &delivered.condition.message),
        });
        self.delivered = Some(delivered.condition);
        self
    }

    /// As it is written.
    pub(super) fn into_value(self, generation: Option<i64>) -> Value {
        let mut status = self.status;
        status.observed_generation = generation;
        status.conditions = [self.ready, self.started, self.completed, self.delivered]
            .into_iter()
            .flatten()
            .map(|condition| condition.observed(generation))
            .collect();
        serde_json::to_value(status).unwrap_or_default()
    }
}
