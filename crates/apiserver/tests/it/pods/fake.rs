//! A node for tests: the containers' processes are processes of this machine, and their ports are ports of its own.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use choreo_apiserver::pods::{
    AccessError, AttachRequest, Connection, ContainerStats, ExecRequest, ExecSession, LogQuery, LogStream,
    Output, PodAccess, PodStats,
};
use futures::{FutureExt, StreamExt, stream};
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::io::ReaderStream;

/// The port that the Pods' echo listens on, whatever it is on this machine.
pub(crate) const ECHO: u16 = 7;

/// The node.
#[derive(Clone)]
pub(crate) struct Fake {
    /// The working directory of commands.
    pub(crate) folder: PathBuf,
    /// Where what is sent comes back.
    pub(crate) echo: std::net::SocketAddr,
    /// What was asked of logs.
    pub(crate) asked: Arc<Mutex<Vec<LogQuery>>>,
    /// Lines that are still to be written to followed logs; the log ends when this does.
    pub(crate) lines: Arc<Mutex<Option<mpsc::Receiver<&'static str>>>>,
    /// How many processes and followed logs there are.
    pub(crate) running: watch::Sender<usize>,
}

/// Counts one process as long as it is there.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn new(running: &watch::Sender<usize>) -> Counted {
        running.send_modify(|count| *count += 1);
        Counted(running.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn pieces(
    from: impl AsyncRead + Send + Unpin + 'static,
    kind: fn(Bytes) -> Output,
) -> stream::BoxStream<'static, io::Result<Output>> {
    ReaderStream::new(from).map(move |piece| piece.map(kind)).boxed()
}

#[async_trait]
impl PodAccess for Fake {
    async fn logs(&self, _: &str, pod: &str, query: LogQuery) -> Result<LogStream, AccessError> {
        self.asked.lock().push(query.clone());
        if pod == "unreachable" {
            return Err(AccessError::Unavailable {
                why: "the node does not answer".to_owned(),
            });
        }
        let first = stream::iter([Ok(Bytes::from_static(b"first\n"))]);
        if !query.follow {
            return Ok(first.boxed());
        }
        let lines = self.lines.lock().take();
        let counted = Counted::new(&self.running);
        let rest = stream::unfold((lines, counted), |(lines, counted)| async move {
            let mut lines = lines?;
            let line = lines.recv().await?;
            Some((Ok(Bytes::from(line)), (Some(lines), counted)))
        });
        Ok(first.chain(rest).boxed())
    }

    /// A command that begins with `size` waits for the size of its terminal and prints it.
    async fn exec(&self, _: &str, pod: &str, request: ExecRequest) -> Result<ExecSession, AccessError> {
        if pod == "unreachable" {
            return Err(AccessError::NotRunning {
                what: "container \"main\"".to_owned(),
                why: "it crashed".to_owned(),
            });
        }
        let (resize, mut sizes) = mpsc::channel(1);
        if request.command == ["size"] {
            let output = stream::once(async move {
                let (columns, rows) = sizes.recv().await.unwrap_or_default();
                Ok(Output::Stdout(format!("{columns} by {rows}\r\n").into()))
            });
            return Ok(ExecSession {
                stdin: None,
                output: output.boxed(),
                resize,
                exit: async { Ok(0) }.boxed(),
            });
        }
        let mut command = Command::new(&request.command[0]);
        command
            .args(&request.command[1..])
            .current_dir(&self.folder)
            .stdin(if request.stdin {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let spawned = command.spawn();
        let mut child = spawned.map_err(|error| AccessError::Unavailable {
            why: error.to_string(),
        })?;
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let counted = Counted::new(&self.running);
        let stdin = child.stdin.take();
        let exit = async move {
            let status = child.wait().await;
            drop(counted);
            status.map(|status| i64::from(status.code().unwrap_or(137)))
        };
        Ok(ExecSession {
            stdin: stdin.map(|stdin| Box::new(stdin) as _),
            output: stream::select(pieces(stdout, Output::Stdout), pieces(stderr, Output::Stderr)).boxed(),
            resize,
            exit: exit.boxed(),
        })
    }

    async fn attach(
        &self,
        namespace: &str,
        pod: &str,
        request: AttachRequest,
    ) -> Result<ExecSession, AccessError> {
        let AttachRequest {
            container,
            stdin,
            stdout,
            stderr,
            tty,
        } = request;
        let command = vec!["cat".to_owned()];
        let request = ExecRequest {
            container,
            command,
            stdin,
            stdout,
            stderr,
            tty,
        };
        self.exec(namespace, pod, request).await
    }

    async fn port_forward(&self, _: &str, _: &str, port: u16) -> Result<Box<dyn Connection>, AccessError> {
        if port != ECHO {
            return Err(AccessError::NotRunning {
                what: format!("port {port}"),
                why: "connection refused".to_owned(),
            });
        }
        let stream = TcpStream::connect(self.echo).await;
        let stream = stream.map_err(|error| AccessError::Unavailable {
            why: error.to_string(),
        })?;
        Ok(Box::new(stream))
    }

    async fn stats(&self) -> Result<Vec<PodStats>, AccessError> {
        let container = |name: &str, cpu_nanos_per_second, memory_bytes| ContainerStats {
            name: name.to_owned(),
            cpu_nanos_per_second,
            memory_bytes,
        };
        let pod = |pod: &str, containers| PodStats {
            namespace: "default".to_owned(),
            pod: pod.to_owned(),
            containers,
        };
        Ok(vec![
            pod(
                "two",
                vec![
                    container("a", 250_000_000, 64 << 20),
                    container("b", 1_000_000, 1 << 20),
                ],
            ),
            pod("p", vec![container("main", 5_000_000, 10 << 20)]),
        ])
    }
}
