//! A cluster in memory with the controllers on it.

use std::time::Duration;

use choreo_apiserver::{ApiServer, Options, UserInfo};
use choreo_store::Store;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject},
};
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace of everything that is asked for.
    pub(crate) namespace: String,
    pub(crate) store: Store,
    _shutdown: DropGuard,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_on(Store::in_memory(), choreo_node::Options::default())
    }

    /// On a store that may have been another one's before.
    pub(crate) fn start_on(store: Store, options: choreo_node::Options) -> Self {
        let options_of_server = Options {
            // Pods are given it with their tokens.
            certificate_authority: "the authority's certificate".to_owned(),
            ..Options::default()
        };
        let server = ApiServer::new(store.clone(), options_of_server).unwrap();
        let shutdown = CancellationToken::new();
        server.start_controllers(&shutdown);
        let client = server.cluster_client("control", &UserInfo::admin());
        tokio::spawn(choreo_node::run(client.clone(), options, shutdown.clone()));
        Self {
            client,
            namespace: "default".into(),
            store,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Objects of a kind; `kind` is `apiVersion/Kind/plural`, such as `apps/v1/Deployment/deployments`.
    pub(crate) fn api(&self, kind: &str) -> Api<DynamicObject> {
        let mut parts = kind.rsplitn(3, '/');
        let (plural, name, api_version) = (
            parts.next().unwrap(),
            parts.next().unwrap(),
            parts.next().unwrap(),
        );
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource {
            group: group.into(),
            version: version.into(),
            api_version: api_version.into(),
            kind: name.into(),
            plural: plural.into(),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    pub(crate) async fn create(&self, kind: &str, object: Value) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.api(kind).create(&Default::default(), &object).await.unwrap()
    }

    pub(crate) async fn patch(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
    }

    pub(crate) async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.api(kind).list(&Default::default()).await.unwrap();
        list.items
            .into_iter()
            .map(|object| serde_json::to_value(object).unwrap())
            .collect()
    }

    /// Waits until the object is as wanted. The controllers work in the background.
    pub(crate) async fn until(&self, kind: &str, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let api = self.api(kind);
        let ask = async || {
            let found = api.get_opt(name).await.unwrap()?;
            Some(serde_json::to_value(found).unwrap()).filter(|found| wanted(found))
        };
        match self.after_writes(ask).await {
            Some(found) => found,
            None => panic!(
                "{kind} {name} did not become as wanted: {:#?}",
                api.get_opt(name).await.unwrap()
            ),
        }
    }

    /// Waits until the list of a kind is as wanted.
    pub(crate) async fn until_all(&self, kind: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let ask = async || Some(self.list(kind).await).filter(|found| wanted(found));
        match self.after_writes(ask).await {
            Some(found) => found,
            None => panic!("{kind} did not become as wanted: {:#?}", self.list(kind).await),
        }
    }

    /// Asks now and after every write, until there is an answer or patience ends.
    pub(crate) async fn after_writes<T>(&self, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
        let cluster = self.store.cluster("control");
        let mut writes = cluster.watch(None, None, cluster.revision()).unwrap();
        let asking = async {
            loop {
                if let Some(answer) = ask().await {
                    return answer;
                }
                writes.next().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asking).await.ok()
    }
}

pub(crate) const DEPLOYMENT: &str = "apps/v1/Deployment/deployments";
pub(crate) const REPLICA_SET: &str = "apps/v1/ReplicaSet/replicasets";
pub(crate) const STATEFUL_SET: &str = "apps/v1/StatefulSet/statefulsets";
pub(crate) const DAEMON_SET: &str = "apps/v1/DaemonSet/daemonsets";
pub(crate) const REVISION: &str = "apps/v1/ControllerRevision/controllerrevisions";
pub(crate) const JOB: &str = "batch/v1/Job/jobs";
pub(crate) const CRON_JOB: &str = "batch/v1/CronJob/cronjobs";
pub(crate) const AUTOSCALER: &str = "autoscaling/v2/HorizontalPodAutoscaler/horizontalpodautoscalers";
pub(crate) const BUDGET: &str = "policy/v1/PodDisruptionBudget/poddisruptionbudgets";
pub(crate) const POD: &str = "v1/Pod/pods";
pub(crate) const SERVICE: &str = "v1/Service/services";
pub(crate) const SLICE: &str = "discovery.k8s.io/v1/EndpointSlice/endpointslices";
pub(crate) const ENDPOINTS: &str = "v1/Endpoints/endpoints";

pub(crate) fn template(app: &str, annotations: Value) -> Value {
    let container =
        json!({"name": "main", "image": "app:1", "ports": [{"name": "http", "containerPort": 8080}]});
    let mut template = json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [container]}});
    template["metadata"]["annotations"] = annotations;
    template
}

pub(crate) fn deployment(name: &str, replicas: i64, annotations: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, annotations)},
    })
}

pub(crate) fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == kind)
        .unwrap_or_default()
}

/// What `kubectl rollout status` waits for.
pub(crate) fn rolled_out(deployment: &Value) -> bool {
    let (spec, status) = (&deployment["spec"], &deployment["status"]);
    status["observedGeneration"] == deployment["metadata"]["generation"]
        && ["replicas", "updatedReplicas", "availableReplicas"]
            .iter()
            .all(|count| status[*count] == spec["replicas"])
        && condition(deployment, "Available")["status"] == "True"
}
