//! The guarded CEL evaluator of the platform, with the function libraries of Kubernetes.
//!
//! No other crate names a CEL library, so that no expression runs without the limits that are set here.

pub mod regex;
