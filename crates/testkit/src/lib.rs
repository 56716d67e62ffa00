//! The whole platform in one process, for tests.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let platform = choreo_testkit::Platform::start().await?;
//! platform.control.apply_yaml("{apiVersion: openchoreo.dev/v1alpha1, kind: Project, metadata: {name: shop}}").await?;
//! platform.control.wait_ready("Project", "default", "shop").await?;
//! platform.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Waiting is done on watches, never by sleeping, and a wait that ends without success says what it saw last. The
//! platform is the real one: the same store, API server, controllers and simulated node as in `choreo up`, without
//! sockets. Not a dependency of anything that is shipped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bed;
mod cluster;
mod fault;
mod gateway;
mod platform;
pub mod probe;
mod proxy;
pub mod registry;

pub use bed::{Bed, KUBECONFIG, TOKENS};
pub use cluster::{Cluster, conditions, is_ready, ready_message};
pub use fault::{Fault, Faults};
pub use platform::{Options, Platform};
pub use proxy::{Asked, Harm, Proxy};
