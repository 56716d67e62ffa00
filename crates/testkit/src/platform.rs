//! The platform in process.

use std::path::PathBuf;
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::Context as _;
use choreo_admission::Rules;
use choreo_apiserver::{ApiServer, UserInfo};
use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::{ClusterConnector, Controllers, Embedded, RunOptions, install};
use choreo_store::Store;
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::fault::Faults;
use crate::gateway::Gateway;

/// What is different from the usual platform.
#[derive(Clone, Default)]
pub struct Options {
    /// Where the store is; in memory if not given.
    pub folder: Option<PathBuf>,
    /// More logical clusters than `control` and `local`. They have the data plane's definitions.
    pub clusters: Vec<String>,
    /// Without the simulated node: nothing ever becomes healthy in the data plane.
    pub without_node: bool,
    /// Without the organization `default` and all that is in it.
    pub without_defaults: bool,
    /// For how long the clean-up of an unreachable data plane is tried.
    pub abandon_after: Option<Duration>,
    /// With the rules between objects as admission, as in `choreo up`.
    pub with_rules: bool,
}

/// A running platform.
pub struct Platform {
    /// The control plane.
    pub control: Cluster,
    /// The data plane.
    pub local: Cluster,
    /// Makes the controllers' requests to data planes fail.
    pub faults: Faults,
    /// The controllers' counters, over all their restarts.
    pub metrics: Metrics,
    server: ApiServer,
    store: Store,
    options: Options,
    /// Ends everything but the controllers.
    shutdown: CancellationToken,
    controllers: Option<(Controllers, CancellationToken)>,
}

impl Platform {
    /// The usual platform, in memory.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(Options::default()).await
    }

    /// A platform with options.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_with(options: Options) -> anyhow::Result<Self> {
        start_logging();
        let store = match &options.folder {
            Some(folder) => Store::open(folder).context("open the store")?,
            None => Store::in_memory(),
        };
        let mut clusters = vec!["control".to_owned(), "local".to_owned()];
        clusters.extend(options.clusters.iter().cloned());
        let mut server_options = choreo_apiserver::Options {
            clusters: clusters.clone(),
            ..choreo_apiserver::Options::default()
        };
        if options.with_rules {
            server_options
                .admission
                .push(Arc::new(Rules::in_cluster("control")));
        }
        let server = ApiServer::new(store.clone(), server_options).context("start the API server")?;
        let shutdown = CancellationToken::new();
        server.start_controllers(&shutdown);
        let client = |name: &str| server.cluster_client(name, &UserInfo::admin());
        install::definitions(&client("control"), &install::control_plane()).await?;
        for name in clusters.iter().skip(1) {
            install::definitions(&client(name), &install::data_plane()).await?;
            let gateway = Gateway::bind().context("bind the gateway's ports")?;
            install::data_plane_defaults(&client(name), &gateway.ports).await?;
            if !options.without_node {
                let node = choreo_node::Options::default();
                tokio::spawn(choreo_node::run(client(name), node, shutdown.clone()));
                gateway.start(client(name), &shutdown)?;
            }
        }
        let mut platform = Self {
            control: Cluster::new("control", client("control")),
            local: Cluster::new("local", client("local")),
            faults: Faults::default(),
            metrics: Metrics::default(),
            server,
            store,
            options,
            shutdown,
            controllers: None,
        };
        if !platform.options.without_defaults {
            install::defaults(&platform.control.client).await?;
        }
        platform.start_controllers().await;
        Ok(platform)
    }

    /// Another logical cluster.
    pub fn cluster(&self, name: &str) -> Cluster {
        Cluster::new(name, self.server.cluster_client(name, &UserInfo::admin()))
    }

    /// The control plane as somebody sees it.
    pub fn control_as(&self, user: &UserInfo) -> Cluster {
        Cluster::new("control", self.server.cluster_client("control", user))
    }

    /// Stops the controllers, in the middle of whatever they do. Everything else goes on.
    pub async fn stop_controllers(&mut self) {
        if let Some((controllers, shutdown)) = self.controllers.take() {
            shutdown.cancel();
            controllers.stopped().await;
        }
    }

    /// Starts the controllers again, with empty caches.
    pub async fn start_controllers(&mut self) {
        let shutdown = CancellationToken::new();
        let user = UserInfo::system("choreo-controllers");
        let client = self.server.cluster_client("control", &user);
        let mut options = RunOptions::new(client, self.connector(), shutdown.clone());
        options.metrics = self.metrics.clone();
        if let Some(patience) = self.options.abandon_after {
            options.abandon_after = patience;
        }
        let controllers = choreo_controllers::start(options);
        controllers.ready().await;
        self.controllers = Some((controllers, shutdown));
    }

    /// The running controllers.
    pub fn controllers(&self) -> Option<&Controllers> {
        self.controllers.as_ref().map(|(controllers, _)| controllers)
    }

    fn connector(&self) -> Arc<dyn ClusterConnector> {
        let (server, faults) = (self.server.clone(), self.faults.clone());
        Arc::new(Embedded::new(move |name| {
            server.cluster(name)?;
            let user = UserInfo::system("choreo-controllers");
            Some(faults.client(server.cluster_client(name, &user)))
        }))
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.stop_controllers().await;
        self.shutdown.cancel();
        self.server.drain();
        self.store.close();
    }
}

pub(crate) fn start_logging() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let filter = tracing_subscriber::EnvFilter::try_from_env("CHOREO_TEST_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
        let _ = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_test_writer()
            .try_init();
    });
}
