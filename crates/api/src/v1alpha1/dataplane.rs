//! Data planes: the clusters that workloads run in.

use std::collections::BTreeMap;

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
    /// How objects of further kinds tell whether they are well, or of known kinds instead of what the platform knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["group", "kind"]))]
    pub health_rules: Vec<HealthRules>,
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
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.addressListener) || has(self.listeners) && self.listeners.exists(l, l.name == self.addressListener && l.protocol in ['HTTP', 'HTTPS'])")
    .message("addressListener must name one of listeners, of protocol HTTP or HTTPS"))]
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
    /// Name of the listener, of protocol HTTP or HTTPS, that the addresses of endpoints name. If absent: the first one of HTTPS, else
    /// the first one of HTTP, and HTTPS on port 443 where none is listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub address_listener: Option<String>,
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
    /// For the Secrets Store CSI driver: what gets the values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<SecretProvider>,
}

/// What gets secret values for the Secrets Store CSI driver.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretProvider {
    /// Which one.
    pub name: SecretProviderName,
    /// Its parameters, such as `vaultAddress` and `roleName`; the platform adds which values to get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub parameters: BTreeMap<String, String>,
}

/// A provider of the Secrets Store CSI driver.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum SecretProviderName {
    /// HashiCorp Vault. A key is `path#field`.
    #[default]
    Vault,
    /// AWS Secrets Manager. A key is the secret's name or ARN, `#field` after it for a field of a JSON value.
    Aws,
    /// Azure Key Vault. A key is the secret's name.
    Azure,
    /// Google Secret Manager. A key is the resource name of a version.
    Gcp,
}

/// How objects of one kind tell whether they are well.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct HealthRules {
    /// API group of the kind; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// The kind, or `*Suffix` for every kind of the group whose name ends so.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^\\*?[A-Za-z0-9]+$"))]
    pub kind: String,
    /// Where the kind keeps its conditions; `status.conditions` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub conditions: Option<String>,
    /// The rules; the first that holds decides. When none does, the standard conditions decide.
    #[schemars(length(min = 1, max = 32))]
    pub rules: Vec<HealthRule>,
}

/// What it means when some tests hold.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct HealthRule {
    /// The tests, which must all hold. Without any, the rule always holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub when: Vec<HealthTest>,
    /// How the object is then.
    pub state: HealthState,
    /// One word; that of the condition which was tested if absent. `{path|default}` stands for a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub reason: Option<String>,
    /// One line; that of the condition which was tested if absent. `{path|default}` stands for a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// A test of an object: of a condition, or of the value at a path such as `status.phase` or `spec.replicas|1`, with a
/// default after the bar.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
// Rules cannot name `is`, which is of any type: kube-apiserver does not compile those that do.
#[x_kube(validation = Rule::new("[has(self.stale), has(self.condition), has(self.path)].filter(given, given).size() == 1")
    .message("give exactly one of stale, condition and path"))]
#[x_kube(validation = Rule::new("[has(self.oneOf), has(self.present), has(self.less), has(self.differs)].filter(given, given).size() <= (has(self.path) ? 1 : 0)")
    .message("is, oneOf, present, less and differs go with path, one of them"))]
#[x_kube(validation = Rule::new("has(self.condition) == has(self.status)")
    .message("condition and status go together"))]
pub struct HealthTest {
    /// Whether the status is behind the newest generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<bool>,
    /// A condition of this type has the status, and the reason if one is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub condition: Option<String>,
    /// The status of the condition: `True`, `False` or `Unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub status: Option<String>,
    /// The reason of the condition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub reason: Option<String>,
    /// Path of a value; `*` stands for all items of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub path: Option<String>,
    /// The value equals this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any")]
    pub is: Option<serde_json::Value>,
    /// One of the values is among these texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub one_of: Option<Vec<String>>,
    /// Whether there is a value at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<bool>,
    /// The number is less than that at this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub less: Option<String>,
    /// The value differs from that at this path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub differs: Option<String>,
}

/// How an object can be.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum HealthState {
    /// It does what it should.
    #[default]
    Healthy,
    /// It is stopped on purpose.
    Suspended,
    /// It is on its way.
    Progressing,
    /// Nobody can tell.
    Unknown,
    /// It failed, or it serves worse than it should.
    Degraded,
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
