//! What goes on living from one table to the next.

use std::collections::HashMap;
use std::hash::Hash;

/// Values that go on living from one table to the next, such as counts. What a build does not ask for is forgotten.
pub(crate) struct Kept<K, V> {
    now: HashMap<K, V>,
    next: HashMap<K, V>,
    /// What was asked for since it was last emptied.
    asked: Vec<K>,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self {
            now: HashMap::new(),
            next: HashMap::new(),
            asked: Vec::new(),
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Kept<K, V> {
    pub(crate) fn take(&mut self, key: K, fits: impl Fn(&V) -> bool, make: impl FnOnce() -> V) -> V {
        self.asked.push(key.clone());
        if let Some(value) = self.next.get(&key).filter(|value| fits(value)) {
            return value.clone();
        }
        let value = match self.now.get(&key).filter(|value| fits(value)) {
            Some(value) => value.clone(),
            None => make(),
        };
        self.next.insert(key, value.clone());
        value
    }

    pub(crate) fn replace(&mut self, key: K, make: impl FnOnce(Option<&V>) -> V) -> V {
        self.asked.push(key.clone());
        let value = make(self.next.get(&key).or_else(|| self.now.get(&key)));
        self.next.insert(key, value.clone());
        value
    }

    /// What was asked for since the last call.
    pub(crate) fn asked(&mut self) -> Vec<K> {
        std::mem::take(&mut self.asked)
    }

    /// Keeps a value for another round without a look at it.
    pub(crate) fn keep(&mut self, key: &K) {
        if !self.next.contains_key(key)
            && let Some(value) = self.now.remove(key)
        {
            self.next.insert(key.clone(), value);
        }
    }

    /// A build is over.
    pub(crate) fn turn(&mut self) {
        self.asked.clear();
        self.now = std::mem::take(&mut self.next);
    }
}
