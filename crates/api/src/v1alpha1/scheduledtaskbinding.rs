//! Bindings of scheduled tasks: which artifact runs in which environment.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, DEFAULT_TRACK, Overrides, ReleaseState, default_name};
use super::task::TaskRun;
use super::workload::WorkloadTemplate;

/// What of a scheduled task runs in one environment.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ScheduledTaskBinding",
    namespaced,
    status = "ScheduledTaskBindingStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "taskbind",
    category = "choreo",
    doc = "A scheduled task in one environment: the artifact that runs there and what is different there. Made by the platform for each environment that the component is promoted to; its overrides and its state may be changed by hand.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Artifact", type_ = "string", json_path = ".spec.artifactRef"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".status.revision"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".spec.releaseState",
        priority = 1
    )
)]
#[x_kube(validation = crate::schema::immutable_optional("track"))]
pub struct ScheduledTaskBindingSpec {
    /// The component that is deployed.
    #[x_kube(validation = crate::schema::immutable("the owner of a binding"))]
    pub owner: ComponentOwner,
    /// Name of the environment.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    #[x_kube(validation = crate::schema::immutable("the environment of a binding"))]
    pub environment: String,
    /// The track that is deployed; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// Name of the ScheduledTaskClass, for a binding that is written by hand. An artifact brings its own.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub class_name: String,
    /// Name of the DeployableArtifact that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub artifact_ref: Option<String>,
    /// What runs, for a binding that is written by hand. If there is an artifact, the artifact wins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_spec: Option<WorkloadTemplate>,
    /// Values for the `environmentConfigs` of the component's traits, by the name of the trait's use.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub trait_environment_configs: std::collections::BTreeMap<String, super::componentbinding::RawObject>,
    /// What is different in this environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// What should become of it.
    #[serde(default)]
    pub release_state: ReleaseState,
    /// Runs that somebody asks for, by names of their own choice. Each name starts one run, once: the same name never
    /// starts another. Taking a name away removes what is left of its run. Nothing new starts while suspended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub runs: Vec<String>,
}

impl ScheduledTaskBindingSpec {
    /// The track that is deployed.
    pub fn track(&self) -> &str {
        self.track.as_deref().unwrap_or(DEFAULT_TRACK)
    }
}

/// What became of a binding.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskBindingStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Name of the newest Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment: Option<String>,
    /// Number of the newest Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Name of the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// The runs that somebody asked for, and of those whose names were taken away the last 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"]))]
    pub runs: Vec<TaskRun>,
    /// When the task last ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When the task last ran with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// Hash of the configuration that was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_hash: Option<String>,
}
