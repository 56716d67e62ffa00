//! What is to be done with one object.

use std::sync::Arc;

use choreo_apimachinery::{registry::ResourceInfo, status::Result};
use choreo_store::{Key, Object};
use serde_json::Value;

use super::{
    graph::Graph,
    item::{Item, Owner},
};
use crate::{
    cluster::Cluster,
    request::{DeleteOptions, Preconditions, Propagation},
    user::UserInfo,
    verbs::{FOREGROUND, ORPHAN, Subresource, Target, delete, edit, metadata_mut, remove_finalizer},
};

/// The name under which the collector writes.
const AGENT: &str = "garbage-collector";

/// What came of looking at an object.
pub(super) enum Outcome {
    /// Nothing is left to do with it for now; these are to be looked at because of it.
    Done(Vec<Key>),
    /// It has an owner of a kind that is not served.
    UnknownOwner,
}

/// How an owner stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Absent,
    Present,
    /// It waits for its dependents to go.
    Waiting,
    /// Its kind is not served, or cannot be the owner of this object.
    Unknown,
}

/// Carries out the rules on a logical cluster.
pub(super) struct Collector<'a> {
    cluster: &'a Arc<Cluster>,
    user: UserInfo,
}

impl<'a> Collector<'a> {
    pub(super) fn new(cluster: &'a Arc<Cluster>) -> Self {
        Self {
            cluster,
            user: UserInfo::system(AGENT),
        }
    }

    /// Looks at an object and does what is due.
    pub(super) async fn look_at(&self, graph: &Graph, key: &Key) -> Result<Outcome> {
        let done = || Ok(Outcome::Done(Vec::new()));
        let Some((object, item, target)) = self.find(key) else {
            return done();
        };
        let outcome = if item.is_deleting() {
            if item.wants_orphans() {
                self.orphan(graph, key, &item, &target).await
            } else if item.wants_foreground() {
                self.wait_for_dependents(graph, key, &item, &target).await
            } else {
                return done();
            }
        } else if item.owners().is_empty() {
            return done();
        } else {
            self.check_owners(graph, &object, &item, &target).await
        };
        match outcome {
            // Gone, or changed since it was read: that change has come or will come as an event of its own.
            Err(error) if error.code == 404 => done(),
            other => other,
        }
    }

    fn find(&self, key: &Key) -> Option<(Arc<Object>, Item, Target)> {
        let object = self.cluster.store().get(key)?;
        let item = Item::read(&object);
        let resource = self.resource(&item.api_version, &item.kind)?;
        let target = Target::of(self.cluster, &resource, key.namespace(), &self.user, AGENT);
        Some((object, item, target))
    }

    fn resource(&self, api_version: &str, kind: &str) -> Option<Arc<ResourceInfo>> {
        self.cluster
            .served()
            .registry()
            .by_api_version(api_version, kind)
            .cloned()
    }

    fn standing(&self, graph: &Graph, namespace: &str, owner: &Owner) -> Standing {
        if graph.is_gone(&owner.uid) {
            return Standing::Absent;
        }
        let Some(resource) = self.resource(&owner.api_version, &owner.kind) else {
            return Standing::Unknown;
        };
        if resource.namespaced && namespace.is_empty() {
            return Standing::Unknown;
        }
        let namespace = if resource.namespaced { namespace } else { "" };
        let key = Key::new(&resource.storage_resource(), namespace, &owner.name);
        match self.cluster.store().get(&key).map(|object| Item::read(&object)) {
            Some(item) if item.uid() != owner.uid => Standing::Absent,
            Some(item) if item.waits_for_dependents() => Standing::Waiting,
            Some(_) => Standing::Present,
            None => Standing::Absent,
        }
    }

    async fn check_owners(
        &self,
        graph: &Graph,
        object: &Object,
        item: &Item,
        target: &Target,
    ) -> Result<Outcome> {
        let key = object.key();
        let standings: Vec<_> = item
            .owners()
            .iter()
            .map(|owner| self.standing(graph, key.namespace(), owner))
            .collect();
        let has = |standing| standings.contains(&standing);
        if has(Standing::Present) {
            if has(Standing::Absent) || has(Standing::Waiting) {
                let lost = with_standing(item, &standings, |s| {
                    matches!(s, Standing::Absent | Standing::Waiting)
                });
                self.remove_owners(key, target, &lost).await?;
            }
            return Ok(Outcome::Done(Vec::new()));
        }
        if has(Standing::Unknown) {
            return Ok(Outcome::UnknownOwner);
        }
        let dependents: Vec<_> = graph.dependents_of(item.uid()).collect();
        let propagation = if has(Standing::Waiting) && !dependents.is_empty() {
            // Its own dependents go first, as the owner's do. In a circle nobody could begin: then it blocks no longer.
            if dependents.iter().any(|key| self.waits_for_dependents(key)) {
                self.unblock_owners(key, target).await?;
            }
            Propagation::Foreground
        } else if item.wants_orphans() {
            Propagation::Orphan
        } else if item.wants_foreground() {
            Propagation::Foreground
        } else {
            Propagation::Background
        };
        // The version is not asked for after an unblocking, which changed it.
        let version = self
            .cluster
            .store()
            .get(key)
            .filter(|now| now.revision() == object.revision());
        let preconditions = Preconditions {
            uid: Some(item.uid().to_owned()),
            resource_version: version.map(|_| item.version().to_owned()),
        };
        let options = DeleteOptions {
            preconditions,
            ..DeleteOptions::with(propagation)
        };
        match delete(target, key.name(), &options).await {
            Ok(_) => Ok(Outcome::Done(Vec::new())),
            // It has changed since it was read: look again.
            Err(error) if error.code == 409 => Ok(Outcome::Done(vec![key.clone()])),
            Err(error) => Err(error),
        }
    }

    fn waits_for_dependents(&self, key: &Key) -> bool {
        self.cluster
            .store()
            .get(key)
            .is_some_and(|object| Item::read(&object).waits_for_dependents())
    }

    /// A foreground deletion: lets the object go once no dependent blocks it, and makes sure that they are going.
    async fn wait_for_dependents(
        &self,
        graph: &Graph,
        key: &Key,
        item: &Item,
        target: &Target,
    ) -> Result<Outcome> {
        let mut blocked = false;
        let mut more = Vec::new();
        for dependent in graph.dependents_of(item.uid()) {
            let Some(object) = self.cluster.store().get(dependent) else {
                continue;
            };
            let found = Item::read(&object);
            blocked |= found
                .owners()
                .iter()
                .any(|owner| owner.uid == item.uid() && owner.blocks());
            if !found.is_deleting() {
                more.push(dependent.clone());
            }
        }
        if !blocked {
            self.remove_finalizer(key, target, FOREGROUND).await?;
        }
        Ok(Outcome::Done(more))
    }

    async fn orphan(&self, graph: &Graph, key: &Key, item: &Item, target: &Target) -> Result<Outcome> {
        for dependent in graph.dependents_of(item.uid()) {
            let Some((_, _, of_dependent)) = self.find(dependent) else {
                continue;
            };
            match self.remove_owners(dependent, &of_dependent, &[item.uid()]).await {
                Err(error) if error.code != 404 => return Err(error),
                _ => {}
            }
        }
        self.remove_finalizer(key, target, ORPHAN).await?;
        Ok(Outcome::Done(Vec::new()))
    }

    async fn remove_owners(&self, key: &Key, target: &Target, uids: &[&str]) -> Result<()> {
        self.change(key, target, |object| {
            if let Some(owners) = metadata_mut(object)
                .get_mut("ownerReferences")
                .and_then(Value::as_array_mut)
            {
                owners.retain(|owner| !owner["uid"].as_str().is_some_and(|uid| uids.contains(&uid)));
                if owners.is_empty() {
                    metadata_mut(object).remove("ownerReferences");
                }
            }
        })
        .await
    }

    async fn unblock_owners(&self, key: &Key, target: &Target) -> Result<()> {
        self.change(key, target, |object| {
            let owners = metadata_mut(object)
                .get_mut("ownerReferences")
                .and_then(Value::as_array_mut);
            owners
                .into_iter()
                .flatten()
                .for_each(|owner| owner["blockOwnerDeletion"] = false.into());
        })
        .await
    }

    async fn remove_finalizer(&self, key: &Key, target: &Target, finalizer: &str) -> Result<()> {
        self.change(key, target, |object| remove_finalizer(object, finalizer))
            .await
    }

    async fn change(&self, key: &Key, target: &Target, change: impl Fn(&mut Value)) -> Result<()> {
        edit(target, key.name(), Subresource::Main, change).await
    }
}

fn with_standing<'i>(
    item: &'i Item,
    standings: &[Standing],
    wanted: impl Fn(Standing) -> bool,
) -> Vec<&'i str> {
    let pairs = item.owners().iter().zip(standings);
    pairs
        .filter(|(_, standing)| wanted(**standing))
        .map(|(owner, _)| owner.uid.as_str())
        .collect()
}
