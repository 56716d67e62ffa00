//! The garbage collector: objects whose owners are gone go too.
//!
//! ```text
//!  every change of the cluster ──▶ graph: who depends on whom ──▶ objects to look at ──▶ rules ──▶ the server's own verbs
//! ```
//!
//! It follows all kinds of a logical cluster by one watch and works on what the watch tells; nothing is polled. What to do
//! with an object is decided from the objects as they are stored at that moment, so that looking at one too often does no
//! harm. Deletions are the server's own, with a precondition on what was looked at, so finalizers hold and an object that has
//! changed meanwhile is looked at again.
//!
//! * **Background**: an object goes when all its owners are gone.
//! * **Foreground** (`foregroundDeletion`): the owner stays until its dependents with `blockOwnerDeletion` are gone.
//! * **Orphan** (`orphan`): the owner goes after its dependents have lost their reference to it.
//!
//! An owner is looked for in the dependent's namespace, or in the cluster's scope if its kind is of that; an owner in another
//! namespace counts as absent. A dependent of cluster scope with an owner whose kind is namespaced is left alone.

mod graph;
mod item;
mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use choreo_store::Key;
use futures::{StreamExt, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::follow::{Round, rounds};
use graph::Graph;
use rules::{Collector, Outcome};

/// Objects worked on at once; the store commits their writes together.
const AT_ONCE: usize = 64;

/// First and longest wait before an object is tried again that the server refused to change.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let collector = Collector::new(cluster);
    let mut registry = cluster.registry_changed.subscribe();
    let snapshot = cluster.store().snapshot();
    let mut watch = cluster.store().watch(None, None, snapshot.revision())?;
    let mut graph = Graph::default();
    let mut queue: BTreeSet<Key> = BTreeSet::new();
    for object in snapshot.all() {
        graph.add(object, &mut queue);
    }
    drop(snapshot);
    let mut retries = Retries::default();
    // Objects with an owner of a kind that is not served; it may be served later.
    let mut unknown = BTreeSet::new();
    loop {
        while let Some(event) = watch.try_next()? {
            graph.apply(&event, &mut queue);
        }
        queue.extend(retries.due());
        if queue.is_empty() {
            tokio::select! {
                event = watch.next() => graph.apply(&*event?, &mut queue),
                _ = registry.changed() => queue.append(&mut unknown),
                () = until(retries.next()) => {}
            }
            continue;
        }
        let work = std::mem::take(&mut queue);
        let outcomes: Vec<_> = stream::iter(work)
            .map(|key| async {
                let outcome = collector.look_at(&graph, &key).await;
                (key, outcome)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (key, outcome) in outcomes {
            match outcome {
                Ok(Outcome::Done(more)) => {
                    retries.forget(&key);
                    queue.extend(more);
                }
                Ok(Outcome::UnknownOwner) => {
                    retries.forget(&key);
                    unknown.insert(key);
                }
                Err(error) => {
                    tracing::debug!(object = %key, "garbage collection will be tried again: {error}");
                    retries.later(key);
                }
            }
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Objects to try again, each after twice the wait of the time before.
#[derive(Default)]
struct Retries {
    waits: BTreeMap<Key, Duration>,
    times: BTreeSet<(Instant, Key)>,
}

impl Retries {
    fn later(&mut self, key: Key) {
        let wait = self
            .waits
            .entry(key.clone())
            .and_modify(|wait| *wait = (*wait * 2).min(RETRY.1))
            .or_insert(RETRY.0);
        self.times.insert((Instant::now() + *wait, key));
    }

    fn forget(&mut self, key: &Key) {
        self.waits.remove(key);
    }

    fn next(&self) -> Option<Instant> {
        self.times.first().map(|(time, _)| *time)
    }

    fn due(&mut self) -> Vec<Key> {
        let now = Instant::now();
        let mut due = Vec::new();
        while self.times.first().is_some_and(|(time, _)| *time <= now) {
            due.extend(self.times.pop_first().map(|(_, key)| key));
        }
        due
    }
}
