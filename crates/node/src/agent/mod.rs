//! The node agent: it runs Pods as containers of Docker or Podman.
//!
//! ```text
//!  Pod ─▶ sandbox (choreo pause) ─▶ init containers ─▶ containers     one worker a Pod, driven by its watch and the engine's events
//!          │ network
//!          ▼
//!         cell: a network with no way out ─ relay (choreo relay) ─▶ agent ─▶ other cells, the gateway, the world: what policies allow
//! ```

mod access;
mod cell;
mod diagnose;
mod egress;
mod engine;
mod facts;
mod labels;
pub(crate) mod node;
mod pod;
mod quantity;
mod registry;
mod relay_image;
mod run;
mod services;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use ipnet::Ipv4Net;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use diagnose::{Finding, diagnose, diagnose_engine, install_hint};
pub use egress::GatewayAddresses;
pub use engine::EngineError;
pub use facts::{ImageFacts, image_facts};
pub(crate) use run::{perform_cell, perform_claim, perform_contents, perform_pod};

use crate::core::{Context, Name, Task};
use cell::Cells;
use choreo_pod_access::Connection;
use engine::{ContainerEngine, ContainerSpec, EngineInfo};

/// The addresses that cells get their networks from, a /24 each.
pub const DEFAULT_POOL: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(10, 210, 0, 0), 16);

/// How an [`Agent`] works.
#[derive(Clone, Debug)]
pub struct AgentOptions {
    /// Where it keeps what outlives it. Nobody else may read it.
    pub data_dir: PathBuf,
    /// The engine's socket, `unix:///path` or a path; if not given, `CONTAINER_HOST`, `DOCKER_HOST` and the usual places.
    pub engine: Option<String>,
    /// The program that relays and sandboxes run: this one, which must call [`crate::command`] first thing in its `main`.
    pub executable: PathBuf,
    /// The addresses of cells.
    pub pool: Ipv4Net,
    /// Host names outside of the cluster that are somewhere else than DNS says. These may be on this machine.
    pub hosts: BTreeMap<String, IpAddr>,
}

impl AgentOptions {
    /// Options with a folder, and defaults otherwise.
    ///
    /// # Errors
    /// When this program cannot be found.
    pub fn new(data_dir: PathBuf) -> io::Result<Self> {
        Ok(Self {
            data_dir,
            engine: None,
            executable: std::env::current_exe()?,
            pool: DEFAULT_POOL,
            hosts: BTreeMap::new(),
        })
    }
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No engine answers.
    #[error("no container engine answers ({})", .tried.join("; "))]
    NoEngine {
        /// What was tried, and what came of it.
        tried: Vec<String>,
    },
    /// The engine answers, and says something unexpected.
    #[error("the container engine cannot be used: {0}")]
    Engine(#[from] EngineError),
    /// The folder cannot be used.
    #[error("cannot use {path}: {source}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs the Pods of a node. Cheap to clone; all clones are the same agent.
///
/// It works while [`crate::run`] runs with it among its options; before and after, what it is asked for is [`AccessError::Unavailable`](choreo_pod_access::AccessError::Unavailable).
#[derive(Clone)]
pub struct Agent {
    shared: Arc<Shared>,
}

struct Shared {
    options: AgentOptions,
    engine: Arc<dyn ContainerEngine>,
    info: EngineInfo,
    socket: String,
    instance: String,
    runtime: ArcSwapOption<Runtime>,
    gateway: Arc<ArcSwapOption<GatewayAddresses>>,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("engine", &self.describe())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Finds an engine and prepares the folder. Nothing runs yet.
    ///
    /// # Errors
    /// When no engine answers, or the folder cannot be used.
    pub async fn connect(options: AgentOptions) -> Result<Self, StartError> {
        let engine = engine::find(options.engine.as_deref()).await.map_err(|tried| {
            let tried = tried
                .into_iter()
                .map(|(path, why)| format!("{}: {why}", path.display()));
            StartError::NoEngine {
                tried: tried.collect(),
            }
        })?;
        let socket = engine.socket().display().to_string();
        Self::with_engine(options, Arc::new(engine), socket).await
    }

    async fn with_engine(
        options: AgentOptions,
        engine: Arc<dyn ContainerEngine>,
        socket: String,
    ) -> Result<Self, StartError> {
        let info = engine.info().await?;
        let folder = |path: PathBuf| move |source| StartError::Folder { path, source };
        for part in ["", "pods", "cells", "volumes"] {
            let path = options.data_dir.join(part);
            pod::make_folder(&path, 0o700).map_err(folder(path.clone()))?;
        }
        let file = options.data_dir.join("instance");
        let instance = instance(&file).map_err(folder(file))?;
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                engine,
                info,
                socket,
                instance,
                runtime: ArcSwapOption::empty(),
                gateway: Arc::default(),
            }),
        })
    }

    /// The engine in a few words, such as `podman 4.3.1 (/run/podman/podman.sock)`.
    pub fn describe(&self) -> String {
        let info = &self.shared.info;
        let rootless = if info.rootless { ", rootless" } else { "" };
        format!(
            "{} {} ({}{rootless})",
            info.name, info.version, self.shared.socket
        )
    }

    /// Says where the gateway of this data plane listens, so that Pods reach the hosts of its `Gateway` objects. Until then they do not.
    pub fn set_gateway(&self, addresses: GatewayAddresses) {
        self.shared.gateway.store(Some(Arc::new(addresses)));
    }

    /// A connection to an address of a Pod, by whatever way there is: directly, or through the relay of its cell where the host does not reach
    /// containers.
    ///
    /// # Errors
    /// As of a TCP connection; `NotConnected` while the agent does not run.
    pub async fn dial(&self, namespace: &str, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let runtime = self.shared.runtime.load_full();
        let runtime = runtime
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the node agent does not run"))?;
        runtime.dial(namespace, address).await
    }

    /// How many connections and names policies have denied since the start.
    pub fn denied(&self) -> u64 {
        let runtime = self.shared.runtime.load_full();
        runtime.map_or(0, |runtime| runtime.denied.load(Ordering::Relaxed))
    }
}

/// The id of this installation: whatever it makes carries it, so that nothing else is ever touched.
fn instance(file: &std::path::Path) -> io::Result<String> {
    match fs::read_to_string(file) {
        Ok(text) if text.trim().len() >= 32 => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    fs::write(file, format!("{id}\n"))?;
    fs::set_permissions(file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(id)
}

/// What the host does not let the engine do, and its words for it.
#[derive(Default)]
struct Limits {
    /// Containers run without limits of memory and processor.
    resources: RwLock<Option<String>>,
}

/// A worker of a Pod, from outside.
struct Worker {
    name: Name,
    changed: Arc<Notify>,
    /// Containers that something happened to.
    touched: Arc<Mutex<BTreeSet<String>>>,
    /// Everything is to be looked at: events may have been missed.
    resync: Arc<std::sync::atomic::AtomicBool>,
}

/// The agent while it runs.
pub(crate) struct Runtime {
    context: Arc<Context>,
    engine: Arc<dyn ContainerEngine>,
    options: AgentOptions,
    gateway: Arc<ArcSwapOption<GatewayAddresses>>,
    info: EngineInfo,
    instance: String,
    socket: String,
    cells: Cells,
    limits: Limits,
    workers: Mutex<BTreeMap<String, Worker>>,
    tasks: TaskTracker,
    /// Workers stop where they are.
    stop: CancellationToken,
    /// Containers of Pods that were there at the start, by the Pods' uids.
    found: Mutex<HashMap<String, Vec<String>>>,
    found_networks: Mutex<HashMap<String, Ipv4Net>>,
    found_relays: Mutex<HashMap<String, String>>,
    subnets: Mutex<BTreeSet<Ipv4Net>>,
    /// Why the engine does not answer, while it does not.
    away: watch::Sender<Option<String>>,
    told: egress::Told,
    denied: AtomicU64,
    pulls: tokio::sync::Semaphore,
    queue: mpsc::UnboundedSender<Task>,
}

/// Images that are pulled at once.
const PULLS: usize = 3;

impl Runtime {
    fn new(context: Arc<Context>, shared: &Shared, queue: mpsc::UnboundedSender<Task>) -> Self {
        Self {
            context,
            engine: shared.engine.clone(),
            options: shared.options.clone(),
            gateway: shared.gateway.clone(),
            info: shared.info.clone(),
            instance: shared.instance.clone(),
            socket: shared.socket.clone(),
            cells: Cells::default(),
            limits: Limits::default(),
            workers: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            found: Mutex::default(),
            found_networks: Mutex::default(),
            found_relays: Mutex::default(),
            subnets: Mutex::default(),
            away: watch::Sender::new(None),
            told: egress::Told::default(),
            denied: AtomicU64::new(0),
            pulls: tokio::sync::Semaphore::new(PULLS),
            queue,
        }
    }

    /// Whether a Pod of a namespace is left, or the namespace itself is.
    fn is_used(&self, namespace: &str) -> bool {
        let has_worker = self
            .workers
            .lock()
            .values()
            .any(|worker| worker.name.namespace == namespace);
        let known = self.context.world.namespaces.get(&Name::new("", namespace));
        has_worker || known.is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none())
    }

    /// Whether the engine's root is somebody else than who runs this, and no less than he.
    fn needs_override(&self) -> bool {
        let own = fs::metadata(&self.options.data_dir).map(|meta| std::os::unix::fs::MetadataExt::uid(&meta));
        !self.info.rootless && own.is_ok_and(|uid| uid != 0)
    }

    /// See [`Agent::dial`].
    pub(crate) async fn dial(&self, namespace: &str, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let unreachable = |why: &str| io::Error::new(io::ErrorKind::HostUnreachable, why.to_owned());
        let cell = self
            .cells
            .get(namespace)
            .ok_or_else(|| unreachable("its namespace has no cell"))?;
        match address.ip() {
            IpAddr::V4(ip) if cell.contains(ip) => cell.dial(address).await,
            _ => Err(unreachable("the address is not of the namespace's cell")),
        }
    }

    /// Makes a container, in place of one of the same name that an earlier try has left behind.
    async fn create(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let taken = match self.engine.create(spec).await {
            Err(EngineError::Conflict(message)) => message,
            // Podman says it with another code.
            Err(EngineError::Refused(message)) if message.contains("already in use") => message,
            other => return other,
        };
        let left = self.engine.inspect(&spec.name).await?;
        if left.labels.get(labels::INSTANCE) != Some(&self.instance) {
            return Err(EngineError::Conflict(taken));
        }
        self.engine.remove(&left.id).await?;
        self.engine.create(spec).await
    }

    /// Something that the node's status tells has changed.
    fn tell_node(&self) {
        let _ = self.queue.send(Task::Node);
    }

    /// Waits until the engine answers.
    async fn present(&self) {
        let mut away = self.away.subscribe();
        // The sender is of this very object.
        let _ = away.wait_for(Option::is_none).await;
    }

    /// The address of this node in Pods' statuses: nothing of theirs is there.
    fn host_address(&self) -> &'static str {
        crate::node::ADDRESS
    }
}

/// How long to wait between two tries to reach an engine that is away.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
