//! What is registered in objects (webhooks, policies, bindings), read once per version of the object.

use std::collections::BTreeMap;
use std::sync::Arc;

use choreo_store::Snapshot;
use parking_lot::Mutex;
use serde_json::Value;

/// Objects of one kind, read.
pub(super) struct Registered<T> {
    resource: &'static str,
    read: fn(&str, &Value) -> T,
    known: Mutex<BTreeMap<String, (u64, Arc<T>)>>,
}

impl<T> Registered<T> {
    /// Objects of `resource`, which `read` understands, given name and object.
    pub(super) fn new(resource: &'static str, read: fn(&str, &Value) -> T) -> Registered<T> {
        Registered {
            resource,
            read,
            known: Mutex::default(),
        }
    }

    /// All of them as they are in the snapshot, by name.
    pub(super) fn all(&self, snapshot: &Snapshot) -> Vec<(String, Arc<T>)> {
        if snapshot.count(self.resource) == 0 {
            return Vec::new();
        }
        let mut known = self.known.lock();
        let mut all = Vec::new();
        for object in snapshot.iter(self.resource, None, None) {
            let name = object.key().name().to_owned();
            let read = match known.get(&name) {
                Some((revision, read)) if *revision == object.revision() => read.clone(),
                _ => {
                    let read = Arc::new((self.read)(&name, &object.value()));
                    known.insert(name.clone(), (object.revision(), read.clone()));
                    read
                }
            };
            all.push((name, read));
        }
        if known.len() > all.len() {
            known.retain(|name, _| all.iter().any(|(n, _)| n == name));
        }
        all
    }
}
