//! Which release an object in a data plane belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher as _;
use std::sync::Arc;

use choreo_api::labels;
use foldhash::quality::RandomState;
use kube::core::DynamicObject;
use parking_lot::Mutex;

use crate::planes::PlaneId;
use crate::runtime::{Change, Key, ObjectRef};

/// An object in a cluster.
type Place = (PlaneId, ObjectRef);

/// A namespace in a cluster; empty for what is in none.
type Namespace = (PlaneId, String);

/// What a release consists of. Of an object there is a hash: two that share one lead to both their releases, and whoever is looked at
/// in vain finds nothing to do. There are ten times as many objects as releases, and an address is ten times as long.
#[derive(Debug)]
struct Places {
    /// In order.
    objects: Box<[u64]>,
    namespaces: Box<[Arc<Namespace>]>,
}

#[derive(Debug, Default)]
struct Entries {
    of: BTreeMap<Arc<Key>, Places>,
    by_object: BTreeSet<(u64, Arc<Key>)>,
    /// Releases by the namespaces that they have objects in.
    by_namespace: BTreeMap<Arc<Namespace>, BTreeSet<Arc<Key>>>,
    hasher: RandomState,
}

/// Built by the release controller as it works, read when a data plane reports a change.
#[derive(Debug, Default)]
pub struct Index {
    entries: Mutex<Entries>,
}

impl Index {
    /// Says that a release consists of these objects, and of no others.
    pub fn set(&self, release: &Key, objects: BTreeSet<Place>) {
        let mut entries = self.entries.lock();
        let mut hashes: Vec<u64> = objects
            .iter()
            .map(|(plane, object)| entries.hash(plane, object))
            .collect();
        hashes.sort_unstable();
        if entries
            .of
            .get(release)
            .is_some_and(|known| *known.objects == *hashes)
        {
            return;
        }
        entries.remove(release);
        let key = Arc::new(release.clone());
        let namespaces: BTreeSet<Namespace> = objects
            .into_iter()
            .map(|(plane, object)| (plane, object.namespace))
            .collect();
        let namespaces = namespaces.into_iter().map(|namespace| {
            let known = entries.by_namespace.get_key_value(&namespace);
            let namespace = known.map_or_else(|| Arc::new(namespace.clone()), |(known, _)| Arc::clone(known));
            let there = entries.by_namespace.entry(Arc::clone(&namespace)).or_default();
            there.insert(Arc::clone(&key));
            namespace
        });
        let namespaces = namespaces.collect();
        for hash in &hashes {
            entries.by_object.insert((*hash, Arc::clone(&key)));
        }
        let places = Places {
            objects: hashes.into_boxed_slice(),
            namespaces,
        };
        entries.of.insert(key, places);
    }

    /// Forgets a release.
    pub fn forget(&self, release: &Key) {
        self.entries.lock().remove(release);
    }

    /// The releases that a change in a data plane concerns: the object's own, and for a namespace or a pod those that
    /// live in the namespace.
    pub fn affected_by(&self, plane: &PlaneId, change: &Change) -> BTreeSet<Key> {
        let entries = self.entries.lock();
        let object = &change.object;
        let hash = entries.hash(plane, object);
        let own = entries.by_object.range((hash, Arc::default())..);
        let own = own.take_while(|(of, _)| *of == hash);
        let own: BTreeSet<Key> = own.map(|(_, key)| (**key).clone()).collect();
        let (namespace, release) = match (object.kind.group.as_str(), object.kind.kind.as_str()) {
            ("", "Namespace") => (&object.name, None),
            ("", "Pod") => (
                &object.namespace,
                change.after.as_ref().or(change.before.as_ref()),
            ),
            _ => return own,
        };
        let there = entries.by_namespace.get(&(plane.clone(), namespace.clone()));
        let there = there.into_iter().flatten();
        // Of the many in a cell, a pod concerns the one that it says it belongs to.
        let concerned = there.filter(|key| release.is_none_or(|pod| may_belong_to(pod, &key.name)));
        own.into_iter()
            .chain(concerned.map(|key| (**key).clone()))
            .collect()
    }

    /// The releases that have objects in a cluster.
    pub fn in_plane(&self, plane: &PlaneId) -> BTreeSet<Key> {
        let entries = self.entries.lock();
        let used = |places: &Places| places.namespaces.iter().any(|namespace| namespace.0 == *plane);
        entries
            .of
            .iter()
            .filter(|(_, places)| used(places))
            .map(|(key, _)| (**key).clone())
            .collect()
    }
}

/// Whether a pod belongs to a release, as its label tells; one without the label may belong to any.
pub(super) fn may_belong_to(pod: &DynamicObject, release: &str) -> bool {
    may_carry(
        pod.metadata
            .labels
            .as_ref()
            .and_then(|l| l.get(labels::RELEASE))
            .map(String::as_str),
        release,
    )
}

/// Likewise, by the label's value alone.
pub(super) fn may_carry(label: Option<&str>, release: &str) -> bool {
    // Only a long name is another one as a label, and there are many to compare with.
    label
        .is_none_or(|label| label == release || (release.len() > 63 && label == labels::label_value(release)))
}

impl Entries {
    fn hash(&self, plane: &PlaneId, object: &ObjectRef) -> u64 {
        self.hasher.hash_one((plane, object))
    }

    fn remove(&mut self, release: &Key) {
        let Some((key, places)) = self.of.remove_entry(release) else {
            return;
        };
        for namespace in places.namespaces {
            if let Some(keys) = self.by_namespace.get_mut(&namespace) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_namespace.remove(&namespace);
                }
            }
        }
        for hash in places.objects {
            self.by_object.remove(&(hash, Arc::clone(&key)));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plane() -> PlaneId {
        PlaneId::data("org", "dp", "")
    }

    fn change(kind: &str, namespace: &str, name: &str) -> Change {
        Change {
            object: ObjectRef::new("", kind, namespace, name),
            before: None,
            after: None,
        }
    }

    #[test]
    fn objects_namespaces_and_pods_lead_to_their_releases() {
        let index = Index::default();
        let (cell, component) = (Key::new("org", "cell"), Key::new("org", "component"));
        index.set(
            &cell,
            [(plane(), ObjectRef::new("", "Namespace", "", "ns"))].into(),
        );
        index.set(
            &component,
            [(plane(), ObjectRef::new("", "Service", "ns", "s"))].into(),
        );
        let affected = |kind, namespace, name| index.affected_by(&plane(), &change(kind, namespace, name));
        assert_eq!(affected("Service", "ns", "s"), [component.clone()].into());
        assert_eq!(affected("Pod", "ns", "any"), [component.clone()].into());
        assert_eq!(affected("Namespace", "", "ns"), [cell, component.clone()].into());
        let other = Key::new("org", "other");
        index.set(
            &other,
            [(plane(), ObjectRef::new("", "Service", "ns", "o"))].into(),
        );
        assert_eq!(
            affected("Pod", "ns", "any"),
            [component.clone(), other.clone()].into()
        );
        let mut labelled = change("Pod", "ns", "one");
        let pod = json!({"metadata": {"labels": {labels::RELEASE: "other"}}});
        labelled.after = Some(Arc::new(serde_json::from_value(pod).unwrap()));
        assert_eq!(index.affected_by(&plane(), &labelled), [other].into());
        assert!(affected("Service", "ns", "other").is_empty());
        assert_eq!(
            index.in_plane(&plane()),
            [
                Key::new("org", "cell"),
                component.clone(),
                Key::new("org", "other")
            ]
            .into()
        );
        assert!(index.in_plane(&PlaneId::data("org", "else", "")).is_empty());
        // What a release does not consist of any more leads there no longer.
        index.set(
            &component,
            [(plane(), ObjectRef::new("", "Service", "ns2", "t"))].into(),
        );
        assert!(affected("Service", "ns", "s").is_empty());
        assert_eq!(affected("Service", "ns2", "t"), [component.clone()].into());
        assert_eq!(affected("Pod", "ns2", "any"), [component.clone()].into());
        for release in [component, Key::new("org", "cell"), Key::new("org", "other")] {
            index.forget(&release);
        }
        assert!(affected("Service", "ns2", "t").is_empty());
        let entries = index.entries.lock();
        assert!(entries.of.is_empty() && entries.by_object.is_empty() && entries.by_namespace.is_empty());
    }
}
