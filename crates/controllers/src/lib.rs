//! The controllers: thin loops that carry out what the engine decides, with the Kubernetes API as their only way to
//! the world.
//!
//! ```text
//!                 control plane                                              data planes
//!   watch per kind ──> Cache (World) ──> Router ──> queues                      │  ▲
//!                           ▲                         │                         │  │ server-side apply
//!                           │ answers                 ▼                  watch  │  │
//!                           │        flow::Planner (engine's plans)      by label  │
//!                           └─────── organization, dataplane                    ▼  │
//!                                    release ──────────────────────────────── planes
//! ```
//!
//! # Where things are
//!
//! - [`runtime`]: queue, workers, cache, watches. Knows nothing of the platform.
//! - [`mod@write`]: what differs, apply, status, events. Knows nothing of the platform.
//! - [`planes`]: connections to clusters.
//! - [`flow`]: the controllers that carry out a plan of the engine, all of one shape.
//! - [`release`], [`dataplane`], [`organization`], [`build`], [`buildplane`]: the controllers that do more than that.
//! - [`inputs`]: the kinds that no plan is made for; [`alias`]: older manifests.
//! - [`router`]: which change concerns which key; [`shard`]: which organizations concern us at all.
//!
//! # Guarantees
//!
//! - Nothing is done before every kind has been listed once: a cold cache deletes nothing.
//! - Reconciles read caches and write differences. A platform at rest writes nothing.
//! - An object that is not ours is neither changed nor deleted; it is named in a condition.
//! - What is made in a data plane is in its Release's inventory before it is made.
//!
//! Deliberately absent: rules of the domain (they are the engine's), and any access to the store.

pub mod alias;
mod at_work;
pub mod build;
pub mod buildplane;
pub mod context;
pub mod dataplane;
pub mod defaults;
pub mod doctor;
pub mod flow;
pub mod inputs;
pub mod install;
pub mod organization;
pub mod planes;
pub mod promotion;
pub mod release;
pub mod router;
pub mod run;
pub mod runtime;
pub mod shard;
pub mod view;
pub mod write;

pub use planes::{ClusterConnector, ClusterTarget, ConnectError, Embedded, HttpConnector};
pub use run::{Controllers, Observer, RunOptions, run, start};
pub use shard::Shard;

/// First part of every field manager name that this program writes with.
pub const FIELD_MANAGER_PREFIX: &str = "choreo/";
