//! Templates: Kubernetes objects with expressions, from which component types, traits and resource types make objects.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What parameters look like, as OpenAPI v3 schemas of objects.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSchema {
    /// Parameters that are the same in every environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub parameters: Option<serde_json::Value>,
    /// Parameters that each environment sets on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::object")]
    pub environment_configs: Option<serde_json::Value>,
}

/// An object, or a list of them, that is made from a template.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.forEach) == has(self.var)")
    .message("forEach and var go together: var names the item that the template sees"))]
pub struct ResourceTemplate {
    /// Name of the object in the release, unique in its type.
    #[schemars(length(min = 1, max = 63), regex(pattern = crate::schema::NAME))]
    pub id: String,
    /// A CEL expression; the object is only made when it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub include_when: Option<String>,
    /// A CEL expression for a list; one object is made for each item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub for_each: Option<String>,
    /// Name under which the template sees the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-zA-Z_][a-zA-Z0-9_]*$"))]
    pub var: Option<String>,
    /// The object. Texts in it may have CEL expressions between `${` and `}`.
    #[schemars(schema_with = "crate::schema::object")]
    pub template: serde_json::Value,
}

/// A rule that parameters must obey.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct ParameterRule {
    /// A CEL expression that is true when the parameters are acceptable.
    #[schemars(length(min = 1, max = 4096))]
    pub rule: String,
    /// What to tell the one whose parameters are not.
    #[schemars(length(min = 1, max = 1024))]
    pub message: String,
}
