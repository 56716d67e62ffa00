//! The engine from outside: objects in, derived objects out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod corpus;
mod errors;
mod flow;
mod properties;
mod schemas;
mod support;
mod tasks;
mod worlds;
