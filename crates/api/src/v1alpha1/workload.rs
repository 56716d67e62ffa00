//! Workloads: the runtime contract of a component.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{
    ComponentOwner, Condition, ContainerResources, DEFAULT_TRACK, EndpointType, EnvFromSource, EnvVar,
    FileMount, Probes, Visibility,
};

/// How a component runs.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Workload",
    namespaced,
    status = "WorkloadStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "wl",
    category = "choreo",
    doc = "How a component runs: its containers, the endpoints that it offers and the connections that it needs. Usually written by the component's build, or kept next to its source.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Track", type_ = "string", json_path = ".spec.track", priority = 1)
)]
pub struct WorkloadSpec {
    /// The component that runs like this.
    #[x_kube(validation = crate::schema::immutable("the owner of a workload"))]
    pub owner: ComponentOwner,
    /// The track that this workload belongs to; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// The contract itself.
    #[serde(flatten)]
    pub template: WorkloadTemplate,
}

impl WorkloadSpec {
    /// The track that this workload belongs to.
    pub fn track(&self) -> &str {
        self.track.as_deref().unwrap_or(DEFAULT_TRACK)
    }
}

/// The runtime contract of a component, whoever it belongs to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadTemplate {
    /// The containers, by name. The one named `main` is the component itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub containers: BTreeMap<String, Container>,
    /// Containers that run before the others, one after the other and in this order. One whose `restartPolicy` is
    /// `Always` is a sidecar: it starts in its turn, stays, and does not keep a task from ending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub init_containers: Vec<InitContainer>,
    /// Names of Secrets in the cell that hold credentials for image registries, beside that of the data plane's own
    /// registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN)), extend("x-kubernetes-list-type" = "set"))]
    pub image_pull_secrets: Vec<String>,
    /// What the component offers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub endpoints: BTreeMap<String, WorkloadEndpoint>,
    /// What the component needs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub connections: BTreeMap<String, Connection>,
}

impl WorkloadTemplate {
    /// All containers with the field that they are in and their name: those that run before the others come last.
    pub fn all_containers(&self) -> impl Iterator<Item = (&'static str, &str, &Container)> {
        let own = self
            .containers
            .iter()
            .map(|(name, container)| ("containers", name.as_str(), container));
        let init = self
            .init_containers
            .iter()
            .map(|init| ("initContainers", init.name.as_str(), &init.container));
        own.chain(init)
    }
}

/// A container that runs before the others.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct InitContainer {
    /// Name of the container, unique among all containers of the workload.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// `Always` makes it a sidecar. Without it, the container must end before the next one starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<InitRestartPolicy>,
    /// The container itself.
    #[serde(flatten)]
    pub container: Container,
}

/// What becomes of an init container that ends.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum InitRestartPolicy {
    /// It is started again: it is a sidecar.
    #[default]
    Always,
}

/// Name of the container that is the component itself.
pub const MAIN_CONTAINER: &str = "main";

/// A container of a workload.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Reference to the image, best by digest.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Command; the image's own if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"]))]
    pub env: Vec<EnvVar>,
    /// Sources of many environment variables at once. Later ones win, `env` wins over all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvFromSource>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub file_mounts: Vec<FileMount>,
    /// What is set aside for the container, and what it may use at most.
    #[serde(default, skip_serializing_if = "ContainerResources::is_empty")]
    pub resources: ContainerResources,
    /// Health checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
}

/// Something that a component offers over the network.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadEndpoint {
    /// The protocol.
    #[serde(rename = "type")]
    pub type_: EndpointType,
    /// The port that the container listens on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// From where it can be reached, beyond what the typed part of the component says. Without either, only from
    /// within the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// Path in front of every request path that the component serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^(/[^\\s?#]*)?$"))]
    pub base_path: Option<String>,
    /// What the endpoint looks like to its callers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<EndpointSchema>,
}

/// A description of an API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSchema {
    /// Language of the description, for instance `REST` (OpenAPI), `gRPC` (protocol buffers) or `GraphQL`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub type_: Option<String>,
    /// The description itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524288))]
    pub content: Option<String>,
}

/// Something that a component needs.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'api' || (has(self.params) && 'componentName' in self.params)")
    .message("params.componentName must name the component that an api connection leads to"))]
#[x_kube(validation = Rule::new("self.type != 'external' || (has(self.params) && ('url' in self.params || 'host' in self.params))")
    .message("params.url or params.host must say where an external connection leads to"))]
#[x_kube(validation = Rule::new("self.type != 'managed' || (has(self.params) && 'resourceRef' in self.params)")
    .message("params.resourceRef must name the managed resource that the connection leads to"))]
pub struct Connection {
    /// What the connection leads to.
    #[serde(rename = "type")]
    pub type_: ConnectionType,
    /// Where it leads. For `api`: `componentName`, `endpoint` and, for another project, `projectName`. For
    /// `external`: `url`, or `host` and `port`. For `managed`: `resourceRef`, and `resourceType` if the resource is
    /// not declared yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub params: BTreeMap<String, String>,
    /// How the component is told about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<Injection>,
    /// How calls over it behave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<ConnectionPolicy>,
}

/// What a connection leads to.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionType {
    /// An endpoint of another component.
    #[default]
    Api,
    /// A host outside the platform.
    External,
    /// A resource that the platform manages, such as a database.
    Managed,
}

/// How a component is told about a connection.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Injection {
    /// Environment variables.
    #[serde(default)]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub env: Vec<InjectedVar>,
}

/// An environment variable made of a connection.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct InjectedVar {
    /// Name of the variable.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::ENV_NAME))]
    pub name: String,
    /// Its value, with variables in double braces: `{{ .url }}`, `{{ .scheme }}`, `{{ .host }}`, `{{ .port }}`,
    /// `{{ .basePath }}`, `{{ .uri }}`, or an output of the managed resource.
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// How calls over a connection behave.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionPolicy {
    /// How long a call may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub timeout: Option<String>,
    /// How failed calls are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<Retries>,
    /// When calls are no longer tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit_breaker: Option<CircuitBreaker>,
}

/// How failed calls are repeated.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// How often.
    #[schemars(range(min = 0, max = 10))]
    pub attempts: i32,
    /// How long one try may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub per_try_timeout: Option<String>,
}

/// When calls are no longer tried: limits on what is under way at the same time.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct CircuitBreaker {
    /// Connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<i32>,
    /// Requests that wait for a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_pending_requests: Option<i32>,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_parallel_requests: Option<i32>,
    /// Repeated requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_parallel_retries: Option<i32>,
}

/// What is known of a workload.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
