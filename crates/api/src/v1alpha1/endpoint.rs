//! Endpoints: what a component exposes in an environment, and at which addresses.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, EndpointType, ExposeLevel, Visibility};
pub use super::endpointpolicy::*;

/// What an endpoint is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Endpoint",
    namespaced,
    status = "EndpointStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "cep",
    category = "choreo",
    doc = "A network interface of a component. The platform makes one for each exposed endpoint and environment, with its addresses; one that is written by hand exposes a component in every environment.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Visibility", type_ = "string", json_path = ".spec.visibility"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address"),
    validation = crate::schema::immutable_optional_in_spec("environment"),
    validation = crate::schema::immutable_optional_in_spec("owner")
)]
pub struct EndpointSpec {
    /// The component. In an endpoint that is written by hand, `backendRef.componentRef` can name it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ComponentOwner>,
    /// Name of the environment; every environment if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub environment: Option<String>,
    /// The track; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Name of the endpoint in the component's workload, or of the API in its typed part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub endpoint_name: Option<String>,
    /// The protocol. If absent, the first of `protocols`, or else that of the workload's endpoint.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<EndpointType>,
    /// The protocols, if there is more than one on the same port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub protocols: Vec<EndpointType>,
    /// What answers the requests.
    pub backend_ref: BackendRef,
    /// From where it can be reached; from within the cell if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visibility: Option<Visibility>,
    /// From where it can be reached, if not from everywhere inside that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub expose_levels: Vec<ExposeLevel>,
    /// What is demanded of, and done with, requests at every level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub policies: Vec<EndpointPolicy>,
    /// From where it can be reached, with policies for each level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_visibilities: Option<NetworkVisibilities>,
}

impl EndpointSpec {
    /// The levels at which the endpoint is exposed, under whichever name the manifest says it.
    pub fn levels(&self) -> Vec<ExposeLevel> {
        let mut levels = vec![ExposeLevel::Project];
        levels.extend(self.visibility.map(ExposeLevel::from));
        levels.extend(self.expose_levels.iter().copied());
        if let Some(network) = &self.network_visibilities {
            if network.organization.as_ref().is_some_and(|level| level.enable) {
                levels.push(ExposeLevel::Organization);
            }
            if network.public.as_ref().is_some_and(|level| level.enable) {
                levels.push(ExposeLevel::Public);
            }
        }
        levels.sort_unstable();
        levels.dedup();
        levels
    }

    /// The protocol, if the manifest says one.
    pub fn endpoint_type(&self) -> Option<EndpointType> {
        self.type_.or_else(|| self.protocols.first().copied())
    }
}

/// What answers the requests of an endpoint.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.type) && self.type == 'target') || has(self.target)")
    .message("target must be given when type is target"))]
pub struct BackendRef {
    /// Which of the two it is.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub type_: Option<BackendType>,
    /// The component: its name, or an object with its `port` and, unless the owner says it, its `name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any")]
    pub component_ref: Option<ComponentRef>,
    /// The port that the component listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<i32>,
    /// A server outside the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<BackendTarget>,
    /// Path in front of every request path that the backend serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^(/[^\\s?#]*)?$"))]
    pub base_path: Option<String>,
}

impl BackendRef {
    /// Name of the component, if the reference says it.
    pub fn component_name(&self) -> Option<&str> {
        match self.component_ref.as_ref()? {
            ComponentRef::Name(name) => Some(name),
            ComponentRef::Detailed(component) => component.name.as_deref(),
        }
    }

    /// The port, wherever the reference says it.
    pub fn port(&self) -> Option<i32> {
        self.port.or(match self.component_ref.as_ref()? {
            ComponentRef::Name(_) => None,
            ComponentRef::Detailed(component) => component.port,
        })
    }
}

/// What can answer the requests of an endpoint.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "camelCase")]
pub enum BackendType {
    /// A component.
    #[default]
    ComponentRef,
    /// A server outside the platform.
    Target,
}

/// A component that answers requests, in either of the forms that manifests use.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged)]
pub enum ComponentRef {
    /// Its name.
    Name(String),
    /// Its name, its port, or both.
    Detailed(ComponentPort),
}

/// A port of a component.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentPort {
    /// Name of the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The port that it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<i32>,
}

/// A server outside the platform.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BackendTarget {
    /// Address of the server.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^[a-z][a-z0-9+.-]*://[^\\s]+$"))]
    pub url: String,
}

/// From where an endpoint can be reached, with policies for each level.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct NetworkVisibilities {
    /// From inside the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<VisibilityLevel>,
    /// From the internet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<VisibilityLevel>,
}

/// One level of visibility.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct VisibilityLevel {
    /// Whether the endpoint is exposed at this level.
    pub enable: bool,
    /// What is demanded of, and done with, requests at this level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub policies: Vec<EndpointPolicy>,
}

/// What became of an endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The address to use from outside, at the widest level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// All addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<EndpointAddress>,
    /// How it is doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<super::release::HealthStatus>,
}

/// An address of an endpoint.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointAddress {
    /// Name of the environment.
    pub environment: String,
    /// From where it works.
    pub level: ExposeLevel,
    /// The whole address.
    pub url: String,
    /// Host name.
    #[serde(default)]
    pub host: String,
    /// Port.
    #[serde(default)]
    pub port: i32,
    /// Path in front of every request path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<String>,
}
