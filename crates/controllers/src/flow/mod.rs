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

mod children;
pub mod targets;

use std::sync::Arc;

use choreo_api::conditions::{self, Condition, reasons};
use choreo_api::labels;
use choreo_engine::plan::{Plan, Status, Target};
use serde_json::Value;

use crate::context::Context;
use crate::runtime::{Next, Reconcile, Retry};
use crate::view::{ControlSnapshot, object_ref};
use crate::write::Failure;

/// Carries out the engine's plans for the targets of one kind.
pub struct Planner {
    name: &'static str,
    manager: String,
    context: Arc<Context>,
}

impl Planner {
    /// `name` is one of [`targets::CONTROLLERS`].
    pub fn new(name: &'static str, context: Arc<Context>) -> Self {
        Self {
            name,
            manager: labels::field_manager(name),
            context,
        }
    }
}

impl Reconcile for Planner {
    type Key = Target;

    fn name(&self) -> &'static str {
        self.name
    }

    async fn reconcile(&self, target: &Target) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let plan = choreo_engine::plan(&snapshot.view.world, target);
        let mistakes = self.carry_out(&snapshot, target, &plan).await?;
        if let Some(object) = target.as_object()
            && let Some(live) = snapshot.get(&object_ref(object))
            && live.metadata.deletion_timestamp.is_none()
        {
            let generation = live.metadata.generation;
            if let Some(mut status) = plan.status {
                status.observed_generation = status.observed_generation.or(generation);
                self.context
                    .report(self.name, live, as_value(status, &mistakes))
                    .await?;
            }
        }
        Ok(Next::Settled)
    }
}

impl Planner {
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
