//! The kinds of the Choreo platform as typed resources, with everything that goes with them: names, labels,
//! conditions, custom resource definitions, and the conversion of older manifests.
//!
//! This crate does no I/O and knows nothing of controllers.

pub mod conditions;
pub mod convert;
pub mod crds;
pub mod foreign;
mod kinds;
pub mod labels;
pub mod manifest;
pub mod names;
mod quantity;
pub mod reference;
mod schema;
mod shape;
pub mod v1alpha1;

pub use crds::crds;
pub use kinds::{KINDS, PlatformKind, is_namespaced};
pub use labels::{annotations, finalizers};
pub use quantity::Quantity;
