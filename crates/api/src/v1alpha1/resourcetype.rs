//! Resource types: kinds of managed resources, such as databases and queues, that the platform team offers.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;
use super::template::{ParameterRule, ParameterSchema, ResourceTemplate};

/// What resources of this type are made of.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ResourceType",
    namespaced,
    status = "ResourceTypeStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "rtype",
    category = "choreo",
    doc = "A kind of managed resource, such as a database or a queue, that the platform team offers: what can be set, the Kubernetes objects that are made of it, and what a component that connects to it learns.",
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedBy")
)]
pub struct ResourceTypeSpec {
    /// What can be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<ParameterSchema>,
    /// The objects that are made, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub resources: Vec<ResourceTemplate>,
    /// What a component that connects to a resource of this type learns of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub outputs: Vec<ResourceOutput>,
    /// Rules that the parameters must obey, beyond their schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<ParameterRule>,
}

/// Something that a component learns of a resource.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.secretKeyRef)")
    .message("exactly one of value and secretKeyRef must be given"))]
pub struct ResourceOutput {
    /// Name of the output: a variable in the component's connection.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub name: String,
    /// Its value. May have CEL expressions between `${` and `}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub value: Option<String>,
    /// An entry of a Secret in the cell, for a value that must not be seen. Name and key may have CEL expressions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<OutputSecretRef>,
}

/// An entry of a Secret.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OutputSecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 1024))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = 1, max = 1024))]
    pub key: String,
}

/// What is known of a resource type.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ResourceTypeStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of resources of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
