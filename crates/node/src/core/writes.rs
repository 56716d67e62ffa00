//! Writes: through the client, and what comes back into the cache at once, so that a task sees its own writes.

use std::{fmt::Debug, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use kube::{
    Api, Resource,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{Cache, Context, Name, World, index::Indexed};

/// Field manager of everything that is written here.
pub(crate) const MANAGER: &str = "choreo/node";

/// A task failed; it will be tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot {action} {kind} {name}: {source}")]
    Api {
        action: &'static str,
        kind: String,
        name: Name,
        source: Box<kube::Error>,
    },
    #[error("cannot encode {0}")]
    Encode(#[from] serde_json::Error),
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    fn code(&self) -> u16 {
        match self {
            Error::Api { source, .. } => match &**source {
                kube::Error::Api(status) => status.code,
                _ => 0,
            },
            Error::Encode(_) => 0,
        }
    }

    /// What was read is old, or gone: the next look will see it.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.code(), 404 | 409)
    }

    /// There is one already.
    pub(crate) fn is_exists(&self) -> bool {
        match self {
            Error::Api { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if status.reason == "AlreadyExists")
            }
            Error::Encode(_) => false,
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// Refused for good: what was sent is wrong or not allowed.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.code(), 400 | 403 | 422)
    }

    /// The server's words.
    pub(crate) fn message(&self) -> String {
        match self {
            Error::Api { source, .. } => match &**source {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            },
            Error::Encode(error) => error.to_string(),
        }
    }
}

/// A namespaced built-in kind with a cache.
pub(crate) trait Cached:
    Indexed + Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
    fn cache(world: &World) -> &Cache<Self>;
}

macro_rules! cached {
    ($($kind:path => $field:ident),* $(,)?) => {$(
        impl Cached for $kind {
            fn cache(world: &World) -> &Cache<Self> {
                &world.$field
            }
        }
    )*};
}

cached! {
    k8s_openapi::api::apps::v1::Deployment => deployments,
    k8s_openapi::api::apps::v1::ReplicaSet => replica_sets,
    k8s_openapi::api::apps::v1::StatefulSet => stateful_sets,
    k8s_openapi::api::apps::v1::DaemonSet => daemon_sets,
    k8s_openapi::api::apps::v1::ControllerRevision => revisions,
    k8s_openapi::api::batch::v1::Job => jobs,
    k8s_openapi::api::batch::v1::CronJob => cron_jobs,
    k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler => autoscalers,
    k8s_openapi::api::policy::v1::PodDisruptionBudget => budgets,
    k8s_openapi::api::core::v1::Pod => pods,
    k8s_openapi::api::core::v1::Service => services,
    k8s_openapi::api::core::v1::Endpoints => endpoints,
    k8s_openapi::api::core::v1::Node => nodes,
    k8s_openapi::api::core::v1::PersistentVolumeClaim => claims,
    k8s_openapi::api::core::v1::Secret => secrets,
    k8s_openapi::api::core::v1::ConfigMap => config_maps,
    k8s_openapi::api::core::v1::Namespace => namespaces,
    k8s_openapi::api::networking::v1::NetworkPolicy => network_policies,
    k8s_openapi::api::discovery::v1::EndpointSlice => endpoint_slices,
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    }
}

fn failed<K: Resource<DynamicType = ()>>(
    action: &'static str,
    name: Name,
) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api {
        action,
        kind: K::kind(&()).into_owned(),
        name,
        source: Box::new(source),
    }
}

impl Context {
    fn api<K: Cached<Scope = NamespaceResourceScope>>(&self, namespace: &str) -> Api<K> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn remember<K: Cached>(&self, written: K) -> Arc<K> {
        let written = Arc::new(written);
        K::cache(&self.world).upsert(written.clone());
        written
    }

    /// Creates an object in its namespace.
    pub(crate) async fn create<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        object: &K,
    ) -> Result<Arc<K>> {
        let name = Name::of(object);
        let api = self.api::<K>(&name.namespace);
        let written = api
            .create(&post(), object)
            .await
            .map_err(failed::<K>("create", name))?;
        Ok(self.remember(written))
    }

    /// Replaces an object; fails with a conflict if it has changed since it was read.
    pub(crate) async fn replace<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        object: &K,
    ) -> Result<Arc<K>> {
        let name = Name::of(object);
        let api = self.api::<K>(&name.namespace);
        let written = api
            .replace(&name.name, &post(), object)
            .await
            .map_err(failed::<K>("update", name))?;
        Ok(self.remember(written))
    }

    /// Replaces the status of an object; fails with a conflict if it has changed since it was read.
    pub(crate) async fn replace_status<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        object: &K,
    ) -> Result<Arc<K>> {
        let name = Name::of(object);
        let api = self.api::<K>(&name.namespace);
        let written = api.replace_status(&name.name, &post(), object).await;
        Ok(self.remember(written.map_err(failed::<K>("update the status of", name))?))
    }

    /// Merges `patch` into an object.
    pub(crate) async fn merge<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        name: &Name,
        patch: &Value,
    ) -> Result<Arc<K>> {
        let api = self.api::<K>(&name.namespace);
        let params = PatchParams {
            field_manager: Some(MANAGER.into()),
            ..PatchParams::default()
        };
        let written = api.patch(&name.name, &params, &Patch::Merge(patch)).await;
        Ok(self.remember(written.map_err(failed::<K>("change", name.clone()))?))
    }

    /// Deletes this very object, with `grace` seconds if given. One that is gone already is no error.
    pub(crate) async fn delete<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        object: &K,
        grace: Option<u32>,
    ) -> Result<()> {
        let name = Name::of(object);
        let params = DeleteParams {
            grace_period_seconds: grace,
            propagation_policy: Some(kube::api::PropagationPolicy::Background),
            preconditions: Some(Preconditions {
                uid: object.meta().uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api::<K>(&name.namespace).delete(&name.name, &params).await {
            Ok(_) => {
                K::cache(&self.world).mark_deleting(object);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(source) => Err(failed::<K>("delete", name)(source)),
        }
    }

    /// Makes `owner` the controller of those objects that its selector selects and that have none.
    pub(crate) async fn adopt<K: Cached<Scope = NamespaceResourceScope>>(
        &self,
        namespace: &str,
        owner: &OwnerReference,
        selects: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<()> {
        for object in K::cache(&self.world).orphans(namespace) {
            let meta = object.meta();
            if meta.deletion_timestamp.is_none() && selects(meta) {
                let mut adopted = (*object).clone();
                adopted
                    .meta_mut()
                    .owner_references
                    .get_or_insert_default()
                    .push(owner.clone());
                self.replace(&adopted).await?;
            }
        }
        Ok(())
    }
}

/// The owner that controls an object.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// A reference that makes `owner` the controller and lets its foreground deletion wait.
pub(crate) fn owner_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The present time as objects carry it, in whole seconds.
pub(crate) fn now() -> Time {
    Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}
