//! Looking up what a workload refers to, in the environment where it runs: configuration and connections.

pub mod configuration;
pub mod connections;
pub mod managed;
pub mod overrides;
