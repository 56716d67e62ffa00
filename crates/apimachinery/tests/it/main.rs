//! Integration tests of the API machinery.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod apply;
mod builtin;
mod definitions;
mod patch;
mod schema_values;
