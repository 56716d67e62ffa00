//! Scheduler, node and kubelet without a machine.

mod behavior;
pub(crate) mod claim;
pub(crate) mod kubelet;
pub(crate) mod node;
mod status;

pub(crate) use behavior::Behavior;

/// Name of the simulated node.
pub const NODE: &str = "choreo-local";

/// Annotation, always `"true"`, of every object that the simulator makes or speaks for.
pub const SIMULATED: &str = "openchoreo.dev/simulated";

/// Annotation of a Pod: how it fails. See the [crate's documentation](crate).
pub const BEHAVIOR: &str = "simulate.openchoreo.dev/behavior";

/// Annotation of a Pod: how long it takes to become ready, or to complete.
pub const DELAY: &str = "simulate.openchoreo.dev/delay";

/// Annotation of a Pod: the only container that fails.
pub const CONTAINER: &str = "simulate.openchoreo.dev/container";
