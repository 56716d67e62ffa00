//! The gateway on the embedded API, with real sockets.

mod filters;
mod policies;
mod raw;
mod resilience;
mod routing;
mod statuses;
mod support;
mod tls;
