//! Files in: reading manifests, and what can be said of them without a server.
//!
//! ```text
//!  sources   the text of what -f names
//!  files     documents, converted to today's kinds, each field with its place
//!  schemas   defaults and checks of single objects, as the server makes them
//!  whole     all of them together through the engine: what they lead to, and what stands in the way
//! ```

pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod schemas;
mod sources;
pub(crate) mod whole;
