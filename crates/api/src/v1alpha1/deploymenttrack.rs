//! Deployment tracks: parallel lines of a component, such as API versions or branches.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition};

/// What a track is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "DeploymentTrack",
    namespaced,
    status = "DeploymentTrackStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "deptrack",
    shortname = "deptracks",
    category = "choreo",
    doc = "A line of a component that is built and deployed beside the others: an API version, a branch, a feature. The track default exists without an object.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "API-Version", type_ = "string", json_path = ".spec.apiVersion")
)]
pub struct DeploymentTrackSpec {
    /// The component that the track belongs to. If absent, the labels `openchoreo.dev/project` and
    /// `openchoreo.dev/component` say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ComponentOwner>,
    /// Name of the track. If absent, the label `openchoreo.dev/name` says it, or else the object's own name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Version of the API that this track offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub api_version: Option<String>,
    /// Whether a new artifact of this track is deployed to the pipeline's first environment on its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_deploy: bool,
    /// How this track is built, where that differs from the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_template_spec: Option<BuildTemplateSpec>,
}

/// How a track is built.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildTemplateSpec {
    /// Branch that is built.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub branch: String,
    /// Folder of the component in the repository.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub path: String,
    /// How it is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_configuration: Option<BuildConfiguration>,
}

/// A way of building.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.docker) && has(self.buildpack))")
    .message("give either docker or buildpack, not both"))]
pub struct BuildConfiguration {
    /// With a Dockerfile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub docker: Option<DockerBuild>,
    /// With a buildpack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buildpack: Option<BuildpackBuild>,
}

/// A build with a Dockerfile.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DockerBuild {
    /// Folder that the build sees.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub context: String,
    /// Path of the Dockerfile.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub dockerfile_path: String,
}

/// A build with a buildpack.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildpackBuild {
    /// Name of the buildpack, for instance `Go`, `Node.js` or `React`.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Version of the language.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub version: Option<String>,
}

/// What is known of a track.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentTrackStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
