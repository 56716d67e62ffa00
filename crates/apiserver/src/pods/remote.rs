//! `pods/exec` and `pods/attach`: a process whose input and outputs are channels of a connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::Bytes;
use choreo_apimachinery::status::{ApiError, Result, StatusCause, StatusDetails};
use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::access::{AttachRequest, ExecRequest, ExecSession, Output, PodAccess};
use super::container;
use super::spdy::{Reader, Session, Writer};
use super::upgrade::{Lasting, Transport, agree, pending, switch};
use super::websocket::{self, Form};
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

/// How long a client may take to open the streams that it asked for. The same as the kubelet's.
const STREAMS_WITHIN: Duration = Duration::from_secs(30);

/// The most bytes that a change of a terminal's size may have.
const MAX_RESIZE: usize = 1024;

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
        access.attach(namespace, name, request).await?
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
        access.exec(namespace, name, request).await?
    };
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

/// The number of a channel in a WebSocket.
mod channel {
    pub(super) const STDIN: u8 = 0;
    pub(super) const STDOUT: u8 = 1;
    pub(super) const STDERR: u8 = 2;
    pub(super) const ERROR: u8 = 3;
    pub(super) const RESIZE: u8 = 4;
    /// Not a channel: the byte behind it says which one ends (version 5).
    pub(super) const CLOSE: u8 = 255;
}

async fn over_websocket(
    socket: websocket::Socket,
    protocol: &str,
    from_client: mpsc::Sender<Incoming>,
    mut to_client: mpsc::Receiver<Outgoing>,
) {
    let (mut sender, mut receiver) = websocket::channels(socket, Form::of(protocol));
    let closes = protocol.starts_with("v5.");
    let inwards = async {
        while let Some((number, data)) = receiver.next().await {
            let came = match number {
                channel::STDIN => Incoming::Stdin(data),
                channel::CLOSE if closes && data.first() == Some(&channel::STDIN) => Incoming::StdinEnd,
                channel::RESIZE => match size(&data) {
                    Some((columns, rows)) => Incoming::Resize(columns, rows),
                    None => continue,
                },
                _ => continue,
            };
            if from_client.send(came).await.is_err() {
                break;
            }
        }
    };
    let outwards = async {
        while let Some(out) = to_client.recv().await {
            match out {
                Outgoing::Stdout(data) => sender.send(channel::STDOUT, data).await?,
                Outgoing::Stderr(data) => sender.send(channel::STDERR, data).await?,
                Outgoing::Ended(ended) => {
                    let said = ended.encode(protocol);
                    if !said.is_empty() {
                        sender.send(channel::ERROR, said).await?;
                    }
                }
            }
        }
        sender.close().await
    };
    let left = tokio::select! {
        () = inwards => true,
        sent = outwards => sent.is_err(),
    };
    // Told to the pump at once.
    drop(from_client);
    if !left {
        receiver.closed().await;
    }
}

/// A terminal's size as clients send it.
#[derive(Deserialize)]
struct Size {
    #[serde(rename = "Width", alias = "width")]
    width: u16,
    #[serde(rename = "Height", alias = "height")]
    height: u16,
}

fn size(data: &[u8]) -> Option<(u16, u16)> {
    let size: Size = serde_json::from_slice(data).ok()?;
    Some((size.width, size.height))
}

/// The streams that a client opens for a process.
struct Streams {
    error: Writer,
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<Reader>,
    /// The other halves of what only the client writes to. Their end would say that nobody reads any more.
    unused: Vec<Writer>,
}

/// Waits for the streams. Those that version 1 has none of are done without.
async fn streams(session: &mut Session, protocol: &str, channels: Channels) -> Option<Streams> {
    let mut wanted = vec!["error"];
    let resizes = channels.tty && (protocol.starts_with("v3.") || protocol.starts_with("v4."));
    for (there, kind) in [
        (channels.stdin, "stdin"),
        (channels.stdout, "stdout"),
        (channels.stderr, "stderr"),
        (resizes, "resize"),
    ] {
        if there {
            wanted.push(kind);
        }
    }
    let mut found = BTreeMap::new();
    while found.len() < wanted.len() {
        let stream = session.accept().await?;
        let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
        if !wanted.contains(&kind.as_str()) {
            tracing::debug!(%kind, "a stream of a kind that was not asked for");
            return None;
        }
        found.insert(kind, stream);
    }
    let mut take = |kind: &str| {
        found
            .remove(kind)
            .map(|stream| (stream.reader, stream.writer))
            .unzip()
    };
    let (_, error) = take("error");
    let (_, stdout) = take("stdout");
    let (_, stderr) = take("stderr");
    let (stdin, typed) = take("stdin");
    let (resize, resized) = take("resize");
    Some(Streams {
        error: error?,
        stdin,
        stdout,
        stderr,
        resize,
        unused: [typed, resized].into_iter().flatten().collect(),
    })
}

async fn over_spdy(
    mut session: Session,
    protocol: &str,
    channels: Channels,
    from_client: mpsc::Sender<Incoming>,
    mut to_client: mpsc::Receiver<Outgoing>,
) {
    let opened = tokio::time::timeout(STREAMS_WITHIN, streams(&mut session, protocol, channels)).await;
    let Ok(Some(Streams {
        error,
        stdin,
        stdout,
        stderr,
        resize,
        unused,
    })) = opened
    else {
        tracing::debug!("a client did not open the streams that it asked for");
        // Told to the pump before the goodbye, which may take its time.
        drop(from_client);
        return session.close().await;
    };
    let typed = async {
        if let Some(mut stdin) = stdin {
            while let Some(data) = stdin.next().await {
                if from_client.send(Incoming::Stdin(data)).await.is_err() {
                    return;
                }
            }
            let _ = from_client.send(Incoming::StdinEnd).await;
        }
    };
    let resized = async {
        let Some(mut resize) = resize else { return };
        let mut waiting = Vec::new();
        while let Some(data) = resize.next().await {
            waiting.extend_from_slice(&data);
            for (columns, rows) in sizes(&mut waiting) {
                let _ = from_client.send(Incoming::Resize(columns, rows)).await;
            }
        }
    };
    let outwards = async {
        while let Some(out) = to_client.recv().await {
            match (out, &stdout, &stderr) {
                (Outgoing::Stdout(data), Some(stdout), _) => stdout.send(data).await?,
                (Outgoing::Stderr(data), _, Some(stderr)) => stderr.send(data).await?,
                (Outgoing::Ended(ended), ..) => error.send(ended.encode(protocol)).await?,
                _ => {}
            }
        }
        io::Result::Ok(())
    };
    let inwards = async {
        tokio::join!(typed, resized);
        // The input may end long before the process does.
        std::future::pending::<()>().await;
    };
    let left = tokio::select! {
        () = session.gone() => true,
        () = inwards => true,
        sent = outwards => sent.is_err(),
    };
    drop(from_client);
    if left {
        return;
    }
    let written = [stdout, stderr, Some(error)].into_iter().flatten();
    for writer in written.chain(unused) {
        let _ = writer.finish().await;
    }
    session.close().await;
}

/// Takes the sizes out of what came: one JSON document behind the other.
fn sizes(waiting: &mut Vec<u8>) -> Vec<(u16, u16)> {
    let mut found = Vec::new();
    let mut documents = serde_json::Deserializer::from_slice(waiting).into_iter::<Size>();
    let mut taken = 0;
    while let Some(Ok(size)) = documents.next() {
        taken = documents.byte_offset();
        found.push((size.width, size.height));
    }
    waiting.drain(..taken);
    if waiting.len() > MAX_RESIZE {
        waiting.clear();
    }
    found
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

    #[test]
    fn sizes_come_in_pieces() {
        let mut waiting = b"{\"Width\":80,\"Height\":24}\n{\"Width\":100".to_vec();
        assert_eq!(sizes(&mut waiting), [(80, 24)]);
        waiting.extend_from_slice(b",\"Height\":30}\n");
        assert_eq!(sizes(&mut waiting), [(100, 30)]);
        assert_eq!(sizes(&mut waiting), []);
        waiting.extend_from_slice(&[b'{'; 2000]);
        assert_eq!(sizes(&mut waiting), []);
        assert!(waiting.is_empty());
        assert_eq!(size(b"{\"Width\":80,\"Height\":24}"), Some((80, 24)));
        assert_eq!(size(b"{\"width\":80,\"height\":24}"), Some((80, 24)));
        assert_eq!(size(b"{}"), None);
    }
}
