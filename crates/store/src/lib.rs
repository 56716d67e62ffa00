//! A durable, revisioned store of JSON objects with watches. It knows neither HTTP nor any kind of object.
//!
//! ```text
//!  write() ──▶ queue ──▶ writer thread: check, number, one commit ──▶ memory ──▶ watchers, readers
//!                                            │
//!                                  store.journal-1, -2 ──▶ store.redb
//!                                      (of the one that is full, while the other is written to; and at the end)
//! ```
//!
//! # Guarantees
//!
//! * A write that was answered with success is on disk (`fsync`ed), unless the store was opened [in memory](Store::in_memory).
//! * Every write of a logical [`Cluster`] has its own revision; revisions only grow, are never used twice, also across crashes.
//! * Readers never wait for the disk: all live objects are in memory, in persistent maps, so that a [`Snapshot`] is one
//!   pointer copied and stays as it is while writes go on.
//! * A [`Watch`] sees every change after its starting revision exactly once and in order, or it ends with
//!   [`WatchError::Lagged`]. It never slows a writer down.
//! * After a restart a watch from the last revision goes on; one from an older revision is told [`RevisionError::Expired`].
//!
//! # Assumptions
//!
//! * All live objects fit into memory (about their JSON text plus 200 bytes each).
//! * The folder belongs to one process at a time. The store takes a lock on it and says who holds it.
//! * File and journals stay together: after a kill the newest commits are in the journals only. Each backup is one whole file.

mod cluster;
mod database;
mod disk;
mod error;
mod journal;
mod key;
mod lock;
mod log;
mod object;
mod record;
mod snapshot;
mod store;
mod watch;
mod writer;

pub use cluster::{Cluster, ListQuery, Page, Write};
pub use error::{RevisionError, StoreError, WatchError, WriteError};
pub use key::Key;
pub use object::Object;
pub use snapshot::Snapshot;
pub use store::{Store, StoreOptions};
pub use watch::{Event, EventKind, Watch};
