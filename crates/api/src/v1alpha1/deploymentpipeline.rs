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
    /// How long a promotion may wait for approvals, checks and the end of a freeze before it has expired; 168h if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub expires_after: Option<String>,
    /// How many promotions that have ended are kept of each component, besides those that went past everything; 20 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub history_limit: Option<i32>,
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
    /// For how long an approval counts, as `24h`; for ever if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub valid_for: Option<String>,
}

/// A check before a promotion. Exactly one kind of check.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.healthyFor), has(self.webhook), has(self.metric), has(self.job), has(self.rule)].exists_one(given, given)")
    .message("exactly one of healthyFor, webhook, metric, job and rule must be given"))]
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
    /// A container must exit with success in a cell of the component's project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobGate>,
    /// A CEL expression over `artifact`, `workload` and `component` that must be true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub rule: Option<String>,
    /// Checks of one stage run at the same time; stages run one after the other. 0 if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 15))]
    pub stage: Option<i32>,
    /// How long one attempt may take; 5m if absent. What has not ended by then is inconclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub timeout: Option<String>,
    /// How often it is tried again when it did not pass; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub retries: Option<i32>,
    /// How long to wait before it is tried again; 10s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub retry_after: Option<String>,
}

/// A check by a web service.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGate {
    /// Address that the promotion is posted to.
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub url: String,
    /// Status codes that pass; 200 to 299 if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(range(min = 100, max = 599)))]
    pub expect: Vec<i32>,
    /// Name of a Secret with what the server wants to see, in the organization's namespace: `token` is sent as a bearer token, `username` and
    /// `password` otherwise. With `ca.crt`, only what these certificate authorities (PEM) have signed is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
}

/// A check of a metric.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.min) || has(self.max) || has(self.maxOfBaseline)").message("give min, max or maxOfBaseline"))]
pub struct MetricGate {
    /// Address of a server with Prometheus' HTTP API; that of the target's DataPlane (`observer.url`) if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = "^https?://[^\\s]+$"))]
    pub address: Option<String>,
    /// Name of a Secret with what the server wants to see, in the organization's namespace: `token` is sent as a bearer token, `username` and
    /// `password` otherwise. With `ca.crt`, only what these certificate authorities (PEM) have signed is trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub secret_ref: Option<String>,
    /// The query, in Prometheus' language. `${namespace}` is the namespace of the target's cell, `${workload}` the name of the
    /// new revision's workload there.
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
    /// How many times as large as the same query's value for the stable revision it may be, as a decimal number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = "^[0-9]+(\\.[0-9]+)?$"))]
    pub max_of_baseline: Option<String>,
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
    /// The cell that it runs in.
    #[serde(default, rename = "in")]
    pub cell: GateCell,
}

/// The cell that a check runs in.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum GateCell {
    /// That of the source environment.
    #[default]
    Source,
    /// That of the target environment.
    Target,
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
    /// Checks that must pass at each step of a canary rollout, after its pause, and of a blue-green rollout before the switch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub analysis: Vec<Gate>,
    /// Requests with this header go to the new revision, whatever its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub testers: Option<HeaderMatch>,
    /// For a blue-green rollout: whether it switches by itself once the new revision is healthy and the analysis has passed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_switch: bool,
    /// For a blue-green rollout: how long the old revision stays after the switch; 30s if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub scale_down_delay: Option<String>,
    /// Whether the environment goes back to the previous revision when the new one fails. Canary and blue-green rollouts always do.
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
    /// All the traffic at once, after the new revision is up. Until then it has an address of its own.
    BlueGreen,
    /// All pods at once: the old ones stop before the new ones start.
    AllAtOnce,
}

/// A header of a request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMatch {
    /// Its name.
    #[schemars(length(min = 1, max = 256), regex(pattern = "^[A-Za-z0-9!#$%&'*+\\-.^_|~]+$"))]
    pub name: String,
    /// Its value, exactly.
    #[schemars(length(min = 1, max = 4096))]
    pub value: String,
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
