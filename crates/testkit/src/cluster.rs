//! One cluster, with what tests do to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use choreo_controllers::runtime::object::split_api_version;
use futures::StreamExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Discovery, Scope};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde_json::{Value, json};

/// Longest wait for anything. Long enough for a busy machine; a passing test never waits for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// One cluster, with what tests do to it.
///
/// Kinds are named as `Service`, or `Service.` for the core group, or `Deployment.apps`. A name without a group means the
/// platform's kind of that name if there is one.
#[derive(Clone)]
pub struct Cluster {
    /// Its name, for messages.
    pub name: String,
    /// A client with all rights.
    pub client: Client,
    /// How it serves the kinds that were applied: a client asks once, and not before each object.
    known: Arc<Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>>,
}

impl Cluster {
    /// A cluster behind a client.
    pub fn new(name: &str, client: Client) -> Self {
        Self {
            name: name.to_owned(),
            client,
            known: Arc::default(),
        }
    }

    /// How the cluster serves a kind of this version.
    async fn served(&self, gvk: &GroupVersionKind) -> anyhow::Result<(ApiResource, Scope)> {
        if let Some(known) = self.known.lock().get(gvk) {
            return Ok(known.clone());
        }
        let (resource, capabilities) = kube::discovery::pinned_kind(&self.client, gvk)
            .await
            .with_context(|| format!("find {} {} in cluster {}", gvk.api_version(), gvk.kind, self.name))?;
        let served = (resource, capabilities.scope);
        self.known.lock().insert(gvk.clone(), served.clone());
        Ok(served)
    }

    /// How the cluster serves a kind, and whether in namespaces.
    ///
    /// # Errors
    /// When it does not.
    pub async fn resource(&self, kind: &str) -> anyhow::Result<(ApiResource, bool)> {
        let (kind, group) = match kind.split_once('.') {
            Some((kind, group)) => (kind, Some(group)),
            None => (kind, None),
        };
        let discovery = Discovery::new(self.client.clone()).run_aggregated().await?;
        let mut found = Vec::new();
        for served in discovery.groups() {
            for version in served.versions() {
                for (resource, capabilities) in served.versioned_resources(version) {
                    if resource.kind == kind && group.is_none_or(|group| group == resource.group) {
                        found.push((resource, capabilities.scope == Scope::Namespaced));
                    }
                }
            }
        }
        // Ours before Kubernetes' own; stable versions before others.
        found.sort_by_key(|(resource, _)| {
            (
                resource.group != "openchoreo.dev",
                resource.version.contains("alpha"),
                resource.api_version.clone(),
            )
        });
        let names: Vec<&str> = discovery.groups().map(|group| group.name()).collect();
        let missing = || {
            anyhow!(
                "cluster {} does not serve {kind}; it has the groups {names:?}",
                self.name
            )
        };
        found.into_iter().next().ok_or_else(missing)
    }

    /// The API of a kind in a namespace; the namespace is ignored for cluster-scoped kinds.
    ///
    /// # Errors
    /// When the cluster does not serve the kind.
    pub async fn api(&self, kind: &str, namespace: &str) -> anyhow::Result<Api<DynamicObject>> {
        let (resource, namespaced) = self.resource(kind).await?;
        Ok(if namespaced && !namespace.is_empty() {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        })
    }

    /// Applies every document of a YAML text, in order, to namespace `default` unless they name another.
    ///
    /// # Errors
    /// With the document that failed.
    pub async fn apply_yaml(&self, yaml: &str) -> anyhow::Result<Vec<DynamicObject>> {
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(yaml).map_err(|error| anyhow!("not YAML: {error}"))?;
        let mut applied = Vec::new();
        for document in documents.into_iter().filter(|document| !document.is_null()) {
            applied.push(self.apply(document).await?);
        }
        Ok(applied)
    }

    /// Applies one object.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, mut object: Value) -> anyhow::Result<DynamicObject> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("/apiVersion").context("apiVersion is missing")?;
        let kind = text("/kind").context("kind is missing")?;
        let name = text("/metadata/name").context("metadata.name is missing")?;
        let (group, version) = split_api_version(&api_version);
        let gvk = GroupVersionKind::gvk(group, version, &kind);
        let (resource, scope) = self.served(&gvk).await?;
        let api: Api<DynamicObject> = if scope == Scope::Namespaced {
            let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
            object["metadata"]["namespace"] = json!(namespace);
            Api::namespaced_with(self.client.clone(), &namespace, &resource)
        } else {
            Api::all_with(self.client.clone(), &resource)
        };
        let params = PatchParams::apply("test").force().validation_strict();
        let applied = api.patch(&name, &params, &Patch::Apply(&object)).await;
        if matches!(&applied, Err(kube::Error::Api(status)) if status.is_not_found()) {
            // The kind may have gone, and come back otherwise.
            self.known.lock().remove(&gvk);
        }
        applied.with_context(|| format!("apply {kind} {name}"))
    }

    /// A token of a service account, bound to it and for an hour.
    ///
    /// # Errors
    /// When the API server does not give one.
    pub async fn token_of(&self, namespace: &str, service_account: &str) -> anyhow::Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token");
        let wanted = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600},
        });
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&wanted)?)?;
        let answer: Value = self.client.request(request).await?;
        let token = answer["status"]["token"].as_str();
        Ok(token.context("no token in the answer")?.to_owned())
    }

    /// Changes an object with a JSON merge patch, as a person with `kubectl edit` does.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn merge(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> anyhow::Result<DynamicObject> {
        let api = self.api(kind, namespace).await?;
        let params = PatchParams {
            field_manager: Some("kubectl-edit".to_owned()),
            ..PatchParams::default()
        };
        api.patch(name, &params, &Patch::Merge(&patch))
            .await
            .with_context(|| format!("patch {kind} {name}"))
    }

    /// An object, if it is there.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn get(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> anyhow::Result<Option<DynamicObject>> {
        Ok(self.api(kind, namespace).await?.get_opt(name).await?)
    }

    /// All objects of a kind in a namespace (empty: in all).
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn list(&self, kind: &str, namespace: &str) -> anyhow::Result<Vec<DynamicObject>> {
        Ok(self
            .api(kind, namespace)
            .await?
            .list(&ListParams::default())
            .await?
            .items)
    }

    /// Deletes an object; what depends on it goes after it.
    ///
    /// # Errors
    /// When it is not there or must not be deleted.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
        let api = self.api(kind, namespace).await?;
        api.delete(name, &DeleteParams::background())
            .await
            .with_context(|| format!("delete {kind} {name}"))?;
        Ok(())
    }

    /// Waits until an object is as `expected` says, and returns it. `what` completes "waiting for ...".
    ///
    /// # Errors
    /// After a minute, with the object as it was last seen.
    pub async fn wait_for(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        what: &str,
        expected: impl Fn(&DynamicObject) -> bool,
    ) -> anyhow::Result<DynamicObject> {
        let found = self.watch_until(kind, namespace, name, |object| {
            object.filter(|o| expected(o)).cloned()
        });
        found
            .await
            .with_context(|| format!("waiting for {kind} {namespace}/{name} in {}: {what}", self.name))
    }

    /// Waits until an object is ready.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub async fn wait_ready(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<DynamicObject> {
        self.wait_for(kind, namespace, name, "Ready", is_ready).await
    }

    /// Waits until `Ready` is not true and its message contains `text`.
    ///
    /// # Errors
    /// As [`Cluster::wait_for`].
    pub async fn wait_unready(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        text: &str,
    ) -> anyhow::Result<DynamicObject> {
        let says = |object: &DynamicObject| !is_ready(object) && ready_message(object).contains(text);
        self.wait_for(
            kind,
            namespace,
            name,
            &format!("not Ready, saying {text:?}"),
            says,
        )
        .await
    }

    /// Waits until an object is gone.
    ///
    /// # Errors
    /// After a minute, with the object as it was last seen.
    pub async fn wait_gone(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
        let gone = self.watch_until(kind, namespace, name, |object| object.is_none().then_some(()));
        gone.await.with_context(|| {
            format!(
                "waiting for the end of {kind} {namespace}/{name} in {}",
                self.name
            )
        })
    }

    /// Waits until the objects of a kind in a namespace (empty: in all) are as `expected` says.
    ///
    /// # Errors
    /// After a minute, with the names of those that are there.
    pub async fn wait_all(
        &self,
        kind: &str,
        namespace: &str,
        what: &str,
        expected: impl Fn(&[DynamicObject]) -> bool,
    ) -> anyhow::Result<Vec<DynamicObject>> {
        let api = self.api(kind, namespace).await?;
        let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
        let mut events = std::pin::pin!(events);
        let mut objects: Vec<DynamicObject> = Vec::new();
        let mut complete = false;
        let wait = async {
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => objects.clear(),
                    Ok(Event::InitApply(object) | Event::Apply(object)) => {
                        objects.retain(|other| !same(other, &object));
                        objects.push(object);
                    }
                    Ok(Event::Delete(object)) => objects.retain(|other| !same(other, &object)),
                    Ok(Event::InitDone) => complete = true,
                    Err(error) => tracing::debug!(%error, "watch interrupted"),
                }
                if complete && expected(&objects) {
                    return true;
                }
            }
            false
        };
        if tokio::time::timeout(PATIENCE, wait).await.unwrap_or(false) {
            return Ok(objects);
        }
        let names: Vec<String> = objects.iter().map(ResourceExt::name_any).collect();
        bail!(
            "waiting for {kind} in {namespace:?} of {}: {what}; there are {names:?}",
            self.name
        )
    }

    async fn watch_until<T>(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        mut done: impl FnMut(Option<&DynamicObject>) -> Option<T>,
    ) -> anyhow::Result<T> {
        let api = self.api(kind, namespace).await?;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
        let mut last: Option<DynamicObject> = None;
        let wait = async {
            let mut listed = None;
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => {
                        listed = None;
                        continue;
                    }
                    Ok(Event::InitApply(object)) => {
                        listed = Some(object);
                        continue;
                    }
                    Ok(Event::InitDone) => last = listed.take(),
                    Ok(Event::Apply(object)) => last = Some(object),
                    Ok(Event::Delete(_)) => last = None,
                    Err(error) => {
                        tracing::debug!(%error, "watch interrupted");
                        continue;
                    }
                }
                if let Some(result) = done(last.as_ref()) {
                    return Some(result);
                }
            }
            None
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(Some(result)) => Ok(result),
            _ => match last {
                None => bail!("it is not there"),
                Some(object) => bail!("it is\n{}", describe(&object)),
            },
        }
    }
}

fn same(a: &DynamicObject, b: &DynamicObject) -> bool {
    a.metadata.name == b.metadata.name && a.metadata.namespace == b.metadata.namespace
}

fn describe(object: &DynamicObject) -> String {
    let mut object = object.clone();
    object.metadata.managed_fields = None;
    serde_json::to_string_pretty(&object).unwrap_or_default()
}

/// The conditions of an object: type, status, reason, message.
pub fn conditions(object: &DynamicObject) -> Vec<(String, String, String, String)> {
    let text = |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_owned();
    object.data["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            (
                text(c, "type"),
                text(c, "status"),
                text(c, "reason"),
                text(c, "message"),
            )
        })
        .collect()
}

/// Whether an object is ready, as of its current generation.
pub fn is_ready(object: &DynamicObject) -> bool {
    let observed = object.data["status"]["observedGeneration"].as_i64();
    let current = observed.is_none() || observed == object.metadata.generation;
    current
        && conditions(object)
            .iter()
            .any(|(type_, status, ..)| type_ == "Ready" && status == "True")
}

/// What `Ready` says.
pub fn ready_message(object: &DynamicObject) -> String {
    let ready = conditions(object)
        .into_iter()
        .find(|(type_, ..)| type_ == "Ready");
    ready.map(|(.., message)| message).unwrap_or_default()
}
