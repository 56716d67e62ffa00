//! Clusters: what data planes and build planes say about the Kubernetes clusters behind them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The server address that means the cluster inside this very process.
pub const EMBEDDED_SCHEME: &str = "embedded://";

/// How to reach a cluster.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.server.startsWith('embedded://') || has(self.auth)")
    .message("auth must say how to sign in to the cluster"))]
pub struct KubernetesCluster {
    /// Address of the API server, for instance `https://10.0.0.1:6443`. `embedded://NAME` means a cluster inside the
    /// platform's own process, which needs neither `tls` nor `auth`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(https?|embedded)://[^\\s]+$"))]
    pub server: String,
    /// How the server's certificate is checked. Without it the system's certificate authorities are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClusterTls>,
    /// How to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<ClusterAuth>,
}

impl KubernetesCluster {
    /// Name of the cluster inside this process, if that is what the address means.
    pub fn embedded(&self) -> Option<&str> {
        self.server
            .strip_prefix(EMBEDDED_SCHEME)
            .map(|name| name.trim_end_matches('/'))
    }
}

/// How a cluster's certificate is checked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ClusterTls {
    /// The certificate authority that signed the server's certificate, in PEM form.
    pub ca: InlineOrSecret,
}

/// How to sign in to a cluster.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.mtls), has(self.bearerToken), has(self.kubeconfig)].filter(given, given).size() == 1")
    .message("exactly one of mtls, bearerToken and kubeconfig must be given"))]
pub struct ClusterAuth {
    /// With a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<MutualTls>,
    /// With a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<InlineOrSecret>,
    /// As the user of a kubeconfig's current context, who must have a token, or a certificate and a key, in the file itself:
    /// programs are not run and files are not read. Its certificate authority counts if `tls` is absent; the address is the one
    /// above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<InlineOrSecret>,
}

impl ClusterAuth {
    /// In how many ways it says to sign in.
    pub fn ways(&self) -> usize {
        usize::from(self.mtls.is_some())
            + usize::from(self.bearer_token.is_some())
            + usize::from(self.kubeconfig.is_some())
    }
}

/// A client certificate and its key.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MutualTls {
    /// The certificate, in PEM form.
    pub client_cert: InlineOrSecret,
    /// The certificate's private key, in PEM form.
    pub client_key: InlineOrSecret,
}

/// A value that is written in place or kept in a Secret of the same namespace.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.secretRef)")
    .message("exactly one of value and secretRef must be given"))]
pub struct InlineOrSecret {
    /// The value, base64-encoded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub value: Option<String>,
    /// Name of a Secret. It is read again whenever it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
    /// Key in the Secret. If absent, the usual one for the purpose: `ca.crt`, `tls.crt`, `tls.key`, `token` or
    /// `kubeconfig`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::CONFIG_KEY))]
    pub secret_key: Option<String>,
}

/// Where images come from.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Registry {
    /// Host, and if need be path, in front of image names, for instance `registry.example.com/acme`.
    #[schemars(length(min = 1, max = 512))]
    pub prefix: String,
    /// Name of a Secret of type `kubernetes.io/dockerconfigjson` with the credentials for pulling. It is copied from the
    /// organization's namespace into every cell, unless the cell has one of this name already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

/// Where logs, metrics and traces can be queried.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ObserverApi {
    /// Address of the API.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: String,
    /// How to sign in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<ObserverAuthentication>,
}

/// How to sign in to an observer.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ObserverAuthentication {
    /// With a user name and a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_auth: Option<BasicAuth>,
}

/// A user name and a password.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.password) && has(self.passwordSecretRef))")
    .message("give either password or passwordSecretRef, not both"))]
pub struct BasicAuth {
    /// User name.
    #[schemars(length(min = 1, max = 253))]
    pub username: String,
    /// Password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub password: Option<String>,
    /// Name of a Secret whose key `password` has the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub password_secret_ref: Option<String>,
}

/// What a cluster can do.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Features {
    /// Cilium's own network policies, with rules for hosts and requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cilium: Option<bool>,
    /// Kubernetes network policies are enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policy: Option<bool>,
    /// External Secrets Operator is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_secrets: Option<bool>,
    /// Pods can authenticate each other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<bool>,
}

/// One cluster of a data plane that has several.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.kubernetesCluster) && has(self.endpoint))")
    .message("give either kubernetesCluster or endpoint, not both"))]
pub struct DataPlaneCluster {
    /// Name of the cluster, unique in the data plane.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// Region that the cluster is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub region: Option<String>,
    /// Who runs the cluster, for instance `aws` or `self-managed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub provider: Option<String>,
    /// Whether this cluster decides about the health of what is deployed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub primary: bool,
    /// How to reach the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_cluster: Option<KubernetesCluster>,
    /// Address of the API server, if signing in needs nothing but what the platform has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^(https?|embedded)://[^\\s]+$"))]
    pub endpoint: Option<String>,
    /// What the cluster is made of. For the record: the platform does not create clusters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<ClusterShape>,
}

/// What a cluster is made of.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ClusterShape {
    /// Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,
    /// Groups of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub node_groups: Vec<NodeGroup>,
}

/// A group of like nodes.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minSize) || !has(self.maxSize) || self.minSize <= self.maxSize")
    .message("minSize must not be greater than maxSize"))]
pub struct NodeGroup {
    /// Name of the group.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Machine type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub instance_type: Option<String>,
    /// Fewest nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub min_size: Option<i32>,
    /// Most nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100000))]
    pub max_size: Option<i32>,
}

/// What is known of one cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Name of the cluster.
    pub name: String,
    /// Whether it answers.
    pub connected: bool,
    /// Its Kubernetes version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// Its identity: the UID of its namespace `kube-system`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What is wrong, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it last answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_contact_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}
