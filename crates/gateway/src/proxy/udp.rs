//! Datagrams: those of one client go to one endpoint, and its answers back, until neither has sent any for a while.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::Proxy;
use crate::config::table::{Port, Transport};
use crate::upstream::Address;

/// How long a client is remembered without a datagram, Envoy's default.
const IDLE: Duration = Duration::from_secs(60);
/// Most clients at a time.
const MOST_CLIENTS: usize = 1_024;
/// Largest datagram.
const LARGEST: usize = 65_535;

type Sessions = Arc<Mutex<HashMap<SocketAddr, Arc<UdpSocket>>>>;

/// Serves a port until `stop`.
pub(crate) async fn serve(proxy: Arc<Proxy>, socket: UdpSocket, port: u16, stop: CancellationToken) {
    let socket = Arc::new(socket);
    let sessions: Sessions = Arc::default();
    let mut buffer = vec![0; LARGEST];
    loop {
        let received = tokio::select! {
            () = stop.cancelled() => return,
            () = proxy.draining.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error belongs to a datagram that was sent before, and not to this port.
        let Ok((length, client)) = received else {
            continue;
        };
        let known = sessions.lock().get(&client).cloned();
        let backend = match known {
            Some(backend) => backend,
            None => match open(&proxy, port, client, &socket, &sessions, &stop).await {
                Some(backend) => backend,
                None => continue,
            },
        };
        let _ = backend.send(&buffer[..length]).await;
    }
}

async fn open(
    proxy: &Arc<Proxy>,
    port: u16,
    client: SocketAddr,
    socket: &Arc<UdpSocket>,
    sessions: &Sessions,
    stop: &CancellationToken,
) -> Option<Arc<UdpSocket>> {
    if sessions.lock().len() >= MOST_CLIENTS {
        return None;
    }
    let found = proxy.table.load().ports.get(&(Transport::Udp, port)).cloned();
    let Some(Port::Raw(Some(route))) = found else {
        return None;
    };
    if let Some(why) = proxy.dial.udp_unavailable().await {
        tracing::debug!(port, "a datagram is dropped: {why}");
        return None;
    }
    let (endpoints, _) = route.cluster.choose()?.target.as_ref()?;
    let endpoint = endpoints.pick(route.cluster.balance, &[])?;
    let target = match &endpoint.address {
        Address::Pod(target) => target.address,
        Address::Outside { host, port, .. } => {
            tokio::net::lookup_host((&**host, *port)).await.ok()?.next()?
        }
    };
    let any: SocketAddr = match target {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let backend = UdpSocket::bind(any).await.ok()?;
    backend.connect(target).await.ok()?;
    let backend = Arc::new(backend);
    sessions.lock().insert(client, Arc::clone(&backend));
    let (socket, sessions, own) = (Arc::clone(socket), Arc::clone(sessions), Arc::clone(&backend));
    let (stop, draining) = (stop.clone(), proxy.draining.clone());
    proxy.tasks.spawn(async move {
        let mut buffer = vec![0; LARGEST];
        loop {
            let answer = tokio::select! {
                answer = tokio::time::timeout(IDLE, own.recv(&mut buffer)) => answer,
                () = stop.cancelled() => break,
                () = draining.cancelled() => break,
            };
            match answer {
                Ok(Ok(length)) => {
                    let _ = socket.send_to(&buffer[..length], client).await;
                }
                // Refused by the endpoint, or silent for too long: the next datagram may go elsewhere.
                Ok(Err(_)) | Err(_) => break,
            }
        }
        sessions.lock().remove(&client);
    });
    Some(backend)
}
