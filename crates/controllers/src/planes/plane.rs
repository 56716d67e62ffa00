//! One connected cluster: a client, what kinds it has, and a cache of what we applied there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::core::{ApiResource, GroupVersionKind, PartialObjectMeta};
use kube::discovery::{Discovery, Scope};
use kube::runtime::watcher;
use kube::{Api, Client};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::MANAGED_BY;
use super::connect::ConnectError;
use super::registry::PlaneId;
use crate::runtime::feed::{FeedState, Subject, describe, follow};
use crate::runtime::metrics::Metrics;
use crate::runtime::{Backoff, Cache, Change, GroupKind, Snapshot};
use crate::write::{Applier, Failure};

/// Longest wait for an answer that only tests whether the cluster is there.
const PROBE_TIMEOUT: Duration = Duration::from_millis(2500);
/// Definitions come many at a time; the kinds are asked for once they have been quiet for so long.
const SETTLE: Duration = Duration::from_millis(250);
/// How an interrupted watch is tried again: a cluster that comes back is seen within seconds.
const WATCH_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(3),
    jitter: 0.3,
};

/// Kinds of which metadata tell all that is asked: whether the object is there, whose it is, and whether anybody has changed what we
/// applied. None of them has health of its own. The content of Secrets, above all, stays where it is.
const OUTLINED: [(&str, &str); 8] = [
    ("", "ConfigMap"),
    ("", "LimitRange"),
    ("", "ResourceQuota"),
    ("", "Secret"),
    ("", "ServiceAccount"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
];

/// Whether metadata of a kind are enough for us.
pub fn is_outlined(kind: &GroupKind) -> bool {
    OUTLINED.contains(&(kind.group.as_str(), kind.kind.as_str()))
}

/// A kind that a cluster has.
#[derive(Clone, Debug)]
pub struct Served {
    /// How to address it.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
}

/// The kinds that a cluster has, by group, version and kind.
pub type Catalog = BTreeMap<(String, String, String), Served>;

/// What a cluster can do, as far as it can be told from its kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detected {
    /// Cilium's network policies.
    pub cilium: bool,
    /// Kubernetes' network policies (the kind; whether a network plugin enforces them cannot be asked).
    pub network_policy: bool,
    /// External Secrets Operator.
    pub external_secrets: bool,
}

/// What is told to the outside about a plane.
pub trait PlaneListener: Send + Sync + 'static {
    /// An object that we applied, or a pod of one, has changed there.
    fn changed(&self, plane: &PlaneId, change: &Change);
    /// Something happened that makes it worth asking whether the cluster is there.
    fn look_again(&self, plane: &PlaneId);
    /// The cluster can, or cannot, be used from now on, or other kinds can be used there.
    fn usable_changed(&self, plane: &PlaneId);
}

/// A watch of one kind.
struct Feed {
    state: watch::Receiver<FeedState>,
    only_metadata: bool,
    stop: CancellationToken,
}

/// One connected cluster.
pub struct Plane {
    id: PlaneId,
    server: String,
    version: Mutex<String>,
    uid: Option<String>,
    applier: Applier<()>,
    catalog: Mutex<Arc<Catalog>>,
    feeds: Mutex<BTreeMap<GroupKind, Feed>>,
    outage: watch::Sender<Option<String>>,
    listener: Arc<dyn PlaneListener>,
    shutdown: CancellationToken,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Plane {
    /// Speaks to a cluster for the first time: asks for its version and its kinds.
    ///
    /// # Errors
    /// When it does not answer, with what came instead.
    pub async fn open(
        id: PlaneId,
        server: String,
        client: Client,
        metrics: Metrics,
        listener: Arc<dyn PlaneListener>,
        shutdown: CancellationToken,
    ) -> Result<Arc<Self>, ConnectError> {
        let version = probe(&client).await?;
        let catalog = discover(&client).await?;
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let uid = match tokio::time::timeout(PROBE_TIMEOUT, namespaces.get_opt("kube-system")).await {
            Ok(Ok(namespace)) => namespace.and_then(|namespace| namespace.metadata.uid),
            // Not being allowed to look at it is no reason not to work with the cluster.
            _ => None,
        };
        let cache = {
            let (id, listener) = (id.clone(), Arc::clone(&listener));
            Cache::new(move |_: &Snapshot<()>, _: &Snapshot<()>, change: &Change| {
                listener.changed(&id, change)
            })
        };
        let plane = Arc::new(Self {
            id,
            server,
            version: Mutex::new(version),
            uid,
            applier: Applier::new(client, Arc::new(cache), "data", metrics),
            catalog: Mutex::new(Arc::new(catalog)),
            feeds: Mutex::new(BTreeMap::new()),
            outage: watch::channel(None).0,
            listener,
            shutdown,
        });
        plane.follow_definitions();
        Ok(plane)
    }

    /// Which cluster of which data plane it is.
    pub fn id(&self) -> &PlaneId {
        &self.id
    }

    /// The server's address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its Kubernetes version.
    pub fn version(&self) -> String {
        self.version.lock().clone()
    }

    /// Its identity: the UID of its namespace `kube-system`.
    pub fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }

    /// Writes to it.
    pub fn applier(&self) -> &Applier<()> {
        &self.applier
    }

    /// What we applied there, as far as it is watched.
    pub fn snapshot(&self) -> Snapshot<()> {
        self.applier.cache().snapshot()
    }

    /// Why it cannot be used at the moment, if so.
    pub fn outage(&self) -> Option<String> {
        self.outage.borrow().clone()
    }

    /// Waits until it cannot be used, and says why. What waits for its answers need not wait any longer then.
    pub async fn until_outage(&self) -> String {
        let mut outage = self.outage.subscribe();
        let why = outage
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|outage| outage.clone());
        match why {
            Some(why) => why,
            // It is held by `self`, so that it cannot have gone.
            None => std::future::pending().await,
        }
    }

    /// Notes that a request failed. If that looks like the cluster's fault, it is asked whether it is there; one
    /// failed request is no proof.
    pub fn failed(&self, failure: &Failure) {
        if failure.is_outage() {
            self.listener.look_again(&self.id);
        }
    }

    /// Notes that it cannot be used, for a reason outside of it.
    pub fn unusable(&self, why: &str) {
        self.set_outage(Some(why.to_owned()));
    }

    fn set_outage(&self, outage: Option<String>) {
        let is_out = outage.is_some();
        let before = self.outage.send_replace(outage);
        let changed = before.is_some() != is_out;
        if changed {
            self.listener.usable_changed(&self.id);
        }
    }

    /// Asks whether the cluster is there, and remembers the answer.
    ///
    /// # Errors
    /// With what came instead of an answer.
    pub async fn probe(&self) -> Result<(), ConnectError> {
        match probe(self.applier.client()).await {
            Ok(version) => {
                *self.version.lock() = version;
                self.set_outage(None);
                Ok(())
            }
            Err(error) => {
                self.set_outage(Some(error.to_string()));
                Err(error)
            }
        }
    }

    /// How the cluster serves a kind. Looks again if it is not known: its definition may have been installed just now.
    pub async fn served(&self, gvk: &GroupVersionKind) -> Option<Served> {
        let key = (gvk.group.clone(), gvk.version.clone(), gvk.kind.clone());
        let known = self.catalog.lock().get(&key).cloned();
        if known.is_some() {
            return known;
        }
        tokio::select! {
            _ = self.rediscover() => {}
            _ = self.until_outage() => {}
        }
        self.catalog.lock().get(&key).cloned()
    }

    /// How the cluster serves a kind, as far as it is known, in whatever version.
    pub fn served_kind(&self, kind: &GroupKind) -> Option<Served> {
        let catalog = Arc::clone(&self.catalog.lock());
        catalog
            .iter()
            .find(|((group, _, name), _)| *group == kind.group && *name == kind.kind)
            .map(|(_, served)| served.clone())
    }

    /// What the cluster can do.
    pub fn detected(&self) -> Detected {
        let has = |group: &str, kind: &str| self.served_kind(&GroupKind::new(group, kind)).is_some();
        Detected {
            cilium: has("cilium.io", "CiliumNetworkPolicy"),
            network_policy: has("networking.k8s.io", "NetworkPolicy"),
            external_secrets: has("external-secrets.io", "ExternalSecret"),
        }
    }

    /// Asks for the kinds. True if there are others than before.
    async fn rediscover(&self) -> bool {
        match discover(self.applier.client()).await {
            Ok(catalog) => {
                let new = Arc::new(catalog);
                let changed = {
                    let mut slot = self.catalog.lock();
                    let changed = !slot.keys().eq(new.keys());
                    *slot = new;
                    changed
                };
                if changed {
                    self.listener.usable_changed(&self.id);
                }
                changed
            }
            Err(error) => {
                tracing::debug!(plane = %self.id, %error, "kinds not read");
                false
            }
        }
    }

    /// Sees to it that our objects of a kind are in the cache, and waits for the first list. `whole` asks for more than metadata
    /// of a kind whose metadata are usually enough ([`is_outlined`]).
    ///
    /// # Errors
    /// With the reason why they cannot be listed.
    pub async fn watch(&self, served: &Served, whole: bool) -> Result<(), Failure> {
        let mut state = self.feed(served, whole);
        let unreachable = |message: String| {
            Failure::Unreachable(format!("cannot watch {}: {message}", served.resource.plural))
        };
        let settled = state.wait_for(|state| *state != FeedState::Starting).await;
        match settled.map(|state| state.clone()) {
            Ok(FeedState::Failing(message)) => Err(unreachable(message)),
            Ok(_) => Ok(()),
            Err(_) => Err(unreachable("the client was closed".to_owned())),
        }
    }

    fn feed(&self, served: &Served, whole: bool) -> watch::Receiver<FeedState> {
        let labels = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
        let subject = Subject {
            resource: served.resource.clone(),
            labels,
        };
        let kind = subject.kind();
        let mut feeds = self.feeds.lock();
        let known = feeds.get(&kind);
        if let Some(feed) = known.filter(|feed| !(whole && feed.only_metadata)) {
            return feed.state.clone();
        }
        if let Some(feed) = known {
            feed.stop.cancel();
        }
        let only_metadata = !whole && is_outlined(&kind);
        let (sender, state) = watch::channel(FeedState::Starting);
        let stop = self.shutdown.child_token();
        let feed = Feed {
            state: state.clone(),
            only_metadata,
            stop: stop.clone(),
        };
        feeds.insert(kind.clone(), feed);
        let (client, cache) = (self.applier.client().clone(), Arc::clone(self.applier.cache()));
        cache.outline(&kind, only_metadata);
        if only_metadata {
            let events = subject.outlines(client);
            tokio::spawn(follow(subject, events, cache, sender, WATCH_BACKOFF, stop));
        } else {
            let events = subject.stream(client);
            tokio::spawn(follow(subject, events, cache, sender, WATCH_BACKOFF, stop));
        }
        let (mut seen, id, listener) = (state.clone(), self.id.clone(), Arc::clone(&self.listener));
        tokio::spawn(async move {
            // A watch that breaks is the first sign of an outage; one that comes back lets releases go on.
            let mut failed = false;
            while seen.changed().await.is_ok() {
                let now = seen.borrow_and_update().clone();
                match now {
                    FeedState::Failing(_) | FeedState::Interrupted(_) => listener.look_again(&id),
                    FeedState::Following if failed => listener.usable_changed(&id),
                    FeedState::Following | FeedState::Starting => {}
                }
                failed = matches!(now, FeedState::Failing(_));
            }
        });
        state
    }

    /// Follows the cluster's own definitions of kinds, since features come and go with them.
    fn follow_definitions(self: &Arc<Self>) {
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(self.applier.client().clone());
        let (plane, shutdown) = (Arc::downgrade(self), self.shutdown.clone());
        tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            let mut failures = 0;
            loop {
                let event = tokio::select! {
                    () = shutdown.cancelled() => return,
                    event = events.next() => event,
                };
                match event {
                    None => return,
                    Some(Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {
                        failures = 0;
                        while let Ok(Some(_)) = tokio::time::timeout(SETTLE, events.next()).await {}
                        let Some(plane) = plane.upgrade() else { return };
                        if !plane.rediscover().await {
                            // A definition is there a moment before its kind is served.
                            tokio::time::sleep(4 * SETTLE).await;
                            plane.rediscover().await;
                        }
                    }
                    Some(Ok(_)) => failures = 0,
                    Some(Err(_)) => {
                        // The one watch that every plane has: that it breaks is the first sign of an outage.
                        if let Some(plane) = plane.upgrade() {
                            plane.listener.look_again(&plane.id);
                        }
                        failures += 1;
                        tokio::time::sleep(WATCH_BACKOFF.delay(failures)).await;
                    }
                }
            }
        });
    }
}

async fn probe(client: &Client) -> Result<String, ConnectError> {
    match tokio::time::timeout(PROBE_TIMEOUT, client.apiserver_version()).await {
        Ok(Ok(info)) => Ok(info.git_version),
        Ok(Err(error)) => Err(ConnectError::Unreachable(describe(&error))),
        Err(_) => Err(ConnectError::Unreachable(format!(
            "no answer within {} s",
            PROBE_TIMEOUT.as_secs_f32()
        ))),
    }
}

async fn discover(client: &Client) -> Result<Catalog, ConnectError> {
    let discover = async {
        match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => Ok(discovery),
            // Servers before 1.26 do not have it.
            Err(_) => Discovery::new(client.clone()).run().await,
        }
    };
    let discovery = discover
        .await
        .map_err(|error| ConnectError::Unreachable(describe(&error)))?;
    let mut catalog = Catalog::new();
    for group in discovery.groups() {
        for version in group.versions() {
            for (resource, capabilities) in group.versioned_resources(version) {
                let key = (
                    resource.group.clone(),
                    resource.version.clone(),
                    resource.kind.clone(),
                );
                let namespaced = capabilities.scope == Scope::Namespaced;
                catalog.insert(key, Served { resource, namespaced });
            }
        }
    }
    Ok(catalog)
}
