//! Events of a watch that the answer to our own write will say as well.
//!
//! An API server tells its watches of a write before, or while, it answers it. Taken when it comes, such an event is read whole only to
//! be followed by an answer that says the same; and it is news to everybody, whereas of an answer it is known who wrote. So the first
//! event about an object that is being written to waits for the answer. It does not wait for a second event, nor for long.

use std::collections::HashMap;
use std::sync::Arc;

use kube::core::DynamicObject;

use super::cache::{Cache, View};
use super::object::{GroupKind, ObjectRef};

/// An event that waits: the revision that it is about, and how it is read.
pub(super) struct Held {
    revision: String,
    read: Box<dyn FnOnce() -> Option<DynamicObject> + Send>,
}

#[derive(Default)]
struct Write {
    /// Writes of the object that are under way.
    count: usize,
    held: Option<Held>,
    /// Whether one event has waited already.
    has_held: bool,
}

/// The objects that are being written to.
#[derive(Default)]
pub(super) struct Awaited {
    writes: HashMap<ObjectRef, Write>,
}

impl Awaited {
    fn begin(&mut self, object: &ObjectRef) {
        self.writes.entry(object.clone()).or_default().count += 1;
    }

    /// A write has ended, or is waited for no longer. Gives the event that waited for the last one.
    fn end(&mut self, object: &ObjectRef) -> Option<Held> {
        let write = self.writes.get_mut(object)?;
        write.count = write.count.saturating_sub(1);
        if write.count > 0 {
            return None;
        }
        self.writes.remove(object)?.held
    }

    /// Whether the next event about an object is to wait. It is newer than one that waits, which is forgotten.
    fn is_to_wait(&mut self, object: &ObjectRef) -> bool {
        let Some(write) = self.writes.get_mut(object) else {
            return false;
        };
        write.held = None;
        !std::mem::replace(&mut write.has_held, true)
    }

    /// Has an event wait, which `read` takes in due time, if it is to; gives it back if not.
    pub(super) fn hold<D: Send + 'static>(
        &mut self,
        object: &ObjectRef,
        revision: &str,
        event: D,
        read: impl FnOnce(D) -> Option<DynamicObject> + Send + 'static,
    ) -> Option<D> {
        if !self.is_to_wait(object) {
            return Some(event);
        }
        if let Some(write) = self.writes.get_mut(object) {
            write.held = Some(Held {
                revision: revision.to_owned(),
                read: Box::new(move || read(event)),
            });
        }
        None
    }

    /// The object is gone. What waits is from before, and has to be told first: that an object is gone is news only of one that is known.
    pub(super) fn gone(&mut self, object: &ObjectRef) -> Option<Held> {
        self.writes.get_mut(object)?.held.take()
    }

    /// A list of the kind begins: what waits may be gone from it, which is news only of what is known.
    pub(super) fn listing(&mut self, kind: &GroupKind) -> Vec<(ObjectRef, Held)> {
        let of_kind = self.writes.iter_mut().filter(|(object, _)| object.kind == *kind);
        let held = of_kind.filter_map(|(object, write)| Some((object.clone(), write.held.take()?)));
        held.collect()
    }
}

/// A write whose answer is awaited, until this is dropped.
pub struct Awaiting<V: View + Default> {
    cache: Arc<Cache<V>>,
    object: ObjectRef,
}

impl<V: View + Default> Cache<V> {
    /// From now on the first event about the object waits: its own write's answer will come, and be put in with [`Cache::wrote`].
    pub fn awaiting(self: &Arc<Self>, object: &ObjectRef) -> Awaiting<V> {
        self.awaited.lock().begin(object);
        Awaiting {
            cache: Arc::clone(self),
            object: object.clone(),
        }
    }

    /// What has waited is told, if nothing has told it meanwhile.
    pub(super) fn take_in(&self, object: &ObjectRef, held: Held) {
        let ObjectRef {
            kind,
            namespace,
            name,
        } = object;
        if !self.repeats(kind, namespace, name, &held.revision)
            && let Some(object) = (held.read)()
        {
            self.watched(object);
        }
    }
}

impl<V: View + Default> Drop for Awaiting<V> {
    fn drop(&mut self) {
        let Some(held) = self.cache.awaited.lock().end(&self.object) else {
            return;
        };
        self.cache.take_in(&self.object, held);
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::runtime::cache::{Change, Snapshot};

    fn thing(revision: u64) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Thing",
            "metadata": {"name": "a", "namespace": "ns", "uid": "a", "resourceVersion": revision.to_string()},
        }))
        .unwrap()
    }

    /// Revisions, in the order in which a listener has heard of them.
    type Heard = Arc<Mutex<Vec<Option<u64>>>>;

    fn cache() -> (Arc<Cache<()>>, Heard) {
        let heard = Heard::default();
        let log = Arc::clone(&heard);
        let cache = Cache::new(move |_: &Snapshot<()>, _: &Snapshot<()>, change: &Change| {
            let after = change.after.as_deref();
            log.lock().push(after.and_then(crate::runtime::object::revision));
        });
        (Arc::new(cache), heard)
    }

    /// As a watch does it; gives whether the event waits.
    fn event(cache: &Cache<()>, revision: u64) -> bool {
        let given_back = cache.hold(&address(), &revision.to_string(), revision, |revision| {
            Some(thing(revision))
        });
        if given_back.is_some() {
            cache.watched(thing(revision));
        }
        given_back.is_none()
    }

    fn address() -> ObjectRef {
        ObjectRef::new("", "Thing", "ns", "a")
    }

    #[test]
    fn an_event_waits_for_the_answer_that_says_the_same() {
        let (cache, heard) = cache();
        let write = cache.awaiting(&address());
        assert!(event(&cache, 5));
        assert_eq!(*heard.lock(), []);
        cache.wrote(thing(5));
        assert_eq!(*heard.lock(), [Some(5)]);
        drop(write);
        assert_eq!(*heard.lock(), [Some(5)]);
        assert!(!event(&cache, 6));
    }

    #[test]
    fn what_the_answer_does_not_say_is_taken_after_it() {
        // The write has failed, and somebody else has written.
        let (cache, heard) = cache();
        let write = cache.awaiting(&address());
        assert!(event(&cache, 5));
        drop(write);
        assert_eq!(*heard.lock(), [Some(5)]);
        // Somebody else was later than us.
        let write = cache.awaiting(&address());
        assert!(event(&cache, 7));
        cache.wrote(thing(6));
        drop(write);
        assert_eq!(*heard.lock(), [Some(5), Some(6), Some(7)]);
    }

    #[test]
    fn only_one_event_waits_and_only_for_the_last_of_several_writes() {
        let (cache, heard) = cache();
        let writes = [cache.awaiting(&address()), cache.awaiting(&address())];
        assert!(event(&cache, 5));
        assert!(!event(&cache, 6));
        assert_eq!(*heard.lock(), [Some(6)]);
        drop(writes);
        assert_eq!(*heard.lock(), [Some(6)]);
        let [one, other] = [cache.awaiting(&address()), cache.awaiting(&address())];
        assert!(event(&cache, 7));
        drop(one);
        assert_eq!(*heard.lock(), [Some(6)]);
        drop(other);
        assert_eq!(*heard.lock(), [Some(6), Some(7)]);
    }

    #[test]
    fn what_waits_is_told_before_it_is_told_to_be_gone() {
        let (cache, heard) = cache();
        let write = cache.awaiting(&address());
        assert!(event(&cache, 5));
        cache.deleted(&thing(6));
        assert_eq!(*heard.lock(), [Some(5), None]);
        // The answer comes last, and brings nothing back.
        cache.wrote(thing(5));
        drop(write);
        assert!(!cache.snapshot().contains(&address()));
        assert_eq!(*heard.lock(), [Some(5), None]);
        // Nor does one whose object a new list does not have.
        let write = cache.awaiting(&address());
        assert!(event(&cache, 7));
        let kind = GroupKind::new("", "Thing");
        cache.listing(&kind);
        cache.listed(&kind);
        drop(write);
        assert!(!cache.snapshot().contains(&address()));
        assert_eq!(*heard.lock(), [Some(5), None, Some(7), None]);
    }
}
