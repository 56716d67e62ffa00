//! Organizations: the tenants.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::{Condition, NetworkPolicyBaseline, ResourceQuotas};

/// What an organization is.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "Organization",
    status = "OrganizationStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "org",
    shortname = "orgs",
    category = "choreo",
    doc = "A tenant: a namespace of the same name that holds all its other objects, the roles that give access to it, and how far its cells are isolated.",
    printcolumn(name = "Namespace", type_ = "string", json_path = ".status.namespace"),
    printcolumn(name = "Isolation", type_ = "string", json_path = ".spec.isolation", priority = 1),
    validation = crate::schema::label_name()
)]
pub struct OrganizationSpec {
    /// How far the organization's cells are kept apart from those of other organizations.
    #[serde(default)]
    pub isolation: Isolation,
    /// The baseline of network policies in all cells of the organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_policies: Option<NetworkPolicyBaseline>,
    /// Ceilings on what all cells of the organization use together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_quotas: Option<ResourceQuotas>,
    /// Who may do what in the organization's namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub access: Vec<AccessGrant>,
}

/// How far organizations are kept apart.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Nothing of another organization is reachable but what is exposed publicly.
    #[default]
    Strict,
    /// Organizations that share a data plane share its organization gateway.
    Shared,
}

/// One role, and who has it.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("size(self.groups) + size(self.users) > 0")
    .message("name at least one group or user"))]
pub struct AccessGrant {
    /// The role that is granted.
    pub role: Role,
    /// Groups of users that have it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub groups: Vec<String>,
    /// Users that have it.
    #[serde(default)]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    pub users: Vec<String>,
}

/// A role in an organization.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// May do everything in the organization.
    Admin,
    /// May write the developer's kinds, and read the rest.
    Developer,
    /// May read.
    #[default]
    Viewer,
}

/// What was made of an organization.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct OrganizationStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The namespace that holds the organization's objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
