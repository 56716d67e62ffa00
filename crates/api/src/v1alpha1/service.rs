//! Services: components that answer requests.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, EndpointType, ExposeLevel, Overrides, default_name};

/// How a service is run and exposed.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Service",
    namespaced,
    status = "ServiceStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "csvc",
    category = "choreo",
    doc = "The typed part of a component of type Service: the workload that it runs, the class that it is run by, and the APIs that it exposes beyond its cell.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workloadName"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className")
)]
pub struct ServiceSpec {
    /// The component that is a service.
    #[x_kube(validation = crate::schema::immutable("the owner of a service"))]
    pub owner: ComponentOwner,
    /// Name of the workload that is run.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub workload_name: String,
    /// Name of the ServiceClass.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub class_name: String,
    /// What is changed in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// The APIs that are exposed, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub apis: BTreeMap<String, ServiceApi>,
}

/// An API of a service.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.rest), has(self.http), has(self.grpc)].filter(given, given).size() <= 1")
    .message("give at most one of rest, http and grpc"))]
pub struct ServiceApi {
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
}

impl ServiceApi {
    /// What is exposed, under whichever name the manifest says it.
    pub fn exposure(&self) -> Option<&ApiExposure> {
        self.rest.as_ref().or(self.http.as_ref()).or(self.grpc.as_ref())
    }

    /// From where the API can be reached; from within the project if the manifest does not say.
    pub fn expose_levels(&self) -> Vec<ExposeLevel> {
        let mut levels = vec![ExposeLevel::Project];
        levels.extend(
            self.exposure()
                .into_iter()
                .flat_map(|exposure| exposure.expose_levels.iter().copied()),
        );
        levels.sort_unstable();
        levels.dedup();
        levels
    }
}

/// What of a component is exposed, and to whom.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ApiExposure {
    /// What answers the requests.
    pub backend: HttpBackend,
    /// From where it can be reached. Without any, only from within the project: nothing is exposed by omission.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub expose_levels: Vec<ExposeLevel>,
}

/// A port of the component, and a path.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct HttpBackend {
    /// The port that the component listens on.
    #[schemars(range(min = 1, max = 65535))]
    pub port: i32,
    /// Path in front of every request path that the component serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = "^(/[^\\s?#]*)?$"))]
    pub base_path: Option<String>,
}

/// What is known of a service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
