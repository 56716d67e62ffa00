//! Traits: additions to components that the platform team defines.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;
use super::template::{ParameterRule, ParameterSchema, ResourceTemplate};

/// What a trait adds, changes and removes.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Trait",
    namespaced,
    status = "TraitStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "choreo",
    doc = "An addition to components that the platform team defines, such as persistent storage or an alert: objects that it makes, and changes to the objects that the component's type makes.",
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedBy")
)]
pub struct TraitSpec {
    /// What developers can set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<ParameterSchema>,
    /// The objects that are made, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub creates: Vec<ResourceTemplate>,
    /// Changes to objects, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub patches: Vec<TraitPatch>,
    /// Objects that are not made after all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub removes: Vec<TraitRemoval>,
    /// Rules that the parameters must obey, beyond their schema.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub validations: Vec<ParameterRule>,
}

/// A change to some of the objects.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.operations) != has(self.merge)")
    .message("exactly one of operations and merge must be given"))]
pub struct TraitPatch {
    /// The objects that are changed.
    pub target: PatchTarget,
    /// A CEL expression for a list; the change is made once for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub for_each: Option<String>,
    /// Name under which the change sees the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub var: Option<String>,
    /// The change as operations of a JSON patch (RFC 6902).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub operations: Vec<PatchOperation>,
    /// The change as an object that is merged over the target by Kubernetes' strategic-merge rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub merge: Option<serde_json::Value>,
}

/// Which objects are meant: those that match everything that is given.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct PatchTarget {
    /// API group; the core group is the empty text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// API version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub version: Option<String>,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub kind: Option<String>,
    /// Name of the object in the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub id: Option<String>,
    /// A CEL expression over `resource` that is true for the objects that are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub r#where: Option<String>,
}

/// One operation of a JSON patch.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.op in ['move', 'copy']) || has(self.from)")
    .message("move and copy need from"))]
pub struct PatchOperation {
    /// What is done.
    pub op: PatchOp,
    /// Where, as a JSON pointer. May have CEL expressions between `${` and `}`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// The value, for `add`, `replace` and `test`. May have CEL expressions between `${` and `}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any")]
    pub value: Option<serde_json::Value>,
    /// Where the value comes from, for `move` and `copy`, as a JSON pointer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
}

/// Operations of a JSON patch.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum PatchOp {
    /// Adds a field or an item.
    #[default]
    Add,
    /// Replaces what is there.
    Replace,
    /// Removes what is there.
    Remove,
    /// Moves what is there.
    Move,
    /// Copies what is there.
    Copy,
    /// Fails unless the value is there.
    Test,
}

/// Objects that are not made after all.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TraitRemoval {
    /// The objects.
    pub target: PatchTarget,
    /// A CEL expression; they are only removed when it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
}

/// What is known of a trait.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TraitStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of components that use the trait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
