//! Admission: what is checked or changed between a request and the store.
//!
//! The server's own steps come first ([`lifecycle`]), then those given in [`crate::Options::admission`], in order.

pub(crate) mod lifecycle;

use choreo_apimachinery::registry::ResourceInfo;
#[allow(unused_imports)] // named in the documentation
use choreo_apimachinery::status::ApiError;
use choreo_apimachinery::status::Result;
use serde_json::Value;

use crate::user::UserInfo;
use crate::verbs::Target;

/// What is about to happen to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// It is created.
    Create,
    /// It is changed.
    Update,
    /// It is deleted.
    Delete,
}

/// One write that is to be admitted.
#[derive(Debug)]
pub struct AdmissionRequest<'a> {
    /// The logical cluster.
    pub cluster: &'a str,
    /// Who writes.
    pub user: &'a UserInfo,
    /// What happens.
    pub operation: Operation,
    /// The resource as the request names it.
    pub resource: &'a ResourceInfo,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// The namespace, or empty.
    pub namespace: &'a str,
    /// The object's name; empty while it is to be generated.
    pub name: &'a str,
    /// The object before; none for a creation.
    pub old: Option<&'a Value>,
    /// The object after; none for a deletion.
    pub object: Option<&'a Value>,
    /// Whether nothing will be written: no side effects then.
    pub dry_run: bool,
}

/// A check or change of objects before they are written, in process. Must be quick and must not wait.
pub trait Admission: Send + Sync {
    /// Looks at a write: the object that is to take the place of the given one, or none to leave it.
    ///
    /// # Errors
    /// Why the write is refused; usually [`ApiError::forbidden`] or [`ApiError::invalid`].
    fn review(&self, request: &AdmissionRequest<'_>) -> Result<Option<Value>>;
}

/// Runs all of it over a write. `object` is changed in place.
pub(crate) fn admit(
    target: &Target,
    operation: Operation,
    subresource: &str,
    name: &str,
    old: Option<&Value>,
    object: &mut Option<Value>,
    dry_run: bool,
) -> Result<()> {
    lifecycle::admit(target, operation, subresource, name)?;
    crate::rbac::admit(target, operation, name, old, object.as_ref())?;
    for plugin in target.cluster.admission() {
        let changed = plugin.review(&AdmissionRequest {
            cluster: target.cluster.name(),
            user: &target.user,
            operation,
            resource: &target.resource,
            subresource,
            namespace: &target.namespace,
            name,
            old,
            object: object.as_ref(),
            dry_run,
        })?;
        if changed.is_some() && object.is_some() {
            *object = changed;
        }
    }
    Ok(())
}
