//! Data planes: the clusters that workloads run in.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::{ClusterStatus, DataPlaneCluster, Features, KubernetesCluster, ObserverApi, Registry};
use super::common::Condition;

/// What a data plane is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "DataPlane",
    namespaced,
    status = "DataPlaneStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "dp",
    shortname = "dps",
    category = "choreo",
    doc = "A Kubernetes cluster, or several, that workloads are deployed to: how to reach it, where its images come from, and the hosts of its gateways.",
    printcolumn(
        name = "Server",
        type_ = "string",
        json_path = ".spec.kubernetesCluster.server"
    ),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.serverVersion"),
    printcolumn(
        name = "Last-Contact",
        type_ = "date",
        json_path = ".status.lastContactTime",
        priority = 1
    )
)]
#[x_kube(validation = Rule::new("has(self.kubernetesCluster) || (has(self.clusters) && self.clusters.size() > 0)")
    .message("either kubernetesCluster or clusters must say which cluster this is"))]
#[x_kube(validation = Rule::new("!(has(self.kubernetesCluster) && has(self.clusters) && self.clusters.size() > 0)")
    .message("give either kubernetesCluster, for one cluster, or clusters, for several, not both"))]
pub struct DataPlaneSpec {
    /// Where images of the data plane's workloads are pulled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry: Option<Registry>,
    /// How to reach the cluster. For several clusters use `clusters` instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_cluster: Option<KubernetesCluster>,
    /// The clusters of a data plane that has more than one: everything is deployed to each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    #[x_kube(validation = Rule::new("self.filter(c, has(c.primary) && c.primary).size() <= 1")
        .message("at most one cluster can be the primary"))]
    pub clusters: Vec<DataPlaneCluster>,
    /// How many clusters other than the primary may fail before the data plane counts as unhealthy; 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 31))]
    pub max_unavailable_clusters: Option<i32>,
    /// Hosts and gateways under which endpoints are exposed. Without it nothing can be exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<DataPlaneGateway>,
    /// Where logs and metrics of the data plane can be queried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observer: Option<ObserverApi>,
    /// What the cluster can do. What is not said here is found out from the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// Where secret values come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_store_ref: Option<SecretStoreRef>,
}

impl DataPlaneSpec {
    /// The cluster that decides about health: the only one, the one marked as primary, or else the first.
    pub fn primary(&self) -> Option<&DataPlaneCluster> {
        self.clusters
            .iter()
            .find(|cluster| cluster.primary)
            .or_else(|| self.clusters.first())
    }
}

/// The gateways of a data plane.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneGateway {
    /// Domain of public endpoints, for instance `apps.example.com`.
    #[schemars(length(min = 1, max = 253))]
    pub public_virtual_host: String,
    /// Domain of endpoints that only the organization reaches.
    #[schemars(length(min = 1, max = 253))]
    pub organization_virtual_host: String,
    /// The Gateway object that serves public endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<GatewayRef>,
    /// The Gateway object that serves endpoints of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<GatewayRef>,
    /// Host of an environment's APIs, with the variables `{env}`, `{org}` and `{virtualHost}`; if absent
    /// `{env}-{org}.{virtualHost}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub host_template: Option<String>,
    /// Host of a web application, with the variables `{component}`, `{env}`, `{org}` and `{virtualHost}`; if
    /// absent `{component}-{env}-{org}.{virtualHost}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub web_host_template: Option<String>,
}

/// A Gateway object in the data plane.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GatewayRef {
    /// Name of the Gateway.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Namespace of the Gateway.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub namespace: String,
    /// The listeners of the Gateway that endpoints may use. What cannot be told apart by host and path needs a listener
    /// of its own: without one of its protocol, an endpoint of type TCP, TLS or UDP is not exposed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub listeners: Vec<GatewayListener>,
    /// Lowest version of TLS that the Gateway accepts; 1.2 if absent, which is Envoy Gateway's own. A class that demands
    /// more is not exposed here.
    #[serde(rename = "minTLSVersion", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), regex(pattern = "^(TLS)?v?1\\.[0-3]$"))]
    pub min_tls_version: Option<String>,
}

/// A listener of a Gateway.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GatewayListener {
    /// Its name in the Gateway.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// What it speaks.
    pub protocol: ListenerProtocol,
    /// The port that it listens on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
}

/// What a listener of a Gateway speaks.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum ListenerProtocol {
    /// Plain HTTP.
    #[default]
    HTTP,
    /// HTTP over TLS that the gateway terminates.
    HTTPS,
    /// TLS that the gateway passes through by host name.
    TLS,
    /// Raw TCP: one endpoint for each listener.
    TCP,
    /// Raw UDP: one endpoint for each listener.
    UDP,
}

/// A store of secret values in the data plane.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretStoreRef {
    /// Name of the store.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Kind of the store.
    #[serde(default)]
    pub kind: SecretStoreKind,
}

/// How secret values get into a data plane.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum SecretStoreKind {
    /// External Secrets Operator, one store for all namespaces.
    #[default]
    ClusterSecretStore,
    /// External Secrets Operator, a store in the cell's namespace.
    SecretStore,
    /// Secrets Store CSI driver.
    SecretProviderClass,
}

/// What is known of a data plane.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DataPlaneStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Kubernetes version of the (primary) cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// What the (primary) cluster was found to be able to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Features>,
    /// When the (primary) cluster last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// The clusters, each on its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub clusters: Vec<ClusterStatus>,
}
