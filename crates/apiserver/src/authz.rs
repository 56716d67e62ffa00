//! May the user do that?
//!
//! The first cut knows one rule: members of `system:masters` may everything, nobody else may anything. The shape of
//! [`authorize`] is that of an authorizer over [`RequestInfo`], so that role-based rules can take its place.

use choreo_apimachinery::status::{ApiError, Result};

use crate::request::RequestInfo;
use crate::user::{MASTERS, UserInfo};

/// Paths that anybody may read, since probes have no credentials.
const PUBLIC: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];

/// Whether the path may be read without saying who one is.
pub(crate) fn is_public(info: &RequestInfo) -> bool {
    !info.is_resource
        && PUBLIC.iter().any(|p| {
            info.path == *p
                || info
                    .path
                    .strip_prefix(p)
                    .is_some_and(|rest| rest.starts_with('/'))
        })
}

/// Checks that the user may do what the request asks.
///
/// # Errors
/// 401 for somebody unknown, 403 with the message that clients know.
pub(crate) fn authorize(user: Option<&UserInfo>, info: &RequestInfo, method: &str) -> Result<()> {
    if is_public(info) {
        return Ok(());
    }
    let Some(user) = user else {
        return Err(ApiError::unauthorized());
    };
    if user.is_in(MASTERS) {
        return Ok(());
    }
    if !info.is_resource {
        let message = format!(
            "User {:?} cannot {} path {:?}",
            user.name,
            method.to_ascii_lowercase(),
            info.path
        );
        return Err(ApiError::forbidden("", "", "", &message));
    }
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        sub => format!("{}/{sub}", info.resource),
    };
    let place = match info.namespace.as_str() {
        "" => " at the cluster scope".to_owned(),
        ns => format!(" in the namespace {ns:?}"),
    };
    let message = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?}{place}",
        user.name,
        info.verb.as_str(),
        info.group
    );
    Err(ApiError::forbidden(
        &info.group,
        &info.resource,
        &info.name,
        &message,
    ))
}
