//! One logical cluster: reading, writing, watching.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::{
    Key, Object, RevisionError, Snapshot, Watch, WriteError,
    log::{Log, Window},
    object::Encoded,
    store::Shared,
    writer::{Prepared, Request},
};

/// Older snapshots kept for the following pages of lists.
const REWOUND_KEPT: usize = 8;

/// What readers see of a cluster. Only the writer thread changes it.
pub(crate) struct State {
    pub(crate) name: Arc<str>,
    pub(crate) inner: RwLock<Inner>,
    pub(crate) closed: AtomicBool,
    rewound: Mutex<VecDeque<Snapshot>>,
}

pub(crate) struct Inner {
    pub(crate) snapshot: Snapshot,
    pub(crate) log: Log,
}

impl State {
    pub(crate) fn new(name: Arc<str>, snapshot: Snapshot, window: Window) -> Self {
        let log = Log::new(snapshot.revision(), window);
        Self {
            name,
            inner: RwLock::new(Inner { snapshot, log }),
            closed: AtomicBool::new(false),
            rewound: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.inner.read().log.notify_all();
    }

    fn snapshot_at(&self, revision: Option<u64>) -> Result<Snapshot, RevisionError> {
        let inner = self.inner.read();
        let Some(revision) = revision.filter(|revision| *revision != inner.snapshot.revision()) else {
            return Ok(inner.snapshot.clone());
        };
        if let Some(found) = self
            .rewound
            .lock()
            .iter()
            .find(|snapshot| snapshot.revision() == revision)
        {
            return Ok(found.clone());
        }
        let snapshot = inner.log.rewind(&inner.snapshot, revision)?;
        drop(inner);
        let mut rewound = self.rewound.lock();
        if rewound.len() >= REWOUND_KEPT {
            rewound.pop_front();
        }
        rewound.push_back(snapshot.clone());
        Ok(snapshot)
    }
}

/// A change to one object.
#[derive(Clone, Debug)]
pub enum Write {
    /// Makes a new object.
    Create {
        /// Where.
        key: Key,
        /// What; a JSON object. The store sets `metadata.resourceVersion`.
        value: Value,
    },
    /// Replaces an object.
    Update {
        /// Which.
        key: Key,
        /// The new value.
        value: Value,
        /// The revision that it must have.
        expect: u64,
    },
    /// Removes an object.
    Delete {
        /// Which.
        key: Key,
        /// The revision that it must have.
        expect: u64,
    },
}

/// What to list. Start from `ListQuery::default()` with `resource` set.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Plural with group: `apps/deployments`, `pods`.
    pub resource: String,
    /// One namespace; all if `None`.
    pub namespace: Option<String>,
    /// As of this revision; the newest if `None`.
    pub at: Option<u64>,
    /// Begin behind this key: [`Page::next`] of the page before.
    pub after: Option<Key>,
    /// At most so many objects; 0 means all.
    pub limit: usize,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects in key order.
    pub items: Vec<Arc<Object>>,
    /// The revision of the whole list. Ask for following pages `at` this revision.
    pub revision: u64,
    /// How many objects come after this page; `None` if it is the last.
    pub remaining: Option<u64>,
    /// Where the next page begins; `None` if this is the last.
    pub next: Option<Key>,
}

/// A logical cluster: its own objects and its own revisions. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) state: Arc<State>,
    pub(crate) shared: Arc<Shared>,
}

impl Cluster {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// The newest revision, at least 1.
    pub fn revision(&self) -> u64 {
        self.state.inner.read().snapshot.revision()
    }

    /// The newest version of an object.
    pub fn get(&self, key: &Key) -> Option<Arc<Object>> {
        self.state.inner.read().snapshot.get(key).cloned()
    }

    /// Number of objects of `resource` in all namespaces.
    pub fn count(&self, resource: &str) -> u64 {
        self.state.inner.read().snapshot.count(resource)
    }

    /// All objects as they are now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.inner.read().snapshot.clone()
    }

    /// All objects as they were at `revision`. Costs time in proportion to the writes since then.
    ///
    /// # Errors
    /// When history does not go back to `revision`, or it has not been reached yet.
    pub fn snapshot_at(&self, revision: u64) -> Result<Snapshot, RevisionError> {
        self.state.snapshot_at(Some(revision))
    }

    /// Lists objects ordered by namespace and name.
    ///
    /// # Errors
    /// When history does not go back to the revision asked for, or it has not been reached yet.
    pub fn list(&self, query: &ListQuery) -> Result<Page, RevisionError> {
        let snapshot = self.state.snapshot_at(query.at)?;
        let mut found = snapshot.iter(&query.resource, query.namespace.as_deref(), query.after.as_ref());
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let items: Vec<_> = found.by_ref().take(limit).cloned().collect();
        let remaining = if items.len() < limit {
            0
        } else if query.after.is_none() && query.namespace.is_none() {
            snapshot.count(&query.resource) - items.len() as u64
        } else {
            found.count() as u64
        };
        let next = if remaining > 0 {
            items.last().map(|last| last.key().clone())
        } else {
            None
        };
        Ok(Page {
            items,
            revision: snapshot.revision(),
            remaining: (remaining > 0).then_some(remaining),
            next,
        })
    }

    /// Carries out one write. When this returns success, it is on disk and visible to readers and watches.
    ///
    /// Returns the new version; for a deletion the last state with the deletion's revision. If the future is dropped before
    /// it is done, the write may happen or not.
    ///
    /// # Errors
    /// See [`WriteError`]; except for [`WriteError::Closed`], nothing has been changed then.
    pub async fn write(&self, write: Write) -> Result<Arc<Object>, WriteError> {
        let mut objects = self.write_batch(vec![write]).await.map_err(|(_, error)| error)?;
        objects.pop().ok_or(WriteError::Closed)
    }

    /// Carries out several writes, in order and all or none. Each gets its own revision.
    ///
    /// # Errors
    /// The first write that failed, by its place in `writes`, and why.
    pub async fn write_batch(&self, writes: Vec<Write>) -> Result<Vec<Arc<Object>>, (usize, WriteError)> {
        let mut prepared = Vec::with_capacity(writes.len());
        for (nth, write) in writes.into_iter().enumerate() {
            prepared.push(match write {
                Write::Create { key, value } => Prepared::Create {
                    key,
                    value: Encoded::new(value).map_err(|error| (nth, error))?.text_only(),
                },
                Write::Update { key, value, expect } => Prepared::Update {
                    key,
                    value: Encoded::new(value).map_err(|error| (nth, error))?,
                    expect,
                },
                Write::Delete { key, expect } => Prepared::Delete { key, expect },
            });
        }
        let (reply, answer) = oneshot::channel();
        let request = Request::Write {
            cluster: Arc::clone(&self.state),
            writes: prepared,
            reply,
        };
        self.shared.send(request).map_err(|_| (0, WriteError::Closed))?;
        answer.await.unwrap_or(Err((0, WriteError::Closed)))
    }

    /// Watches the changes after revision `from`: of `resource`, or of every kind if `None`; of one `namespace` or all.
    ///
    /// List first, then watch from the list's revision, and nothing is missed or seen twice.
    ///
    /// # Errors
    /// When history does not go back to `from`, or it has not been reached yet.
    pub fn watch(
        &self,
        resource: Option<&str>,
        namespace: Option<&str>,
        from: u64,
    ) -> Result<Watch, RevisionError> {
        Watch::new(Arc::clone(&self.state), resource, namespace, from)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({})", self.state.name)
    }
}
