//! What was found as it should be, so that it is not looked at again before anything changes.
//!
//! A round of applying that changes nothing still reads everything: the objects of the release and what they are in the cluster. All
//! that it depends on has a version, which the caches have at hand. While they are those of a round that left nothing to do, another
//! one would find the same.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher as _, Hash as _, Hasher, RandomState};
use std::sync::Arc;

use choreo_api::v1alpha1::DataPlane;
use parking_lot::Mutex;

use super::build::Wanted;
use super::index::may_carry;
use super::{Releases, Subject};
use crate::dataplane::clusters_of;
use crate::planes::{Plane, PlaneId};
use crate::runtime::object::is_status_only;
use crate::runtime::{GroupKind, Key, ObjectRef, Snapshot};
use crate::view::ControlSnapshot;
use crate::write::applier::Slot;

/// A round that left nothing to do.
#[derive(Clone, Debug)]
struct Round {
    /// Of the release, with the status that was told of the round.
    revision: u64,
    data_plane: Arc<str>,
    /// What it consists of in each cluster. The cache has the same addresses.
    objects: Arc<[Box<[Arc<ObjectRef>]>]>,
    /// Whether something is not well, which pods explain.
    asks_pods: bool,
    /// Of everything else that it depended on.
    picture: u64,
}

/// The last round of each release, if it left nothing to do.
#[derive(Debug, Default)]
pub(super) struct Known {
    rounds: Mutex<HashMap<Key, Round>>,
    hasher: RandomState,
}

impl Known {
    pub(super) fn forget(&self, release: &Key) {
        self.rounds.lock().remove(release);
    }
}

/// A cluster as a round saw it after everything was applied, with what the release consists of there.
#[derive(Debug)]
pub(super) struct Applied {
    cluster: Snapshot<()>,
    objects: Box<[Arc<ObjectRef>]>,
}

/// The status that a round has told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// All of it, as a hash.
    pub(super) digest: u64,
    pub(super) is_ready: bool,
}

/// The clusters of a data plane at one moment.
type Seen = Vec<(Arc<Plane>, Snapshot<()>)>;

impl Releases {
    /// Whether another round of this release would find what the last one has left.
    pub(super) fn is_known(&self, snapshot: &ControlSnapshot, release: &Key) -> bool {
        let Some(round) = self.known.rounds.lock().get(release).cloned() else {
            return false;
        };
        let known = snapshot.kept(&Subject::address(release));
        if known.is_none_or(|kept| kept.is_deleting() || kept.revision() != Some(round.revision)) {
            return false;
        }
        let seen = self.clusters(snapshot, release, &round.data_plane);
        seen.and_then(|seen| self.picture(snapshot, release, &round, &seen)) == Some(round.picture)
    }

    /// Remembers a round that left nothing to do, if what it told is all that has happened to the release since it began.
    pub(super) fn remember_round(
        &self,
        before: &ControlSnapshot,
        subject: &Subject,
        planes: &[Arc<Plane>],
        applied: Vec<Applied>,
        status: &Told,
    ) {
        let (clusters, objects): (Vec<_>, Vec<_>) = applied
            .into_iter()
            .map(|applied| (applied.cluster, applied.objects))
            .unzip();
        let seen: Seen = planes.iter().cloned().zip(clusters).collect();
        let round = || {
            let told = self.context.snapshot();
            let told = told.kept(&Subject::address(&subject.key))?;
            // Somebody may have written another one over it by now.
            if !self
                .context
                .control
                .is_settled(told, Slot::Told(&self.manager), status.digest)
            {
                return None;
            }
            let unchanged = told.resource_version() == subject.live.metadata.resource_version.as_deref();
            if !unchanged && !is_status_only(&subject.live, &told.get()) {
                return None;
            }
            // Which data plane it is does not depend on anything else, then.
            let mut round = Round {
                revision: told.revision()?,
                data_plane: subject.release.spec.data_plane.as_deref()?.into(),
                objects: objects.into(),
                asks_pods: !status.is_ready,
                picture: 0,
            };
            round.picture = self.picture(before, &subject.key, &round, &seen)?;
            Some(round)
        };
        match round() {
            Some(round) => drop(self.known.rounds.lock().insert(subject.key.clone(), round)),
            None => self.known.forget(&subject.key),
        }
    }

    /// The clusters of a data plane now, if all of them can be used.
    fn clusters(&self, snapshot: &ControlSnapshot, release: &Key, data_plane: &str) -> Option<Seen> {
        let world = &snapshot.view.world;
        let spec = &world.get::<DataPlane>(&release.namespace, data_plane)?.spec;
        let all = clusters_of(spec).into_iter().map(|(cluster, _)| {
            let id = PlaneId::data(&release.namespace, data_plane, &cluster);
            let plane = self
                .context
                .planes
                .get(&id)
                .filter(|plane| plane.outage().is_none())?;
            let now = plane.snapshot();
            Some((plane, now))
        });
        all.collect()
    }

    /// The versions of all that a round depends on but the release itself; `None` if something of it has none.
    fn picture(&self, snapshot: &ControlSnapshot, release: &Key, round: &Round, seen: &Seen) -> Option<u64> {
        let mut hasher = self.known.hasher.build_hasher();
        let world = &snapshot.view.world;
        let metadata = &world
            .get::<DataPlane>(&release.namespace, &round.data_plane)?
            .metadata;
        (metadata.uid.as_deref()?, metadata.generation?).hash(&mut hasher);
        if seen.len() != round.objects.len() {
            return None;
        }
        for ((plane, cluster), objects) in seen.iter().zip(&*round.objects) {
            // Another connection has caches of its own, which may be behind.
            Arc::as_ptr(plane).hash(&mut hasher);
            versions(cluster, objects, release, round.asks_pods, &mut hasher);
        }
        Some(hasher.finish())
    }
}

/// The versions of objects in a cluster, of the namespaces that they are in, and of the release's pods there.
fn versions(
    cluster: &Snapshot<()>,
    objects: &[Arc<ObjectRef>],
    release: &Key,
    asks_pods: bool,
    hasher: &mut impl Hasher,
) {
    let mut namespaces = BTreeSet::new();
    for object in objects {
        let kept = cluster.kept(object);
        kept.map(|kept| (kept.uid(), kept.resource_version()))
            .hash(hasher);
        namespaces.insert(object.namespace.as_str());
    }
    let pods = GroupKind::new("", "Pod");
    for namespace in namespaces.into_iter().filter(|namespace| !namespace.is_empty()) {
        let itself = cluster.kept(&ObjectRef::new("", "Namespace", "", namespace));
        itself.map(|kept| (kept.uid(), kept.is_deleting())).hash(hasher);
        if asks_pods {
            let all = cluster.in_namespace(&pods, namespace);
            for pod in all.filter(|pod| may_carry(pod.mark(), &release.name)) {
                (pod.uid(), pod.resource_version()).hash(hasher);
            }
        }
    }
}

/// A state of a cluster in which all that is wanted there is known to be as it is wanted, and nothing else of the release is left.
pub(super) fn as_wanted(
    plane: &Plane,
    cluster: Snapshot<()>,
    wanted: &[Wanted],
    inventory: usize,
    manager: &str,
) -> Option<Applied> {
    let applier = plane.applier();
    let objects = wanted.iter().map(|object| {
        let slot = (Slot::Object(manager), applier.digest(&object.object));
        let kept = cluster.kept(&object.address)?;
        let is_so = !kept.is_deleting() && applier.is_settled(kept, slot.0, slot.1);
        is_so.then(|| Arc::clone(kept.address()))
    });
    let objects: Box<[Arc<ObjectRef>]> = objects.collect::<Option<_>>()?;
    (objects.len() == inventory).then_some(Applied { cluster, objects })
}
