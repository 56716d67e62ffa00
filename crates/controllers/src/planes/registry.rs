//! All connected clusters.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::connect::{ClusterConnector, ClusterTarget, ConnectError};
use super::plane::{Plane, PlaneListener};
use crate::runtime::metrics::Metrics;

/// What a cluster is used for. One that is both is connected twice: what is watched there differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Workloads: the cluster of a DataPlane.
    Data,
    /// Builds: the cluster of a BuildPlane.
    Build,
}

/// One cluster of one DataPlane or BuildPlane.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaneId {
    /// Which of the two.
    pub role: Role,
    /// Namespace of the DataPlane or BuildPlane.
    pub namespace: String,
    /// Name of the DataPlane or BuildPlane.
    pub name: String,
    /// Name of the cluster in it; empty if it has only one.
    pub cluster: String,
}

impl PlaneId {
    /// A cluster of a DataPlane.
    pub fn data(namespace: &str, data_plane: &str, cluster: &str) -> Self {
        Self {
            role: Role::Data,
            namespace: namespace.to_owned(),
            name: data_plane.to_owned(),
            cluster: cluster.to_owned(),
        }
    }

    /// The cluster of a BuildPlane.
    pub fn build(namespace: &str, build_plane: &str) -> Self {
        Self {
            role: Role::Build,
            namespace: namespace.to_owned(),
            name: build_plane.to_owned(),
            cluster: String::new(),
        }
    }
}

impl fmt::Display for PlaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.role {
            Role::Data => "",
            Role::Build => "build plane ",
        };
        write!(f, "{kind}{}/{}", self.namespace, self.name)?;
        if !self.cluster.is_empty() {
            write!(f, ":{}", self.cluster)?;
        }
        Ok(())
    }
}

struct Slot {
    target: ClusterTarget,
    plane: Arc<Plane>,
}

/// The attempts to connect one cluster, with the last one's failure.
type Opening = tokio::sync::Mutex<Option<(Instant, ClusterTarget, ConnectError)>>;

/// Every cluster that is connected, by DataPlane or BuildPlane and cluster name.
pub struct Planes {
    connector: Arc<dyn ClusterConnector>,
    metrics: Metrics,
    listener: Arc<dyn PlaneListener>,
    slots: Mutex<BTreeMap<PlaneId, Slot>>,
    /// One connection attempt at a time for each cluster.
    opening: Mutex<BTreeMap<PlaneId, Arc<Opening>>>,
    /// Clusters that could not be connected, and why.
    refused: Mutex<BTreeMap<PlaneId, String>>,
    shutdown: CancellationToken,
}

impl Planes {
    /// No cluster yet.
    pub fn new(
        connector: Arc<dyn ClusterConnector>,
        metrics: Metrics,
        listener: Arc<dyn PlaneListener>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            connector,
            metrics,
            listener,
            slots: Mutex::new(BTreeMap::new()),
            opening: Mutex::new(BTreeMap::new()),
            refused: Mutex::new(BTreeMap::new()),
            shutdown,
        }
    }

    /// The cluster, if it was ever connected.
    pub fn get(&self, id: &PlaneId) -> Option<Arc<Plane>> {
        self.slots.lock().get(id).map(|slot| Arc::clone(&slot.plane))
    }

    /// Why a cluster could not be connected; `None` if it has not been tried yet, or is connected.
    pub fn refusal(&self, id: &PlaneId) -> Option<String> {
        self.refused.lock().get(id).cloned()
    }

    /// Whether it is known of any cluster of this namespace's data planes if it can be connected. Before that nothing can be said of
    /// what belongs there, and the first answer is told to the listener.
    pub fn knows_any_of(&self, namespace: &str) -> bool {
        let is_of = |id: &PlaneId| id.role == Role::Data && id.namespace == namespace;
        self.slots.lock().keys().any(is_of) || self.refused.lock().keys().any(is_of)
    }

    /// Notes why a cluster could not be connected.
    pub fn refuse(&self, id: &PlaneId, error: &ConnectError) {
        let before = self.refused.lock().insert(id.clone(), error.to_string());
        // Those who wait for it have been told to wait in silence until the first answer.
        if before.is_none() {
            self.listener.usable_changed(id);
        }
    }

    /// The cluster, connected by `target`: the connection that there is if it was made with the same, else a new one,
    /// which takes the old one's place once it has answered.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub async fn open(&self, id: &PlaneId, target: &ClusterTarget) -> Result<Arc<Plane>, ConnectError> {
        self.open_unless_refused(id, target, Duration::ZERO).await
    }

    /// As [`Planes::open`]; an attempt with the same target that failed no longer than `fresh` ago counts for this one, too. So
    /// many who need the same dead cluster do not wait for it one after the other.
    ///
    /// # Errors
    /// When it cannot be connected.
    pub async fn open_unless_refused(
        &self,
        id: &PlaneId,
        target: &ClusterTarget,
        fresh: Duration,
    ) -> Result<Arc<Plane>, ConnectError> {
        let turn = Arc::clone(self.opening.lock().entry(id.clone()).or_default());
        let mut turn = turn.lock().await;
        if let Some(slot) = self.slots.lock().get(id)
            && slot.target == *target
        {
            return Ok(Arc::clone(&slot.plane));
        }
        if let Some((at, refused, error)) = &*turn
            && refused == target
            && at.elapsed() < fresh
        {
            return Err(error.clone());
        }
        *turn = None;
        let attempt = async {
            let client = self.connector.connect(target).await?;
            let (id, server) = (id.clone(), target.server.clone());
            let (metrics, listener) = (self.metrics.clone(), Arc::clone(&self.listener));
            Plane::open(id, server, client, metrics, listener, self.shutdown.child_token()).await
        };
        let plane = attempt.await.inspect_err(|error| {
            *turn = Some((Instant::now(), target.clone(), error.clone()));
            self.refuse(id, error);
        })?;
        self.refused.lock().remove(id);
        let slot = Slot {
            target: target.clone(),
            plane: Arc::clone(&plane),
        };
        self.slots.lock().insert(id.clone(), slot);
        self.listener.usable_changed(id);
        Ok(plane)
    }

    /// The clusters of a DataPlane that are connected.
    pub fn of(&self, namespace: &str, data_plane: &str) -> Vec<Arc<Plane>> {
        let slots = self.slots.lock();
        slots
            .iter()
            .filter(|(id, _)| id.role == Role::Data && id.namespace == namespace && id.name == data_plane)
            .map(|(_, slot)| Arc::clone(&slot.plane))
            .collect()
    }

    /// Every cluster that is, or should be, connected, and why it cannot be used if so.
    pub fn states(&self) -> Vec<(PlaneId, Option<String>)> {
        let mut states: BTreeMap<PlaneId, Option<String>> = BTreeMap::new();
        for (id, slot) in self.slots.lock().iter() {
            states.insert(id.clone(), slot.plane.outage());
        }
        for (id, why) in self.refused.lock().iter() {
            states.entry(id.clone()).or_insert_with(|| Some(why.clone()));
        }
        states.into_iter().collect()
    }

    /// Lets go of every cluster of a DataPlane, connected or not.
    pub fn close_all(&self, namespace: &str, data_plane: &str) {
        let other =
            |id: &PlaneId| id.role != Role::Data || id.namespace != namespace || id.name != data_plane;
        self.slots.lock().retain(|id, _| other(id));
        self.refused.lock().retain(|id, _| other(id));
        self.opening.lock().retain(|id, _| other(id));
    }

    /// Lets go of a cluster: its watches end, its client is dropped with the last user.
    pub fn close(&self, id: &PlaneId) {
        self.slots.lock().remove(id);
        self.refused.lock().remove(id);
        self.opening.lock().remove(id);
    }
}
