//! Status: written only if it says something new, with the times of condition transitions kept.

use choreo_api::conditions::{self, Condition, ConditionStatus, reasons};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{ApiResource, DynamicObject};
use serde_json::{Value, json};

use super::applier::Slot;
use super::{Applied, Applier, Failure};
use crate::runtime::packed::Kept;
use crate::runtime::{ObjectRef, View};

/// A change of an object's `Ready` condition, worth an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// The condition as it is now.
    pub now: Condition,
}

/// The conditions of a status.
pub fn conditions_of(status: Option<&Value>) -> Vec<Condition> {
    status
        .and_then(|status| status.get("conditions"))
        .and_then(|conditions| serde_json::from_value(conditions.clone()).ok())
        .unwrap_or_default()
}

/// `status` with its conditions' transition times: kept from `live` where a condition's status stays, else `now`.
pub fn with_times(mut status: Value, live: Option<&Value>, now: Timestamp) -> Value {
    let old = conditions_of(live);
    let new = conditions_of(Some(&status));
    let merged = conditions::merge(&old, new, &Time(now));
    if let (Some(status), Ok(merged)) = (status.as_object_mut(), serde_json::to_value(merged)) {
        status.insert("conditions".to_owned(), merged);
    }
    status
}

/// Makes the status of `live` the given one (conditions without times), and says if `Ready` changed. If it was worked out from what
/// the status said (`from_itself`), it is for `live` as it is and for no other revision.
///
/// # Errors
/// See [`Failure`]; an object that is gone has no status, which is no failure. [`Failure::Conflict`] for another revision.
pub async fn write<V: View + Default>(
    applier: &Applier<V>,
    resource: &ApiResource,
    manager: &str,
    live: &DynamicObject,
    status: Value,
    from_itself: bool,
) -> Result<Option<Transition>, Failure> {
    let address = ObjectRef::of(live);
    // The newest that we know: `live` may be from before an earlier write of the same run.
    let snapshot = applier.cache().snapshot();
    let told = (Slot::Told(manager), applier.digest(&status));
    let newest = snapshot.kept(&address);
    if newest.is_some_and(|kept| applier.is_settled(kept, told.0, told.1)) {
        return Ok(None);
    }
    let newest = newest.map(Kept::get);
    let before = newest.as_deref().unwrap_or(live).data.get("status").cloned();
    // Times in Kubernetes' metadata are whole seconds.
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default();
    let status = with_times(status, before.as_ref(), now);
    let ready =
        |status: Option<&Value>| conditions::find(&conditions_of(status), conditions::types::READY).cloned();
    let (was, is) = (ready(before.as_ref()), ready(Some(&status)));
    let mut desired = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": address.name},
        "status": status,
    });
    if !address.namespace.is_empty() {
        desired["metadata"]["namespace"] = Value::String(address.namespace.clone());
    }
    let revision = live.metadata.resource_version.as_deref().filter(|_| from_itself);
    let applied = match applier.apply_status(resource, manager, &desired, revision).await {
        Err(Failure::NotFound(_)) => return Ok(None),
        applied => applied?,
    };
    if let Some(kept) = applier.cache().snapshot().kept(&address)
        && applier.is_settled(kept, Slot::Status(manager), applier.digest(&desired))
    {
        applier.settle(kept, told.0, told.1);
    }
    if applied != Applied::Written {
        return Ok(None);
    }
    Ok(is
        .filter(|is| is_news(was.as_ref(), is, &resource.kind))
        .map(|now| Transition { now }))
}

/// Kinds that another object stands for: a component for what it is made of, a binding for what is made of it.
const PARTS: [&str; 10] = [
    "API",
    "DeployableArtifact",
    "Deployment",
    "DeploymentTrack",
    "Endpoint",
    "Release",
    "ScheduledTask",
    "Service",
    "WebApplication",
    "Workload",
];

/// Whether a change of `Ready` is worth an event. That something has begun is not: every object begins, and half of all events would
/// say no more. That it is no longer ready is. How a change comes about is told of one object, and not of each of the dozen that it is
/// made of as well; of these only what is wrong, and that it is so no longer.
fn is_news(was: Option<&Condition>, is: &Condition, kind: &str) -> bool {
    let told = |condition: &Condition| (condition.status, condition.reason.clone());
    if was.map(told) == Some(told(is)) {
        return false;
    }
    let is_ready = |condition: &Condition| condition.status == ConditionStatus::True;
    let is_on_its_way = |condition: &Condition| condition.reason == reasons::PROGRESSING;
    if PARTS.contains(&kind) {
        let is_wrong = |condition: &Condition| !is_ready(condition) && !is_on_its_way(condition);
        // Mended is also what is on its way again: whether it gets there is no news of its own.
        return is_wrong(is) || was.is_some_and(is_wrong);
    }
    let begins = is_on_its_way(is) && !is_ready(is) && !was.is_some_and(is_ready);
    !begins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_begins_is_no_news() {
        let condition =
            |ready: bool, reason: &str| Condition::new(conditions::types::READY, ready, reason, "m");
        let progressing = condition(false, reasons::PROGRESSING);
        let (waiting, ready) = (condition(false, "Waiting"), condition(true, "Ready"));
        for (was, is, news, of_part) in [
            (None, &progressing, false, false),
            (Some(&waiting), &progressing, false, true),
            (Some(&ready), &progressing, true, false),
            (Some(&progressing), &waiting, true, true),
            (None, &waiting, true, true),
            (Some(&waiting), &waiting, false, false),
            (Some(&waiting), &ready, true, true),
            (Some(&progressing), &ready, true, false),
            (None, &ready, true, false),
        ] {
            assert_eq!(is_news(was, is, "Component"), news, "{was:?} {is:?}");
            assert_eq!(is_news(was, is, "Release"), of_part, "of a part: {was:?} {is:?}");
        }
    }

    #[test]
    fn times_stay_while_the_status_stays() {
        let live = json!({"conditions": [
            {"type": "Ready", "status": "False", "reason": "A", "message": "a",
             "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "Applied", "status": "True", "reason": "A", "message": "a",
             "lastTransitionTime": "2026-01-02T00:00:00Z"},
        ]});
        let new = json!({"observedGeneration": 2, "conditions": [
            {"type": "Ready", "status": "False", "reason": "B", "message": "b"},
            {"type": "Applied", "status": "False", "reason": "B", "message": "b"},
        ]});
        let now: Timestamp = "2026-03-03T00:00:00Z".parse().unwrap();
        let times: Vec<_> = with_times(new, Some(&live), now)["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| condition["lastTransitionTime"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(times, ["2026-01-01T00:00:00Z", "2026-03-03T00:00:00Z"]);
    }
}
