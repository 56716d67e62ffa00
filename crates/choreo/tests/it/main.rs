//! The program as a user drives it: a process, real HTTP, a temporary folder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod containers;
mod diff;
mod explain;
mod greeter;
mod kubectl;
mod laptop;
mod manager;
mod offline;
mod online;
mod pods;
mod promotion;
mod rollback;
mod running;
mod support;
mod survival;
mod up;
