//! The build plane controller: keeps a connection to the cluster of every BuildPlane, and says how it is.

use std::sync::Arc;

use choreo_api::conditions::{self, Condition, reasons, types};
use choreo_api::labels;
use choreo_api::v1alpha1::{BuildPlane, BuildPlaneStatus};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::{DynamicObject, GroupVersionKind};

use crate::context::Context;
use crate::dataplane::{resolve_cluster, secrets::SecretWatches};
use crate::planes::connect::{self, EMBEDDED_SCHEME};
use crate::planes::{ConnectError, Plane, PlaneId, Pulse};
use crate::runtime::{Key, Next, ObjectRef, Queue, Reconcile, Retry};
use crate::view::ControlSnapshot;

/// Name of the controller.
pub const NAME: &str = "build-plane";

const KIND: &str = "BuildPlane";

/// Whether an object is a BuildPlane.
pub fn is_build_plane(object: &ObjectRef) -> bool {
    object.kind.group == labels::GROUP && object.kind.kind == KIND
}

/// A BuildPlane as it is in the control plane.
pub fn find(snapshot: &ControlSnapshot, namespace: &str, name: &str) -> Option<BuildPlane> {
    let live = snapshot.get(&ObjectRef::new(labels::GROUP, KIND, namespace, name))?;
    typed(&live)
}

fn typed(live: &DynamicObject) -> Option<BuildPlane> {
    serde_json::from_value(serde_json::to_value(live).ok()?).ok()
}

/// The names of an organization's BuildPlanes, in order.
pub fn names(snapshot: &ControlSnapshot, namespace: &str) -> Vec<String> {
    let all = snapshot.iter().filter(|(object, _)| is_build_plane(object));
    let mut names: Vec<String> = all
        .filter(|(object, live)| {
            object.namespace == namespace && live.get().metadata.deletion_timestamp.is_none()
        })
        .map(|(object, _)| object.name.clone())
        .collect();
    names.sort();
    names
}

/// The kind that builds run as.
pub fn workflow_kind() -> GroupVersionKind {
    GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Workflow")
}

/// See the module's documentation.
pub struct BuildPlanes {
    context: Arc<Context>,
    secrets: SecretWatches,
    pulse: Pulse,
}

impl BuildPlanes {
    /// `queue` is the controller's own: it is told when a Secret changes.
    pub fn new(context: Arc<Context>, queue: Queue<Key>) -> Self {
        let secrets = SecretWatches::new(context.control.client().clone(), queue);
        Self {
            context,
            secrets,
            pulse: Pulse::default(),
        }
    }

    async fn connect(&self, key: &Key, plane: &BuildPlane) -> Result<Arc<Plane>, ConnectError> {
        let id = PlaneId::build(&key.namespace, &key.name);
        let known = self.context.planes.get(&id);
        let unusable = |error: &ConnectError| {
            self.context.planes.refuse(&id, error);
            // Credentials that were taken away are not used any longer, even while the connection lives.
            if let Some(plane) = &known {
                plane.unusable(&error.to_string());
            }
        };
        let target = resolve_cluster(&self.context, &key.namespace, &plane.spec.kubernetes_cluster).await;
        let target = target.inspect_err(unusable)?;
        let plane = self
            .context
            .planes
            .open(&id, &target)
            .await
            .inspect_err(unusable)?;
        // One that was opened just now has answered just now.
        if known.is_some_and(|known| Arc::ptr_eq(&known, &plane)) {
            plane.probe().await?;
        }
        Ok(plane)
    }
}

impl Reconcile for BuildPlanes {
    type Key = Key;

    fn name(&self) -> &'static str {
        NAME
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, Retry> {
        let snapshot = self.context.snapshot();
        let address = ObjectRef::new(labels::GROUP, KIND, &key.namespace, &key.name);
        let Some((live, plane)) = snapshot.get(&address).and_then(|live| {
            let plane = typed(&live)?;
            Some((live, plane))
        }) else {
            self.secrets.forget(key);
            self.pulse.forget(key);
            self.context
                .planes
                .close(&PlaneId::build(&key.namespace, &key.name));
            return Ok(Next::Settled);
        };
        self.secrets.follow(
            key,
            connect::secrets_of(&plane.spec.kubernetes_cluster).into_iter(),
        );
        let connected = self.connect(key, &plane).await;
        let has_engine = match &connected {
            Ok(connected) => connected.served(&workflow_kind()).await.is_some(),
            Err(_) => false,
        };
        let status = status(&plane, live.metadata.generation, &connected, has_engine);
        let status = serde_json::to_value(status).unwrap_or_default();
        self.context.report(NAME, &live, status).await?;
        let remote = !plane.spec.kubernetes_cluster.server.starts_with(EMBEDDED_SCHEME);
        let outcome = (remote, connected.as_ref().err());
        Ok(self.pulse.next(key, std::iter::once(outcome)))
    }
}

fn status(
    plane: &BuildPlane,
    generation: Option<i64>,
    result: &Result<Arc<Plane>, ConnectError>,
    has_engine: bool,
) -> BuildPlaneStatus {
    let before = plane.status.clone().unwrap_or_default();
    let connected = match result {
        Ok(plane) => Condition::new(
            types::CONNECTED,
            true,
            reasons::CONNECTED,
            format!("Kubernetes {}", plane.version()),
        ),
        Err(error @ ConnectError::Invalid(_)) => Condition::new(
            types::CONNECTED,
            false,
            reasons::CREDENTIALS_INVALID,
            error.to_string(),
        ),
        Err(error @ ConnectError::Unreachable(_)) => {
            Condition::new(types::CONNECTED, false, reasons::UNREACHABLE, error.to_string())
        }
    };
    let ready = match (connected.is_true(), has_engine) {
        (false, _) => {
            Condition::not_ready(&connected.reason, format!("not connected: {}", connected.message))
        }
        (true, false) => Condition::not_ready(
            reasons::NOT_SUPPORTED,
            "the cluster has no kind Workflow of argoproj.io/v1alpha1: install Argo Workflows there",
        ),
        (true, true) => Condition::ready(format!("{}, with Argo Workflows", connected.message)),
    };
    // Written when it changes, not at every contact: a platform at rest writes nothing.
    let was = conditions::is_true(&before.conditions, types::CONNECTED);
    let last_contact_time = match (was, result.is_ok()) {
        (false, true) => Timestamp::from_second(Timestamp::now().as_second())
            .ok()
            .map(Time),
        _ => before.last_contact_time,
    };
    BuildPlaneStatus {
        observed_generation: generation,
        conditions: [ready, connected]
            .into_iter()
            .map(|condition| condition.observed(generation))
            .collect(),
        server_version: result
            .as_ref()
            .ok()
            .map(|plane| plane.version())
            .or(before.server_version),
        last_contact_time,
    }
}
