//! What is known of the cluster.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use k8s_openapi::api::{
    apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet},
    autoscaling::v2::HorizontalPodAutoscaler,
    batch::v1::{CronJob, Job},
    core::v1::{ConfigMap, Endpoints, Namespace, Node, PersistentVolumeClaim, Pod, Secret, Service},
    discovery::v1::EndpointSlice,
    networking::v1::NetworkPolicy,
    policy::v1::PodDisruptionBudget,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Resource, core::DynamicObject};
use parking_lot::{Mutex, RwLock};

use super::index::{Index, Indexed, Mark};
use crate::operators::{KINDS, Kind};

/// Namespace and name of an object; the namespace is empty for cluster scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Name {
    pub(crate) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub(crate) fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The objects of one kind. Written by its watch and by our own writes, whichever is newer.
///
/// The answer to a write can arrive after the watch has said that the object is gone. So that this does not bring it back,
/// the uids of the last objects that went are remembered.
pub(crate) struct Cache<K> {
    objects: RwLock<Objects<K>>,
    gone: Mutex<VecDeque<String>>,
}

struct Objects<K> {
    by_name: BTreeMap<Arc<Name>, Arc<K>>,
    index: Index,
}

/// Uids remembered per kind. Answers are late by milliseconds.
const GONE_KEPT: usize = 512;

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::new(Objects {
                by_name: BTreeMap::new(),
                index: Index::default(),
            }),
            gone: Mutex::default(),
        }
    }
}

impl<K> Objects<K> {
    fn named<'a>(&'a self, names: impl Iterator<Item = &'a Arc<Name>>) -> Vec<Arc<K>> {
        names.filter_map(|name| self.by_name.get(name).cloned()).collect()
    }
}

impl<K: Indexed> Cache<K> {
    pub(crate) fn get(&self, name: &Name) -> Option<Arc<K>> {
        self.objects.read().by_name.get(name).cloned()
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.objects.read();
        let from = Name::new(namespace, "");
        objects
            .by_name
            .range::<Name, _>(from..)
            .take_while(|(name, _)| name.namespace == namespace)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// The objects of the namespace that `uid` controls.
    pub(crate) fn controlled_by(&self, namespace: &str, uid: &str) -> Vec<Arc<K>> {
        let mut found = self.having(namespace, Mark::controller(uid));
        found.retain(|object| super::controller_of(object.meta()).is_some_and(|owner| owner.uid == uid));
        found
    }

    /// The objects of the namespace that nothing controls.
    pub(crate) fn orphans(&self, namespace: &str) -> Vec<Arc<K>> {
        let mut found = self.having(namespace, Mark::orphan(namespace));
        found.retain(|object| super::controller_of(object.meta()).is_none());
        found
    }

    /// The objects of the namespace that have a mark, and perhaps others.
    pub(crate) fn having(&self, namespace: &str, mark: Mark) -> Vec<Arc<K>> {
        let objects = self.objects.read();
        let names = objects.index.having(mark);
        objects.named(names.filter(|name| name.namespace == namespace))
    }

    /// The objects of the namespace that a selector selects.
    pub(crate) fn selected(&self, namespace: &str, selector: &LabelSelector) -> Vec<Arc<K>> {
        let labels = selector.match_labels.iter().flatten();
        let marks = labels.map(|(key, value)| Mark::label(namespace, key, value));
        let rarest = self.objects.read().index.rarest(marks);
        let mut found = match rarest {
            Some(mark) => self.having(namespace, mark),
            None => self.in_namespace(namespace),
        };
        found.retain(|object| super::matches(selector, object.meta()));
        found
    }

    /// The objects of the namespace that may select what has these labels, each once. Some of them do not.
    pub(crate) fn selecting(
        &self,
        namespace: &str,
        labels: Option<&BTreeMap<String, String>>,
    ) -> Vec<Arc<K>> {
        let labels = labels.into_iter().flatten();
        let marks = labels.map(|(key, value)| Mark::label(namespace, key, value));
        let objects = self.objects.read();
        objects.named(objects.index.selecting(marks.chain([Mark::any(namespace)])))
    }

    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.objects.read().by_name.values().cloned().collect()
    }

    /// Takes an object in unless a newer version is known. Gives the version before.
    pub(crate) fn upsert(&self, object: Arc<K>) -> Option<Arc<K>> {
        let name = Arc::new(Name::of(&*object));
        let mut objects = self.objects.write();
        let known = objects.by_name.get(&name).cloned();
        if let Some(uid) = &object.meta().uid
            && self.gone.lock().contains(uid)
        {
            return known;
        }
        if let Some(known) = &known {
            if known.meta().uid == object.meta().uid && version(&**known) > version(&*object) {
                return Some(known.clone());
            }
            objects.index.remove(&name, &**known);
        }
        objects.index.add(&name, &*object);
        objects.by_name.insert(name, object);
        known
    }

    /// Marks an object as being deleted before the watch says so, if it is still there.
    pub(crate) fn mark_deleting(&self, object: &K)
    where
        K: Clone,
    {
        let mut objects = self.objects.write();
        if let Some(known) = objects.by_name.get_mut(&Name::of(object))
            && known.meta().uid == object.meta().uid
            && known.meta().deletion_timestamp.is_none()
        {
            // Nothing that it is found by changes.
            let mut marked = (**known).clone();
            marked.meta_mut().deletion_timestamp = Some(super::now());
            *known = Arc::new(marked);
        }
    }

    /// Removes what the watch says is gone, unless it has been made anew meanwhile.
    pub(crate) fn remove(&self, gone: &K) {
        let name = Name::of(gone);
        let mut objects = self.objects.write();
        let mut remembered = self.gone.lock();
        if remembered.len() >= GONE_KEPT {
            remembered.pop_front();
        }
        remembered.extend(gone.meta().uid.clone());
        drop(remembered);
        if let Some(known) = objects.by_name.get(&name).cloned()
            && known.meta().uid == gone.meta().uid
        {
            objects.index.remove(&name, &*known);
            objects.by_name.remove(&name);
        }
    }
}

/// Resource versions are decimal numbers that grow (KEP-5504); what is none counts as old.
fn version<K: Resource>(object: &K) -> u64 {
    object
        .meta()
        .resource_version
        .as_deref()
        .and_then(|version| version.parse().ok())
        .unwrap_or(0)
}

/// All caches.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) deployments: Cache<Deployment>,
    pub(crate) replica_sets: Cache<ReplicaSet>,
    pub(crate) stateful_sets: Cache<StatefulSet>,
    pub(crate) daemon_sets: Cache<DaemonSet>,
    pub(crate) revisions: Cache<ControllerRevision>,
    pub(crate) jobs: Cache<Job>,
    pub(crate) cron_jobs: Cache<CronJob>,
    pub(crate) autoscalers: Cache<HorizontalPodAutoscaler>,
    pub(crate) budgets: Cache<PodDisruptionBudget>,
    pub(crate) pods: Cache<Pod>,
    pub(crate) services: Cache<Service>,
    pub(crate) endpoint_slices: Cache<EndpointSlice>,
    pub(crate) endpoints: Cache<Endpoints>,
    pub(crate) nodes: Cache<Node>,
    pub(crate) claims: Cache<PersistentVolumeClaim>,
    pub(crate) secrets: Cache<Secret>,
    pub(crate) config_maps: Cache<ConfigMap>,
    pub(crate) namespaces: Cache<Namespace>,
    pub(crate) network_policies: Cache<NetworkPolicy>,
    /// Those of `cilium.io`.
    pub(crate) cilium_policies: Cache<DynamicObject>,
    foreign: Foreign,
}

/// The caches of operators' kinds. All are there from the start, filled or not.
struct Foreign(BTreeMap<Kind, Cache<DynamicObject>>, Cache<DynamicObject>);

impl Default for Foreign {
    fn default() -> Self {
        Self(
            KINDS.into_iter().map(|kind| (kind, Cache::default())).collect(),
            Cache::default(),
        )
    }
}

impl World {
    pub(crate) fn foreign(&self, kind: Kind) -> &Cache<DynamicObject> {
        self.foreign.0.get(&kind).unwrap_or(&self.foreign.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl<K> Cache<K> {
        pub(in crate::core) fn index(&self) -> parking_lot::MappedRwLockReadGuard<'_, Index> {
            parking_lot::RwLockReadGuard::map(self.objects.read(), |objects| &objects.index)
        }
    }
}
