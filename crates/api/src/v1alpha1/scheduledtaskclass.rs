//! Classes of scheduled tasks: the golden paths of the platform team.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

/// How scheduled tasks of this class are run.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ScheduledTaskClass",
    namespaced,
    status = "ScheduledTaskClassStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "taskclass",
    category = "choreo",
    doc = "A golden path for scheduled tasks: the Kubernetes CronJob that every task of this class starts from. What the component declares is merged over it by the rules of a strategic merge patch.",
    printcolumn(
        name = "Schedule",
        type_ = "string",
        json_path = ".spec.cronJobTemplate.schedule"
    ),
    printcolumn(
        name = "Used-By",
        type_ = "integer",
        json_path = ".status.usedBy",
        priority = 1
    )
)]
pub struct ScheduledTaskClassSpec {
    /// A Kubernetes CronJobSpec. Its containers are matched with those of the workload by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub cron_job_template: Option<serde_json::Value>,
}

/// What is known of a class.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledTaskClassStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of components that use the class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
