//! Addresses of objects, independent of their kind's Rust type.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use choreo_engine::affected::same_but_status;
use kube::core::{DynamicObject, GroupVersionKind, TypeMeta};
use serde_json::Value;

/// An object's group and kind. Versions do not matter here: one object has one identity in all of them. Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKind(Arc<Names>);

/// What a [`GroupKind`] says.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Names {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind in CamelCase.
    pub kind: String,
}

impl Deref for GroupKind {
    type Target = Names;

    fn deref(&self) -> &Names {
        &self.0
    }
}

impl GroupKind {
    /// From its two parts.
    pub fn new(group: &str, kind: &str) -> Self {
        Self(Arc::new(Names {
            group: group.to_owned(),
            kind: kind.to_owned(),
        }))
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_str() {
            "" => f.write_str(&self.kind),
            group => write!(f, "{}.{group}", self.kind),
        }
    }
}

/// Which object, in one cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Group and kind.
    pub kind: GroupKind,
    /// Namespace, empty for a cluster-scoped object.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectRef {
    /// From its parts.
    pub fn new(group: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            kind: GroupKind::new(group, kind),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The address of an object that came from an API server.
    pub fn of(object: &DynamicObject) -> Self {
        let types = object.types.clone().unwrap_or_default();
        let (group, _) = split_api_version(&types.api_version);
        Self::new(
            group,
            &types.kind,
            object.metadata.namespace.as_deref().unwrap_or_default(),
            object.metadata.name.as_deref().unwrap_or_default(),
        )
    }

    /// The address of an object in its JSON form; `None` if it has no kind or no name.
    pub fn of_value(object: &Value) -> Option<Self> {
        let (group, _) = split_api_version(object.get("apiVersion")?.as_str()?);
        let metadata = object.get("metadata")?;
        Some(Self::new(
            group,
            object.get("kind")?.as_str()?,
            metadata
                .get("namespace")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            metadata.get("name")?.as_str()?,
        ))
    }

    /// The key of this object among its kind.
    pub fn key(&self) -> Key {
        Key {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// Namespace and name: which object of a controller's kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace, empty for a cluster-scoped object.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// From its parts.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// `group/version` into its parts; the core group is empty.
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// Group, version and kind of an object in its JSON form.
pub fn gvk_of(object: &Value) -> Option<GroupVersionKind> {
    let (group, version) = split_api_version(object.get("apiVersion")?.as_str()?);
    Some(GroupVersionKind::gvk(
        group,
        version,
        object.get("kind")?.as_str()?,
    ))
}

/// A resource version as a number, if it is one. Kubernetes guarantees that they compare as integers (KEP-5504).
pub fn revision(object: &DynamicObject) -> Option<u64> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}

/// Whether two states of an object differ in nothing but the status, as far as its generation and its metadata tell. An object without
/// a generation does not tell.
pub fn is_status_only(before: &DynamicObject, after: &DynamicObject) -> bool {
    before.metadata.generation.is_some() && same_but_status(&before.metadata, &after.metadata)
}

/// Fills in `apiVersion` and `kind` from the watched resource: lists may leave them out of their items.
pub fn with_types(mut object: DynamicObject, api_version: &str, kind: &str) -> DynamicObject {
    object.types.get_or_insert_with(|| TypeMeta {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    });
    object
}
