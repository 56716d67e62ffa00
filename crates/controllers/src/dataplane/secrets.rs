//! Watches exactly the Secrets that data planes name: all others are nobody's business.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::runtime::{Backoff, Key, Queue};

/// One watch for each Secret of each data plane.
pub(crate) struct SecretWatches {
    client: Client,
    queue: Queue<Key>,
    running: Mutex<BTreeMap<Key, BTreeMap<String, DropGuard>>>,
}

impl SecretWatches {
    pub(crate) fn new(client: Client, queue: Queue<Key>) -> Self {
        Self {
            client,
            queue,
            running: Mutex::new(BTreeMap::new()),
        }
    }

    /// Watches these Secrets for this data plane, and no others.
    pub(crate) fn follow<'a>(&self, data_plane: &Key, names: impl Iterator<Item = &'a str>) {
        let names: BTreeSet<&str> = names.collect();
        let mut running = self.running.lock();
        let watches = running.entry(data_plane.clone()).or_default();
        watches.retain(|name, _| names.contains(name.as_str()));
        for name in names {
            if !watches.contains_key(name) {
                watches.insert(name.to_owned(), self.watch(data_plane.clone(), name));
            }
        }
        if watches.is_empty() {
            running.remove(data_plane);
        }
    }

    /// Stops watching for a data plane.
    pub(crate) fn forget(&self, data_plane: &Key) {
        self.running.lock().remove(data_plane);
    }

    fn watch(&self, data_plane: Key, name: &str) -> DropGuard {
        let stop = CancellationToken::new();
        let (stopped, queue) = (stop.clone(), self.queue.clone());
        // Metadata is enough to see that it changed: the value is read when it is needed, and not kept.
        let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(self.client.clone(), &data_plane.namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, config));
            let backoff = Backoff::default();
            let mut failures = 0;
            loop {
                let event = tokio::select! {
                    () = stopped.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    None => return,
                    Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => {}
                    Some(Ok(_)) => {
                        failures = 0;
                        queue.add(data_plane.clone());
                    }
                    Some(Err(_)) => {
                        failures += 1;
                        tokio::time::sleep(backoff.delay(failures)).await;
                    }
                }
            }
        });
        stop.drop_guard()
    }
}
