//! Kubernetes API machinery without I/O.
//!
//! Everything that an API server computes about objects, as pure functions over
//! [`serde_json::Value`]: errors ([`status`], [`field`]), schemas ([`schema`]: pruning, defaulting, validation, CEL
//! rules), selectors, quantities, Table output, and custom resource definitions ([`crd`]); which kinds there are
//! ([`registry`]) and what is special about those of Kubernetes ([`builtin`]); patches ([`patch`]) and server-side apply
//! with its managed fields ([`apply`]); JSON Pointers ([`mod@pointer`]).
//!
//! Nothing here awaits, touches disk or network, or knows a kind of the platform. The behaviour that it follows is
//! that of kube-apiserver; messages are its messages word for word, because clients parse them.

pub mod apply;
pub mod builtin;
pub mod crd;
pub mod field;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod meta;
pub mod patch;
pub mod pointer;
pub mod quantity;
pub mod registry;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
