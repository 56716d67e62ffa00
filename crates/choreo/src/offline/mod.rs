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

use std::path::PathBuf;

use files::Loaded;
use schemas::Schemas;

use crate::failure::Failure;

/// Reads files, with objects that name no namespace in `namespace` (`default` if there is none).
pub(crate) fn load(
    paths: &[PathBuf],
    recursive: bool,
    schemas: &Schemas,
    namespace: Option<&str>,
) -> Result<Loaded, Failure> {
    let mut loaded = files::load(paths, recursive)?;
    for manifest in &mut loaded.manifests {
        if schemas.is_namespaced(&manifest.object) {
            manifest.default_namespace(namespace.unwrap_or("default"));
        }
    }
    Ok(loaded)
}
