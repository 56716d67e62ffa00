//! Managers over real HTTP. With `CHOREO_TEST_KUBECONFIG` the control plane is the cluster that it names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod chart;
mod faults;
mod features;
mod flow;
mod handover;
mod outage;
mod planes;
mod rights;
mod rivals;
mod rollouts;
mod shards;
mod start;
mod storm;
mod support;
mod traces;
mod upgrade;
