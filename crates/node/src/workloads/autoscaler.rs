//! HorizontalPodAutoscaler: keeps the number of replicas between its bounds. There is no load to be measured here, so nothing
//! ever asks for more than there is.

use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    autoscaling::v2::{
        CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition,
        HorizontalPodAutoscalerStatus,
    },
};
use serde_json::json;

use crate::core::{Action, Context, Name, Result, World, now};

const COMPONENT: &str = "horizontal-pod-autoscaler";

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(autoscaler) = context.world.autoscalers.get(name) else {
        return Ok(Action::Wait);
    };
    if autoscaler.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    let spec = &autoscaler.spec;
    let mut status = autoscaler.status.clone().unwrap_or_default();
    status.observed_generation = autoscaler.metadata.generation;
    let reference = &spec.scale_target_ref;
    match replicas(&context.world, &name.namespace, reference) {
        None => {
            let message = format!("the {} {:?} does not exist", reference.kind, reference.name);
            condition(&mut status, "AbleToScale", false, "FailedGetScale", &message);
        }
        Some(0) => {
            status.current_replicas = Some(0);
            status.desired_replicas = 0;
            condition(
                &mut status,
                "AbleToScale",
                true,
                "SucceededGetScale",
                "the HPA controller was able to get the target's current scale",
            );
            condition(
                &mut status,
                "ScalingActive",
                false,
                "ScalingDisabled",
                "scaling is disabled since the replica count of the target is zero",
            );
        }
        Some(current) => {
            let wanted = current.clamp(spec.min_replicas.unwrap_or(1), spec.max_replicas.max(1));
            if wanted != current {
                scale(context, &name.namespace, reference, wanted).await?;
                status.last_scale_time = Some(now());
                let message = format!("New size: {wanted}; reason: between the bounds (simulated)");
                context
                    .recorder
                    .normal(&*autoscaler, COMPONENT, "SuccessfulRescale", message);
            }
            status.current_replicas = Some(current);
            status.desired_replicas = wanted;
            condition(
                &mut status,
                "AbleToScale",
                true,
                "ReadyForNewScale",
                "recommended size matches current size",
            );
            condition(
                &mut status,
                "ScalingActive",
                true,
                "ValidMetricFound",
                "the load is simulated: there is none",
            );
            condition(
                &mut status,
                "ScalingLimited",
                false,
                "DesiredWithinRange",
                "the desired count is within the acceptable range",
            );
        }
    }
    if autoscaler.status.as_ref() != Some(&status) {
        let mut changed = (*autoscaler).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(Action::Wait)
}

/// How many replicas a target asks for.
fn replicas(world: &World, namespace: &str, target: &CrossVersionObjectReference) -> Option<i32> {
    let name = Name::new(namespace, &target.name);
    let replicas = match target.kind.as_str() {
        "Deployment" => world.deployments.get(&name)?.spec.replicas,
        "StatefulSet" => world.stateful_sets.get(&name)?.spec.replicas,
        _ => return None,
    };
    Some(replicas.unwrap_or(1))
}

async fn scale(
    context: &Context,
    namespace: &str,
    target: &CrossVersionObjectReference,
    replicas: i32,
) -> Result<()> {
    let name = Name::new(namespace, &target.name);
    let patch = json!({"spec": {"replicas": replicas}});
    match target.kind.as_str() {
        "Deployment" => drop(context.merge::<Deployment>(&name, &patch).await?),
        "StatefulSet" => drop(context.merge::<StatefulSet>(&name, &patch).await?),
        _ => {}
    }
    Ok(())
}

/// Whether an autoscaler is about this object.
pub(crate) fn targets(autoscaler: &HorizontalPodAutoscaler, kind: &str, name: &str) -> bool {
    let target = &autoscaler.spec.scale_target_ref;
    target.kind == kind && target.name == name
}

fn condition(
    status: &mut HorizontalPodAutoscalerStatus,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
) {
    let value = if holds { "True" } else { "False" };
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions
        .iter()
        .position(|known| known.type_ == kind)
        .map(|position| conditions.remove(position));
    let since = known
        .as_ref()
        .filter(|known| known.status == value)
        .and_then(|known| known.last_transition_time.clone());
    conditions.push(HorizontalPodAutoscalerCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_transition_time: Some(since.unwrap_or_else(now)),
        ..HorizontalPodAutoscalerCondition::default()
    });
    conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
}
