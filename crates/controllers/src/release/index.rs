//! Which release an object in a data plane belongs to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use choreo_api::labels;
use kube::core::DynamicObject;
use parking_lot::Mutex;

use crate::planes::PlaneId;
use crate::runtime::{Change, Key, ObjectRef};

/// An object in a cluster.
type Place = (PlaneId, ObjectRef);

/// What is said many times is shared: there are many more entries than objects and releases.
#[derive(Debug, Default)]
struct Entries {
    /// Where each release has which objects, in order.
    of: BTreeMap<Arc<Key>, Box<[Arc<Place>]>>,
    by_object: BTreeMap<Arc<Place>, Vec<Arc<Key>>>,
    /// Releases by the namespaces that they have objects in.
    by_namespace: BTreeMap<(PlaneId, String), BTreeSet<Arc<Key>>>,
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
        let known = entries.of.get(release);
        if known.is_some_and(|known| known.iter().map(AsRef::as_ref).eq(&objects)) {
            return;
        }
        entries.remove(release);
        let key = Arc::new(release.clone());
        let places: Box<[Arc<Place>]> = objects.into_iter().map(Arc::new).collect();
        for place in &places {
            let (plane, object) = &**place;
            if !object.namespace.is_empty() {
                let namespace = (plane.clone(), object.namespace.clone());
                let there = entries.by_namespace.entry(namespace).or_default();
                there.insert(Arc::clone(&key));
            }
            let of_object = entries.by_object.entry(Arc::clone(place)).or_default();
            of_object.push(Arc::clone(&key));
        }
        entries.of.insert(key, places);
    }

    /// What a release consists of, in order, as far as that has been said.
    pub(super) fn of(&self, release: &Key) -> Option<Vec<Arc<Place>>> {
        self.entries.lock().of.get(release).map(|places| places.to_vec())
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
        let own = entries.by_object.get(&(plane.clone(), object.clone()));
        let own: BTreeSet<Key> = own.into_iter().flatten().map(|key| (**key).clone()).collect();
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
        let used = |objects: &[Arc<Place>]| objects.iter().any(|place| place.0 == *plane);
        entries
            .of
            .iter()
            .filter(|(_, objects)| used(objects))
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
    fn remove(&mut self, release: &Key) {
        for place in self.of.remove(release).unwrap_or_default() {
            let namespace = (place.0.clone(), place.1.namespace.clone());
            if let Some(keys) = self.by_namespace.get_mut(&namespace) {
                keys.remove(release);
                if keys.is_empty() {
                    self.by_namespace.remove(&namespace);
                }
            }
            if let Some(keys) = self.by_object.get_mut(&place) {
                keys.retain(|key| **key != *release);
                if keys.is_empty() {
                    self.by_object.remove(&place);
                }
            }
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
        index.forget(&component);
        assert!(affected("Service", "ns", "s").is_empty());
    }
}
