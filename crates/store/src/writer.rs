//! The writer thread: the only place where anything changes.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
};

use tokio::sync::oneshot;

use crate::{
    Event, EventKind, Key, Object, Snapshot, WriteError, cluster::State, disk::Disk, lock::FolderLock,
    object::Encoded,
};

/// Requests that are committed together at most.
const BATCH: usize = 512;

/// Answers to one request for writes.
type Answer = Result<Vec<Arc<Object>>, (usize, WriteError)>;

/// What the thread is asked to do.
pub(crate) enum Request {
    /// All of `writes` or none.
    Write {
        cluster: Arc<State>,
        writes: Vec<Prepared>,
        reply: oneshot::Sender<Answer>,
    },
    /// The clusters as they are between two commits.
    Capture {
        clusters: Vec<Arc<State>>,
        reply: oneshot::Sender<Vec<(Arc<str>, Snapshot)>>,
    },
}

/// A write whose value has been encoded.
pub(crate) enum Prepared {
    Create { key: Key, value: Encoded },
    Update { key: Key, value: Encoded, expect: u64 },
    Delete { key: Key, expect: u64 },
}

/// What one commit puts on disk for one cluster.
pub(crate) struct Staged {
    state: Arc<State>,
    snapshot: Snapshot,
    events: Vec<Arc<Event>>,
}

impl Staged {
    pub(crate) fn cluster(&self) -> &str {
        &self.state.name
    }

    pub(crate) fn revision(&self) -> u64 {
        self.snapshot.revision()
    }

    pub(crate) fn events(&self) -> &[Arc<Event>] {
        &self.events
    }
}

pub(crate) struct Writer {
    disk: Option<(Disk, FolderLock)>,
}

impl Writer {
    pub(crate) fn new(disk: Option<(Disk, FolderLock)>) -> Self {
        Self { disk }
    }

    /// Works until every sender is gone.
    pub(crate) fn run(mut self, requests: &mpsc::Receiver<Request>) {
        let mut batch = Vec::with_capacity(BATCH);
        while let Ok(first) = requests.recv() {
            batch.push(first);
            while batch.len() < BATCH {
                let Ok(next) = requests.try_recv() else { break };
                batch.push(next);
            }
            self.process(&mut batch);
        }
    }

    fn process(&mut self, batch: &mut Vec<Request>) {
        let mut staged = BTreeMap::new();
        let mut answers = Vec::with_capacity(batch.len());
        let mut captures = Vec::new();
        for request in batch.drain(..) {
            match request {
                Request::Write {
                    cluster,
                    writes,
                    reply,
                } => answers.push((reply, stage(&mut staged, &cluster, writes))),
                Request::Capture { clusters, reply } => captures.push((clusters, reply)),
            }
        }

        staged.retain(|_, staged: &mut Staged| !staged.events.is_empty());
        let committed = match &mut self.disk {
            Some((disk, _)) if !staged.is_empty() => disk.commit(&staged.values()),
            _ => Ok(()),
        };
        match committed {
            Ok(()) => {
                staged.into_values().for_each(publish);
                for (reply, answer) in answers {
                    // Nobody there to hear it is no error: the caller was cancelled.
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(%error, "commit failed");
                for (reply, _) in answers {
                    // Also for writes that were refused: they may have been judged by ones that did not happen.
                    let _ = reply.send(Err((0, WriteError::Io(error.clone()))));
                }
            }
        }
        for (clusters, reply) in captures {
            let snapshots = clusters
                .iter()
                .map(|state| (Arc::clone(&state.name), state.inner.read().snapshot.clone()))
                .collect();
            let _ = reply.send(snapshots);
        }
    }
}

/// Carries out `writes` on the cluster's next snapshot, all or none.
fn stage(staged: &mut BTreeMap<Arc<str>, Staged>, cluster: &Arc<State>, writes: Vec<Prepared>) -> Answer {
    let staged = staged.entry(Arc::clone(&cluster.name)).or_insert_with(|| Staged {
        state: Arc::clone(cluster),
        snapshot: cluster.inner.read().snapshot.clone(),
        events: Vec::new(),
    });
    let mut snapshot = staged.snapshot.clone();
    let mut events = Vec::with_capacity(writes.len());
    for (nth, write) in writes.into_iter().enumerate() {
        let event = Arc::new(step(&snapshot, write).map_err(|error| (nth, error))?);
        snapshot.apply(&event);
        events.push(event);
    }
    let objects = events.iter().map(|event| Arc::clone(&event.object)).collect();
    staged.snapshot = snapshot;
    staged.events.append(&mut events);
    Ok(objects)
}

fn step(snapshot: &Snapshot, write: Prepared) -> Result<Event, WriteError> {
    let revision = snapshot.revision() + 1;
    let expected = |key: &Key, expect: u64| match snapshot.get(key) {
        None => Err(WriteError::NotFound),
        Some(current) if current.revision() != expect => Err(WriteError::Conflict {
            current: Arc::clone(current),
        }),
        Some(current) => Ok(Arc::clone(current)),
    };
    Ok(match write {
        Prepared::Create { key, value } => {
            if let Some(current) = snapshot.get(&key) {
                return Err(WriteError::Exists {
                    current: Arc::clone(current),
                });
            }
            let object = Arc::new(value.finish(key, revision, None));
            Event {
                kind: EventKind::Added,
                object,
                previous: None,
                revision,
            }
        }
        Prepared::Update { key, value, expect } => {
            let previous = expected(&key, expect)?;
            let object = Arc::new(value.finish(key, revision, Some(previous.created())));
            Event {
                kind: EventKind::Modified,
                object,
                previous: Some(previous),
                revision,
            }
        }
        Prepared::Delete { key, expect } => {
            let previous = expected(&key, expect)?;
            let object = Arc::new(previous.at_revision(revision));
            Event {
                kind: EventKind::Deleted,
                object,
                previous: Some(previous),
                revision,
            }
        }
    })
}

/// Lets readers and watches see what has been committed.
fn publish(staged: Staged) {
    let Staged {
        state,
        snapshot,
        events,
    } = staged;
    let mut dropped = Vec::new();
    let before = {
        let mut inner = state.inner.write();
        let before = inner.snapshot.revision();
        inner.snapshot = snapshot;
        for event in events {
            inner.log.push(event, &mut dropped);
        }
        before
    };
    state.inner.read().log.notify(before);
}
