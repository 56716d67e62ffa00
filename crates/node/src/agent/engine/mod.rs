//! What the agent asks of a container engine, and nothing more. The words are the Docker Engine API's.

mod docker;
mod find;
mod plain;
mod words;

use std::{collections::BTreeMap, fmt, io, net::Ipv4Addr, path::PathBuf, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use choreo_pod_access::Output;
use futures::stream::BoxStream;
use ipnet::Ipv4Net;
use jiff::Timestamp;
use tokio::io::AsyncWrite;

pub(crate) use docker::DockerEngine;
pub(crate) use find::find;

/// Why the engine did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Nobody answers.
    #[error("the container engine does not answer: {0}")]
    Away(String),
    /// There is no such container, image, network or volume.
    #[error("{0}")]
    NotFound(String),
    /// The name is taken, or the thing is in use.
    #[error("{0}")]
    Conflict(String),
    /// The engine's own words.
    #[error("{0}")]
    Refused(String),
}

impl EngineError {
    /// Whether the engine does not know what was asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
    }

    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}

pub(crate) type Result<T, E = EngineError> = std::result::Result<T, E>;

/// The engine, as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EngineInfo {
    /// `docker` or `podman`.
    pub(crate) name: String,
    pub(crate) version: String,
    /// Whether it runs without root.
    pub(crate) rootless: bool,
    pub(crate) operating_system: String,
    pub(crate) kernel: String,
    pub(crate) architecture: String,
    pub(crate) cpus: u64,
    /// Bytes.
    pub(crate) memory: u64,
}

/// A network with no way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkSpec {
    pub(crate) name: String,
    pub(crate) subnet: Ipv4Net,
    /// The part of it that the engine hands out.
    pub(crate) range: Ipv4Net,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A network that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) name: String,
    pub(crate) subnet: Option<Ipv4Net>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// The network namespace of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NetworkMode {
    /// None but the loopback.
    None,
    /// In a network, at a certain address if one is given.
    Network(String, Option<Ipv4Addr>),
    /// That of another container, by its id.
    Container(String),
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) source: MountSource,
    pub(crate) target: String,
    pub(crate) read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MountSource {
    /// A file or folder of the host.
    Bind(PathBuf),
    /// A volume of the engine.
    Volume(String),
}

/// A container to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerSpec {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// Replaces the image's entry point; its arguments go, too.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Replaces the image's arguments.
    pub(crate) command: Option<Vec<String>>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: Option<String>,
    /// `user`, `uid` or `uid:gid`; the image's if not given.
    pub(crate) user: Option<String>,
    pub(crate) groups: Vec<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) network: NetworkMode,
    /// Shares this container's System V IPC and shared memory; `Some("")` allows others to join.
    pub(crate) ipc_of: Option<String>,
    /// Shares this container's process namespace.
    pub(crate) pid_of: Option<String>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) capabilities_add: Vec<String>,
    pub(crate) capabilities_drop: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) seccomp_unconfined: bool,
    pub(crate) read_only_root: bool,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) stop_signal: Option<String>,
    /// Limits; left out where the host refuses them.
    pub(crate) memory: Option<i64>,
    pub(crate) nano_cpus: Option<i64>,
    pub(crate) cpu_shares: Option<i64>,
    pub(crate) sysctls: BTreeMap<String, String>,
}

impl Default for ContainerSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            image: String::new(),
            labels: BTreeMap::new(),
            entrypoint: None,
            command: None,
            env: Vec::new(),
            working_dir: None,
            user: None,
            groups: Vec::new(),
            hostname: None,
            network: NetworkMode::None,
            ipc_of: None,
            pid_of: None,
            mounts: Vec::new(),
            capabilities_add: Vec::new(),
            capabilities_drop: Vec::new(),
            no_new_privileges: false,
            seccomp_unconfined: false,
            read_only_root: false,
            tty: false,
            stdin: false,
            stop_signal: None,
            memory: None,
            nano_cpus: None,
            cpu_shares: None,
            sysctls: BTreeMap::new(),
        }
    }
}

/// What a container is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Made, and not started.
    Created,
    Running,
    Exited {
        code: i64,
        oom_killed: bool,
        finished: Option<Timestamp>,
        /// The engine's words, if it could not run it.
        error: String,
    },
}

/// A container that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) image_id: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) phase: Phase,
    pub(crate) started: Option<Timestamp>,
    /// Its addresses, by network.
    pub(crate) addresses: BTreeMap<String, Ipv4Addr>,
    pub(crate) tty: bool,
}

/// An image that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) id: String,
    /// `repository@sha256:…`, where it came from a registry.
    pub(crate) digest: Option<String>,
    pub(crate) user: String,
    /// As its `EXPOSE` lines say them: `8080/tcp`.
    pub(crate) exposed: Vec<String>,
    pub(crate) entrypoint: Vec<String>,
    pub(crate) command: Vec<String>,
    /// Bytes.
    pub(crate) size: i64,
}

/// Credentials of a registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RegistryAuth {
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) server: String,
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryAuth")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// Something happened to a container that was made with certain labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EngineEvent {
    pub(crate) container: String,
    /// `start`, `die`, `oom`, `remove` and others.
    pub(crate) action: String,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Which part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogOptions {
    pub(crate) follow: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail: Option<u64>,
    pub(crate) timestamps: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A process to be run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecSpec {
    pub(crate) command: Vec<String>,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

/// The ends of a process' streams.
pub(crate) struct Streams {
    pub(crate) input: Box<dyn AsyncWrite + Send + Unpin>,
    pub(crate) output: BoxStream<'static, io::Result<Output>>,
}

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Processor time since it started.
    pub(crate) cpu: Duration,
    /// Bytes that cannot be taken back.
    pub(crate) memory: u64,
}

/// A container engine.
///
/// # Assumptions
/// Names and labels are kept as given. Calls may come at once for different things; for one container they come in order.
#[async_trait]
pub(crate) trait ContainerEngine: Send + Sync + 'static {
    async fn info(&self) -> Result<EngineInfo>;

    async fn create_network(&self, spec: &NetworkSpec) -> Result<()>;
    /// The networks with this label.
    async fn networks(&self, label: &str) -> Result<Vec<Network>>;
    async fn remove_network(&self, name: &str) -> Result<()>;

    /// Makes a container and gives its id.
    async fn create(&self, spec: &ContainerSpec) -> Result<String>;
    async fn start(&self, id: &str) -> Result<()>;
    async fn kill(&self, id: &str, signal: &str) -> Result<()>;
    /// Removes a container, also one that runs. One that is gone is no error.
    async fn remove(&self, id: &str) -> Result<()>;
    async fn inspect(&self, id: &str) -> Result<Container>;
    /// The ids and labels of all containers with this label, dead ones as well.
    async fn containers(&self, label: &str) -> Result<Vec<(String, BTreeMap<String, String>)>>;

    async fn image(&self, reference: &str) -> Result<Image>;
    async fn pull(&self, reference: &str, auth: Option<&RegistryAuth>) -> Result<()>;
    /// Takes in a `docker-archive`.
    async fn load(&self, archive: BoxStream<'static, io::Result<Bytes>>) -> Result<()>;
    async fn remove_image(&self, reference: &str) -> Result<()>;
    /// The names of the images whose name begins with `prefix`.
    async fn images(&self, prefix: &str) -> Result<Vec<String>>;

    async fn create_volume(
        &self,
        name: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<()>;
    /// The names and labels of the volumes with this label.
    async fn volumes(&self, label: &str) -> Result<Vec<(String, BTreeMap<String, String>)>>;
    async fn remove_volume(&self, name: &str) -> Result<()>;

    async fn logs(&self, id: &str, options: &LogOptions) -> Result<BoxStream<'static, io::Result<Output>>>;
    /// Prepares a process, and gives its id.
    async fn create_exec(&self, container: &str, spec: &ExecSpec) -> Result<String>;
    async fn start_exec(&self, exec: &str, tty: bool) -> Result<Streams>;
    /// The exit code of a process that has ended.
    async fn exec_code(&self, exec: &str) -> Result<Option<i64>>;
    async fn resize_exec(&self, exec: &str, columns: u16, rows: u16) -> Result<()>;
    async fn attach(&self, container: &str, stdin: bool) -> Result<Streams>;
    async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<()>;
    async fn usage(&self, id: &str) -> Result<Usage>;

    /// What happens to containers with this label, until the connection ends.
    async fn events(&self, label: &str) -> Result<BoxStream<'static, Result<EngineEvent>>>;
}
