//! Managed fields: who set what.

use crate::pending::apply;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::Result;
use serde_json::Value;

use super::{Target, metadata_mut, now};

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

    fn with<'a>(&'a self, operation: apply::Operation, api_version: &'a str) -> apply::Manager<'a> {
        apply::Manager {
            name: &self.name,
            operation,
            api_version,
            subresource: &self.subresource,
            time: &self.time,
        }
    }
}

/// Makes the manager of a create, update or patch the owner of what it changed.
pub(super) fn track(info: &ResourceInfo, live: Option<&Value>, new: &mut Value, manager: &Manager) {
    let version = info.api_version();
    apply::update(
        &info.schema(),
        live,
        new,
        &manager.with(apply::Operation::Update, &version),
    );
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
    let version = info.api_version();
    apply::apply(
        &info.schema(),
        live,
        config,
        &manager.with(apply::Operation::Apply, &version),
        force,
    )
}

/// A new object's `managedFields` are the server's to write.
pub(super) fn forget_foreign(object: &mut Value) {
    metadata_mut(object).remove("managedFields");
}
