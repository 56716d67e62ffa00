//! API errors, as `metav1.Status`.
//!
//! Each constructor gives the status code, reason, message and details that kube-apiserver gives in the same case.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::{FieldError, aggregate, quote};

/// The result of anything that can fail with an API error.
pub type Result<T> = std::result::Result<T, ApiError>;

/// The text that a write with a stale `resourceVersion` is refused with.
pub const OPTIMISTIC_LOCK: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Why a request failed, as in `Status.reason`.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// Any other reason, such as one that an admission webhook gave.
            #[serde(untagged)]
            Other(String),
        }

        impl Reason {
            /// The reason as it is written in a Status. Empty for an unknown one.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self { $(Self::$name => stringify!($name),)* Self::Other(other) => other }
            }
        }
    };
}

reasons! {
    /// 401: who the user is could not be established.
    Unauthorized,
    /// 403: the user may not do this.
    Forbidden,
    /// 404: there is no such object or resource.
    NotFound,
    /// 409: an object of this name is there already.
    AlreadyExists,
    /// 409: the object changed meanwhile, or another manager owns a field.
    Conflict,
    /// 410: the thing asked for is gone for good.
    Gone,
    /// 422: the object breaks its schema or rules.
    Invalid,
    /// 500: try again later.
    ServerTimeout,
    /// 415: the server cannot write what the client accepts.
    NotAcceptable,
    /// 413: the body is too large.
    RequestEntityTooLarge,
    /// 415: the server cannot read what the client sent.
    UnsupportedMediaType,
    /// 405: the resource does not support this verb.
    MethodNotAllowed,
    /// 429: too many requests.
    TooManyRequests,
    /// 400: the request itself is malformed.
    BadRequest,
    /// 500: a fault of the server.
    InternalError,
    /// 410: a resource version or continue token is too old.
    Expired,
    /// 503: the service is not there now.
    ServiceUnavailable,
    /// 504: the request took too long.
    Timeout,
}

/// One cause in `details.causes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCause {
    /// Machine-readable cause, such as `FieldValueRequired`.
    #[serde(rename = "reason", default, skip_serializing_if = "String::is_empty")]
    pub cause: String,
    /// The message, without the field's path.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The path of the field.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `Status.details`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusDetails {
    /// Name of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// API group of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The plural resource name, or the kind for [`Reason::Invalid`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry per thing that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds to wait before a retry; 0 says nothing.
    #[serde(rename = "retryAfterSeconds", default, skip_serializing_if = "is_zero")]
    pub retry_after_seconds: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature that serde asks for
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An API error. Serializes to the `v1` `Status` object that a client receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason.
    pub reason: Reason,
    /// The message for a person.
    pub message: String,
    /// Details, absent where kube-apiserver gives none.
    pub details: Option<Box<StatusDetails>>,
    /// Token of the rest of a list that can no longer be told consistently; [`ApiError::with_continue`].
    pub list_continue: Option<Box<str>>,
}

impl Serialize for ApiError {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut s = serializer.serialize_struct("Status", 8)?;
        s.serialize_field("kind", "Status")?;
        s.serialize_field("apiVersion", "v1")?;
        let token = self.list_continue.iter().map(|token| ("continue", token));
        s.serialize_field("metadata", &BTreeMap::from_iter(token))?;
        s.serialize_field("status", "Failure")?;
        if !self.message.is_empty() {
            s.serialize_field("message", &self.message)?;
        }
        if !self.reason.as_str().is_empty() {
            s.serialize_field("reason", self.reason.as_str())?;
        }
        if let Some(details) = &self.details {
            s.serialize_field("details", details)?;
        }
        s.serialize_field("code", &self.code)?;
        s.end()
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ApiError {}

/// A field that somebody else manages, found while applying.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagerConflict {
    /// The other manager's name.
    pub manager: String,
    /// The subresource that the other manager wrote through; empty for the object itself.
    pub subresource: String,
    /// The API version that the other manager wrote.
    pub api_version: String,
    /// Whether the other manager's operation is `Update` rather than `Apply`.
    pub is_update: bool,
    /// When the other manager wrote, RFC 3339 in UTC; only shown for updates.
    pub time: Option<String>,
    /// The path of the field, such as `.spec.replicas`.
    pub path: String,
}

impl ManagerConflict {
    fn describe(&self) -> String {
        let mut text = quote(&self.manager);
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", quote(&self.subresource)));
        }
        if self.is_update {
            text.push_str(&format!(" using {}", self.api_version));
            if let Some(time) = &self.time {
                text.push_str(&format!(" at {time}"));
            }
        }
        text
    }
}

/// `resource.group`, or the resource alone in the core group.
#[must_use]
pub fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl ApiError {
    fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
            list_continue: None,
        }
    }

    /// Adds a token with which a list can be gone on with all the same.
    #[must_use]
    pub fn with_continue(mut self, token: String) -> Self {
        self.list_continue = Some(token.into());
        self
    }

    fn on(mut self, group: &str, kind: &str, name: &str) -> Self {
        let details = self.details.get_or_insert_default();
        group.clone_into(&mut details.group);
        kind.clone_into(&mut details.kind);
        name.clone_into(&mut details.name);
        self
    }

    fn retry(mut self, seconds: u32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// 404: there is no object `name` of the plural `resource`.
    #[must_use]
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(group, resource), quote(name));
        Self::new(404, Reason::NotFound, message).on(group, resource, name)
    }

    /// 404 for a path that names no resource; what clients print for it.
    #[must_use]
    pub fn no_such_resource() -> Self {
        let mut error = Self::new(
            404,
            Reason::NotFound,
            "the server could not find the requested resource",
        );
        error.details = Some(Box::default());
        error
    }

    /// 409: an object of this name exists.
    #[must_use]
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} already exists", qualified(group, resource), quote(name));
        Self::new(409, Reason::AlreadyExists, message).on(group, resource, name)
    }

    /// 409: no free name could be made from `metadata.generateName`.
    #[must_use]
    pub fn generate_name_conflict(group: &str, resource: &str, name: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "{} {} already exists, the server was not able to generate a unique name for the object",
            qualified(group, resource),
            quote(name)
        );
        Self::new(409, Reason::AlreadyExists, message)
            .on(group, resource, name)
            .retry(retry_after_seconds)
    }

    /// 409: the write cannot be done as asked; `why` is often [`OPTIMISTIC_LOCK`].
    #[must_use]
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {why}",
            qualified(group, resource),
            quote(name)
        );
        Self::new(409, Reason::Conflict, message).on(group, resource, name)
    }

    /// 409: the object changed since the `resourceVersion` that the write was based on.
    #[must_use]
    pub fn stale(group: &str, resource: &str, name: &str) -> Self {
        Self::conflict(group, resource, name, OPTIMISTIC_LOCK)
    }

    /// 409: fields that a server-side apply sets belong to other managers.
    #[must_use]
    pub fn apply_conflict(conflicts: &[ManagerConflict]) -> Self {
        let causes = conflicts
            .iter()
            .map(|c| StatusCause {
                cause: "FieldManagerConflict".to_owned(),
                message: format!("conflict with {}", c.describe()),
                field: c.path.clone(),
            })
            .collect();
        let message = if let [one] = conflicts {
            format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                one.describe(),
                one.path
            )
        } else {
            let mut by_manager: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
            for c in conflicts {
                by_manager
                    .entry((c.manager.clone(), c.describe()))
                    .or_default()
                    .push(&c.path);
            }
            let mut lines = Vec::new();
            for ((_, who), paths) in by_manager {
                lines.push(format!("conflicts with {who}:"));
                lines.extend(paths.into_iter().map(|path| format!("- {path}")));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                conflicts.len(),
                lines.join("\n")
            )
        };
        let mut error = Self::new(409, Reason::Conflict, message);
        error.details = Some(Box::new(StatusDetails {
            causes,
            ..StatusDetails::default()
        }));
        error
    }

    /// 422: the object of this `kind` breaks its schema or rules in these ways.
    #[must_use]
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &[FieldError]) -> Self {
        let mut message = format!("{} {} is invalid", qualified(group, kind), quote(name));
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            message.push_str(": ");
            message.push_str(&aggregate(&texts));
        }
        let mut error = Self::new(422, Reason::Invalid, message).on(group, kind, name);
        error.details.get_or_insert_default().causes = errors
            .iter()
            .map(|e| StatusCause {
                cause: e.kind.cause().to_owned(),
                message: e.body(),
                field: e.path.clone(),
            })
            .collect();
        error
    }

    /// 400: the request is malformed.
    #[must_use]
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 401: who the user is could not be established.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403: the user may not do this, and `why`. Resource and name may be empty.
    #[must_use]
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(group, resource);
        let message = if what.is_empty() {
            format!("forbidden: {why}")
        } else if name.is_empty() {
            format!("{what} is forbidden: {why}")
        } else {
            format!("{what} {} is forbidden: {why}", quote(name))
        };
        Self::new(403, Reason::Forbidden, message).on(group, resource, name)
    }

    /// 410: gone, with no better place to look.
    #[must_use]
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Gone, message)
    }

    /// 410: a resource version or continue token that is too old.
    #[must_use]
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 410: `requested` is older than `oldest`, the oldest revision that is kept.
    #[must_use]
    pub fn too_old_resource_version(requested: u64, oldest: u64) -> Self {
        Self::expired(format!("too old resource version: {requested} ({oldest})"))
    }

    /// 405: the resource does not support `action`.
    #[must_use]
    pub fn method_not_supported(group: &str, resource: &str, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quote(&qualified(group, resource))
        );
        Self::new(405, Reason::MethodNotAllowed, message).on(group, resource, "")
    }

    /// 405: this HTTP method is not known at this path.
    #[must_use]
    pub fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        let mut error = Self::new(405, Reason::MethodNotAllowed, message);
        error.details = Some(Box::default());
        error
    }

    /// 406: the server writes only the media types `accepted`.
    #[must_use]
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 415: the server reads only the media types `accepted`.
    #[must_use]
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            accepted.join(", ")
        );
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 413: the body is too large.
    #[must_use]
    pub fn too_large(message: &str) -> Self {
        let message = format!("Request entity too large: {message}");
        Self::new(413, Reason::RequestEntityTooLarge, message)
    }

    /// 429: try again after so many seconds.
    #[must_use]
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry(retry_after_seconds)
    }

    /// 500: a fault of the server. The message must hold nothing secret.
    #[must_use]
    pub fn internal(message: impl fmt::Display) -> Self {
        let text = message.to_string();
        let mut error = Self::new(
            500,
            Reason::InternalError,
            format!("Internal error occurred: {text}"),
        );
        let cause = StatusCause {
            message: text,
            ..StatusCause::default()
        };
        error.details = Some(Box::new(StatusDetails {
            causes: vec![cause],
            ..StatusDetails::default()
        }));
        error
    }

    /// 503: not available now.
    #[must_use]
    pub fn service_unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// 504: the request took too long.
    #[must_use]
    pub fn timeout(message: &str, retry_after_seconds: u32) -> Self {
        Self::new(504, Reason::Timeout, format!("Timeout: {message}")).retry(retry_after_seconds)
    }

    /// 500: the operation could not be completed, but a retry may succeed.
    #[must_use]
    pub fn server_timeout(group: &str, resource: &str, operation: &str, retry_after_seconds: u32) -> Self {
        let message = format!(
            "The {operation} operation against {} could not be completed at this time, please try again.",
            qualified(group, resource)
        );
        Self::new(500, Reason::ServerTimeout, message)
            .on(group, resource, operation)
            .retry(retry_after_seconds)
    }

    /// 400: unknown or repeated fields under strict field validation, one text each.
    #[must_use]
    pub fn strict_decoding<S: AsRef<str>>(kind: &str, version: &str, problems: &[S]) -> Self {
        let texts: Vec<&str> = problems.iter().map(AsRef::as_ref).collect();
        Self::bad_request(format!(
            "{kind} in version {} cannot be handled as a {kind}: strict decoding error: {}",
            quote(version),
            texts.join(", ")
        ))
    }

    /// The `Status` object as a JSON value.
    #[must_use]
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::field::FieldPath;
    use serde_json::json;

    #[test]
    fn messages_are_those_of_the_real_server() {
        let cases = [
            (
                ApiError::not_found("apps", "deployments", "web"),
                404,
                r#"deployments.apps "web" not found"#,
            ),
            (
                ApiError::not_found("", "pods", "web"),
                404,
                r#"pods "web" not found"#,
            ),
            (
                ApiError::already_exists("", "pods", "web"),
                409,
                r#"pods "web" already exists"#,
            ),
            (
                ApiError::stale("", "configmaps", "c"),
                409,
                "Operation cannot be fulfilled on configmaps \"c\": the object has been modified; please apply your \
                 changes to the latest version and try again",
            ),
            (ApiError::forbidden("", "", "", "no"), 403, "forbidden: no"),
            (
                ApiError::forbidden("", "pods", "", "no"),
                403,
                "pods is forbidden: no",
            ),
            (
                ApiError::forbidden("", "pods", "a", "no"),
                403,
                "pods \"a\" is forbidden: no",
            ),
            (
                ApiError::method_not_supported("", "pods", "create"),
                405,
                r#"create is not supported on resources of kind "pods""#,
            ),
            (ApiError::internal("boom"), 500, "Internal error occurred: boom"),
            (ApiError::timeout("slow", 0), 504, "Timeout: slow"),
            (
                ApiError::too_large("limit is 3145728"),
                413,
                "Request entity too large: limit is 3145728",
            ),
        ];
        for (error, code, message) in cases {
            assert_eq!((error.code, error.message.as_str()), (code, message));
        }
    }

    #[test]
    fn invalid_lists_causes() {
        let spec = FieldPath::new("spec");
        let errors = [
            FieldError::required(&spec.child("a"), ""),
            FieldError::invalid(&spec.child("b"), 1, "odd"),
        ];
        let status = ApiError::invalid("example.com", "Widget", "w", &errors).to_value();
        assert_eq!(
            status,
            json!({
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
                "message": "Widget.example.com \"w\" is invalid: [spec.a: Required value, spec.b: Invalid value: 1: odd]",
                "details": {"name": "w", "group": "example.com", "kind": "Widget", "causes": [
                    {"reason": "FieldValueRequired", "message": "Required value", "field": "spec.a"},
                    {"reason": "FieldValueInvalid", "message": "Invalid value: 1: odd", "field": "spec.b"},
                ]},
            })
        );
    }

    #[test]
    fn apply_conflicts_group_by_manager() {
        let conflict = |manager: &str, path: &str| ManagerConflict {
            manager: manager.to_owned(),
            api_version: "v1".to_owned(),
            is_update: true,
            time: Some("2026-01-02T03:04:05Z".to_owned()),
            path: path.to_owned(),
            ..ManagerConflict::default()
        };
        let one = ApiError::apply_conflict(&[conflict("kubectl", ".spec.a")]);
        assert_eq!(
            one.message,
            "Apply failed with 1 conflict: conflict with \"kubectl\" using v1 at 2026-01-02T03:04:05Z: .spec.a"
        );
        let two = ApiError::apply_conflict(&[conflict("kubectl", ".spec.a"), conflict("kubectl", ".spec.b")]);
        assert_eq!(
            two.message,
            "Apply failed with 2 conflicts: conflicts with \"kubectl\" using v1 at 2026-01-02T03:04:05Z:\n- .spec.a\n- .spec.b"
        );
        assert_eq!(two.details.unwrap().causes.len(), 2);
    }
}
