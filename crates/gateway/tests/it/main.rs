//! The gateway on the embedded API, with real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::needless_pass_by_value
)]

mod filters;
mod policies;
mod raw;
mod resilience;
mod routing;
mod statuses;
mod support;
mod tls;
