//! Build planes: the clusters that builds run in.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{KubernetesCluster, ObserverApi, Registry};
use super::common::Condition;

/// What a build plane is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "BuildPlane",
    namespaced,
    status = "BuildPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "bp",
    shortname = "bps",
    category = "choreo",
    doc = "A Kubernetes cluster that builds run in, apart from the workloads.",
    printcolumn(
        name = "Server",
        type_ = "string",
        json_path = ".spec.kubernetesCluster.server"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.serverVersion")
)]
pub struct BuildPlaneSpec {
    /// How to reach the cluster.
    pub kubernetes_cluster: KubernetesCluster,
    /// Where the images that are built are pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// Where logs of builds can be queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<ObserverApi>,
}

/// What is known of a build plane.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildPlaneStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Kubernetes version of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// When the cluster last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}
