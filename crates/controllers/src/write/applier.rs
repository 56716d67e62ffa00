//! Server-side apply through a cache.

use std::hash::{BuildHasher as _, Hash};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use kube::api::{Api, DeleteParams, GetParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use kube::core::{ApiResource, DynamicObject, Request};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use super::Failure;
use super::diff::{is_known_unchanged, needs_apply, says_otherwise};
use crate::runtime::decode::Whole;
use crate::runtime::metrics::Metrics;
use crate::runtime::packed::{Kept, Settled};
use crate::runtime::{Cache, ObjectRef, View};

/// For how long what another instance of us has written stands, if we want something else: its word may follow from what we have not
/// seen yet. Watches bring each kind for itself, one sooner than another.
const DEFERENCE: Duration = Duration::from_secs(1);
/// For how long what a watch says of an object waits for the answer to our own write.
const ANSWER_SOON: Duration = Duration::from_millis(200);

/// What an apply came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The object is as wanted; nothing was sent.
    Unchanged,
    /// It was written, and the cache has it.
    Written,
    /// The object is being deleted: what is wanted can be made once it is gone.
    Deleting,
}

/// Writes to one cluster.
pub struct Applier<V> {
    client: Client,
    cache: Arc<Cache<V>>,
    plane: &'static str,
    metrics: Metrics,
    /// For what is remembered with cached objects ([`Kept::settle`]). Random for each process.
    hasher: RandomState,
}

/// A part of an object that somebody wants in a certain way.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub enum Slot<'a> {
    /// What a field manager applies to the object.
    Object(&'a str),
    /// What a field manager applies to the status.
    Status(&'a str),
    /// What a controller has to say in the status, before times are added.
    Told(&'a str),
    /// A planned object and its owner, before they are put together.
    Child(&'a str),
}

/// What of an object is applied, and how.
#[derive(Clone, Copy)]
struct Part<'a> {
    /// Empty, or `status`.
    subresource: &'a str,
    force: bool,
    /// The only revision of the object that it is for.
    revision: Option<&'a str>,
}

impl Slot<'_> {
    fn is_of_status(self) -> bool {
        matches!(self, Slot::Status(_) | Slot::Told(_))
    }
}

impl<V: View + Default> Applier<V> {
    /// `plane` labels the calls in the metrics: `control` or `data`.
    pub fn new(client: Client, cache: Arc<Cache<V>>, plane: &'static str, metrics: Metrics) -> Self {
        Self {
            client,
            cache,
            plane,
            metrics,
            hasher: RandomState::default(),
        }
    }

    /// The client that writes.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The counters of the controllers that write.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The cache that is compared with.
    pub fn cache(&self) -> &Arc<Cache<V>> {
        &self.cache
    }

    /// The API of a kind in a namespace (empty: cluster-scoped).
    pub fn api(&self, resource: &ApiResource, namespace: &str) -> Api<DynamicObject> {
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }

    /// Makes the fields of `desired` so, as `manager`, if they are not. With `force`, fields that others took over
    /// are taken back; without, they are a [`Failure::FieldsOwned`].
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn apply(
        &self,
        resource: &ApiResource,
        manager: &str,
        desired: &Value,
        force: bool,
    ) -> Result<Applied, Failure> {
        let part = Part {
            subresource: "",
            force,
            revision: None,
        };
        self.apply_to(resource, manager, desired, part).await
    }

    /// As [`Applier::apply`] for the status of an object that exists. `desired` has nothing but its address and `status`. With a
    /// `revision` it is of the object as it was then, and of no other.
    ///
    /// # Errors
    /// See [`Failure`]; [`Failure::Conflict`] if the object is of another revision.
    pub async fn apply_status(
        &self,
        resource: &ApiResource,
        manager: &str,
        desired: &Value,
        revision: Option<&str>,
    ) -> Result<Applied, Failure> {
        let part = Part {
            subresource: "status",
            force: true,
            revision,
        };
        self.apply_to(resource, manager, desired, part).await
    }

    async fn apply_to(
        &self,
        resource: &ApiResource,
        manager: &str,
        desired: &Value,
        part: Part<'_>,
    ) -> Result<Applied, Failure> {
        let Part {
            subresource,
            force,
            revision,
        } = part;
        let address = ObjectRef::of_value(desired)
            .ok_or_else(|| Failure::Rejected("an object without apiVersion, kind or name".to_owned()))?;
        let slot = match subresource {
            "" => Slot::Object(manager),
            _ => Slot::Status(manager),
        };
        let wanted = self.digest(desired);
        let snapshot = self.cache.snapshot();
        let known = snapshot.kept(&address);
        if let Some(kept) = known {
            if kept.is_deleting() && subresource.is_empty() {
                return Ok(Applied::Deleting);
            }
            if self.is_settled(kept, slot, wanted) {
                return Ok(Applied::Unchanged);
            }
            if kept.is_outline() {
                if is_known_unchanged(desired, &kept.get().metadata, manager) {
                    self.settle(kept, slot, wanted);
                    return Ok(Applied::Unchanged);
                }
                // Somebody has changed it, or it was applied otherwise: what is it now?
                let whole = self.get(resource, &address.namespace, &address.name).await?;
                if let Some(whole) = whole
                    && !needs_apply(desired, &whole, manager, subresource)
                {
                    let revision = whole.metadata.resource_version.clone();
                    self.cache.wrote(whole);
                    self.settle_at(&address, revision.as_deref(), slot, wanted);
                    return Ok(Applied::Unchanged);
                }
            } else if !needs_apply(desired, &kept.get(), manager, subresource) {
                self.settle(kept, slot, wanted);
                return Ok(Applied::Unchanged);
            }
            if subresource.is_empty() {
                self.let_others_finish(kept, slot, manager, desired)?;
            }
        }
        let params = PatchParams {
            force,
            field_manager: Some(manager.to_owned()),
            ..PatchParams::default()
        };
        let fenced = match revision {
            Some(revision) => Some(at_revision(desired, revision)),
            None => self.fenced(known, desired, subresource),
        };
        let patch = Patch::Apply(fenced.as_ref().unwrap_or(desired));
        self.metrics.called(self.plane, "apply");
        let request = Request::new(self.api(resource, &address.namespace).resource_url());
        let request = match subresource {
            "" => request.patch(&address.name, &params, &patch),
            _ => request.patch_subresource(subresource, &address.name, &params, &patch),
        };
        let mut awaiting = Some(self.cache.awaiting(&address));
        let answer = match request {
            Ok(request) => {
                let mut answer = Box::pin(self.client.request::<Whole>(request));
                let answer = tokio::select! {
                    biased;
                    answer = &mut answer => answer,
                    () = tokio::time::sleep(ANSWER_SOON) => {
                        awaiting = None;
                        answer.await
                    }
                };
                answer.map(|whole| whole.0)
            }
            Err(error) => Err(kube::Error::BuildRequest(error)),
        };
        let answered = self.answered(&address, answer);
        drop(awaiting);
        let revision = match answered {
            Err(Failure::Conflict(message)) if fenced.is_some() => {
                // The watch may take long to tell.
                if let Some(newest) = self.get(resource, &address.namespace, &address.name).await? {
                    self.cache.wrote(newest);
                }
                return Err(Failure::Conflict(message));
            }
            answered => answered?,
        };
        // However the server has written it down (`500m` as `0.5`, say): this is what becomes of what is wanted.
        self.settle_at(&address, revision.as_deref(), slot, wanted);
        tracing::debug!(object = %address, manager, subresource, "written");
        Ok(Applied::Written)
    }

    /// What is wanted, with the revision that it was compared with: who lost the lead without noticing overwrites nothing that was
    /// written since. Objects of the control plane only: others write all the time to those of a data plane.
    fn fenced(&self, known: Option<&Arc<Kept>>, desired: &Value, subresource: &str) -> Option<Value> {
        if self.plane != "control" || !subresource.is_empty() {
            return None;
        }
        Some(at_revision(desired, known?.resource_version()?))
    }

    /// Refuses for a moment to overwrite what another instance of us has written.
    fn let_others_finish(
        &self,
        kept: &Arc<Kept>,
        slot: Slot<'_>,
        manager: &str,
        desired: &Value,
    ) -> Result<(), Failure> {
        // What we have written or seen as we wanted it is ours to change.
        if kept.is_known(self.digest(&slot)) {
            return Ok(());
        }
        let wait = DEFERENCE.saturating_sub(kept.age());
        if wait.is_zero() || !says_otherwise(desired, &kept.get(), kept.is_outline(), manager) {
            return Ok(());
        }
        let object = kept.address().to_string();
        Err(Failure::Outrun { object, wait })
    }

    /// As [`Applier::settle`], of the revision of an object that is known to be as wanted, if the cache has that.
    fn settle_at(&self, address: &ObjectRef, revision: Option<&str>, slot: Slot<'_>, wanted: u64) {
        if let Some(kept) = self.cache.snapshot().kept(address)
            && kept.resource_version().is_some()
            && kept.resource_version() == revision
        {
            self.settle(kept, slot, wanted);
        }
    }

    /// What is wanted, for [`Applier::is_settled`].
    pub fn digest(&self, wanted: &impl Hash) -> u64 {
        self.hasher.hash_one(wanted)
    }

    /// Whether it is known that a part of the object is as it is wanted, so that nobody needs to look.
    pub fn is_settled(&self, kept: &Kept, slot: Slot<'_>, wanted: u64) -> bool {
        kept.is_settled(self.digest(&slot), wanted)
    }

    /// Remembers that a part of the object is as it is wanted.
    pub fn settle(&self, kept: &Kept, slot: Slot<'_>, wanted: u64) {
        kept.settle(Settled {
            slot: self.digest(&slot),
            wanted,
            of_status: slot.is_of_status(),
        });
    }

    /// Reads an object from the API server, past the cache: for objects that the cache does not watch.
    ///
    /// # Errors
    /// See [`Failure`]; an object that does not exist is `Ok(None)`.
    pub async fn get(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Failure> {
        self.metrics.called(self.plane, "get");
        Ok(self.api(resource, namespace).get_opt(name).await?)
    }

    /// As [`Applier::get`], of a moment ago: what the API server has in its own cache is enough, and it asks nobody for a newer state.
    ///
    /// # Errors
    /// As [`Applier::get`].
    pub async fn get_recent(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, Failure> {
        self.metrics.called(self.plane, "get");
        let api = self.api(resource, namespace);
        match api.get_with(name, &GetParams::any()).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes exactly this object: if it has been replaced by another of the same name, that one stays.
    ///
    /// # Errors
    /// See [`Failure`]; an object that does not exist is no failure.
    pub async fn delete(
        &self,
        resource: &ApiResource,
        object: &ObjectRef,
        uid: Option<String>,
    ) -> Result<(), Failure> {
        let params = DeleteParams {
            preconditions: uid.map(|uid| Preconditions {
                uid: Some(uid),
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        self.metrics.called(self.plane, "delete");
        match self
            .api(resource, &object.namespace)
            .delete(&object.name, &params)
            .await
        {
            Ok(answer) => {
                // An object with finalizers is still there, marked; one without is gone and the watch says so.
                if let Some(object) = answer
                    .left()
                    .filter(|object| object.metadata.deletion_timestamp.is_some())
                    && object
                        .metadata
                        .finalizers
                        .as_ref()
                        .is_some_and(|finalizers| !finalizers.is_empty())
                {
                    self.cache.wrote(object);
                }
                Ok(())
            }
            Err(error) => match Failure::from(error) {
                Failure::NotFound(_) | Failure::UnknownKind(_) => Ok(()),
                // Another object has taken the name, so the one that was meant is gone.
                Failure::Conflict(_) => Ok(()),
                failure => Err(failure),
            },
        }
    }

    /// Adds a finalizer to an object, as a manager of its own so that no other apply takes it away.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn add_finalizer(
        &self,
        resource: &ApiResource,
        live: &DynamicObject,
        finalizer: &str,
    ) -> Result<(), Failure> {
        if live.finalizers().iter().any(|present| present == finalizer) {
            return Ok(());
        }
        let mut patch = vec![];
        // Guards against another object of the same name, and against losing a finalizer that was added meanwhile.
        patch.push(json!({"op": "test", "path": "/metadata/uid", "value": live.metadata.uid}));
        if live.finalizers().is_empty() {
            patch.push(json!({"op": "test", "path": "/metadata/resourceVersion",
                              "value": live.metadata.resource_version}));
            patch.push(json!({"op": "add", "path": "/metadata/finalizers", "value": [finalizer]}));
        } else {
            patch.push(json!({"op": "add", "path": "/metadata/finalizers/-", "value": finalizer}));
        }
        self.json_patch(resource, live, patch).await
    }

    /// Removes a finalizer from an object, whoever set it. The object may be gone.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn remove_finalizer(
        &self,
        resource: &ApiResource,
        live: &DynamicObject,
        finalizer: &str,
    ) -> Result<(), Failure> {
        let Some(at) = live.finalizers().iter().position(|present| present == finalizer) else {
            return Ok(());
        };
        let path = format!("/metadata/finalizers/{at}");
        let patch = vec![
            json!({"op": "test", "path": path, "value": finalizer}),
            json!({"op": "remove", "path": path}),
        ];
        match self.json_patch(resource, live, patch).await {
            Err(Failure::NotFound(_)) => Ok(()),
            // The test failed: the list is not what the cache says. Look again.
            Err(Failure::Rejected(message)) => Err(Failure::Conflict(message)),
            other => other,
        }
    }

    async fn json_patch(
        &self,
        resource: &ApiResource,
        live: &DynamicObject,
        operations: Vec<Value>,
    ) -> Result<(), Failure> {
        let address = ObjectRef::of(live);
        let patch: json_patch::Patch = serde_json::from_value(Value::Array(operations))
            .map_err(|error| Failure::Rejected(error.to_string()))?;
        self.metrics.called(self.plane, "patch");
        let api = self.api(resource, &address.namespace);
        let answer = api
            .patch(
                &address.name,
                &PatchParams::default(),
                &Patch::<Value>::Json(patch),
            )
            .await;
        self.answered(&address, answer).map(drop)
    }

    /// Puts the answer to a write into the cache. Gives its revision.
    fn answered(
        &self,
        address: &ObjectRef,
        answer: kube::Result<DynamicObject>,
    ) -> Result<Option<String>, Failure> {
        match answer {
            Ok(object) => {
                let revision = object.metadata.resource_version.clone();
                // The last finalizer of a deleted object was removed: the answer is its last state, not a live one.
                let last = object.metadata.deletion_timestamp.is_some() && object.finalizers().is_empty();
                if !last {
                    self.cache.wrote(object);
                }
                Ok(revision)
            }
            Err(error) => {
                let failure = Failure::from(error);
                tracing::debug!(object = %address, %failure, "write failed");
                Err(failure)
            }
        }
    }
}

/// What is wanted of an object as it was at a revision, and of no other.
fn at_revision(desired: &Value, revision: &str) -> Value {
    let mut fenced = desired.clone();
    fenced["metadata"]["resourceVersion"] = revision.into();
    fenced
}
