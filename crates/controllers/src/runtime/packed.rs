//! Objects of a cache, small while nobody looks at them.
//!
//! A tree of JSON takes ten times the memory of its text, and of the objects of a platform at rest nobody looks at any. So an object
//! is kept as a tree while it is new or was looked at a moment ago ([`Warm`]), and then as compressed text. Objects of one kind
//! repeat each other nearly word for word, and are compressed against a sample of their kind: what remains is a few hundred bytes.
//!
//! # Guarantees
//! [`Kept::get`] gives the object that was put in, whichever form it is in. An object that changes often is not compressed each time.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use choreo_api::labels::RELEASE;
use choreo_engine::affected;
use choreo_packed::{Packed, Samples};
use kube::core::{DynamicObject, ObjectMeta, TypeMeta};
use parking_lot::Mutex;
use serde_json::Value;

use super::object::{GroupKind, ObjectRef};
use super::text::{Text, stem};
use super::words::{MARK, UID, VERSION, Words};

/// Bytes of trees that are kept at most, about. Thousands of objects are looked at in a burst without being read twice, and are
/// packed when it is over: what takes the time of a burst would be there for nobody.
const BUDGET: usize = 64 << 20;
/// So many objects that come, or are read back, within [`AGE`] are a burst.
const BURST: usize = 2_000;
/// For how long an object stays a tree after it came or was last read back.
const AGE: Duration = Duration::from_secs(3);
/// Things known of one object that are remembered at most. Each writer knows one or two.
const KNOWN: usize = 8;

/// How an object has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is news, and about to be looked at.
    Told,
    /// Among all others of its kind, which are not looked at at once. Whoever takes them in packs them ([`Warm::pack`]).
    Listed,
}

/// That a part of an object is as somebody wants it, found out once and true for as long as that part stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Who wants what of it, as a hash: there are few.
    pub slot: u64,
    /// What is wanted, as a hash.
    pub wanted: u64,
    /// Whether it is about the status, and not about everything else.
    pub of_status: bool,
}

/// The same, as small as it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    /// The slot, but for its first bit, and then whether it is about the status.
    slot: u64,
    wanted: u64,
}

impl Known {
    fn is_of(self, slot: u64) -> bool {
        self.slot >> 1 == slot & (u64::MAX >> 1)
    }

    fn is_of_status(self) -> bool {
        self.slot & 1 == 1
    }
}

impl From<Settled> for Known {
    fn from(settled: Settled) -> Self {
        Self {
            slot: settled.slot << 1 | u64::from(settled.of_status),
            wanted: settled.wanted,
        }
    }
}

/// An object as the cache keeps it. There are many, so that each byte counts.
#[derive(Debug)]
pub struct Kept {
    address: Arc<ObjectRef>,
    api_version: Arc<str>,
    words: Words,
    is_deleting: bool,
    is_outline: bool,
    state: Mutex<State>,
    generation: Option<i64>,
    warm: Arc<Warm>,
}

/// The tree or the packed text is always there.
#[derive(Debug)]
struct State {
    tree: Option<Arc<DynamicObject>>,
    packed: Option<Packed>,
    settled: Box<[Known]>,
    /// Since when everything but the status is as it is, as far as we have seen.
    since: Since,
}

/// A moment, in milliseconds since this program first asked for one. It stays at the last one after 49 days, and then everything is
/// as old as can be.
#[derive(Clone, Copy, Debug)]
struct Since(u32);

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Since {
    fn now() -> Self {
        Self(u32::try_from(BEGIN.elapsed().as_millis()).unwrap_or(u32::MAX))
    }

    fn elapsed(self) -> Duration {
        BEGIN
            .elapsed()
            .saturating_sub(Duration::from_millis(self.0.into()))
    }
}

impl Kept {
    /// Which object it is.
    pub fn address(&self) -> &Arc<ObjectRef> {
        &self.address
    }

    /// `metadata.resourceVersion`.
    pub fn resource_version(&self) -> Option<&str> {
        self.words.get(VERSION)
    }

    /// The resource version as a number, if it is one.
    pub fn revision(&self) -> Option<u64> {
        self.resource_version()?.parse().ok()
    }

    /// `metadata.uid`.
    pub fn uid(&self) -> Option<&str> {
        self.words.get(UID)
    }

    /// The value of the label that says which release the object belongs to.
    pub fn mark(&self) -> Option<&str> {
        self.words.get(MARK)
    }

    /// `apiVersion`.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// `metadata.generation`.
    pub fn generation(&self) -> Option<i64> {
        self.generation
    }

    /// Whether the object is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.is_deleting
    }

    /// Whether only metadata are kept, and the rest has to be asked for.
    pub fn is_outline(&self) -> bool {
        self.is_outline
    }

    /// Whether it is known that the object is as `slot` wants it.
    pub fn is_settled(&self, slot: u64, wanted: u64) -> bool {
        let state = self.state.lock();
        let known = state.settled.iter().find(|known| known.is_of(slot));
        known.is_some_and(|known| known.wanted == wanted)
    }

    /// Whether anything is known of what `slot` wants: the object is as it was left, or found, by this process.
    pub fn is_known(&self, slot: u64) -> bool {
        self.state.lock().settled.iter().any(|known| known.is_of(slot))
    }

    /// For how long everything but the status has been as it is, as far as we have seen.
    pub fn age(&self) -> Duration {
        self.state.lock().since.elapsed()
    }

    /// Remembers that the object is as somebody wants it.
    pub fn settle(&self, settled: Settled) {
        let mut state = self.state.lock();
        let mut all = std::mem::take(&mut state.settled).into_vec();
        all.retain(|known| !known.is_of(settled.slot));
        if all.len() >= KNOWN {
            all.remove(0);
        }
        all.push(settled.into());
        state.settled = all.into_boxed_slice();
    }

    /// Takes over what is known of an older state of the same object and cannot have changed since.
    fn inherit(&self, older: &Kept, before: &DynamicObject, now: &DynamicObject) {
        let (settled, since) = {
            let older = older.state.lock();
            (older.settled.clone(), older.since)
        };
        let mut settled = settled.into_vec();
        // For how long it has been so matters while it is new only.
        if settled.is_empty() && since.elapsed() > AGE {
            return;
        }
        let (mut main, mut status) = (same_but_status(before, now), same_status(before, now));
        if older.is_outline || self.is_outline {
            // What is not here can only have changed with the fields that are still ours.
            main &= same_ownership(before, now);
            status = false;
        }
        settled.retain(|known| if known.is_of_status() { status } else { main });
        let mut state = self.state.lock();
        if main {
            state.since = since;
        }
        state.settled = settled.into_boxed_slice();
    }

    /// The text that is kept of the object; `None` while it is a tree only. Whoever makes something of it does so once in a while: what
    /// it became is told to let go of it again ([`super::cache::View::rest`]).
    pub fn text(self: &Arc<Self>) -> Option<Result<Text, String>> {
        let packed = self.state.lock().packed.clone()?;
        let text = Text::unpacked(&packed, &self.address.name);
        let size = text.as_ref().map_or(0, |text| text.len());
        self.warm.add(self, METADATA + size * TYPED);
        Some(text)
    }

    /// The object.
    pub fn get(self: &Arc<Self>) -> Arc<DynamicObject> {
        let tree = {
            let mut state = self.state.lock();
            if let Some(tree) = &state.tree {
                return Arc::clone(tree);
            }
            let read = |packed| read(packed, &self.address.name);
            let tree = Arc::new(match state.packed.as_ref().map(read) {
                Some(Ok(object)) => object,
                Some(Err(error)) => self.outline(&error),
                None => self.outline(&"it was not kept"),
            });
            state.tree = Some(Arc::clone(&tree));
            tree
        };
        self.warm.add(self, METADATA + weight(&tree.data));
        tree
    }

    /// What is known without the text. It differs from what anybody wants, so that whoever asked writes or asks anew; that the
    /// object exists is never in doubt.
    fn outline(&self, error: &dyn std::fmt::Display) -> DynamicObject {
        tracing::error!(object = %self.address, %error, "a cached object cannot be read back");
        let mut outline = DynamicObject {
            types: Some(TypeMeta {
                api_version: self.api_version.to_string(),
                kind: self.address.kind.kind.clone(),
            }),
            metadata: ObjectMeta::default(),
            data: Value::Object(serde_json::Map::new()),
        };
        let namespace = Some(self.address.namespace.clone());
        outline.metadata.namespace = namespace.filter(|namespace| !namespace.is_empty());
        outline.metadata.name = Some(self.address.name.clone());
        outline.metadata.uid = self.uid().map(str::to_owned);
        outline.metadata.resource_version = self.resource_version().map(str::to_owned);
        outline
    }

    fn cool(&self) {
        let mut state = self.state.lock();
        let Some(tree) = &state.tree else { return };
        if state.packed.is_none() {
            let text = Text::of(tree).and_then(|text| text.to_pack(stem(tree)));
            state.packed = text.and_then(|text| self.warm.samples.pack(&self.address.kind, &text));
        }
        if state.packed.is_some() {
            state.tree = None;
        }
    }
}

fn same_status(before: &DynamicObject, now: &DynamicObject) -> bool {
    before.data.get("status") == now.data.get("status")
}

/// Whether nothing but the status differs. Who owns what is not looked at: whoever takes a field over gives it another value, or
/// takes nothing away.
fn same_but_status(before: &DynamicObject, now: &DynamicObject) -> bool {
    fn rest(object: &DynamicObject) -> impl Iterator<Item = (&String, &Value)> {
        let all = object.data.as_object().into_iter().flatten();
        all.filter(|(name, _)| *name != "status")
    }
    affected::same_but_status(&before.metadata, &now.metadata) && rest(before).eq(rest(now))
}

/// Whether our field managers own the same fields.
fn same_ownership(before: &DynamicObject, now: &DynamicObject) -> bool {
    fn owned(object: &DynamicObject) -> impl Iterator<Item = impl PartialEq> {
        let entries = object.metadata.managed_fields.iter().flatten();
        entries.map(|entry| {
            (
                &entry.manager,
                &entry.operation,
                &entry.subresource,
                &entry.fields_v1,
            )
        })
    }
    owned(before).eq(owned(now))
}

fn read(packed: &Packed, name: &str) -> Result<DynamicObject, String> {
    Text::unpacked(packed, name)?
        .whole()
        .map_err(|error| error.to_string())
}

/// Hears that objects are packed.
type Listener = Box<dyn Fn(&[Arc<Kept>]) + Send + Sync>;

/// The objects that are trees at the moment, oldest first.
pub struct Warm {
    samples: Samples<GroupKind>,
    api_versions: Mutex<BTreeSet<Arc<str>>>,
    queue: Mutex<Queue>,
    listener: Listener,
}

impl fmt::Debug for Warm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm").finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Queue {
    entries: VecDeque<Entry>,
    size: usize,
    /// Packed before their time, since there was no room, and nobody has heard of it yet.
    untold: Vec<Weak<Kept>>,
    /// How many have come since somebody looked last at who is of age.
    came: usize,
    /// Whether a task waits for the oldest to come of age.
    watched: bool,
}

#[derive(Debug)]
struct Entry {
    kept: Weak<Kept>,
    size: usize,
    since: Instant,
}

impl Warm {
    /// Nothing yet. `listener` hears, some time after, what was packed.
    pub fn new(listener: impl Fn(&[Arc<Kept>]) + Send + Sync + 'static) -> Self {
        Self {
            samples: Samples::new(),
            api_versions: Mutex::default(),
            queue: Mutex::default(),
            listener: Box::new(listener),
        }
    }

    /// Takes an object in, of which there may be no more than metadata; `older` is what it replaces.
    pub fn keep(
        self: &Arc<Self>,
        address: Arc<ObjectRef>,
        object: DynamicObject,
        is_outline: bool,
        older: Option<(&Kept, &DynamicObject)>,
        arrival: Arrival,
    ) -> (Arc<Kept>, Arc<DynamicObject>) {
        let tree = Arc::new(object);
        let metadata = &tree.metadata;
        let mark = metadata.labels.as_ref().and_then(|labels| labels.get(RELEASE));
        let kept = Arc::new(Kept {
            address,
            api_version: self.interned(tree.types.as_ref().map_or("", |types| &types.api_version)),
            words: Words::new([
                metadata.resource_version.as_deref(),
                metadata.uid.as_deref(),
                mark.map(String::as_str),
            ]),
            generation: metadata.generation,
            is_deleting: metadata.deletion_timestamp.is_some(),
            is_outline,
            state: Mutex::new(State {
                tree: Some(Arc::clone(&tree)),
                packed: None,
                settled: Box::default(),
                since: Since::now(),
            }),
            warm: Arc::clone(self),
        });
        if let Some((older, before)) = older {
            kept.inherit(older, before, &tree);
        }
        if arrival == Arrival::Told {
            self.add(&kept, METADATA + weight(&tree.data));
        }
        (kept, tree)
    }

    /// Packs objects now, and says so.
    pub fn pack(&self, all: &[Arc<Kept>]) {
        all.iter().for_each(|kept| kept.cool());
        (self.listener)(all);
    }

    /// There are few, and many objects of each.
    fn interned(&self, api_version: &str) -> Arc<str> {
        let mut known = self.api_versions.lock();
        if let Some(known) = known.get(api_version) {
            return Arc::clone(known);
        }
        let new: Arc<str> = Arc::from(api_version);
        known.insert(Arc::clone(&new));
        new
    }

    fn add(self: &Arc<Self>, kept: &Arc<Kept>, size: usize) {
        let mut leave = Vec::new();
        {
            let mut queue = self.queue.lock();
            queue.size += size;
            queue.came += 1;
            queue.entries.push_back(Entry {
                kept: Arc::downgrade(kept),
                size,
                since: Instant::now(),
            });
            while queue.size > BUDGET
                && let Some(oldest) = queue.entries.pop_front()
            {
                queue.size -= oldest.size;
                queue.untold.push(Weak::clone(&oldest.kept));
                leave.push(oldest.kept);
            }
            if !queue.watched
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                queue.watched = true;
                runtime.spawn(Self::age(Arc::downgrade(self)));
            }
        }
        cool(&leave);
    }

    /// Packs what has been there for long, but not within a burst, and ends when nothing is left.
    async fn age(warm: Weak<Self>) {
        loop {
            tokio::time::sleep(AGE).await;
            let Some(warm) = warm.upgrade() else { return };
            let mut leave = Vec::new();
            let done = {
                let mut queue = warm.queue.lock();
                leave.append(&mut queue.untold);
                let is_burst = std::mem::take(&mut queue.came) >= BURST;
                let is_due = |oldest: &mut Entry| !is_burst && oldest.since.elapsed() >= AGE;
                while let Some(oldest) = queue.entries.pop_front_if(is_due) {
                    queue.size -= oldest.size;
                    leave.push(oldest.kept);
                }
                queue.watched = !queue.entries.is_empty();
                if !queue.watched {
                    queue.entries.shrink_to_fit();
                    queue.untold.shrink_to_fit();
                }
                !queue.watched
            };
            for some in leave.chunks(64) {
                let packed = cool(some);
                (warm.listener)(&packed);
                drop(packed);
                // Others may have something urgent.
                tokio::task::yield_now().await;
            }
            if done {
                return;
            }
        }
    }
}

/// Packs those that are still kept, and says which.
fn cool(leave: &[Weak<Kept>]) -> Vec<Arc<Kept>> {
    let all: Vec<Arc<Kept>> = leave.iter().filter_map(Weak::upgrade).collect();
    all.iter().for_each(|kept| kept.cool());
    all
}

/// What metadata takes beside the rest, about.
const METADATA: usize = 2048;
/// How many times its text an object takes that is typed, about.
const TYPED: usize = 3;

/// Bytes that a tree takes outside of itself, about. A map takes memory for eleven members at once, however few it has, and those
/// that have come in order are in nodes half full.
fn weight(value: &Value) -> usize {
    const NODE: usize = 640;
    const IN_NODE: usize = 6;
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items
            .iter()
            .map(|item| size_of::<Value>() + weight(item))
            .sum::<usize>(),
        Value::Object(members) => {
            let of = |(name, value): (&String, &Value)| name.len() + weight(value);
            NODE * members.len().div_ceil(IN_NODE) + members.iter().map(of).sum::<usize>()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use choreo_engine::world::Source;
    use serde_json::json;

    fn object(name: &str, text: &str) -> DynamicObject {
        let labels = json!({"app.kubernetes.io/name": name, "openchoreo.dev/organization": "default"});
        serde_json::from_value(json!({
            "apiVersion": "example.com/v1", "kind": "Thing",
            "metadata": {
                "name": name, "namespace": "ns", "uid": format!("uid-{name}"), "resourceVersion": "7", "labels": labels,
                "managedFields": [{"manager": "m", "operation": "Apply", "fieldsV1": "{\"f:spec\":{}}"}],
            },
            "spec": {"text": text, "numbers": [1, 1.5, u64::MAX, i64::MIN], "nothing": null, "template": {"labels": labels}},
        }))
        .unwrap()
    }

    fn keep(warm: &Arc<Warm>, object: DynamicObject) -> Arc<Kept> {
        warm.keep(
            Arc::new(ObjectRef::of(&object)),
            object,
            false,
            None,
            Arrival::Told,
        )
        .0
    }

    #[test]
    fn what_is_packed_comes_back() {
        let warm = Arc::new(Warm::new(|_| {}));
        for index in 0..20 {
            let object = object(
                &format!("thing-{index}"),
                &format!("\u{1F600}\"{}", "x".repeat(index * 500)),
            );
            let kept = keep(&warm, object.clone());
            kept.cool();
            assert!(kept.state.lock().tree.is_none());
            assert_eq!(*kept.get(), object);
            assert_eq!(
                (kept.revision(), kept.uid()),
                (Some(7), Some(&*format!("uid-thing-{index}")))
            );
        }
    }

    #[test]
    fn objects_of_a_kind_are_small_beside_their_sample() {
        let warm = Arc::new(Warm::new(|_| {}));
        let text = "the same in all of them, and long enough to matter: ".repeat(20);
        for index in 0..10 {
            let kept = keep(&warm, object(&format!("thing-{index}"), &text));
            kept.cool();
            let state = kept.state.lock();
            let packed = state.packed.as_ref().unwrap();
            assert!(index == 0 || packed.size() < 150, "{} bytes", packed.size());
        }
    }

    #[test]
    fn a_reader_keeps_what_it_has_while_the_cache_packs_it() {
        let warm = Arc::new(Warm::new(|_| {}));
        let kept = keep(&warm, object("a", "text"));
        let held = kept.get();
        kept.cool();
        assert_eq!(held, kept.get());
    }

    #[test]
    fn more_than_the_budget_is_not_kept_as_trees() {
        let warm = Arc::new(Warm::new(|_| {}));
        let large = "x".repeat(1 << 20);
        let all: Vec<_> = (0..80)
            .map(|index| keep(&warm, object(&index.to_string(), &large)))
            .collect();
        let trees = all.iter().filter(|kept| kept.state.lock().tree.is_some()).count();
        let most = BUDGET >> 20;
        assert!((most - 4..=most).contains(&trees), "{trees}");
        assert!(warm.queue.lock().size <= BUDGET);
        // The oldest went first, and comes back when it is asked for.
        assert!(all[0].state.lock().tree.is_none());
        assert_eq!(all[0].get().metadata.name.as_deref(), Some("0"));
        assert!(all[0].state.lock().tree.is_some());
    }

    #[test]
    fn what_is_known_stays_known_while_its_part_of_the_object_stays() {
        let warm = Arc::new(Warm::new(|_| {}));
        let of = |slot: u64, of_status: bool| Settled {
            slot,
            wanted: slot + 100,
            of_status,
        };
        let known = |kept: &Arc<Kept>| [1, 2].map(|slot| kept.is_settled(slot, slot + 100));
        let first = object("a", "text");
        let kept = keep(&warm, first.clone());
        kept.settle(of(1, false));
        kept.settle(of(2, true));
        assert_eq!(known(&kept), [true, true]);
        assert!(!kept.is_settled(1, 7));
        let next = |change: &dyn Fn(&mut DynamicObject)| {
            let mut now = first.clone();
            now.metadata.resource_version = Some("8".to_owned());
            change(&mut now);
            let older = Some((&*kept, &first));
            known(
                &warm
                    .keep(Arc::clone(kept.address()), now, false, older, Arrival::Told)
                    .0,
            )
        };
        assert_eq!(next(&|_| {}), [true, true]);
        assert_eq!(
            next(&|now| now.data["status"] = json!({"ready": true})),
            [true, false]
        );
        assert_eq!(
            next(&|now| now.data["spec"]["text"] = json!("other")),
            [false, true]
        );
        assert_eq!(next(&|now| now.metadata.finalizers = Some(vec![])), [false, true]);
        assert_eq!(next(&|now| now.metadata.labels = None), [false, true]);
        // What is wanted anew takes the place of what was wanted, and the oldest goes when it is too much.
        kept.settle(Settled {
            wanted: 7,
            ..of(1, false)
        });
        assert_eq!(known(&kept), [false, true]);
        for slot in 10..10 + KNOWN as u64 {
            kept.settle(of(slot, false));
        }
        assert_eq!(kept.state.lock().settled.len(), KNOWN);
        assert_eq!(known(&kept), [false, false]);
    }

    #[tokio::test]
    async fn what_nobody_looks_at_is_packed_after_a_while() {
        let warm = Arc::new(Warm::new(|_| {}));
        let kept = keep(&warm, object("a", "text"));
        assert!(warm.queue.lock().watched);
        let age = Warm::age(Arc::downgrade(&warm));
        age.await;
        assert!(kept.state.lock().tree.is_none());
        let queue = warm.queue.lock();
        assert_eq!((queue.entries.len(), queue.size, queue.watched), (0, 0, false));
    }

    #[tokio::test]
    async fn a_burst_is_packed_when_it_is_over() {
        let warm = Arc::new(Warm::new(|_| {}));
        let kept = keep(&warm, object("a", "text"));
        // Counted as a burst would be; as many objects would take a while to make. Who waits for the age of objects waits already.
        warm.queue.lock().came = BURST;
        tokio::time::sleep(AGE + AGE / 2).await;
        assert!(kept.state.lock().tree.is_some());
        let packed = async {
            while kept.state.lock().tree.is_some() {
                tokio::time::sleep(AGE / 10).await;
            }
        };
        tokio::time::timeout(AGE * 5, packed).await.unwrap();
    }

    #[test]
    fn an_object_that_cannot_be_read_back_still_exists() {
        let warm = Arc::new(Warm::new(|_| {}));
        let kept = keep(&warm, object("a", "text"));
        // Another object's text stands for one that is damaged.
        let mut state = kept.state.lock();
        state.packed = Samples::new().pack(&(), b"no object");
        state.tree = None;
        drop(state);
        // Typed it is not there, which is an error and not that it is gone.
        assert!(Source::read(Arc::clone(&kept)).is_none());
        let outline = kept.get();
        assert_eq!(outline.metadata.uid.as_deref(), Some("uid-a"));
        assert_eq!(ObjectRef::of(&outline), **kept.address());
    }
}
