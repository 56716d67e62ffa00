//! One row of the registry: everything the API server has to know about a resource.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

use base64::Engine as _;
use sha2::{Digest, Sha256};

use crate::schema::Schema;

/// What the API server knows about one resource in one version of its group.
///
/// Built-in kinds and kinds defined at run time look alike; the server has no code of its own per kind.
#[derive(Clone, Debug)]
pub struct ResourceInfo {
    /// API group; empty for the core group.
    pub group: String,
    /// Version of the group, such as `v1`.
    pub version: String,
    /// Kind in `CamelCase`.
    pub kind: String,
    /// Kind of a list of these objects.
    pub list_kind: String,
    /// Lower-case plural, as in the path.
    pub plural: String,
    /// Lower-case singular, as on the command line.
    pub singular: String,
    /// Short names, such as `deploy`.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Verbs of the resource itself, sorted as discovery shows them.
    pub verbs: Vec<String>,
    /// Whether there is a `status` subresource, which then is the only way to write status.
    pub status: bool,
    /// Where the `scale` subresource finds its values.
    pub scale: Option<ScalePaths>,
    /// All subresources, `status` and `scale` included, sorted by name.
    pub subresources: Vec<Subresource>,
    /// Printer columns of the resource (custom resources only; built-in kinds are printed by rules of their own).
    pub columns: Vec<Column>,
    /// Fields that a field selector may name besides `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<SelectableField>,
    /// Where, and as what, objects of this resource are kept.
    pub storage: Storage,
    /// Whether the row comes from a CustomResourceDefinition.
    pub is_crd: bool,
    /// When `metadata.generation` counts up.
    pub generation: Generation,
    /// The lazily built schema; use [`ResourceInfo::schema`].
    pub schema: LazySchema,
    /// The webhook that converts between the versions of a custom resource, as its definition describes it; without one they
    /// differ in nothing but `apiVersion`.
    pub conversion: Option<Arc<serde_json::Value>>,
    /// Revision of the definition of a custom resource. Older objects may have been written under another schema, and lack
    /// its defaults.
    pub since: u64,
    /// Whether the definition of a custom resource is being deleted, so that no new objects may be made.
    pub terminating: bool,
    /// Publishes the definitions of a built-in kind for OpenAPI; absent for custom resources, whose schema is all there is.
    pub publish: Option<Publish>,
}

/// Adds the definitions of a kind, and of all that it refers to, by name, and gives the name of the kind's own.
pub type Publish = fn(&mut BTreeMap<String, serde_json::Value>) -> String;

/// Verbs of an ordinary stored resource.
pub const ALL_VERBS: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

/// Verbs of a subresource that reads and writes the parent object, such as `status`.
pub const SUBRESOURCE_VERBS: &[&str] = &["get", "patch", "update"];

impl ResourceInfo {
    /// `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `pods` or `deployments.apps`, as messages name a resource.
    #[must_use]
    pub fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    /// The key of the resource in the store: `pods` or `apps/deployments`.
    ///
    /// Resources that are two views of the same objects (`events` of the core group and of `events.k8s.io`) share it.
    #[must_use]
    pub fn storage_resource(&self) -> String {
        if self.storage.group.is_empty() {
            self.storage.plural.clone()
        } else {
            format!("{}/{}", self.storage.group, self.storage.plural)
        }
    }

    /// The schema of the kind; built on first use and then shared.
    #[must_use]
    pub fn schema(&self) -> Arc<Schema> {
        self.schema.get()
    }

    /// Whether `verb` is served on the resource itself.
    #[must_use]
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }

    /// The subresource of that name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether objects are kept at all (reviews are answered and forgotten).
    #[must_use]
    pub fn stored(&self) -> bool {
        self.has_verb("get")
    }

    /// The `storageVersionHash` of discovery: it changes exactly when the stored form of the objects does.
    #[must_use]
    pub fn storage_version_hash(&self) -> String {
        let Storage {
            group, version, kind, ..
        } = &self.storage;
        let digest = Sha256::digest(format!("{group}/{version}/{kind}").as_bytes());
        base64::engine::general_purpose::STANDARD.encode(&digest[..8])
    }
}

/// Where objects of a resource are kept and in which version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Group of the stored objects.
    pub group: String,
    /// Version of the stored objects.
    pub version: String,
    /// Kind of the stored objects.
    pub kind: String,
    /// Plural under which they are kept.
    pub plural: String,
}

/// When `metadata.generation` counts up on update. With [`Generation::None`] the field is not set at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// The kind does not carry a generation.
    None,
    /// Set to 1 on create, never changed.
    Fixed,
    /// Counts up when `spec` changes.
    Spec,
    /// Counts up when anything but `metadata` and `status` changes.
    Content,
    /// Counts up when anything but `metadata` changes (no status subresource to set status apart).
    All,
}

/// JSON paths of the `scale` subresource in its parent, in the form of a CustomResourceDefinition (`.spec.replicas`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScalePaths {
    /// Desired number of replicas.
    pub spec_replicas: String,
    /// Observed number of replicas.
    pub status_replicas: String,
    /// The selector: a string in custom resources; in built-in kinds a label selector object or a map, to be printed as a string.
    pub label_selector: Option<String>,
}

/// A subresource as discovery lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Path segment below the object.
    pub name: String,
    /// Group of the kind that it speaks, empty when it is the parent's own.
    pub group: String,
    /// Version of the kind that it speaks, empty when it is the parent's own.
    pub version: String,
    /// Kind that it speaks.
    pub kind: String,
    /// Verbs, sorted.
    pub verbs: Vec<String>,
}

/// A printer column.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// OpenAPI type: `string`, `integer`, `number`, `boolean` or `date`.
    pub type_: String,
    /// OpenAPI format, or empty.
    pub format: String,
    /// What the column shows.
    pub description: String,
    /// 0 = always shown, more = only in wide output.
    pub priority: i32,
    /// Simple JSON path to the value, such as `.spec.replicas`.
    pub json_path: String,
}

/// A field that a field selector may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectableField {
    /// Name in the selector, such as `involvedObject.name`.
    pub field: String,
    /// Path of the value in the object. Several paths are tried in turn.
    pub paths: Vec<Vec<String>>,
    /// What an absent value counts as.
    pub absent: String,
}

impl SelectableField {
    /// A field whose name is its own path (`spec.nodeName`).
    #[must_use]
    pub fn direct(field: &str) -> Self {
        SelectableField {
            field: field.to_owned(),
            paths: vec![
                field
                    .split('.')
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned)
                    .collect(),
            ],
            absent: String::new(),
        }
    }

    /// The value of the field in `object` as a selector compares it.
    #[must_use]
    pub fn value(&self, object: &serde_json::Value) -> String {
        for path in &self.paths {
            let found = path.iter().try_fold(object, |value, segment| value.get(segment));
            match found {
                None | Some(serde_json::Value::Null) => {}
                Some(serde_json::Value::String(s)) if s.is_empty() => {}
                Some(serde_json::Value::String(s)) => return s.clone(),
                Some(other) => return other.to_string(),
            }
        }
        self.absent.clone()
    }
}

/// A schema that is built when it is first asked for.
///
/// There are some seventy built-in kinds; a server that starts in milliseconds builds the few that are used.
#[derive(Clone)]
pub struct LazySchema(Arc<Lazy>);

struct Lazy {
    build: Box<dyn Fn() -> Arc<Schema> + Send + Sync>,
    cell: OnceLock<Arc<Schema>>,
}

impl LazySchema {
    /// Builds with `build` on first use.
    #[must_use]
    pub fn new(build: impl Fn() -> Arc<Schema> + Send + Sync + 'static) -> Self {
        LazySchema(Arc::new(Lazy {
            build: Box::new(build),
            cell: OnceLock::new(),
        }))
    }

    /// The schema.
    #[must_use]
    pub fn get(&self) -> Arc<Schema> {
        self.0.cell.get_or_init(|| (self.0.build)()).clone()
    }
}

impl From<Arc<Schema>> for LazySchema {
    fn from(schema: Arc<Schema>) -> Self {
        LazySchema::new(move || schema.clone())
    }
}

impl fmt::Debug for LazySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.cell.get().is_some() {
            "LazySchema(built)"
        } else {
            "LazySchema(..)"
        })
    }
}
