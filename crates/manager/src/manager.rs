//! The life of a manager: stand by, lead, hand over.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use choreo_controllers::install::upgrade::{Upgrade, upgrade};
use choreo_controllers::install::{self, InstallError};
use choreo_controllers::runtime::Clock;
use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::runtime::transport;
use choreo_controllers::{Controllers, HttpConnector, Observer, RunOptions, Shard, defaults};
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ListParams, PostParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Config, ResourceExt};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::exposition::{self, Facts};
use crate::lease::{Election, Held, Load, Timings};
use crate::probes::{self, Health};
use crate::webhook::{self, Webhook};

/// Longest wait for an answer when a connection is made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon what failed at the start is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// What a manager needs.
pub struct Options {
    /// The control plane's cluster.
    pub config: Config,
    /// A name that no other manager has.
    pub identity: String,
    /// Where the lease is.
    pub namespace: String,
    /// Name of the lease.
    pub lease: String,
    /// How long things about the lease take.
    pub timings: Timings,
    /// Where probes and metrics are answered; nowhere if not given.
    pub probes: Option<SocketAddr>,
    /// The admission webhook; none if not given.
    pub webhook: Option<webhook::Options>,
    /// Whether to install and upgrade the definitions.
    pub install: bool,
    /// Whether to make the organization `default` and its classes, once.
    pub defaults: bool,
    /// Whether to install definitions even if that loses fields of newer ones.
    pub force_downgrade: bool,
    /// The version that definitions are installed as.
    pub version: String,
    /// How long the controllers may take to finish what they are at.
    pub stop_timeout: Duration,
    /// For how long the clean-up of an unreachable data plane is tried.
    pub abandon_after: Duration,
    /// Into how many parts the organizations are divided, each of which one replica acts for.
    pub shards: u32,
    /// The time of day, for what is waited for long.
    pub clock: Clock,
}

impl Options {
    /// The usual settings.
    pub fn new(config: Config, identity: impl Into<String>) -> Self {
        Self {
            config,
            identity: identity.into(),
            namespace: choreo_api::labels::PLATFORM_NAMESPACE.to_owned(),
            lease: "choreo-manager".to_owned(),
            timings: Timings::default(),
            probes: None,
            webhook: None,
            install: true,
            defaults: true,
            force_downgrade: false,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            stop_timeout: Duration::from_secs(10),
            abandon_after: Duration::from_secs(3600),
            shards: 1,
            clock: Clock::default(),
        }
    }
}

/// Why a manager could not go on.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// The configuration of the client cannot be used.
    #[error("the credentials of the cluster cannot be used: {0}")]
    Client(#[source] kube::Error),
    /// An address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The definitions cannot be installed.
    #[error(transparent)]
    Install(InstallError),
}

/// What others may know of a running manager.
struct State {
    metrics: Metrics,
    shards: Vec<ShardState>,
    webhook: OnceLock<Arc<Webhook>>,
}

/// What others may know of its work for one shard.
struct ShardState {
    shard: Shard,
    leader: AtomicBool,
    metrics: Metrics,
    observer: Mutex<Option<Observer>>,
}

impl State {
    fn new(shards: u32) -> Self {
        let metrics = Metrics::default();
        let shards = (0..shards.max(1)).filter_map(|index| {
            Some(ShardState {
                shard: Shard::new(index, shards.max(1))?,
                leader: AtomicBool::new(false),
                metrics: metrics.sibling(),
                observer: Mutex::default(),
            })
        });
        Self {
            shards: shards.collect(),
            metrics,
            webhook: OnceLock::new(),
        }
    }

    /// The controllers that know an organization.
    fn observer_of(&self, namespace: &str) -> Option<Observer> {
        let known = self.shards.iter().find(|state| state.shard.has(namespace))?;
        known.observer.lock().clone()
    }

    /// The controllers of every shard; `None` while some are missing.
    fn observers(&self) -> Option<Vec<Observer>> {
        self.shards
            .iter()
            .map(|state| state.observer.lock().clone())
            .collect()
    }
}

impl Health for State {
    fn ill(&self) -> Option<String> {
        // Losing the lease or the API server is not cured by starting again; a process that hangs does not answer at all.
        None
    }

    fn unready(&self) -> Option<String> {
        match self.observers() {
            None => Some("the kinds are not installed yet: a leader installs them".to_owned()),
            Some(observers) if !observers.iter().all(Observer::is_listed) => {
                Some("the control plane has not been read yet: not every kind has been listed".to_owned())
            }
            Some(_) if self.webhook.get().is_some_and(|webhook| !webhook.is_ready()) => {
                Some("the admission webhook has no certificate yet: a leader makes it".to_owned())
            }
            Some(_) => None,
        }
    }

    fn metrics(&self) -> String {
        let observers = self.observers();
        let known = || observers.iter().flatten();
        let shards: Vec<bool> = self
            .shards
            .iter()
            .map(|state| state.leader.load(Ordering::Acquire))
            .collect();
        let facts = Facts {
            leader: shards.contains(&true),
            shards,
            listed: observers
                .as_ref()
                .is_some_and(|all| all.iter().all(Observer::is_listed)),
            objects: known().map(|observer| observer.snapshot().iter().count()).sum(),
            planes: known().flat_map(Observer::planes).collect(),
        };
        let figures = Metrics::sum(self.shards.iter().map(|state| &state.metrics));
        exposition::render(&self.metrics, &figures, &facts)
    }
}

/// A manager that has its clients and its port, and does not act yet.
pub struct Manager {
    options: Options,
    client: Client,
    elections: Vec<Election>,
    listener: Option<TcpListener>,
    state: Arc<State>,
}

impl Manager {
    /// Prepares everything that can fail because of a mistake.
    ///
    /// # Errors
    /// See [`ManagerError`].
    pub async fn new(options: Options) -> Result<Self, ManagerError> {
        let state = Arc::new(State::new(options.shards));
        let mut config = options.config.clone();
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Watches are quiet for long.
        config.read_timeout = None;
        let client = transport::client(config, &state.metrics, "control").map_err(ManagerError::Client)?;
        let listener = match options.probes {
            None => None,
            Some(address) => {
                let failed = |source| ManagerError::Listen { address, source };
                Some(probes::listen(address).await.map_err(failed)?)
            }
        };
        if let Some(wanted) = options.webhook.clone() {
            let address = wanted.listen;
            let failed = |source| ManagerError::Listen { address, source };
            let webhook = Webhook::new(wanted, client.clone(), &options.namespace, options.clock.clone())
                .await
                .map_err(failed)?;
            let _ = state.webhook.set(Arc::new(webhook));
        }
        let load = Arc::new(Load::default());
        let election = |state: &ShardState| {
            // The first one's name is that of a manager which does not share.
            let name = match state.shard.index() {
                0 => options.lease.clone(),
                index => format!("{}-{index}", options.lease),
            };
            let (namespace, identity) = (&options.namespace, &options.identity);
            Election::new(client.clone(), namespace, &name, identity, options.timings)
                .with_load(Arc::clone(&load))
        };
        let elections = state.shards.iter().map(election).collect();
        Ok(Self {
            options,
            client,
            elections,
            listener,
            state,
        })
    }

    /// Where probes and metrics are answered.
    pub fn probes(&self) -> Option<SocketAddr> {
        self.listener
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
    }

    /// Where the webhook answers.
    pub fn webhook(&self) -> Option<SocketAddr> {
        self.state.webhook.get().and_then(|webhook| webhook.address())
    }

    /// Its counters.
    pub fn metrics(&self) -> Metrics {
        self.state.metrics.clone()
    }

    /// Runs until `stop`, and hands over.
    ///
    /// # Errors
    /// When it makes no sense to go on: see [`ManagerError`].
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), ManagerError> {
        let end_of_probes = CancellationToken::new();
        let served = self.listener.take().map(|listener| {
            let (health, end) = (Arc::clone(&self.state) as Arc<dyn Health>, end_of_probes.clone());
            tokio::spawn(probes::serve(listener, health, end.cancelled_owned()))
        });
        let webhook = self.state.webhook.get().cloned().map(|webhook| {
            let (state, end) = (Arc::clone(&self.state), end_of_probes.clone());
            let world: webhook::World = Arc::new(move |namespace: &str| state.observer_of(namespace));
            tokio::spawn(async move { webhook.serve(world, end).await })
        });
        let result = self.shards(&stop).boxed().await;
        end_of_probes.cancel();
        if let Some(webhook) = webhook {
            let _ = webhook.await;
        }
        if let Some(served) = served {
            // A scraper that keeps its connection open must not hold the end up.
            let _ = tokio::time::timeout(Duration::from_secs(1), served).await;
        }
        result
    }

    /// All shards next to each other. One that cannot go on stops the others.
    async fn shards(&self, stop: &CancellationToken) -> Result<(), ManagerError> {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = self.prepare_namespace() => {}
        }
        let stop = stop.child_token();
        let all = self.state.shards.iter().zip(&self.elections);
        let all = all.map(|(shard, election)| {
            let stop = &stop;
            async move {
                let result = self.terms(shard, election, stop).await;
                if result.is_err() {
                    stop.cancel();
                }
                result
            }
        });
        join_all(all).await.into_iter().collect()
    }

    /// One term of leading after the other.
    async fn terms(
        &self,
        shard: &ShardState,
        election: &Election,
        stop: &CancellationToken,
    ) -> Result<(), ManagerError> {
        loop {
            let term = Term::default();
            let ended = self.term(shard, election, &term, stop).await;
            shard.leader.store(false, Ordering::Release);
            shard.observer.lock().take();
            match ended? {
                Ended::Stopped => return Ok(()),
                // What it had in its caches is as good as gone: it may have missed anything.
                Ended::Lost => {}
            }
        }
    }

    async fn term(
        &self,
        shard: &ShardState,
        election: &Election,
        term: &Term,
        stop: &CancellationToken,
    ) -> Result<Ended, ManagerError> {
        // A standby fills its caches as soon as there are kinds to list; on an empty cluster the leader makes them first.
        let mut standby = None;
        let acquire = election.acquire();
        tokio::pin!(acquire);
        let held = loop {
            tokio::select! {
                () = stop.cancelled() => {
                    if let Some(controllers) = standby {
                        self.stop_controllers(term, controllers).await;
                    }
                    return Ok(Ended::Stopped);
                }
                held = &mut acquire => break held,
                () = definitions_served(&self.client), if standby.is_none() => standby = Some(self.start(shard, term)),
            }
        };
        let led = self.lead(shard, term, standby, &held, stop).await;
        match led {
            Ok(Ended::Stopped) | Err(_) => held.release().await,
            Ok(Ended::Lost) => {}
        }
        led
    }

    async fn lead(
        &self,
        shard: &ShardState,
        term: &Term,
        standby: Option<Controllers>,
        held: &Held,
        stop: &CancellationToken,
    ) -> Result<Ended, ManagerError> {
        let work = async {
            if shard.shard.is_first() {
                self.install().await
            } else {
                // Whoever acts for the first shard installs them.
                definitions_served(&self.client).await;
                Ok(())
            }
        };
        let interrupted = tokio::select! {
            () = stop.cancelled() => Some(Ended::Stopped),
            () = held.lost().cancelled() => Some(Ended::Lost),
            installed = work => match installed {
                Ok(()) => None,
                Err(error) => {
                    if let Some(controllers) = standby {
                        self.stop_controllers(term, controllers).await;
                    }
                    return Err(error);
                }
            },
        };
        let controllers = standby.unwrap_or_else(|| self.start(shard, term));
        let ended = match interrupted {
            Some(ended) => ended,
            None => {
                shard.leader.store(true, Ordering::Release);
                term.lead.send_replace(true);
                let webhook = async {
                    match self.state.webhook.get() {
                        Some(webhook) if shard.shard.is_first() => webhook.keep().await,
                        _ => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = stop.cancelled() => Ended::Stopped,
                    () = held.lost().cancelled() => Ended::Lost,
                    () = webhook => Ended::Stopped,
                }
            }
        };
        self.stop_controllers(term, controllers).await;
        Ok(ended)
    }

    fn start(&self, shard: &ShardState, term: &Term) -> Controllers {
        let connector = HttpConnector {
            metrics: self.state.metrics.clone(),
        };
        let mut options = RunOptions::new(self.client.clone(), Arc::new(connector), term.shutdown.clone());
        options.metrics = shard.metrics.clone();
        options.shard = shard.shard;
        options.clock = self.options.clock.clone();
        options.abandon_after = self.options.abandon_after;
        options.lead = term.lead.subscribe();
        let controllers = choreo_controllers::start(options);
        *shard.observer.lock() = Some(controllers.observer());
        controllers
    }

    /// Lets the controllers finish what they are at, and cuts them off when that takes too long: the lease must not run out
    /// under them.
    async fn stop_controllers(&self, term: &Term, controllers: Controllers) {
        term.shutdown.cancel();
        let left = self
            .options
            .timings
            .lease
            .saturating_sub(self.options.timings.give_up);
        let patience = self.options.stop_timeout.min(left.mul_f64(0.8));
        if tokio::time::timeout(patience, controllers.stopped())
            .await
            .is_err()
        {
            tracing::warn!("controllers still at work after {patience:?} were cut off");
        }
    }

    /// The lease needs a namespace. A cluster that does not answer yet is waited for.
    async fn prepare_namespace(&self) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let name = &self.options.namespace;
        loop {
            let attempt = async {
                if api.get_metadata_opt(name).await?.is_some() {
                    return Ok(());
                }
                let mut namespace = Namespace::default();
                namespace.metadata.name = Some(name.clone());
                match api.create(&PostParams::default(), &namespace).await {
                    Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                    other => other.map(drop),
                }
            };
            let result: kube::Result<()> = attempt.await;
            match result {
                Ok(()) => return,
                // An operator may be allowed its own namespace only, which then has to be there.
                Err(kube::Error::Api(status)) if status.code == 403 => return,
                Err(error) => {
                    let error = choreo_controllers::runtime::feed::describe(&error);
                    tracing::warn!(%error, "the cluster does not answer yet");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn install(&self) -> Result<(), ManagerError> {
        if self.options.install {
            let definitions = install::control_plane();
            let done = loop {
                let attempt = upgrade(
                    &self.client,
                    &definitions,
                    &self.options.version,
                    self.options.force_downgrade,
                );
                match attempt.await {
                    Ok(done) => break done,
                    Err(error @ InstallError::Downgrade { .. }) => return Err(ManagerError::Install(error)),
                    Err(error) => {
                        tracing::error!(%error, "the definitions cannot be installed yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            let Upgrade { newer, migrated } = done;
            if !newer.is_empty() {
                tracing::warn!(
                    definitions = newer.join(", "),
                    "left as a newer version installed them"
                );
            }
            for (definition, objects) in migrated {
                tracing::info!(definition, objects, "objects rewritten in the stored version");
            }
            tracing::info!(
                definitions = definitions.len(),
                version = self.options.version,
                "definitions installed"
            );
        }
        if self.options.defaults {
            loop {
                match install::defaults_once(&self.client, &defaults::defaults_without_planes()).await {
                    Ok(0) => break,
                    Ok(made) => {
                        tracing::info!(made, "defaults made in organization default");
                        break;
                    }
                    Err(error) => {
                        tracing::error!(%error, "the defaults cannot be made yet");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What belongs to the time between standing for election and its end.
struct Term {
    lead: watch::Sender<bool>,
    shutdown: CancellationToken,
}

impl Default for Term {
    fn default() -> Self {
        Self {
            lead: watch::channel(false).0,
            shutdown: CancellationToken::new(),
        }
    }
}

enum Ended {
    Stopped,
    Lost,
}

/// Waits until the cluster has a definition of every kind that we watch.
async fn definitions_served(client: &Client) {
    let mut missing: std::collections::BTreeSet<String> = install::control_plane()
        .into_iter()
        .map(|definition| definition.name)
        .collect();
    let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(client.clone());
    if let Ok(list) = api.list(&ListParams::default()).await {
        for definition in list.items {
            missing.remove(&definition.name_any());
        }
    }
    if missing.is_empty() {
        return;
    }
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
    while !missing.is_empty() {
        match events.next().await {
            Some(Ok(Event::InitApply(definition) | Event::Apply(definition))) => {
                missing.remove(&definition.name_any());
            }
            Some(Ok(Event::Delete(definition))) => {
                missing.insert(definition.name_any());
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => tokio::time::sleep(RETRY).await,
        }
    }
}
