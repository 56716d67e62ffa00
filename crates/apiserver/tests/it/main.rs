//! The server as its clients see it: through `kube::Client` in process, through plain requests, and over HTTPS.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

mod access;
mod accounts;
mod admission;
mod apply;
mod audit;
mod backup;
mod basics;
mod collection;
mod compat;
mod definitions;
mod discovery;
mod flow;
mod helm;
mod hook;
mod hooks;
mod kubectl;
mod pods;
mod policies;
mod protection;
mod protobuf;
mod quotas;
mod support;
mod versions;
mod watches;
mod webhooks;
