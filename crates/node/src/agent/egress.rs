//! What leaves a cell: names and connections that its relay asks for, judged by the cluster's network policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Weak},
    time::Duration,
};

use choreo_reach::{
    EgressPorts, Explanation, Flow, Party, Pod as PodParty, Policies, Side, Transport as Carrier,
};
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    net::{TcpStream, UdpSocket, UnixListener, UnixStream},
    sync::Notify,
    time::{Instant, timeout},
};

use super::{Runtime, cell};
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

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a flow of datagrams lives without one.
const IDLE: Duration = Duration::from_secs(30);
/// A denied connection is told at most this often for a Pod and a destination.
const TOLD: Duration = Duration::from_secs(60);
/// Ports that are listened on for a destination that policies allow on every port: those that services are usually at.
const USUAL: [u16; 33] = [
    22, 25, 80, 110, 143, 389, 443, 465, 587, 636, 993, 995, 1433, 1521, 1883, 3000, 3306, 4222, 4317, 4318,
    5432, 5671, 5672, 6379, 8000, 8080, 8443, 8883, 9000, 9092, 9200, 9443, 27017,
];

/// What has been told of denied connections, and when.
#[derive(Default)]
pub(crate) struct Told(Mutex<BTreeMap<(String, String), Instant>>);

impl Told {
    fn is_news(&self, pod: &str, what: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        told.retain(|_, time| now.duration_since(*time) < TOLD);
        let key = (pod.to_owned(), what.to_owned());
        let news = !told.contains_key(&key);
        if news {
            told.insert(key, now);
        }
        news
    }
}

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
        let (namespace, ready) = (namespace.clone(), ready.clone());
        tokio::spawn(async move {
            if let Err(error) = answer(&runtime, &namespace, stream, &ready).await {
                tracing::debug!(namespace, "a question of a relay came to nothing: {error}");
            }
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

/// The Pod of a cell that has an address.
fn pod_at(runtime: &Runtime, namespace: &str, address: Ipv4Addr) -> Option<Arc<Pod>> {
    let text = address.to_string();
    let pods = runtime.context.world.pods.in_namespace(namespace);
    pods.into_iter().find(|pod| {
        let status = pod.status.as_ref();
        let finished = status
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        !finished && status.and_then(|status| status.pod_ip.as_ref()) == Some(&text)
    })
}

/// A Pod as policies look at it.
fn party(runtime: &Runtime, pod: &Pod) -> PodParty {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let labels = runtime
        .context
        .world
        .namespaces
        .get(&Name::new("", &namespace))
        .and_then(|namespace| namespace.metadata.labels.clone());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    PodParty {
        namespace,
        namespace_labels: labels.unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses: pod
            .status
            .iter()
            .filter_map(|status| status.pod_ip.as_deref()?.parse().ok())
            .collect(),
        ports: ports
            .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
            .collect(),
    }
}

/// The policies of the namespaces that a flow touches. One that cannot be judged closes everything: to pass it over could open what it
/// closes.
fn policies(runtime: &Runtime, namespaces: &[&str]) -> Result<Policies, String> {
    let world = &runtime.context.world;
    let mut objects: Vec<Value> = Vec::new();
    for namespace in namespaces.iter().collect::<BTreeSet<_>>() {
        for policy in world.network_policies.in_namespace(namespace) {
            let mut object = serde_json::to_value(&*policy).map_err(|error| error.to_string())?;
            object["apiVersion"] = json!("networking.k8s.io/v1");
            object["kind"] = json!("NetworkPolicy");
            objects.push(object);
        }
        for policy in world.cilium_policies.in_namespace(namespace) {
            objects.push(json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
                "metadata": policy.metadata, "spec": policy.data.get("spec"),
            }));
        }
    }
    Policies::of(&objects).map_err(|error| error.to_string())
}

fn carrier(transport: Transport) -> Carrier {
    match transport {
        Transport::Tcp => Carrier::Tcp,
        Transport::Udp => Carrier::Udp,
    }
}

/// Why some policy closes traffic between a Pod and others of its namespace, if one does: inside of a cell nobody stands between them.
pub(crate) fn closed_inside(runtime: &Runtime, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let policies = policies(runtime, &[namespace])
        .ok()
        .filter(|policies| !policies.is_empty())?;
    let own = Party::Pod(party(runtime, pod));
    let others = runtime.context.world.pods.in_namespace(namespace);
    // A few tell as much as all: replicas are alike.
    for other in others.iter().take(32) {
        let there = Party::Pod(party(runtime, other));
        let Party::Pod(target) = &there else { continue };
        for port in target.ports.values() {
            let flow = Flow {
                from: &own,
                to: &there,
                port: *port,
                transport: Carrier::Tcp,
                request: None,
            };
            let explanation = policies.explain(&flow);
            if !explanation.allowed() {
                let name = other.metadata.name.as_deref().unwrap_or_default();
                return Some(format!(
                    "the local data plane does not enforce policies inside of a namespace: {} may reach port {port} of Pod {name}, though {}",
                    pod.metadata.name.as_deref().unwrap_or_default(),
                    reasons(&explanation)
                ));
            }
        }
    }
    None
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

/// A gateway by one of the host names that its listeners are for.
fn gateway_of(runtime: &Runtime, host: &str) -> Option<PodParty> {
    runtime.gateway.load_full()?;
    let gateways = runtime.context.world.foreign(crate::operators::Kind::Gateway);
    let gateway = gateways.all().into_iter().find(|gateway| {
        let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
        let mut hosts = listeners
            .into_iter()
            .flatten()
            .filter_map(|listener| listener.get("hostname")?.as_str());
        hosts.any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
            None => pattern == host,
        })
    })?;
    let name = Name::of(&*gateway);
    // As Envoy Gateway labels its proxies.
    let labels = [
        ("gateway.envoyproxy.io/owning-gateway-name".to_owned(), name.name),
        (
            "gateway.envoyproxy.io/owning-gateway-namespace".to_owned(),
            name.namespace.clone(),
        ),
    ];
    Some(PodParty {
        namespace: name.namespace,
        labels: labels.into(),
        ..PodParty::default()
    })
}

async fn lookup(runtime: &Runtime, namespace: &str, source: Ipv4Addr, name: &str) -> Found {
    let world = &runtime.context.world;
    let service = |text: &str| {
        let (service, space) = text.split_once('.')?;
        let found = world.services.get(&Name::new(space, service))?;
        let spec = found.spec.clone().unwrap_or_default();
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            let transport = cell::protocol_of(port.protocol.as_deref())?;
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

/// Why a flow is not let through, in words.
fn reasons(explanation: &Explanation) -> String {
    let list = |by: &[choreo_reach::PolicyRef]| {
        let mut names: Vec<_> = by.iter().take(3).map(ToString::to_string).collect();
        if by.len() > names.len() {
            names.push(format!("{} more", by.len() - names.len()));
        }
        names.join(", ")
    };
    let side = |side: &Side, way: &str| match side {
        Side::Closed { by } => Some(format!(
            "no policy allows it on the way {way}, which is closed by {}",
            list(by)
        )),
        Side::Forbidden { by } => Some(format!("on the way {way} it is forbidden by {}", list(by))),
        Side::Open | Side::Allowed { .. } => None,
    };
    let both = [side(&explanation.egress, "out"), side(&explanation.ingress, "in")];
    both.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn deny(runtime: &Runtime, pod: &Pod, what: &str, why: &str) {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    runtime.denied.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    if runtime.told.is_news(uid, what) {
        let message = format!(
            "denied to reach {what}: {why}. Declare a connection to it in the Workload, or add a policy that allows it"
        );
        runtime
            .context
            .recorder
            .warning(pod, "choreo-relay", "ConnectionDenied", message);
    }
}

/// The addresses of a host, by this machine's resolver, unless somebody said others.
async fn resolve(runtime: &Runtime, host: &str) -> io::Result<Vec<IpAddr>> {
    if let Some(address) = runtime.options.hosts.get(host) {
        return Ok(vec![*address]);
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let found = timeout(CONNECT, tokio::net::lookup_host((host, 0)))
        .await?
        .map_err(|error| {
            // The resolver's own codes are not in the error; its text is.
            let text = error.to_string();
            if text.contains("not known")
                || text.contains("No address associated")
                || text.contains("nodename nor servname")
            {
                io::Error::new(io::ErrorKind::NotFound, text)
            } else {
                error
            }
        })?;
    Ok(found.map(|address| address.ip()).collect())
}

/// Whether an address is this machine's own, a neighbour's on the link, or another cell's: names from outside must not lead there.
fn is_inside(runtime: &Runtime, address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || runtime.options.pool.contains(&address)
        }
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => is_inside(runtime, IpAddr::V4(mapped)),
            None => {
                address.is_loopback()
                    || address.is_unspecified()
                    || address.is_unicast_link_local()
                    || address.is_multicast()
            }
        },
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
    Tcp(Box<dyn super::AsyncReadWrite>),
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
    let outside: Vec<SocketAddr> = allowed
        .into_iter()
        .filter(|address| overridden || !is_inside(runtime, *address))
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
                && cell::protocol_of(port.protocol.as_deref()) == Some(wanted.transport)
        })
        .ok_or(io::ErrorKind::NotFound)?;
    let slices = world.endpoint_slices.in_namespace(namespace);
    let mut endpoints = cell::endpoints(&slices, name, port.name.as_deref(), wanted.transport);
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

    #[test]
    fn a_denied_connection_is_told_once_in_a_while() {
        let told = Told::default();
        assert!(told.is_news("a", "x:443"));
        assert!(!told.is_news("a", "x:443"));
        assert!(told.is_news("b", "x:443"));
        assert!(told.is_news("a", "y:443"));
    }
}
