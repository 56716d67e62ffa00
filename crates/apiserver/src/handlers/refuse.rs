//! Subresources that there is nothing behind yet, refused so that a person understands.

use axum::response::Response;
use choreo_apimachinery::status::{ApiError, Result};

use crate::verbs::Target;

/// Refuses a subresource. A missing object is reported first, as everywhere.
pub(super) fn refuse(target: &Target, name: &str, subresource: &str) -> Result<Response> {
    target.stored(name)?;
    let what = format!("{}/{subresource}", target.resource.plural);
    Err(match (target.resource.plural.as_str(), subresource) {
        ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") => {
            ApiError::service_unavailable(format!(
                "{what} of {name:?} cannot be answered: no node agent is connected to this cluster, its pods are simulated"
            ))
        }
        ("nodes" | "services", "proxy") => ApiError::service_unavailable(format!(
            "{what} of {name:?} cannot be answered: this cluster has no network to proxy into"
        )),
        _ => ApiError::method_not_supported(&target.resource.group, &what, "this operation"),
    })
}
