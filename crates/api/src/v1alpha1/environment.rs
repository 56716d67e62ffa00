//! Environments: where components are deployed.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, NetworkPolicyBaseline, ResourceQuotas, default_name};

/// What an environment is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Environment",
    namespaced,
    status = "EnvironmentStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "env",
    shortname = "envs",
    category = "choreo",
    doc = "A stage that components are deployed to, such as development or production: a data plane, and what holds for everything that runs in it.",
    printcolumn(name = "DataPlane", type_ = "string", json_path = ".spec.dataPlaneRef"),
    printcolumn(name = "Production", type_ = "boolean", json_path = ".spec.isProduction"),
    printcolumn(name = "DNS-Prefix", type_ = "string", json_path = ".spec.gateway.dnsPrefix", priority = 1),
    validation = crate::schema::label_name()
)]
pub struct EnvironmentSpec {
    /// Name of the data plane.
    #[serde(default = "default_name")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub data_plane_ref: String,
    /// Whether real users depend on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_production: bool,
    /// How endpoints of this environment are exposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<EnvironmentGateway>,
    /// Ceilings on what each cell of this environment may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_quotas: Option<ResourceQuotas>,
    /// The baseline of network policies in this environment; it replaces the organization's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policies: Option<NetworkPolicyBaseline>,
    /// Conditions that an artifact must meet to be deployed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub constraints: Vec<Constraint>,
    /// Times in which nothing is promoted to this environment. Emergencies and ways back are let through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub freezes: Vec<EnvironmentFreeze>,
}

/// A time in which nothing is promoted to an environment: again and again with `schedule` and `duration`, or once.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.schedule) == has(self.duration)").message("schedule and duration go together"))]
#[x_kube(validation = Rule::new("!has(self.schedule) || !(has(self.from) || has(self.until))").message("schedule excludes from and until"))]
pub struct EnvironmentFreeze {
    /// What it is called.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub name: String,
    /// When it begins, again and again: five cron fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128))]
    pub schedule: Option<String>,
    /// How long it lasts each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = crate::schema::DURATION))]
    pub duration: Option<String>,
    /// Time zone of the schedule, for instance `Europe/Berlin`; UTC if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// When it begins, for one that happens once; from always if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// When it ends, for one that happens once; never if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub reason: Option<String>,
}

/// How endpoints of an environment are exposed.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentGateway {
    /// First part of the environment's host names; the environment's name if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub dns_prefix: Option<String>,
    /// How callers are authenticated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<EnvironmentSecurity>,
    /// Whether every exposed endpoint requires a valid JSON Web Token. The keys come from `security.remoteJwks`.
    #[serde(rename = "enableJWTAuth", default, skip_serializing_if = "std::ops::Not::not")]
    pub enable_jwt_auth: bool,
}

/// How callers are authenticated in an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentSecurity {
    /// Where the keys are published that tokens are signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_jwks: Option<RemoteJwks>,
}

/// A published JSON Web Key Set.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct RemoteJwks {
    /// Address of the key set.
    #[schemars(length(max = 2048))]
    pub uri: String,
}

/// A condition that an artifact must meet.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Constraint {
    /// A CEL expression over `artifact`, `workload` and `component` that is true when the artifact may be deployed.
    #[schemars(length(min = 1, max = 4096))]
    pub rule: String,
    /// What to tell the one whose deployment is refused.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
}

/// What is known of an environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Host of the public APIs of this environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_host: Option<String>,
    /// Host of the APIs of this environment that only the organization reaches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_host: Option<String>,
}
