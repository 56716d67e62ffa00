//! Which tasks a change of a built-in object means.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;

use super::{Name, Task, World, controller_of, index::Mark};
use crate::operators::Kind;

/// Says what to do about a change.
pub(crate) trait Routed: Sized {
    fn tasks(world: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task>;
}

/// The object itself, before or after.
fn name_of<K: Resource>(old: Option<&K>, new: Option<&K>) -> Option<Name> {
    new.or(old).map(Name::of)
}

/// The controller of the object, before and after.
fn owner_tasks<K: Resource>(old: Option<&K>, new: Option<&K>) -> Vec<Task> {
    let mut tasks: Vec<_> = [old, new]
        .into_iter()
        .flatten()
        .filter_map(|object| owner_task(object.meta()))
        .collect();
    tasks.dedup();
    tasks
}

fn owner_task(meta: &ObjectMeta) -> Option<Task> {
    let owner = controller_of(meta)?;
    let name = Name::new(meta.namespace.as_deref().unwrap_or_default(), &owner.name);
    match owner.kind.as_str() {
        "Deployment" => Some(Task::Deployment(name)),
        "ReplicaSet" => Some(Task::ReplicaSet(name)),
        "StatefulSet" => Some(Task::StatefulSet(name)),
        "DaemonSet" => Some(Task::DaemonSet(name)),
        "Job" => Some(Task::Job(name)),
        "CronJob" => Some(Task::CronJob(name)),
        "Service" => Some(Task::Endpoints(name)),
        "ExternalSecret" => Some(Task::Foreign(Kind::ExternalSecret, name)),
        _ => None,
    }
}

/// The network of the object's namespace.
fn cell_of<K: Resource>(old: Option<&K>, new: Option<&K>) -> Option<Task> {
    name_of(old, new).map(|name| Task::Cell(Name::new(name.namespace, "")))
}

/// What Pods of the object's namespace may have mounted.
fn contents_of<K: Resource>(old: Option<&K>, new: Option<&K>) -> Option<Task> {
    name_of(old, new).map(|name| Task::Contents(Name::new(name.namespace, "")))
}

/// The autoscalers of an object.
fn autoscalers_of(world: &World, kind: &str, name: Option<&Name>) -> Vec<Task> {
    let Some(name) = name else { return Vec::new() };
    let mark = Mark::target(&name.namespace, kind, &name.name);
    let mut all = world.autoscalers.having(&name.namespace, mark);
    all.retain(|autoscaler| crate::workloads::autoscaler::targets(autoscaler, kind, &name.name));
    all.iter()
        .map(|autoscaler| Task::Autoscaler(Name::of(&**autoscaler)))
        .collect()
}

impl Routed for HorizontalPodAutoscaler {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        name_of(old, new).map(Task::Autoscaler).into_iter().collect()
    }
}

impl Routed for PodDisruptionBudget {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        name_of(old, new).map(Task::Budget).into_iter().collect()
    }
}

impl Routed for Deployment {
    fn tasks(world: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let name = name_of(old, new);
        let mut tasks = autoscalers_of(world, "Deployment", name.as_ref());
        tasks.extend(name.map(Task::Deployment));
        tasks
    }
}

impl Routed for ReplicaSet {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        owner_tasks(old, new)
            .into_iter()
            .chain(name_of(old, new).map(Task::ReplicaSet))
            .collect()
    }
}

impl Routed for StatefulSet {
    fn tasks(world: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let name = name_of(old, new);
        let mut tasks = autoscalers_of(world, "StatefulSet", name.as_ref());
        tasks.extend(name.map(Task::StatefulSet));
        tasks
    }
}

impl Routed for DaemonSet {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        name_of(old, new).map(Task::DaemonSet).into_iter().collect()
    }
}

impl Routed for ControllerRevision {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        owner_tasks(old, new)
    }
}

impl Routed for Job {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        owner_tasks(old, new)
            .into_iter()
            .chain(name_of(old, new).map(Task::Job))
            .collect()
    }
}

impl Routed for CronJob {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        name_of(old, new).map(Task::CronJob).into_iter().collect()
    }
}

impl Routed for Pod {
    fn tasks(world: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let mut tasks: Vec<_> = name_of(old, new).map(Task::Pod).into_iter().collect();
        tasks.extend(owner_tasks(old, new));
        let Some(namespace) = new.or(old).and_then(|pod| pod.metadata.namespace.as_deref()) else {
            return tasks;
        };
        let mut selectors = BTreeSet::new();
        let same_labels = old.map(|pod| &pod.metadata.labels) == new.map(|pod| &pod.metadata.labels);
        for pod in old.filter(|_| !same_labels).into_iter().chain(new.or(old)) {
            let labels = pod.metadata.labels.as_ref();
            for service in world.services.selecting(namespace, labels) {
                if super::selector::selects(service.spec.as_ref(), &pod.metadata) {
                    selectors.insert(Task::Endpoints(Name::of(&*service)));
                }
            }
            for budget in world.budgets.selecting(namespace, labels) {
                let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                if selector.is_some_and(|selector| super::matches(selector, &pod.metadata)) {
                    selectors.insert(Task::Budget(Name::of(&*budget)));
                }
            }
        }
        tasks.extend(selectors);
        tasks
    }
}

impl Routed for Service {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let mut tasks: Vec<_> = name_of(old, new).map(Task::Endpoints).into_iter().collect();
        tasks.extend(cell_of(old, new));
        tasks
    }
}

impl Routed for EndpointSlice {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        owner_tasks(old, new)
            .into_iter()
            .chain(cell_of(old, new))
            .collect()
    }
}

impl Routed for Endpoints {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        name_of(old, new).map(Task::Endpoints).into_iter().collect()
    }
}

impl Routed for Node {
    fn tasks(world: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let ours = name_of(old, new).is_some_and(|name| name.name == crate::NODE);
        let mut tasks = if ours { vec![Task::Node] } else { Vec::new() };
        let fits_by = |node: &Node| (node.metadata.labels.clone(), node.spec.clone());
        if old.map(fits_by) != new.map(fits_by) {
            let all = world.daemon_sets.all();
            tasks.extend(all.iter().map(|set| Task::DaemonSet(Name::of(&**set))));
        }
        tasks
    }
}

impl Routed for PersistentVolumeClaim {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let claim = name_of(old, new).map(Task::Claim);
        claim.into_iter().chain(contents_of(old, new)).collect()
    }
}

impl Routed for ConfigMap {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        contents_of(old, new).into_iter().collect()
    }
}

impl Routed for Namespace {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let gone = name_of(old, new).filter(|_| new.is_none());
        gone.map(|name| Task::Cell(Name::new(name.name, "")))
            .into_iter()
            .collect()
    }
}

impl Routed for NetworkPolicy {
    fn tasks(_: &World, _: Option<&Self>, _: Option<&Self>) -> Vec<Task> {
        // They are looked at with every connection.
        Vec::new()
    }
}

impl Routed for Secret {
    fn tasks(_: &World, old: Option<&Self>, new: Option<&Self>) -> Vec<Task> {
        let mut tasks = owner_tasks(old, new);
        tasks.extend(contents_of(old, new));
        tasks
    }
}
