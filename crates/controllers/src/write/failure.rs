//! What a failed request means for whoever sent it.

use std::time::Duration;

use kube::Error;

use crate::runtime::Retry;
use crate::runtime::feed::describe;

/// Why a request to a Kubernetes API failed, by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The object is not there.
    #[error("not found: {0}")]
    NotFound(String),
    /// The API server does not have the kind: a CRD is missing.
    #[error("{0}")]
    UnknownKind(String),
    /// A race was lost; look again.
    #[error("{0}")]
    Conflict(String),
    /// Another instance of us has just written something else than we want. It may have seen more than we have: look again in a while.
    #[error(
        "{object} was written by another instance of the platform a moment ago, and is left as it is for now"
    )]
    Outrun {
        /// The object.
        object: String,
        /// For how long.
        wait: Duration,
    },
    /// Other managers own fields that were to be set; their names and fields are in the message.
    #[error("{0}")]
    FieldsOwned(String),
    /// An object of this name exists that is not ours.
    #[error("{0}")]
    Foreign(String),
    /// The namespace is on its way out and takes nothing new.
    #[error("{0}")]
    Terminating(String),
    /// The API server refuses the object as it is: trying again is useless until it, or a permission, changes.
    #[error("{0}")]
    Rejected(String),
    /// The API server asks to wait.
    #[error("{message}")]
    Busy {
        /// What it said.
        message: String,
        /// For how long.
        wait: Duration,
    },
    /// The credentials are refused.
    #[error("{0}")]
    Unauthorized(String),
    /// No usable answer: connection, TLS, time-out, 5xx.
    #[error("{0}")]
    Unreachable(String),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let Error::Api(status) = error else {
            return Self::Unreachable(describe(error));
        };
        let message = status.message.clone();
        let causes = status.details.iter().flat_map(|details| &details.causes);
        let has_cause = |reason: &str| causes.clone().any(|cause| cause.reason == reason);
        match status.code {
            // A missing object is named in the details; a missing path ("could not find the requested resource") is not.
            404 if status
                .details
                .as_ref()
                .is_none_or(|details| details.name.is_empty()) =>
            {
                Self::UnknownKind(message)
            }
            404 => Self::NotFound(message),
            409 if has_cause("FieldManagerConflict") => Self::FieldsOwned(message),
            409 | 410 => Self::Conflict(message),
            403 if has_cause("NamespaceTerminating") => Self::Terminating(message),
            401 => Self::Unauthorized(message),
            429 => {
                let seconds = status
                    .details
                    .as_ref()
                    .map_or(1, |details| details.retry_after_seconds.max(1));
                Self::Busy {
                    message,
                    wait: Duration::from_secs(seconds.into()),
                }
            }
            // So kube-apiserver answers an apply with fields that the kind does not have.
            500 if message.starts_with("failed to create typed patch object") => Self::Rejected(message),
            500.. => Self::Unreachable(message),
            _ => Self::Rejected(message),
        }
    }
}

impl Failure {
    /// True if the same request may succeed later without anybody changing anything.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Conflict(_)
                | Self::Outrun { .. }
                | Self::Busy { .. }
                | Self::Unreachable(_)
                | Self::Unauthorized(_)
        )
    }

    /// True if the cluster itself is the problem, so that other requests would fail as well.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unauthorized(_))
    }

    /// As an error that makes the controller try the key again; `attempted` says what was being done to which object.
    pub fn while_doing(&self, attempted: &str) -> Retry {
        let at_least = match self {
            Self::Busy { wait, .. } | Self::Outrun { wait, .. } => *wait,
            // Nothing changes by itself: a slow retry covers permissions and quotas, which have no event to wait for.
            Self::Rejected(_) | Self::Terminating(_) | Self::UnknownKind(_) => Duration::from_secs(5),
            _ => Duration::ZERO,
        };
        let expected = matches!(
            self,
            Self::Conflict(_) | Self::Outrun { .. } | Self::NotFound(_) | Self::Terminating(_)
        );
        Retry {
            message: format!("{attempted}: {self}"),
            at_least,
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use rstest::rstest;
    use serde_json::{Value, json};

    #[rstest]
    #[case(404, json!({"name": "a"}), "NotFound")]
    #[case(404, json!({}), "UnknownKind")]
    #[case(409, json!({"causes": [{"reason": "FieldManagerConflict", "message": "", "field": ".spec"}]}), "FieldsOwned")]
    #[case(409, json!({"name": "a"}), "Conflict")]
    #[case(410, json!({}), "Conflict")]
    #[case(403, json!({"causes": [{"reason": "NamespaceTerminating", "message": "", "field": ""}]}), "Terminating")]
    #[case(403, json!({"name": "a"}), "Rejected")]
    #[case(422, json!({"name": "a"}), "Rejected")]
    #[case(401, json!({}), "Unauthorized")]
    #[case(429, json!({"retryAfterSeconds": 7}), "Busy")]
    #[case(503, json!({}), "Unreachable")]
    fn of_a_status(#[case] code: u16, #[case] details: Value, #[case] expected: &str) {
        let status: Status = serde_json::from_value(
            json!({"status": "Failure", "code": code, "message": "m", "reason": "r", "details": details}),
        )
        .unwrap();
        let failure = Failure::from(Error::Api(status.boxed()));
        assert!(format!("{failure:?}").starts_with(expected), "{failure:?}");
        if let Failure::Busy { wait, .. } = failure {
            assert_eq!(wait.as_secs(), 7);
        }
    }

    #[test]
    fn an_apply_of_unknown_fields_is_no_outage() {
        let message =
            "failed to create typed patch object (a/b; v1, Kind=Pod): .spec.x: field not declared in schema";
        let status: Status = serde_json::from_value(
            json!({"status": "Failure", "code": 500, "message": message, "reason": ""}),
        )
        .unwrap();
        let failure = Failure::from(Error::Api(status.boxed()));
        assert!(matches!(failure, Failure::Rejected(_)), "{failure:?}");
    }

    #[test]
    fn an_io_error_keeps_its_cause() {
        let refused = std::io::Error::other("connection refused");
        let failure = Failure::from(Error::Service(refused.into()));
        assert!(
            failure.is_outage() && failure.to_string().ends_with("connection refused"),
            "{failure}"
        );
    }
}
