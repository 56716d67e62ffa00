//! Brings a cluster to what a release wants.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use choreo_api::v1alpha1::{HealthStatus, InventoryEntry, ResourceStatus};
use choreo_engine::health::Rules;
use futures::future::join_all;

use super::build::{Wanted, address_of, belongs_to, entry, has_lost_its_mark, is_ours, wanted};
use super::copies::READ_AGAIN;
use super::credentials;
use super::dereference::Place;
use super::known::{Told, as_wanted};
use super::status::{self, Failed, InCluster};
use super::{NAME, Releases, Subject};
use crate::planes::Plane;
use crate::planes::plane::Served;
use crate::runtime::{GroupKind, Next, ObjectRef, Retry};
use crate::view::ControlSnapshot;
use crate::write::applier::Slot;
use crate::write::{Applied, Failure};

/// How soon a refused object is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Kinds whose pods are watched as well.
const WORKLOADS: &[&str] = &[
    "Deployment",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "ReplicaSet",
];

impl Releases {
    /// Applies a release to every cluster of its data plane.
    pub(super) async fn bring_about(
        &self,
        snapshot: &ControlSnapshot,
        subject: &Subject,
        place: &Place,
    ) -> Result<Next, Retry> {
        let mut wanted = match wanted(&subject.release) {
            Ok(wanted) => wanted,
            Err(errors) => {
                let status = status::invalid(subject, &errors);
                self.context.report(NAME, &subject.live, status).await?;
                return Ok(Next::Settled);
            }
        };
        self.fill_copies(subject, &mut wanted).await?;
        wanted.iter_mut().for_each(Wanted::sign);
        let catalogs = join_all(place.planes.iter().map(|plane| served(plane, &wanted))).await;
        let inventory = self.remember(subject, place, &wanted, &catalogs).await?;
        let work = place.planes.iter().zip(&catalogs).map(|(plane, catalog)| {
            self.unless_outage(subject, &place.rules, plane, catalog, &wanted, &inventory)
        });
        let results = join_all(work).await;
        let outrun = results.iter().flat_map(|result| &result.failures);
        let outrun = outrun.filter_map(|(.., failure)| match failure {
            Failure::Outrun { wait, .. } => Some(*wait),
            _ => None,
        });
        if let Some(wait) = outrun.max() {
            // Nothing is wrong that anybody should be told.
            return Ok(Next::After(wait));
        }
        let copies = wanted.iter().any(|object| object.copy_of.is_some());
        let next = match next(&results) {
            Ok(Next::Settled) if copies => Ok(Next::After(READ_AGAIN)),
            next => next,
        };
        let status = status::derive(subject, place, &wanted, &results);
        let told = Told {
            digest: self.context.control.digest(&status),
            is_ready: status::is_ready(&status),
        };
        self.context.report(NAME, &subject.live, status).await?;
        let applied: Option<Vec<_>> = results.into_iter().map(|result| result.as_wanted).collect();
        if let (Ok(Next::Settled), Some(applied)) = (&next, applied) {
            self.remember_round(snapshot, subject, &place.planes, applied, &told);
        }
        next
    }

    /// Writes down what may come to exist, before it does.
    async fn remember(
        &self,
        subject: &Subject,
        place: &Place,
        wanted: &[Wanted],
        catalogs: &[Catalog],
    ) -> Result<Vec<InventoryEntry>, Retry> {
        let status = subject.status();
        let mut inventory: BTreeSet<InventoryEntry> = status.inventory.into_iter().collect();
        let known = inventory.len();
        for (plane, catalog) in place.planes.iter().zip(catalogs) {
            let cluster = &plane.id().cluster;
            inventory.extend(wanted.iter().map(|wanted| {
                entry(
                    wanted,
                    cluster,
                    catalog.get(&wanted.address.kind).and_then(Option::as_ref),
                )
            }));
        }
        let inventory: Vec<InventoryEntry> = inventory.into_iter().collect();
        let objects = place.planes.iter().flat_map(|plane| {
            let here = inventory.iter().filter(|entry| is_in(entry, plane));
            here.map(|entry| (plane.id().clone(), address_of(entry)))
        });
        self.index.set(&subject.key, objects.collect());
        if inventory.len() != known || status.data_plane.as_ref() != Some(&place.identity) {
            let status = status::remembering(subject, &place.identity, &inventory);
            self.context.report(NAME, &subject.live, status).await?;
        }
        Ok(inventory)
    }

    /// Works on one cluster until it is done, or until the cluster turns out to be gone: a worker that waits for its answers would
    /// be missing elsewhere. What was under way may or may not have happened; the inventory knows of it.
    async fn unless_outage(
        &self,
        subject: &Subject,
        rules: &Rules,
        plane: &Arc<Plane>,
        catalog: &Catalog,
        wanted: &[Wanted],
        inventory: &[InventoryEntry],
    ) -> InCluster {
        let outage = tokio::select! {
            biased;
            done = self.in_cluster(subject, rules, plane, catalog, wanted, inventory) => return done,
            outage = plane.until_outage() => outage,
        };
        let mut result = InCluster::new(plane);
        result.outage = Some(outage);
        result.keeping(inventory.iter().filter(|entry| is_in(entry, plane)))
    }

    async fn in_cluster(
        &self,
        subject: &Subject,
        rules: &Rules,
        plane: &Arc<Plane>,
        catalog: &Catalog,
        wanted: &[Wanted],
        inventory: &[InventoryEntry],
    ) -> InCluster {
        let mut result = InCluster::new(plane);
        if let Some(outage) = plane.outage() {
            result.outage = Some(outage);
            return result.keeping(inventory.iter().filter(|entry| is_in(entry, plane)));
        }
        if let Err(failure) = self.watch(plane, rules, catalog, wanted, inventory).await {
            plane.failed(&failure);
            result.outage = Some(failure.to_string());
            return result.keeping(inventory.iter().filter(|entry| is_in(entry, plane)));
        }
        if let Some(waiting) = namespaces_missing(plane, wanted) {
            result.waiting = Some(waiting);
            return result.keeping(inventory.iter().filter(|entry| is_in(entry, plane)));
        }
        for phase in wanted.chunk_by(|a, b| a.phase == b.phase) {
            let failed = &result.failures;
            let applies = phase.iter().map(|object| async move {
                match held_back(object, wanted, failed) {
                    Some(guard) => Err(Failure::Rejected(format!(
                        "held back, because {guard}, which guards it, could not be applied"
                    ))),
                    None => self.apply_one(subject, plane, catalog, object).await,
                }
            });
            let applied = join_all(applies).await;
            for (object, applied) in phase.iter().zip(applied) {
                if let Err(failure) = applied {
                    plane.failed(&failure);
                    result
                        .failures
                        .push((object.id.clone(), object.address.clone(), failure));
                }
            }
        }
        let keep: BTreeSet<&ObjectRef> = wanted.iter().map(|wanted| &wanted.address).collect();
        let (wanted_here, stale): (Vec<_>, Vec<_>) = inventory
            .iter()
            .filter(|entry| is_in(entry, plane))
            .cloned()
            .partition(|entry| keep.contains(&address_of(entry)));
        // What takes an object's place is there before the object goes.
        let mut stale = stale;
        if result.failures.is_empty() && !stale.is_empty() {
            let (left, failures) = self.remove(subject, plane, stale).await;
            for failure in &failures {
                plane.failed(failure);
            }
            result.failures.extend(failures.into_iter().map(|failure| {
                (
                    String::new(),
                    ObjectRef::new("", "object", "", "that is no longer wanted"),
                    failure,
                )
            }));
            stale = left;
        }
        result.inventory = wanted_here.into_iter().chain(stale).collect();
        let seen = plane.snapshot();
        result.observe(
            &subject.key.name,
            &seen,
            wanted,
            rules,
            &subject.status().resources,
        );
        result.as_wanted = as_wanted(plane, seen, wanted, result.inventory.len(), &self.manager);
        result
    }

    /// Sees to it that everything that the release has, or wants, in the cluster is watched.
    async fn watch(
        &self,
        plane: &Plane,
        rules: &Rules,
        catalog: &Catalog,
        wanted: &[Wanted],
        inventory: &[InventoryEntry],
    ) -> Result<(), Failure> {
        let mut kinds: BTreeMap<GroupKind, Served> = catalog
            .iter()
            .filter_map(|(kind, served)| Some((kind.clone(), served.clone()?)))
            .collect();
        let mut extra = vec![GroupKind::new("", "Namespace")];
        extra.extend(inventory.iter().map(|entry| address_of(entry).kind));
        if wanted
            .iter()
            .any(|wanted| WORKLOADS.contains(&wanted.gvk.kind.as_str()))
        {
            extra.push(GroupKind::new("", "Pod"));
        }
        for kind in extra {
            if !kinds.contains_key(&kind)
                && let Some(served) = plane.served_kind(&kind)
            {
                kinds.insert(kind, served);
            }
        }
        // A data plane may have a rule of its own for the health of a kind, which looks at more than metadata.
        let watches = kinds
            .iter()
            .map(|(kind, served)| plane.watch(served, rules.has(&kind.group, &kind.kind)));
        join_all(watches).await.into_iter().collect()
    }

    async fn apply_one(
        &self,
        subject: &Subject,
        plane: &Plane,
        catalog: &Catalog,
        object: &Wanted,
    ) -> Result<(), Failure> {
        let Some(served) = catalog.get(&object.address.kind).and_then(Option::as_ref) else {
            return Err(Failure::UnknownKind(format!(
                "the cluster has no {}/{} {}; install what defines it",
                object.gvk.group, object.gvk.version, object.gvk.kind
            )));
        };
        let address = &object.address;
        let applier = plane.applier();
        let is_plain = !object.once && object.without_content.is_none() && address.kind.kind != "Secret";
        if is_plain
            && let Some(kept) = plane.snapshot().kept(address)
            && !kept.is_deleting()
            && applier.is_settled(kept, Slot::Object(&self.manager), applier.digest(&object.object))
        {
            // It is ours and as it should be, or it would not be known.
            return Ok(());
        }
        let live = match plane.snapshot().get(address) {
            Some(live) => Some(live),
            // Not among ours: it may not exist, be somebody else's, or have lost its label. Nothing is forced on what comes between
            // the look and the apply, so that the look need not be at this very moment, which costs an API server much more.
            None if is_plain => applier
                .get_recent(&served.resource, &address.namespace, &address.name)
                .await?
                .map(Arc::new),
            None => applier
                .get(&served.resource, &address.namespace, &address.name)
                .await?
                .map(Arc::new),
        };
        let exists = match live.clone() {
            // It was there and is gone: it has done what it was made for.
            None if object.once && was_seen(&object.id, &subject.status().resources) => return Ok(()),
            None => false,
            Some(live) if object.once && is_ours(&live, &subject.release) => return Ok(()),
            Some(live) if is_ours(&live, &subject.release) => true,
            Some(live) if has_lost_its_mark(&live, &subject.release, &self.manager) => true,
            // Somebody has put it there already.
            Some(_) if object.copy_of.is_some() => return Ok(()),
            Some(live) => {
                return Err(Failure::Foreign(format!(
                    "{address} exists already and belongs to {}; it is left alone: rename or delete it",
                    belongs_to(&live)
                )));
            }
        };
        if let Some(why) = &object.without_content {
            return Err(Failure::Rejected(why.clone()));
        }
        let exists = credentials::generate(plane, &served.resource, object, live.as_deref()).await? || exists;
        // A new object is not forced: if somebody makes one at the same moment, it stays theirs.
        match applier
            .apply(&served.resource, &self.manager, &object.object, exists)
            .await?
        {
            Applied::Written | Applied::Unchanged => Ok(()),
            Applied::Deleting => Err(Failure::Conflict(format!(
                "{address} is being deleted; it is made again once it is gone"
            ))),
        }
    }
}

/// Whether an object was in the cluster at some time.
pub(super) fn was_seen(id: &str, resources: &[ResourceStatus]) -> bool {
    let unseen = [HealthStatus::Missing, HealthStatus::Unknown];
    resources
        .iter()
        .any(|resource| resource.id == id && !unseen.contains(&resource.health_status))
}

/// What could not be applied and should guard this object: without it the object would be open to everybody.
fn held_back(object: &Wanted, wanted: &[Wanted], failed: &[Failed]) -> Option<ObjectRef> {
    failed.iter().find_map(|(id, address, _)| {
        let guard = wanted.iter().find(|wanted| wanted.id == *id)?;
        guard.guards(object).then(|| address.clone())
    })
}

/// Our kinds as a cluster serves them; `None` for those that it does not have.
pub(super) type Catalog = BTreeMap<GroupKind, Option<Served>>;

async fn served(plane: &Arc<Plane>, wanted: &[Wanted]) -> Catalog {
    let mut catalog = Catalog::new();
    for object in wanted {
        if !catalog.contains_key(&object.address.kind) {
            catalog.insert(object.address.kind.clone(), plane.served(&object.gvk).await);
        }
    }
    catalog
}

pub(super) fn is_in(entry: &InventoryEntry, plane: &Plane) -> bool {
    entry.cluster.as_deref().unwrap_or_default() == plane.id().cluster
}

/// Says which namespace is missing that the release does not make itself: its cell's release does.
fn namespaces_missing(plane: &Plane, wanted: &[Wanted]) -> Option<String> {
    let snapshot = plane.snapshot();
    let namespace = |name: &str| ObjectRef::new("", "Namespace", "", name);
    let own: BTreeSet<&ObjectRef> = wanted.iter().map(|wanted| &wanted.address).collect();
    let needed: BTreeSet<&str> = wanted
        .iter()
        .map(|wanted| wanted.address.namespace.as_str())
        .filter(|name| !name.is_empty() && !own.contains(&namespace(name)))
        .collect();
    needed
        .into_iter()
        .find_map(|name| match snapshot.get(&namespace(name)) {
            None => Some(format!(
                "Namespace {name:?} does not exist in the data plane; the cell's release makes it"
            )),
            Some(live) if live.metadata.deletion_timestamp.is_some() => {
                Some(format!("Namespace {name:?} is being deleted in the data plane"))
            }
            Some(_) => None,
        })
}

/// When to look again. What passes by itself is tried again with back-off; an outage ends with an event.
fn next(results: &[InCluster]) -> Result<Next, Retry> {
    let failures = || results.iter().flat_map(|result| &result.failures);
    if let Some((_, address, failure)) = failures().find(|(.., failure)| failure.is_passing()) {
        return Err(failure.while_doing(&format!("apply {address}")));
    }
    // Nothing in the cluster tells when a quota has room again or a foreign object is gone.
    if failures().next().is_some() {
        return Ok(Next::After(LOOK_AGAIN));
    }
    Ok(Next::Settled)
}
