//! Deployment: ReplicaSets of the present and past templates, and the way from one to the next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::{
        Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
    },
    core::v1::PodTemplateSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{
    hash,
    pods::{annotation, set},
    rollout::{self, Bounds},
};
use crate::core::{Action, Context, Name, Result, controller_of, matches, now, owner_reference};

pub(super) const COMPONENT: &str = "deployment-controller";

const HASH: &str = "pod-template-hash";
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";

/// Seconds without progress after which a rollout has failed, if the Deployment does not say.
const DEADLINE: i32 = 600;

/// Annotations of a Deployment that are its own and not its ReplicaSets'.
const OWN: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(deployment) = context.world.deployments.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&deployment.spec, deployment.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    if deployment.metadata.deletion_timestamp.is_some() {
        return Ok(Action::Wait);
    }
    let owner = owner_reference(&*deployment);
    context
        .adopt::<ReplicaSet>(&name.namespace, &owner, |meta| matches(&spec.selector, meta))
        .await?;
    let (new, old) = split(context, &deployment, spec, uid);
    let sets = Sets { new, old };
    let sets = if spec.paused == Some(true) {
        sets
    } else if spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("Recreate")
    {
        recreate(context, &deployment, spec, sets).await?
    } else {
        let Some(sets) = with_new(context, &deployment, spec, sets).await? else {
            return Ok(Action::Wait);
        };
        rollout::step(context, &deployment, spec, &sets).await?;
        refresh(context, &deployment, spec, uid)
    };
    if spec.paused == Some(true) {
        rollout::scale_active(context, &deployment, spec, &sets).await?;
    }
    let action = write_status(context, &deployment, spec, &sets).await?;
    clean_up(context, spec, &deployment, &sets).await?;
    Ok(action)
}

/// The ReplicaSets of a Deployment.
pub(super) struct Sets {
    /// The one of the present template.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// The others, oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }
}

pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

fn refresh(context: &Context, deployment: &Deployment, spec: &DeploymentSpec, uid: &str) -> Sets {
    let (new, old) = split(context, deployment, spec, uid);
    Sets { new, old }
}

fn split(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    uid: &str,
) -> (Option<Arc<ReplicaSet>>, Vec<Arc<ReplicaSet>>) {
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let mut sets = context.world.replica_sets.controlled_by(namespace, uid);
    sets.retain(|set| set.metadata.deletion_timestamp.is_none());
    sets.sort_by_key(|set| {
        (
            set.metadata.creation_timestamp.as_ref().map(|time| time.0),
            set.metadata.name.clone(),
        )
    });
    let wanted = without_hash(&spec.template);
    let is_new = |set: &Arc<ReplicaSet>| {
        let template = set.spec.template.as_ref();
        template.is_some_and(|template| without_hash(template) == wanted)
    };
    // The oldest of several, which only an interrupted write can bring about.
    match sets.iter().position(is_new) {
        Some(at) => {
            let new = sets.remove(at);
            (Some(new), sets)
        }
        None => (None, sets),
    }
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    // Empty and absent mean the same; which of them comes back depends on the server.
    meta.labels = meta.labels.take().filter(|labels| !labels.is_empty());
    meta.annotations = meta
        .annotations
        .take()
        .filter(|annotations| !annotations.is_empty());
    meta.creation_timestamp = None;
    template
}

fn revision(meta: &ObjectMeta) -> i64 {
    annotation(meta, REVISION).unwrap_or(0)
}

/// Makes sure that there is a ReplicaSet of the present template, with the newest revision. `None` when one has to go first.
async fn with_new(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: Sets,
) -> Result<Option<Sets>> {
    let newest = sets
        .old
        .iter()
        .map(|set| revision(&set.metadata))
        .max()
        .unwrap_or(0);
    let replicas = spec.replicas.unwrap_or(1);
    let max = replicas + Bounds::of(spec).surge;
    let Sets { new, old } = sets;
    let new = match new {
        Some(set) => {
            let mut changed = (*set).clone();
            annotate(
                &mut changed,
                deployment,
                (newest + 1).max(revision(&set.metadata)),
                replicas,
                max,
            );
            let seconds = spec.min_ready_seconds.filter(|seconds| *seconds != 0);
            let present = &mut changed.spec.min_ready_seconds;
            if present.filter(|seconds| *seconds != 0) != seconds {
                *present = seconds;
            }
            if changed == *set {
                set
            } else {
                context.replace(&changed).await?
            }
        }
        None => match create_new(context, deployment, spec, &old, newest + 1, max).await? {
            Some(set) => set,
            None => return Ok(None),
        },
    };
    let now = revision(&new.metadata);
    if revision(&deployment.metadata) != now {
        let patch = json!({"metadata": {"annotations": {REVISION: now.to_string()}}});
        context.merge::<Deployment>(&Name::of(deployment), &patch).await?;
    }
    Ok(Some(Sets { new: Some(new), old }))
}

async fn create_new(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    old: &[Arc<ReplicaSet>],
    number: i64,
    max: i32,
) -> Result<Option<Arc<ReplicaSet>>> {
    let (namespace, name) = (
        deployment.metadata.namespace.as_deref().unwrap_or_default(),
        Name::of(deployment).name,
    );
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    let hash = hash::short(&without_hash(&spec.template), collisions)?;
    let mut template = spec.template.clone();
    set(&mut template.metadata.get_or_insert_default().labels, HASH, &hash);
    let mut selector = spec.selector.clone();
    set(&mut selector.match_labels, HASH, &hash);
    let total: i32 = old.iter().map(|set| wanted(set)).sum();
    let replicas = spec.replicas.unwrap_or(1);
    let mut made = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: Some(namespace.into()),
            labels: template.metadata.as_ref().and_then(|meta| meta.labels.clone()),
            owner_references: Some(vec![owner_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas.min((max - total).max(0))),
            min_ready_seconds: spec.min_ready_seconds.filter(|seconds| *seconds != 0),
            selector,
            template: Some(template),
        },
        status: None,
    };
    annotate(&mut made, deployment, number, replicas, max);
    match context.create(&made).await {
        Ok(created) => {
            scaled(context, deployment, &created, 0, wanted(&created));
            Ok(Some(created))
        }
        Err(error) if error.is_exists() => {
            let there = context.world.replica_sets.get(&Name::of(&made));
            let owner = there
                .as_ref()
                .and_then(|set| controller_of(&set.metadata))
                .map(|owner| owner.uid.clone());
            if owner.is_some() && owner == deployment.metadata.uid {
                // Ours with another template: two templates have the same short name.
                let mut changed = deployment.clone();
                changed.status.get_or_insert_default().collision_count = Some(collisions + 1);
                context.replace_status(&changed).await?;
            }
            // Else the one of a Deployment of this name that has been deleted, and goes.
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn annotate(replica_set: &mut ReplicaSet, deployment: &Deployment, number: i64, replicas: i32, max: i32) {
    let before = revision(&replica_set.metadata);
    let annotations = replica_set.metadata.annotations.get_or_insert_default();
    let own = deployment.metadata.annotations.iter().flatten();
    annotations.extend(
        own.filter(|(key, _)| !OWN.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone())),
    );
    if before != 0 && before != number {
        let history = annotations.get(REVISION_HISTORY).cloned().unwrap_or_default();
        let history = if history.is_empty() {
            before.to_string()
        } else {
            format!("{history},{before}")
        };
        annotations.insert(REVISION_HISTORY.into(), history);
    }
    annotations.extend(BTreeMap::from([
        (REVISION.to_owned(), number.to_string()),
        (DESIRED.to_owned(), replicas.to_string()),
        (MAX.to_owned(), max.to_string()),
    ]));
}

pub(super) fn scaled(context: &Context, deployment: &Deployment, set: &ReplicaSet, from: i32, to: i32) {
    if from == to {
        return;
    }
    let direction = if to > from { "up" } else { "down" };
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
    context
        .recorder
        .normal(deployment, COMPONENT, "ScalingReplicaSet", message);
}

/// All old Pods go before the first new one comes.
async fn recreate(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: Sets,
) -> Result<Sets> {
    for set in sets.old.iter().filter(|set| wanted(set) > 0) {
        rollout::scale(context, deployment, spec, set, 0).await?;
    }
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let left = sets
        .old
        .iter()
        .filter_map(|set| set.metadata.uid.as_deref())
        .flat_map(|uid| context.world.pods.controlled_by(namespace, uid))
        .any(|pod| !super::pods::is_finished(&pod));
    if left {
        return Ok(sets);
    }
    let uid = deployment.metadata.uid.as_deref().unwrap_or_default();
    if let Some(Sets { new: Some(new), .. }) = with_new(context, deployment, spec, sets).await? {
        let replicas = spec.replicas.unwrap_or(1);
        if wanted(&new) != replicas {
            rollout::scale(context, deployment, spec, &new, replicas).await?;
        }
    }
    Ok(refresh(context, deployment, spec, uid))
}

async fn clean_up(
    context: &Context,
    spec: &DeploymentSpec,
    deployment: &Deployment,
    sets: &Sets,
) -> Result<()> {
    let complete = deployment
        .status
        .as_ref()
        .is_some_and(|status| is_complete(spec, status));
    let keep = spec.revision_history_limit.unwrap_or(10).max(0) as usize;
    if !complete || sets.old.len() <= keep {
        return Ok(());
    }
    let mut unused: Vec<_> = sets
        .old
        .iter()
        .filter(|set| {
            let left = set.status.as_ref().map_or(0, |status| status.replicas);
            wanted(set) == 0 && left == 0
        })
        .collect();
    unused.sort_by_key(|set| revision(&set.metadata));
    for set in unused.iter().take(sets.old.len() - keep) {
        context.delete(&***set, None).await?;
    }
    Ok(())
}

fn is_complete(spec: &DeploymentSpec, status: &DeploymentStatus) -> bool {
    let replicas = spec.replicas.unwrap_or(1);
    let is = |count: Option<i32>| count.unwrap_or(0) == replicas;
    is(status.updated_replicas) && is(status.replicas) && is(status.available_replicas)
}

async fn write_status(
    context: &Context,
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
) -> Result<Action> {
    // The newest version: the annotations may just have been written.
    let Some(latest) = context.world.deployments.get(&Name::of(deployment)) else {
        return Ok(Action::Wait);
    };
    let before = latest.status.clone().unwrap_or_default();
    let sum = |count: fn(&ReplicaSet) -> i32| sets.all().map(|set| count(set)).sum::<i32>();
    let status_of = |set: &ReplicaSet, field: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| {
        set.status.as_ref().map_or(0, field)
    };
    let available = sum(available);
    let count = |count: i32| (count > 0).then_some(count);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: count(sum(|set| set.status.as_ref().map_or(0, |status| status.replicas))),
        updated_replicas: count(
            sets.new
                .as_ref()
                .map_or(0, |set| status_of(set, |status| status.replicas)),
        ),
        ready_replicas: count(sum(|set| {
            set.status
                .as_ref()
                .and_then(|status| status.ready_replicas)
                .unwrap_or(0)
        })),
        available_replicas: count(available),
        unavailable_replicas: count(sum(wanted) - available),
        terminating_replicas: Some(sum(|set| {
            set.status
                .as_ref()
                .and_then(|status| status.terminating_replicas)
                .unwrap_or(0)
        })),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    let bounds = Bounds::of(spec);
    let minimum = spec.replicas.unwrap_or(1) - bounds.unavailable;
    if available >= minimum {
        condition(
            &mut status,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        );
    } else {
        condition(
            &mut status,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        );
    }
    let action = progress(deployment, spec, sets, &before, &mut status);
    let failure = sets
        .all()
        .filter_map(|set| set.status.as_ref()?.conditions.as_ref())
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some("ReplicaFailure"));
    match failure {
        Some(found) => {
            let (reason, message) = (
                found.reason.clone().unwrap_or_default(),
                found.message.clone().unwrap_or_default(),
            );
            condition(&mut status, "ReplicaFailure", "True", &reason, &message);
        }
        None => {
            if let Some(conditions) = &mut status.conditions {
                conditions.retain(|condition| condition.type_.as_deref() != Some("ReplicaFailure"));
            }
        }
    }
    if status != before {
        let mut changed = (*latest).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(action)
}

/// The condition `Progressing`.
fn progress(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    sets: &Sets,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
) -> Action {
    let deadline = spec.progress_deadline_seconds.unwrap_or(DEADLINE);
    if deadline == i32::MAX {
        // Kubernetes' way to say that there is no deadline.
        return Action::Wait;
    }
    let known = before
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some("Progressing"));
    let name = match &sets.new {
        Some(set) => format!(
            "ReplicaSet {:?}",
            set.metadata.name.as_deref().unwrap_or_default()
        ),
        None => format!(
            "Deployment {:?}",
            deployment.metadata.name.as_deref().unwrap_or_default()
        ),
    };
    if spec.paused == Some(true) {
        if known.is_none_or(|known| known.reason.as_deref() != Some("DeploymentPaused")) {
            condition(
                status,
                "Progressing",
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused",
            );
        }
        return Action::Wait;
    }
    let more =
        |count: fn(&DeploymentStatus) -> Option<i32>| count(status).unwrap_or(0) - count(before).unwrap_or(0);
    let old = |status: &DeploymentStatus| status.replicas.unwrap_or(0) - status.updated_replicas.unwrap_or(0);
    let moved = more(|status| status.updated_replicas) > 0
        || old(status) < old(before)
        || more(|status| status.ready_replicas) > 0
        || more(|status| status.available_replicas) > 0;
    let was_done = known.is_some_and(|known| known.reason.as_deref() == Some("NewReplicaSetAvailable"));
    let new_template = deployment.metadata.generation != before.observed_generation;
    if is_complete(spec, status) && sets.new.is_some() {
        condition(
            status,
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            &format!("{name} has successfully progressed."),
        );
        return Action::Wait;
    }
    if known.is_none() && !moved {
        let message = format!(
            "Created new replica set {:?}",
            sets.new
                .as_ref()
                .and_then(|set| set.metadata.name.clone())
                .unwrap_or_default()
        );
        condition(status, "Progressing", "True", "NewReplicaSetCreated", &message);
    } else if moved || known.is_none() || (was_done && new_template) {
        let message = format!("{name} is progressing.");
        condition(status, "Progressing", "True", "ReplicaSetUpdated", &message);
        touch(status);
    } else if was_done {
        // Pods of a finished rollout may fail; that is no failed rollout.
        return Action::Wait;
    }
    let current = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some("Progressing"));
    let since = current
        .and_then(|condition| condition.last_update_time.as_ref())
        .map_or_else(Timestamp::now, |time| time.0);
    let passed = Duration::try_from(since.duration_until(Timestamp::now())).unwrap_or_default();
    let deadline = Duration::from_secs(deadline.max(0) as u64);
    if passed >= deadline {
        condition(
            status,
            "Progressing",
            "False",
            "ProgressDeadlineExceeded",
            &format!("{name} has timed out progressing."),
        );
        return Action::Wait;
    }
    Action::After(deadline - passed)
}

/// Sets a condition; its times move only as Kubernetes moves them.
fn condition(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: &str) {
    let conditions = status.conditions.get_or_insert_default();
    let now = Some(now());
    match conditions
        .iter_mut()
        .find(|condition| condition.type_.as_deref() == Some(kind))
    {
        Some(known) => {
            if known.status.as_deref() == Some(value)
                && known.reason.as_deref() == Some(reason)
                && known.message.as_deref() == Some(message)
            {
                return;
            }
            if known.status.as_deref() != Some(value) {
                known.last_transition_time.clone_from(&now);
                known.status = Some(value.into());
            }
            known.last_update_time = now;
            known.reason = Some(reason.into());
            known.message = Some(message.into());
        }
        None => conditions.push(DeploymentCondition {
            type_: Some(kind.into()),
            status: Some(value.into()),
            reason: Some(reason.into()),
            message: Some(message.into()),
            last_update_time: now.clone(),
            last_transition_time: now,
        }),
    }
}

/// Progress was made: the deadline counts from now.
fn touch(status: &mut DeploymentStatus) {
    if let Some(known) = status
        .conditions
        .iter_mut()
        .flatten()
        .find(|condition| condition.type_.as_deref() == Some("Progressing"))
    {
        known.last_update_time = Some(now());
    }
}
