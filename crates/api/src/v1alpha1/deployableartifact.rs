//! Deployable artifacts: a component frozen at one moment; the thing that is promoted.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::apiclass::APIClassSpec;
use super::application::Application;
use super::common::{ComponentOwner, Condition, DEFAULT_TRACK, ExposeLevel, Overrides};
use super::endpoint::EndpointSpec;
use super::service::ServiceApi;
use super::task::TaskSettings;
use super::workload::WorkloadTemplate;

/// What an artifact consists of.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "DeployableArtifact",
    namespaced,
    status = "DeployableArtifactStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "artifact",
    category = "choreo",
    doc = "A component as it was at one moment, together with the class or type that it used: its workload, its typed part and every policy, under the digest of their content. It never changes, and it is what moves from environment to environment.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Track", type_ = "string", json_path = ".spec.track"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest", priority = 1)
)]
#[x_kube(validation = crate::schema::immutable("an artifact"))]
pub struct DeployableArtifactSpec {
    /// The component that was frozen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ComponentOwner>,
    /// The track that it belongs to; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Digest of the frozen content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 71), regex(pattern = crate::schema::DIGEST))]
    pub digest: Option<String>,
    /// Type of the component.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub type_: Option<String>,
    /// The workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadTemplate>,
    /// The typed part, of a service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FrozenService>,
    /// The typed part, of a web application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_application: Option<FrozenWebApplication>,
    /// The typed part, of a scheduled task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_task: Option<FrozenScheduledTask>,
    /// The typed part, of an API in front of something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<FrozenApi>,
    /// The custom part, of a component whose type the platform team defines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<FrozenCustom>,
    /// The traits that the component uses, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub traits: Vec<FrozenTrait>,
    /// The class, or component type, that it is run by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<FrozenClass>,
    /// The API classes that guard its APIs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub api_classes: BTreeMap<String, Arc<APIClassSpec>>,
    /// What the artifact was made of, in the form of the pinned release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_artifact: Option<TargetArtifact>,
    /// How it is configured, in the form of the pinned release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<ArtifactConfiguration>,
}

impl DeployableArtifactSpec {
    /// The track that the artifact belongs to.
    pub fn track(&self) -> &str {
        self.track.as_deref().unwrap_or(DEFAULT_TRACK)
    }
}

/// The typed part of a service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenService {
    /// Its APIs, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub apis: BTreeMap<String, ServiceApi>,
    /// What it changes in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// The typed part of a web application.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenWebApplication {
    /// From where it can be reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub expose_levels: Vec<ExposeLevel>,
    /// What it changes in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// The typed part of a scheduled task.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenScheduledTask {
    /// When it runs; the class's schedule if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub schedule: Option<String>,
    /// Time zone of the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub time_zone: Option<String>,
    /// How its runs are treated.
    #[serde(flatten)]
    pub settings: TaskSettings,
    /// What it changes in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// The typed part of an API in front of something else.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenApi {
    /// Its API, as a service would declare it.
    pub api: ServiceApi,
    /// Address that requests are forwarded to, if that is not a workload of the component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub target_url: Option<String>,
    /// Component of the same project that requests are forwarded to, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub target_component: Option<String>,
    /// Endpoint of that component, if it has more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub target_endpoint: Option<String>,
    /// What it changes in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// The custom part of a component whose type the platform team defines.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenCustom {
    /// Parameters for the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
}

/// A trait as it was.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenTrait {
    /// Name of the Trait.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Name of this use of it.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub instance_name: String,
    /// Parameters of this use of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
    /// The spec of the Trait.
    #[schemars(schema_with = "crate::schema::object")]
    pub spec: serde_json::Value,
}

/// A class or component type as it was.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FrozenClass {
    /// Kind: `ServiceClass`, `WebApplicationClass`, `ScheduledTaskClass` or `ComponentType`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the class.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// The class's spec.
    #[schemars(schema_with = "crate::schema::object")]
    pub spec: serde_json::Value,
}

/// What an artifact was made of, in the form of the pinned release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TargetArtifact {
    /// A build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_build_ref: Option<FromBuildRef>,
    /// An image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_image_ref: Option<FromImageRef>,
}

/// A build that made an artifact.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FromBuildRef {
    /// Name of the Build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// Hash of the commit, if the build is to be found by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub git_revision: Option<String>,
}

/// An image that is an artifact.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct FromImageRef {
    /// Tag of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub tag: Option<String>,
    /// Whether the tag need not be a version.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skip_version_validation: bool,
}

/// How an artifact is configured, in the form of the pinned release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactConfiguration {
    /// The endpoints that it offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub endpoint_templates: Vec<EndpointTemplate>,
    /// What it needs. Reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub dependencies: Option<serde_json::Value>,
    /// How it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application: Option<Application>,
}

/// An endpoint of an artifact, in the form of the pinned release.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTemplate {
    /// Name, labels and annotations of the endpoint.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::object")]
    pub metadata: serde_json::Value,
    /// The endpoint.
    pub spec: EndpointSpec,
}

/// What is known of an artifact.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeployableArtifactStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
