//! The engine from outside: objects in, derived objects out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

mod blueprints;
mod cases;
mod cell;
mod completeness;
mod configuration;
mod connections;
mod corpus;
mod errors;
mod exposure;
mod flow;
mod history;
mod pods;
mod promotion;
mod properties;
mod reach;
mod resting;
mod rules;
mod schemas;
mod services;
mod statuses;
mod support;
mod tasks;
mod worlds;
