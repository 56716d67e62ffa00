//! Configuration groups: values that differ between environments.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

/// What a configuration group holds.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "ConfigurationGroup",
    namespaced,
    status = "ConfigurationGroupStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "configgrp",
    category = "choreo",
    doc = "Named values that workloads refer to and that may differ between environments: plain values, and keys of secrets in a vault. A change rolls the pods that use it.",
    printcolumn(name = "Used-By", type_ = "integer", json_path = ".status.usedBy")
)]
pub struct ConfigurationGroupSpec {
    /// Who may use the group: labels, such as `project`, that the user must have. Everybody in the organization if
    /// absent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub scope: BTreeMap<String, String>,
    /// Names for sets of environments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub environment_groups: Vec<EnvironmentGroup>,
    /// The values.
    #[schemars(length(max = 512), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["key"]))]
    pub configurations: Vec<Configuration>,
}

/// A name for a set of environments.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentGroup {
    /// Name of the set.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Names of the environments in it.
    #[schemars(length(max = 32), inner(length(min = 1, max = 63)), extend("x-kubernetes-list-type" = "set"))]
    pub environments: Vec<String>,
}

/// One entry, and its value in each environment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// Key of the entry.
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::CONFIG_KEY))]
    pub key: String,
    /// Its values. The most specific one counts: that of the environment, else that of a group of environments, else
    /// the one that names neither. Two of the same rank are an error.
    #[schemars(length(max = 64))]
    pub values: Vec<ConfigurationValue>,
}

/// A value of an entry.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.vaultKey)")
    .message("exactly one of value and vaultKey must be given"))]
#[x_kube(validation = Rule::new("!(has(self.environment) && has(self.environmentGroupRef))")
    .message("give either environment or environmentGroupRef, not both"))]
pub struct ConfigurationValue {
    /// Name of the group of environments that the value holds for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub environment_group_ref: Option<String>,
    /// Name of the environment that the value holds for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub environment: Option<String>,
    /// The value itself. Becomes an entry of a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub value: Option<String>,
    /// Key of a secret value in the data plane's secret store. Becomes an entry of a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub vault_key: Option<String>,
}

/// What is known of a configuration group.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ConfigurationGroupStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Number of workloads that refer to the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_by: Option<i32>,
}
