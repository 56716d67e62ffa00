//! Builds: from source to image.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, Parameter};

/// What a build does.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Build",
    namespaced,
    status = "BuildStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "bld",
    category = "choreo",
    doc = "One run of a build: it checks out a commit, makes an image of it in the build plane, and writes the image into the component's workload.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Template", type_ = "string", json_path = ".spec.templateRef.name"),
    printcolumn(name = "Commit", type_ = "string", json_path = ".status.commit"),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.imageStatus.image",
        priority = 1
    )
)]
#[x_kube(validation = crate::schema::immutable("a build"))]
pub struct BuildSpec {
    /// The component that is built.
    pub owner: ComponentOwner,
    /// Where the source is.
    pub repository: Repository,
    /// How it is built.
    pub template_ref: TemplateRef,
}

/// Where the source of a build is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// Address of the Git repository.
    #[schemars(length(min = 1, max = 2048))]
    pub url: String,
    /// What is built.
    #[serde(default)]
    pub revision: Revision,
    /// Folder of the component in the repository.
    #[serde(default = "super::component::root_path")]
    #[schemars(length(max = 1024))]
    pub app_path: String,
    /// Name of a Secret with the credentials for the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

/// What is built. A commit wins over a branch.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Revision {
    /// Branch whose newest commit is built; the repository's default branch if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub branch: String,
    /// Hash of the commit that is built.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64), regex(pattern = "^([0-9a-fA-F]{7,64})?$"))]
    pub commit: String,
}

/// A way of building.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// The engine that runs it; the build plane's own if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub engine: String,
    /// Name of the template, for instance `docker` or `google-cloud-buildpacks`.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Parameters of the template.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub parameters: Vec<Parameter>,
}

/// How a build goes.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The image that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_status: Option<BuiltImage>,
    /// Hash of the commit that was built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Name of the object that runs the build in the build plane.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Name of the workload that the image was written to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// When the build began to run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When the build ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
}

/// An image that a build made.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuiltImage {
    /// Reference to the image, by digest once it is known.
    pub image: String,
}
