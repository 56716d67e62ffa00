//! What people decide about promotions.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;
use super::promotion::Decision;

/// What is decided.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "PromotionDecision",
    namespaced,
    status = "PromotionDecisionStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "promodec",
    category = "choreo",
    doc = "What somebody decides about a promotion: an approval, a rejection, the withdrawal of either, a stop, or the word to go on. It cannot be changed, and the API server writes down who it was.",
    printcolumn(name = "Promotion", type_ = "string", json_path = ".spec.promotionRef"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".spec.decision"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user")
)]
#[x_kube(validation = crate::schema::immutable("a decision"))]
pub struct PromotionDecisionSpec {
    /// Name of the promotion.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub promotion_ref: String,
    /// What is decided.
    pub decision: Decision,
    /// Digest of the artifact that is approved: that in the promotion's status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub digest: Option<String>,
    /// Digest of the difference that is approved: that in the promotion's status. Another difference voids the approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub diff: Option<String>,
    /// The step that is gone on from, for `Resumed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 64))]
    pub step: Option<i32>,
    /// What there is to say about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub comment: Option<String>,
    /// Who decides. The API server writes it; what a client says here does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub user: Option<String>,
    /// Their groups. The API server writes them; what a client says here does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    pub groups: Vec<String>,
}

/// What became of a decision.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PromotionDecisionStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
