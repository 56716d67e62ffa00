//! DaemonSet: one Pod on every node that fits.
//!
//! A rollout either takes old Pods away, a few at a time (`maxUnavailable`), or makes new ones beside them first (`maxSurge`).

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus},
        core::v1::{
            Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
            PodSpec, Taint, Toleration,
        },
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    history::{self, REVISION},
    pods::{from_template, is_available, is_deleting, is_finished, is_ready, label, phase, set},
};
use crate::core::{Action, Context, Name, Result, matches, owner_reference, wants_node};

const COMPONENT: &str = "daemonset-controller";
const GENERATION: &str = "pod-template-generation";

/// What a Pod that belongs to its node bears: key and effect.
const BORNE: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let Some(set) = context.world.daemon_sets.get(name) else {
        return Ok(Action::Wait);
    };
    let (spec, Some(uid)) = (&set.spec, set.metadata.uid.as_deref()) else {
        return Ok(Action::Wait);
    };
    if set.metadata.deletion_timestamp.is_some() {
        // Its Pods and its revisions go with it.
        return Ok(Action::Wait);
    }
    let owner = history::Owner {
        reference: owner_reference(&*set),
        meta: &set.metadata,
        selector: &spec.selector,
        template: &spec.template,
        limit: spec.revision_history_limit,
    };
    let revision = history::present(context, &owner).await?;
    let revision = history::hash_of(&revision);
    let wanted = wanted(context, spec);
    context
        .adopt::<Pod>(&name.namespace, &owner.reference, |meta| {
            matches(&spec.selector, meta)
        })
        .await?;
    step(
        context,
        &set,
        spec,
        revision,
        &wanted,
        by_node(context, name, uid),
    )
    .await?;
    let pods = by_node(context, name, uid);
    let is_of = |pod: &Arc<Pod>, hash: &str| label(&pod.metadata, REVISION) == Some(hash);
    history::prune(context, &owner, |kept| {
        let hash = history::hash_of(kept);
        hash == revision || pods.values().flatten().any(|pod| is_of(pod, hash))
    })
    .await?;
    let (status, action) = status(&set, spec, revision, &wanted, &pods);
    if set.status.as_ref() != Some(&status) {
        let mut changed = (*set).clone();
        changed.status = Some(status);
        context.replace_status(&changed).await?;
    }
    Ok(action)
}

/// The nodes that are to have a Pod.
fn wanted(context: &Context, spec: &DaemonSetSpec) -> Vec<String> {
    let Some(pod) = &spec.template.spec else {
        return Vec::new();
    };
    let nodes = context.world.nodes.all();
    let fitting = nodes.iter().filter(|node| fits(pod, node));
    fitting.filter_map(|node| node.metadata.name.clone()).collect()
}

fn fits(pod: &PodSpec, node: &Node) -> bool {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let borne = |taint: &Taint| {
        BORNE.contains(&(taint.key.as_str(), taint.effect.as_str()))
            || pod
                .tolerations
                .iter()
                .flatten()
                .any(|toleration| tolerates(toleration, taint))
    };
    let repelled = |taint: &&Taint| taint.effect != "PreferNoSchedule" && !borne(taint);
    wants_node(pod, name, &labels) && !taints.iter().any(|taint| repelled(&taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let empty_or =
        |given: Option<&String>, wanted: &str| given.is_none_or(|given| given.is_empty() || given == wanted);
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
    let key = match toleration.key.as_deref() {
        None | Some("") => exists,
        Some(key) => key == taint.key,
    };
    key && (exists || value) && empty_or(toleration.effect.as_ref(), &taint.effect)
}

/// The node that a Pod runs on, or is made for.
fn node_of(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let bound = spec.node_name.clone().filter(|node| !node.is_empty());
    bound.or_else(|| {
        let required = spec
            .affinity
            .as_ref()?
            .node_affinity
            .as_ref()?
            .required_during_scheduling_ignored_during_execution
            .as_ref()?;
        let fields = required.node_selector_terms.first()?.match_fields.as_ref()?;
        fields.first()?.values.as_ref()?.first().cloned()
    })
}

fn by_node(context: &Context, name: &Name, uid: &str) -> BTreeMap<String, Vec<Arc<Pod>>> {
    let mut found: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in context.world.pods.controlled_by(&name.namespace, uid) {
        found
            .entry(node_of(&pod).unwrap_or_default())
            .or_default()
            .push(pod);
    }
    found
}

/// Removes what is too much, makes what is missing, and replaces what is old, a few at a time.
async fn step(
    context: &Context,
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    revision: &str,
    wanted: &[String],
    pods: BTreeMap<String, Vec<Arc<Pod>>>,
) -> Result<()> {
    let surge = surge_of(spec, wanted.len());
    if surge > 0 {
        return step_beside(context, set, spec, revision, wanted, &pods, surge).await;
    }
    let mut old = Vec::new();
    let mut unavailable = 0;
    for (node, mut here) in pods.iter().map(|(node, here)| (node, here.clone())) {
        here.retain(|pod| !is_deleting(pod));
        if !wanted.contains(node) {
            for pod in here {
                delete(context, set, &pod).await?;
            }
            continue;
        }
        here.sort_by_key(|pod| {
            (
                is_finished(pod),
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            )
        });
        for (nth, pod) in here.iter().enumerate() {
            if is_finished(pod) {
                tell_finished(context, set, pod, node);
            }
            if is_finished(pod) || nth > 0 {
                delete(context, set, pod).await?;
            } else {
                let (available, _) = is_available(pod, spec.min_ready_seconds.unwrap_or(0));
                unavailable += usize::from(!available);
                if label(&pod.metadata, REVISION) != Some(revision) {
                    old.push((available, pod.clone()));
                }
            }
        }
    }
    for node in wanted {
        let here = pods.get(node).map_or(&[][..], Vec::as_slice);
        if here.is_empty() {
            unavailable += 1;
            create(context, set, spec, revision, node).await?;
        } else if here.iter().all(|pod| is_deleting(pod)) {
            unavailable += 1;
        }
    }
    let strategy = spec.update_strategy.as_ref();
    if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
        return Ok(());
    }
    let most = strategy.and_then(|strategy| strategy.rolling_update.as_ref()?.max_unavailable.as_ref());
    let most = at_most(most, wanted.len());
    // One that serves nobody is replaced first, and costs nothing.
    old.sort_by_key(|(available, pod)| (*available, pod.metadata.name.clone()));
    for (available, pod) in old {
        if available && unavailable >= most {
            break;
        }
        unavailable += usize::from(available);
        delete(context, set, &pod).await?;
    }
    Ok(())
}

/// What a Pod that runs on a node is to a rollout.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Whether it is of the present template.
    new: bool,
    ready: bool,
    available: bool,
}

/// What a node needs of a rollout that makes new Pods beside the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// A Pod, at once: there is none, or an old one that serves nobody.
    Pod,
    /// A new Pod beside an old one that is available, when it is its turn.
    Turn,
    /// That its new Pod becomes available; it has had its turn.
    Patience,
}

/// What a node needs, and which of its running Pods, the oldest first, have to go. One of each template stays as long as the
/// old one is ready and the new one is not available yet.
fn beside(running: &[Standing]) -> (Need, Vec<usize>) {
    let first = |new: bool| running.iter().position(|pod| pod.new == new);
    let (new, old) = (first(true), first(false));
    let mut gone: Vec<usize> = (0..running.len())
        .filter(|nth| Some(*nth) != new && Some(*nth) != old)
        .collect();
    let need = match (new.map(|nth| running[nth]), old.map(|nth| running[nth])) {
        (None, None) => Need::Pod,
        (Some(_), None) => Need::Nothing,
        (None, Some(old)) if old.available => Need::Turn,
        (None, Some(_)) => Need::Pod,
        (Some(new), Some(old)) => {
            if new.available || !old.ready {
                gone.extend(first(false));
            }
            if new.available {
                Need::Nothing
            } else {
                Need::Patience
            }
        }
    };
    (need, gone)
}

/// A step of a rollout that makes new Pods beside the old ones.
async fn step_beside(
    context: &Context,
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    revision: &str,
    wanted: &[String],
    pods: &BTreeMap<String, Vec<Arc<Pod>>>,
    surge: usize,
) -> Result<()> {
    for (_, here) in pods.iter().filter(|(node, _)| !wanted.contains(node)) {
        for pod in here.iter().filter(|pod| !is_deleting(pod)) {
            delete(context, set, pod).await?;
        }
    }
    let (mut turns, mut surging) = (Vec::new(), 0);
    for node in wanted {
        let here = pods.get(node).map_or(&[][..], Vec::as_slice);
        let (finished, mut running): (Vec<_>, Vec<_>) = here
            .iter()
            .filter(|pod| !is_deleting(pod))
            .partition(|pod| is_finished(pod));
        for pod in finished {
            tell_finished(context, set, pod, node);
            delete(context, set, pod).await?;
        }
        // Of two that were made within the same second, the one that serves counts as the older one.
        running.sort_by_key(|pod| {
            (
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
                !is_ready(pod),
            )
        });
        let standing = |pod: &&Arc<Pod>| Standing {
            new: label(&pod.metadata, REVISION) == Some(revision),
            ready: is_ready(pod),
            available: is_available(pod, spec.min_ready_seconds.unwrap_or(0)).0,
        };
        let (need, gone) = beside(&running.iter().map(standing).collect::<Vec<_>>());
        for nth in gone {
            delete(context, set, running[nth]).await?;
        }
        match need {
            Need::Nothing => {}
            Need::Pod => create(context, set, spec, revision, node).await?,
            Need::Turn => turns.push(node),
            Need::Patience => surging += 1,
        }
    }
    for node in turns.into_iter().take(surge.saturating_sub(surging)) {
        create(context, set, spec, revision, node).await?;
    }
    Ok(())
}

/// How many nodes may have a new Pod beside an available old one at a time; 0 for a rollout that takes the old ones away first.
fn surge_of(spec: &DaemonSetSpec, nodes: usize) -> usize {
    let strategy = spec.update_strategy.as_ref();
    let rolling = strategy.filter(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let surge = rolling.and_then(|strategy| strategy.rolling_update.as_ref()?.max_surge.as_ref());
    surge.map_or(0, |surge| share(surge, nodes))
}

/// How many may be unavailable at a time: one unless said otherwise, and at least one.
fn at_most(given: Option<&IntOrString>, nodes: usize) -> usize {
    given.map_or(1, |given| share(given, nodes)).max(1)
}

/// A number, or a percentage of the nodes, rounded up.
fn share(given: &IntOrString, nodes: usize) -> usize {
    match given {
        IntOrString::Int(count) => usize::try_from(*count).unwrap_or(0),
        IntOrString::String(text) => {
            let percent = text.trim_end_matches('%').parse::<usize>().unwrap_or(0);
            (nodes * percent).div_ceil(100)
        }
    }
}

fn tell_finished(context: &Context, set: &DaemonSet, pod: &Pod, node: &str) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let message = format!(
        "Found {} daemon pod {name} on node {node}, will try to kill it",
        phase(pod).to_lowercase()
    );
    let reason = if phase(pod) == "Failed" {
        "FailedDaemonPod"
    } else {
        "SucceededDaemonPod"
    };
    context.recorder.warning(set, COMPONENT, reason, message);
}

async fn delete(context: &Context, set: &DaemonSet, pod: &Pod) -> Result<()> {
    context.delete(pod, None).await?;
    let message = format!(
        "Deleted pod: {}",
        pod.metadata.name.as_deref().unwrap_or_default()
    );
    context
        .recorder
        .normal(set, COMPONENT, "SuccessfulDelete", message);
    Ok(())
}

async fn create(
    context: &Context,
    daemon_set: &DaemonSet,
    spec: &DaemonSetSpec,
    revision: &str,
    node: &str,
) -> Result<()> {
    let meta = &daemon_set.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let mut pod = from_template(&spec.template, namespace, owner_reference(daemon_set));
    pod.metadata.generate_name = Some(format!("{}-", meta.name.as_deref().unwrap_or_default()));
    set(&mut pod.metadata.labels, REVISION, revision);
    set(
        &mut pod.metadata.labels,
        GENERATION,
        meta.generation.unwrap_or(1).to_string(),
    );
    let pod_spec = pod.spec.get_or_insert_default();
    on_node(pod_spec, node);
    let tolerations = pod_spec.tolerations.get_or_insert_default();
    for (key, effect) in BORNE {
        let borne = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&borne) {
            tolerations.push(borne);
        }
    }
    let made = context.create(&pod).await?;
    let message = format!(
        "Created pod: {}",
        made.metadata.name.as_deref().unwrap_or_default()
    );
    context
        .recorder
        .normal(daemon_set, COMPONENT, "SuccessfulCreate", message);
    Ok(())
}

/// Binds a Pod to a node through its affinity, as Kubernetes does: the scheduler still says when.
fn on_node(pod: &mut PodSpec, node: &str) {
    let only = NodeSelectorTerm {
        match_expressions: None,
        match_fields: Some(vec![NodeSelectorRequirement {
            key: "metadata.name".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![node.to_owned()]),
        }]),
    };
    let affinity: &mut Affinity = pod.affinity.get_or_insert_default();
    let near: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    near.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![only],
    });
}

fn status(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    revision: &str,
    wanted: &[String],
    pods: &BTreeMap<String, Vec<Arc<Pod>>>,
) -> (DaemonSetStatus, Action) {
    let (mut current, mut misplaced, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0);
    let mut action = Action::Wait;
    for (node, here) in pods {
        let oldest = here.iter().filter(|pod| !is_finished(pod)).min_by_key(|pod| {
            // As in a step: of two of the same second, the one that serves.
            (
                is_deleting(pod),
                pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
                !is_ready(pod),
            )
        });
        let Some(pod) = oldest else { continue };
        if !wanted.contains(node) {
            misplaced += 1;
            continue;
        }
        current += 1;
        ready += i32::from(is_ready(pod));
        let (is_available, later) = is_available(pod, spec.min_ready_seconds.unwrap_or(0));
        available += i32::from(is_available);
        action = action.or(later);
        updated += i32::from(label(&pod.metadata, REVISION) == Some(revision));
    }
    let desired = i32::try_from(wanted.len()).unwrap_or(i32::MAX);
    let count = |count: i32| (count > 0).then_some(count);
    let before = set.status.clone().unwrap_or_default();
    let status = DaemonSetStatus {
        observed_generation: set.metadata.generation,
        desired_number_scheduled: desired,
        current_number_scheduled: current,
        number_misscheduled: misplaced,
        number_ready: ready,
        number_available: count(available),
        number_unavailable: count(desired - available),
        updated_number_scheduled: count(updated),
        collision_count: before.collision_count,
        conditions: before.conditions,
    };
    (status, action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(labels: &serde_json::Value, taints: &serde_json::Value) -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": "n1", "labels": labels}, "spec": {"taints": taints}}),
        )
        .unwrap()
    }

    fn pod(spec: &serde_json::Value) -> PodSpec {
        let mut whole = json!({"containers": []});
        for (field, value) in spec.as_object().unwrap() {
            whole[field] = value.clone();
        }
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn nodes_are_chosen_by_labels_affinity_and_taints() {
        let plain = node(&json!({"disk": "ssd", "size": "8"}), &json!([]));
        let affinity = |expression: serde_json::Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [expression]}],
            }}}})
        };
        for (spec, expected) in [
            (json!({}), true),
            (json!({"nodeSelector": {"disk": "ssd"}}), true),
            (json!({"nodeSelector": {"disk": "hdd"}}), false),
            (
                affinity(json!({"key": "disk", "operator": "In", "values": ["ssd", "nvme"]})),
                true,
            ),
            (
                affinity(json!({"key": "disk", "operator": "NotIn", "values": ["ssd"]})),
                false,
            ),
            (affinity(json!({"key": "gpu", "operator": "DoesNotExist"})), true),
            (
                affinity(json!({"key": "size", "operator": "Gt", "values": ["4"]})),
                true,
            ),
            (
                affinity(json!({"key": "size", "operator": "Lt", "values": ["4"]})),
                false,
            ),
        ] {
            assert_eq!(fits(&pod(&spec), &plain), expected, "{spec}");
        }
        let taint = |key: &str, effect: &str| {
            node(&json!({}), &json!([{"key": key, "value": "v", "effect": effect}]))
        };
        for (spec, node, expected) in [
            (json!({}), taint("own", "NoSchedule"), false),
            (json!({}), taint("own", "PreferNoSchedule"), true),
            (
                json!({}),
                taint("node.kubernetes.io/not-ready", "NoExecute"),
                true,
            ),
            (
                json!({}),
                taint("node.kubernetes.io/unschedulable", "NoSchedule"),
                true,
            ),
            (
                json!({"tolerations": [{"operator": "Exists"}]}),
                taint("own", "NoExecute"),
                true,
            ),
            (
                json!({"tolerations": [{"key": "own", "value": "v"}]}),
                taint("own", "NoSchedule"),
                true,
            ),
            (
                json!({"tolerations": [{"key": "own", "value": "w"}]}),
                taint("own", "NoSchedule"),
                false,
            ),
            (
                json!({"tolerations": [{"key": "own", "operator": "Exists", "effect": "NoExecute"}]}),
                taint("own", "NoSchedule"),
                false,
            ),
        ] {
            assert_eq!(fits(&pod(&spec), &node), expected, "{spec} {node:?}");
        }
    }

    #[test]
    fn new_pods_are_made_beside_old_ones() {
        let pod = |new, ready, available| Standing {
            new,
            ready,
            available,
        };
        let (good, old) = (pod(true, true, true), pod(false, true, true));
        let (young, starting) = (pod(true, true, false), pod(true, false, false));
        for (running, expected) in [
            (vec![], (Need::Pod, vec![])),
            (vec![good], (Need::Nothing, vec![])),
            (vec![starting], (Need::Nothing, vec![])),
            (vec![old], (Need::Turn, vec![])),
            (vec![pod(false, false, false)], (Need::Pod, vec![])),
            (vec![old, starting], (Need::Patience, vec![])),
            // Ready, but not for long enough yet.
            (vec![old, young], (Need::Patience, vec![])),
            (vec![old, good], (Need::Nothing, vec![0])),
            // An old one that serves nobody is not waited for.
            (
                vec![pod(false, false, false), starting],
                (Need::Patience, vec![0]),
            ),
            (vec![old, old, starting, good], (Need::Patience, vec![1, 3])),
        ] {
            assert_eq!(beside(&running), expected, "{running:?}");
        }
    }

    #[test]
    fn surges_are_numbers_or_percentages() {
        let of = |strategy: serde_json::Value| {
            let spec = json!({"selector": {}, "template": {}, "updateStrategy": strategy});
            surge_of(&serde_json::from_value(spec).unwrap(), 10)
        };
        let rolling =
            |surge: serde_json::Value| json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}});
        assert_eq!(of(rolling(json!(2))), 2);
        assert_eq!(of(rolling(json!("25%"))), 3);
        assert_eq!(of(rolling(json!(0))), 0);
        assert_eq!(of(rolling(json!("0%"))), 0);
        assert_eq!(of(json!({"type": "RollingUpdate"})), 0);
        assert_eq!(
            of(json!({"type": "OnDelete", "rollingUpdate": {"maxSurge": 2}})),
            0
        );
    }

    #[test]
    fn at_least_one_may_be_unavailable() {
        let of = |given: &str| at_most(Some(&serde_json::from_str(given).unwrap()), 10);
        assert_eq!(
            (at_most(None, 10), of("3"), of("0"), of("\"25%\""), of("\"0%\"")),
            (1, 3, 1, 3, 1)
        );
    }
}
