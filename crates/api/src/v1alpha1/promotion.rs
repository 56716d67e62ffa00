//! Promotions: the way of one artifact from one environment to the next.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, DEFAULT_TRACK};

/// What is promoted, and where to.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Promotion",
    namespaced,
    status = "PromotionStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "promo",
    category = "choreo",
    doc = "A request to move one artifact of a component from one environment to the next, and the record of what became of it: checks, approvals, rollout.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.sourceEnvironment"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.targetEnvironment"),
    printcolumn(name = "Artifact", type_ = "string", json_path = ".status.artifact"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.requestedBy"),
    printcolumn(
        name = "Bypassed",
        type_ = "string",
        json_path = ".status.bypass.user",
        priority = 1
    )
)]
#[x_kube(validation = Rule::new("!has(self.sourceEnvironment) || self.sourceEnvironment != self.targetEnvironment")
    .message("sourceEnvironment and targetEnvironment must differ"))]
#[x_kube(validation = Rule::new("has(self.sourceEnvironment) || has(self.rollbackTo) || has(self.artifactRef)")
    .message("give sourceEnvironment, or rollbackTo for the way back, or artifactRef for an artifact that ran here before"))]
#[x_kube(validation = Rule::new("!(has(self.sourceEnvironment) && has(self.rollbackTo))")
    .message("sourceEnvironment and rollbackTo exclude each other"))]
#[x_kube(validation = crate::schema::immutable("a promotion"))]
pub struct PromotionSpec {
    /// The component that is promoted.
    pub owner: ComponentOwner,
    /// The track that is promoted; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Name of the environment that is promoted from. Absent for the way back to what ran in the target before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub source_environment: Option<String>,
    /// Name of the environment that is promoted to.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub target_environment: String,
    /// Name of the DeployableArtifact; the one that is deployed in the source environment if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub artifact_ref: Option<String>,
    /// Number of the revision to go back to, instead of a promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub rollback_to: Option<i64>,
    /// Who asks. The API server writes it; what a client says here does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub requested_by: Option<String>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
    /// The promotions that this one is a part of: all of them begin together, and end well together or not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<PromotionSet>,
    /// Whether somebody wrote the artifact into the binding, and thereby asked for this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_binding: bool,
}

/// Promotions that are one.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PromotionSet {
    /// What they are called together.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// How many they are. None begins before all are there.
    #[schemars(range(min = 1, max = 256))]
    pub members: i32,
}

impl PromotionSpec {
    /// Whether it is the way back to what ran before.
    pub fn is_rollback(&self) -> bool {
        self.source_environment.is_none()
    }

    /// The track that is promoted.
    pub fn track(&self) -> &str {
        self.track.as_deref().unwrap_or(DEFAULT_TRACK)
    }
}

/// How far a promotion has come.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum PromotionPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Somebody has to approve.
    AwaitingApproval,
    /// Checks are running.
    Verifying,
    /// The artifact is being rolled out.
    RollingOut,
    /// The artifact runs in the target environment.
    Succeeded,
    /// Somebody said no.
    Rejected,
    /// It did not work.
    Failed,
    /// It did not work, and the target environment is back at its previous revision.
    RolledBack,
}

impl PromotionPhase {
    /// Whether nothing will happen any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Rejected | Self::Failed | Self::RolledBack
        )
    }
}

/// What became of a promotion.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PromotionStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Its place among the promotions of the component to this environment, from 1 on: what came later has a larger one. It is
    /// given when the platform first looks at it, and never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<i64>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<PromotionPhase>,
    /// Name of the artifact that is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Digest of the artifact that is promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Name of the artifact that was deployed in the target environment before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_artifact: Option<String>,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<String>,
    /// Digest of the difference that it makes to what is rendered for the target environment. Approvals are of this difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// What that difference is, object by object.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Why it is in its phase, in a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Whether no rule forbade it when it was first looked at.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepted: bool,
    /// Whether the artifact may run in the target environment because of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub released: bool,
    /// Who decided what, in the order in which it was said. Of what one person said the last counts. The newest 100 are here, and
    /// the last word of each person before what they said earlier; the PromotionDecisions are all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<RecordedDecision>,
    /// Whose approvals it was released upon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approved_by: Vec<String>,
    /// Who went past everything, and why. It stays for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<RecordedBypass>,
    /// How the checks went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name", "round"]))]
    pub gates: Vec<GateResult>,
    /// Where the rollout is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutProgress>,
    /// What has happened, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<PromotionEvent>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// Who went past all gates.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RecordedBypass {
    /// User.
    pub user: String,
    /// Why.
    pub reason: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// A decision about a promotion.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RecordedDecision {
    /// Name of the PromotionDecision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// User who decided.
    pub user: String,
    /// What they decided.
    pub decision: Decision,
    /// When they decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// What they had to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where a rollout is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RolloutProgress {
    /// The step, from 0; as many as there are steps when all of them are done.
    pub step: i32,
    /// Share of the traffic for the new revision, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<i32>,
    /// Where a blue-green rollout's new revision can be looked at before it has any traffic.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preview: Vec<String>,
    /// When the step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When the new revision was first healthy in the step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Since when the new revision fails. That ends the rollout once it has lasted for five seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Whether the binding was seen to say the artifact.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub applied: bool,
    /// Whether nothing but the other promotions of its set is waited for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
}

/// Something that happened to a promotion.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PromotionEvent {
    /// When.
    pub time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// The phase that began.
    pub phase: PromotionPhase,
    /// Why.
    pub message: String,
}

/// What somebody decided.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum Decision {
    /// Yes.
    #[default]
    Approved,
    /// No.
    Rejected,
    /// What was said before no longer counts.
    Withdrawn,
    /// Stop, and go back to what ran before.
    Aborted,
    /// Go on with the next step.
    Resumed,
}

/// How a check ended.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum GateVerdict {
    /// All is well.
    Passed,
    /// It is not.
    Failed,
    /// It could not be found out, which is not passed.
    #[default]
    Inconclusive,
}

/// How a check went.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// Name of the check.
    pub name: String,
    /// 0 for a check before the rollout, otherwise the number of the step that it belongs to.
    #[serde(default)]
    pub round: i32,
    /// Which attempt it is; the first is 1.
    #[serde(default)]
    pub attempt: i32,
    /// When the attempt began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// How it ended; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<GateVerdict>,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Where to read more: the Release whose Job it was, or the address that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}
