//! The ports that are listened on.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::config::table::{Socket, Transport};
use crate::proxy::workers::Turn;
use crate::proxy::{Proxy, server, udp};

/// Ports that are bound before any Gateway is known, so that nobody else takes them and a mistake shows at once.
#[derive(Default)]
pub struct Sockets {
    tcp: HashMap<u16, std::net::TcpListener>,
    udp: HashMap<u16, std::net::UdpSocket>,
}

impl Sockets {
    /// Binds a TCP port; 0 takes any free one. The port.
    ///
    /// # Errors
    /// Those of the system.
    pub fn bind_tcp(&mut self, address: IpAddr, port: u16) -> io::Result<u16> {
        let listener = std::net::TcpListener::bind(SocketAddr::new(address, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        self.tcp.insert(port, listener);
        Ok(port)
    }

    /// Binds a UDP port; 0 takes any free one. The port.
    ///
    /// # Errors
    /// Those of the system.
    pub fn bind_udp(&mut self, address: IpAddr, port: u16) -> io::Result<u16> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(address, port))?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        self.udp.insert(port, socket);
        Ok(port)
    }
}

/// What is listened on now.
pub(crate) struct Ports {
    prepared: Sockets,
    address: IpAddr,
    turn: Turn,
    open: BTreeMap<Socket, CancellationToken>,
    failed: BTreeMap<Socket, String>,
}

impl Ports {
    pub(crate) fn new(prepared: Sockets, address: IpAddr, turn: Turn) -> Self {
        Self {
            prepared,
            address,
            turn,
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Why ports cannot be listened on.
    pub(crate) fn unbound(&self) -> BTreeMap<Socket, String> {
        self.failed.clone()
    }

    /// Listens on what is wanted, and on nothing else. Whether other ports fail than before.
    pub(crate) fn follow(&mut self, wanted: &BTreeSet<Socket>, proxy: &Arc<Proxy>) -> bool {
        let gone: Vec<Socket> = self
            .open
            .keys()
            .filter(|socket| !wanted.contains(socket))
            .copied()
            .collect();
        for socket in gone {
            if let Some(stop) = self.open.remove(&socket) {
                stop.cancel();
            }
        }
        let mut failed = BTreeMap::new();
        for socket in wanted {
            if self.open.contains_key(socket) {
                continue;
            }
            match self.open(*socket, proxy) {
                Ok(stop) => drop(self.open.insert(*socket, stop)),
                Err(error) => {
                    let (transport, port) = socket;
                    let why = match error.kind() {
                        io::ErrorKind::AddrInUse => format!(
                            "{transport:?} port {port} of {} is in use by another process",
                            self.address
                        ),
                        io::ErrorKind::PermissionDenied => {
                            format!(
                                "{transport:?} port {port} is for privileged processes: choose one above 1023"
                            )
                        }
                        _ => format!(
                            "{transport:?} port {port} of {} cannot be bound: {error}",
                            self.address
                        ),
                    };
                    failed.insert(*socket, why);
                }
            }
        }
        let differs = failed != self.failed;
        self.failed = failed;
        differs
    }

    fn open(&mut self, (transport, port): Socket, proxy: &Arc<Proxy>) -> io::Result<CancellationToken> {
        let stop = CancellationToken::new();
        let address = SocketAddr::new(self.address, port);
        match transport {
            Transport::Tcp => {
                let listener = match self.prepared.tcp.remove(&port) {
                    Some(listener) => listener,
                    None => {
                        let listener = std::net::TcpListener::bind(address)?;
                        listener.set_nonblocking(true)?;
                        listener
                    }
                };
                let listener = TcpListener::from_std(listener)?;
                let turn = self.turn.clone();
                proxy.tasks.spawn(server::accept(
                    Arc::clone(proxy),
                    turn,
                    listener,
                    port,
                    stop.clone(),
                ));
            }
            Transport::Udp => {
                let socket = match self.prepared.udp.remove(&port) {
                    Some(socket) => socket,
                    None => {
                        let socket = std::net::UdpSocket::bind(address)?;
                        socket.set_nonblocking(true)?;
                        socket
                    }
                };
                let socket = UdpSocket::from_std(socket)?;
                proxy
                    .tasks
                    .spawn(udp::serve(Arc::clone(proxy), socket, port, stop.clone()));
            }
        }
        Ok(stop)
    }

    /// Listens on nothing any more.
    pub(crate) fn close(&mut self) {
        for stop in std::mem::take(&mut self.open).into_values() {
            stop.cancel();
        }
    }
}
