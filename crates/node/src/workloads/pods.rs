//! What controllers ask of Pods, and how they make them.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition, PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};

use crate::core::Action;

/// A Pod of `template`, controlled by `owner`. The caller gives it a name.
pub(super) fn from_template(template: &PodTemplateSpec, namespace: &str, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            namespace: Some(namespace.into()),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

pub(super) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or("Pending")
}

pub(super) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(super) fn is_deleting(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Neither finished nor being deleted.
pub(super) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && !is_deleting(pod)
}

pub(super) fn ready_condition(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

pub(super) fn is_ready(pod: &Pod) -> bool {
    ready_condition(pod).is_some_and(|condition| condition.status == "True")
}

/// Whether the Pod has been ready for `seconds`; if not yet, when to look again.
pub(super) fn is_available(pod: &Pod, seconds: i32) -> (bool, Action) {
    if !is_ready(pod) {
        return (false, Action::Wait);
    }
    if seconds <= 0 {
        return (true, Action::Wait);
    }
    let since = ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref());
    let Some(since) = since else {
        return (false, Action::Wait);
    };
    let left = since
        .0
        .duration_until(Timestamp::now() - SignedDuration::from_secs(seconds.into()));
    match Duration::try_from(-left) {
        Ok(left) if !left.is_zero() => (false, Action::After(left)),
        _ => (true, Action::Wait),
    }
}

/// Orders Pods so that the ones that are missed least come first: not scheduled, pending, not ready, cheap to delete, ready
/// for a short time, restarted often, young.
pub(super) fn deletion_order(pod: &Pod) -> impl Ord + use<> {
    let status = pod.status.as_ref();
    let scheduled = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.node_name.as_deref().is_some_and(|node| !node.is_empty()));
    let phase = match phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost: i32 = annotation(&pod.metadata, "controller.kubernetes.io/pod-deletion-cost").unwrap_or(0);
    let since =
        ready_condition(pod).and_then(|condition| condition.last_transition_time.as_ref().map(|time| time.0));
    let restarts = status
        .and_then(|status| status.container_statuses.as_deref())
        .and_then(|containers| containers.iter().map(|container| container.restart_count).max())
        .unwrap_or(0);
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        scheduled,
        phase,
        is_ready(pod),
        cost,
        Reverse(since),
        Reverse(restarts),
        Reverse(created),
        pod.metadata.name.clone(),
    )
}

pub(super) fn annotation<T: std::str::FromStr>(meta: &ObjectMeta, key: &str) -> Option<T> {
    meta.annotations.as_ref()?.get(key)?.parse().ok()
}

pub(super) fn label<'m>(meta: &'m ObjectMeta, key: &str) -> Option<&'m str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub(super) fn set(map: &mut Option<BTreeMap<String, String>>, key: &str, value: impl Into<String>) {
    map.get_or_insert_default().insert(key.into(), value.into());
}
