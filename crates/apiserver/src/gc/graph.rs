//! Who depends on whom, and which changes make an object worth looking at. Knows no I/O.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use choreo_store::{Event, EventKind, Key, Object};

use super::item::{Item, Owner};

/// Uids of objects that are known to be gone. Enough for the dependents of a large owner to be told from those of one whose
/// kind is no longer served.
const GONE_KEPT: usize = 10_000;

type Uid = Box<str>;

/// The references of all objects of a cluster.
#[derive(Default)]
pub(super) struct Graph {
    /// By the owner's uid: who refers to it.
    dependents: HashMap<Uid, BTreeSet<Key>>,
    /// By the dependent: whom it refers to.
    owners: HashMap<Key, Vec<Owner>>,
    /// By uid: owners that wait for their dependents to go.
    waiting: HashMap<Uid, Key>,
    gone: HashSet<Uid>,
    gone_order: VecDeque<Uid>,
}

impl Graph {
    /// Takes an object in that was there at the start.
    pub(super) fn add(&mut self, object: &Arc<Object>, look_at: &mut BTreeSet<Key>) {
        let Some(item) = Item::read_marked(object) else {
            return;
        };
        if !item.owners().is_empty() || item.is_deleting() {
            look_at.insert(object.key().clone());
        }
        self.note(object.key(), &item);
    }

    /// Takes a change in and says whom to look at because of it.
    pub(super) fn apply(&mut self, event: &Event, look_at: &mut BTreeSet<Key>) {
        let key = event.object.key();
        let item = match Item::read_marked(&event.object) {
            // What goes is remembered by its uid, whatever it was. What is not going was not before either, and so does not wait.
            None if event.kind == EventKind::Deleted => Item::read(&event.object),
            None if !self.owners.contains_key(key) => return,
            None => Item::default(),
            Some(item) => item,
        };
        if event.kind == EventKind::Deleted {
            for owner in self.owners.remove(key).unwrap_or_default() {
                self.unlink(key, &owner.uid);
                look_at.extend(self.waiting.get(&*owner.uid).cloned());
            }
            self.waiting.remove(item.uid());
            self.remember_gone(item.uid());
            look_at.extend(self.dependents_of(item.uid()).cloned());
            return;
        }
        let before = self.owners.get(key).map(Vec::as_slice).unwrap_or_default();
        if before != item.owners() {
            look_at.insert(key.clone());
            // A reference that is gone or no longer blocks may be what an owner waits for.
            for owner in before {
                look_at.extend(self.waiting.get(&*owner.uid).cloned());
            }
        }
        if item.is_deleting() && (item.wants_foreground() || item.wants_orphans()) {
            look_at.insert(key.clone());
        }
        self.note(key, &item);
    }

    fn note(&mut self, key: &Key, item: &Item) {
        for owner in self.owners.remove(key).unwrap_or_default() {
            self.unlink(key, &owner.uid);
        }
        for owner in item.owners() {
            self.dependents
                .entry(owner.uid.as_str().into())
                .or_default()
                .insert(key.clone());
        }
        if !item.owners().is_empty() {
            self.owners.insert(key.clone(), item.owners().to_vec());
        }
        if item.waits_for_dependents() {
            self.waiting.insert(item.uid().into(), key.clone());
        } else {
            self.waiting.remove(item.uid());
        }
    }

    fn unlink(&mut self, key: &Key, owner: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(key);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn remember_gone(&mut self, uid: &str) {
        if !self.gone.insert(uid.into()) {
            return;
        }
        self.gone_order.push_back(uid.into());
        if self.gone_order.len() > GONE_KEPT
            && let Some(oldest) = self.gone_order.pop_front()
        {
            self.gone.remove(&oldest);
        }
    }

    /// Who refers to the object of that uid.
    pub(super) fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Key> {
        self.dependents.get(uid).into_iter().flatten()
    }

    /// Whether the object of that uid has been seen going.
    pub(super) fn is_gone(&self, uid: &str) -> bool {
        self.gone.contains(uid)
    }
}
