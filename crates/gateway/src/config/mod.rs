//! From objects to a table, and to what is said about them. Pure: nothing here waits, reads or writes anything.
//!
//! ```text
//! objects ─▶ World (each read once, when it changes)
//!              │  build: gateways ─▶ listeners ─▶ routes ─▶ rules with their policies
//!              ▼
//!            Built { table, verdicts, sockets }
//! ```

mod attach;
pub(crate) mod build;
pub(crate) mod filters;
mod kept;
pub(crate) mod listeners;
mod made;
pub(crate) mod matches;
pub(crate) mod object;
pub(crate) mod policies;
pub(crate) mod policy_index;
pub(crate) mod route;
pub(crate) mod rules;
mod secured;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod world;

#[cfg(test)]
#[allow(clippy::needless_pass_by_value)]
mod incremental_tests;
#[cfg(test)]
#[allow(clippy::needless_pass_by_value)]
mod tests;
