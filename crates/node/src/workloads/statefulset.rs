//! StatefulSet: Pods with numbers, in order.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetStatus},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    history::{self, REVISION},
    pods::{from_template, is_available, is_deleting, is_finished, is_ready, label, set},
};
use crate::core::{Action, Context, Name, Result, matches, owner_reference};

const COMPONENT: &str = "statefulset-controller";
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(stateful_set) = context.world.stateful_sets.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&stateful_set.spec, stateful_set.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    if stateful_set.metadata.deletion_timestamp.is_some() {
        // Its Pods and its revisions go with it.
        return Ok(Action::Wait);
    }
    let owner = history::Owner {
        reference: owner_reference(&*stateful_set),
        meta: &stateful_set.metadata,
        selector: &spec.selector,
        template: &spec.template,
        limit: spec.revision_history_limit,
    };
    let update = history::present(context, &owner).await?;
    let revision = Name::of(&*update).name;
    let revisions = Revisions::of(context, &stateful_set, spec, &revision);
    context
        .adopt::<Pod>(&name.namespace, &owner.reference, |meta| {
            matches(&spec.selector, meta) && ordinal(meta, &name.name).is_some()
        })
        .await?;
    step(
        context,
        &stateful_set,
        spec,
        &revisions,
        &mut by_ordinal(context, name, uid),
    )
    .await?;
    let pods = by_ordinal(context, name, uid);
    let (status, action) = status(&stateful_set, spec, &revision, &pods);
    let current = status.current_revision.clone();
    history::prune(context, &owner, |kept| {
        let kept = kept.metadata.name.as_deref();
        kept == Some(revision.as_str())
            || kept == current.as_deref()
            || pods.values().any(|pod| label(&pod.metadata, REVISION) == kept)
    })
    .await?;
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

/// Which template a Pod is made from.
struct Revisions<'a> {
    /// The present one.
    update: (&'a str, &'a PodTemplateSpec),
    /// The one before, while not all Pods are of the present one.
    current: Option<(String, PodTemplateSpec)>,
    /// The first number that gets the present one: where the partition is.
    from: i32,
}

impl<'a> Revisions<'a> {
    fn of(context: &Context, stateful_set: &StatefulSet, spec: &'a StatefulSetSpec, update: &'a str) -> Self {
        let namespace = stateful_set.metadata.namespace.as_deref().unwrap_or_default();
        let status = stateful_set.status.as_ref();
        let current = status.and_then(|status| status.current_revision.clone());
        let current = current.filter(|current| current != update).and_then(|current| {
            let kept = context.world.revisions.get(&Name::new(namespace, &current))?;
            Some((current, history::template(&kept)?))
        });
        let rolling = spec
            .update_strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        Self {
            update: (update, &spec.template),
            current,
            from: range(spec).start.saturating_add(partition),
        }
    }

    fn of_pod(&self, number: i32) -> (&str, &PodTemplateSpec) {
        match &self.current {
            Some((revision, template)) if number < self.from => (revision, template),
            _ => self.update,
        }
    }
}

/// Does what can be done now; with `OrderedReady` that is one thing at a time.
async fn step(
    context: &Context,
    stateful_set: &StatefulSet,
    spec: &StatefulSetSpec,
    revisions: &Revisions<'_>,
    pods: &mut BTreeMap<i32, Arc<Pod>>,
) -> Result<()> {
    let (revision, _) = revisions.update;
    let ordered = spec.pod_management_policy.as_deref() != Some("Parallel");
    let range = range(spec);
    for number in range.clone() {
        match pods.get(&number) {
            None => {
                let made = create(context, stateful_set, spec, revisions.of_pod(number), number).await?;
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
                return repair(context, stateful_set, revisions.of_pod(number).0, pod).await;
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
    for (_, pod) in pods
        .iter()
        .rev()
        .filter(|(number, _)| range.contains(number) && **number >= revisions.from)
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

/// A Pod of a template that is not its own any more and does not get ready would block its own repair.
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
    (revision, template): (&str, &PodTemplateSpec),
    number: i32,
) -> Result<Arc<Pod>> {
    let (namespace, name) = (
        stateful_set.metadata.namespace.as_deref().unwrap_or_default(),
        stateful_set.metadata.name.as_deref().unwrap_or_default(),
    );
    let pod_name = format!("{name}-{number}");
    let mut pod = from_template(template, namespace, owner_reference(stateful_set));
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
