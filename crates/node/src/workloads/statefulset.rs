//! StatefulSet: Pods with numbers, in order.
//!
//! Kept simpler than Kubernetes' controller: there are no ControllerRevision objects, so a Pod below the partition that has to
//! be made anew gets the present template.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, Volume},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    hash,
    pods::{from_template, is_available, is_deleting, is_finished, is_ready, label, set},
};
use crate::core::{Action, Context, Name, Result, matches, owner_reference};

const COMPONENT: &str = "statefulset-controller";
const REVISION: &str = "controller-revision-hash";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(stateful_set) = context.world.stateful_sets.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&stateful_set.spec, stateful_set.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    let revision = format!("{}-{}", name.name, hash::short(&spec.template, 0)?);
    if stateful_set.metadata.deletion_timestamp.is_none() {
        let owner = owner_reference(&*stateful_set);
        context
            .adopt::<Pod>(&name.namespace, &owner, |meta| {
                matches(&spec.selector, meta) && ordinal(meta, &name.name).is_some()
            })
            .await?;
        let mut pods = by_ordinal(context, name, uid);
        step(context, &stateful_set, spec, &revision, &mut pods).await?;
    }
    let pods = by_ordinal(context, name, uid);
    let (status, action) = status(&stateful_set, spec, &revision, &pods);
    if stateful_set.status.as_ref() != Some(&status) {
        let mut changed = (*stateful_set).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(action)
}

fn ordinal(meta: &ObjectMeta, name: &str) -> Option<i32> {
    meta.name
        .as_deref()?
        .strip_prefix(name)?
        .strip_prefix('-')?
        .parse()
        .ok()
}

fn by_ordinal(context: &Context, name: &Name, uid: &str) -> BTreeMap<i32, Arc<Pod>> {
    let pods = context.world.pods.controlled_by(&name.namespace, uid);
    pods.into_iter()
        .filter_map(|pod| Some((ordinal(&pod.metadata, &name.name)?, pod)))
        .collect()
}

fn range(spec: &StatefulSetSpec) -> std::ops::Range<i32> {
    let start = spec
        .ordinals
        .as_ref()
        .and_then(|ordinals| ordinals.start)
        .unwrap_or(0);
    start..start + spec.replicas.unwrap_or(1).max(0)
}

/// Does what can be done now; with `OrderedReady` that is one thing at a time.
async fn step(
    context: &Context,
    stateful_set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &mut BTreeMap<i32, Arc<Pod>>,
) -> Result<()> {
    let ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    let range = range(spec);
    for number in range.clone() {
        match pods.get(&number) {
            None => {
                let made = create(context, stateful_set, spec, revision, number).await?;
                pods.insert(number, made);
                if ordered {
                    return Ok(());
                }
            }
            Some(pod) if is_finished(pod) && !is_deleting(pod) => {
                delete(context, stateful_set, pod).await?;
                if ordered {
                    return Ok(());
                }
            }
            Some(pod) if ordered && (is_deleting(pod) || !is_ready(pod)) => {
                return repair(context, stateful_set, revision, pod).await;
            }
            Some(_) => {}
        }
    }
    for (_, pod) in pods.iter().rev().filter(|(number, _)| !range.contains(number)) {
        if !is_deleting(pod) {
            delete(context, stateful_set, pod).await?;
        }
        if ordered {
            return Ok(());
        }
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Ok(());
    }
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref())
        .and_then(|rolling| rolling.partition)
        .unwrap_or(0);
    for (_, pod) in pods
        .iter()
        .rev()
        .filter(|(number, _)| range.contains(number) && **number >= partition)
    {
        if label(&pod.metadata, REVISION) != Some(revision) {
            if !is_deleting(pod) {
                delete(context, stateful_set, pod).await?;
            }
            return Ok(());
        }
        if !is_ready(pod) {
            return Ok(());
        }
    }
    Ok(())
}

/// A Pod of an old template that does not get ready would block its own repair.
async fn repair(context: &Context, stateful_set: &StatefulSet, revision: &str, pod: &Pod) -> Result<()> {
    if !is_deleting(pod) && label(&pod.metadata, REVISION) != Some(revision) {
        delete(context, stateful_set, pod).await?;
    }
    Ok(())
}

async fn delete(context: &Context, stateful_set: &StatefulSet, pod: &Pod) -> Result<()> {
    context.delete(pod, None).await?;
    let (pod, name) = (
        pod.metadata.name.as_deref().unwrap_or_default(),
        stateful_set.metadata.name.as_deref().unwrap_or_default(),
    );
    let message = format!("delete Pod {pod} in StatefulSet {name} successful");
    context
        .recorder
        .normal(stateful_set, COMPONENT, "SuccessfulDelete", message);
    Ok(())
}

async fn create(
    context: &Context,
    stateful_set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    number: i32,
) -> Result<Arc<Pod>> {
    let (namespace, name) = (
        stateful_set.metadata.namespace.as_deref().unwrap_or_default(),
        stateful_set.metadata.name.as_deref().unwrap_or_default(),
    );
    let pod_name = format!("{name}-{number}");
    let mut pod = from_template(&spec.template, namespace, owner_reference(stateful_set));
    pod.metadata.name = Some(pod_name.clone());
    set(&mut pod.metadata.labels, REVISION, revision);
    set(&mut pod.metadata.labels, POD_NAME, &pod_name);
    set(&mut pod.metadata.labels, POD_INDEX, number.to_string());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(pod_name.clone());
    pod_spec.subdomain = spec.service_name.clone().filter(|service| !service.is_empty());
    for template in spec.volume_claim_templates.iter().flatten() {
        let volume = template.metadata.name.clone().unwrap_or_default();
        let claim = format!("{volume}-{pod_name}");
        if context.world.claims.get(&Name::new(namespace, &claim)).is_none() {
            let mut made = PersistentVolumeClaim {
                status: None,
                ..template.clone()
            };
            made.metadata.name = Some(claim.clone());
            made.metadata.namespace = Some(namespace.into());
            made.metadata
                .labels
                .get_or_insert_default()
                .extend(spec.selector.match_labels.clone().unwrap_or_default());
            match context.create(&made).await {
                Err(error) if !error.is_exists() => return Err(error),
                _ => {}
            }
        }
        let volumes = pod_spec.volumes.get_or_insert_default();
        volumes.retain(|present| present.name != volume);
        volumes.push(Volume {
            name: volume,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim,
                read_only: None,
            }),
            ..Volume::default()
        });
    }
    let created = context.create(&pod).await?;
    let message = format!("create Pod {pod_name} in StatefulSet {name} successful");
    context
        .recorder
        .normal(stateful_set, COMPONENT, "SuccessfulCreate", message);
    Ok(created)
}

fn status(
    stateful_set: &StatefulSet,
    spec: &StatefulSetSpec,
    revision: &str,
    pods: &BTreeMap<i32, Arc<Pod>>,
) -> (StatefulSetStatus, Action) {
    let before = stateful_set.status.clone().unwrap_or_default();
    let wanted = spec.replicas.unwrap_or(1);
    let current = before
        .current_revision
        .clone()
        .filter(|current| !current.is_empty())
        .unwrap_or_else(|| revision.to_owned());
    let (mut ready, mut available, mut updated, mut of_current) = (0, 0, 0, 0);
    let mut action = Action::Wait;
    for pod in pods.values().filter(|pod| !is_finished(pod)) {
        ready += i32::from(is_ready(pod));
        let (is_available, later) = is_available(pod, spec.min_ready_seconds.unwrap_or(0));
        available += i32::from(is_available);
        action = action.or(later);
        let of = label(&pod.metadata, REVISION);
        let counts = i32::from(!is_deleting(pod));
        updated += if of == Some(revision) { counts } else { 0 };
        of_current += if of == Some(&current) { counts } else { 0 };
    }
    let done = updated == wanted && ready == wanted && pods.len() == wanted as usize;
    let count = |count: i32| (count > 0).then_some(count);
    let status = StatefulSetStatus {
        observed_generation: stateful_set.metadata.generation,
        replicas: pods.len() as i32,
        ready_replicas: count(ready),
        available_replicas: Some(available),
        current_replicas: count(if done { updated } else { of_current }),
        updated_replicas: count(updated),
        current_revision: Some(if done { revision.to_owned() } else { current }),
        update_revision: Some(revision.to_owned()),
        collision_count: Some(0),
        conditions: before.conditions,
    };
    (status, action)
}
