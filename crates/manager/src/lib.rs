//! The controllers as an operator on Kubernetes.
//!
//! ```text
//!   Manager ── Election (a Lease for each shard) ── leader: install definitions, let the controllers act
//!      │                         └── standby: caches are filled and followed, nothing is written
//!      ├── Controllers (crates/controllers)
//!      ├── webhook: the rules between objects, before a write
//!      ├── probes: /healthz /readyz /metrics
//!      └── traces: to a collector of OpenTelemetry, if one is named
//! ```
//!
//! What the controllers do is the same as in `choreo up`. Here is what an operator needs besides: that only one acts, that the
//! next one takes over at once, and that a cluster can see how it is.

pub mod exposition;
pub mod lease;
pub mod manager;
pub mod probes;
pub mod traces;
pub mod webhook;

pub use lease::{Election, Held, Timings};
pub use manager::{Manager, ManagerError, Options};
