//! A snapshot of every control-plane object: what the plans read.
//!
//! A `World` is a handful of persistent maps, so a clone costs a few pointers and a changed copy shares everything that
//! did not change. Controllers feed it from watches, offline rendering from files; a plan cannot tell the difference.
//!
//! Beside the objects it keeps one index: for each object, existing or not, which objects refer to it
//! ([`World::referrers`]). What a plan waits for is thereby found when it appears.
//!
//! What an object says need not be in memory while nobody looks at it: see [`World::rest`]. Where they are, and who refers to whom, is
//! always known without reading any.

use std::{cmp::Ordering, collections::BTreeSet, fmt, sync::Arc};

use choreo_api::v1alpha1 as api;
use equivalent::{Comparable, Equivalent};
use imbl::OrdMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

mod edges;
mod entry;
mod index;
mod read;
mod references;

use edges::Edges;
use entry::Entry;
pub use entry::{Source, Unreadable, complete};
use index::Index;
use read::Parts;

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

/// A namespace and a name that are looked for.
struct Sought<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Equivalent<Arc<Key>> for Sought<'_> {
    fn equivalent(&self, key: &Arc<Key>) -> bool {
        self.namespace == key.namespace && self.name == key.name
    }
}

impl Comparable<Arc<Key>> for Sought<'_> {
    fn compare(&self, key: &Arc<Key>) -> Ordering {
        let of_namespace = self.namespace.cmp(&key.namespace);
        of_namespace.then_with(|| self.name.cmp(&key.name))
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
    /// Where it is. A copy of the reference shares it.
    pub key: Arc<Key>,
}

impl ObjectRef {
    /// A reference to an object.
    pub fn new(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind,
            key: Arc::new(Key::new(namespace, name)),
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
type Objects<T> = OrdMap<Arc<Key>, Arc<Entry<T>>>;

/// A kind of ours that a world holds.
pub trait Known:
    Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
    /// The kind.
    const KIND: Kind;
    /// The object, if it is of this kind.
    fn of_any(object: AnyObject) -> Option<Arc<Self>>;
    #[doc(hidden)]
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
                let value = &*read::with_spec(value);
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
            /// # Errors
            /// When the kind is not ours or the object is not of its form.
            pub fn from_parts(api_version: &str, kind: &str, metadata: &ObjectMeta, data: &Value) -> Result<Self, LoadError> {
                match kind {
                    $(stringify!($kind) if api_version == <$type as Resource>::api_version(&()) => {
                        let mut object: $type = <$type as Parts>::read(data).map_err(|source| LoadError::Malformed {
                            kind: stringify!($kind), name: metadata.name.clone().unwrap_or_default(), source })?;
                        *object.meta_mut() = ObjectMeta { managed_fields: None, ..metadata.clone() };
                        Ok(Self::$kind(Arc::new(object)))
                    })*
                    _ => Err(LoadError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() }),
                }
            }

            /// Takes an object of one of our kinds as the text of what came from an API server, without its managed fields.
            ///
            /// # Errors
            /// When the kind is not ours or the object is not of its form.
            pub fn from_text(api_version: &str, kind: &str, text: &[u8]) -> Result<Self, LoadError> {
                match kind {
                    $(stringify!($kind) if api_version == <$type as Resource>::api_version(&()) => {
                        let object = <$type as Parts>::read_text(text).map_err(|source| LoadError::Malformed {
                            kind: stringify!($kind), name: read::name_in(text), source })?;
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
            edges: Edges,
            index: Index,
            arrivals: OrdMap<ObjectRef, u64>,
            promoted: bool,
        }

        impl World {
            /// Adds an object or replaces the one of the same kind, namespace and name.
            pub fn upsert(&mut self, object: AnyObject) {
                self.put(object, None);
            }

            /// The same for an object that can be read again, so that it need not stay here: see [`World::rest`].
            pub fn upsert_from(&mut self, object: AnyObject, source: Arc<dyn Source>) {
                self.put(object, Some(source));
            }

            fn put(&mut self, object: AnyObject, source: Option<Arc<dyn Source>>) {
                let reference = object.reference();
                let reference = self.shared(&reference).unwrap_or(reference);
                let old = self.get_any(&reference);
                self.note_arrival(&reference, old.as_ref(), &object);
                if reference.kind == Kind::Promotion || old.as_ref().is_none_or(|old| !refers_alike(old, &object)) {
                    self.reindex(&reference, old.as_ref(), Some(&object));
                }
                match object { $(AnyObject::$kind(object) => {
                    self.$field.insert(reference.key, Arc::new(Entry::new(object, source)));
                })* }
            }

            /// The same reference with an address that is known here already.
            fn shared(&self, reference: &ObjectRef) -> Option<ObjectRef> {
                let key = match reference.kind { $(Kind::$kind => self.$field.get_key_value(&reference.key).map(|(key, _)| key)),* };
                let known = key.map(|key| ObjectRef { kind: reference.kind, key: Arc::clone(key) });
                known.or_else(|| self.edges.shared(reference))
            }

            /// Forgets what an object says until somebody looks at it again, if it can be read again and is not of a kind that is
            /// looked through as a whole. Worlds that were cloned before keep it.
            pub fn rest(&mut self, reference: &ObjectRef) {
                if !reference.kind.rests() {
                    return;
                }
                match reference.kind { $(Kind::$kind => {
                    if let Some(rested) = self.$field.get(&reference.key).and_then(|entry| entry.rested())
                        && let Some(entry) = self.$field.get_mut(&reference.key)
                    {
                        *entry = Arc::new(rested);
                    }
                })* }
            }

            /// Whether there is an object, which is not read for it.
            pub fn contains(&self, reference: &ObjectRef) -> bool {
                match reference.kind { $(Kind::$kind => self.$field.contains_key(&reference.key)),* }
            }

            /// Which objects there are, by kind, namespace and name. None is read for it.
            pub fn references(&self) -> impl Iterator<Item = ObjectRef> + '_ {
                let all = std::iter::empty();
                $(let all = all.chain(self.$field.keys().map(|key| ObjectRef { kind: Kind::$kind, key: Arc::clone(key) }));)*
                all
            }

            /// How many objects are here as such, and need not be read first.
            pub fn read_already(&self) -> usize {
                0 $(+ self.$field.values().filter(|entry| entry.is_read()).count())*
            }

            /// Takes an object out; `false` when it was not there.
            pub fn remove(&mut self, reference: &ObjectRef) -> bool {
                if !self.contains(reference) {
                    return false;
                }
                self.reindex(reference, self.get_any(reference).as_ref(), None);
                self.arrivals.remove(reference);
                match reference.kind { $(Kind::$kind => self.$field.remove(&reference.key).is_some()),* }
            }

            /// An object of any kind.
            pub fn get_any(&self, reference: &ObjectRef) -> Option<AnyObject> {
                match reference.kind { $(Kind::$kind => self.$field.get(&reference.key)?.get().cloned().map(AnyObject::$kind)),* }
            }

            /// Every object, by kind, namespace and name.
            pub fn iter(&self) -> impl Iterator<Item = AnyObject> + '_ {
                let all = std::iter::empty();
                $(let all = all.chain(self.$field.values().filter_map(|entry| entry.get()).cloned().map(AnyObject::$kind));)*
                all
            }

            /// How many objects there are.
            pub fn len(&self) -> usize {
                0 $(+ self.$field.len())*
            }
        }

        $(impl Known for $type {
            const KIND: Kind = Kind::$kind;
            fn of_any(object: AnyObject) -> Option<Arc<Self>> {
                match object {
                    AnyObject::$kind(object) => Some(object),
                    _ => None,
                }
            }
            fn objects(world: &World) -> &Objects<Self> {
                &world.$field
            }
        })*
    };
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

/// Which object a typed object is.
pub fn reference_of<T: Known>(object: &T) -> ObjectRef {
    ObjectRef::new(T::KIND, object.namespace().unwrap_or_default(), object.name_any())
}

impl Kind {
    /// Whether there are so many of it that a world forgets what they say while nobody looks at them. What promotions say is looked
    /// through, and of the other kinds there are few that nearly every plan reads.
    fn rests(self) -> bool {
        matches!(
            self,
            Self::Component
                | Self::DeploymentTrack
                | Self::Workload
                | Self::Service
                | Self::WebApplication
                | Self::ScheduledTask
                | Self::API
                | Self::Build
                | Self::DeployableArtifact
                | Self::ServiceBinding
                | Self::WebApplicationBinding
                | Self::ScheduledTaskBinding
                | Self::APIBinding
                | Self::ComponentBinding
                | Self::Deployment
                | Self::Release
                | Self::Endpoint
        )
    }
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
        T::objects(self).get(&Sought { namespace, name })?.get()
    }

    /// All objects of a kind in a namespace, by name. Those that nobody has looked at for a while are read for it: who wants to know
    /// what they are called asks [`World::keys_in`].
    pub fn in_namespace<'a, T: Known>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<T>> + 'a {
        self.entries_in::<T>(namespace)
            .filter_map(|(_, entry)| entry.get())
    }

    /// Where the objects of a kind in a namespace are, by name. None is read for it.
    pub fn keys_in<'a, T: Known>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Key>> + 'a {
        self.entries_in::<T>(namespace).map(|(key, _)| key)
    }

    fn entries_in<'a, T: Known>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Arc<Key>, &'a Arc<Entry<T>>)> + 'a {
        T::objects(self)
            .range(Sought { namespace, name: "" }..)
            .take_while(move |(key, _)| key.namespace == namespace)
    }

    /// Where the objects of a kind are, by namespace and name. None is read for it.
    pub fn keys<T: Known>(&self) -> impl Iterator<Item = &Arc<Key>> + '_ {
        T::objects(self).keys()
    }

    /// All objects of a kind, by namespace and name; as [`World::in_namespace`].
    pub fn all<T: Known>(&self) -> impl Iterator<Item = &Arc<T>> + '_ {
        T::objects(self).values().filter_map(|entry| entry.get())
    }

    /// The objects that refer to this one, whether or not it exists, in order.
    pub fn referrers(&self, reference: &ObjectRef) -> impl Iterator<Item = &ObjectRef> + '_ {
        self.edges.to(reference, None)
    }

    /// The objects of some kinds, which follow each other in [`Kind::ALL`], that refer to this one, in order. What comes before them
    /// is skipped without being looked at.
    pub fn referrers_of(
        &self,
        reference: &ObjectRef,
        kinds: &'static [Kind],
    ) -> impl Iterator<Item = &ObjectRef> + '_ {
        self.edges
            .to(reference, kinds.iter().min().copied())
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

    /// The releases of managed resources in a namespace, by name.
    pub(crate) fn resource_releases<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<api::Release>> + 'a {
        let all = self.index.resource_releases(namespace);
        all.filter_map(|release| self.get(&release.key.namespace, &release.key.name))
    }

    /// The endpoints in a namespace that want a port of a gateway for themselves, by name.
    pub(crate) fn listening<'a>(
        &'a self,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Arc<api::Endpoint>> + 'a {
        let all = self.index.listening(namespace);
        all.filter_map(|endpoint| self.get(&endpoint.key.namespace, &endpoint.key.name))
    }

    /// The objects of one kind that refer to this one, in order.
    pub fn referring<'a, T: Known>(&'a self, reference: &ObjectRef) -> impl Iterator<Item = &'a Arc<T>> + 'a {
        self.referrers_of(reference, &[T::KIND])
            .filter_map(|r| T::objects(self).get(&r.key)?.get())
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
        let (mut was, is) = (edges(old), edges(new));
        if old.is_none() && self.contains(reference) {
            // It was there and could not be read.
            was = self.edges.from(reference);
        }
        // What is said many times is kept once.
        let shared = |world: &Self, to: &ObjectRef| world.shared(to).unwrap_or_else(|| to.clone());
        let is: BTreeSet<ObjectRef> = is.iter().map(|to| shared(self, to)).collect();
        self.edges.change(reference, &was, &is);
        self.index.change(reference, (old, &was), (new, &is));
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
