//! Watches into caches, and from changes to tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use futures::{StreamExt, future};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt, watcher},
};
use serde::de::DeserializeOwned;
use tokio::{
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
};

use super::{Cache, Context, Name, Task, World, index::Indexed, routes, writes::Cached};
use crate::operators::{KINDS, Kind};

type Sender = mpsc::UnboundedSender<Task>;

/// A watched kind.
trait Source: Send + Sync + 'static {
    type Object: Indexed + Clone + DeserializeOwned + Debug + Send + Sync + 'static;
    fn cache<'w>(&self, world: &'w World) -> &'w Cache<Self::Object>;
    /// The tasks that a change of an object means; `old` and `new` are what there was and is.
    fn tasks(&self, world: &World, old: Option<&Self::Object>, new: Option<&Self::Object>) -> Vec<Task>;
}

struct Typed<K>(std::marker::PhantomData<fn() -> K>);

impl<K: Cached + routes::Routed> Source for Typed<K> {
    type Object = K;

    fn cache<'w>(&self, world: &'w World) -> &'w Cache<K> {
        K::cache(world)
    }

    fn tasks(&self, world: &World, old: Option<&K>, new: Option<&K>) -> Vec<Task> {
        K::tasks(world, old, new)
    }
}

/// `CiliumNetworkPolicy`, where it is defined. The policies are looked at with every connection.
struct Cilium;

impl Source for Cilium {
    type Object = DynamicObject;

    fn cache<'w>(&self, world: &'w World) -> &'w Cache<DynamicObject> {
        &world.cilium_policies
    }

    fn tasks(&self, _: &World, _: Option<&DynamicObject>, _: Option<&DynamicObject>) -> Vec<Task> {
        Vec::new()
    }
}

/// The definition of [`Cilium`]'s kind.
const CILIUM: &str = "ciliumnetworkpolicies.cilium.io";

impl Source for Kind {
    type Object = DynamicObject;

    fn cache<'w>(&self, world: &'w World) -> &'w Cache<DynamicObject> {
        world.foreign(*self)
    }

    fn tasks(&self, _: &World, old: Option<&DynamicObject>, new: Option<&DynamicObject>) -> Vec<Task> {
        crate::operators::tasks(*self, old, new)
    }
}

/// Starts all watches and waits until those of built-in kinds are complete. They end when the result is dropped.
pub(crate) async fn start(context: &Arc<Context>, sender: &Sender) -> JoinSet<()> {
    let mut feeds = JoinSet::new();
    let mut complete = Vec::new();
    macro_rules! feed {
        ($($kind:ty),*) => {$(
            let (done, is_done) = oneshot::channel();
            complete.push(is_done);
            let api = Api::<$kind>::all(context.client.clone());
            feeds.spawn(follow(context.clone(), Typed::<$kind>(std::marker::PhantomData), api, sender.clone(), Some(done)));
        )*};
    }
    use k8s_openapi::api::{
        apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch, core::v1 as core,
        discovery::v1 as discovery, networking::v1 as networking, policy::v1 as policy,
    };
    feed!(
        core::Pod,
        core::Service,
        core::Node,
        core::PersistentVolumeClaim,
        core::Secret
    );
    if context.options.workloads {
        feed!(
            apps::Deployment,
            apps::ReplicaSet,
            apps::StatefulSet,
            apps::DaemonSet,
            apps::ControllerRevision,
            batch::Job,
            batch::CronJob
        );
        feed!(discovery::EndpointSlice, core::Endpoints);
        feed!(autoscaling::HorizontalPodAutoscaler, policy::PodDisruptionBudget);
    }
    if context.options.containers.is_some() {
        feed!(core::ConfigMap, core::Namespace, networking::NetworkPolicy);
    }
    if context.options.operators || context.options.containers.is_some() {
        feeds.spawn(follow_definitions(context.clone(), sender.clone()));
    }
    future::join_all(complete).await;
    feeds
}

async fn follow<S: Source>(
    context: Arc<Context>,
    source: S,
    api: Api<S::Object>,
    sender: Sender,
    mut done: Option<oneshot::Sender<()>>,
) {
    let world = &context.world;
    let cache = source.cache(world);
    let send = |tasks: Vec<Task>| tasks.into_iter().for_each(|task| drop(sender.send(task)));
    let mut listed = BTreeSet::new();
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => {
                listed.insert(Name::of(&object));
                let object = Arc::new(object);
                let old = cache.upsert(object.clone());
                send(source.tasks(world, old.as_deref(), Some(&object)));
            }
            Ok(watcher::Event::InitDone) => {
                for object in cache.all() {
                    if !listed.contains(&Name::of(&*object)) {
                        cache.remove(&object);
                        send(source.tasks(world, Some(&object), None));
                    }
                }
                listed.clear();
                if let Some(done) = done.take() {
                    let _ = done.send(());
                }
            }
            Ok(watcher::Event::Apply(object)) => {
                let object = Arc::new(object);
                let old = cache.upsert(object.clone());
                send(source.tasks(world, old.as_deref(), Some(&object)));
            }
            Ok(watcher::Event::Delete(object)) => {
                cache.remove(&object);
                send(source.tasks(world, Some(&object), None));
            }
            Err(error) => tracing::debug!("watch will be tried again: {error}"),
        }
    }
}

/// Kinds of operators are watched once their definition is there.
async fn follow_definitions(context: Arc<Context>, sender: Sender) {
    let api = Api::<CustomResourceDefinition>::all(context.client.clone());
    let mut events = watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut feeds = JoinSet::new();
    let mut running: BTreeMap<Kind, AbortHandle> = BTreeMap::new();
    let mut cilium: Option<AbortHandle> = None;
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Apply(definition) | watcher::Event::InitApply(definition)) => {
                if context.options.containers.is_some()
                    && cilium.as_ref().is_none_or(AbortHandle::is_finished)
                    && let Some(resource) = resource_of(&definition, CILIUM)
                {
                    let api = Api::<DynamicObject>::all_with(context.client.clone(), &resource);
                    cilium = Some(feeds.spawn(follow(context.clone(), Cilium, api, sender.clone(), None)));
                }
                let Some((kind, resource)) = served(&definition) else {
                    continue;
                };
                let wanted = match kind {
                    Kind::Gateway => context.options.containers.is_some(),
                    _ => context.options.operators,
                };
                if !wanted {
                    continue;
                }
                if running.get(&kind).is_none_or(AbortHandle::is_finished) {
                    let api = Api::<DynamicObject>::all_with(context.client.clone(), &resource);
                    let feed = feeds.spawn(follow(context.clone(), kind, api, sender.clone(), None));
                    running.insert(kind, feed);
                }
            }
            Ok(watcher::Event::Delete(definition)) => {
                if let Some((kind, _)) = served(&definition)
                    && let Some(feed) = running.remove(&kind)
                {
                    feed.abort();
                    let cache = context.world.foreign(kind);
                    cache.all().iter().for_each(|object| cache.remove(object));
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!("watch of definitions will be tried again: {error}"),
        }
    }
}

/// The kind of ours that a definition makes, if it is in use.
fn served(definition: &CustomResourceDefinition) -> Option<(Kind, ApiResource)> {
    let name = definition.metadata.name.as_deref()?;
    let kind = KINDS.into_iter().find(|kind| kind.definition() == name)?;
    Some((kind, resource_of(definition, name)?))
}

/// How the kind of a definition is asked for, if it is the one that is meant and in use.
fn resource_of(definition: &CustomResourceDefinition, name: &str) -> Option<ApiResource> {
    if definition.metadata.name.as_deref() != Some(name) {
        return None;
    }
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
    let version = spec
        .versions
        .iter()
        .find(|version| version.storage && version.served);
    let version = &version
        .or(spec.versions.iter().find(|version| version.served))?
        .name;
    let gvk = GroupVersionKind::gvk(&spec.group, version, &spec.names.kind);
    Some(ApiResource::from_gvk_with_plural(&gvk, &spec.names.plural))
}
