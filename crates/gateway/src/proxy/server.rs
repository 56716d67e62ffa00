//! Accepts connections and finds out what they speak.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::http::{Via, handle};
use super::rewind::Rewind;
use super::workers::Turn;
use super::{Proxy, idle, raw, tls};
use crate::config::table::{Port, Transport};

/// How long a client may take for the head of a request, and between requests of one connection. It is what ends connections of
/// those who send a byte now and then (slow loris).
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Most headers of a request, and the largest head. Beyond it the answer is 431. Envoy's defaults are 100 and 60 KiB.
const MOST_HEADERS: usize = 100;
const LARGEST_HEAD: usize = 60 * 1024;
/// Most requests at a time over one connection of HTTP/2, Envoy Gateway's default.
const MOST_STREAMS: u32 = 100;
/// Silence after which the system asks whether a client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How connections of HTTP/2 begin (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long requests under way may take to end when the gateway stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// Accepts connections until `stop`, and hands them out.
pub(crate) async fn accept(
    proxy: Arc<Proxy>,
    turn: Turn,
    listener: TcpListener,
    port: u16,
    stop: CancellationToken,
) {
    loop {
        // Who waits here waits in the kernel's queue, and costs nothing.
        let Ok(permit) = Arc::clone(&proxy.connections).acquire_owned().await else {
            return;
        };
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually the process has no file descriptors left: trying again at once would only burn time.
                tracing::warn!(port, "cannot accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        // A client that is gone without a word is noticed, also where nothing is to be sent to it.
        let _ = socket2::SockRef::from(&stream)
            .set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE));
        // Whoever serves it waits for it, too.
        let stream = match stream.into_std() {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(port, "cannot hand a connection over: {error}");
                continue;
            }
        };
        let of_connection = Arc::clone(&proxy);
        let serving = async move {
            let outcome = match TcpStream::from_std(stream) {
                Ok(stream) => Box::pin(connection(of_connection, stream, peer, port)).await,
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                tracing::debug!(%peer, port, "connection ended: {error}");
            }
            drop(permit);
        };
        drop(turn.next().spawn(proxy.tasks.track_future(serving)));
    }
}

async fn connection(proxy: Arc<Proxy>, stream: TcpStream, peer: SocketAddr, port: u16) -> io::Result<()> {
    let found = proxy.table.load().ports.get(&(Transport::Tcp, port)).cloned();
    match found {
        None => Ok(()),
        Some(Port::Http(_)) => {
            let via = Via {
                peer,
                port,
                secure: false,
            };
            serve_detected(proxy, stream, via).await
        }
        Some(Port::Tls(port_of_tls)) => tls::connection(proxy, &port_of_tls, stream, peer, port).await,
        Some(Port::Raw(None)) => Ok(()),
        Some(Port::Raw(Some(route))) => raw::forward(&proxy, &route, stream, peer, Bytes::new()).await,
    }
}

/// Serves HTTP of the version that the first bytes are of.
async fn serve_detected(proxy: Arc<Proxy>, mut stream: TcpStream, via: Via) -> io::Result<()> {
    let mut first = BytesMut::with_capacity(PREFACE.len());
    // One limit for all of it: a byte now and then does not put it off.
    let until = tokio::time::Instant::now() + HEAD_TIMEOUT;
    let version2 = loop {
        let seen = first.len();
        if first[..] != PREFACE[..seen] {
            break false;
        }
        if seen == PREFACE.len() {
            break true;
        }
        let mut rest = (&mut stream).take((PREFACE.len() - seen) as u64);
        let read = tokio::select! {
            read = tokio::time::timeout_at(until, rest.read_buf(&mut first)) => read,
            () = proxy.draining.cancelled() => return Ok(()),
        };
        if read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? == 0 {
            return Ok(());
        }
    };
    serve(proxy, Rewind::new(first.freeze(), stream), via, version2).await
}

/// Serves the requests of a connection.
pub(crate) async fn serve<S>(proxy: Arc<Proxy>, stream: S, via: Via, version2: bool) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let draining = proxy.draining.clone();
    let service = service_fn(move |request| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(handle(proxy, via, request).await) }
    });
    let stream = TokioIo::new(idle::WriteLimit::new(stream, idle::STREAM));
    let result = if version2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .max_header_list_size(LARGEST_HEAD as u32)
            .keep_alive_interval(HEAD_TIMEOUT)
            .adaptive_window(true);
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service));
        tokio::select! {
            result = connection.as_mut() => result,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(MOST_HEADERS)
            .max_header_size(LARGEST_HEAD);
        let mut connection = std::pin::pin!(builder.serve_connection(stream, service).with_upgrades());
        tokio::select! {
            result = connection.as_mut() => result,
            () = draining.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    result.map_err(io::Error::other)
}
