//! What should be, decided without doing anything.
//!
//! ```text
//!  objects (watches, files)                       changes
//!        |                                           |
//!        v                                           v
//!   World ----------------- plan(Target) <------ affected(change)
//!   snapshot, cheap to copy      |
//!                                v
//!                 Plan { children, adopt, prune, status }
//!                                |
//!        the flow inside:        |   freeze   -> DeployableArtifact, first binding     (component)
//!                                |   resolve  -> configuration, connections            (binding)
//!                                |   revision -> Deployment                            (binding)
//!                                |   render   -> Release, Endpoints                    (binding, cell)
//!                                v
//!                 controllers write it; offline::render prints it
//! ```
//!
//! Invariants: nothing here does I/O, reads a clock, draws a random number or iterates a hash map. A plan depends on
//! specs, never on uids, resource versions, times or what a server fills in; so the same files give the same bytes
//! whether a server or `choreo render` looks at them. Every problem of an object is reported, and a problem never
//! removes what runs.

pub mod address;
pub mod affected;
pub mod binding;
pub mod blueprint;
pub mod build;
mod constraints;
mod cron;
pub mod expose;
pub mod freeze;
pub mod hash;
pub mod health;
pub mod offline;
pub mod operations;
pub mod place;
pub mod plan;
mod plans;
pub mod problem;
pub mod promotion;
pub mod reach;
pub mod render;
pub mod resolve;
pub mod revision;
pub mod rules;
pub mod template;
pub mod tree;
pub mod world;

pub use affected::{affected, by_change};
pub use plan::{Child, Plan, Status, Target, plan};
pub use plans::pipeline;
pub use world::{AnyObject, Key, Kind, ObjectRef, World};
