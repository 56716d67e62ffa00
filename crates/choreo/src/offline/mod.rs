//! Files in: reading manifests, and what can be said of them without a server.

pub(crate) mod files;
mod sources;
