//! Projects: bounded contexts, one cell per environment.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, default_name};

/// What a project is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Project",
    namespaced,
    status = "ProjectStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "proj",
    shortname = "projs",
    category = "choreo",
    doc = "An application, or one bounded context of it: a group of components that are deployed side by side. In each environment of its pipeline it is one cell, a namespace that nothing enters or leaves undeclared.",
    printcolumn(name = "Pipeline", type_ = "string", json_path = ".spec.deploymentPipelineRef"),
    printcolumn(name = "Components", type_ = "integer", json_path = ".status.componentCount"),
    validation = crate::schema::label_name()
)]
pub struct ProjectSpec {
    /// Name of the deployment pipeline that its components are promoted along.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub deployment_pipeline_ref: String,
    /// What the project is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,
    /// The components of a monorepo, and where each of them lies in it. Informs builds; the components themselves are
    /// objects of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub components: Vec<ProjectComponent>,
}

/// A component of a monorepo.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProjectComponent {
    /// Name of the component.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// Folder of the component's source, relative to the root of the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub source: Option<String>,
}

/// What was made of a project.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ProjectStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of components that belong to the project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component_count: Option<i32>,
    /// The project's cell in each environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["environment"]))]
    pub cells: Vec<CellStatus>,
}

/// A cell: the project in one environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct CellStatus {
    /// Name of the environment.
    pub environment: String,
    /// Namespace in the data plane.
    pub namespace: String,
    /// Name of the release that makes the cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Whether the cell is there.
    #[serde(default)]
    pub ready: bool,
}
