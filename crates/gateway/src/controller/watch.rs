//! Watches: of built-in kinds from the start, of others while their definition is there.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Debug;
use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::PartialObjectMeta;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::task::{AbortHandle, JoinSet};

use super::{Differs, Shared};
use crate::config::object::{Kind, Name};
use crate::config::world::{World, name_of};

/// A kind that is always there.
trait BuiltIn: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Takes an object in. What may differ.
    fn apply(&self, world: &mut World) -> Differs;
    fn remove(&self, world: &mut World) -> Differs;
    /// What is known but was not listed goes.
    fn retain(world: &mut World, listed: &HashSet<Name>) -> Differs;
}

impl BuiltIn for Service {
    fn apply(&self, world: &mut World) -> Differs {
        let changed = world.apply_service(self);
        of_service(world, &name_of(&self.metadata), changed)
    }

    fn remove(&self, world: &mut World) -> Differs {
        let name = name_of(&self.metadata);
        let changed = world.remove_service(&name);
        of_service(world, &name, changed)
    }

    fn retain(world: &mut World, listed: &HashSet<Name>) -> Differs {
        let gone: Vec<Name> = world
            .services
            .keys()
            .filter(|name| !listed.contains(*name))
            .cloned()
            .collect();
        let mut all = Differs::default();
        for name in gone {
            let changed = world.remove_service(&name);
            all |= of_service(world, &name, changed);
        }
        all
    }
}

/// Most Services are in no route, but each may be where a key set is.
fn of_service(world: &World, name: &Name, changed: bool) -> Differs {
    Differs {
        table: changed && world.looked_at.services.contains(name),
        services: changed,
    }
}

impl BuiltIn for EndpointSlice {
    fn apply(&self, world: &mut World) -> Differs {
        world.apply_slice(self);
        Differs::default()
    }

    fn remove(&self, world: &mut World) -> Differs {
        world.remove_slice(self);
        Differs::default()
    }

    fn retain(world: &mut World, listed: &HashSet<Name>) -> Differs {
        for (service, slice) in world.slice_names() {
            if !listed.contains(&Name::new(&service.namespace, &slice)) {
                world.remove_slice_by_name(&service, &slice);
            }
        }
        Differs::default()
    }
}

impl BuiltIn for Secret {
    fn apply(&self, world: &mut World) -> Differs {
        let changed = world.apply_secret(self);
        Differs::table(changed && world.looked_at.secrets.contains(&name_of(&self.metadata)))
    }

    fn remove(&self, world: &mut World) -> Differs {
        let name = name_of(&self.metadata);
        let changed = world.secrets.remove(&name).is_some();
        Differs::table(changed && world.looked_at.secrets.contains(&name))
    }

    fn retain(world: &mut World, listed: &HashSet<Name>) -> Differs {
        let mut differs = false;
        let looked_at = &world.looked_at.secrets;
        world.secrets.retain(|name, _| {
            let stays = listed.contains(name);
            differs |= !stays && looked_at.contains(name);
            stays
        });
        Differs::table(differs)
    }
}

impl BuiltIn for Namespace {
    fn apply(&self, world: &mut World) -> Differs {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let labels = self.metadata.labels.clone().unwrap_or_default();
        Differs::table(world.apply_namespace(name, Some(labels)))
    }

    fn remove(&self, world: &mut World) -> Differs {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        Differs::table(world.apply_namespace(name, None))
    }

    fn retain(world: &mut World, listed: &HashSet<Name>) -> Differs {
        let gone: Vec<String> = world
            .namespaces
            .keys()
            .filter(|name| !listed.contains(&Name::new("", name)))
            .cloned()
            .collect();
        let mut all = Differs::default();
        for name in gone {
            all |= Differs::table(world.apply_namespace(&name, None));
        }
        all
    }
}

/// Starts all watches. They end when the result is dropped.
pub(super) fn start(shared: &Arc<Shared>) -> JoinSet<()> {
    let mut feeds = JoinSet::new();
    shared.begin();
    feeds.spawn(follow::<Service>(Arc::clone(shared)));
    shared.begin();
    feeds.spawn(follow::<EndpointSlice>(Arc::clone(shared)));
    shared.begin();
    feeds.spawn(follow::<Secret>(Arc::clone(shared)));
    shared.begin();
    feeds.spawn(follow::<Namespace>(Arc::clone(shared)));
    shared.begin();
    feeds.spawn(follow_definitions(Arc::clone(shared)));
    feeds
}

async fn follow<K: BuiltIn>(shared: Arc<Shared>) {
    let api = Api::<K>::all(shared.client.clone());
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = HashSet::new();
    let mut first = true;
    while let Some(event) = events.next().await {
        let changed = match event {
            Ok(watcher::Event::Init) => {
                listed.clear();
                Differs::default()
            }
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(name_of(object.meta()));
                object.apply(&mut shared.world.lock())
            }
            Ok(watcher::Event::InitDone) => {
                let changed = K::retain(&mut shared.world.lock(), &listed);
                listed.clear();
                if std::mem::take(&mut first) {
                    shared.complete();
                }
                changed
            }
            Ok(watcher::Event::Apply(object)) => object.apply(&mut shared.world.lock()),
            Ok(watcher::Event::Delete(object)) => object.remove(&mut shared.world.lock()),
            Err(error) => {
                tracing::debug!("watch of {} will be tried again: {error}", K::plural(&()));
                Differs::default()
            }
        };
        if changed != Differs::default() {
            shared.note(changed, None);
        }
    }
}

/// Objects of a kind with a definition.
async fn follow_kind(shared: Arc<Shared>, kind: Kind, resource: ApiResource) {
    let api = Api::<DynamicObject>::all_with(shared.client.clone(), &resource);
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut listed = HashSet::new();
    let mut first = true;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                let name = name_of(&object.metadata);
                let changed = shared.world.lock().apply(kind, &object);
                listed.insert(name.clone());
                shared.note(Differs::table(changed), Some((kind, name)));
            }
            Ok(watcher::Event::InitDone) => {
                let mut world = shared.world.lock();
                let gone: Vec<Name> = world
                    .names(kind)
                    .into_iter()
                    .filter(|name| !listed.contains(name))
                    .collect();
                let changed = gone.iter().filter(|name| world.remove(kind, name)).count() > 0;
                drop(world);
                listed.clear();
                if std::mem::take(&mut first) {
                    shared.complete();
                }
                if changed {
                    shared.note(Differs::table(true), None);
                }
            }
            Ok(watcher::Event::Apply(object)) => {
                let changed = shared.world.lock().apply(kind, &object);
                shared.note(Differs::table(changed), Some((kind, name_of(&object.metadata))));
            }
            Ok(watcher::Event::Delete(object)) => {
                let name = name_of(&object.metadata);
                if shared.world.lock().remove(kind, &name) {
                    shared.note(Differs::table(true), None);
                }
            }
            Err(error) => tracing::debug!("watch of {} will be tried again: {error}", kind.plural()),
        }
    }
}

/// Which kinds there are. Only names are watched, and a definition is read if it is one of ours: definitions are large.
async fn follow_definitions(shared: Arc<Shared>) {
    let api = Api::<CustomResourceDefinition>::all(shared.client.clone());
    let names = Api::<PartialObjectMeta<CustomResourceDefinition>>::all(shared.client.clone());
    let mut events = watcher(names, watcher::Config::default())
        .default_backoff()
        .boxed();
    let mut feeds = JoinSet::new();
    let mut running: BTreeMap<Kind, AbortHandle> = BTreeMap::new();
    let mut first = true;
    let of = |name: Option<&str>| {
        Kind::ALL
            .into_iter()
            .find(|kind| Some(kind.definition().as_str()) == name)
    };
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(definition) | watcher::Event::InitApply(definition)) => {
                let Some(kind) = of(definition.metadata.name.as_deref()) else {
                    continue;
                };
                if running.get(&kind).is_some_and(|feed| !feed.is_finished()) {
                    continue;
                }
                match api.get_opt(&kind.definition()).await {
                    Ok(Some(definition)) => {
                        // One that is not in use yet is looked at again with its next event.
                        if let Some(resource) = served(&definition) {
                            shared.begin();
                            shared.resources.lock().insert(kind, resource.clone());
                            let feed = feeds.spawn(follow_kind(Arc::clone(&shared), kind, resource));
                            running.insert(kind, feed);
                        }
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!("cannot read definition {}: {error}", kind.definition()),
                }
            }
            Ok(watcher::Event::Delete(definition)) => {
                if let Some(kind) = of(definition.metadata.name.as_deref())
                    && let Some(feed) = running.remove(&kind)
                {
                    feed.abort();
                    let mut world = shared.world.lock();
                    for name in world.names(kind) {
                        world.remove(kind, &name);
                    }
                    drop(world);
                    shared.note(Differs::table(true), None);
                }
            }
            Ok(watcher::Event::Init) => {}
            Ok(watcher::Event::InitDone) => {
                if std::mem::take(&mut first) {
                    shared.complete();
                }
            }
            Err(error) => tracing::debug!("watch of definitions will be tried again: {error}"),
        }
    }
}

/// The kind that a definition makes, if it is in use.
fn served(definition: &CustomResourceDefinition) -> Option<ApiResource> {
    let conditions = definition
        .status
        .as_ref()?
        .conditions
        .as_deref()
        .unwrap_or_default();
    if !conditions
        .iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
    {
        return None;
    }
    let spec = &definition.spec;
    let versions = &spec.versions;
    let stored = versions.iter().find(|version| version.storage && version.served);
    let version = stored.or_else(|| versions.iter().find(|version| version.served))?;
    let gvk = GroupVersionKind::gvk(&spec.group, &version.name, &spec.names.kind);
    Some(ApiResource::from_gvk_with_plural(&gvk, &spec.names.plural))
}
