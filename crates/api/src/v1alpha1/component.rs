//! Components: what developers deploy.

use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::build::TemplateRef;
use super::common::{Condition, ProjectOwner, yes};

/// What a component is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Component",
    namespaced,
    status = "ComponentStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "comp",
    shortname = "comps",
    category = "choreo",
    doc = "A deployable part of a project: a service, a web application, a task or something of a type that the platform team defines. How it runs is said by its Workload, how it is exposed by the object of its type (Service, WebApplication, ...) of the same name.",
    printcolumn(name = "Project", type_ = "string", json_path = ".spec.owner.projectName"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Artifact", type_ = "string", json_path = ".status.latestArtifact"),
    printcolumn(name = "Build", type_ = "string", json_path = ".status.latestBuild", priority = 1),
    validation = crate::schema::service_name()
)]
pub struct ComponentSpec {
    /// The project that the component belongs to.
    #[x_kube(validation = crate::schema::immutable("the owner of a component"))]
    pub owner: ProjectOwner,
    /// What kind of thing it is: `Service`, `WebApplication`, `ScheduledTask`, `ManualTask`, `API`, another built-in
    /// type, or the name of a ComponentType.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = crate::schema::immutable("the type of a component"))]
    pub type_: String,
    /// Parameters for a ComponentType, as its schema describes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
    /// Traits that add to what the component's type makes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["instanceName"]))]
    pub traits: Vec<ComponentTrait>,
    /// How the component is built from source. Without it, its workload names a ready image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<ComponentBuild>,
    /// Whether a new commit starts a build.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_build: bool,
    /// Whether a new artifact is deployed to the pipeline's first environment on its own.
    #[serde(default = "yes")]
    pub auto_deploy: bool,
}

impl ComponentSpec {
    /// The component's type, told apart by what makes its objects.
    pub fn kind(&self) -> ComponentKind<'_> {
        ComponentKind::from_name(&self.type_)
    }

    /// How the component is built, if it is: a build without a repository address is none.
    pub fn build(&self) -> Option<&ComponentBuild> {
        self.build
            .as_ref()
            .filter(|build| !build.repository.url.is_empty())
    }
}

/// The type of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ComponentKind<'a> {
    /// A backend service.
    Service,
    /// A web application.
    WebApplication,
    /// A task that runs on a schedule.
    ScheduledTask,
    /// A task that runs when somebody starts it.
    ManualTask,
    /// An API in front of something that runs elsewhere.
    Api,
    /// A name from the pinned release that has no kind of its own: `Webhook`, `TestRunner` or `EventHandler`.
    Reserved(&'a str),
    /// A type that the platform team defines.
    Custom(&'a str),
}

impl<'a> ComponentKind<'a> {
    /// The type that a name stands for.
    pub fn from_name(name: &'a str) -> Self {
        match name {
            "Service" => Self::Service,
            "WebApplication" => Self::WebApplication,
            "ScheduledTask" => Self::ScheduledTask,
            "ManualTask" => Self::ManualTask,
            "API" | "APIProxy" => Self::Api,
            "Webhook" | "TestRunner" | "EventHandler" => Self::Reserved(name),
            other => Self::Custom(other),
        }
    }

    /// The kind of the object that says how such a component is exposed, if there is one.
    pub fn typed_kind(self) -> Option<&'static str> {
        match self {
            Self::Service => Some("Service"),
            Self::WebApplication => Some("WebApplication"),
            Self::ScheduledTask | Self::ManualTask => Some("ScheduledTask"),
            Self::Api => Some("API"),
            Self::Reserved(_) | Self::Custom(_) => None,
        }
    }
}

impl fmt::Display for ComponentKind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Service => "Service",
            Self::WebApplication => "WebApplication",
            Self::ScheduledTask => "ScheduledTask",
            Self::ManualTask => "ManualTask",
            Self::Api => "API",
            Self::Reserved(name) | Self::Custom(name) => name,
        })
    }
}

/// A trait that a component uses.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentTrait {
    /// Name of the Trait.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Name of this use of it, unique in the component: a trait can be used more than once.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub instance_name: String,
    /// Parameters, as the trait's schema describes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
}

/// How a component is built from source.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentBuild {
    /// Where the source is.
    pub repository: BuildRepository,
    /// How it is built.
    pub template_ref: TemplateRef,
}

/// Where the source of a component is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildRepository {
    /// Address of the Git repository.
    #[schemars(length(max = 2048))]
    pub url: String,
    /// What is built.
    #[serde(default)]
    pub revision: BuildRevision,
    /// Folder of the component in the repository.
    #[serde(default = "root_path")]
    #[schemars(length(max = 1024))]
    pub app_path: String,
    /// Name of a Secret with the credentials for the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

pub(crate) fn root_path() -> String {
    "/".to_owned()
}

/// What is built of a repository.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct BuildRevision {
    /// Branch whose newest commit is built; the repository's default branch if absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub branch: String,
}

/// The state of a component, summed up.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Name of the newest build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_build: Option<String>,
    /// Name of the newest artifact of the default track.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_artifact: Option<String>,
    /// What is deployed where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["environment", "track"]))]
    pub environments: Vec<ComponentEnvironmentStatus>,
}

/// A component in one environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ComponentEnvironmentStatus {
    /// Name of the environment.
    pub environment: String,
    /// Track that is deployed.
    #[serde(default = "super::common::default_name")]
    pub track: String,
    /// Name of the binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Name of the artifact that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact: Option<String>,
    /// Number of the revision that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Whether it runs as it should.
    #[serde(default)]
    pub ready: bool,
    /// Why not, if not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Addresses that it can be reached at from outside the cell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
}
