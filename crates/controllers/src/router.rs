//! From a change to the keys that have to be looked at: the wires between watches and queues.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use choreo_api::labels;
use choreo_api::v1alpha1::{Build, DataPlane, Release};
use choreo_engine::binding;
use choreo_engine::plan::Target;
use choreo_engine::promotion::LaneKey;
use choreo_engine::world::{Key as EngineKey, Kind, ObjectRef as EngineRef};

use crate::at_work::AtWork;
use crate::flow::targets;
use crate::planes::plane::PlaneListener;
use crate::planes::{PlaneId, Role};
use crate::release::index::Index;
use crate::runtime::metrics::Metrics;
use crate::runtime::object::is_status_only;
use crate::runtime::{Backoff, Cache, Change, Key, ObjectRef, Queue, Rush};
use crate::shard::Shard;
use crate::view::{ControlSnapshot, ControlView, object_ref};
use crate::{alias, build, buildplane, dataplane, inputs, promotion, release};

/// The queues of all controllers.
pub struct Router {
    plans: BTreeMap<&'static str, Queue<Target>>,
    releases: Queue<Key>,
    data_planes: Queue<Key>,
    build_planes: Queue<Key>,
    builds: Queue<Key>,
    promotions: Queue<LaneKey>,
    inputs: Queue<ObjectRef>,
    aliases: Queue<ObjectRef>,
    index: Arc<Index>,
    shard: Shard,
    cache: OnceLock<Weak<Cache<ControlView>>>,
    /// Before the first full picture nothing is queued: everything will be.
    started: AtomicBool,
}

impl Router {
    /// Empty queues for what a shard looks after.
    pub fn new(metrics: &Metrics, index: Arc<Index>, shard: Shard) -> Self {
        let rush = Rush::default();
        let queue = |name| Queue::new(Backoff::default(), metrics.controller(name)).sharing(&rush);
        let objects = |name| Queue::new(Backoff::default(), metrics.controller(name)).sharing(&rush);
        let names = targets::CONTROLLERS
            .iter()
            .map(|(name, _)| *name)
            .chain([targets::CELL]);
        Self {
            plans: names
                .map(|name| {
                    let queue = Queue::new(Backoff::default(), metrics.controller(name));
                    (name, queue.sharing(&rush))
                })
                .collect(),
            releases: queue(release::NAME),
            data_planes: queue(dataplane::NAME),
            build_planes: queue(buildplane::NAME),
            builds: queue(build::NAME),
            promotions: Queue::new(Backoff::default(), metrics.controller(promotion::NAME)).sharing(&rush),
            inputs: objects(inputs::NAME),
            aliases: objects(alias::NAME),
            index,
            shard,
            cache: OnceLock::new(),
            started: AtomicBool::new(false),
        }
    }

    /// The cache that data planes' news are looked up in.
    pub fn attach(&self, cache: &Arc<Cache<ControlView>>) {
        let _ = self.cache.set(Arc::downgrade(cache));
    }

    /// The queue of a planning controller.
    pub fn plans(&self) -> impl Iterator<Item = (&'static str, &Queue<Target>)> {
        self.plans.iter().map(|(name, queue)| (*name, queue))
    }

    /// The queue of the release controller.
    pub fn releases(&self) -> &Queue<Key> {
        &self.releases
    }

    /// The queue of the data plane controller.
    pub fn data_planes(&self) -> &Queue<Key> {
        &self.data_planes
    }

    /// The queue of the build plane controller.
    pub fn build_planes(&self) -> &Queue<Key> {
        &self.build_planes
    }

    /// The queue of the build controller.
    pub fn builds(&self) -> &Queue<Key> {
        &self.builds
    }

    /// The queue of the promotion controller.
    pub fn promotions(&self) -> &Queue<LaneKey> {
        &self.promotions
    }

    /// The queue of the inputs controller.
    pub fn inputs(&self) -> &Queue<ObjectRef> {
        &self.inputs
    }

    /// The queue of the alias controller.
    pub fn aliases(&self) -> &Queue<ObjectRef> {
        &self.aliases
    }

    /// The picture is complete: queues everything, and from now on every change.
    pub fn start(&self, snapshot: &ControlSnapshot) {
        self.started.store(true, Ordering::Release);
        let world = &snapshot.view.world;
        let add = |queue: &Queue<Key>, key: &EngineKey| {
            if self.shard.has(&key.namespace) {
                queue.add_later(Key::new(&key.namespace, &key.name));
            }
        };
        for plane in world.keys::<DataPlane>() {
            add(&self.data_planes, plane);
        }
        for release in world.keys::<Release>() {
            add(&self.releases, release);
        }
        for build in world.keys::<Build>() {
            add(&self.builds, build);
        }
        for (object, _) in snapshot.iter().filter(|(object, _)| self.works_on(object)) {
            if buildplane::is_build_plane(object) {
                self.build_planes.add(object.key());
            }
            if inputs::is_input(object) {
                self.inputs.add_later(object.clone());
            } else if alias::is_alias(object) {
                self.aliases.add_later(object.clone());
            }
        }
        for target in choreo_engine::affected::all(world) {
            self.plan(target, Queue::add_later);
        }
        for lane in promotion::all(snapshot) {
            self.lane(lane, Queue::add_later);
        }
    }

    /// Whether nothing is queued, worked on, or waiting for another try.
    pub fn is_idle(&self) -> bool {
        self.plans.values().all(|queue| queue.pending() == 0)
            && self.releases.pending() == 0
            && self.data_planes.pending() == 0
            && self.build_planes.pending() == 0
            && self.builds.pending() == 0
            && self.promotions.pending() == 0
            && self.inputs.pending() == 0
            && self.aliases.pending() == 0
    }

    fn plan(&self, target: Target, add: fn(&Queue<Target>, Target)) {
        let ours = match &target {
            Target::Object(object) => {
                self.shard
                    .works_on(labels::GROUP, &object.key.namespace, &object.key.name)
            }
            Target::Cell { namespace, .. } => self.shard.has(namespace),
        };
        if !ours {
            return;
        }
        if let Some(queue) = targets::controller_of(&target).and_then(|name| self.plans.get(name)) {
            add(queue, target);
        }
    }

    /// An object of the control plane has changed.
    pub fn control_changed(&self, before: &ControlSnapshot, after: &ControlSnapshot, change: &Change) {
        if !self.started.load(Ordering::Acquire) {
            return;
        }
        // The answer to a status may bring with it what somebody else has changed meanwhile.
        let told = match (&change.before, &change.after) {
            (Some(before), Some(after)) => is_status_only(before, after),
            _ => false,
        };
        for target in targets::affected_by(before, after, change) {
            let knows = |work: &AtWork| match (work, target.as_object()) {
                (AtWork::Planning(planned), Some(object)) if *planned == target => {
                    // What is new cannot bring with it what somebody else has changed.
                    let made = change.before.is_none() && binding::KINDS.contains(&object.kind);
                    made || told && object_ref(object) == change.object
                }
                _ => false,
            };
            if !AtWork::wrote_this(knows) {
                let can_wait = targets::only_tells(change, told, &target);
                tracing::trace!(%target, because = %change.object, status = told, can_wait, "to be looked at");
                self.plan(target, if can_wait { Queue::add_later } else { Queue::add });
            }
        }
        let add = match promotion::goes_first(change) {
            true => Queue::add_first,
            false => Queue::add,
        };
        for lane in promotion::affected_by(before, after, change) {
            self.lane(lane, add);
        }
        for input in inputs::affected_by(after, change) {
            if self.works_on(&input) {
                // They are only told where they stand.
                self.inputs.add_later(input);
            }
        }
        let object = &change.object;
        if !self.works_on(object) {
            return;
        }
        if alias::is_alias(object) {
            return self.aliases.add(object.clone());
        }
        if object.kind.group != labels::GROUP {
            return;
        }
        for key in build::affected_by(after, object) {
            self.builds.add(key);
        }
        match object.kind.kind.as_str() {
            "BuildPlane" => self.build_planes.add(object.key()),
            "Release" if told => self.release(object.key()),
            "Release" => self.releases.add(object.key()),
            "DataPlane" => {
                self.data_planes.add(object.key());
                self.releases_in(after, &object.namespace);
            }
            "Environment" => {
                let world = &after.view.world;
                let environment = EngineRef::new(Kind::Environment, &object.namespace, &object.name);
                for release in world.referrers_of(&environment, &[Kind::Release]) {
                    self.releases
                        .add(Key::new(&release.key.namespace, &release.key.name));
                }
            }
            _ => {}
        }
    }

    fn lane(&self, lane: LaneKey, add: fn(&Queue<LaneKey>, LaneKey)) {
        let works = self
            .shard
            .works_on(labels::GROUP, &lane.namespace, &lane.component);
        if works {
            add(&self.promotions, lane);
        }
    }

    /// Something that a release looks at has changed, unless it has just done that itself.
    fn release(&self, key: Key) {
        if !AtWork::wrote_this(|work| matches!(work, AtWork::Releasing(release) if *release == key)) {
            self.releases.add(key);
        }
    }

    /// Whether an object that is known here is also looked after here.
    fn works_on(&self, object: &ObjectRef) -> bool {
        self.shard
            .works_on(&object.kind.group, &object.namespace, &object.name)
    }

    fn releases_in(&self, snapshot: &ControlSnapshot, namespace: &str) {
        for release in snapshot.view.world.keys_in::<Release>(namespace) {
            self.releases.add(Key::new(namespace, &release.name));
        }
    }
}

impl PlaneListener for Router {
    fn changed(&self, plane: &PlaneId, change: &Change) {
        if plane.role == Role::Build {
            if let Some(key) = build::of_workflow(change) {
                self.builds.add(key);
            }
            return;
        }
        for key in self.index.affected_by(plane, change) {
            self.release(key);
        }
    }

    fn look_again(&self, plane: &PlaneId) {
        let queue = match plane.role {
            Role::Data => &self.data_planes,
            Role::Build => &self.build_planes,
        };
        queue.add(Key::new(&plane.namespace, &plane.name));
    }

    fn usable_changed(&self, plane: &PlaneId) {
        self.look_again(plane);
        if plane.role == Role::Build {
            if let Some(cache) = self.cache.get().and_then(Weak::upgrade) {
                let snapshot = cache.snapshot();
                for build in snapshot.view.world.keys_in::<Build>(&plane.namespace) {
                    self.builds.add(Key::new(&plane.namespace, &build.name));
                }
            }
            return;
        }
        let mut keys: BTreeSet<Key> = self.index.in_plane(plane);
        if let Some(cache) = self.cache.get().and_then(Weak::upgrade) {
            // Releases that have waited for the cluster are in no index yet.
            let snapshot = cache.snapshot();
            let all = snapshot.view.world.keys_in::<Release>(&plane.namespace);
            keys.extend(all.map(|release| Key::new(&plane.namespace, &release.name)));
        }
        for key in keys {
            self.releases.add_later(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::DynamicObject;
    use serde_json::{Value, json};

    use super::*;

    fn object(kind: &str, name: &str, revision: u64, more: &Value) -> DynamicObject {
        let mut object = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": "o", "uid": format!("{kind}-{name}"), "generation": 1,
                         "resourceVersion": revision.to_string()},
            "spec": {"owner": {"projectName": "p", "componentName": "a"}, "environment": "e", "environmentName": "e"},
        });
        json_patch::merge(&mut object, more);
        serde_json::from_value(object).unwrap()
    }

    /// A router whose cache has a binding and its release, and nothing to do.
    fn settled() -> (Arc<Router>, Arc<Cache<ControlView>>) {
        let router = Arc::new(Router::new(&Metrics::default(), Arc::default(), Shard::default()));
        let listener = Arc::clone(&router);
        let cache = Arc::new(Cache::new(
            move |before: &ControlSnapshot, after: &ControlSnapshot, change: &Change| {
                listener.control_changed(before, after, change);
            },
        ));
        cache.watched(object("ServiceBinding", "a-e", 1, &json!({})));
        cache.watched(object("Release", "a-e", 2, &json!({})));
        router.started.store(true, Ordering::Release);
        (router, cache)
    }

    fn bindings(router: &Router) -> usize {
        router.plans["binding"].pending()
    }

    fn target() -> Target {
        Target::Object(choreo_engine::ObjectRef::new(
            choreo_engine::Kind::ServiceBinding,
            "o",
            "a-e",
        ))
    }

    #[tokio::test]
    async fn who_has_told_something_is_not_asked_again() {
        let told = json!({"status": {"revision": 1}});
        let (router, cache) = settled();
        let tell = async { cache.wrote(object("ServiceBinding", "a-e", 3, &told)) };
        AtWork::Planning(target()).unasked(tell).await;
        assert_eq!(bindings(&router), 0);
        // Its component and its endpoints are told all the same.
        assert_eq!(router.plans["component"].pending(), 1);

        // The same, heard of by a watch.
        let (router, cache) = settled();
        cache.watched(object("ServiceBinding", "a-e", 3, &told));
        assert_eq!(bindings(&router), 1);

        // Somebody has changed the object before the status was written.
        for more in [
            json!({"metadata": {"generation": 2}, "status": {"revision": 1}}),
            json!({"metadata": {"labels": {"a": "b"}}, "status": {"revision": 1}}),
        ] {
            let (router, cache) = settled();
            let tell = async { cache.wrote(object("ServiceBinding", "a-e", 3, &more)) };
            AtWork::Planning(target()).unasked(tell).await;
            assert_eq!(bindings(&router), 1, "{more}");
        }
    }

    #[tokio::test]
    async fn what_a_binding_has_made_is_no_news_to_it_and_what_it_has_changed_is() {
        let (router, cache) = settled();
        let owner = json!([{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding", "name": "a-e", "uid": "ServiceBinding-a-e", "controller": true}]);
        let spec = json!({"metadata": {"ownerReferences": owner}, "spec": {"bindingRef": {"kind": "ServiceBinding", "name": "a-e"}}});
        let make = async { cache.wrote(object("Deployment", "a-e-1", 3, &spec)) };
        AtWork::Planning(target()).unasked(make).await;
        assert_eq!(bindings(&router), 0);
        assert_eq!(router.plans["deployment"].pending(), 1);
        let change = json!({"metadata": {"generation": 2, "ownerReferences": owner}, "spec": {"deploymentRef": "a-e-2"}});
        let write = async { cache.wrote(object("Release", "a-e", 4, &change)) };
        AtWork::Planning(target()).unasked(write).await;
        assert_eq!(bindings(&router), 1);
    }

    #[tokio::test]
    async fn a_release_hears_of_what_others_write() {
        let key = Key::new("o", "a-e");
        let told = json!({"status": {"objectCount": 1}});
        let (router, cache) = settled();
        let tell = async { cache.wrote(object("Release", "a-e", 3, &told)) };
        AtWork::Releasing(key.clone()).unasked(tell).await;
        assert_eq!(router.releases().pending(), 0);
        let other = async { cache.wrote(object("Release", "a-e", 4, &json!({}))) };
        AtWork::Releasing(Key::new("o", "b-e")).unasked(other).await;
        assert_eq!(router.releases().pending(), 1);
        let (router, cache) = settled();
        let change = json!({"metadata": {"generation": 2}, "status": {"objectCount": 1}});
        let tell = async { cache.wrote(object("Release", "a-e", 3, &change)) };
        AtWork::Releasing(key).unasked(tell).await;
        assert_eq!(router.releases().pending(), 1);
    }
}
