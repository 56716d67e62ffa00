//! PodDisruptionBudget: counts how many of its Pods may be missing. Nothing is evicted here.

use k8s_openapi::{
    api::policy::v1::{PodDisruptionBudgetSpec, PodDisruptionBudgetStatus},
    apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString},
};

use super::pods::{is_active, is_ready};
use crate::core::{Action, Context, Name, Result, now};

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(budget) = context.world.budgets.get(name) else {
        return Ok(Action::Wait);
    };
    let Some(spec) = budget
        .spec
        .as_ref()
        .filter(|_| budget.metadata.deletion_timestamp.is_none())
    else {
        return Ok(Action::Wait);
    };
    let selected = |selector| context.world.pods.selected(&name.namespace, selector);
    let mut pods = spec.selector.as_ref().map(selected).unwrap_or_default();
    pods.retain(|pod| is_active(pod));
    let expected = i32::try_from(pods.len()).unwrap_or(i32::MAX);
    let healthy = i32::try_from(pods.iter().filter(|pod| is_ready(pod)).count()).unwrap_or(i32::MAX);
    let desired = desired(spec, expected);
    let allowed = (healthy - desired).max(0).min(expected);
    let mut status = PodDisruptionBudgetStatus {
        observed_generation: budget.metadata.generation,
        expected_pods: Some(expected),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disruptions_allowed: Some(allowed),
        ..budget.status.clone().unwrap_or_default()
    };
    let (value, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    let since = status
        .conditions
        .iter()
        .flatten()
        .find(|known| known.type_ == "DisruptionAllowed" && known.status == value)
        .map_or_else(now, |known| known.last_transition_time.clone());
    status.conditions = Some(vec![Condition {
        type_: "DisruptionAllowed".into(),
        status: value.into(),
        reason: reason.into(),
        message: String::new(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    }]);
    if budget.status.as_ref() != Some(&status) {
        let mut changed = (*budget).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(Action::Wait)
}

/// How many Pods must stay healthy. Percentages are rounded up, as Kubernetes does for both fields.
fn desired(spec: &PodDisruptionBudgetSpec, expected: i32) -> i32 {
    let count = |value: &IntOrString| match value {
        IntOrString::Int(count) => *count,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            i32::try_from((i64::from(expected) * percent + 99) / 100).unwrap_or(expected)
        }
    };
    match (&spec.min_available, &spec.max_unavailable) {
        (Some(min), _) => count(min),
        (None, Some(max)) => (expected - count(max)).max(0),
        // What Kubernetes does when neither is given.
        (None, None) => expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up() {
        let spec = |min: Option<&str>, max: Option<&str>| PodDisruptionBudgetSpec {
            min_available: min.map(|text| IntOrString::String(text.into())),
            max_unavailable: max.map(|text| IntOrString::String(text.into())),
            ..PodDisruptionBudgetSpec::default()
        };
        assert_eq!(desired(&spec(Some("50%"), None), 7), 4);
        assert_eq!(desired(&spec(None, Some("30%")), 7), 4);
        assert_eq!(desired(&spec(None, Some("100%")), 7), 0);
    }
}
