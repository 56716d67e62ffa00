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
    printcolumn(name = "Artifact", type_ = "string", json_path = ".spec.artifactRef"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase")
)]
#[x_kube(validation = Rule::new("self.sourceEnvironment != self.targetEnvironment")
    .message("sourceEnvironment and targetEnvironment must differ"))]
#[x_kube(validation = crate::schema::immutable("a promotion"))]
pub struct PromotionSpec {
    /// The component that is promoted.
    pub owner: ComponentOwner,
    /// The track that is promoted; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Name of the environment that is promoted from.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub source_environment: String,
    /// Name of the environment that is promoted to.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub target_environment: String,
    /// Name of the DeployableArtifact; the one that is deployed in the source environment if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub artifact_ref: Option<String>,
}

impl PromotionSpec {
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
    /// Who decided what, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Approval>,
    /// How the checks went.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub gates: Vec<GateResult>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// A decision about a promotion.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// User who decided.
    pub user: String,
    /// What they decided.
    pub decision: Decision,
    /// Digest of the artifact that they decided about.
    pub digest: String,
    /// When they decided.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// What they had to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
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
}

/// How a check went.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GateResult {
    /// Name of the check.
    pub name: String,
    /// Whether it passed; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed: Option<bool>,
    /// What it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
