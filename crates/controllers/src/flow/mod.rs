//! The planning controllers: one for each of the model's kinds, all of the same shape.
//!
//! ```text
//!   target ──> engine: plan(world, target) ──> children   written if different
//!                                              adoptions  owner references for what somebody else wrote
//!                                              prune      deleted if the target owns it
//!                                              status     written if different, with an event when Ready changes
//! ```
//!
//! What should be is the engine's business; a planner adds what only the server knows (UIDs), refuses to touch what is
//! not its own, and tells apart what will pass from what somebody has to change.

pub(crate) mod children;
pub mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use choreo_api::conditions::{self, Condition, ConditionStatus, reasons, types};
use choreo_api::labels;
use choreo_engine::plan::{Plan, Status, Target};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::at_work::AtWork;
use crate::context::Context;
use crate::runtime::{Next, Reconcile, Retry};
use crate::view::{ControlSnapshot, object_ref};
use crate::write::Failure;
use crate::write::applier::Slot;
use crate::write::status::conditions_of;

/// For how long a status that only tells of progress may wait for a newer one while there is little to do. A rollout passes through
/// half a dozen such states within milliseconds, and writing each would cost more than the rollout; a state that lasts is told.
const PROGRESS_TOLD_AFTER: Duration = Duration::from_millis(100);
/// By how much longer it may wait for each key that waits for a worker: the more there is to do, the longer each state lasts.
const FOR_EACH_WAITING: Duration = Duration::from_millis(20);
/// The longest that it may wait.
const PROGRESS_TOLD_AT_LATEST: Duration = Duration::from_secs(10);
/// The longest that the first word on an object may wait that is not ready: most often it waits for what comes a moment later in
/// the same `kubectl apply`, but somebody may also have made a mistake and wait to hear of it.
const FIRST_WORD_AT_LATEST: Duration = Duration::from_secs(1);

/// Carries out the engine's plans for the targets of one kind.
pub struct Planner {
    name: &'static str,
    manager: String,
    context: Arc<Context>,
    /// Since when the status of a target waits to be written.
    untold: Mutex<BTreeMap<Target, Instant>>,
}

impl Planner {
    /// `name` is one of [`targets::CONTROLLERS`].
    pub fn new(name: &'static str, context: Arc<Context>) -> Self {
        Self {
            name,
            manager: labels::field_manager(name),
            context,
            untold: Mutex::default(),
        }
    }

    /// How long the status is yet to wait; `None` when it is to be written now.
    fn untold_for(&self, target: &Target, live: &DynamicObject, status: &Value) -> Option<Duration> {
        let mut untold = self.untold.lock();
        let at_latest = if is_progress(live, status) {
            PROGRESS_TOLD_AT_LATEST
        } else if is_first_word(live, status) {
            FIRST_WORD_AT_LATEST
        } else {
            untold.remove(target);
            return None;
        };
        let now = Instant::now();
        let since = *untold.entry(target.clone()).or_insert(now);
        let backlog = u32::try_from(self.context.control.metrics().backlog()).unwrap_or(u32::MAX);
        let wait = PROGRESS_TOLD_AFTER + FOR_EACH_WAITING.saturating_mul(backlog);
        let left = wait.min(at_latest).saturating_sub(now - since);
        if left.is_zero() {
            untold.remove(target);
            return None;
        }
        Some(left)
    }
}

/// Whether a status says something new, but only how far things have come since an object was last not ready.
fn is_progress(live: &DynamicObject, status: &Value) -> bool {
    let ready = |status: Option<&Value>| conditions::find(&conditions_of(status), types::READY).cloned();
    let progresses =
        |ready: &Condition| ready.status == ConditionStatus::False && ready.reason == reasons::PROGRESSING;
    let told = live.data.get("status");
    // Who waits for `Ready` must not find the old one for longer than it takes to see the change.
    ready(Some(status)).is_some_and(|ready| progresses(&ready))
        && ready(told).is_none_or(|ready| ready.status != ConditionStatus::True)
        && told.is_none_or(|told| differs(told, status))
}

/// Whether a status is an object's first, and says that it is not ready.
fn is_first_word(live: &DynamicObject, status: &Value) -> bool {
    let conditions = conditions_of(Some(status));
    let ready = conditions::find(&conditions, types::READY);
    conditions_of(live.data.get("status")).is_empty()
        && ready.is_some_and(|ready| ready.status == ConditionStatus::False)
}

/// Whether a status says something else than the one that was written; times do not count.
fn differs(told: &Value, status: &Value) -> bool {
    let plain = |status: &Value| {
        let mut status = status.clone();
        for condition in status["conditions"].as_array_mut().into_iter().flatten() {
            if let Some(condition) = condition.as_object_mut() {
                condition.remove("lastTransitionTime");
            }
        }
        status
    };
    plain(told) != plain(status)
}

impl Reconcile for Planner {
    type Key = Target;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(&self, target: &Target) -> Result<Next, Retry> {
        AtWork::Planning(target.clone()).unasked(self.look(target)).await
    }
}

impl Planner {
    async fn look(&self, target: &Target) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let plan = choreo_engine::plan(&snapshot.view.world, target);
        let mistakes = self.carry_out(&snapshot, target, &plan).await?;
        if let Some(object) = target.as_object()
            && let Some(kept) = snapshot.kept(&object_ref(object))
            && !kept.is_deleting()
            && let Some(mut status) = plan.status
        {
            status.observed_generation = status.observed_generation.or(kept.generation());
            let status = as_value(status, &mistakes);
            let control = &self.context.control;
            if control.is_settled(kept, Slot::Told(&self.manager), control.digest(&status)) {
                self.untold.lock().remove(target);
                return Ok(Next::Settled);
            }
            let live = kept.get();
            if let Some(left) = self.untold_for(target, &live, &status) {
                return Ok(Next::After(left));
            }
            self.context.report(self.name, &live, status).await?;
        }
        Ok(Next::Settled)
    }

    /// Writes what the plan says. Returns what could not be written because somebody has to change something first.
    async fn carry_out(
        &self,
        snapshot: &ControlSnapshot,
        target: &Target,
        plan: &Plan,
    ) -> Result<Vec<Failure>, Retry> {
        let mut mistakes = Vec::new();
        for adoption in &plan.adopt {
            match children::adopt(&self.context, &self.manager, snapshot, adoption).await {
                Ok(()) => {}
                Err(failure) => self.sort(failure, &mut mistakes, "adopt", target)?,
            }
        }
        for child in &plan.children {
            match children::apply(&self.context, &self.manager, snapshot, child).await {
                Ok(()) => {}
                Err(failure) => self.sort(failure, &mut mistakes, "apply what belongs to", target)?,
            }
        }
        // What replaces an object is there before the object goes.
        if mistakes.is_empty() {
            for object in &plan.prune {
                match children::prune(&self.context, snapshot, target, object).await {
                    Ok(()) => {}
                    Err(failure) => self.sort(failure, &mut mistakes, "remove what belonged to", target)?,
                }
            }
        }
        Ok(mistakes)
    }

    fn sort(
        &self,
        failure: Failure,
        mistakes: &mut Vec<Failure>,
        attempted: &str,
        target: &Target,
    ) -> Result<(), Retry> {
        match failure {
            // The namespace, and with it the target, is going away: its deletion ends this.
            Failure::Terminating(_) => Ok(()),
            failure if failure.is_passing() || matches!(failure, Failure::NotFound(_)) => {
                Err(failure.while_doing(&format!("{attempted} {target}")))
            }
            failure => {
                tracing::warn!(controller = self.name, %target, %failure, "cannot {attempted} the target");
                mistakes.push(failure);
                Ok(())
            }
        }
    }
}

/// The status as it is written, with what could not be written in its `Ready`.
fn as_value(status: Status, mistakes: &[Failure]) -> Value {
    let Status {
        mut conditions,
        mut fields,
        observed_generation,
    } = status;
    if !mistakes.is_empty() {
        let messages: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
        let failed = Condition::not_ready(reasons::APPLY_FAILED, messages.join("; "));
        conditions::set(&mut conditions, failed.observed(observed_generation));
    }
    if let Ok(conditions) = serde_json::to_value(conditions) {
        fields.insert("conditions".to_owned(), conditions);
    }
    if let Some(generation) = observed_generation {
        fields.insert("observedGeneration".to_owned(), Value::from(generation));
    }
    Value::Object(fields)
}
