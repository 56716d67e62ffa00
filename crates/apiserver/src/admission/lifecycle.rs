//! NamespaceLifecycle: nothing is created in a namespace that is not there or is going away, and the namespaces that
//! every cluster needs stay.

use choreo_apimachinery::status::{ApiError, Result, StatusCause};
use choreo_store::Key;

use super::Operation;
use crate::verbs::{self, Target};

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// The cause by which clients recognise a terminating namespace.
const TERMINATING: &str = "NamespaceTerminating";

pub(super) fn admit(target: &Target, operation: Operation, subresource: &str, name: &str) -> Result<()> {
    let info = &target.resource;
    if operation == Operation::Delete
        && info.group.is_empty()
        && info.plural == "namespaces"
        && IMMORTAL.contains(&name)
    {
        return Err(ApiError::forbidden(
            "",
            "namespaces",
            name,
            "this namespace may not be deleted",
        ));
    }
    if !info.namespaced || operation != Operation::Create {
        return Ok(());
    }
    let namespace = target.namespace.as_str();
    let Some(found) = target.cluster.store().get(&Key::new("namespaces", "", namespace)) else {
        return Err(ApiError::not_found("", "namespaces", namespace));
    };
    if !subresource.is_empty() {
        return Ok(());
    }
    let found = found.value();
    if verbs::is_deleting(&found) || verbs::text(&found, "/status/phase") == "Terminating" {
        let why =
            format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut error = ApiError::forbidden(&info.group, &info.plural, name, &why);
        error.details.get_or_insert_default().causes.push(StatusCause {
            cause: TERMINATING.to_owned(),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".to_owned(),
        });
        return Err(error);
    }
    Ok(())
}
