//! Workloads, simulator and node agent on an embedded API server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod containers;
mod operators;
mod support;
mod workloads;
