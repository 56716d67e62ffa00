//! Which release an object in a data plane belongs to.

use std::collections::{BTreeMap, BTreeSet};

use choreo_api::labels;
use kube::core::DynamicObject;
use parking_lot::Mutex;

use crate::planes::PlaneId;
use crate::runtime::{Change, Key, ObjectRef};

#[derive(Debug, Default)]
struct Entries {
    /// Where each release has which objects.
    of: BTreeMap<Key, BTreeSet<(PlaneId, ObjectRef)>>,
    by_object: BTreeMap<(PlaneId, ObjectRef), BTreeSet<Key>>,
    /// Releases by the namespaces that they have objects in.
    by_namespace: BTreeMap<(PlaneId, String), BTreeSet<Key>>,
}

/// Built by the release controller as it works, read when a data plane reports a change.
#[derive(Debug, Default)]
pub struct Index {
    entries: Mutex<Entries>,
}

impl Index {
    /// Says that a release consists of these objects, and of no others.
    pub fn set(&self, release: &Key, objects: BTreeSet<(PlaneId, ObjectRef)>) {
        let mut entries = self.entries.lock();
        if entries.of.get(release) == Some(&objects) {
            return;
        }
        entries.remove(release);
        for (plane, object) in &objects {
            if !object.namespace.is_empty() {
                let namespace = (plane.clone(), object.namespace.clone());
                entries
                    .by_namespace
                    .entry(namespace)
                    .or_default()
                    .insert(release.clone());
            }
            entries
                .by_object
                .entry((plane.clone(), object.clone()))
                .or_default()
                .insert(release.clone());
        }
        entries.of.insert(release.clone(), objects);
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
        let own = entries
            .by_object
            .get(&(plane.clone(), object.clone()))
            .cloned()
            .unwrap_or_default();
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
        own.into_iter().chain(concerned.cloned()).collect()
    }

    /// The releases that have objects in a cluster.
    pub fn in_plane(&self, plane: &PlaneId) -> BTreeSet<Key> {
        let entries = self.entries.lock();
        let used = |objects: &BTreeSet<(PlaneId, ObjectRef)>| objects.iter().any(|(id, _)| id == plane);
        entries
            .of
            .iter()
            .filter(|(_, objects)| used(objects))
            .map(|(key, _)| key.clone())
            .collect()
    }
}

/// Whether a pod belongs to a release, as its label tells; one without the label may belong to any.
pub(super) fn may_belong_to(pod: &DynamicObject, release: &str) -> bool {
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get(labels::RELEASE));
    // Only a long name is another one as a label, and there are many to compare with.
    label.is_none_or(|label| {
        label == release || (release.len() > 63 && *label == labels::label_value(release))
    })
}

impl Entries {
    fn remove(&mut self, release: &Key) {
        for (plane, object) in self.of.remove(release).unwrap_or_default() {
            let namespace = (plane.clone(), object.namespace.clone());
            if let Some(keys) = self.by_namespace.get_mut(&namespace) {
                keys.remove(release);
                if keys.is_empty() {
                    self.by_namespace.remove(&namespace);
                }
            }
            let address = (plane, object);
            if let Some(keys) = self.by_object.get_mut(&address) {
                keys.remove(release);
                if keys.is_empty() {
                    self.by_object.remove(&address);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
