//! The shared picture of one cluster: every object that is watched there, and a view computed from them.
//!
//! One watch per kind writes here, many readers take snapshots. A snapshot is immutable and cheap (structure-sharing
//! maps), so a reconcile sees one consistent state from beginning to end and never takes a lock while it thinks.
//!
//! # Reading one's own writes
//!
//! What the API server answers to a write is put into the cache at once ([`Cache::wrote`]); the watch will deliver
//! the same revision later and find nothing new. So a controller does not act twice on a state that it has just
//! changed, and controllers down the flow start without waiting for the watch. Revisions decide what is newer.
//!
//! # Outlines
//!
//! Of some kinds only metadata are kept ([`Cache::outline`]), whether a watch or the answer to a write brings them:
//! [`Kept::is_outline`] says so.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::Value;

use super::awaited::Awaited;
use super::object::{GroupKind, ObjectRef, revision};
use super::packed::{Arrival, Kept, Warm};

/// Something kept up to date from the objects of a cluster, and cheap to clone.
pub trait View: Clone + Send + Sync + 'static {
    /// An object is new or has changed; `kept` gives it back later.
    fn upsert(&mut self, kept: &Arc<Kept>, object: &DynamicObject);
    /// An object is gone.
    fn remove(&mut self, object: &DynamicObject);
    /// Nobody has looked at an object for a while: what was made of it can be made again when somebody does.
    fn rest(&mut self, kept: &Kept);
}

/// No view: only the objects themselves.
impl View for () {
    fn upsert(&mut self, _: &Arc<Kept>, _: &DynamicObject) {}
    fn remove(&mut self, _: &DynamicObject) {}
    fn rest(&mut self, _: &Kept) {}
}

/// The state at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot<V> {
    /// The computed view.
    pub view: V,
    /// Addresses are shared: a changed copy of the map copies pointers and no text.
    objects: imbl::OrdMap<Arc<ObjectRef>, Arc<Kept>>,
}

impl<V> Snapshot<V> {
    /// The object at this address.
    pub fn get(&self, object: &ObjectRef) -> Option<Arc<DynamicObject>> {
        self.objects.get(object).map(Kept::get)
    }

    /// The object at this address, as it is kept: what it is called and what is known of it, without reading it.
    pub fn kept(&self, object: &ObjectRef) -> Option<&Arc<Kept>> {
        self.objects.get(object)
    }

    /// Whether there is an object at this address.
    pub fn contains(&self, object: &ObjectRef) -> bool {
        self.objects.contains_key(object)
    }

    /// All objects of a kind, ordered by namespace and name.
    pub fn of_kind<'a>(&'a self, kind: &'a GroupKind) -> impl Iterator<Item = &'a Arc<Kept>> {
        let first = ObjectRef {
            kind: kind.clone(),
            namespace: String::new(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(object, _)| object.kind == *kind)
            .map(|(_, value)| value)
    }

    /// The objects of a kind in one namespace, ordered by name.
    pub fn in_namespace<'a>(
        &'a self,
        kind: &'a GroupKind,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<Kept>> {
        let first = ObjectRef {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: String::new(),
        };
        self.objects
            .range(first..)
            .take_while(move |(object, _)| object.kind == *kind && object.namespace == namespace)
            .map(|(_, value)| value)
    }

    /// All objects, ordered by kind, namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<Kept>)> {
        self.objects.iter().map(|(address, object)| (&**address, object))
    }
}

/// One object's change. `None` before: new; `None` after: gone.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which object.
    pub object: ObjectRef,
    /// As it was.
    pub before: Option<Arc<DynamicObject>>,
    /// As it is.
    pub after: Option<Arc<DynamicObject>>,
}

type Listener<V> = Box<dyn Fn(&Snapshot<V>, &Snapshot<V>, &Change) + Send + Sync>;

struct State<V> {
    snapshot: Snapshot<V>,
    /// Highest revision that a kind's watch has delivered.
    seen: BTreeMap<GroupKind, u64>,
    /// Kinds whose watch is listing, with what the list has brought so far, and what we wrote since it began: the list may be older
    /// than that.
    listing: BTreeMap<GroupKind, BTreeSet<ObjectRef>>,
    /// Kinds of which only metadata are kept.
    outlined: BTreeSet<GroupKind>,
    /// One of each kind, that all addresses share.
    kinds: BTreeSet<GroupKind>,
    warm: Arc<Warm>,
}

/// See the module's documentation.
pub struct Cache<V> {
    state: Arc<Mutex<State<V>>>,
    pub(super) awaited: Mutex<Awaited>,
    listener: Listener<V>,
}

impl<V: View + Default> Cache<V> {
    /// An empty cache. `listener` hears every change after it has been stored, from the task that brought it, with the
    /// states before and after it.
    pub fn new(listener: impl Fn(&Snapshot<V>, &Snapshot<V>, &Change) + Send + Sync + 'static) -> Self {
        let state = Arc::new_cyclic(|state: &Weak<Mutex<State<V>>>| {
            let state = Weak::clone(state);
            Mutex::new(State {
                snapshot: Snapshot::default(),
                seen: BTreeMap::new(),
                listing: BTreeMap::new(),
                outlined: BTreeSet::new(),
                kinds: BTreeSet::new(),
                warm: Arc::new(Warm::new(move |packed| {
                    if let Some(state) = state.upgrade() {
                        state.lock().rest(packed);
                    }
                })),
            })
        });
        Self {
            state,
            awaited: Mutex::default(),
            listener: Box::new(listener),
        }
    }

    /// The state now.
    pub fn snapshot(&self) -> Snapshot<V> {
        self.state.lock().snapshot.clone()
    }

    /// From now on only metadata of a kind are kept, or all of it again; what is here stays as it is until it comes again.
    pub fn outline(&self, kind: &GroupKind, only_metadata: bool) {
        let mut state = self.state.lock();
        if only_metadata {
            state.outlined.insert(kind.clone());
        } else {
            state.outlined.remove(kind);
        }
    }

    /// The watch delivered a new or changed object. One without data is an outline.
    pub fn watched(&self, object: DynamicObject) {
        self.update(|state| {
            let address = ObjectRef::of(&object);
            if let Some(revision) = revision(&object) {
                let seen = state.seen.entry(address.kind.clone()).or_insert(0);
                *seen = revision.max(*seen);
            }
            vec![state.put(address, trimmed(object), Arrival::Told)]
        });
    }

    /// Whether the watch's next event is of a state that is here already: the answer to a write was faster.
    pub fn repeats(&self, kind: &GroupKind, namespace: &str, name: &str, revision: &str) -> bool {
        let address = ObjectRef {
            kind: kind.clone(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut state = self.state.lock();
        let known = state.snapshot.objects.get(&address);
        if revision.is_empty() || known.and_then(|known| known.resource_version()) != Some(revision) {
            return false;
        }
        if known.is_some_and(|known| known.is_outline()) && !state.outlined.contains(&address.kind) {
            return false;
        }
        if let Ok(revision) = revision.parse() {
            let seen = state.seen.entry(address.kind).or_insert(0);
            *seen = (*seen).max(revision);
        }
        true
    }

    /// The API server answered a write with this object.
    pub fn wrote(&self, object: DynamicObject) {
        self.update(|state| {
            let address = ObjectRef::of(&object);
            let seen = state.seen.get(&address.kind).copied().unwrap_or(0);
            let known = state.snapshot.objects.contains_key(&address);
            if !known && revision(&object).is_none_or(|revision| revision <= seen) {
                // The watch is past this revision and does not know the object: it has been deleted since.
                return vec![];
            }
            if let Some(written) = state.listing.get_mut(&address.kind) {
                written.insert(address.clone());
            }
            vec![state.put(address, trimmed(object), Arrival::Told)]
        });
    }

    /// Has the watch's next event wait for the answer to a write of ours, see [`super::awaited`], if it is to. Gives it back if not; if
    /// so, `read` takes it in due time.
    pub fn hold<D: Send + 'static>(
        &self,
        object: &ObjectRef,
        revision: &str,
        event: D,
        read: impl FnOnce(D) -> Option<DynamicObject> + Send + 'static,
    ) -> Option<D> {
        self.awaited.lock().hold(object, revision, event, read)
    }

    /// The watch delivered a deletion.
    pub fn deleted(&self, object: &DynamicObject) {
        let address = ObjectRef::of(object);
        let held = self.awaited.lock().gone(&address);
        if let Some(held) = held {
            self.take_in(&address, held);
        }
        self.update(|state| {
            if let Some(revision) = revision(object) {
                let seen = state.seen.entry(address.kind.clone()).or_insert(0);
                *seen = revision.max(*seen);
            }
            let newer_here = state.snapshot.objects.get(&address).is_some_and(|known| {
                known.uid() != object.metadata.uid.as_deref()
                    || matches!((known.revision(), revision(object)), (Some(known), Some(gone)) if known > gone)
            });
            if newer_here { vec![] } else { vec![state.take(&address)] }
        });
    }

    /// The watch of `kind` starts to list.
    pub fn listing(&self, kind: &GroupKind) {
        let held = self.awaited.lock().listing(kind);
        for (object, held) in held {
            self.take_in(&object, held);
        }
        self.state.lock().listing.insert(kind.clone(), BTreeSet::new());
    }

    /// The list of `kind` brings objects. They are taken some at a time, and packed at once: all of them together, as trees, would be
    /// the most that this program ever needs, and each by itself copies parts of the maps.
    pub fn lists(&self, kind: &GroupKind, objects: Vec<DynamicObject>) {
        let mut new = Vec::new();
        self.update(|state| {
            let put = objects.into_iter().map(|object| {
                let address = ObjectRef::of(&object);
                if let Some(found) = state.listing.get_mut(kind) {
                    found.insert(address.clone());
                }
                let change = state.put(address, trimmed(object), Arrival::Listed)?;
                new.extend(state.snapshot.kept(&change.object).cloned());
                Some(change)
            });
            put.collect()
        });
        let warm = Arc::clone(&self.state.lock().warm);
        warm.pack(&new);
    }

    /// The watch of `kind` has listed all objects there are: what was not among them is gone.
    pub fn listed(&self, kind: &GroupKind) {
        self.update(|state| {
            let keep = state.listing.remove(kind).unwrap_or_default();
            let mut changes = Vec::new();
            let gone: Vec<ObjectRef> = state
                .snapshot
                .of_kind(kind)
                .map(|object| object.address())
                .filter(|address| !keep.contains(&***address))
                .map(|address| (**address).clone())
                .collect();
            changes.extend(gone.iter().map(|address| state.take(address)));
            changes
        });
    }

    fn update(&self, change: impl FnOnce(&mut State<V>) -> Vec<Option<Change>>) {
        let (before, after, changes) = {
            let mut state = self.state.lock();
            let before = state.snapshot.clone();
            let changes: Vec<Change> = change(&mut state).into_iter().flatten().collect();
            if changes.is_empty() {
                return;
            }
            (before, state.snapshot.clone(), changes)
        };
        for change in &changes {
            (self.listener)(&before, &after, change);
        }
    }
}

impl<V: View> State<V> {
    fn put(&mut self, address: ObjectRef, mut object: DynamicObject, arrival: Arrival) -> Option<Change> {
        let is_outline = object.data.is_null() || self.outlined.contains(&address.kind);
        if is_outline {
            object.data = Value::Object(serde_json::Map::new());
        }
        let known = self.snapshot.objects.get_key_value(&address);
        if let Some((_, known)) = known {
            let tells_more = known.is_outline() && !is_outline;
            if known.resource_version() == object.metadata.resource_version.as_deref() && !tells_more {
                return None;
            }
            if matches!((known.revision(), revision(&object)), (Some(known), Some(new)) if known > new) {
                return None;
            }
        }
        let before = known.map(|(_, known)| known.get());
        let older = known.zip(before.as_ref());
        let older = older.map(|((_, known), before)| (&**known, &**before));
        let key = match known {
            Some((key, _)) => Arc::clone(key),
            None => Arc::new(shared(&mut self.kinds, &address)),
        };
        let (kept, object) = self
            .warm
            .keep(Arc::clone(&key), object, is_outline, older, arrival);
        self.snapshot.view.upsert(&kept, &object);
        self.snapshot.objects.insert(key, kept);
        Some(Change {
            object: address,
            before,
            after: Some(object),
        })
    }

    /// These are packed: the view need not keep what it made of them, unless it is of another revision by now.
    fn rest(&mut self, packed: &[Arc<Kept>]) {
        for kept in packed {
            let known = self.snapshot.objects.get(&**kept.address());
            if known.is_some_and(|known| Arc::ptr_eq(known, kept)) {
                self.snapshot.view.rest(kept);
            }
        }
    }

    fn take(&mut self, address: &ObjectRef) -> Option<Change> {
        let before = self.snapshot.objects.remove(address)?.get();
        self.snapshot.view.remove(&before);
        Some(Change {
            object: address.clone(),
            before: Some(before),
            after: None,
        })
    }
}

/// An address that shares the text of its kind with others.
fn shared(kinds: &mut BTreeSet<GroupKind>, address: &ObjectRef) -> ObjectRef {
    let kind = match kinds.get(&address.kind) {
        Some(known) => known.clone(),
        None => {
            kinds.insert(address.kind.clone());
            address.kind.clone()
        }
    };
    ObjectRef {
        kind,
        namespace: address.namespace.as_str().to_owned(),
        name: address.name.as_str().to_owned(),
    }
}

/// Drops what no controller reads: other writers' managed fields, and kubectl's copy of what it applied.
fn trimmed(mut object: DynamicObject) -> DynamicObject {
    if let Some(fields) = &mut object.metadata.managed_fields {
        fields.retain(|entry| {
            entry
                .manager
                .as_deref()
                .is_some_and(|manager| manager.starts_with(crate::FIELD_MANAGER_PREFIX))
        });
        fields.shrink_to_fit();
        for entry in fields {
            if let Some(tree) = &mut entry.fields_v1 {
                compact(&mut tree.0);
            }
        }
    }
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

/// Turns a tree of owned fields into its text. As a tree it takes ten times the memory of what it owns, for every object that is
/// watched, and it is looked at only when the object may have to be written.
fn compact(fields: &mut Value) {
    if fields.is_object() {
        *fields = Value::String(fields.to_string());
    }
}

/// The tree of owned fields of a cached object.
pub fn owned_fields(fields: &Value) -> Cow<'_, Value> {
    match fields {
        Value::String(text) => Cow::Owned(serde_json::from_str(text).unwrap_or_default()),
        tree => Cow::Borrowed(tree),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn thing(name: &str, revision: u64) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Thing",
            "metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": revision.to_string()},
        }))
        .unwrap()
    }

    fn cache() -> (Cache<()>, Arc<Mutex<Vec<String>>>) {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&heard);
        let cache = Cache::new(move |_: &Snapshot<()>, _: &Snapshot<()>, change: &Change| {
            let what = match (&change.before, &change.after) {
                (None, Some(_)) => "new",
                (Some(_), Some(_)) => "changed",
                _ => "gone",
            };
            log.lock().push(format!("{what} {}", change.object.name));
        });
        (cache, heard)
    }

    fn heard(log: &Mutex<Vec<String>>) -> Vec<String> {
        std::mem::take(&mut log.lock())
    }

    #[test]
    fn the_watch_repeats_what_was_written_without_effect() {
        let (cache, log) = cache();
        cache.wrote(thing("a", 5));
        cache.watched(thing("a", 5));
        cache.watched(thing("a", 4));
        assert_eq!(heard(&log), ["new a"]);

        let kind = GroupKind::new("", "Thing");
        assert!(cache.repeats(&kind, "ns", "a", "5"));
        for (name, revision) in [("a", "6"), ("a", ""), ("b", "5")] {
            assert!(!cache.repeats(&kind, "ns", name, revision), "{name} {revision}");
        }
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_does_not_bring_the_object_back() {
        let (cache, log) = cache();
        cache.watched(thing("a", 5));
        cache.deleted(&thing("a", 6));
        cache.wrote(thing("a", 5));
        assert_eq!(heard(&log), ["new a", "gone a"]);
        cache.wrote(thing("a", 7));
        assert_eq!(heard(&log), ["new a"]);
    }

    #[test]
    fn an_old_deletion_does_not_remove_a_newer_object() {
        let (cache, log) = cache();
        cache.watched(thing("a", 5));
        cache.wrote(thing("a", 9));
        cache.deleted(&thing("a", 6));
        assert_eq!(heard(&log), ["new a", "changed a"]);
    }

    #[test]
    fn owned_fields_are_kept_as_text_and_those_of_others_not_at_all() {
        let tree = json!({"f:spec": {"f:a": {}, "f:b": {"k:{\"name\":\"x\"}": {".": {}}}}});
        let mut object = thing("a", 1);
        object.metadata.managed_fields = serde_json::from_value(json!([
            {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {}}},
            {"manager": format!("{}test", crate::FIELD_MANAGER_PREFIX), "operation": "Apply", "fieldsV1": tree},
        ]))
        .unwrap();
        let (cache, _) = cache();
        cache.watched(object);
        let snapshot = cache.snapshot();
        let kept = snapshot.get(&ObjectRef::new("", "Thing", "ns", "a")).unwrap();
        let [kept] = kept.metadata.managed_fields.as_deref().unwrap() else {
            panic!("{kept:?}")
        };
        let fields = &kept.fields_v1.as_ref().unwrap().0;
        assert!(fields.is_string());
        assert_eq!(*owned_fields(fields), tree);
    }

    #[test]
    fn what_a_list_brings_is_packed_at_once_and_news_is_not() {
        let (cache, _) = cache();
        let kind = GroupKind::new("", "Thing");
        cache.listing(&kind);
        cache.lists(&kind, vec![thing("listed", 5)]);
        cache.listed(&kind);
        cache.watched(thing("news", 6));
        let snapshot = cache.snapshot();
        let kept = |name| snapshot.kept(&ObjectRef::new("", "Thing", "ns", name)).unwrap();
        assert!(kept("listed").text().is_some());
        assert_eq!(kept("listed").get().metadata.name.as_deref(), Some("listed"));
        assert!(kept("news").text().is_none());
    }

    #[test]
    fn a_list_removes_what_it_lacks_but_not_what_was_written_meanwhile() {
        let (cache, log) = cache();
        let kind = GroupKind::new("", "Thing");
        cache.watched(thing("a", 1));
        cache.watched(thing("b", 2));
        heard(&log);
        cache.listing(&kind);
        cache.wrote(thing("c", 4));
        cache.lists(&kind, vec![thing("a", 3)]);
        cache.listed(&kind);
        assert_eq!(heard(&log), ["new c", "changed a", "gone b"]);
        assert_eq!(cache.snapshot().of_kind(&kind).count(), 2);
    }
}
