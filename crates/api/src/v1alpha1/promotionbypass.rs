//! Emergencies: promotions that go past everything.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

/// What goes past everything.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "PromotionBypass",
    namespaced,
    status = "PromotionBypassStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "promobyp",
    category = "choreo",
    doc = "Lets one promotion go past rules, approvals, gates, freezes and the queue, in an emergency. The right to create such objects is the permission to do so. The promotion is marked with it for ever.",
    printcolumn(name = "Promotion", type_ = "string", json_path = ".spec.promotionRef"),
    printcolumn(name = "User", type_ = "string", json_path = ".spec.user"),
    printcolumn(name = "Why", type_ = "string", json_path = ".spec.reason")
)]
#[x_kube(validation = crate::schema::immutable("a bypass"))]
pub struct PromotionBypassSpec {
    /// Name of the promotion.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub promotion_ref: String,
    /// What the emergency is.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Who does it. The API server writes it; what a client says here does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub user: Option<String>,
}

/// What became of a bypass.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PromotionBypassStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
