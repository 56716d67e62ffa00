//! Types that several kinds share.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::conditions::{Condition, ConditionStatus};
pub use crate::quantity::Quantity;

pub use super::overrides::{ContainerOverride, Overrides};

/// The track that every component has without declaring one.
pub const DEFAULT_TRACK: &str = "default";

/// The class that is used when none is named.
pub const DEFAULT_CLASS: &str = "default";

pub(crate) fn default_name() -> String {
    "default".to_owned()
}

pub(crate) fn yes() -> bool {
    true
}

/// The project that something belongs to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProjectOwner {
    /// Name of the project, in the same namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub project_name: String,
}

/// The component that something belongs to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentOwner {
    /// Name of the project, in the same namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub project_name: String,
    /// Name of the component, in the same namespace.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub component_name: String,
}

/// The protocol that an endpoint speaks.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum EndpointType {
    /// Plain HTTP, for instance a web application.
    #[default]
    HTTP,
    /// A REST API.
    REST,
    /// A gRPC service.
    #[serde(rename = "gRPC")]
    GRPC,
    /// A GraphQL API.
    GraphQL,
    /// A WebSocket server.
    Websocket,
    /// Raw TCP.
    TCP,
    /// TLS that the component terminates itself; callers find it by the host name in their TLS handshake.
    TLS,
    /// Raw UDP.
    UDP,
}

impl EndpointType {
    /// Whether requests can be routed by host and path at an HTTP gateway.
    pub fn is_http(self) -> bool {
        !matches!(self, Self::TCP | Self::TLS | Self::UDP)
    }

    /// The URL scheme of the endpoint inside the data plane.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::HTTP | Self::REST | Self::GraphQL => "http",
            Self::GRPC => "grpc",
            Self::Websocket => "ws",
            Self::TCP => "tcp",
            Self::TLS => "tls",
            Self::UDP => "udp",
        }
    }
}

/// From where an endpoint can be reached.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum ExposeLevel {
    /// From the components of the same project and environment.
    #[default]
    Project,
    /// From other projects of the organization, through its gateway.
    Organization,
    /// From the internet, through the public gateway.
    Public,
}

/// The same scale as `ExposeLevel`, in the spelling that workloads and endpoints use.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Inside the cell only.
    #[default]
    Project,
    /// Inside the organization.
    Organization,
    /// From the internet.
    Public,
}

impl From<Visibility> for ExposeLevel {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Project => Self::Project,
            Visibility::Organization => Self::Organization,
            Visibility::Public => Self::Public,
        }
    }
}

impl From<ExposeLevel> for Visibility {
    fn from(level: ExposeLevel) -> Self {
        match level {
            ExposeLevel::Project => Self::Project,
            ExposeLevel::Organization => Self::Organization,
            ExposeLevel::Public => Self::Public,
        }
    }
}

/// What should become of the objects in the data plane.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum ReleaseState {
    /// They run.
    #[default]
    Active,
    /// They stay, scaled to nothing: no pods, no scheduled runs.
    Suspend,
    /// They are removed.
    Undeploy,
}

/// A reference to one entry of a configuration group.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationGroupKeyRef {
    /// Name of the configuration group, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Key of the entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::CONFIG_KEY))]
    pub key: String,
}

/// A reference to a whole configuration group.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationGroupRef {
    /// Name of the configuration group, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
}

/// A reference to one entry of a Secret in the cell's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Key in the Secret's data.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::CONFIG_KEY))]
    pub key: String,
}

/// A reference to a whole Secret in the cell's namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
}

/// Where a value comes from, if it is not written in place.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configurationGroupRef) != has(self.secretRef)")
    .message("exactly one of configurationGroupRef and secretRef must be given"))]
pub struct ValueSource {
    /// An entry of a configuration group: its value in the environment that the component is deployed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_group_ref: Option<ConfigurationGroupKeyRef>,
    /// An entry of a Secret that exists in the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretKeyRef>,
}

/// An environment variable of a container.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.value) && has(self.valueFrom))")
    .message("give either value or valueFrom, not both"))]
pub struct EnvVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::ENV_NAME))]
    pub key: String,
    /// The value itself. A variable with neither `value` nor `valueFrom` is set to the empty string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32768))]
    pub value: Option<String>,
    /// Takes the value from a configuration group or a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// A source of many environment variables.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configurationGroupRef) != has(self.secretRef)")
    .message("exactly one of configurationGroupRef and secretRef must be given"))]
pub struct EnvFromSource {
    /// Every entry of a configuration group becomes a variable of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_group_ref: Option<ConfigurationGroupRef>,
    /// Every entry of a Secret becomes a variable of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
}

/// A file in a container.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.valueFrom)")
    .message("exactly one of value and valueFrom must be given"))]
pub struct FileMount {
    /// Absolute path of the file in the container.
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/[^:]+$"))]
    pub mount_path: String,
    /// The content itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 262144))]
    pub value: Option<String>,
    /// Takes the content from a configuration group or a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<ValueSource>,
}

/// Requests and limits of a container, by resource name (`cpu`, `memory`, `ephemeral-storage`, ...).
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ContainerResources {
    /// What is set aside for the container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub requests: BTreeMap<String, Quantity>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub limits: BTreeMap<String, Quantity>,
}

impl ContainerResources {
    /// Whether nothing is requested and nothing limited.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty() && self.limits.is_empty()
    }
}

/// Health checks of a container, each a Kubernetes probe.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Probes {
    /// Decides whether the container receives traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub readiness_probe: Option<serde_json::Value>,
    /// Decides whether the container is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub liveness_probe: Option<serde_json::Value>,
    /// Holds back the other probes while the container starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub startup_probe: Option<serde_json::Value>,
}

/// How the number of replicas follows the load.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas")
    .message("minReplicas must not be greater than maxReplicas"))]
pub struct Autoscaling {
    /// Fewest replicas; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: Option<i32>,
    /// Most replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: Option<i32>,
    /// Average CPU use, in percent of what is requested, above which replicas are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub cpu_threshold: Option<i32>,
    /// Average memory use, in percent of what is requested, above which replicas are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub memory_threshold: Option<i32>,
}

/// How many replicas may be missing while nodes are drained. At most one of the two.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.minAvailable) && has(self.maxUnavailable))")
    .message("give either minAvailable or maxUnavailable, not both"))]
pub struct Disruption {
    /// At least this many (or this percentage) stay available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_available: Option<k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>,
    /// At most this many (or this percentage) may be unavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>,
}

/// Ceilings on what may be used in total.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ResourceQuotas {
    /// CPU cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Storage requested by volume claims, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Quantity>,
    /// Number of pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<Quantity>,
}

impl ResourceQuotas {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.cpu.is_none() && self.memory.is_none() && self.storage.is_none() && self.pods.is_none()
    }
}

/// Traffic that is allowed beyond what components declare.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum AllowedCommunication {
    /// Between the cells of the organization.
    #[default]
    Internal,
    /// To any address outside the organization.
    External,
}

/// The baseline of network policies. What components declare is opened on top of it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicyBaseline {
    /// Whether everything that is not declared is denied; true if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_deny: Option<bool>,
    /// Exceptions from the default denial.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub allowed_communication: Vec<AllowedCommunication>,
}

/// A key and its value.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Parameter {
    /// Name of the parameter.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Value of the parameter.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// How to reach an endpoint from one place.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAccess {
    /// Host name.
    pub host: String,
    /// Port.
    pub port: i32,
    /// URL scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// Path in front of every request path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
    /// The whole address in one string.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
}

/// The addresses of one endpoint, by the level at which it is exposed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAddresses {
    /// Name of the endpoint.
    pub name: String,
    /// Protocol of the endpoint.
    #[serde(rename = "type")]
    pub type_: EndpointType,
    /// From inside the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<EndpointAccess>,
    /// From inside the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<EndpointAccess>,
    /// From the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<EndpointAccess>,
}

/// A reference to an object of a known kind in the same namespace.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TypedRef {
    /// Kind of the object.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
}
