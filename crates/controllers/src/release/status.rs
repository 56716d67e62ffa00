//! The status of a release: derived from what was applied and what is seen there.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::ops::Deref;

use choreo_api::conditions::{self, Condition, ConditionStatus, reasons, types};
use choreo_api::v1alpha1::{
    ClusterRelease, DataPlaneIdentity, HealthStatus, InventoryEntry, ReleaseStatus, ResourceStatus,
};
use choreo_engine::health::{self, Health, Rules, State};
use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Subject;
use super::apply::was_seen;
use super::build::{Wanted, address_of};
use super::dereference::Place;
use super::index::may_carry;
use super::known::Applied;
use crate::planes::Plane;
use crate::runtime::{GroupKind, ObjectRef, Snapshot};
use crate::write::Failure;
use crate::write::status::conditions_of;

/// What could not be applied: the resource's id, its address, and why.
pub(super) type Failed = (String, ObjectRef, Failure);

/// What one cluster came to.
#[derive(Debug)]
pub(super) struct InCluster {
    /// Name of the cluster, empty for the only one.
    pub cluster: String,
    /// Why the cluster cannot be used at the moment.
    pub outage: Option<String>,
    /// What must be there first.
    pub waiting: Option<String>,
    /// What could not be applied.
    pub failures: Vec<Failed>,
    /// What there may be of the release.
    pub inventory: Vec<InventoryEntry>,
    /// How each object is.
    pub resources: Vec<ResourceStatus>,
    /// Those of the resources that say nothing about the release: runs that are under way, or that later ones replaced.
    pub ignored: BTreeSet<String>,
    /// The state of the cluster that this was said of, if all that is wanted is there as it is wanted.
    pub as_wanted: Option<Applied>,
}

/// What is left to clean up.
#[derive(Debug, Default)]
pub(super) struct Cleanup {
    /// Objects that are still there.
    pub left: Vec<InventoryEntry>,
    /// Why they cannot be removed, if it is not just a matter of time.
    pub problem: Option<String>,
}

impl InCluster {
    pub(super) fn new(plane: &Plane) -> Self {
        Self {
            cluster: plane.id().cluster.clone(),
            outage: None,
            waiting: None,
            failures: Vec::new(),
            inventory: Vec::new(),
            resources: Vec::new(),
            ignored: BTreeSet::new(),
            as_wanted: None,
        }
    }

    /// Nothing was done: what there was is still there.
    pub(super) fn keeping<'a>(mut self, inventory: impl Iterator<Item = &'a InventoryEntry>) -> Self {
        self.inventory = inventory.cloned().collect();
        self
    }

    /// Judges every object of `release` as it is in the cluster; `before` is what was said of them the last time.
    pub(super) fn observe(
        &mut self,
        release: &str,
        snapshot: &Snapshot<()>,
        wanted: &[Wanted],
        rules: &Rules,
        before: &[ResourceStatus],
    ) {
        let namespace = wanted
            .iter()
            .map(|wanted| wanted.address.namespace.as_str())
            .find(|name| !name.is_empty());
        let kind = GroupKind::new("", "Pod");
        // Only what is on its way is explained by its pods, and a cell may have thousands of them.
        let pods = LazyCell::new(|| -> Vec<Value> {
            let pods = namespace
                .into_iter()
                .flat_map(|namespace| snapshot.in_namespace(&kind, namespace));
            pods.filter(|pod| may_carry(pod.mark(), release))
                .filter_map(|pod| serde_json::to_value(&*pod.get()).ok())
                .collect()
        });
        self.resources = wanted
            .iter()
            .map(|wanted| {
                let live = snapshot.get(&wanted.address);
                let health = match live.as_deref() {
                    Some(live) => judge(live, &pods, rules),
                    // What was made for one run stays as it ended.
                    None if wanted.once && was_seen(&wanted.id, before) => {
                        if let Some(ended) = before.iter().find(|ended| ended.id == wanted.id) {
                            return ended.clone();
                        }
                        Health::missing()
                    }
                    None if wanted.copy_of.is_some() && !self.has_failed(&wanted.id) => {
                        Health::new(State::Healthy, "Exists", "is in the cell already, and not ours")
                    }
                    None => Health::missing(),
                };
                let failed = self.failures.iter().find(|(id, ..)| *id == wanted.id);
                let message = match failed {
                    Some((.., failure)) => failure.to_string(),
                    None => health.message.clone(),
                };
                ResourceStatus {
                    id: wanted.id.clone(),
                    group: Some(wanted.gvk.group.clone()).filter(|group| !group.is_empty()),
                    version: wanted.gvk.version.clone(),
                    kind: wanted.gvk.kind.clone(),
                    name: wanted.address.name.clone(),
                    namespace: Some(wanted.address.namespace.clone()).filter(|name| !name.is_empty()),
                    health_status: as_status(health.state),
                    message: Some(message).filter(|message| !message.is_empty()),
                    status: live.as_deref().and_then(facts),
                    ..ResourceStatus::default()
                }
            })
            .collect();
        self.ignore(wanted);
    }

    fn has_failed(&self, id: &str) -> bool {
        self.failures.iter().any(|(failed, ..)| failed == id)
    }

    /// Runs that are under way are neither good nor bad, and of several only the last one counts.
    fn ignore(&mut self, wanted: &[Wanted]) {
        let runs = wanted
            .iter()
            .zip(&self.resources)
            .filter(|(wanted, _)| wanted.once);
        self.ignored = runs
            .filter(|(wanted, resource)| {
                wanted.superseded || resource.health_status == HealthStatus::Progressing
            })
            .map(|(wanted, _)| wanted.id.clone())
            .collect();
    }

    /// The worst object, among the resources.
    fn worst(&self) -> Option<&ResourceStatus> {
        let rank = |status: HealthStatus| match status {
            HealthStatus::Healthy => 0,
            HealthStatus::Suspended => 1,
            HealthStatus::Progressing => 2,
            HealthStatus::Unknown => 3,
            HealthStatus::Missing => 4,
            HealthStatus::Degraded => 5,
        };
        self.resources
            .iter()
            .rev()
            .filter(|resource| !self.ignored.contains(&resource.id))
            .max_by_key(|resource| rank(resource.health_status))
    }

    /// `Ready` of this cluster alone.
    fn ready(&self, data_plane: &str) -> Condition {
        if let Some(outage) = &self.outage {
            let place = if self.cluster.is_empty() {
                format!("DataPlane {data_plane:?}")
            } else {
                format!("cluster {:?} of DataPlane {data_plane:?}", self.cluster)
            };
            return Condition::new(
                types::READY,
                ConditionStatus::Unknown,
                reasons::UNREACHABLE,
                format!("{place} cannot be reached: {outage}; what runs there is not touched"),
            );
        }
        if let Some(waiting) = &self.waiting {
            return Condition::not_ready(reasons::WAITING, waiting);
        }
        if !self.failures.is_empty() {
            return Condition::not_ready(reasons::APPLY_FAILED, self.failure_message());
        }
        match self.worst() {
            None => Condition::ready("nothing to run"),
            Some(worst) => {
                let what = format!("{} {}", worst.kind, worst.name);
                let said = worst
                    .message
                    .as_deref()
                    .map(|message| format!(": {message}"))
                    .unwrap_or_default();
                match worst.health_status {
                    HealthStatus::Healthy => {
                        Condition::ready(format!("all {} objects are healthy", self.resources.len()))
                    }
                    HealthStatus::Suspended => Condition::new(
                        types::READY,
                        true,
                        reasons::SUSPENDED,
                        format!("{what} is suspended"),
                    ),
                    HealthStatus::Progressing | HealthStatus::Unknown => {
                        Condition::not_ready(reasons::PROGRESSING, format!("{what} is on its way{said}"))
                    }
                    HealthStatus::Missing => {
                        Condition::not_ready(reasons::PROGRESSING, format!("{what} is missing"))
                    }
                    HealthStatus::Degraded => {
                        Condition::not_ready(reasons::DEGRADED, format!("{what}{said}"))
                    }
                }
            }
        }
    }

    fn failure_message(&self) -> String {
        let all: Vec<String> = self
            .failures
            .iter()
            .map(|(_, address, failure)| format!("{address}: {failure}"))
            .collect();
        all.join("; ")
    }

    fn health(&self) -> HealthStatus {
        match (&self.outage, &self.waiting) {
            (Some(_), _) => HealthStatus::Unknown,
            (_, Some(_)) => HealthStatus::Progressing,
            _ => self
                .worst()
                .map_or(HealthStatus::Healthy, |worst| worst.health_status),
        }
    }
}

fn judge(live: &DynamicObject, pods: &impl Deref<Target = Vec<Value>>, rules: &Rules) -> Health {
    let Ok(value) = serde_json::to_value(live) else {
        return Health::new(State::Unknown, "Unreadable", "the object cannot be read");
    };
    let health = rules.assess(&value);
    if !health.is_explained_by_pods() {
        return health;
    }
    // A workload's pods are found by its selector.
    let selector = value
        .pointer("/spec/selector/matchLabels")
        .or_else(|| value.pointer("/spec/template/metadata/labels"))
        .and_then(Value::as_object);
    match selector {
        Some(selector) => health.with_pods(pods.iter().filter(|pod| {
            selector.iter().all(|(label, value)| {
                pod.pointer("/metadata/labels")
                    .and_then(|labels| labels.get(label))
                    == Some(value)
            })
        })),
        None => health,
    }
}

/// Only of tasks: most objects need not be turned into JSON for it.
fn facts(live: &DynamicObject) -> Option<Value> {
    let kind = &live.types.as_ref()?.kind;
    if kind != "CronJob" && kind != "Job" {
        return None;
    }
    health::facts(&serde_json::to_value(live).ok()?)
}

fn as_status(state: State) -> HealthStatus {
    match state {
        State::Healthy => HealthStatus::Healthy,
        State::Suspended => HealthStatus::Suspended,
        State::Progressing => HealthStatus::Progressing,
        State::Unknown => HealthStatus::Unknown,
        State::Missing => HealthStatus::Missing,
        State::Degraded => HealthStatus::Degraded,
    }
}

fn value(status: &ReleaseStatus) -> Value {
    serde_json::to_value(status).unwrap_or_default()
}

/// The status as it was, with another `Ready`, said of the current generation.
fn with_ready(subject: &Subject, condition: Condition) -> ReleaseStatus {
    let generation = subject.release.metadata.generation;
    let mut status = subject.status();
    status.observed_generation = generation;
    conditions::set(&mut status.conditions, condition.observed(generation));
    status
}

/// Nothing can be done before what the condition names is there.
pub(super) fn waiting(subject: &Subject, condition: Condition) -> Value {
    value(&with_ready(subject, condition))
}

/// The release itself is wrong.
pub(super) fn invalid(subject: &Subject, errors: &[String]) -> Value {
    value(&with_ready(
        subject,
        Condition::not_ready(reasons::INVALID, errors.join("; ")),
    ))
}

/// The inventory before the objects in it are made; nothing else changes.
pub(super) fn remembering(
    subject: &Subject,
    identity: &DataPlaneIdentity,
    inventory: &[InventoryEntry],
) -> Value {
    let mut status = subject.status();
    status.inventory = inventory.to_vec();
    status.data_plane = Some(identity.clone());
    if conditions::find(&status.conditions, types::READY).is_none() {
        status.conditions.push(Condition::not_ready(
            reasons::PROGRESSING,
            "being applied for the first time",
        ));
    }
    value(&status)
}

/// The release is being deleted and these objects are in the way.
pub(super) fn deleting(subject: &Subject, cleanup: &Cleanup, until: Option<Timestamp>) -> Value {
    let names: Vec<String> = cleanup
        .left
        .iter()
        .map(|entry| address_of(entry).to_string())
        .collect();
    let (reason, message) = match &cleanup.problem {
        None => (
            reasons::DELETING,
            format!("waiting for the end of {}", names.join(", ")),
        ),
        Some(problem) => {
            let until = until
                .map(|until| format!("tried until {until}, then "))
                .unwrap_or_default();
            (
                reasons::UNREACHABLE,
                format!(
                    "{problem}; {until}left behind: {}; to give up now, annotate this Release or its DataPlane \
                     with openchoreo.dev/force-delete=\"true\"",
                    names.join(", ")
                ),
            )
        }
    };
    let mut status = with_ready(subject, Condition::not_ready(reasons::DELETING, &message));
    let condition = Condition::new(types::DELETING, true, reason, message);
    conditions::set(
        &mut status.conditions,
        condition.observed(subject.release.metadata.generation),
    );
    status.inventory.clone_from(&cleanup.left);
    value(&status)
}

/// The release leaves a data plane for another one.
pub(super) fn moving(subject: &Subject, from: &DataPlaneIdentity, cleanup: &Cleanup) -> Value {
    let message = match &cleanup.problem {
        Some(problem) => format!(
            "the environment left DataPlane {:?}, which cannot be cleaned: {problem}",
            from.name
        ),
        None => format!(
            "being removed from DataPlane {:?}, which the environment has left",
            from.name
        ),
    };
    let mut status = with_ready(subject, Condition::not_ready(reasons::PROGRESSING, message));
    status.inventory.clone_from(&cleanup.left);
    status.applied_hash = None;
    value(&status)
}

/// The status after a round of applying.
pub(super) fn derive(subject: &Subject, place: &Place, wanted: &[Wanted], results: &[InCluster]) -> Value {
    let generation = subject.release.metadata.generation;
    let before = subject.status();
    let name = &place.identity.name;
    let hash = hash(wanted);
    let mut status = ReleaseStatus {
        observed_generation: generation,
        data_plane: Some(place.identity.clone()),
        object_count: i32::try_from(wanted.len()).ok(),
        inventory: results
            .iter()
            .flat_map(|result| result.inventory.clone())
            .collect(),
        ..ReleaseStatus::default()
    };
    status.inventory.sort();
    let Some(primary) = results.first() else {
        return value(&status);
    };
    status.resources = if primary.resources.is_empty() {
        before.resources
    } else {
        primary.resources.clone()
    };
    let applied = |result: &InCluster| {
        result.outage.is_none() && result.waiting.is_none() && result.failures.is_empty()
    };
    status.applied_hash = if applied(primary) {
        Some(hash.clone())
    } else {
        before.applied_hash
    };

    let mut ready = primary.ready(name);
    if results.len() > 1 {
        status.clusters = results
            .iter()
            .map(|result| ClusterRelease {
                cluster: result.cluster.clone(),
                health_status: result.health(),
                applied_hash: Some(hash.clone()).filter(|_| applied(result)),
                message: Some(result.ready(name).message).filter(|message| !message.is_empty()),
            })
            .collect();
        let failing: Vec<String> = results
            .iter()
            .skip(1)
            .filter(|result| !result.ready(name).is_true())
            .map(|result| format!("{}: {}", result.cluster, result.ready(name).message))
            .collect();
        if ready.is_true() && failing.len() > place.tolerated {
            ready = Condition::not_ready(reasons::DEGRADED, failing.join("; "));
        }
    }
    let state = match (&primary.outage, &primary.waiting) {
        (Some(_), _) => Condition::new(
            types::APPLIED,
            ConditionStatus::Unknown,
            reasons::UNREACHABLE,
            &ready.message,
        ),
        (_, Some(waiting)) => Condition::new(types::APPLIED, false, reasons::WAITING, waiting),
        _ if primary.failures.is_empty() => {
            let message = format!("{} objects are as rendered", wanted.len());
            Condition::new(types::APPLIED, true, reasons::APPLIED, message)
        }
        _ => Condition::new(
            types::APPLIED,
            false,
            reasons::APPLY_FAILED,
            primary.failure_message(),
        ),
    };
    status.conditions = [ready, state]
        .into_iter()
        .map(|condition| condition.observed(generation))
        .collect();
    value(&status)
}

/// Whether a status says that its release is ready.
pub(super) fn is_ready(status: &Value) -> bool {
    conditions::find(&conditions_of(Some(status)), types::READY).is_some_and(Condition::is_true)
}

/// Hash of the objects as they are wanted.
fn hash(wanted: &[Wanted]) -> String {
    let mut hasher = Sha256::new();
    for object in wanted {
        hasher.update(object.object.to_string().as_bytes());
        hasher.update(b"\n");
    }
    format!("sha256:{}", hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn in_cluster(healths: &[HealthStatus]) -> InCluster {
        let resources = healths
            .iter()
            .enumerate()
            .map(|(index, health)| ResourceStatus {
                id: index.to_string(),
                kind: "Thing".into(),
                name: index.to_string(),
                health_status: *health,
                ..ResourceStatus::default()
            })
            .collect();
        InCluster {
            cluster: String::new(),
            outage: None,
            waiting: None,
            failures: vec![],
            inventory: vec![],
            resources,
            ignored: BTreeSet::new(),
            as_wanted: None,
        }
    }

    #[rstest]
    #[case(&[HealthStatus::Healthy, HealthStatus::Healthy], "True", "Ready", "all 2 objects are healthy")]
    #[case(&[HealthStatus::Healthy, HealthStatus::Progressing], "False", "Progressing", "Thing 1 is on its way")]
    #[case(&[HealthStatus::Degraded, HealthStatus::Missing], "False", "Degraded", "Thing 0")]
    #[case(&[], "True", "Ready", "nothing to run")]
    fn the_worst_object_decides(
        #[case] healths: &[HealthStatus],
        #[case] status: &str,
        #[case] reason: &str,
        #[case] message: &str,
    ) {
        let ready = in_cluster(healths).ready("dp");
        assert_eq!(
            (
                ready.status.as_str(),
                ready.reason.as_str(),
                ready.message.as_str()
            ),
            (status, reason, message)
        );
    }

    #[test]
    fn what_failed_is_named() {
        let mut result = in_cluster(&[HealthStatus::Healthy]);
        let address = ObjectRef::new("", "Service", "ns", "s");
        result
            .failures
            .push(("service-s".into(), address, Failure::Rejected("no".into())));
        let ready = result.ready("dp");
        assert_eq!(
            (ready.reason.as_str(), ready.message.as_str()),
            ("ApplyFailed", "Service ns/s: no")
        );
    }
}
