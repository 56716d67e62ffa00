//! Releases: the exact Kubernetes objects of a binding or a cell, and what became of them.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

mod resources;

pub use resources::{ReleaseResources, ResourcesError};

/// What a release consists of.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Release",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "rel",
    category = "choreo",
    doc = "The Kubernetes objects that a binding, or a cell, consists of in the data plane, exactly as they are applied, with their inventory and health. Made by the platform.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environmentName"),
    printcolumn(name = "Objects", type_ = "integer", json_path = ".status.objectCount"),
    printcolumn(
        name = "Hash",
        type_ = "string",
        json_path = ".status.appliedHash",
        priority = 1
    )
)]
pub struct ReleaseSpec {
    /// What the release belongs to.
    #[x_kube(validation = crate::schema::immutable("the owner of a release"))]
    pub owner: ReleaseOwner,
    /// Name of the environment.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    #[x_kube(validation = crate::schema::immutable("the environment of a release"))]
    pub environment_name: String,
    /// Name of the data plane that the objects are applied to; the environment's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub data_plane: Option<String>,
    /// Name of the Deployment that the objects are rendered from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub deployment_ref: Option<String>,
    /// The objects, in the order in which they are applied.
    #[serde(default, skip_serializing_if = "ReleaseResources::is_empty")]
    #[schemars(length(max = 1024), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub resources: ReleaseResources,
    /// How often a cluster that cannot be watched is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub interval: Option<String>,
    /// The same, while objects are on their way to health.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub progressing_interval: Option<String>,
}

/// What a release belongs to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseOwner {
    /// Name of the project.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub project_name: String,
    /// Name of the component; absent for the release of a cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub component_name: Option<String>,
}

/// An object of a release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseResource {
    /// Name of the object in the release: unique, and the same for the same purpose in every revision.
    #[schemars(length(min = 1, max = 253))]
    pub id: String,
    /// The object.
    #[schemars(schema_with = "crate::schema::embedded_object")]
    pub object: serde_json::Value,
}

/// How an object is doing.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum HealthStatus {
    /// It cannot be told.
    #[default]
    Unknown,
    /// On its way.
    Progressing,
    /// As it should be.
    Healthy,
    /// Stopped on purpose.
    Suspended,
    /// Failing.
    Degraded,
    /// Not there.
    Missing,
}

/// What became of a release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The objects that were applied, and how they are doing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub resources: Vec<ResourceStatus>,
    /// Everything that was ever applied and not yet removed. It is enough, with `dataPlane`, to clean up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<InventoryEntry>,
    /// Where it was applied to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<DataPlaneIdentity>,
    /// Hash of the objects that were applied last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// Number of objects that were applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_count: Option<i32>,
    /// The release in each cluster, for a data plane of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["cluster"]))]
    pub clusters: Vec<ClusterRelease>,
}

/// How one applied object is doing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ResourceStatus {
    /// Name of the object in the release.
    pub id: String,
    /// API group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Namespace, unless the object has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How it is doing.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Why, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The object's own status, as far as it says more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub status: Option<serde_json::Value>,
    /// When it was last seen to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_observed_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// An object that was applied.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[serde(rename_all = "camelCase")]
pub struct InventoryEntry {
    /// Cluster, in a data plane of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// API group.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Name in the API's paths.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub plural: String,
    /// Namespace, unless the object has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

/// The data plane that a release was applied to, in enough detail to reach it when its object is gone.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneIdentity {
    /// Name of the DataPlane.
    pub name: String,
    /// Address of the (primary) cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// Identity of the (primary) cluster: the UID of its namespace `kube-system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_uid: Option<String>,
    /// UID of the DataPlane object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The spec of the DataPlane without credentials written in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub connection: Option<serde_json::Value>,
}

/// A release in one cluster of several.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRelease {
    /// Name of the cluster.
    pub cluster: String,
    /// How the release is doing there.
    #[serde(default)]
    pub health_status: HealthStatus,
    /// Hash of the objects that were applied there last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_hash: Option<String>,
    /// What is wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
