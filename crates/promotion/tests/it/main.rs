//! The state machine from outside: rules one by one, and a simulation of everything at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod cases;
mod sets;
mod simulation;
