//! Managed fields: who set what.

use choreo_apimachinery::apply;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::Result;
use serde_json::Value;

use super::{Subresource, Target, metadata_mut, now};

/// Who writes, as far as managed fields are concerned.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    name: String,
    subresource: String,
    time: String,
}

impl Manager {
    /// The manager that a request names, or else the client.
    pub(super) fn of(target: &Target, named: Option<&str>, subresource: &str) -> Manager {
        Manager {
            name: named.unwrap_or(&target.agent).to_owned(),
            subresource: subresource.to_owned(),
            time: now(),
        }
    }

    fn machinery(&self) -> apply::Manager<'_> {
        apply::Manager {
            name: &self.name,
            subresource: &self.subresource,
            time: &self.time,
        }
    }
}

/// Makes the manager of a create, update or patch the owner of what it changed.
pub(super) fn track(info: &ResourceInfo, live: Option<&Value>, new: &mut Value, manager: &Manager) {
    apply::update(info, live, new, &manager.machinery());
}

/// Applies a configuration.
///
/// # Errors
/// 409 naming the managers whose fields it sets to other values, unless `force`.
pub(super) fn apply(
    info: &ResourceInfo,
    live: Option<&Value>,
    config: &Value,
    manager: &Manager,
    force: bool,
) -> Result<Value> {
    match live {
        // The strategy resets the rest.
        Some(live) if manager.subresource == Subresource::Status.name() => {
            apply::apply_status(info, live, config, &manager.machinery(), force)
        }
        _ => apply::apply(info, live, config, &manager.machinery(), force),
    }
}

/// A new object's `managedFields` are the server's to write.
pub(super) fn forget_foreign(object: &mut Value) {
    metadata_mut(object).remove("managedFields");
}
