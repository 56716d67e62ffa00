//! Listeners for what has an address, and what becomes of connections to them.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream, UdpSocket, UnixStream},
    task::JoinHandle,
};

use super::{
    Relay,
    protocol::{Destination, Opened, Question, Transport, receive, send},
    udp,
};

/// How long an endpoint may take to accept before the next one is tried.
const CONNECT: Duration = Duration::from_secs(3);

/// Where connections to a listener go.
pub(super) enum Backend {
    /// To Pods of the cell, in turn.
    Endpoints {
        list: RwLock<Vec<SocketAddrV4>>,
        next: AtomicUsize,
    },
    /// To whatever the agent makes of it.
    Agent(Destination),
}

impl Backend {
    /// All endpoints, beginning with the one whose turn it is.
    pub(super) fn turn(&self) -> Vec<SocketAddrV4> {
        let Backend::Endpoints { list, next } = self else {
            return Vec::new();
        };
        let mut list = list.read().clone();
        if !list.is_empty() {
            let first = next.fetch_add(1, Ordering::Relaxed) % list.len();
            list.rotate_left(first);
        }
        list
    }
}

type Key = (Ipv4Addr, u16, Transport);

struct Listener {
    backend: Arc<Backend>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
pub(super) struct Forwards {
    listeners: Mutex<HashMap<Key, Listener>>,
}

impl Forwards {
    /// Makes the listeners of the cell's Services those that are wanted.
    pub(super) async fn configure(
        &self,
        relay: &Arc<Relay>,
        wanted: Vec<(Ipv4Addr, u16, Transport, Vec<SocketAddrV4>)>,
    ) {
        let keys: std::collections::HashSet<Key> = wanted
            .iter()
            .map(|(address, port, transport, _)| (*address, *port, *transport))
            .collect();
        // Connections that are there go on; a listener that goes takes no new ones.
        self.listeners
            .lock()
            .retain(|key, listener| keys.contains(key) || matches!(&*listener.backend, Backend::Agent(_)));
        for (address, port, transport, endpoints) in wanted {
            let key = (address, port, transport);
            {
                let mut listeners = self.listeners.lock();
                if let Some(backend) = listeners.get(&key).map(|listener| listener.backend.clone()) {
                    if let Backend::Endpoints { list, .. } = &*backend {
                        *list.write() = endpoints;
                        continue;
                    }
                    // The address was somebody else's before.
                    listeners.remove(&key);
                }
            }
            let backend = Backend::Endpoints {
                list: RwLock::new(endpoints),
                next: AtomicUsize::new(0),
            };
            self.listen(relay, key, backend).await;
        }
    }

    /// Listens for what is outside of the cell, unless it does already.
    pub(super) async fn expect(
        &self,
        relay: &Arc<Relay>,
        address: Ipv4Addr,
        destination: &Destination,
        ports: impl IntoIterator<Item = (Transport, u16)>,
    ) {
        for (transport, port) in ports {
            let key = (address, port, transport);
            let known = {
                let listeners = self.listeners.lock();
                listeners.get(&key).is_some_and(
                    |known| matches!(&*known.backend, Backend::Agent(known) if known == destination),
                )
            };
            if !known {
                self.listeners.lock().remove(&key);
                self.listen(relay, key, Backend::Agent(destination.clone())).await;
            }
        }
    }

    async fn listen(&self, relay: &Arc<Relay>, key: Key, backend: Backend) {
        let (address, port, transport) = key;
        let backend = Arc::new(backend);
        let at = SocketAddr::from((address, port));
        let task = match transport {
            Transport::Tcp => TcpListener::bind(at)
                .await
                .map(|listener| tokio::spawn(accept(relay.clone(), listener, backend.clone(), port))),
            Transport::Udp => UdpSocket::bind(at).await.map(|socket| {
                tokio::spawn(udp::serve(relay.clone(), Arc::new(socket), backend.clone(), port))
            }),
        };
        match task {
            Ok(task) => {
                self.listeners.lock().insert(key, Listener { backend, task });
            }
            Err(error) => complain(&format!("cannot listen on {at}: {error}")),
        }
    }
}

/// For the container's log, which is where somebody looks when a name does not connect.
pub(super) fn complain(text: &str) {
    #[expect(clippy::print_stderr, reason = "a relay has no other log")]
    {
        eprintln!("{text}");
    }
}

async fn accept(relay: Arc<Relay>, listener: TcpListener, backend: Arc<Backend>, port: u16) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let (relay, backend) = (relay.clone(), backend.clone());
                tokio::spawn(async move {
                    connect(&relay, client, from, &backend, port).await;
                });
            }
            Err(error) => {
                complain(&format!("cannot accept on port {port}: {error}"));
                // Out of file descriptors, most likely: those in use will end.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connect(relay: &Relay, mut client: TcpStream, from: SocketAddr, backend: &Backend, port: u16) {
    match backend {
        Backend::Endpoints { .. } => {
            for endpoint in backend.turn() {
                if let Ok(Ok(mut target)) = tokio::time::timeout(CONNECT, TcpStream::connect(endpoint)).await
                {
                    join(&mut client, &mut target).await;
                    return;
                }
            }
            refuse(&client);
        }
        Backend::Agent(destination) => match open(relay, from, destination, port, Transport::Tcp).await {
            Ok(mut stream) => join(&mut client, &mut stream).await,
            Err(_) => refuse(&client),
        },
    }
}

/// A connection by way of the agent, if it lets it.
pub(super) async fn open(
    relay: &Relay,
    from: SocketAddr,
    destination: &Destination,
    port: u16,
    transport: Transport,
) -> io::Result<UnixStream> {
    let IpAddr::V4(source) = from.ip() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let mut stream = relay.agent().await?;
    let question = Question::Connect {
        source,
        destination: destination.clone(),
        port,
        transport,
    };
    send(&mut stream, &question).await?;
    match receive(&mut stream).await? {
        Opened::Yes => Ok(stream),
        Opened::No => Err(io::ErrorKind::PermissionDenied.into()),
    }
}

/// Closes with a reset, so that the client sees a connection that was refused and not one that ended well.
fn refuse(client: &TcpStream) {
    let _ = client.set_zero_linger();
}

/// Carries bytes both ways until both sides have ended.
pub(crate) async fn join(
    one: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
    two: &mut (impl AsyncRead + AsyncWrite + Unpin + ?Sized),
) {
    // That one side broke off is nothing to be told: the other sees its end.
    let _ = copy_bidirectional(one, two).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_take_turns() {
        let list: Vec<SocketAddrV4> = (2..5)
            .map(|n| SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, n), 80))
            .collect();
        let backend = Backend::Endpoints {
            list: RwLock::new(list.clone()),
            next: AtomicUsize::new(0),
        };
        let firsts: Vec<_> = (0..6).map(|_| backend.turn()[0]).collect();
        assert_eq!(firsts, [list.clone(), list].concat());
    }
}
