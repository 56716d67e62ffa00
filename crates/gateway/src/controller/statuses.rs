//! Writes statuses, and only those that differ. Writes are done beside everything else, so that a table never waits for them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Shared;
use crate::config::object::Key;
use crate::config::status::Verdict;

/// Name under which fields are owned.
const FIELD_MANAGER: &str = "choreo/gateway";
/// Writes at a time.
const PARALLEL: usize = 4;
/// How long to wait before what failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Queue {
    waiting: Mutex<BTreeMap<Key, Arc<Verdict>>>,
    more: Notify,
}

/// Writes what is put into it until it is dropped.
pub(super) struct Writer {
    queue: Arc<Queue>,
    task: JoinHandle<()>,
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> Self {
        let queue = Arc::new(Queue::default());
        let task = tokio::spawn(work(shared, Arc::clone(&queue)));
        Self { queue, task }
    }

    /// Takes verdicts over. A newer one of an object replaces the one that waits.
    pub(super) fn write(&self, verdicts: Vec<(Key, Arc<Verdict>)>) {
        if verdicts.is_empty() {
            return;
        }
        self.queue.waiting.lock().extend(verdicts);
        self.queue.more.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn work(shared: Arc<Shared>, queue: Arc<Queue>) {
    loop {
        queue.more.notified().await;
        loop {
            let batch = std::mem::take(&mut *queue.waiting.lock());
            if batch.is_empty() {
                break;
            }
            let writes = batch.into_iter().map(|(key, verdict)| {
                let (shared, queue) = (&shared, &queue);
                async move {
                    if let Err(error) = write(shared, &key, &verdict).await {
                        let (kind, name) = &key;
                        tracing::info!(
                            "cannot update the status of {} {name}, trying again: {error}",
                            kind.as_str()
                        );
                        let queue = Arc::clone(queue);
                        tokio::spawn(async move {
                            tokio::time::sleep(RETRY).await;
                            // What was decided meanwhile counts more.
                            queue.waiting.lock().entry(key).or_insert(verdict);
                            queue.more.notify_one();
                        });
                    }
                }
            });
            futures::stream::iter(writes)
                .buffer_unordered(PARALLEL)
                .collect::<()>()
                .await;
        }
    }
}

async fn write(shared: &Shared, key: &Key, verdict: &Verdict) -> Result<(), kube::Error> {
    let (kind, name) = key;
    let status = {
        let world = shared.world.lock();
        let Some(written) = world.written.get(key) else {
            return Ok(());
        };
        let status = verdict.status(written, Timestamp::now());
        let nothing = written.status.is_null() && verdict.is_empty();
        if nothing || includes(&written.status, &status) {
            return Ok(());
        }
        status
    };
    let Some(resource) = shared.resources.lock().get(kind).cloned() else {
        return Ok(());
    };
    let api: Api<DynamicObject> = match kind.is_namespaced() {
        true => Api::namespaced_with(shared.client.clone(), &name.namespace, &resource),
        false => Api::all_with(shared.client.clone(), &resource),
    };
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&name.name, &params, &Patch::Merge(&json!({"status": status})))
        .await
    {
        Ok(object) => {
            shared.world.lock().apply(*kind, &object);
            Ok(())
        }
        // Gone meanwhile.
        Err(kube::Error::Api(response)) if response.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Whether every field of `wanted` is as it should be. Others belong to others.
fn includes(current: &serde_json::Value, wanted: &serde_json::Value) -> bool {
    let fields = wanted.as_object().into_iter().flatten();
    fields
        .into_iter()
        .all(|(key, value)| current.get(key) == Some(value))
}
