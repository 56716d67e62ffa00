//! How an artifact of the pinned release says how it runs.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{EnvFromSource, EnvVar, FileMount, Probes, Quantity};

/// How an artifact runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Application {
    /// Arguments of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// Environment variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"]))]
    pub env: Vec<EnvVar>,
    /// Sources of many environment variables at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub env_from: Vec<EnvFromSource>,
    /// Files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["mountPath"]))]
    pub file_mounts: Vec<FileMount>,
    /// Folders of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub file_mounts_from: Vec<FileMountsFrom>,
    /// What the container may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_limits: Option<ResourceLimits>,
    /// Health checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes: Option<Probes>,
    /// How the number of replicas follows the load.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// When it runs, for a task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
}

/// A folder of files.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configurationGroupRef) != has(self.secretRef)")
    .message("exactly one of configurationGroupRef and secretRef must be given"))]
pub struct FileMountsFrom {
    /// Every entry of a configuration group becomes a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_group_ref: Option<MountRef>,
    /// Every entry of a Secret becomes a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<MountRef>,
}

/// What is mounted, and where.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct MountRef {
    /// Name of the configuration group or Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub name: String,
    /// Absolute path of the folder in the container.
    #[schemars(length(min = 2, max = 1024), regex(pattern = "^/[^:]+$"))]
    pub mount_path: String,
}

/// What a container may use at most.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    /// CPU cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// How the number of replicas follows the load.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.hpa) && has(self.s2z))").message("give either hpa or s2z, not both"))]
pub struct Scaling {
    /// By use of resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hpa: Option<super::common::Autoscaling>,
    /// By demand, down to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s2z: Option<ScaleToZero>,
}

/// Scaling by demand.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ScaleToZero {
    /// Most replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: Option<i32>,
    /// Number of waiting requests above which replicas are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub queue_length: Option<i32>,
}

/// When a task runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Whether it does not run at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub disabled: bool,
    /// Its schedule; if absent it runs when somebody starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<TaskSchedule>,
}

/// The schedule of a task.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TaskSchedule {
    /// Five cron fields.
    #[schemars(length(min = 1, max = 128))]
    pub cron: String,
    /// Time zone, for instance `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub timezone: Option<String>,
}
