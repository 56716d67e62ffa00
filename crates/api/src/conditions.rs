//! Conditions: the one way in which the platform says what is true of an object, what it waits for, and what to do.
//!
//! A planner states conditions without times. Whoever writes the status calls [`merge`], which keeps the time of the
//! last transition where nothing has changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Whether a condition holds.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    #[default]
    Unknown,
}

impl ConditionStatus {
    /// The status as it is written: `True`, `False` or `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for ConditionStatus {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// One statement about an object, in the form of `metav1.Condition`.
///
/// The time of the last transition is absent until the condition is merged into a status: it is the only part of a
/// status that is not a function of the inputs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What the statement is about; see [`types`].
    #[serde(rename = "type")]
    pub type_: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one word for programs; see [`reasons`].
    pub reason: String,
    /// Why, in a sentence for people: it names the object that is waited for or that failed, and what to do.
    #[serde(default)]
    pub message: String,
    /// The generation of the object that the statement is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when the status is what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
}

impl Condition {
    /// A condition without a time.
    pub fn new(
        type_: impl Into<String>,
        status: impl Into<ConditionStatus>,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: message.into(),
            observed_generation: None,
            last_transition_time: None,
        }
    }

    /// `Ready` holds.
    pub fn ready(message: impl Into<String>) -> Self {
        Self::new(types::READY, true, reasons::READY, message)
    }

    /// `Ready` does not hold, for the given reason.
    pub fn not_ready(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(types::READY, false, reason, message)
    }

    /// The same condition, said of a generation.
    #[must_use]
    pub fn observed(mut self, generation: Option<i64>) -> Self {
        self.observed_generation = generation;
        self
    }

    /// Whether the condition holds.
    pub fn is_true(&self) -> bool {
        self.status == ConditionStatus::True
    }

    /// Whether the two say the same, whatever their times.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        self.type_ == other.type_
            && self.status == other.status
            && self.reason == other.reason
            && self.message == other.message
            && self.observed_generation == other.observed_generation
    }
}

impl JsonSchema for Condition {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Condition".into()
    }

    // Written by hand: a stored condition must have a time although one in the making has none.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "One statement about the object.",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "type": {
                    "description": "What the statement is about, for instance Ready.",
                    "type": "string",
                    "maxLength": 316,
                    "pattern": "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$",
                },
                "status": {
                    "description": "Whether it holds.",
                    "type": "string",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "description": "Why, in one word for programs.",
                    "type": "string",
                    "minLength": 1,
                    "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                },
                "message": {
                    "description": "Why, in a sentence for people, and what to do about it.",
                    "type": "string",
                    "maxLength": 32768,
                },
                "observedGeneration": {
                    "description": "The generation of the object that the statement is about.",
                    "type": "integer",
                    "format": "int64",
                    "minimum": 0,
                },
                "lastTransitionTime": {
                    "description": "Since when the status is what it is.",
                    "type": "string",
                    "format": "date-time",
                },
            },
        })
    }
}

/// Carries the time of the last transition over from `old`, and stamps `now` where a status is new or has changed.
///
/// The result has the conditions of `new`, in their order: a condition that is no longer stated is dropped.
pub fn merge(old: &[Condition], new: Vec<Condition>, now: &Time) -> Vec<Condition> {
    new.into_iter()
        .map(|mut condition| {
            let before = find(old, &condition.type_).filter(|old| old.status == condition.status);
            condition.last_transition_time = Some(
                before
                    .and_then(|old| old.last_transition_time.clone())
                    .unwrap_or_else(|| now.clone()),
            );
            condition
        })
        .collect()
}

/// The condition of a type, if it is stated.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition of that type is stated and holds.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(Condition::is_true)
}

/// Replaces the condition of the same type, or adds it at the end.
pub fn set(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|other| other.type_ == condition.type_) {
        Some(slot) => *slot = condition,
        None => conditions.push(condition),
    }
}

/// Types of conditions.
pub mod types {
    /// The summary: everything that the object stands for is as it should be.
    pub const READY: &str = "Ready";
    /// The object was understood and everything that it refers to exists.
    pub const RESOLVED: &str = "Resolved";
    /// The objects for the data plane could be computed.
    pub const RENDERED: &str = "Rendered";
    /// The objects in the data plane are as rendered.
    pub const APPLIED: &str = "Applied";
    /// What was applied runs as it should.
    pub const HEALTHY: &str = "Healthy";
    /// The cluster answers.
    pub const CONNECTED: &str = "Connected";
    /// The declared restrictions are all enforced.
    pub const POLICIES_ENFORCED: &str = "PoliciesEnforced";
    /// An artifact was made of the component's current state.
    pub const ARTIFACT_READY: &str = "ArtifactReady";
    /// A build or another piece of work has ended, well or badly.
    pub const COMPLETED: &str = "Completed";
    /// A build's workflow is in the build plane.
    pub const STARTED: &str = "Started";
    /// The image of a build was written to the component's workload.
    pub const WORKLOAD_UPDATED: &str = "WorkloadUpdated";
    /// An older manifest was converted to the kinds of this platform.
    pub const CONVERTED: &str = "Converted";
    /// The object is being deleted and this is what is still in the way.
    pub const DELETING: &str = "Deleting";
}

/// Reasons of conditions.
pub mod reasons {
    /// All is well.
    pub const READY: &str = "Ready";
    /// Something that is referred to does not exist (yet).
    pub const NOT_FOUND: &str = "NotFound";
    /// The project does not exist (yet).
    pub const PROJECT_NOT_FOUND: &str = "ProjectNotFound";
    /// The component does not exist (yet).
    pub const COMPONENT_NOT_FOUND: &str = "ComponentNotFound";
    /// The component has no workload (yet).
    pub const WORKLOAD_NOT_FOUND: &str = "WorkloadNotFound";
    /// The typed part of the component (Service, WebApplication, ...) does not exist (yet).
    pub const TYPE_NOT_FOUND: &str = "TypeNotFound";
    /// The class does not exist (yet).
    pub const CLASS_NOT_FOUND: &str = "ClassNotFound";
    /// The environment does not exist (yet).
    pub const ENVIRONMENT_NOT_FOUND: &str = "EnvironmentNotFound";
    /// The data plane does not exist (yet).
    pub const DATA_PLANE_NOT_FOUND: &str = "DataPlaneNotFound";
    /// The build plane does not exist (yet).
    pub const BUILD_PLANE_NOT_FOUND: &str = "BuildPlaneNotFound";
    /// A newer object of the same purpose has taken over.
    pub const SUPERSEDED: &str = "Superseded";
    /// An environment takes only what was promoted to it, and this was not.
    pub const AWAITING_PROMOTION: &str = "AwaitingPromotion";
    /// The deployment pipeline does not exist (yet).
    pub const PIPELINE_NOT_FOUND: &str = "PipelineNotFound";
    /// The artifact does not exist (yet).
    pub const ARTIFACT_NOT_FOUND: &str = "ArtifactNotFound";
    /// A configuration group, or a key in it, does not exist (yet).
    pub const CONFIGURATION_NOT_FOUND: &str = "ConfigurationNotFound";
    /// The target of a connection does not exist (yet), or is not exposed to the consumer.
    pub const CONNECTION_UNRESOLVED: &str = "ConnectionUnresolved";
    /// There is neither an image to run nor a source to build one from.
    pub const NO_IMAGE: &str = "NoImage";
    /// The object contradicts itself or what it refers to.
    pub const INVALID: &str = "Invalid";
    /// The promotion graph has a cycle.
    pub const PIPELINE_CYCLE: &str = "PipelineCycle";
    /// Two configuration values of equal rank apply.
    pub const AMBIGUOUS: &str = "Ambiguous";
    /// A rule of the environment refuses the artifact.
    pub const CONSTRAINT_VIOLATED: &str = "ConstraintViolated";
    /// The objects could not be rendered; all errors are in the message, and the old ones are kept.
    pub const RENDER_FAILED: &str = "RenderFailed";
    /// The objects were rendered.
    pub const RENDERED: &str = "Rendered";
    /// Some objects could not be applied.
    pub const APPLY_FAILED: &str = "ApplyFailed";
    /// The objects are applied.
    pub const APPLIED: &str = "Applied";
    /// What was applied is not (yet) running as it should.
    pub const PROGRESSING: &str = "Progressing";
    /// What was applied fails.
    pub const DEGRADED: &str = "Degraded";
    /// What was applied runs as it should.
    pub const HEALTHY: &str = "Healthy";
    /// Suspended on purpose.
    pub const SUSPENDED: &str = "Suspended";
    /// Removed on purpose.
    pub const UNDEPLOYED: &str = "Undeployed";
    /// The cluster answers.
    pub const CONNECTED: &str = "Connected";
    /// The cluster does not answer.
    pub const UNREACHABLE: &str = "Unreachable";
    /// The credentials for the cluster are missing or refused.
    pub const CREDENTIALS_INVALID: &str = "CredentialsInvalid";
    /// This installation cannot do what was asked.
    pub const NOT_SUPPORTED: &str = "NotSupported";
    /// Waiting for something that is named in the message.
    pub const WAITING: &str = "Waiting";
    /// Somebody has to approve.
    pub const AWAITING_APPROVAL: &str = "AwaitingApproval";
    /// Work is under way.
    pub const IN_PROGRESS: &str = "InProgress";
    /// Work ended well.
    pub const SUCCEEDED: &str = "Succeeded";
    /// Work ended badly.
    pub const FAILED: &str = "Failed";
    /// The object is being deleted.
    pub const DELETING: &str = "Deleting";
    /// Some declared restriction cannot be expressed in this data plane.
    pub const NOT_EXPRESSIBLE: &str = "NotExpressible";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(jiff::Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn merge_keeps_the_time_while_the_status_stays() {
        let old = merge(&[], vec![Condition::not_ready("Waiting", "for a")], &at(1));
        let same_status = merge(&old, vec![Condition::not_ready("Waiting", "for b")], &at(2));
        assert_eq!(same_status[0].last_transition_time, Some(at(1)));
        assert_eq!(same_status[0].message, "for b");

        let changed = merge(&same_status, vec![Condition::ready("done")], &at(3));
        assert_eq!(changed[0].last_transition_time, Some(at(3)));
    }

    #[test]
    fn merge_drops_what_is_no_longer_said_and_keeps_the_order() {
        let old = merge(
            &[],
            vec![
                Condition::new("A", true, "R", ""),
                Condition::new("B", true, "R", ""),
            ],
            &at(1),
        );
        let new = merge(
            &old,
            vec![
                Condition::new("C", false, "R", ""),
                Condition::new("A", true, "R", ""),
            ],
            &at(9),
        );
        let types: Vec<_> = new
            .iter()
            .map(|c| (c.type_.as_str(), c.last_transition_time.clone()))
            .collect();
        assert_eq!(types, [("C", Some(at(9))), ("A", Some(at(1)))]);
    }
}
