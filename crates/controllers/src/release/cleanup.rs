//! Removes what a release has in its clusters.

use std::sync::Arc;
use std::time::Duration;

use choreo_api::annotations::FORCE_DELETE;
use choreo_api::finalizers;
use choreo_api::v1alpha1::{DataPlane, DataPlaneIdentity, DataPlaneSpec, InventoryEntry};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp, Unit};
use kube::core::{ApiResource, DynamicObject};

use super::apply::is_in;
use super::build::{address_of, has_lost_its_mark, has_phase_of_its_own, is_ours, phase_of};
use super::credentials;
use super::status::{self, Cleanup};
use super::{NAME, Releases, Subject};
use crate::dataplane::{clusters_of, resolve_cluster};
use crate::planes::{Plane, PlaneId};
use crate::runtime::{Next, Retry};
use crate::view::ControlSnapshot;
use crate::write::Failure;
use crate::write::events::Weight;

/// How soon a clean-up is looked at again when no event is to be expected.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Releases {
    /// Works on a release that is being deleted.
    pub(super) async fn finalize(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
    ) -> Result<Next, Retry> {
        if !super::has_finalizer(&subject.live) {
            return Ok(Next::Settled);
        }
        let status = subject.status();
        let Some(identity) = status.data_plane.filter(|_| !status.inventory.is_empty()) else {
            return self.let_go(subject).await;
        };
        let cleanup = self.clean(snapshot, subject, &identity, status.inventory).await;
        if cleanup.left.is_empty() {
            return self.let_go(subject).await;
        }
        let began = subject
            .live
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|time| time.0);
        if let Some(problem) = &cleanup.problem {
            let until = began.and_then(|began| self.deadline(began));
            if is_forced(&subject.live) || data_plane_is_forced(snapshot, subject, &identity) {
                return self
                    .abandon(subject, &cleanup, "as the annotation asks for")
                    .await;
            }
            if until.is_some_and(|until| until <= self.context.clock.now()) {
                return self
                    .abandon(
                        subject,
                        &cleanup,
                        &format!("after trying for too long: {problem}"),
                    )
                    .await;
            }
            let status = status::deleting(subject, &cleanup, until);
            self.context.report(NAME, &subject.live, status).await?;
            return Ok(Next::After(LOOK_AGAIN));
        }
        let status = status::deleting(subject, &cleanup, None);
        self.context.report(NAME, &subject.live, status).await?;
        // Their deletion comes as events; the timer is for objects whose label somebody took away.
        Ok(Next::After(LOOK_AGAIN))
    }

    /// Cleans the data plane that a release was in before its environment got another one.
    pub(super) async fn move_away(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        from: &DataPlaneIdentity,
    ) -> Result<Next, Retry> {
        let cleanup = self
            .clean(snapshot, subject, from, subject.status().inventory)
            .await;
        let done = cleanup.left.is_empty();
        let status = status::moving(subject, from, &cleanup);
        self.context.report(NAME, &subject.live, status).await?;
        Ok(if done {
            Next::Settled
        } else {
            Next::After(LOOK_AGAIN)
        })
    }

    fn deadline(&self, began: Timestamp) -> Option<Timestamp> {
        let patience = SignedDuration::try_from(self.context.abandon_after).ok()?;
        began.checked_add(patience).ok()?.round(Unit::Second).ok()
    }

    /// One round of removing the inventory. What is left is to be looked at again.
    async fn clean(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        identity: &DataPlaneIdentity,
        inventory: Vec<InventoryEntry>,
    ) -> Cleanup {
        if self.is_unknown(snapshot, subject, identity) {
            // Right after a start: the connection, or its failure, will be told. Nothing may be given up before.
            return Cleanup {
                left: inventory,
                problem: None,
            };
        }
        let planes = self.planes_of(snapshot, subject, identity).await;
        let mut cleanup = Cleanup::default();
        let mut rest = inventory;
        match planes {
            Err(problem) => {
                cleanup.problem = Some(problem);
                cleanup.left = rest;
                return cleanup;
            }
            Ok(planes) => {
                for plane in planes {
                    let (here, elsewhere): (Vec<_>, Vec<_>) =
                        rest.into_iter().partition(|entry| is_in(entry, &plane));
                    rest = elsewhere;
                    if let Some(outage) = plane.outage() {
                        cleanup.problem = Some(format!("DataPlane {}: {outage}", plane.id()));
                        cleanup.left.extend(here);
                        continue;
                    }
                    let objects = here.iter().map(|entry| (plane.id().clone(), address_of(entry)));
                    self.index.set(&subject.key, objects.collect());
                    let (left, failures) = self.remove(subject, &plane, here).await;
                    cleanup.left.extend(left);
                    for failure in failures {
                        plane.failed(&failure);
                        cleanup.problem = Some(format!("DataPlane {}: {failure}", plane.id()));
                    }
                }
            }
        }
        // Clusters that the data plane no longer has: nothing says how to reach them.
        if let Some(entry) = rest.first() {
            let cluster = entry.cluster.clone().unwrap_or_default();
            cleanup.problem.get_or_insert(format!(
                "DataPlane {:?} no longer has the cluster {cluster:?}",
                identity.name
            ));
        }
        cleanup.left.extend(rest);
        cleanup
    }

    /// Whether the data plane exists and has not been tried yet since this process began.
    fn is_unknown(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        identity: &DataPlaneIdentity,
    ) -> bool {
        let namespace = &subject.key.namespace;
        let Some(data_plane) = snapshot.view.world.get::<DataPlane>(namespace, &identity.name) else {
            return false;
        };
        clusters_of(&data_plane.spec).into_iter().any(|(cluster, _)| {
            let id = PlaneId::data(namespace, &identity.name, &cluster);
            self.context.planes.get(&id).is_none() && self.context.planes.refusal(&id).is_none()
        })
    }

    /// The clusters of a data plane whose object may be gone.
    async fn planes_of(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        identity: &DataPlaneIdentity,
    ) -> Result<Vec<Arc<Plane>>, String> {
        let namespace = &subject.key.namespace;
        let connected = self.context.planes.of(namespace, &identity.name);
        if snapshot
            .view
            .world
            .get::<DataPlane>(namespace, &identity.name)
            .is_some()
        {
            if connected.is_empty() {
                return Err(format!(
                    "DataPlane {:?} is not connected; its condition Connected says why",
                    identity.name
                ));
            }
            return Ok(connected);
        }
        // Nobody but us looks whether its credentials have changed meanwhile.
        if !connected.is_empty() && connected.iter().all(|plane| plane.outage().is_none()) {
            return Ok(connected);
        }
        match self.reconnect(subject, identity).await {
            // Its credentials may have gone with it: the connection that there is, is as good as any.
            Err(_) if !connected.is_empty() => Ok(connected),
            planes => planes,
        }
    }

    /// The clusters of a data plane whose object is gone, by what the release remembers of it.
    async fn reconnect(
        &self,
        subject: &Subject,
        identity: &DataPlaneIdentity,
    ) -> Result<Vec<Arc<Plane>>, String> {
        let namespace = &subject.key.namespace;
        let connection = identity.connection.clone().unwrap_or_default();
        let gone = format!("DataPlane {:?} is gone", identity.name);
        let spec: DataPlaneSpec = serde_json::from_value(connection)
            .map_err(|error| format!("{gone}, and the release does not say how to reach it: {error}"))?;
        let mut planes = Vec::new();
        for (cluster, connection) in clusters_of(&spec) {
            let id = PlaneId::data(namespace, &identity.name, &cluster);
            let target = resolve_cluster(&self.context, namespace, &connection)
                .await
                .map_err(|error| format!("{gone}, and its credentials too: {error}"))?;
            let plane = self
                .context
                .planes
                .open_unless_refused(&id, &target, LOOK_AGAIN)
                .await
                .map_err(|error| format!("{gone}, and {} does not answer: {error}", target.server))?;
            planes.push(plane);
        }
        Ok(planes)
    }

    /// Deletes the objects of the last phase that there are objects of. Returns those that are still there, and what
    /// went wrong.
    pub(super) async fn remove(
        &self,
        subject: &Subject,
        plane: &Arc<Plane>,
        entries: Vec<InventoryEntry>,
    ) -> (Vec<InventoryEntry>, Vec<Failure>) {
        let ranked = entries.into_iter().map(|entry| async move {
            let live = rank_by(plane, &entry).await;
            (phase_of(&entry, live.as_deref()), entry)
        });
        let mut entries: Vec<(u8, InventoryEntry)> = join_all(ranked).await;
        entries.sort_by_key(|(phase, _)| std::cmp::Reverse(*phase));
        let mut left = Vec::new();
        let mut failures = Vec::new();
        let mut phases = entries.chunk_by(|(a, _), (b, _)| a == b);
        for phase in phases.by_ref() {
            let removals = phase
                .iter()
                .map(|(_, entry)| self.remove_one(subject, plane, entry));
            for ((_, entry), removed) in phase.iter().zip(join_all(removals).await) {
                match removed {
                    Ok(true) => {}
                    Ok(false) => left.push(entry.clone()),
                    Err(failure) => {
                        left.push(entry.clone());
                        failures.push(failure);
                    }
                }
            }
            // What an object depends on goes only after it is really gone.
            if !left.is_empty() {
                break;
            }
        }
        left.extend(phases.flatten().map(|(_, entry)| entry.clone()));
        (left, failures)
    }

    /// Deletes one object if it is ours. `true` if it is not there, or is not ours.
    async fn remove_one(
        &self,
        subject: &Subject,
        plane: &Arc<Plane>,
        entry: &InventoryEntry,
    ) -> Result<bool, Failure> {
        let address = address_of(entry);
        let Some(resource) = resource_of(plane, entry) else {
            // The kind is gone from the cluster, and all its objects with it.
            return Ok(true);
        };
        if let Some(served) = plane.served_kind(&address.kind) {
            plane.watch(&served, false).await?;
        }
        let live = match plane.snapshot().get(&address) {
            Some(live) => Some(live),
            None => match plane
                .applier()
                .get(&resource, &address.namespace, &address.name)
                .await
            {
                Ok(live) => live.map(Arc::new),
                Err(Failure::UnknownKind(_)) => None,
                Err(failure) => return Err(failure),
            },
        };
        let ours = |live: &Arc<DynamicObject>| {
            is_ours(live, &subject.release) || has_lost_its_mark(live, &subject.release, &self.manager)
        };
        let Some(live) = live.filter(ours) else {
            return Ok(true);
        };
        // Storage that a made-up password protects may outlive the release, too.
        if credentials::is_kept(&live) {
            return Ok(true);
        }
        if live.metadata.deletion_timestamp.is_none() {
            plane
                .applier()
                .delete(&resource, &address, live.metadata.uid.clone())
                .await?;
        }
        // The watch may have seen the end of it already.
        match plane
            .applier()
            .get(&resource, &address.namespace, &address.name)
            .await?
        {
            None => Ok(true),
            Some(still) => Ok(still.metadata.uid != live.metadata.uid),
        }
    }

    /// Everything is gone: the release may go.
    async fn let_go(&self, subject: &Subject) -> Result<Next, Retry> {
        let resource = self.context.resource(&Subject::address(&subject.key).kind);
        let resource = resource.map_err(|failure| failure.while_doing("find the kind Release"))?;
        let newest = self.context.snapshot().get(&Subject::address(&subject.key));
        let live = newest.unwrap_or_else(|| Arc::clone(&subject.live));
        self.context
            .control
            .remove_finalizer(resource, &live, finalizers::RELEASE_CLEANUP)
            .await
            .map_err(|failure| {
                failure.while_doing(&format!("finish the deletion of Release {}", subject.key))
            })?;
        self.index.forget(&subject.key);
        if let Some(identity) = &subject.status().data_plane {
            self.context
                .release_planes(&subject.key.namespace, &identity.name);
        }
        Ok(Next::Settled)
    }

    /// Gives up: what is left in the cluster stays there, and is named in an event and in the log.
    async fn abandon(&self, subject: &Subject, cleanup: &Cleanup, why: &str) -> Result<Next, Retry> {
        let left: Vec<String> = cleanup
            .left
            .iter()
            .map(|entry| address_of(entry).to_string())
            .collect();
        let note = format!("left behind in the data plane, {why}: {}", left.join(", "));
        tracing::warn!(release = %subject.key, "{note}");
        self.context
            .events
            .record(&subject.live, Weight::Warning, NAME, "Abandoned", &note);
        self.let_go(subject).await
    }
}

/// The object that says when it was applied, as far as it can be had. Of a policy metadata do not tell whether it closes or opens.
async fn rank_by(plane: &Plane, entry: &InventoryEntry) -> Option<Arc<DynamicObject>> {
    let address = address_of(entry);
    let snapshot = plane.snapshot();
    let kept = snapshot.kept(&address)?;
    if !kept.is_outline() || !has_phase_of_its_own(&entry.kind) {
        return Some(kept.get());
    }
    let resource = resource_of(plane, entry)?;
    let whole = plane.applier().get(&resource, &address.namespace, &address.name);
    // One that cannot be read ranks with what opens, as one that is gone does.
    whole.await.ok().flatten().map(Arc::new)
}

fn is_forced(object: &DynamicObject) -> bool {
    object
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(FORCE_DELETE))
        .is_some_and(|value| value == "true")
}

/// The annotation on the DataPlane counts for all its releases.
fn data_plane_is_forced(snapshot: &ControlSnapshot, subject: &Subject, identity: &DataPlaneIdentity) -> bool {
    let world = &snapshot.view.world;
    world
        .get::<DataPlane>(&subject.key.namespace, &identity.name)
        .is_some_and(|data_plane| {
            let annotations = data_plane.metadata.annotations.as_ref();
            annotations
                .and_then(|annotations| annotations.get(FORCE_DELETE))
                .is_some_and(|value| value == "true")
        })
}

/// How to address an object of the inventory; `None` if the cluster does not have its kind any more.
fn resource_of(plane: &Plane, entry: &InventoryEntry) -> Option<ApiResource> {
    let served = plane.served_kind(&address_of(entry).kind)?;
    let mut resource = served.resource;
    if !entry.plural.is_empty() {
        resource.plural.clone_from(&entry.plural);
    }
    Some(resource)
}
