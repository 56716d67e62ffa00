//! The controllers: thin loops that carry out what the engine decides, with the Kubernetes API as their only way to
//! the world.

pub mod runtime;

/// First part of every field manager name that this program writes with.
pub const FIELD_MANAGER_PREFIX: &str = "choreo/";
