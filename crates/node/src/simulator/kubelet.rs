//! The kubelet: what it would say of a Pod on the simulated node, at once.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::{NODE, SIMULATED, behavior::Behavior, status};
use crate::{
    core::{Action, Context, Name, Result},
    schedule,
};

const COMPONENT: &str = "kubelet";

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(pod) = context.world.pods.get(name) else {
        return Ok(Action::Wait);
    };
    if !context.options.simulator {
        return Ok(Action::Wait);
    }
    let node = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if pod.metadata.deletion_timestamp.is_some() {
        if node == NODE {
            return stop(context, &pod).await;
        }
        return Ok(Action::Wait);
    }
    if node.is_empty() {
        return schedule::schedule(context, &pod).await;
    }
    if node != NODE {
        return Ok(Action::Wait);
    }
    let marked = pod
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(SIMULATED));
    let pod = if marked {
        pod
    } else {
        let patch = json!({"metadata": {"annotations": {SIMULATED: "true"}}});
        context.merge::<Pod>(name, &patch).await?
    };
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return Ok(Action::Wait);
    }
    let next = status::next(&pod);
    if pod.status.as_ref() != Some(&next.status) {
        let mut changed = (*pod).clone();
        changed.status = Some(next.status);
        context.replace_status(&changed).await?;
    }
    for (reason, message) in next.happened {
        context.recorder.normal(&*pod, COMPONENT, reason, message);
    }
    for (reason, message) in next.failed {
        context.recorder.warning(&*pod, COMPONENT, reason, message);
    }
    Ok(next.action)
}

/// Containers stop at once, whatever grace they have.
async fn stop(context: &Context, pod: &Pod) -> Result<Action> {
    let gone = pod.metadata.deletion_grace_period_seconds == Some(0);
    if gone {
        // Only finalizers hold it.
        return Ok(Action::Wait);
    }
    context.delete(pod, Some(0)).await?;
    context
        .recorder
        .normal(pod, COMPONENT, "Killing", "Stopping container".to_owned());
    Ok(Action::Wait)
}

/// Whether the Pod stops for good once its containers have succeeded.
pub(super) fn completes(pod: &Pod) -> bool {
    let policy = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    policy.is_some_and(|policy| policy != "Always")
}

/// The back-off of a container that has been restarted so often: 10 s, doubled each time, 5 minutes at most.
pub(super) fn back_off(restarts: i32) -> Duration {
    let doublings = restarts.saturating_sub(1).clamp(0, 10) as u32;
    Duration::from_secs((10_u64 << doublings).min(300))
}

/// What the annotations of a Pod say of one of its containers.
pub(super) fn behavior(pod: &Pod, container: &str, failed: &mut Vec<(&'static str, String)>) -> Behavior {
    let (behavior, problem) = Behavior::of(pod, container);
    failed.extend(problem.map(|problem| ("InvalidSimulation", problem)));
    behavior
}
