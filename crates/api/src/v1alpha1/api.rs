//! APIs: doors to something that answers requests, with a class that guards them.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, EndpointType, ExposeLevel, Overrides, default_name};
use super::service::{ApiExposure, ServiceApi};

/// What an API exposes.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "API",
    namespaced,
    status = "APIStatus",
    derive = "PartialEq",
    derive = "Default",
    category = "choreo",
    doc = "The typed part of a component of type API: a door, with an APIClass that guards it, to a workload of the component or to a server outside the platform.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className"),
    printcolumn(name = "Address", type_ = "string", json_path = ".status.address")
)]
#[x_kube(validation = Rule::new("[has(self.rest), has(self.http), has(self.grpc)].filter(given, given).size() <= 1")
    .message("give at most one of rest, http and grpc"))]
#[x_kube(validation = Rule::new("!(has(self.workloadName) && has(self.target))")
    .message("give either workloadName or target, not both"))]
pub struct APISpec {
    /// The component that is an API.
    #[x_kube(validation = crate::schema::immutable("the owner of an API"))]
    pub owner: ComponentOwner,
    /// Name of the environment that the API is limited to; every environment if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub environment_name: Option<String>,
    /// Name of the workload that answers the requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub workload_name: Option<String>,
    /// What else answers the requests: a server outside the platform, or another component of the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ApiTarget>,
    /// Name of the APIClass that guards it.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub class_name: String,
    /// The protocol.
    #[serde(rename = "type")]
    pub type_: EndpointType,
    /// What is exposed, for an API of type REST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<ApiExposure>,
    /// What is exposed, for an API of type HTTP, GraphQL or Websocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<ApiExposure>,
    /// What is exposed, for an API of type gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc: Option<ApiExposure>,
    /// What is changed in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

impl APISpec {
    /// The API as a service would declare it.
    pub fn as_service_api(&self) -> ServiceApi {
        ServiceApi {
            class_name: self.class_name.clone(),
            type_: self.type_,
            rest: self.rest.clone(),
            http: self.http.clone(),
            grpc: self.grpc.clone(),
        }
    }

    /// From where the API can be reached; from within the project if the manifest does not say.
    pub fn expose_levels(&self) -> Vec<ExposeLevel> {
        self.as_service_api().expose_levels()
    }
}

/// What an API without a workload stands in front of.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.url) != has(self.componentName)")
    .message("exactly one of url and componentName must be given"))]
pub struct ApiTarget {
    /// Address of a server outside the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: Option<String>,
    /// Name of another component of the same project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub component_name: Option<String>,
    /// Name of that component's endpoint, if it has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub endpoint: Option<String>,
}

/// What is known of an API.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct APIStatus {
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
}
