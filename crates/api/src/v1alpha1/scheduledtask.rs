//! Scheduled tasks: components that run and end.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{ComponentOwner, Condition, Overrides, default_name};
use super::task::TaskSettings;

/// How a scheduled task is run.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ScheduledTask",
    namespaced,
    status = "ScheduledTaskStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "stask",
    category = "choreo",
    doc = "The typed part of a component of type ScheduledTask or ManualTask: the workload that it runs, the class that it is run by, and when.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.className")
)]
pub struct ScheduledTaskSpec {
    /// The component that is a task.
    #[x_kube(validation = crate::schema::immutable("the owner of a scheduled task"))]
    pub owner: ComponentOwner,
    /// Name of the workload that is run.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub workload_name: String,
    /// Name of the ScheduledTaskClass.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub class_name: String,
    /// When it runs, as five cron fields; the class's schedule if absent. A ManualTask runs when somebody starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schedule: Option<String>,
    /// Time zone of the schedule, for instance `Europe/Berlin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// How its runs are treated.
    #[serde(flatten)]
    pub settings: TaskSettings,
    /// What is changed in every environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
}

/// What is known of a scheduled task.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}
