//! All objects of a cluster at one revision.

use std::{ops::Bound, sync::Arc};

use imbl::OrdMap;

use crate::{Event, EventKind, Key, Object, key::range_of};

/// All objects of a logical cluster as they were at one revision. Cheap to clone and to keep: what has not changed is shared.
#[derive(Clone)]
pub struct Snapshot {
    revision: u64,
    objects: OrdMap<Key, Arc<Object>>,
    counts: OrdMap<Arc<str>, u64>,
}

impl Snapshot {
    pub(crate) fn new(revision: u64) -> Self {
        Self {
            revision,
            objects: OrdMap::new(),
            counts: OrdMap::new(),
        }
    }

    /// The revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The object, if it was there.
    pub fn get(&self, key: &Key) -> Option<&Arc<Object>> {
        self.objects.get(key)
    }

    /// Objects of `resource`, of all namespaces or of one, in key order, beginning behind `after`.
    pub fn iter<'a>(
        &'a self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&Key>,
    ) -> impl Iterator<Item = &'a Arc<Object>> + use<'a> {
        let (from, to) = range_of(resource, namespace);
        let start = match after {
            Some(after) if after.as_str() > from.as_str() => Bound::Excluded(after.as_str()),
            _ => Bound::Included(from.as_str()),
        };
        // A start behind the end would be a range that panics; it means: nothing left.
        let end = match start {
            Bound::Excluded(start) if start >= to.as_str() => Bound::Included(start),
            _ => Bound::Excluded(to.as_str()),
        };
        let empty = matches!(end, Bound::Included(_));
        let range = if empty {
            None
        } else {
            Some(self.objects.range::<_, str>((start, end)))
        };
        range.into_iter().flatten().map(|(_, object)| object)
    }

    /// Every object of every resource, in key order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Number of objects of `resource` in all namespaces.
    pub fn count(&self, resource: &str) -> u64 {
        self.counts.get(resource).copied().unwrap_or(0)
    }

    /// The resources that have objects, with their number of objects, sorted.
    pub fn resources(&self) -> impl Iterator<Item = (&str, u64)> {
        self.counts.iter().map(|(resource, count)| (&**resource, *count))
    }

    /// Number of all objects.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(crate) fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    pub(crate) fn insert(&mut self, object: Arc<Object>) {
        let key = object.key().clone();
        let resource: Option<Arc<str>> =
            (!self.counts.contains_key(key.resource())).then(|| key.resource().into());
        if self.objects.insert(key.clone(), object).is_none() {
            match resource {
                Some(resource) => {
                    self.counts.insert(resource, 1);
                }
                None => {
                    if let Some(count) = self.counts.get_mut(key.resource()) {
                        *count += 1;
                    }
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        if self.objects.remove(key).is_some() {
            let left = self.counts.get_mut(key.resource()).map(|count| {
                *count -= 1;
                *count
            });
            if left == Some(0) {
                self.counts.remove(key.resource());
            }
        }
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        match event.kind {
            EventKind::Added | EventKind::Modified => self.insert(Arc::clone(&event.object)),
            EventKind::Deleted => self.remove(event.object.key()),
        }
        self.revision = event.revision;
    }

    /// Takes `event` back. The caller sets the revision.
    pub(crate) fn undo(&mut self, event: &Event) {
        match &event.previous {
            Some(previous) => self.insert(Arc::clone(previous)),
            None => self.remove(event.object.key()),
        }
    }
}
