//! The kinds of the Choreo platform as typed resources, with everything that goes with them: names, labels,
//! conditions, custom resource definitions, and the conversion of older manifests.
//!
//! This crate does no I/O and knows nothing of controllers.

pub mod conditions;
pub mod labels;
pub mod names;
mod quantity;
mod schema;
pub mod v1alpha1;

pub use labels::{annotations, finalizers};
pub use quantity::Quantity;
