//! Git commit requests: changes to repositories that the platform makes on somebody's behalf.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::common::Condition;

/// What is committed.
#[derive(CustomResource, Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "openchoreo.dev",
    version = "v1alpha1",
    kind = "GitCommitRequest",
    namespaced,
    status = "GitCommitRequestStatus",
    derive = "PartialEq",
    derive = "Default",
    shortname = "gcr",
    category = "choreo",
    doc = "A change to files of a Git repository that the platform commits and pushes once.",
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repoURL"),
    printcolumn(name = "Branch", type_ = "string", json_path = ".spec.branch"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(
        name = "Commit",
        type_ = "string",
        json_path = ".status.observedSHA",
        priority = 1
    )
)]
#[x_kube(validation = crate::schema::immutable("a commit request"))]
pub struct GitCommitRequestSpec {
    /// Address of the repository.
    #[serde(rename = "repoURL")]
    #[schemars(length(min = 1, max = 2048))]
    pub repo_url: String,
    /// Branch that is changed; the repository's default branch if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub branch: Option<String>,
    /// Message of the commit.
    #[schemars(length(min = 1, max = 8192))]
    pub message: String,
    /// Author of the commit; the platform itself if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<GitAuthor>,
    /// Name of a Secret with the credentials: `username` and `password`, or `ssh-privatekey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = crate::schema::SUBDOMAIN))]
    pub auth_secret_ref: Option<String>,
    /// The files that are changed.
    #[schemars(length(min = 1, max = 256), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["path"]))]
    pub files: Vec<FileEdit>,
}

/// Author of a commit.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GitAuthor {
    /// Name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub name: Option<String>,
    /// E-mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 320))]
    pub email: Option<String>,
}

/// A change to one file.
#[derive(Serialize, Deserialize, KubeSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.content) != has(self.patch)")
    .message("exactly one of content and patch must be given"))]
pub struct FileEdit {
    /// Path of the file in the repository.
    #[schemars(length(min = 1, max = 1024), regex(pattern = "^[^/].*$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(part, part == '..' || part == '.git')")
        .message("the path must stay inside the repository's files"))]
    pub path: String,
    /// New content of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 524288))]
    pub content: Option<String>,
    /// A JSON patch (RFC 6902) for a file in JSON or YAML.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub patch: Option<String>,
}

/// How far a commit request has come.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default,
)]
pub enum CommitPhase {
    /// Not done yet.
    #[default]
    Pending,
    /// Pushed.
    Succeeded,
    /// It did not work.
    Failed,
}

/// What became of a commit request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Default)]
#[serde(rename_all = "camelCase")]
pub struct GitCommitRequestStatus {
    /// The generation of the spec that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of this object now; `Ready` sums it up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How far it has come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<CommitPhase>,
    /// Hash of the commit.
    #[serde(rename = "observedSHA", default, skip_serializing_if = "Option::is_none")]
    pub observed_sha: Option<String>,
    /// Branch that it was pushed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_branch: Option<String>,
    /// What happened, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
