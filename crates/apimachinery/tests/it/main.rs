//! Integration tests of the API machinery.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Cases are values, which tests take as they come.
#![allow(clippy::needless_pass_by_value)]

mod apply;
mod builtin;
mod definitions;
mod patch;
mod schema_values;
