//! Connections that are passed on as they are: TCP, and TLS that a backend ends.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{Proxy, idle};
use crate::config::table::RawRoute;
use crate::dial::Stream;
use crate::upstream::{Active, Endpoint, Protocol, connect};

/// Most endpoints that a connection is offered to.
const MOST_CONNECTS: usize = 5;

/// Passes a connection on. `first` is what was read from it already.
pub(crate) async fn forward(
    proxy: &Proxy,
    route: &RawRoute,
    mut client: TcpStream,
    peer: SocketAddr,
    first: Bytes,
) -> io::Result<()> {
    let denied = route
        .authorization
        .as_ref()
        .is_some_and(|rules| !rules.admits(peer.ip().to_canonical()));
    if denied {
        return Ok(());
    }
    let Ok(_permit) = route.cluster.limits.try_connection() else {
        return Ok(());
    };
    let (mut backend, _active) = open(proxy, route).await?;
    backend.write_all(&first).await?;
    tokio::select! {
        joined = idle::join(&mut client, &mut backend, idle::CONNECTION) => joined,
        () = proxy.draining.cancelled() => Ok(()),
    }
}

async fn open(proxy: &Proxy, route: &RawRoute) -> io::Result<(Box<dyn Stream>, Active)> {
    let nowhere = || {
        io::Error::new(
            io::ErrorKind::NotConnected,
            format!("{} leads to no ready endpoint", route.route),
        )
    };
    let backend = route.cluster.choose().ok_or_else(nowhere)?;
    let (endpoints, _) = backend.target.as_ref().ok_or_else(nowhere)?;
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut last = nowhere();
    while tried.len() < MOST_CONNECTS {
        let Some(endpoint) = endpoints.pick(route.cluster.balance, &tried) else {
            break;
        };
        if tried.iter().any(|other| Arc::ptr_eq(other, &endpoint)) {
            break;
        }
        let limit = route.cluster.connect_timeout;
        match connect::connect(&*proxy.dial, &endpoint.address, Protocol::Http1, limit).await {
            Ok(stream) => return Ok((stream, Active::new(endpoint))),
            Err(error) => {
                endpoint.mark_failed();
                last = error;
                tried.push(endpoint);
            }
        }
    }
    Err(last)
}
