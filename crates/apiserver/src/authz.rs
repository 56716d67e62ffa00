//! May the user do that?
//!
//! Members of `system:masters` may everything; everybody else what the roles that are bound to them say ([`crate::rbac`]).

use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::Snapshot;

use crate::rbac::{self, Attributes};
use crate::request::{Query, RequestInfo};
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
/// Gives the reason, which the audit is told.
///
/// # Errors
/// 401 for somebody unknown, 403 with the message that clients know.
pub(crate) fn authorize(
    user: Option<&UserInfo>,
    info: &RequestInfo,
    method: &str,
    query: &Query,
    snapshot: impl FnOnce() -> Snapshot,
) -> Result<String> {
    if is_public(info) {
        return Ok(String::new());
    }
    let Some(user) = user else {
        return Err(ApiError::unauthorized());
    };
    if user.is_in(MASTERS) {
        return Ok(String::new());
    }
    let wanted = Attributes::of(info, method, query);
    let decision = rbac::decide(&snapshot(), user, &wanted);
    if decision.allowed {
        return Ok(decision.reason);
    }
    Err(refusal(user, &wanted, &decision.reason))
}

/// 403 with the words that clients know.
pub(crate) fn refusal(user: &UserInfo, wanted: &Attributes, reason: &str) -> ApiError {
    let because = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    if let Some(path) = &wanted.path {
        let message = format!(
            "User {:?} cannot {} path {path:?}{because}",
            user.name, wanted.verb
        );
        return ApiError::forbidden("", "", "", &message);
    }
    let place = match wanted.namespace.as_str() {
        "" => " at the cluster scope".to_owned(),
        ns => format!(" in the namespace {ns:?}"),
    };
    let message = format!(
        "User {:?} cannot {} resource {:?} in API group {:?}{place}{because}",
        user.name,
        wanted.verb,
        wanted.combined(),
        wanted.group
    );
    ApiError::forbidden(&wanted.group, &wanted.resource, &wanted.name, &message)
}
