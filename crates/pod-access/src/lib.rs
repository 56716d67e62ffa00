//! [`PodAccess`]: what an API server asks of whoever runs the Pods of a cluster. Neither side knows the other.

use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// Gives access to the containers of a logical cluster's Pods, as a kubelet does for kube-apiserver.
///
/// # Assumptions
/// * The server has authorized the request, has asked admission, and has found the Pod and the container in it.
/// * What is returned ends by itself when the container does, and may be dropped at any time: the client is gone then, and what
///   was begun for it is to be ended.
#[async_trait]
pub trait PodAccess: Send + Sync {
    /// The output of a container, as it was written. With [`LogQuery::follow`] it goes on until the container ends.
    ///
    /// # Errors
    /// When there is no such container or its output cannot be had.
    async fn logs(&self, namespace: &str, pod: &str, query: LogQuery) -> Result<LogStream, AccessError>;

    /// Runs a command in a container.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    async fn exec(
        &self,
        namespace: &str,
        pod: &str,
        request: ExecRequest,
    ) -> Result<ExecSession, AccessError>;

    /// Connects with the process that a container was started with.
    ///
    /// # Errors
    /// When there is no such container, or it does not run.
    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        request: AttachRequest,
    ) -> Result<ExecSession, AccessError>;

    /// A connection to a TCP port on the loopback interface of a Pod's network.
    ///
    /// # Errors
    /// When the Pod does not run, or nothing listens there.
    async fn port_forward(
        &self,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> Result<Box<dyn Connection>, AccessError>;

    /// What the containers use now. Pods that do not run are not among them.
    ///
    /// # Errors
    /// When nobody can tell.
    async fn stats(&self) -> Result<Vec<PodStats>, AccessError>;
}

/// The bytes of a log as they come.
pub type LogStream = BoxStream<'static, io::Result<Bytes>>;

/// A connection that bytes flow through in both directions.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Which part of a log is wanted, as in `PodLogOptions` of `core/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// The container. May be left out where the Pod has one; an API server names one always.
    pub container: Option<String>,
    /// Whether to go on with what will be written.
    pub follow: bool,
    /// The container's life before this one.
    pub previous: bool,
    /// What of its outputs.
    pub stream: LogSource,
    /// Only what was written from this time on.
    pub since: Option<jiff::Timestamp>,
    /// Only so many lines at the end. Following begins behind them.
    pub tail_lines: Option<u64>,
    /// Whether each line begins with its time in RFC 3339 and a space.
    pub timestamps: bool,
    /// The most bytes that are wanted; the last line may be cut.
    pub limit_bytes: Option<u64>,
}

/// Which of a container's outputs a log is of (KEP-3288).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogSource {
    /// Both, in the order in which they came.
    #[default]
    All,
    /// Its output; with a terminal, everything.
    Stdout,
    /// Its error output.
    Stderr,
}

/// A command that is to be run in a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecRequest {
    /// The container. May be left out where the Pod has one; an API server names one always.
    pub container: Option<String>,
    /// The program and its arguments. No shell is involved.
    pub command: Vec<String>,
    /// Whether there will be input.
    pub stdin: bool,
    /// Whether the output is wanted.
    pub stdout: bool,
    /// Whether the error output is wanted; never with a terminal, which has one output.
    pub stderr: bool,
    /// Whether the command gets a terminal.
    pub tty: bool,
}

/// A wish to be connected with a container's process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachRequest {
    /// The container. May be left out where the Pod has one; an API server names one always.
    pub container: Option<String>,
    /// Whether there will be input.
    pub stdin: bool,
    /// Whether the output is wanted.
    pub stdout: bool,
    /// Whether the error output is wanted; never with a terminal, which has one output.
    pub stderr: bool,
    /// Whether the process has a terminal.
    pub tty: bool,
}

/// A process that is connected with.
pub struct ExecSession {
    /// Where its input goes; none when it has none. Closing it is the end of the input.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// What it writes, in order, until it has closed its outputs.
    pub output: BoxStream<'static, io::Result<Output>>,
    /// The size of its terminal in columns and rows, to be sent whenever it changes.
    pub resize: mpsc::Sender<(u16, u16)>,
    /// How it ended: its exit code.
    pub exit: BoxFuture<'static, io::Result<i64>>,
}

impl fmt::Debug for ExecSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSession").finish_non_exhaustive()
    }
}

/// Something that a process wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// To its output, or to its terminal.
    Stdout(Bytes),
    /// To its error output.
    Stderr(Bytes),
}

/// What the containers of one Pod use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStats {
    /// The Pod's namespace.
    pub namespace: String,
    /// The Pod's name.
    pub pod: String,
    /// Its containers.
    pub containers: Vec<ContainerStats>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStats {
    /// The container's name.
    pub name: String,
    /// Processor time, in nanoseconds for each second; 1 000 000 000 are one whole processor.
    pub cpu_nanos_per_second: u64,
    /// Memory in bytes that could not be reclaimed (the working set).
    pub memory_bytes: u64,
}

/// Why there is no access to a container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// There is nothing of that name.
    #[error("{what} not found")]
    NotFound {
        /// What was looked for, such as `container "web" of pod "a"`.
        what: String,
    },
    /// It is there and does not run.
    #[error("{what} is not running: {why}")]
    NotRunning {
        /// What does not run.
        what: String,
        /// Why not, for a person.
        why: String,
    },
    /// It cannot be told, or not be reached.
    #[error("{why}")]
    Unavailable {
        /// Why, and what helps.
        why: String,
    },
    /// There are several containers, and none is named.
    #[error("a container name must be specified, choose one of: [{}]", names.join(" "))]
    ContainerRequired {
        /// Those that there are.
        names: Vec<String>,
    },
}
