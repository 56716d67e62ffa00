//! Web applications: components that browsers talk to.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, ExposeLevel, Overrides, default_name};

/// How a web application is run and exposed.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "WebApplication",
    namespaced,
    status = "WebApplicationStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "webapp",
    category = "choreo",
    doc = "The typed part of a component of type WebApplication: the workload that it runs and the class that it is run by. A web application has a host of its own.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Workload", type_ = "string", json_path = ".spec.workloadName"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className")
)]
pub struct WebApplicationSpec {
    /// The component that is a web application.
    #[x_kube(validation = crate::schema::immutable("the owner of a web application"))]
    pub owner: ComponentOwner,
    /// Name of the workload that is run.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub workload_name: String,
    /// Name of the WebApplicationClass.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub class_name: String,
    /// What is changed in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// From where it can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub expose_levels: Vec<ExposeLevel>,
}

/// What is known of a web application.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WebApplicationStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
