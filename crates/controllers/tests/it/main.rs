//! The controllers against the embedded API: whole flows, faults and deletions, in process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

mod blueprints;
mod builds;
mod changes;
mod defects;
mod deletion;
mod edges;
mod exposure;
mod flow;
mod installation;
mod outage;
mod outlines;
mod promotions;
mod rest;
mod samples;
mod support;
mod tasks;
mod third_party;
