//! Conditions of Pods.

use k8s_openapi::api::core::v1::{PodCondition, PodStatus};

use super::now;

/// Sets a condition; its time of change is that of its last change from true to false or back.
pub(crate) fn set_condition(
    status: &mut PodStatus,
    generation: Option<i64>,
    kind: &str,
    holds: bool,
    reason: Option<&str>,
    message: Option<String>,
) {
    let conditions = status.conditions.get_or_insert_default();
    let value = if holds { "True" } else { "False" };
    match conditions.iter_mut().find(|condition| condition.type_ == kind) {
        Some(known) => {
            if known.status != value {
                known.status = value.into();
                known.last_transition_time = Some(now());
            }
            known.reason = reason.map(Into::into);
            known.message = message;
            known.observed_generation = generation.or(known.observed_generation);
        }
        None => conditions.push(PodCondition {
            type_: kind.into(),
            status: value.into(),
            reason: reason.map(Into::into),
            message,
            last_transition_time: Some(now()),
            observed_generation: generation,
            ..PodCondition::default()
        }),
    }
}
