//! `pods/portforward`: connections to ports of a Pod within one connection of a client.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use bytes::{Bytes, BytesMut};
use choreo_apimachinery::status::{ApiError, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::container;
use super::spdy::{Session, Stream};
use super::upgrade::{Lasting, Transport, agree, pending, switch};
use super::websocket::{self, Form};
use crate::dispatch::Context;
use crate::request::Query;
use crate::verbs::text;
use choreo_pod_access::{Connection, PodAccess};

/// SPDY within the messages of a WebSocket, as kubectl asks for it since 1.31 (KEP-4006).
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";

const WEBSOCKET: [&str; 4] = [TUNNELLED, "v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""];

const SPDY: [&str; 1] = ["portforward.k8s.io"];

/// How long the second stream of a pair may stay away. The same as the kubelet's.
const PAIR_WITHIN: Duration = Duration::from_secs(30);

/// Bytes that are read at once.
const PIECE: usize = 32 * 1024;

/// What waits for a port.
const QUEUE: usize = 16;

/// The most ports that one WebSocket forwards: two channels each, numbered by one byte, of which the last is not a channel.
const MAX_PORTS: usize = 127;

/// The Pod whose ports are forwarded.
#[derive(Clone)]
struct Target {
    access: Arc<dyn PodAccess>,
    namespace: String,
    pod: String,
}

impl Target {
    /// # Errors
    /// Why there is no connection, for the client.
    async fn connect(&self, port: u16) -> std::result::Result<Box<dyn Connection>, String> {
        let connected = self.access.port_forward(&self.namespace, &self.pod, port).await;
        connected.map_err(|error| {
            let Target { namespace, pod, .. } = self;
            format!("error forwarding port {port} to pod {pod} in namespace {namespace}: {error}")
        })
    }
}

/// Forwards ports for a client.
///
/// # Errors
/// 400 without an upgrade, for a Pod that does not run, and for ports that are none.
pub(super) fn answer(context: &Context, pod: &Value, access: Arc<dyn PodAccess>) -> Result<Response> {
    let agreed = match agree(&context.headers, &WEBSOCKET, &SPDY) {
        Ok(agreed) => agreed,
        Err(response) => return Ok(*response),
    };
    container::check_running(pod)?;
    let target = Target {
        access,
        namespace: context.info.namespace.clone(),
        pod: text(pod, "/metadata/name").to_owned(),
    };
    let (transport, protocol) = (agreed.transport, agreed.protocol);
    let channels = transport == Transport::WebSocket && protocol != TUNNELLED;
    let ports = if channels {
        ports(&context.query)?
    } else {
        Vec::new()
    };
    let pending = pending(context)?;
    let lasting = Lasting::default();
    let response = switch(&agreed, lasting.clone())?;
    super::serve(context, lasting, move |draining| async move {
        let Some(connection) = pending.connection().await else {
            return;
        };
        if transport == Transport::Spdy {
            return over_spdy(Session::start(connection), &target, &draining).await;
        }
        let socket = websocket::open(connection).await;
        if channels {
            return over_channels(socket, Form::of(protocol), &target, &ports, &draining).await;
        }
        let (outer, inner) = tokio::io::duplex(PIECE);
        tokio::join!(
            websocket::tunnel(socket, outer),
            over_spdy(Session::start(inner), &target, &draining)
        );
    })?;
    Ok(response)
}

/// The ports of a request, in order.
fn ports(query: &Query) -> Result<Vec<u16>> {
    let mut ports = Vec::new();
    for text in query
        .all("ports")
        .chain(query.all("port"))
        .flat_map(|list| list.split(','))
    {
        match text.parse::<u16>() {
            Ok(port) if port > 0 => ports.push(port),
            _ => {
                let why =
                    format!("query parameter \"port\" must be between 1 and 65535, but {text:?} is not");
                return Err(ApiError::bad_request(why));
            }
        }
    }
    match ports.len() {
        0 => Err(ApiError::bad_request("query parameter \"port\" is required")),
        1..=MAX_PORTS => Ok(ports),
        _ => Err(ApiError::bad_request(format!(
            "no more than {MAX_PORTS} ports can be forwarded at a time"
        ))),
    }
}

/// Each connection is a pair of streams: one for its bytes, one for what goes wrong.
async fn over_spdy(mut session: Session, target: &Target, draining: &CancellationToken) {
    let mut pairs: BTreeMap<String, (Instant, Option<Stream>, Option<Stream>)> = BTreeMap::new();
    let mut running = JoinSet::new();
    loop {
        let late = pairs.values().map(|(since, ..)| *since + PAIR_WITHIN).min();
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = draining.cancelled() => break,
            Some(_) = running.join_next() => continue,
            () = until(late) => {
                // Streams that are dropped are reset.
                pairs.retain(|_, (since, ..)| since.elapsed() < PAIR_WITHIN);
                continue;
            }
        };
        let Some(stream) = stream else { break };
        let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
        let request = stream.headers.get("requestid").cloned().unwrap_or_else(|| {
            // Clients that number no requests open the stream for errors first, and the other one next.
            let first = if kind == "data" {
                stream.id.saturating_sub(2)
            } else {
                stream.id
            };
            format!("stream {first}")
        });
        let (_, error, data) = pairs
            .entry(request.clone())
            .or_insert_with(|| (Instant::now(), None, None));
        match kind.as_str() {
            "error" if error.is_none() => *error = Some(stream),
            "data" if data.is_none() => *data = Some(stream),
            _ => {
                tracing::debug!(%kind, "a stream of a kind that a forwarded connection does not have");
                continue;
            }
        }
        if let (Some(_), Some(_)) = (error, data)
            && let Some((_, Some(error), Some(data))) = pairs.remove(&request)
        {
            let target = target.clone();
            running.spawn(async move { forward(&target, error, data).await });
        }
    }
    // The client has gone or is left, and its connections go with it.
    running.shutdown().await;
    session.close().await;
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// One connection over a pair of streams.
async fn forward(target: &Target, error: Stream, data: Stream) {
    let port = data.headers.get("port").and_then(|port| port.parse::<u16>().ok());
    let connected = match port {
        Some(port) if port > 0 => target.connect(port).await,
        _ => Err("the stream names no port between 1 and 65535".to_owned()),
    };
    let failed = match connected {
        Ok(connection) => copy(connection, data).await.err().map(|error| error.to_string()),
        Err(why) => {
            let _ = data.writer.finish().await;
            Some(why)
        }
    };
    if let Some(why) = failed {
        let _ = error.writer.send(why.into()).await;
    }
    let _ = error.writer.finish().await;
}

/// Moves bytes in both directions until both have ended.
async fn copy(connection: Box<dyn Connection>, stream: Stream) -> io::Result<()> {
    let Stream {
        mut reader, writer, ..
    } = stream;
    let (mut read, mut write) = tokio::io::split(connection);
    let inwards = async {
        while let Some(data) = reader.next().await {
            if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
                // Nobody listens; what is answered may still come.
                break;
            }
        }
        let _ = write.shutdown().await;
        io::Result::Ok(())
    };
    let outwards = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        loop {
            let came = tokio::select! {
                () = writer.closed() => return Ok(()),
                came = read.read_buf(&mut buffer) => came,
            };
            match came {
                Ok(0) => break,
                Ok(_) => {}
                // A connection that is cut off has ended; that is told by its end.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
                Err(error) => return Err(error),
            }
            // A client that closed the stream has had enough.
            if writer.send(buffer.split().freeze()).await.is_err() {
                return Ok(());
            }
            buffer.reserve(PIECE);
        }
        let _ = writer.finish().await;
        Ok(())
    };
    tokio::pin!(inwards, outwards);
    tokio::select! {
        // Who has ended its answer takes no more questions.
        ended = &mut outwards => ended,
        _ = &mut inwards => outwards.await,
    }
}

/// A pair of channels for each port that the request names.
async fn over_channels(
    socket: websocket::Socket,
    form: Form,
    target: &Target,
    ports: &[u16],
    draining: &CancellationToken,
) {
    let (mut sender, mut receiver) = websocket::channels(socket, form);
    let (to_client, mut outgoing) = mpsc::channel::<(u8, Bytes)>(QUEUE);
    let mut inputs = Vec::new();
    let forwarding = FuturesUnordered::new();
    for (number, port) in (0_u8..).step_by(2).zip(ports) {
        let (input, from_client) = mpsc::channel(QUEUE);
        inputs.push(Some(input));
        forwarding.push(one_port(target, *port, number, from_client, to_client.clone()));
    }
    drop(to_client);
    let inwards = async {
        while let Some((number, data)) = receiver.next().await {
            // Odd channels are for errors, which go the other way.
            let input = inputs
                .get_mut(usize::from(number / 2))
                .filter(|_| number % 2 == 0);
            if let Some(place) = input
                && let Some(open) = place
                && open.send(data).await.is_err()
            {
                *place = None;
            }
        }
    };
    let outwards = async {
        loop {
            let piece = tokio::select! {
                piece = outgoing.recv() => piece,
                () = draining.cancelled() => None,
            };
            match piece {
                Some((number, data)) => sender.send(number, data).await?,
                None => return sender.close().await,
            }
        }
    };
    let forwarded = async {
        forwarding.collect::<()>().await;
        // With the last port the queue ends, and with the queue what is written.
        std::future::pending::<()>().await;
    };
    let left = tokio::select! {
        () = inwards => true,
        sent = outwards => sent.is_err(),
        () = forwarded => false,
    };
    if !left {
        receiver.closed().await;
    }
}

/// The connection of one port, which has one connection only.
async fn one_port(
    target: &Target,
    port: u16,
    number: u8,
    mut from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<(u8, Bytes)>,
) {
    // Both channels begin with the port, the low byte first.
    let head = Bytes::copy_from_slice(&port.to_le_bytes());
    for channel in [number, number + 1] {
        if to_client.send((channel, head.clone())).await.is_err() {
            return;
        }
    }
    let connection = match target.connect(port).await {
        Ok(connection) => connection,
        Err(why) => {
            let _ = to_client.send((number + 1, why.into())).await;
            return;
        }
    };
    let (mut read, mut write) = tokio::io::split(connection);
    let inwards = async {
        while let Some(data) = from_client.recv().await {
            if write.write_all(&data).await.is_err() || write.flush().await.is_err() {
                break;
            }
        }
        let _ = write.shutdown().await;
        std::future::pending::<()>().await;
    };
    let outwards = async {
        let mut buffer = BytesMut::with_capacity(PIECE);
        while let Ok(1..) = read.read_buf(&mut buffer).await {
            if to_client.send((number, buffer.split().freeze())).await.is_err() {
                return;
            }
            buffer.reserve(PIECE);
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_a_request() {
        let read = |query: &str| ports(&Query::parse(query)).map_err(|error| error.message);
        assert_eq!(read("ports=80&ports=443"), Ok(vec![80, 443]));
        assert_eq!(read("ports=80,443"), Ok(vec![80, 443]));
        assert!(read("").unwrap_err().contains("is required"));
        assert!(read("ports=0").unwrap_err().contains("between 1 and 65535"));
        assert!(read("ports=70000").unwrap_err().contains("between 1 and 65535"));
        let many = "ports=1&".repeat(MAX_PORTS + 1);
        assert!(read(&many).unwrap_err().contains("no more than 127"));
    }
}
