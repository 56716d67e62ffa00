//! Deployments: the numbered revisions of a binding.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RawObject;
use super::common::{ComponentOwner, Condition, Overrides, TypedRef};

/// What a revision consists of.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Deployment",
    namespaced,
    status = "DeploymentStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "cdeploy",
    category = "choreo",
    doc = "One revision of a component in one environment: an artifact, the overrides and the configuration that it was rolled out with. Made by the platform; the unit of rollout, history and rollback.",
    printcolumn(name = "Component", type_ = "string", json_path = ".spec.owner.componentName"),
    printcolumn(name = "Environment", type_ = "string", json_path = ".spec.environment"),
    printcolumn(name = "Revision", type_ = "integer", json_path = ".spec.revision"),
    printcolumn(
        name = "Artifact",
        type_ = "string",
        json_path = ".spec.deploymentArtifactRef"
    ),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase")
)]
#[x_kube(validation = crate::schema::immutable_optional("revision"))]
#[x_kube(validation = crate::schema::immutable_optional("deploymentArtifactRef"))]
#[x_kube(validation = crate::schema::immutable_optional("configurationHash"))]
pub struct DeploymentSpec {
    /// The component that is deployed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ComponentOwner>,
    /// Name of the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub environment: Option<String>,
    /// The track that is deployed; `default` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub track: Option<String>,
    /// The binding that this is a revision of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_ref: Option<TypedRef>,
    /// Number of the revision. The first one of a binding is 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub revision: Option<i64>,
    /// Name of the DeployableArtifact. Absent if the binding was written by hand and holds its own workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub deployment_artifact_ref: Option<String>,
    /// What was different in this environment.
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub overrides: Overrides,
    /// The values for the `environmentConfigs` of its ComponentType.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub environment_configs: Option<serde_json::Value>,
    /// The values for the `environmentConfigs` of its traits, by the name of the trait's use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub trait_environment_configs: BTreeMap<String, RawObject>,
    /// Hash over everything that this revision consists of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub configuration_hash: Option<String>,
    /// How many old revisions of the binding are kept; what the newest revision says that says a number, or else 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub revision_history_limit: Option<i32>,
    /// Overrides in the form of the pinned release: what replaces parts of the artifact's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub configuration_overrides: Option<serde_json::Value>,
}

/// How far a revision has come.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum DeploymentPhase {
    /// Not looked at yet.
    #[default]
    Pending,
    /// Being rolled out.
    Progressing,
    /// It is what runs.
    Complete,
    /// It did not come up.
    Failed,
    /// A later revision has taken its place.
    Superseded,
}

/// What became of a revision.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<DeploymentPhase>,
    /// Whether it was healthy here at any time. The way back to such a revision needs no approval and no check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// Name of the release that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
}
