//! The verbs of the API as functions, without HTTP: what the handlers call, and what controllers of the server itself call
//! directly.
//!
//! ```text
//! body ─ decode ─ defaults ─ managed fields ─ admission ─ strategy ─ validation ─ store
//!        (prune)                                          (status, generation)
//! ```

mod certificates;
mod convert;
mod create;
mod decode;
mod delete;
mod delete_collection;
mod fields;
mod list;
mod metadata;
mod patch;
mod scale;
mod select;
mod strategy;
mod update;
mod webhook;

use std::borrow::Cow;
use std::sync::Arc;

use choreo_apimachinery::pointer::at;
use choreo_apimachinery::registry::ResourceInfo;
use choreo_apimachinery::status::{ApiError, Result};
use choreo_store::{Key, Object};
use parking_lot::Mutex;
use serde_json::Value;

pub use convert::to_version;
pub use create::create;
pub(crate) use decode::admitted as decode_admitted;
pub(crate) use decode::check_repeated;
pub(crate) use delete::is_returned;
pub use delete::{Deleted, FOREGROUND, ORPHAN, delete};
pub use delete_collection::delete_collection;
pub use list::{Listed, list, require_revision};
pub(crate) use list::{parse_revision, too_large};
pub(crate) use metadata::generate_name;
pub use patch::{Patch, PatchKind, patch};
pub use scale::{patch_scale, scale_of, update_scale};
pub use select::Filter;
pub use update::{Change, Subresource, modify, update};
pub(crate) use update::{edit, remove_finalizer};
pub(crate) use webhook::Converted;

use crate::cluster::Cluster;
use crate::negotiate::Repeated;
use crate::request::FieldValidation;
use crate::user::UserInfo;

/// What a verb works on, and for whom: a resource of a logical cluster, in one namespace, in all (`namespace` empty) or in
/// the cluster's scope.
#[derive(Clone)]
pub struct Target {
    /// The logical cluster.
    pub cluster: Arc<Cluster>,
    /// The resource, in the version of the request.
    pub resource: Arc<ResourceInfo>,
    /// The namespace, or empty.
    pub namespace: String,
    /// Who asks.
    pub user: UserInfo,
    /// The client's name, which is the field manager of writes that name none.
    pub agent: String,
    /// Whether the request is a patch, which admission is told.
    pub(crate) is_patch: bool,
    /// Whether admission has seen the write already, as a request to a subresource.
    pub(crate) is_admitted: bool,
    /// Where what the audit is to say goes.
    pub(crate) notes: Option<Arc<crate::audit::Notes>>,
    /// The resource as the store knows it, such as `apps/deployments`.
    storage: Arc<str>,
    /// Whether stored objects can be in another form than the requested one.
    converts: bool,
}

impl Target {
    /// Finds a resource.
    ///
    /// # Errors
    /// 404 when it is not served.
    pub fn new(
        cluster: &Arc<Cluster>,
        (group, version, plural): (&str, &str, &str),
        namespace: &str,
        user: &UserInfo,
        agent: &str,
    ) -> Result<Target> {
        let served = cluster.served();
        let resource = served
            .registry()
            .lookup(group, version, plural)
            .ok_or_else(ApiError::no_such_resource)?;
        Ok(Target::of(cluster, resource, namespace, user, agent))
    }

    /// The target of a resource that is at hand already.
    pub fn of(
        cluster: &Arc<Cluster>,
        resource: &Arc<ResourceInfo>,
        namespace: &str,
        user: &UserInfo,
        agent: &str,
    ) -> Target {
        Target {
            converts: convert::needed(cluster.served().registry(), resource),
            storage: resource.storage_resource().into(),
            cluster: cluster.clone(),
            resource: resource.clone(),
            namespace: namespace.to_owned(),
            user: user.clone(),
            agent: agent.to_owned(),
            is_patch: false,
            is_admitted: false,
            notes: None,
        }
    }

    /// The same for a write that admission has seen already.
    pub(crate) fn admitted(&self) -> Target {
        Target {
            is_admitted: true,
            ..self.clone()
        }
    }

    /// The same in another namespace.
    pub fn in_namespace(&self, namespace: &str) -> Target {
        Target {
            namespace: namespace.to_owned(),
            ..self.clone()
        }
    }

    /// The resource as the store knows it, such as `apps/deployments`.
    pub fn storage_resource(&self) -> &str {
        &self.storage
    }

    /// The key of an object.
    pub fn key(&self, name: &str) -> Key {
        let namespace = if self.resource.namespaced {
            self.namespace.as_str()
        } else {
            ""
        };
        Key::new(&self.storage, namespace, name)
    }

    /// The namespace to list; none for all and for resources of cluster scope.
    pub fn scope(&self) -> Option<&str> {
        (self.resource.namespaced && !self.namespace.is_empty()).then_some(self.namespace.as_str())
    }

    /// Reads an object.
    ///
    /// # Errors
    /// 404 when it is not there, 500 when the webhook that converts it fails.
    pub async fn get(&self, name: &str) -> Result<View> {
        self.shown(self.stored(name)?).await
    }

    /// The stored object.
    ///
    /// # Errors
    /// 404 when it is not there.
    pub(crate) fn stored(&self, name: &str) -> Result<Arc<Object>> {
        self.cluster
            .store()
            .get(&self.key(name))
            .ok_or_else(|| self.not_found(name))
    }

    /// A stored object in the version of the request, or [`View::Foreign`] for [`Target::settle`].
    pub fn view(&self, object: Arc<Object>) -> View {
        convert::view(self, object)
    }

    /// Makes the views that only a webhook can make.
    ///
    /// # Errors
    /// 500 when it fails.
    pub async fn settle(&self, views: &mut [View]) -> Result<()> {
        convert::settle(self, views).await
    }

    /// A stored object in the version of the request.
    ///
    /// # Errors
    /// 500 when the webhook that converts it fails.
    pub async fn shown(&self, object: Arc<Object>) -> Result<View> {
        let mut view = self.view(object);
        self.settle(std::slice::from_mut(&mut view)).await?;
        Ok(view)
    }

    /// 404 for an object of this resource.
    pub fn not_found(&self, name: &str) -> ApiError {
        ApiError::not_found(&self.resource.group, &self.resource.plural, name)
    }

    /// 409 for an object that has changed since the client read it.
    fn stale(&self, name: &str) -> ApiError {
        ApiError::stale(&self.resource.group, &self.resource.plural, name)
    }
}

/// An object as a client is to see it.
#[derive(Clone, Debug)]
pub enum View {
    /// As it is in the store, encoded already.
    Stored(Arc<Object>),
    /// In another version, that only a webhook can convert. Never left like that in an answer: see [`Target::settle`].
    Foreign(Arc<Object>),
    /// Made for this request: converted from another version, or the outcome of a dry run. With its revision, 0 for none.
    Made(Arc<Value>, u64),
}

impl View {
    /// The object.
    pub fn value(&self) -> Arc<Value> {
        match self {
            View::Stored(object) | View::Foreign(object) => object.value(),
            View::Made(value, _) => value.clone(),
        }
    }

    /// The object's metadata.
    pub(crate) fn metadata(&self) -> Value {
        match self {
            View::Stored(object) | View::Foreign(object) => object.metadata(),
            View::Made(value, _) => value["metadata"].clone(),
        }
    }

    /// The object as JSON text.
    pub fn json(&self) -> bytes::Bytes {
        match self {
            View::Stored(object) | View::Foreign(object) => object.json().clone(),
            View::Made(value, _) => serde_json::to_vec(&**value).unwrap_or_default().into(),
        }
    }

    /// The object as JSON text, for one who only looks at it: of many objects, counting who has each would cost more than that.
    pub(crate) fn text(&self) -> Cow<'_, [u8]> {
        match self {
            View::Stored(object) | View::Foreign(object) => Cow::Borrowed(&object.json()[..]),
            View::Made(value, _) => Cow::Owned(serde_json::to_vec(&**value).unwrap_or_default()),
        }
    }

    /// The revision of the last change; 0 for what is not stored.
    pub fn revision(&self) -> u64 {
        match self {
            View::Stored(object) | View::Foreign(object) => object.revision(),
            View::Made(_, revision) => *revision,
        }
    }
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object after it.
    pub view: View,
    /// Whether it was created (201 rather than 200).
    pub created: bool,
    /// What the client should be told in `Warning` headers.
    pub warnings: Vec<String>,
}

impl Written {
    /// Tells the client of keys that its document has more than once, before everything else.
    pub(crate) fn warn_repeated(&mut self, repeated: &Repeated, validation: FieldValidation) {
        if validation == FieldValidation::Warn {
            let texts = repeated.warnings(&self.warnings);
            self.warnings.splice(0..0, texts);
        }
    }
}

/// The text of a field, empty when it is missing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).and_then(Value::as_str).unwrap_or_default()
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    at(object, "/metadata/deletionTimestamp").is_some_and(|t| !t.is_null())
}

/// The object's metadata, made if missing.
pub(crate) fn metadata_mut(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(serde_json::Map::new());
    }
    let entry = &mut object["metadata"];
    if !entry.is_object() {
        *entry = Value::Object(serde_json::Map::new());
    }
    match entry {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// The present time as objects carry it: RFC 3339 in UTC, whole seconds. Each is written out once: each write asks for it twice.
pub(crate) fn now() -> String {
    static LAST: Mutex<(i64, String)> = Mutex::new((i64::MIN, String::new()));
    let now = jiff::Timestamp::now();
    let mut last = LAST.lock();
    if last.0 != now.as_second() {
        *last = (now.as_second(), now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    last.1.clone()
}
