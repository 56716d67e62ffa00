//! Workloads and simulator on an embedded API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod operators;
mod support;
mod workloads;
