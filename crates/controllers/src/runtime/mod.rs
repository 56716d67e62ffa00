//! What every controller stands on, without a word about what they decide.
//!
//! ```text
//!   watch per kind ──> Cache ──> listener: which keys does this change concern?
//!   (feed)              │                         │
//!                       │ snapshot                ▼
//!                       ▼                       Queue ── workers ──> Reconcile
//!                    reconcile reads it                               │
//!                       ▲                                             │ writes differences
//!                       └────────── answers of the API server ◀───────┘
//! ```

pub mod awaited;
pub mod backoff;
pub mod cache;
pub mod clock;
pub mod decode;
pub mod feed;
pub mod metrics;
pub mod object;
pub mod packed;
pub mod precedence;
pub mod queue;
pub mod rush;
pub mod text;
pub mod transport;
mod words;
pub mod worker;

pub use backoff::Backoff;
pub use cache::{Cache, Change, Snapshot, View};
pub use clock::Clock;
pub use object::{GroupKind, Key, ObjectRef};
pub use queue::Queue;
pub use rush::Rush;
pub use worker::{Next, Reconcile, Retry};
