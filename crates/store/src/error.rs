//! What can go wrong, said so that the reader knows what to do.

use std::{io, path::PathBuf, sync::Arc};

use crate::Object;

/// The store cannot be opened, copied or closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process (or another store of this one) uses the folder.
    #[error("data folder {} is in use by {holder}; stop it or choose another folder", path.display())]
    Held {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as known: `process 4711 (choreo up, since ...)`.
        holder: String,
    },
    /// The folder or a file in it cannot be created, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Unusable {
        /// What was attempted: `create`, `write to`, `read`.
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not a store, or parts of it cannot be read back as they were written.
    #[error("store file {} is damaged: {detail}; restore a backup, or move the file away to start empty", path.display())]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What is damaged.
        detail: String,
    },
    /// A newer program wrote the file.
    #[error("store file {} has format {found}, this program reads up to {supported}; use the newer program", path.display())]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// Format version of the file.
        found: u64,
        /// Newest format version that this program knows.
        supported: u64,
    },
    /// The target of a backup or restore is there already and is not overwritten.
    #[error("{} exists already; choose another path or remove it first", path.display())]
    TargetExists {
        /// The path that is taken.
        path: PathBuf,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// A write was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Create: an object with this key is there.
    #[error("object exists at revision {}", current.revision())]
    Exists {
        /// The object in the way.
        current: Arc<Object>,
    },
    /// Update, delete: no such object.
    #[error("object not found")]
    NotFound,
    /// Update, delete: the object has another revision than expected.
    #[error("object is at revision {}", current.revision())]
    Conflict {
        /// The object as it is.
        current: Arc<Object>,
    },
    /// The value cannot be stored.
    #[error("value cannot be stored: {0}")]
    Invalid(String),
    /// The disk refused. The write has not happened; later ones are tried again.
    #[error("write to disk failed: {0}")]
    Io(String),
    /// The store has been closed. Whether the write happened is unknown when it was under way.
    #[error("the store is closed")]
    Closed,
}

/// A revision cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RevisionError {
    /// Too old: its history has been dropped.
    #[error("revision {requested} is too old, history starts at {oldest}")]
    Expired {
        /// What was asked for.
        requested: u64,
        /// Oldest revision that can be served.
        oldest: u64,
    },
    /// The cluster has not got there yet.
    #[error("revision {requested} is in the future, the newest is {current}")]
    Future {
        /// What was asked for.
        requested: u64,
        /// Newest revision.
        current: u64,
    },
}

/// A watch has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchError {
    /// The receiver was too slow: events that it has not seen have been dropped. List and watch again.
    #[error("watch fell behind: events after revision {seen} have been dropped")]
    Lagged {
        /// Last revision that the receiver knows.
        seen: u64,
    },
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}
