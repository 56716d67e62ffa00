//! A snapshot of every control-plane object: what the plans read.
//!
//! A `World` is a handful of persistent maps, so a clone costs a few pointers and a changed copy shares everything that
//! did not change. Controllers feed it from watches, offline rendering from files; a plan cannot tell the difference.
//!
//! Beside the objects it keeps one index: for each object, existing or not, which objects refer to it
//! ([`World::referrers`]). What a plan waits for is thereby found when it appears.

use std::{
    borrow::Cow,
    fmt,
    sync::{Arc, LazyLock},
};

use choreo_api::v1alpha1 as api;
use imbl::{OrdMap, OrdSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::{
    Serialize,
    de::{DeserializeOwned, value::MapDeserializer},
};
use serde_json::Value;

mod index;
mod references;

use index::Index;

pub(crate) use references::{binding_kind, is_default_track, target_component};

/// Namespace and name of an object; the namespace is empty for cluster-scoped kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace, which is the organization.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of an object.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One object of one of our kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Its kind.
    pub kind: Kind,
    /// Where it is.
    pub key: Key,
}

impl ObjectRef {
    /// A reference to an object.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            key: Key::new(namespace, name),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind.as_str(), self.key.name)
    }
}

/// Why a document could not be taken into a world.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not one of our kinds.
    #[error("{api_version:?} {kind:?} is not a kind of the platform")]
    UnknownKind {
        /// The document's `apiVersion`.
        api_version: String,
        /// The document's `kind`.
        kind: String,
    },
    /// One of our kinds, but not of its form.
    #[error("{kind} {name:?}: {source}")]
    Malformed {
        /// The document's kind.
        kind: &'static str,
        /// The document's `metadata.name`.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The objects of one kind. Keys are shared: a changed copy of the map copies pointers and no text.
pub type Objects<T> = OrdMap<Arc<Key>, Arc<T>>;

/// A kind of ours that a world holds.
pub trait Known:
    Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
    /// The kind.
    const KIND: Kind;
    /// This kind's objects in a world.
    fn objects(world: &World) -> &Objects<Self>;
}

macro_rules! kinds {
    ($($kind:ident => $field:ident: $type:ty),* $(,)?) => {
        /// The kinds that a world holds, in the order in which problems and listings name them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(missing_docs, reason = "the variants are the kinds of `choreo_api`, which documents them")]
        pub enum Kind { $($kind),* }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The kind's name as in manifests.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => stringify!($kind)),* }
            }

            /// The kind's `apiVersion`.
            pub fn api_version(self) -> String {
                match self { $(Self::$kind => <$type as Resource>::api_version(&()).into_owned()),* }
            }
        }

        /// One object of any of our kinds.
        #[derive(Debug, Clone)]
        #[expect(missing_docs, reason = "the variants are the kinds of `choreo_api`, which documents them")]
        pub enum AnyObject { $($kind(Arc<$type>)),* }

        impl AnyObject {
            /// Reads an object of one of our kinds from JSON.
            ///
            /// # Errors
            /// When the kind is not ours or the document is not of its form.
            pub fn from_value(value: &Value) -> Result<Self, LoadError> {
                let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
                let (api_version, kind) = (text("/apiVersion"), text("/kind"));
                let value = &*with_spec(value);
                match kind.as_str() {
                    $(stringify!($kind) if api_version == <$type as Resource>::api_version(&()) => {
                        let object = <$type as serde::Deserialize>::deserialize(value).map_err(|source| LoadError::Malformed {
                            kind: stringify!($kind), name: text("/metadata/name"), source })?;
                        Ok(Self::$kind(Arc::new(object)))
                    })*
                    _ => Err(LoadError::UnknownKind { api_version, kind }),
                }
            }

            /// Takes an object of one of our kinds as it came from an API server: its metadata (but for the managed fields, which
            /// no plan reads), and everything else as JSON.
            ///
            /// `before` is the same object in an earlier state, if there is one: of what did not change, what was read is used again.
            ///
            /// # Errors
            /// When the kind is not ours or the object is not of its form.
            pub fn from_parts(
                api_version: &str, kind: &str, metadata: &ObjectMeta, data: &Value, before: Option<&Self>,
            ) -> Result<Self, LoadError> {
                let before = before.filter(|before| has_same_spec(before.meta(), metadata));
                match kind {
                    $(stringify!($kind) if api_version == <$type as Resource>::api_version(&()) => {
                        let before = match before { Some(Self::$kind(before)) => Some(&**before), _ => None };
                        let mut object: $type = <$type as Parts>::read(data, before).map_err(|source| LoadError::Malformed {
                            kind: stringify!($kind), name: metadata.name.clone().unwrap_or_default(), source })?;
                        *object.meta_mut() = ObjectMeta { managed_fields: None, ..metadata.clone() };
                        Ok(Self::$kind(Arc::new(object)))
                    })*
                    _ => Err(LoadError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() }),
                }
            }

            /// Which object it is.
            pub fn reference(&self) -> ObjectRef {
                match self { $(Self::$kind(object) => reference_of(object.as_ref())),* }
            }

            /// Its metadata.
            pub fn meta(&self) -> &ObjectMeta {
                match self { $(Self::$kind(object) => object.meta()),* }
            }

            /// The object as JSON.
            ///
            /// # Errors
            /// When it cannot be represented (no kind of ours can fail).
            pub fn to_value(&self) -> Result<Value, serde_json::Error> {
                match self { $(Self::$kind(object) => serde_json::to_value(object.as_ref())),* }
            }
        }

        /// All control-plane objects at one moment. Cheap to clone.
        #[derive(Debug, Clone, Default)]
        pub struct World {
            $($field: Objects<$type>,)*
            referrers: OrdMap<Arc<ObjectRef>, OrdSet<Arc<ObjectRef>>>,
            index: Index,
            arrivals: OrdMap<ObjectRef, u64>,
            promoted: bool,
        }

        impl World {
            /// Adds an object or replaces the one of the same kind, namespace and name.
            pub fn upsert(&mut self, object: AnyObject) {
                let reference = object.reference();
                let old = self.get_any(&reference);
                self.note_arrival(&reference, old.as_ref(), &object);
                if reference.kind == Kind::Promotion || old.as_ref().is_none_or(|old| !refers_alike(old, &object)) {
                    self.reindex(&reference, old.as_ref(), Some(&object));
                }
                match object { $(AnyObject::$kind(object) => { self.$field.insert(Arc::new(reference.key), object); })* }
            }

            /// Takes an object out; `false` when it was not there.
            pub fn remove(&mut self, reference: &ObjectRef) -> bool {
                let Some(old) = self.get_any(reference) else { return false };
                self.reindex(reference, Some(&old), None);
                self.arrivals.remove(reference);
                match reference.kind { $(Kind::$kind => self.$field.remove(&reference.key).is_some()),* }
            }

            /// An object of any kind.
            pub fn get_any(&self, reference: &ObjectRef) -> Option<AnyObject> {
                match reference.kind { $(Kind::$kind => self.$field.get(&reference.key).cloned().map(AnyObject::$kind)),* }
            }

            /// Every object, by kind, namespace and name.
            pub fn iter(&self) -> impl Iterator<Item = AnyObject> + '_ {
                let all = std::iter::empty();
                $(let all = all.chain(self.$field.values().cloned().map(AnyObject::$kind));)*
                all
            }

            /// How many objects there are.
            pub fn len(&self) -> usize {
                0 $(+ self.$field.len())*
            }
        }

        $(impl Known for $type {
            const KIND: Kind = Kind::$kind;
            fn objects(world: &World) -> &Objects<Self> {
                &world.$field
            }
        })*
    };
}

macro_rules! read_whole {
    ($($kind:ident),* $(,)?) => { $(impl Parts for api::$kind {})* };
}

read_whole! {
    Organization, DataPlane, Environment, DeploymentPipeline, ConfigurationGroup, ServiceClass, WebApplicationClass, ScheduledTaskClass,
    APIClass, ComponentType, Trait, ResourceType, ManagedResource, Project, Component, DeploymentTrack, Workload, Service,
    WebApplication, ScheduledTask, API, Build, DeployableArtifact, ServiceBinding, WebApplicationBinding, ScheduledTaskBinding,
    APIBinding, ComponentBinding, Promotion, PromotionDecision, PromotionBypass, Deployment, Endpoint,
}

kinds! {
    Organization => organizations: api::Organization,
    DataPlane => data_planes: api::DataPlane,
    Environment => environments: api::Environment,
    DeploymentPipeline => pipelines: api::DeploymentPipeline,
    ConfigurationGroup => configuration_groups: api::ConfigurationGroup,
    ServiceClass => service_classes: api::ServiceClass,
    WebApplicationClass => web_application_classes: api::WebApplicationClass,
    ScheduledTaskClass => scheduled_task_classes: api::ScheduledTaskClass,
    APIClass => api_classes: api::APIClass,
    ComponentType => component_types: api::ComponentType,
    Trait => traits: api::Trait,
    ResourceType => resource_types: api::ResourceType,
    ManagedResource => managed_resources: api::ManagedResource,
    Project => projects: api::Project,
    Component => components: api::Component,
    DeploymentTrack => deployment_tracks: api::DeploymentTrack,
    Workload => workloads: api::Workload,
    Service => services: api::Service,
    WebApplication => web_applications: api::WebApplication,
    ScheduledTask => scheduled_tasks: api::ScheduledTask,
    API => apis: api::API,
    Build => builds: api::Build,
    DeployableArtifact => artifacts: api::DeployableArtifact,
    ServiceBinding => service_bindings: api::ServiceBinding,
    WebApplicationBinding => web_application_bindings: api::WebApplicationBinding,
    ScheduledTaskBinding => scheduled_task_bindings: api::ScheduledTaskBinding,
    APIBinding => api_bindings: api::APIBinding,
    ComponentBinding => component_bindings: api::ComponentBinding,
    Promotion => promotions: api::Promotion,
    PromotionDecision => promotion_decisions: api::PromotionDecision,
    PromotionBypass => promotion_bypasses: api::PromotionBypass,
    Deployment => deployments: api::Deployment,
    Release => releases: api::Release,
    Endpoint => endpoints: api::Endpoint,
}

/// A manifest may leave out a spec that says nothing; the types may not.
fn with_spec(value: &Value) -> Cow<'_, Value> {
    let mut value = Cow::Borrowed(value);
    if value.get("spec").is_none()
        && let Some(object) = value.to_mut().as_object_mut()
    {
        object.insert("spec".to_owned(), Value::Object(serde_json::Map::new()));
    }
    value
}

static NOTHING: LazyLock<Value> = LazyLock::new(|| Value::Object(serde_json::Map::new()));

/// How a kind is read out of everything but its metadata.
trait Parts: DeserializeOwned {
    /// `before` is an earlier state with the same spec.
    fn read(data: &Value, before: Option<&Self>) -> Result<Self, serde_json::Error> {
        let _ = before;
        from_spec(data, data.get("spec").unwrap_or(&NOTHING))
    }
}

/// Whether an object's spec is the one of an earlier state, as its generation says.
fn has_same_spec(before: &ObjectMeta, now: &ObjectMeta) -> bool {
    now.generation.is_some() && now.generation == before.generation && now.uid == before.uid
}

/// The types want metadata to be there.
fn from_spec<T: DeserializeOwned>(data: &Value, spec: &Value) -> Result<T, serde_json::Error> {
    let status = data.get("status").map(|status| ("status", status));
    let parts = [("metadata", &*NOTHING), ("spec", spec)]
        .into_iter()
        .chain(status);
    T::deserialize(MapDeserializer::new(parts))
}

impl Parts for api::Release {
    /// What a release consists of is nearly all of it, and few plans look at it: it is packed without being read.
    fn read(data: &Value, before: Option<&Self>) -> Result<Self, serde_json::Error> {
        let spec = data.get("spec").and_then(Value::as_object);
        let packed = match before {
            // A status changes often, and packing takes longer than all the rest.
            Some(before) => Some(before.spec.resources.clone()),
            None => spec.and_then(|spec| api::ReleaseResources::packed(spec.get("resources")?)),
        };
        let (Some(spec), Some(packed)) = (spec, packed) else {
            return from_spec(data, data.get("spec").unwrap_or(&NOTHING));
        };
        let others = spec.iter().filter(|(name, _)| *name != "resources");
        let others = others
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let mut release: Self = from_spec(data, &Value::Object(others))?;
        release.spec.resources = packed;
        Ok(release)
    }
}

/// Which object a typed object is.
pub fn reference_of<T: Known>(object: &T) -> ObjectRef {
    ObjectRef::new(T::KIND, object.namespace().unwrap_or_default(), object.name_any())
}

impl World {
    /// A world without objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Supposes that whatever a binding says was promoted: files say what they lead to once it is.
    pub fn suppose_promoted(&mut self, yes: bool) {
        self.promoted = yes;
    }

    /// Whether whatever a binding says counts as promoted.
    pub(crate) fn supposes_promoted(&self) -> bool {
        self.promoted
    }

    /// Whether there is no object at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The object of a kind with this namespace and name.
    pub fn get<T: Known>(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        T::objects(self).get(&Key::new(namespace, name))
    }

    /// All objects of a kind in a namespace, by name.
    pub fn in_namespace<'a, T: Known>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> + 'a {
        let first = Key::new(namespace, "");
        T::objects(self)
            .range(first..)
            .take_while(move |(key, _)| key.namespace == namespace)
            .map(|(_, object)| object)
    }

    /// All objects of a kind, by namespace and name.
    pub fn all<T: Known>(&self) -> impl Iterator<Item = &Arc<T>> + '_ {
        T::objects(self).values()
    }

    /// The objects that refer to this one, whether or not it exists, in order.
    pub fn referrers(&self, reference: &ObjectRef) -> impl Iterator<Item = &ObjectRef> + '_ {
        self.referrers
            .get(reference)
            .into_iter()
            .flatten()
            .map(AsRef::as_ref)
    }

    /// The objects of some kinds, which follow each other in [`Kind::ALL`], that refer to this one, in order. What comes before them
    /// is skipped without being looked at.
    pub(crate) fn referrers_of(
        &self,
        reference: &ObjectRef,
        kinds: &'static [Kind],
    ) -> impl Iterator<Item = &ObjectRef> + '_ {
        let first = kinds.iter().min().map(|kind| ObjectRef::new(*kind, "", ""));
        let set = self.referrers.get(reference);
        set.zip(first)
            .into_iter()
            .flat_map(|(set, first)| set.range(first..))
            .map(AsRef::as_ref)
            .take_while(|r| kinds.contains(&r.kind))
    }

    /// The environments in which a binding of the project asks for a cell, but for bindings that leave it to their API to say
    /// whose they are.
    pub(crate) fn environments_of<'a>(
        &'a self,
        project: &'a ObjectRef,
    ) -> impl Iterator<Item = &'a str> + 'a {
        self.index.environments_of(&project.key)
    }

    /// Whether a binding of the project asks for a cell in the environment; as [`World::environments_of`].
    pub(crate) fn has_cell(&self, project: &ObjectRef, environment: &str) -> bool {
        self.index.has_cell(&project.key, environment)
    }

    /// Whether something in the namespace uses a managed resource, or is the release of one.
    pub(crate) fn uses_managed_resources(&self, namespace: &str) -> bool {
        self.index.uses_managed_resources(namespace)
    }

    /// The objects of one kind that refer to this one, in order.
    pub fn referring<'a, T: Known>(&'a self, reference: &ObjectRef) -> impl Iterator<Item = &'a Arc<T>> + 'a {
        self.referrers_of(reference, &[T::KIND])
            .filter_map(|r| T::objects(self).get(&r.key))
    }

    /// A number that tells which of two promotions, or of two decisions, came first: the resource version that it was first seen
    /// with. Later versions say nothing, since others may have written to it meanwhile. 0 if there is none.
    pub(crate) fn arrival(&self, reference: &ObjectRef) -> u64 {
        self.arrivals.get(reference).copied().unwrap_or_default()
    }

    fn note_arrival(&mut self, reference: &ObjectRef, old: Option<&AnyObject>, new: &AnyObject) {
        let counts = matches!(reference.kind, Kind::Promotion | Kind::PromotionDecision);
        if !counts || old.is_some_and(|old| old.meta().uid == new.meta().uid) {
            return;
        }
        let version = new.meta().resource_version.as_deref();
        let arrival = version
            .and_then(|version| version.parse().ok())
            .unwrap_or_default();
        self.arrivals.insert(reference.clone(), arrival);
    }

    fn reindex(&mut self, reference: &ObjectRef, old: Option<&AnyObject>, new: Option<&AnyObject>) {
        let edges = |object: Option<&AnyObject>| object.map(references::of).unwrap_or_default();
        let (was, is) = (edges(old), edges(new));
        let from = Arc::new(reference.clone());
        for gone in was.difference(&is) {
            let empty = self.referrers.get_mut(gone).is_some_and(|set| {
                set.remove(reference);
                set.is_empty()
            });
            if empty {
                self.referrers.remove(gone);
            }
        }
        for added in is.difference(&was) {
            match self.referrers.get_mut(added) {
                Some(set) => {
                    set.insert(Arc::clone(&from));
                }
                None => {
                    let set = OrdSet::unit(Arc::clone(&from));
                    self.referrers.insert(Arc::new(added.clone()), set);
                }
            }
        }
        self.index.change(&from, (old, &was), (new, &is));
    }
}

/// Whether two states of an object refer to the same others, which only a status that differs does not change.
fn refers_alike(old: &AnyObject, new: &AnyObject) -> bool {
    let (old, new) = (old.meta(), new.meta());
    old.generation.is_some()
        && old.generation == new.generation
        && old.uid == new.uid
        && old.labels == new.labels
        && old.deletion_timestamp == new.deletion_timestamp
}
