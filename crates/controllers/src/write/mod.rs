//! Writing to a Kubernetes API: only differences, never over what is somebody else's, and with every failure sorted by
//! what can be done about it.

pub mod applier;
pub mod diff;
pub mod events;
pub mod failure;
pub mod status;

pub use applier::{Applied, Applier};
pub use failure::Failure;
