//! ReplicaSet: as many Pods as it asks for.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus},
    core::v1::Pod,
};

use super::pods::{deletion_order, from_template, is_active, is_available, is_deleting, is_ready};
use crate::core::{Action, Context, Error, Name, Result, matches, now, owner_reference};

const COMPONENT: &str = "replicaset-controller";

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(set) = context.world.replica_sets.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&set.spec, set.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    let mut failure = None;
    if set.metadata.deletion_timestamp.is_none() {
        let owner = owner_reference(&*set);
        context
            .adopt::<Pod>(&name.namespace, &owner, |meta| matches(&spec.selector, meta))
            .await?;
        failure = scale(context, &set, uid).await?;
    }
    let pods = context.world.pods.controlled_by(&name.namespace, uid);
    let (status, action) = status(&set, &pods, failure.as_ref());
    if set.status.as_ref() != Some(&status) {
        let mut changed = (*set).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    failure.map_or(Ok(action), Err)
}

/// Makes or deletes Pods. Gives what the server refused.
async fn scale(context: &Context, set: &ReplicaSet, uid: &str) -> Result<Option<Error>> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let spec = &set.spec;
    let wanted = spec.replicas.unwrap_or(1).max(0) as usize;
    let mut pods = context.world.pods.controlled_by(namespace, uid);
    pods.retain(|pod| is_active(pod));
    if pods.len() < wanted {
        let Some(template) = &spec.template else {
            return Ok(None);
        };
        let mut pod = from_template(template, namespace, owner_reference(set));
        pod.metadata.generate_name = Some(format!("{name}-"));
        // One first: what is refused once would be refused each time.
        let mut missing = wanted - pods.len();
        let mut at_once = 1;
        while missing > 0 {
            let now = at_once.min(missing);
            for created in join_all((0..now).map(|_| context.create(&pod))).await {
                match created {
                    Ok(created) => {
                        let message = format!(
                            "Created pod: {}",
                            created.metadata.name.as_deref().unwrap_or_default()
                        );
                        context
                            .recorder
                            .normal(set, COMPONENT, "SuccessfulCreate", message);
                    }
                    // The namespace or the set is going.
                    Err(error) if error.is_not_found() => return Ok(None),
                    Err(error) => {
                        let message = format!("Error creating: {}", error.message());
                        context.recorder.warning(set, COMPONENT, "FailedCreate", message);
                        return Ok(Some(error));
                    }
                }
            }
            missing -= now;
            at_once *= 4;
        }
    } else if pods.len() > wanted {
        pods.sort_by_cached_key(|pod| deletion_order(pod));
        let surplus = pods.len() - wanted;
        for deleted in join_all(pods[..surplus].iter().map(|pod| context.delete(&**pod, None))).await {
            deleted?;
        }
        for pod in &pods[..surplus] {
            let message = format!(
                "Deleted pod: {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            );
            context
                .recorder
                .normal(set, COMPONENT, "SuccessfulDelete", message);
        }
    }
    Ok(None)
}

fn status(set: &ReplicaSet, pods: &[Arc<Pod>], failure: Option<&Error>) -> (ReplicaSetStatus, Action) {
    let before = set.status.clone().unwrap_or_default();
    let seconds = set.spec.min_ready_seconds.unwrap_or(0);
    let template = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref());
    let labels = template.and_then(|meta| meta.labels.as_ref());
    let (mut replicas, mut labelled, mut ready, mut available, mut terminating) = (0, 0, 0, 0, 0);
    let mut action = Action::Wait;
    for pod in pods {
        if is_deleting(pod) {
            terminating += 1;
        }
        if !is_active(pod) {
            continue;
        }
        replicas += 1;
        let has = |key, value| {
            pod.metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.get(key) == Some(value))
        };
        labelled += i32::from(labels.into_iter().flatten().all(|(key, value)| has(key, value)));
        ready += i32::from(is_ready(pod));
        let (is_available, later) = is_available(pod, seconds);
        available += i32::from(is_available);
        action = action.or(later);
    }
    let count = |count: i32| (count > 0).then_some(count);
    let mut conditions = before.conditions.unwrap_or_default();
    let known = conditions
        .iter()
        .position(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match (failure, known) {
        (Some(error), None) => conditions.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some("FailedCreate".into()),
            message: Some(error.message()),
            last_transition_time: Some(now()),
        }),
        (Some(error), Some(known)) => conditions[known].message = Some(error.message()),
        (None, Some(known)) => drop(conditions.remove(known)),
        (None, None) => {}
    }
    let status = ReplicaSetStatus {
        replicas,
        fully_labeled_replicas: count(labelled),
        ready_replicas: count(ready),
        available_replicas: count(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    };
    (status, action)
}
