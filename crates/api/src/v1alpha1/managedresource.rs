//! Managed resources: databases, queues and the like that components connect to.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, ProjectOwner};

/// What a managed resource is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ManagedResource",
    namespaced,
    status = "ManagedResourceStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "mres",
    category = "choreo",
    doc = "A database, a queue or another resource that the platform manages and that components connect to by name. It exists once in each cell that uses it.",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.owner.projectName")
)]
pub struct ManagedResourceSpec {
    /// The project that may use it; every project of the organization if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ProjectOwner>,
    /// Name of the ResourceType.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    #[x_kube(validation = crate::schema::immutable("the type of a managed resource"))]
    pub type_: String,
    /// Parameters, as the type's schema describes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
    /// Parameters that differ between environments, by the name of the environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub environment_configs: BTreeMap<String, super::componentbinding::RawObject>,
}

/// What became of a managed resource.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ManagedResourceStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Names of the environments that it exists in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
}
