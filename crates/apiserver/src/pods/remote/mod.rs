//! `pods/exec` and `pods/attach`: a process whose input and outputs are channels of a connection.

mod size;
mod socket;
mod streams;

use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result, StatusCause, StatusDetails};
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::container;
use super::spdy::Session;
use super::upgrade::{Lasting, Transport, agree, pending, switch};
use super::websocket;
use choreo_pod_access::{AttachRequest, ExecRequest, ExecSession, Output, PodAccess};
use socket::over_websocket;
use streams::over_spdy;

use crate::dispatch::Context;
use crate::verbs::text;

const WEBSOCKET: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];

const SPDY: [&str; 4] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
];

/// What waits in each direction.
const QUEUE: usize = 8;

/// Which channels there are.
#[derive(Clone, Copy, Debug)]
struct Channels {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// What comes from a client.
enum Incoming {
    Stdin(Bytes),
    StdinEnd,
    /// Columns and rows.
    Resize(u16, u16),
}

/// What goes to a client.
enum Outgoing {
    Stdout(Bytes),
    Stderr(Bytes),
    /// How the process ended, the last of all.
    Ended(Box<Ended>),
}

/// How a process ended, as clients are told.
enum Ended {
    Exit(i64),
    Failed(String),
}

/// Runs a command, or attaches to a process, for a client.
///
/// # Errors
/// 400 without an upgrade, a container or a command; what the access refuses with.
pub(super) async fn answer(context: &Context, pod: &Value, access: Arc<dyn PodAccess>) -> Result<Response> {
    let agreed = match agree(&context.headers, &WEBSOCKET, &SPDY) {
        Ok(agreed) => agreed,
        Err(response) => return Ok(*response),
    };
    let query = &context.query;
    let mut channels = Channels {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        tty: query.flag("tty"),
    };
    // A terminal has one output.
    channels.stderr &= !channels.tty;
    if !(channels.stdin || channels.stdout || channels.stderr) {
        let why = "you must specify at least 1 of stdin, stdout, stderr";
        return Err(ApiError::bad_request(why));
    }
    let container = container::choose(pod, query.text("container"))?;
    container::check_running(pod)?;
    let (namespace, name) = (context.info.namespace.as_str(), text(pod, "/metadata/name"));
    let Channels {
        stdin,
        stdout,
        stderr,
        tty,
    } = channels;
    let container = Some(container);
    let pending = pending(context)?;
    let session = if context.info.subresource == "attach" {
        let request = AttachRequest {
            container,
            stdin,
            stdout,
            stderr,
            tty,
        };
        access.attach(namespace, name, request).await
    } else {
        let command: Vec<String> = query.all("command").map(str::to_owned).collect();
        if command.is_empty() {
            let why = "you must specify at least one command for the container";
            return Err(ApiError::bad_request(why));
        }
        let request = ExecRequest {
            container,
            command,
            stdin,
            stdout,
            stderr,
            tty,
        };
        access.exec(namespace, name, request).await
    };
    let session = session.map_err(|error| super::access::refused(&error))?;
    let lasting = Lasting::default();
    let response = switch(&agreed, lasting.clone())?;
    let (transport, protocol) = (agreed.transport, agreed.protocol);
    super::serve(context, lasting, move |draining| async move {
        let Some(connection) = pending.connection().await else {
            return;
        };
        let (from_client, incoming) = mpsc::channel(QUEUE);
        let (outgoing, to_client) = mpsc::channel(QUEUE);
        let pump = pump(session, channels, incoming, outgoing, draining);
        match transport {
            Transport::WebSocket => {
                let socket = websocket::open(connection).await;
                tokio::join!(pump, over_websocket(socket, protocol, from_client, to_client));
            }
            Transport::Spdy => {
                let connection = Session::start(connection);
                tokio::join!(
                    pump,
                    over_spdy(connection, protocol, channels, from_client, to_client)
                );
            }
        }
    })?;
    Ok(response)
}

/// Moves bytes between a process and a client until the process ends or the client goes, which ends `incoming`.
async fn pump(
    session: ExecSession,
    channels: Channels,
    mut incoming: mpsc::Receiver<Incoming>,
    outgoing: mpsc::Sender<Outgoing>,
    draining: CancellationToken,
) {
    let ExecSession {
        mut stdin,
        mut output,
        resize,
        exit,
    } = session;
    let inwards = async {
        while let Some(came) = incoming.recv().await {
            match came {
                Incoming::Stdin(data) => {
                    if let Some(open) = &mut stdin {
                        let written = async {
                            open.write_all(&data).await?;
                            open.flush().await
                        };
                        // The process has closed its input; what is sent to it from now on is nobody's.
                        if written.await.is_err() {
                            stdin = None;
                        }
                    }
                }
                Incoming::StdinEnd => {
                    if let Some(mut open) = stdin.take() {
                        let _ = open.shutdown().await;
                    }
                }
                Incoming::Resize(columns, rows) => {
                    // Who ended needs no size.
                    let _ = resize.send((columns, rows)).await;
                }
            }
        }
    };
    let outwards = async {
        let mut failed = None;
        while let Some(piece) = output.next().await {
            let piece = match piece {
                Ok(Output::Stdout(data)) if channels.stdout => Outgoing::Stdout(data),
                Ok(Output::Stderr(data)) if channels.stderr => Outgoing::Stderr(data),
                Ok(_) => continue,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            if outgoing.send(piece).await.is_err() {
                return;
            }
        }
        let ended = match failed {
            Some(error) => Err(error),
            None => exit.await,
        };
        let ended = Outgoing::Ended(Box::new(match ended {
            Ok(code) => Ended::Exit(code),
            Err(error) => Ended::Failed(error.to_string()),
        }));
        let _ = outgoing.send(ended).await;
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
        () = draining.cancelled() => {
            let ended = Ended::Failed("the server is going down".to_owned());
            // A client that takes nothing is not waited for.
            let _ = outgoing.try_send(Outgoing::Ended(Box::new(ended)));
        }
    }
}

impl Ended {
    /// The `metav1.Status` that version 4 and later of the protocol ends with.
    fn status(&self) -> Value {
        match self {
            Ended::Exit(0) => json!({"metadata": {}, "status": "Success"}),
            Ended::Exit(code) => {
                let cause = StatusCause {
                    cause: "ExitCode".to_owned(),
                    message: code.to_string(),
                    ..StatusCause::default()
                };
                let details = StatusDetails {
                    causes: vec![cause],
                    ..StatusDetails::default()
                };
                json!({
                    "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "details": details,
                    "message": self.message(),
                })
            }
            Ended::Failed(_) => ApiError::internal(self.message()).to_value(),
        }
    }

    /// What older versions end with; empty when there is nothing to say.
    fn message(&self) -> String {
        match self {
            Ended::Exit(0) => String::new(),
            Ended::Exit(code) => {
                format!(
                    "command terminated with non-zero exit code: error executing command, exit code {code}"
                )
            }
            Ended::Failed(why) => format!("error executing command in container: {why}"),
        }
    }

    fn encode(&self, protocol: &str) -> Bytes {
        if protocol.starts_with("v4.") || protocol.starts_with("v5.") {
            self.status().to_string().into()
        } else {
            self.message().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_process_ended() {
        assert_eq!(
            Ended::Exit(0).status(),
            json!({"metadata": {}, "status": "Success"})
        );
        let failed = Ended::Exit(3).status();
        assert_eq!(failed["reason"], "NonZeroExitCode");
        assert_eq!(
            failed["details"]["causes"],
            json!([{"reason": "ExitCode", "message": "3"}])
        );
        assert_eq!(Ended::Exit(0).encode("channel.k8s.io"), "");
        assert_eq!(
            Ended::Failed("gone".into()).status()["message"],
            "Internal error occurred: error executing command in container: gone"
        );
    }
}
