//! Component types: kinds of components that the platform team defines.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;
use super::template::{ParameterRule, ParameterSchema, ResourceTemplate};

/// What components of this type are made of.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ComponentType",
    namespaced,
    status = "ComponentTypeStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "ctype",
    category = "choreo",
    doc = "A kind of component that the platform team defines: what developers can set, and the Kubernetes objects that are made of it. Every expression is checked when the type is written.",
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedBy")
)]
pub struct ComponentTypeSpec {
    /// What developers can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<ParameterSchema>,
    /// The objects that are made, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub resources: Vec<ResourceTemplate>,
    /// Rules that the parameters must obey, beyond their schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<ParameterRule>,
    /// Names of the traits that components of this type may use; all if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub allowed_traits: Vec<String>,
}

/// What is known of a component type.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentTypeStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of components of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
