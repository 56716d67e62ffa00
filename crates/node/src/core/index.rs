//! What objects are found by, so that nobody looks at all of a namespace for a few: a cell of a thousand components has thousands of
//! Pods, ReplicaSets and Services, and each of them changes a dozen times while it starts.
//!
//! A mark is a hash. Two things that have the same one cost a look: whoever asks compares what is found with what was wanted.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, LazyLock},
};

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
use kube::{Resource, core::DynamicObject};

use super::{Name, controller_of};

/// Something that an object can be found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mark(u64);

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

impl Mark {
    fn of(what: &impl Hash) -> Self {
        Self(HASHER.hash_one(what))
    }

    /// A label of an object of a namespace.
    pub(crate) fn label(namespace: &str, key: &str, value: &str) -> Self {
        Self::of(&("label", namespace, key, value))
    }

    /// What controls an object.
    pub(crate) fn controller(uid: &str) -> Self {
        Self::of(&("controller", uid))
    }

    /// That nothing controls an object of a namespace.
    pub(crate) fn orphan(namespace: &str) -> Self {
        Self::of(&("orphan", namespace))
    }

    /// What an autoscaler scales.
    pub(crate) fn target(namespace: &str, kind: &str, name: &str) -> Self {
        Self::of(&("target", namespace, kind, name))
    }

    /// What every object of a namespace has.
    pub(crate) fn any(namespace: &str) -> Self {
        Self::of(&("any", namespace))
    }
}

/// How objects of a kind are found.
pub(crate) trait Indexed: Resource {
    /// What it has, beside its controller.
    fn has(&self) -> Vec<Mark> {
        Vec::new()
    }

    /// For what selects others: what those have, all of it. Nothing for what selects none.
    fn wants(&self) -> Vec<Mark> {
        Vec::new()
    }
}

macro_rules! by_controller_only {
    ($($kind:ident),* $(,)?) => { $(impl Indexed for $kind {})* };
}

by_controller_only! {
    ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet, CronJob, Job, ConfigMap, Endpoints, Namespace, Node,
    PersistentVolumeClaim, Secret, EndpointSlice, NetworkPolicy, DynamicObject,
}

impl Indexed for Pod {
    fn has(&self) -> Vec<Mark> {
        let namespace = namespace(&self.metadata);
        let labels = self.metadata.labels.iter().flatten();
        labels
            .map(|(key, value)| Mark::label(namespace, key, value))
            .collect()
    }
}

impl Indexed for HorizontalPodAutoscaler {
    fn has(&self) -> Vec<Mark> {
        let target = &self.spec.scale_target_ref;
        vec![Mark::target(
            namespace(&self.metadata),
            &target.kind,
            &target.name,
        )]
    }
}

impl Indexed for Service {
    fn wants(&self) -> Vec<Mark> {
        let namespace = namespace(&self.metadata);
        let selector = self
            .spec
            .iter()
            .filter_map(|spec| spec.selector.as_ref())
            .flatten();
        selector
            .map(|(key, value)| Mark::label(namespace, key, value))
            .collect()
    }
}

impl Indexed for PodDisruptionBudget {
    fn wants(&self) -> Vec<Mark> {
        let namespace = namespace(&self.metadata);
        let Some(selector) = self.spec.as_ref().and_then(|spec| spec.selector.as_ref()) else {
            return Vec::new();
        };
        let labels = selector.match_labels.iter().flatten();
        let mut wants: Vec<Mark> = labels
            .map(|(key, value)| Mark::label(namespace, key, value))
            .collect();
        // Expressions are for whoever asks to compare.
        if wants.is_empty() {
            wants.push(Mark::any(namespace));
        }
        wants
    }
}

fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or_default()
}

fn has<K: Indexed>(object: &K) -> Vec<Mark> {
    let mut has = object.has();
    has.push(match controller_of(object.meta()) {
        Some(owner) => Mark::controller(&owner.uid),
        None => Mark::orphan(namespace(object.meta())),
    });
    has
}

/// Names by marks.
#[derive(Debug, Default)]
struct Names(HashMap<Mark, BTreeSet<Arc<Name>>>);

impl Names {
    fn add(&mut self, mark: Mark, name: &Arc<Name>) {
        self.0.entry(mark).or_default().insert(Arc::clone(name));
    }

    fn remove(&mut self, mark: Mark, name: &Name) {
        if let Some(names) = self.0.get_mut(&mark) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&mark);
            }
        }
    }

    fn count(&self, mark: Mark) -> usize {
        self.0.get(&mark).map_or(0, BTreeSet::len)
    }

    fn of(&self, mark: Mark) -> impl Iterator<Item = &Arc<Name>> {
        self.0.get(&mark).into_iter().flatten()
    }
}

/// The index of one kind.
#[derive(Debug, Default)]
pub(super) struct Index {
    having: Names,
    /// By all that they want.
    wanting: Names,
    /// By one thing that they want, which few others wanted when they came.
    selecting: Names,
}

impl Index {
    pub(super) fn add<K: Indexed>(&mut self, name: &Arc<Name>, object: &K) {
        for mark in has(object) {
            self.having.add(mark, name);
        }
        let wants = object.wants();
        if let Some(rarest) = wants.iter().min_by_key(|mark| self.wanting.count(**mark)) {
            self.selecting.add(*rarest, name);
        }
        for mark in wants {
            self.wanting.add(mark, name);
        }
    }

    pub(super) fn remove<K: Indexed>(&mut self, name: &Name, object: &K) {
        for mark in has(object) {
            self.having.remove(mark, name);
        }
        for mark in object.wants() {
            self.wanting.remove(mark, name);
            self.selecting.remove(mark, name);
        }
    }

    /// Those that have a mark.
    pub(super) fn having(&self, mark: Mark) -> impl Iterator<Item = &Arc<Name>> {
        self.having.of(mark)
    }

    /// The mark of these that the fewest have.
    pub(super) fn rarest(&self, marks: impl IntoIterator<Item = Mark>) -> Option<Mark> {
        marks.into_iter().min_by_key(|mark| self.having.count(*mark))
    }

    /// Those that may select what has these marks, and all that do, each once.
    pub(super) fn selecting(
        &self,
        marks: impl IntoIterator<Item = Mark>,
    ) -> impl Iterator<Item = &Arc<Name>> {
        marks.into_iter().flat_map(|mark| self.selecting.of(mark))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
    use serde_json::{Value, json};

    use super::super::{Cache, matches, selector};
    use super::*;

    fn read<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    /// Numbers that look like chance and are the same in each run.
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.0 >> 33) % end
        }

        fn labels(&mut self, most: u64) -> Value {
            let count = self.below(most + 1);
            let pairs = (0..count).map(|_| {
                let pair = (format!("k{}", self.below(3)), self.below(3).to_string());
                (pair.0, Value::from(pair.1))
            });
            Value::Object(pairs.collect())
        }
    }

    fn names<K: Resource>(found: &[Arc<K>]) -> Vec<Name> {
        let mut names: Vec<Name> = found.iter().map(|object| Name::of(&**object)).collect();
        names.sort();
        names
    }

    /// How many select a Pod: as many as a look at all finds.
    fn looked_for<K: Indexed>(cache: &Cache<K>, pod: &Pod, selects: impl Fn(&K) -> bool) -> usize {
        let namespace = namespace(&pod.metadata);
        let mut few = cache.selecting(namespace, pod.metadata.labels.as_ref());
        few.retain(|object| selects(object));
        let mut all = cache.in_namespace(namespace);
        all.retain(|object| selects(object));
        assert_eq!(names(&few), names(&all));
        few.len()
    }

    #[test]
    fn what_is_found_is_what_a_look_at_all_finds() {
        let mut chance = Chance(7);
        let (pods, services, budgets) = (
            Cache::<Pod>::default(),
            Cache::<Service>::default(),
            Cache::<PodDisruptionBudget>::default(),
        );
        let mut found = 0;
        for step in 1..6_000_u64 {
            let namespace = format!("n{}", chance.below(2));
            let name = format!("o{}", chance.below(25));
            let mut metadata = json!({
                "namespace": namespace, "name": name, "uid": format!("{namespace}/{name}"),
                "resourceVersion": step.to_string(), "labels": chance.labels(3),
            });
            match chance.below(7) {
                0 => pods.remove(&read::<Pod>(json!({"metadata": metadata}))),
                1 => services.remove(&read::<Service>(json!({"metadata": metadata}))),
                2 => budgets.remove(&read::<PodDisruptionBudget>(json!({"metadata": metadata}))),
                3 => {
                    let spec = json!({"selector": chance.labels(2)});
                    services.upsert(read(json!({"metadata": metadata, "spec": spec})));
                }
                4 => {
                    let expression = json!({"key": "k0", "operator": "Exists"});
                    let expressions = if chance.below(2) == 0 {
                        json!([expression])
                    } else {
                        json!([])
                    };
                    let selector = json!({"matchLabels": chance.labels(2), "matchExpressions": expressions});
                    budgets.upsert(read(
                        json!({"metadata": metadata, "spec": {"selector": selector}}),
                    ));
                }
                _ => {
                    if chance.below(3) > 0 {
                        let owner = format!("owner{}", chance.below(4));
                        metadata["ownerReferences"] = json!([{
                            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": owner, "controller": true,
                        }]);
                    }
                    pods.upsert(read(json!({"metadata": metadata})));
                }
            }
            let all = |owner: Option<&str>| {
                let mut all = pods.in_namespace(&namespace);
                all.retain(|pod| controller_of(&pod.metadata).map(|owner| owner.uid.as_str()) == owner);
                names(&all)
            };
            assert_eq!(
                names(&pods.controlled_by(&namespace, "owner1")),
                all(Some("owner1"))
            );
            assert_eq!(names(&pods.orphans(&namespace)), all(None));
            let wanted: LabelSelector =
                serde_json::from_value(json!({"matchLabels": chance.labels(2)})).unwrap();
            let mut expected = pods.in_namespace(&namespace);
            expected.retain(|pod| matches(&wanted, &pod.metadata));
            assert_eq!(names(&pods.selected(&namespace, &wanted)), names(&expected));
            let Some(pod) = pods.in_namespace(&namespace).pop() else {
                continue;
            };
            found += looked_for(&services, &pod, |service| {
                selector::selects(service.spec.as_ref(), &pod.metadata)
            });
            found += looked_for(&budgets, &pod, |budget| {
                let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                selector.is_some_and(|selector| matches(selector, &pod.metadata))
            });
        }
        assert!(found > 100, "{found}");
    }

    #[test]
    fn of_selectors_that_share_a_label_few_are_looked_at() {
        let services = Cache::<Service>::default();
        for nth in 0..100 {
            let selector = json!({"component": format!("c{nth}"), "project": "default"});
            let metadata = json!({"namespace": "n", "name": format!("c{nth}")});
            services.upsert(read(
                json!({"metadata": metadata, "spec": {"selector": selector}}),
            ));
        }
        let labels = [("component", "c70"), ("project", "default")];
        let labels = labels
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let looked_at = services.selecting("n", Some(&labels));
        assert!(looked_at.len() <= 2, "{:?}", names(&looked_at));
        assert!(names(&looked_at).contains(&Name::new("n", "c70")));
    }

    #[test]
    fn nothing_is_left_of_what_has_gone() {
        let pods = Cache::<Pod>::default();
        for version in 1..4 {
            let metadata = json!({"namespace": "n", "name": "p", "uid": "u", "resourceVersion": version.to_string(),
                                  "labels": {"version": version.to_string()}});
            pods.upsert(read(json!({"metadata": metadata})));
        }
        assert_eq!(pods.marks(), 2);
        pods.remove(&read::<Pod>(
            json!({"metadata": {"namespace": "n", "name": "p", "uid": "u"}}),
        ));
        assert_eq!(pods.marks(), 0);
    }

    impl<K: Indexed> Cache<K> {
        fn marks(&self) -> usize {
            let index = self.index();
            [&index.having, &index.wanting, &index.selecting]
                .map(|names| names.0.len())
                .iter()
                .sum()
        }
    }
}
