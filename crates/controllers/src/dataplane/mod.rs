//! The data plane controller: keeps a connection to every cluster of every DataPlane, and says how it is.
//!
//! What is learned here (whether it answers, its version, what it can do) goes into the DataPlane's status, from which
//! the engine reads the features. Writing to the clusters is the release controller's business.

pub(crate) mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use choreo_api::conditions::{self, Condition, ConditionStatus, reasons, types};
use choreo_api::labels;
use choreo_api::v1alpha1::{
    ClusterStatus, DataPlane, DataPlaneSpec, DataPlaneStatus, Features, KubernetesCluster,
};
use choreo_engine::plan::Target;
use choreo_engine::world::Kind;
use futures::future::join_all;
use jiff::{Timestamp, Unit};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, Client};

use crate::context::{Context, is_used};
use crate::planes::connect::{self, EMBEDDED_SCHEME, Secrets};
use crate::planes::{ClusterTarget, ConnectError, Plane, PlaneId, Pulse};
use crate::runtime::feed::describe;
use crate::runtime::{Key, Next, ObjectRef, Queue, Reconcile, Retry};

use secrets::SecretWatches;

/// Name of the controller.
pub const NAME: &str = "data-plane";

/// How soon it is seen whether a plane whose DataPlane is gone is still needed.
const LINGER: Duration = Duration::from_secs(60);

/// See the module's documentation.
pub struct DataPlanes {
    context: Arc<Context>,
    secrets: SecretWatches,
    pulse: Pulse,
}

impl DataPlanes {
    /// `queue` is the controller's own: it is told when a Secret changes.
    pub fn new(context: Arc<Context>, queue: Queue<Key>) -> Self {
        let secrets = SecretWatches::new(context.control.client().clone(), queue);
        Self {
            context,
            secrets,
            pulse: Pulse::default(),
        }
    }
}

/// The clusters of a data plane by name, the primary one first. The only cluster of a plain one has no name.
pub fn clusters_of(spec: &DataPlaneSpec) -> Vec<(String, KubernetesCluster)> {
    if let Some(cluster) = &spec.kubernetes_cluster {
        return vec![(String::new(), cluster.clone())];
    }
    let primary = spec.primary().map(|cluster| cluster.name.clone());
    let mut all: Vec<(String, KubernetesCluster)> = spec
        .clusters
        .iter()
        .filter_map(|cluster| {
            let connection = cluster.kubernetes_cluster.clone().or_else(|| {
                let server = cluster.endpoint.clone()?;
                Some(KubernetesCluster {
                    server,
                    tls: None,
                    auth: None,
                })
            })?;
            Some((cluster.name.clone(), connection))
        })
        .collect();
    all.sort_by_key(|(name, _)| (Some(name) != primary.as_ref(), name.clone()));
    all
}

/// Resolves a cluster's connection, reading the Secrets that it names.
///
/// # Errors
/// When one is missing, or cannot be read.
pub async fn resolve_cluster(
    context: &Context,
    namespace: &str,
    cluster: &KubernetesCluster,
) -> Result<ClusterTarget, ConnectError> {
    resolve_with(context.control.client(), namespace, cluster).await
}

/// As [`resolve_cluster`], with a client of the control plane.
///
/// # Errors
/// When a Secret is missing, or cannot be read.
pub async fn resolve_with(
    client: &Client,
    namespace: &str,
    cluster: &KubernetesCluster,
) -> Result<ClusterTarget, ConnectError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let mut secrets = Secrets::new();
    for name in connect::secrets_of(cluster) {
        let secret = api.get_opt(name).await.map_err(|error| {
            ConnectError::Unreachable(format!("read Secret {name:?}: {}", describe(&error)))
        })?;
        if let Some(secret) = secret {
            let data: BTreeMap<String, Vec<u8>> = secret
                .data
                .unwrap_or_default()
                .into_iter()
                .map(|(key, value)| (key, value.0))
                .collect();
            secrets.insert(name.to_owned(), data);
        }
    }
    connect::resolve(cluster, &secrets)
}

impl Reconcile for DataPlanes {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let world = &snapshot.view.world;
        let address = ObjectRef::new(labels::GROUP, Kind::DataPlane.as_str(), &key.namespace, &key.name);
        let (Some(data_plane), Some(live)) = (
            world.get::<DataPlane>(&key.namespace, &key.name),
            snapshot.get(&address),
        ) else {
            return Ok(self.dismiss(key).await);
        };
        let target = Target::object(Kind::DataPlane, key.namespace.clone(), key.name.clone());
        let plan = choreo_engine::plan(world, &target);
        let clusters = clusters_of(&data_plane.spec);
        self.secrets.follow(
            key,
            clusters
                .iter()
                .flat_map(|(_, cluster)| connect::secrets_of(cluster)),
        );
        let attempts = clusters
            .iter()
            .map(|(name, cluster)| self.connect(key, name, cluster));
        let results: Vec<Attempt> = join_all(attempts).await;
        // Clusters that were taken out of the data plane and that no release needs any more.
        for plane in self.context.planes.of(&key.namespace, &key.name) {
            if !clusters.iter().any(|(name, _)| *name == plane.id().cluster) && !self.is_used(key) {
                self.context.planes.close(plane.id());
            }
        }
        let described = plan.status.unwrap_or_default();
        let mistake = plan.problems.condition();
        let status = status(data_plane, described.observed_generation, mistake, &results);
        let status = serde_json::to_value(status).unwrap_or_default();
        self.context.report(NAME, &live, status).await?;
        let outcomes = results
            .iter()
            .map(|attempt| (!attempt.embedded, attempt.result.as_ref().err()));
        Ok(self.pulse.next(key, outcomes))
    }
}

/// The outcome of looking at one cluster.
struct Attempt {
    cluster: String,
    embedded: bool,
    result: Result<Arc<Plane>, ConnectError>,
}

impl DataPlanes {
    async fn connect(&self, key: &Key, cluster: &str, connection: &KubernetesCluster) -> Attempt {
        let id = PlaneId::data(&key.namespace, &key.name, cluster);
        let result = async {
            let target = resolve_cluster(&self.context, &key.namespace, connection).await;
            let target = match target {
                Ok(target) => target,
                Err(error) => {
                    self.context.planes.refuse(&id, &error);
                    // Credentials that were taken away are not used any longer, even while the connection lives; but those that
                    // go with everything else in their namespace are still needed to clean up.
                    if let Some(plane) = self.context.planes.get(&id)
                        && !self.is_going(&key.namespace).await
                    {
                        plane.unusable(&error.to_string());
                    }
                    return Err(error);
                }
            };
            let known = self.context.planes.get(&id);
            let plane = match self.context.planes.open(&id, &target).await {
                Ok(plane) => plane,
                Err(error) => {
                    if let Some(plane) = &known {
                        plane.unusable(&error.to_string());
                    }
                    return Err(error);
                }
            };
            // One that was opened just now has answered just now.
            if known.is_some_and(|known| Arc::ptr_eq(&known, &plane)) {
                plane.probe().await?;
            }
            Ok(plane)
        };
        let embedded = connection.server.starts_with(EMBEDDED_SCHEME);
        Attempt {
            cluster: cluster.to_owned(),
            embedded,
            result: result.await,
        }
    }

    /// Whether a namespace is being deleted, or gone. Asked of the API server: the cache may hear of it after the Secret is gone.
    async fn is_going(&self, namespace: &str) -> bool {
        let api: Api<Namespace> = Api::all(self.context.control.client().clone());
        match api.get_metadata_opt(namespace).await {
            Ok(found) => found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()),
            Err(_) => false,
        }
    }

    /// The DataPlane is gone: its clusters are let go of once no release needs them to clean up. Until then they are looked after.
    async fn dismiss(&self, key: &Key) -> Next {
        self.secrets.forget(key);
        // The last release that needs them lets go of them otherwise; the timer is for one that was never applied.
        if self.context.release_planes(&key.namespace, &key.name) {
            self.pulse.forget(key);
            return Next::Settled;
        }
        let planes = self.context.planes.of(&key.namespace, &key.name);
        let results = join_all(planes.iter().map(|plane| plane.probe())).await;
        let outcomes = planes.iter().zip(&results).map(|(plane, result)| {
            (
                !plane.server().starts_with(EMBEDDED_SCHEME),
                result.as_ref().err(),
            )
        });
        match self.pulse.next(key, outcomes) {
            Next::Settled => Next::After(LINGER),
            next => next,
        }
    }

    fn is_used(&self, key: &Key) -> bool {
        let snapshot = self.context.snapshot();
        is_used(&snapshot.view.world, &key.namespace, &key.name)
    }
}

fn status(
    data_plane: &DataPlane,
    generation: Option<i64>,
    mistake: Option<Condition>,
    results: &[Attempt],
) -> DataPlaneStatus {
    let before = data_plane.status.clone().unwrap_or_default();
    let now = Timestamp::now();
    let now = Time(now.round(Unit::Second).unwrap_or(now));
    let failed: Vec<(&str, &ConnectError)> = results
        .iter()
        .filter_map(|attempt| Some((attempt.cluster.as_str(), attempt.result.as_ref().err()?)))
        .collect();
    let primary = results.first().and_then(|attempt| attempt.result.as_ref().ok());
    let connected = match failed.first() {
        None if results.is_empty() => Condition::new(
            types::CONNECTED,
            ConditionStatus::Unknown,
            reasons::INVALID,
            "no cluster is named",
        ),
        None => {
            let versions: Vec<String> = results
                .iter()
                .filter_map(|attempt| attempt.result.as_ref().ok())
                .map(|p| p.version())
                .collect();
            let message = format!("Kubernetes {}", versions.join(", "));
            Condition::new(types::CONNECTED, true, reasons::CONNECTED, message)
        }
        Some((_, first)) => {
            let reason = match first {
                ConnectError::Invalid(_) => reasons::CREDENTIALS_INVALID,
                ConnectError::Unreachable(_) => reasons::UNREACHABLE,
            };
            let message = failed.iter().map(|(cluster, error)| match *cluster {
                "" => error.to_string(),
                cluster => format!("{cluster}: {error}"),
            });
            Condition::new(
                types::CONNECTED,
                false,
                reason,
                message.collect::<Vec<_>>().join("; "),
            )
        }
    };
    let ready = mistake.unwrap_or_else(|| {
        if connected.is_true() {
            Condition::ready(&connected.message)
        } else {
            Condition::not_ready(&connected.reason, format!("not connected: {}", connected.message))
        }
    });
    // Written when it changes, not at every contact: a platform at rest writes nothing.
    let contact = |was: bool, is: bool, time: Option<Time>| match (was, is, time) {
        (true, true, Some(time)) | (_, false, Some(time)) => Some(time),
        (_, false, None) => None,
        _ => Some(now.clone()),
    };
    let was = conditions::is_true(&before.conditions, types::CONNECTED);
    let clusters = if data_plane.spec.clusters.is_empty() {
        Vec::new()
    } else {
        let of = |attempt: &Attempt| {
            let old = before.clusters.iter().find(|old| old.name == attempt.cluster);
            let plane = attempt.result.as_ref().ok();
            ClusterStatus {
                name: attempt.cluster.clone(),
                connected: plane.is_some(),
                server_version: plane.map(|p| p.version()).or_else(|| old?.server_version.clone()),
                uid: plane
                    .and_then(|p| p.uid().map(str::to_owned))
                    .or_else(|| old?.uid.clone()),
                message: attempt.result.as_ref().err().map(ToString::to_string),
                last_contact_time: contact(
                    old.is_some_and(|old| old.connected),
                    plane.is_some(),
                    old.and_then(|old| old.last_contact_time.clone()),
                ),
            }
        };
        results.iter().map(of).collect()
    };
    DataPlaneStatus {
        observed_generation: generation,
        conditions: [ready, connected]
            .into_iter()
            .map(|condition| condition.observed(generation))
            .collect(),
        server_version: primary.map(|plane| plane.version()).or(before.server_version),
        // What is known of a cluster that does not answer stays valid: nothing is rendered anew because of an outage.
        features: primary.map(|plane| features(plane)).or(before.features),
        last_contact_time: contact(was, primary.is_some(), before.last_contact_time),
        clusters,
    }
}

fn features(plane: &Plane) -> Features {
    let detected = plane.detected();
    Features {
        cilium: Some(detected.cilium),
        network_policy: Some(detected.network_policy),
        external_secrets: Some(detected.external_secrets),
        // Needs more than a kind: Cilium must have been set up for it, which only its operator knows.
        mtls: None,
    }
}
