//! What leaves a cell: names and connections that its relay asks for, judged by the cluster's network policies.

mod judge;
mod outside;
mod told;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use choreo_reach::{EgressPorts, Flow, Party, Pod as PodParty, Policies, Transport as Carrier};
use k8s_openapi::api::core::v1::Pod;
use tokio::{
    net::{TcpStream, UdpSocket, UnixListener, UnixStream},
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{Runtime, services};
use crate::{
    core::Name,
    relay::{
        join,
        protocol::{
            DOMAIN, Destination, Found, Opened, Question, Transport, receive, receive_datagram, send,
            send_datagram,
        },
    },
};
pub(crate) use judge::closed_inside;
use judge::{carrier, gateway_of, party, pod_at, policies, reasons};
use outside::{is_inside, own_addresses, resolve};
pub(crate) use told::Told;
use told::deny;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a flow of datagrams lives without one.
const IDLE: Duration = Duration::from_secs(30);
/// Questions and connections of one cell at a time. More are refused: the files of this process are there for all cells, and for the API.
const AT_ONCE: usize = 512;
/// Ports that are listened on for a destination that policies allow on every port: those that services are usually at.
const USUAL: [u16; 33] = [
    22, 25, 80, 110, 143, 389, 443, 465, 587, 636, 993, 995, 1433, 1521, 1883, 3000, 3306, 4222, 4317, 4318,
    5432, 5671, 5672, 6379, 8000, 8080, 8443, 8883, 9000, 9092, 9200, 9443, 27017,
];

/// Where the gateway of the local data plane listens, as calls from cells reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayAddresses {
    /// Plain HTTP.
    pub http: SocketAddr,
    /// HTTPS.
    pub https: SocketAddr,
}

/// Serves the questions of one relay.
pub(crate) async fn serve(
    runtime: Weak<Runtime>,
    namespace: String,
    listener: UnixListener,
    ready: Arc<Notify>,
) {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(namespace, "cannot take a question of the cell's relay: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(runtime) = runtime.upgrade() else { return };
        let Ok(permit) = permits.clone().try_acquire_owned() else {
            tracing::debug!(
                namespace,
                "a cell has {AT_ONCE} connections out of it, and gets no more"
            );
            continue;
        };
        let (namespace, ready) = (namespace.clone(), ready.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(&runtime, &namespace, stream, &ready).await {
                tracing::debug!(namespace, "a question of a relay came to nothing: {error}");
            }
            drop(permit);
        });
    }
}

async fn answer(
    runtime: &Arc<Runtime>,
    namespace: &str,
    mut stream: UnixStream,
    ready: &Notify,
) -> io::Result<()> {
    match receive(&mut stream).await? {
        Question::Ready => {
            ready.notify_one();
            Ok(())
        }
        Question::Lookup { source, name } => {
            let found = lookup(runtime, namespace, source, &name).await;
            send(&mut stream, &found).await
        }
        Question::Connect {
            source,
            destination,
            port,
            transport,
        } => {
            let wanted = Wanted {
                destination,
                port,
                transport,
            };
            connect(runtime, namespace, source, &wanted, stream).await
        }
    }
}

/// Ports of a destination as the relay has to listen on them.
fn expected(ports: &EgressPorts) -> BTreeSet<(Transport, u16)> {
    let mut all = BTreeSet::new();
    if ports.any {
        all.extend(USUAL.map(|port| (Transport::Tcp, port)));
        all.insert((Transport::Udp, 443));
    }
    for (carrier, first, last) in &ports.named {
        let transport = match carrier {
            Carrier::Tcp => Transport::Tcp,
            Carrier::Udp => Transport::Udp,
        };
        if last.saturating_sub(*first) < 64 {
            all.extend((*first..=*last).map(|port| (transport, port)));
        } else {
            let usual = USUAL.into_iter().filter(|port| (first..=last).contains(&port));
            all.extend(usual.map(|port| (transport, port)));
        }
    }
    all
}

async fn lookup(runtime: &Runtime, namespace: &str, source: Ipv4Addr, name: &str) -> Found {
    let world = &runtime.context.world;
    let service = |text: &str| {
        let (service, space) = text.split_once('.')?;
        let found = world.services.get(&Name::new(space, service))?;
        let spec = found.spec.clone().unwrap_or_default();
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let transport = services::protocol_of(port.protocol.as_deref())?;
            Some((transport, u16::try_from(port.port).ok()?))
        });
        Some(Found::Destination {
            destination: Destination::Service {
                namespace: space.to_owned(),
                name: service.to_owned(),
            },
            ports: ports.collect(),
        })
    };
    if let Some(short) = name.strip_suffix(&format!(".svc.{DOMAIN}")) {
        return service(short).unwrap_or(Found::Nothing);
    }
    if let Some(found) = service(name) {
        return found;
    }
    let Some(pod) = pod_at(runtime, namespace, source) else {
        return Found::Nothing;
    };
    let policies = match policies(runtime, &[namespace]) {
        Ok(policies) => policies,
        Err(why) => {
            deny(runtime, &pod, name, &why);
            return Found::Nothing;
        }
    };
    let from = party(runtime, &pod);
    if let Some(gateway) = gateway_of(runtime, name) {
        let ports = policies.egress_ports(&from, &Party::Pod(gateway));
        return found_host(runtime, &pod, name, &ports, &policies, &from);
    }
    let mut ports = policies.egress_ports(&from, &Party::Host(name.to_owned()));
    if ports.is_empty() && !policies.reaches_networks(&from) {
        // Nobody outside is asked for a name that nothing allows: the question itself could carry something out.
        return found_host(runtime, &pod, name, &ports, &policies, &from);
    }
    let addresses = match resolve(runtime, name).await {
        Ok(addresses) => addresses,
        Err(_) if ports.is_empty() => Vec::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
        Err(error) => {
            tracing::debug!(name, "cannot be resolved: {error}");
            return Found::Failed;
        }
    };
    for address in addresses {
        let more = policies.egress_ports(&from, &Party::Address(address));
        ports.any |= more.any;
        ports.named.extend(more.named);
    }
    found_host(runtime, &pod, name, &ports, &policies, &from)
}

fn found_host(
    runtime: &Runtime,
    pod: &Pod,
    name: &str,
    ports: &EgressPorts,
    policies: &Policies,
    from: &PodParty,
) -> Found {
    let ports = expected(ports);
    if ports.is_empty() {
        let flow = Flow {
            from: &Party::Pod(from.clone()),
            to: &Party::Host(name.to_owned()),
            port: 443,
            transport: Carrier::Tcp,
            request: None,
        };
        let why = reasons(&policies.explain(&flow));
        deny(runtime, pod, name, &why);
        return Found::Nothing;
    }
    Found::Destination {
        destination: Destination::Host(name.to_owned()),
        ports,
    }
}

/// A connection that a Pod wants.
struct Wanted {
    destination: Destination,
    port: u16,
    transport: Transport,
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.destination {
            Destination::Host(host) => write!(f, "{host}:{}", self.port),
            Destination::Service { namespace, name } => write!(f, "Service {namespace}/{name}:{}", self.port),
        }?;
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str(" (UDP)"),
        }
    }
}

/// Where a connection that is let through goes.
enum Target {
    Tcp(Box<dyn choreo_pod_access::Connection>),
    Udp(UdpSocket),
}

async fn connect(
    runtime: &Arc<Runtime>,
    namespace: &str,
    source: Ipv4Addr,
    wanted: &Wanted,
    mut stream: UnixStream,
) -> io::Result<()> {
    let Some(pod) = pod_at(runtime, namespace, source) else {
        return send(&mut stream, &Opened::No).await;
    };
    let opened = match &wanted.destination {
        Destination::Host(host) => open_host(runtime, &pod, host, wanted).await,
        Destination::Service { namespace, name } => {
            open_service(runtime, &pod, namespace, name, wanted).await
        }
    };
    match opened {
        Ok(target) => {
            send(&mut stream, &Opened::Yes).await?;
            match target {
                Target::Tcp(mut target) => join(&mut stream, &mut target).await,
                Target::Udp(socket) => carry_datagrams(stream, socket).await,
            }
            Ok(())
        }
        Err(Refusal::Denied(why)) => {
            deny(runtime, &pod, &wanted.to_string(), &why);
            send(&mut stream, &Opened::No).await
        }
        Err(Refusal::Failed(error)) => {
            tracing::debug!(%wanted, "cannot connect: {error}");
            send(&mut stream, &Opened::No).await
        }
    }
}

/// Why a connection is not made.
enum Refusal {
    Denied(String),
    Failed(io::Error),
}

impl From<io::ErrorKind> for Refusal {
    fn from(kind: io::ErrorKind) -> Self {
        Self::Failed(kind.into())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

async fn open_host(runtime: &Runtime, pod: &Pod, host: &str, wanted: &Wanted) -> Result<Target, Refusal> {
    let from = party(runtime, pod);
    let policies = policies(runtime, &[&from.namespace]).map_err(Refusal::Denied)?;
    let judge = |to: &Party, port: u16| {
        let flow = Flow {
            from: &Party::Pod(from.clone()),
            to,
            port,
            transport: carrier(wanted.transport),
            request: None,
        };
        policies.explain(&flow)
    };
    if let Some(gateway) = gateway_of(runtime, host) {
        let explanation = judge(&Party::Pod(gateway), wanted.port);
        if !explanation.egress.allows() {
            return Err(Refusal::Denied(reasons(&explanation)));
        }
        let gateway = runtime.gateway.load_full().ok_or(io::ErrorKind::NotFound)?;
        let address = match wanted.port {
            80 => gateway.http,
            443 => gateway.https,
            port if port == gateway.https.port() => gateway.https,
            _ => gateway.http,
        };
        return Ok(Target::Tcp(Box::new(TcpStream::connect(address).await?)));
    }
    let addresses = resolve(runtime, host).await?;
    let by_name = judge(&Party::Host(host.to_owned()), wanted.port);
    let allowed: Vec<IpAddr> = addresses
        .iter()
        .copied()
        .filter(|address| by_name.allowed() || judge(&Party::Address(*address), wanted.port).allowed())
        .collect();
    if allowed.is_empty() {
        return Err(Refusal::Denied(reasons(&by_name)));
    }
    let overridden = runtime.options.hosts.contains_key(host);
    let own = own_addresses().await?;
    let outside: Vec<SocketAddr> = allowed
        .into_iter()
        .filter(|address| overridden || !is_inside(&runtime.options.pool, &own, *address))
        .map(|address| SocketAddr::new(address, wanted.port))
        .collect();
    if outside.is_empty() {
        return Err(Refusal::Denied(
            "its name leads to this machine itself or into a cell, which names from outside may not"
                .to_owned(),
        ));
    }
    match wanted.transport {
        Transport::Tcp => {
            let stream = timeout(CONNECT, TcpStream::connect(&*outside))
                .await
                .map_err(io::Error::from)??;
            Ok(Target::Tcp(Box::new(stream)))
        }
        Transport::Udp => {
            let to = outside.first().copied().ok_or(io::ErrorKind::NotFound)?;
            let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(local).await?;
            socket.connect(to).await?;
            Ok(Target::Udp(socket))
        }
    }
}

/// A Service of another namespace: by way of one of its endpoints that both sides' policies allow.
async fn open_service(
    runtime: &Arc<Runtime>,
    pod: &Pod,
    namespace: &str,
    name: &str,
    wanted: &Wanted,
) -> Result<Target, Refusal> {
    let world = &runtime.context.world;
    let from = party(runtime, pod);
    let service = world
        .services
        .get(&Name::new(namespace, name))
        .ok_or(io::ErrorKind::NotFound)?;
    let spec = service.spec.clone().unwrap_or_default();
    let port = spec
        .ports
        .iter()
        .flatten()
        .find(|port| {
            u16::try_from(port.port) == Ok(wanted.port)
                && services::protocol_of(port.protocol.as_deref()) == Some(wanted.transport)
        })
        .ok_or(io::ErrorKind::NotFound)?;
    let slices = world.endpoint_slices.in_namespace(namespace);
    let mut endpoints = services::endpoints(&slices, name, port.name.as_deref(), wanted.transport);
    if endpoints.is_empty() {
        return Err(Refusal::Failed(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the Service has no ready endpoint",
        )));
    }
    let first = rand::random_range(0..endpoints.len());
    endpoints.rotate_left(first);
    let policies = policies(runtime, &[&from.namespace, namespace]).map_err(Refusal::Denied)?;
    let (mut why, mut failure) = (None, None);
    for endpoint in endpoints {
        let Some(target) = pod_at(runtime, namespace, *endpoint.ip()) else {
            continue;
        };
        let flow = Flow {
            from: &Party::Pod(from.clone()),
            to: &Party::Pod(party(runtime, &target)),
            port: endpoint.port(),
            transport: carrier(wanted.transport),
            request: None,
        };
        let explanation = policies.explain(&flow);
        if !explanation.allowed() {
            why = Some(reasons(&explanation));
            continue;
        }
        let connection = open_endpoint(runtime, namespace, SocketAddr::V4(endpoint), wanted.transport);
        match timeout(CONNECT, connection).await.map_err(io::Error::from) {
            Ok(Ok(target)) => return Ok(target),
            Ok(Err(error)) | Err(error) => failure = Some(error),
        }
    }
    match (why, failure) {
        (_, Some(error)) => Err(Refusal::Failed(error)),
        (Some(why), None) => Err(Refusal::Denied(why)),
        (None, None) => Err(Refusal::Failed(io::ErrorKind::ConnectionRefused.into())),
    }
}

async fn open_endpoint(
    runtime: &Arc<Runtime>,
    namespace: &str,
    endpoint: SocketAddr,
    transport: Transport,
) -> io::Result<Target> {
    match transport {
        Transport::Tcp => runtime.dial(namespace, endpoint).await.map(Target::Tcp),
        Transport::Udp => {
            let socket = UdpSocket::bind("0.0.0.0:0").await?;
            socket.connect(endpoint).await?;
            Ok(Target::Udp(socket))
        }
    }
}

async fn carry_datagrams(stream: UnixStream, socket: UdpSocket) {
    let (mut from, mut to) = stream.into_split();
    let socket = Arc::new(socket);
    let out = socket.clone();
    let outgoing = async move {
        while let Ok(Ok(datagram)) = timeout(IDLE, receive_datagram(&mut from)).await {
            if out.send(&datagram).await.is_err() {
                return;
            }
        }
    };
    let incoming = async move {
        let mut buffer = vec![0; 65_536];
        while let Ok(Ok(size)) = timeout(IDLE, socket.recv(&mut buffer)).await {
            if send_datagram(&mut to, &buffer[..size]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = outgoing => {}
        () = incoming => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_expected() {
        let mut ports = EgressPorts::default();
        assert!(expected(&ports).is_empty());
        ports.named.insert((Carrier::Tcp, 8443, 8443));
        ports.named.insert((Carrier::Udp, 53, 54));
        let all = expected(&ports);
        let wanted = [(Transport::Tcp, 8443), (Transport::Udp, 53), (Transport::Udp, 54)];
        assert_eq!(all, wanted.into());
        ports.named = [(Carrier::Tcp, 1, 65_535)].into();
        assert!(expected(&ports).contains(&(Transport::Tcp, 5432)));
    }
}
