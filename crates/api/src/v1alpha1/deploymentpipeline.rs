//! Deployment pipelines: the ways along which artifacts are promoted.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

/// What a deployment pipeline is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "DeploymentPipeline",
    namespaced,
    status = "DeploymentPipelineStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "deppipe",
    shortname = "deppipes",
    category = "choreo",
    doc = "The environments of a project and the ways between them. An artifact is deployed to the first environment, the one that no way leads to, and promoted from there.",
    printcolumn(name = "First", type_ = "string", json_path = ".status.firstEnvironment"),
    printcolumn(
        name = "Environments",
        type_ = "string",
        json_path = ".status.environments",
        priority = 1
    )
)]
pub struct DeploymentPipelineSpec {
    /// The ways from one environment to the next. There must be no cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["sourceEnvironmentRef"]))]
    pub promotion_paths: Vec<PromotionPath>,
}

/// The ways out of one environment.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.targetEnvironmentRefs.all(t, t.name != self.sourceEnvironmentRef)")
    .message("an environment cannot be promoted to itself"))]
pub struct PromotionPath {
    /// Name of the environment that is promoted from.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub source_environment_ref: String,
    /// The environments that can be promoted to.
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub target_environment_refs: Vec<TargetEnvironment>,
}

/// One way into an environment, and what it takes to go it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct TargetEnvironment {
    /// Name of the environment that is promoted to.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// Whether somebody has to approve.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requires_approval: bool,
    /// Another name of `requiresApproval`; either of them is enough.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_manual_approval_required: bool,
    /// Who has to approve. If absent and approval is required, one person who may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvals: Option<Approvals>,
    /// Checks that must pass before the artifact is promoted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub gates: Vec<Gate>,
    /// How the new revision replaces the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// Whether an artifact that is ready in the source environment is promoted on its own, once all checks pass.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_promote: bool,
}

impl TargetEnvironment {
    /// Whether somebody has to approve, under whichever name the manifest says it.
    pub fn needs_approval(&self) -> bool {
        self.requires_approval || self.is_manual_approval_required || self.approvals.is_some()
    }
}

/// Who has to approve a promotion.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Approvals {
    /// How many people have to approve; 1 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 32))]
    pub minimum: Option<i32>,
    /// Groups whose members may approve. With neither groups nor users, everybody who may promote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub groups: Vec<String>,
    /// Users who may approve.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub users: Vec<String>,
    /// Whether the one who asks for the promotion may not approve it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_author: bool,
}

/// A check before a promotion. Exactly one kind of check.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.healthyFor), has(self.webhook), has(self.metric), has(self.job)].exists_one(given, given)")
    .message("exactly one of healthyFor, webhook, metric and job must be given"))]
pub struct Gate {
    /// Name of the check.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// The artifact must have been healthy in the source environment for this long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub healthy_for: Option<String>,
    /// A web service must answer with success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookGate>,
    /// A metric must be within bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricGate>,
    /// A container must exit with success in the source environment's cell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobGate>,
}

/// A check by a web service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGate {
    /// Address that the promotion is posted to.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: String,
    /// How long to wait for the answer; 30s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub timeout: Option<String>,
    /// Name of a Secret whose key `token` is sent as a bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

/// A check of a metric.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.min) || has(self.max)").message("give min, max or both"))]
pub struct MetricGate {
    /// The query, in the language of the data plane's observer.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// Smallest value that passes, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^-?[0-9]+(\\.[0-9]+)?$"))]
    pub min: Option<String>,
    /// Largest value that passes, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^-?[0-9]+(\\.[0-9]+)?$"))]
    pub max: Option<String>,
    /// How long the metric is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub over: Option<String>,
}

/// A check by a container.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct JobGate {
    /// Image of the container.
    #[schemars(length(min = 1, max = 1024))]
    pub image: String,
    /// Command of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 4096)))]
    pub command: Vec<String>,
    /// Arguments of the command.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    pub args: Vec<String>,
    /// After how long the check has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub timeout: Option<String>,
}

/// How a new revision replaces the old one.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type == 'Canary' || !has(self.steps) || self.steps.size() == 0").message("steps belong to type Canary"))]
pub struct RolloutStrategy {
    /// The way of replacing.
    #[serde(rename = "type", default)]
    pub type_: RolloutType,
    /// The steps of a canary rollout, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub steps: Vec<CanaryStep>,
    /// Whether the environment goes back to the previous revision when the new one fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rollback_on_failure: bool,
    /// After how long without success the new revision has failed; 10m if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub progress_deadline: Option<String>,
}

/// The ways of replacing a revision.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum RolloutType {
    /// Pod by pod.
    #[default]
    RollingUpdate,
    /// A growing share of the traffic.
    Canary,
    /// All the traffic at once, after the new revision is up.
    BlueGreen,
}

/// A step of a canary rollout.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStep {
    /// Share of the traffic for the new revision, in percent.
    #[schemars(range(min = 0, max = 100))]
    pub weight: i32,
    /// How long to stay at this step. If absent, until somebody continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub pause: Option<String>,
}

/// What is known of a pipeline.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentPipelineStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The environment that new artifacts are deployed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_environment: Option<String>,
    /// All environments, each after those that lead to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environments: Vec<String>,
}
