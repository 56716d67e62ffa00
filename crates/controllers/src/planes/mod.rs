//! The clusters that workloads run in: how to get a client for one, what is known of it, and what lives there.
//!
//! A [`Plane`] is one connected cluster. [`Planes`] holds one for each cluster of each DataPlane, makes a new one when
//! the address or the credentials change, and keeps one whose DataPlane is gone for as long as releases need it to
//! clean up.

pub mod connect;
pub mod plane;
pub mod pulse;
pub mod registry;

pub use connect::{ClusterConnector, ClusterTarget, ConnectError, Credentials, Embedded, HttpConnector};
pub use plane::Plane;
pub use pulse::Pulse;
pub use registry::{PlaneId, Planes, Role};

/// Label and value by which the objects that we apply to data planes are watched.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "choreo");
