//! Watches: cursors into the log of a cluster.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
};

use futures::{Stream, stream};
use tokio::sync::watch;

use crate::{Object, RevisionError, WatchError, cluster::State};

/// Events taken from the log at once.
const BATCH: usize = 128;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    /// It was created.
    Added,
    /// It was updated.
    Modified,
    /// It was deleted.
    Deleted,
}

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The object after the change; for a deletion its last state, with the deletion's revision.
    pub object: Arc<Object>,
    /// The object before the change; `None` if it was created.
    pub previous: Option<Arc<Object>>,
    /// Revision of the change.
    pub revision: u64,
}

/// Changes of a cluster in the order in which they happened, each once. See [`Cluster::watch`](crate::Cluster::watch).
///
/// A watch holds a position in the cluster's history, not a queue: it costs next to nothing while nothing happens, and a
/// slow one is not waited for, but ends with [`WatchError::Lagged`] once the history has moved past it.
pub struct Watch {
    state: Arc<State>,
    resource: Option<Box<str>>,
    namespace: Option<Box<str>>,
    /// Everything up to here has been taken into `ready` or does not concern this watch.
    taken: u64,
    ready: VecDeque<Arc<Event>>,
    newest: watch::Receiver<u64>,
    ended: Option<WatchError>,
}

impl Watch {
    pub(crate) fn new(
        state: Arc<State>,
        resource: Option<&str>,
        namespace: Option<&str>,
        from: u64,
    ) -> Result<Self, RevisionError> {
        let newest = {
            let mut inner = state.inner.write();
            let current = inner.snapshot.revision();
            let topic = inner.log.topic(resource);
            let oldest = topic.oldest();
            if from < oldest {
                return Err(RevisionError::Expired {
                    requested: from,
                    oldest,
                });
            }
            if from > current {
                return Err(RevisionError::Future {
                    requested: from,
                    current,
                });
            }
            topic.subscribe()
        };
        Ok(Self {
            state,
            resource: resource.map(Into::into),
            namespace: namespace.map(Into::into),
            taken: from,
            ready: VecDeque::new(),
            newest,
            ended: None,
        })
    }

    /// The next change. Waits for it; may be cancelled without losing anything.
    ///
    /// # Errors
    /// [`WatchError::Lagged`] when this watch was too slow, [`WatchError::Closed`] when the store was closed. Once it has
    /// failed it keeps failing.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchError> {
        loop {
            // Marked before looking, so that what comes in between wakes the wait below.
            self.newest.borrow_and_update();
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            if self.newest.changed().await.is_err() {
                self.ended = Some(WatchError::Closed);
            }
        }
    }

    /// The next change if there is one already.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchError> {
        if self.ready.is_empty() {
            self.take()?;
        }
        Ok(self.ready.pop_front())
    }

    /// The newest revision up to which everything has been handed out: what a bookmark may say.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn progress(&mut self) -> Result<u64, WatchError> {
        if self.ready.is_empty() {
            self.take()?;
        }
        Ok(self.ready.front().map_or(self.taken, |event| event.revision - 1))
    }

    /// The same as a stream that ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<Arc<Event>, WatchError>> + Send {
        stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            match watch.next().await {
                Ok(event) => Some((Ok(event), Some(watch))),
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    fn take(&mut self) -> Result<(), WatchError> {
        if let Some(error) = self.ended {
            return Err(error);
        }
        let inner = self.state.inner.read();
        let newest = inner.snapshot.revision();
        // Mostly asked right after everything has been taken.
        if newest == self.taken && !self.state.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let Some(topic) = inner.log.known_topic(self.resource.as_deref()) else {
            return Ok(());
        };
        if self.taken < topic.oldest() {
            let error = WatchError::Lagged { seen: self.taken };
            self.ended = Some(error);
            return Err(error);
        }
        let mut taken = newest;
        for event in topic.after(self.taken) {
            if self
                .namespace
                .as_deref()
                .is_some_and(|namespace| namespace != event.object.key().namespace())
            {
                continue;
            }
            if self.ready.len() == BATCH {
                taken = event.revision - 1;
                break;
            }
            self.ready.push_back(Arc::clone(event));
        }
        self.taken = taken;
        if self.ready.is_empty() && self.state.closed.load(Ordering::Acquire) {
            drop(inner);
            self.ended = Some(WatchError::Closed);
            return Err(WatchError::Closed);
        }
        Ok(())
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("cluster", &self.state.name)
            .field("resource", &self.resource)
            .field("namespace", &self.namespace)
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}
