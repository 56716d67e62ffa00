//! Cells: for each namespace with Pods a network with no way out, and the relay in it.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use choreo_pod_access::Connection;
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixListener, UnixStream},
    sync::{Mutex as AsyncMutex, Notify, OnceCell, watch},
    task::AbortHandle,
};

use super::{
    Runtime, egress,
    engine::{ContainerSpec, EngineError, Mount, MountSource, NetworkMode, NetworkSpec, Phase},
    labels::{self, Role},
    pod::make_folder,
    relay_image, services,
};
use crate::relay::protocol::{self, AGENT_SOCKET, Command, Config, RELAY_SOCKET, receive, send};

/// How long a relay may take to say that it is there.
const RELAY_START: Duration = Duration::from_secs(30);
/// How long a connection to the relay may take before a host counts as one that cannot reach containers.
const DIRECT: Duration = Duration::from_millis(500);
/// The bits of a cell's subnet.
const PREFIX: u8 = 24;
/// Linux' limit of a Unix socket's path, with the zero at its end.
const SOCKET_PATH_LIMIT: usize = 108;

/// The cell of a namespace.
pub(crate) struct Cell {
    pub(crate) namespace: String,
    pub(crate) network: String,
    /// Where DNS is.
    pub(crate) relay: Ipv4Addr,
    subnet: Ipv4Net,
    folder: PathBuf,
    container: Mutex<String>,
    config: watch::Sender<Arc<Config>>,
    /// The relay has said that it listens.
    ready: Arc<Notify>,
    /// The last configuration is in force.
    in_force: watch::Sender<bool>,
    direct: OnceCell<bool>,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.tasks.lock().iter().for_each(AbortHandle::abort);
    }
}

/// The parts of a subnet: what the engine hands out, what the relay owns, and the relay's own address.
fn parts(subnet: Ipv4Net) -> Option<(Ipv4Net, Ipv4Net, Ipv4Addr)> {
    let mut halves = subnet.subnets(PREFIX + 1).ok()?;
    let (lower, upper) = (halves.next()?, halves.next()?);
    Some((lower, upper, upper.hosts().next()?))
}

type Slot = Arc<AsyncMutex<Option<Arc<Cell>>>>;

/// All cells.
#[derive(Default)]
pub(crate) struct Cells {
    slots: Mutex<HashMap<String, Slot>>,
    image: AsyncMutex<Option<String>>,
}

impl Cells {
    fn slot(&self, namespace: &str) -> Slot {
        self.slots.lock().entry(namespace.to_owned()).or_default().clone()
    }

    /// The cell of a namespace, if it is there and nobody is at work on it.
    pub(crate) fn get(&self, namespace: &str) -> Option<Arc<Cell>> {
        let slot = self.slots.lock().get(namespace)?.clone();
        slot.try_lock().ok()?.clone()
    }

    /// The cell of a namespace, made if it is not there.
    pub(crate) async fn ensure(
        &self,
        runtime: &Arc<Runtime>,
        namespace: &str,
    ) -> Result<Arc<Cell>, EngineError> {
        let slot = self.slot(namespace);
        let mut slot = slot.lock().await;
        if let Some(cell) = &*slot {
            return Ok(cell.clone());
        }
        let cell = make(runtime, namespace).await?;
        *slot = Some(cell.clone());
        drop(slot);
        // What has changed while it was being made was told to nobody.
        cell.update(runtime);
        Ok(cell)
    }

    /// The image of relays and sandboxes.
    pub(crate) async fn image(&self, runtime: &Runtime) -> Result<String, EngineError> {
        let mut image = self.image.lock().await;
        if let Some(name) = &*image {
            return Ok(name.clone());
        }
        let folder = &runtime.options.data_dir;
        let name = relay_image::ensure(&*runtime.engine, &runtime.options.executable, folder).await?;
        *image = Some(name.clone());
        Ok(name)
    }

    /// Forgets what is known of images and relays: the engine was away, or something was removed behind our back.
    pub(crate) async fn forget_image(&self) {
        *self.image.lock().await = None;
    }

    /// Removes a cell whose namespace has gone and in which no Pod is left.
    pub(crate) async fn release(&self, runtime: &Arc<Runtime>, namespace: &str) -> Result<(), EngineError> {
        let slot = self.slot(namespace);
        let mut slot = slot.lock().await;
        if runtime.is_used(namespace) {
            return Ok(());
        }
        let network = slot
            .as_ref()
            .map_or_else(|| network_name(runtime, namespace), |cell| cell.network.clone());
        if let Some(cell) = slot.take() {
            let id = cell.container.lock().clone();
            runtime.engine.remove(&id).await?;
            let _ = fs::remove_dir_all(&cell.folder);
        }
        runtime.engine.remove_network(&network).await?;
        if let Some(subnet) = runtime.found_networks.lock().remove(namespace) {
            runtime.subnets.lock().remove(&subnet);
        }
        self.slots.lock().remove(namespace);
        Ok(())
    }

    /// All namespaces with a cell.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.slots.lock().keys().cloned().collect()
    }

    /// The relay of a cell has ended: it gets a new one, at the same address.
    pub(crate) async fn renew_relay(
        &self,
        runtime: &Arc<Runtime>,
        namespace: &str,
    ) -> Result<(), EngineError> {
        let Some(cell) = self.get(namespace) else {
            return Ok(());
        };
        let id = cell.container.lock().clone();
        let is_running = match runtime.engine.inspect(&id).await {
            Ok(container) => container.phase == Phase::Running,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(error),
        };
        if !is_running {
            tracing::warn!(namespace, "the relay of a cell has ended and is started again");
            runtime.engine.remove(&id).await?;
            start_relay(runtime, &cell).await?;
        }
        Ok(())
    }
}

fn network_name(runtime: &Runtime, namespace: &str) -> String {
    format!("choreo-{}-{namespace}", labels::short(&runtime.instance))
}

fn cell_labels(runtime: &Runtime, namespace: &str, role: &str) -> BTreeMap<String, String> {
    [
        (labels::INSTANCE, runtime.instance.as_str()),
        (labels::CELL, namespace),
        (labels::ROLE, role),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

async fn make(runtime: &Arc<Runtime>, namespace: &str) -> Result<Arc<Cell>, EngineError> {
    let network = network_name(runtime, namespace);
    let known = runtime.found_networks.lock().get(namespace).copied();
    let subnet = match known {
        Some(subnet) => subnet,
        None => {
            let subnet = create_network(runtime, namespace, &network).await?;
            // Also for the next try, if something else fails in this one.
            runtime.found_networks.lock().insert(namespace.to_owned(), subnet);
            subnet
        }
    };
    let (_, _, relay) = parts(subnet).ok_or_else(|| {
        EngineError::Refused(format!(
            "network {network} has the subnet {subnet}, which is not a /{PREFIX}"
        ))
    })?;
    // By a short name: the paths of sockets have a limit, and names of namespaces may be long.
    let digest = ring::digest::digest(&ring::digest::SHA256, namespace.as_bytes());
    let folder = runtime
        .options
        .data_dir
        .join("cells")
        .join(hex::encode(&digest.as_ref()[..6]));
    let failed =
        |error: io::Error| EngineError::Refused(format!("cannot prepare {}: {error}", folder.display()));
    let longest = folder.join(AGENT_SOCKET);
    let folder_name = folder.clone();
    if longest.as_os_str().len() + 1 > SOCKET_PATH_LIMIT {
        return Err(EngineError::Refused(format!(
            "the path of the socket {} is longer than the {} bytes that the system allows: choose a shorter data folder",
            longest.display(),
            SOCKET_PATH_LIMIT - 1
        )));
    }
    make_folder(&folder, 0o700).map_err(failed)?;
    let socket = folder.join(AGENT_SOCKET);
    match fs::remove_file(&socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).map_err(failed)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    let config = Arc::new(services::config(runtime, namespace));
    let cell = Arc::new(Cell {
        namespace: namespace.to_owned(),
        network,
        relay,
        subnet,
        folder: folder_name,
        container: Mutex::default(),
        config: watch::Sender::new(config),
        ready: Arc::new(Notify::new()),
        in_force: watch::Sender::new(false),
        direct: OnceCell::new(),
        tasks: Mutex::default(),
    });
    let serve = tokio::spawn(egress::serve(
        Arc::downgrade(runtime),
        namespace.to_owned(),
        listener,
        cell.ready.clone(),
    ));
    let configure = tokio::spawn(configure(
        cell.folder.join(RELAY_SOCKET),
        cell.config.subscribe(),
        cell.ready.clone(),
        cell.in_force.clone(),
    ));
    cell.tasks
        .lock()
        .extend([serve.abort_handle(), configure.abort_handle()]);
    let found = runtime.found_relays.lock().remove(namespace);
    let adopted = match found {
        Some(id) => adopt(runtime, &id).await?.then_some(id),
        None => None,
    };
    match adopted {
        Some(id) => {
            *cell.container.lock() = id;
            cell.ready.notify_one();
        }
        None => start_relay(runtime, &cell).await?,
    }
    Ok(cell)
}

/// Whether a relay that was found can be kept: it runs, and it is of this build.
async fn adopt(runtime: &Runtime, id: &str) -> Result<bool, EngineError> {
    let image = runtime.cells.image(runtime).await?;
    match runtime.engine.inspect(id).await {
        Ok(container)
            if container.phase == Phase::Running && container.labels.get(labels::IMAGE) == Some(&image) =>
        {
            Ok(true)
        }
        Ok(_) => {
            runtime.engine.remove(id).await?;
            Ok(false)
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes the first subnet of the pool that nobody else has.
async fn create_network(runtime: &Runtime, namespace: &str, name: &str) -> Result<Ipv4Net, EngineError> {
    let pool = runtime.options.pool;
    let subnets = pool
        .subnets(PREFIX)
        .map_err(|_| EngineError::Refused(format!("the pool {pool} has no /{PREFIX}")))?;
    let mut last = String::new();
    let routes = fs::read_to_string("/proc/net/route")
        .map(|table| routed(&table))
        .unwrap_or_default();
    for subnet in subnets {
        if let Some(taken) = routes
            .iter()
            .find(|route| route.contains(&subnet) || subnet.contains(*route))
        {
            last = format!("this machine has a route to {taken}");
            continue;
        }
        if !runtime.subnets.lock().insert(subnet) {
            continue;
        }
        let Some((range, ..)) = parts(subnet) else {
            continue;
        };
        let spec = NetworkSpec {
            name: name.to_owned(),
            subnet,
            range,
            labels: cell_labels(runtime, namespace, Role::RELAY),
        };
        match runtime.engine.create_network(&spec).await {
            Ok(()) => return Ok(subnet),
            Err(EngineError::Conflict(message) | EngineError::Refused(message)) if is_taken(&message) => {
                last = message
            }
            Err(error) => {
                runtime.subnets.lock().remove(&subnet);
                return Err(error);
            }
        }
    }
    Err(EngineError::Refused(format!(
        "no free subnet is left in {pool} for the network of namespace {namespace}: {last}"
    )))
}

/// The networks that a table in the form of `/proc/net/route` leads to, without the default route. Docker does not look at them: it would make
/// a second network of the same addresses beside a VPN's, or another engine's.
fn routed(table: &str) -> Vec<Ipv4Net> {
    let address = |text: &str| {
        u32::from_str_radix(text, 16)
            .ok()
            .map(|bits| Ipv4Addr::from(bits.swap_bytes()))
    };
    let lines = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (destination, mask) = (address(fields.get(1)?)?, address(fields.get(7)?)?);
        Ipv4Net::with_netmask(destination, mask).ok()
    });
    lines.filter(|route| route.prefix_len() > 0).collect()
}

/// Whether an engine says that a subnet is somebody's. Both say it in words only.
fn is_taken(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    ["already used", "overlap", "is being used"]
        .iter()
        .any(|word| message.contains(word))
}

async fn start_relay(runtime: &Arc<Runtime>, cell: &Arc<Cell>) -> Result<(), EngineError> {
    let image = runtime.cells.image(runtime).await?;
    let (_, range, _) = parts(cell.subnet).ok_or_else(|| EngineError::Refused("no subnet".into()))?;
    let mut labels = cell_labels(runtime, &cell.namespace, Role::RELAY);
    labels.insert(labels::IMAGE.to_owned(), image.clone());
    let mut spec = ContainerSpec {
        name: format!("{}_relay", cell.network),
        image,
        labels,
        command: Some(vec!["relay".into(), cell.relay.to_string(), range.to_string()]),
        user: Some("0:0".into()),
        hostname: Some("relay".into()),
        network: NetworkMode::Network(cell.network.clone(), Some(cell.relay)),
        mounts: vec![Mount {
            source: MountSource::Bind(cell.folder.clone()),
            target: protocol::FOLDER.into(),
            read_only: false,
        }],
        capabilities_drop: vec!["ALL".into()],
        // For the addresses that it owns, and for ports below 1024.
        capabilities_add: vec!["NET_ADMIN".into(), "NET_BIND_SERVICE".into()],
        no_new_privileges: true,
        read_only_root: true,
        ..ContainerSpec::default()
    };
    if runtime.needs_override() {
        // The folder is of the user who runs the agent, and the engine's root is another one.
        spec.capabilities_add.push("DAC_OVERRIDE".into());
    }
    let _ = fs::remove_file(cell.folder.join(RELAY_SOCKET));
    let id = runtime.create(&spec).await?;
    *cell.container.lock() = id.clone();
    runtime.engine.start(&id).await
}

/// Keeps a relay configured. A relay that comes says so; there is nothing to be asked again and again.
async fn configure(
    socket: PathBuf,
    mut config: watch::Receiver<Arc<Config>>,
    ready: Arc<Notify>,
    in_force: watch::Sender<bool>,
) {
    loop {
        ready.notified().await;
        let session = async {
            let mut stream = UnixStream::connect(&socket).await?;
            send(&mut stream, &Command::Configure).await?;
            loop {
                let next = config.borrow_and_update().clone();
                send(&mut stream, &*next).await?;
                receive::<()>(&mut stream).await?;
                in_force.send_replace(true);
                let changed = async { config.changed().await.map_err(io::Error::other) };
                let closed = async {
                    // Nothing comes unasked: whatever does is the end.
                    let _ = stream.read_u8().await;
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
                };
                tokio::select! {
                    outcome = changed => outcome?,
                    outcome = closed => return outcome as io::Result<()>,
                }
            }
        };
        if let Err(error) = session.await {
            tracing::debug!(socket = %socket.display(), "a relay is not configured any longer: {error}");
        }
        in_force.send_replace(false);
    }
}

impl Cell {
    /// Waits until the relay answers questions.
    pub(crate) async fn in_force(&self) -> Result<(), EngineError> {
        let mut in_force = self.in_force.subscribe();
        let wait = in_force.wait_for(|is| *is);
        match tokio::time::timeout(RELAY_START, wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(EngineError::Refused(format!(
                "the relay of namespace {} has not answered within {} s; its container's log may say why",
                self.namespace,
                RELAY_START.as_secs()
            ))),
        }
    }

    /// Tells the relay what its Services are now.
    pub(crate) fn update(&self, runtime: &Runtime) {
        let next = services::config(runtime, &self.namespace);
        self.config.send_if_modified(|known| {
            let changes = **known != next;
            if changes {
                *known = Arc::new(next);
            }
            changes
        });
    }

    /// A connection to an address of the cell.
    pub(crate) async fn dial(&self, address: SocketAddr) -> io::Result<Box<dyn Connection>> {
        let direct = self
            .direct
            .get_or_init(|| async {
                // The relay's DNS port is the one thing that certainly listens.
                let probe = TcpStream::connect((self.relay, 53));
                matches!(tokio::time::timeout(DIRECT, probe).await, Ok(Ok(_)))
            })
            .await;
        if *direct {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            return Ok(Box::new(stream));
        }
        let mut stream = UnixStream::connect(self.folder.join(RELAY_SOCKET)).await?;
        send(&mut stream, &Command::Dial(address)).await?;
        receive::<()>(&mut stream)
            .await
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused")
                }
                _ => error,
            })?;
        Ok(Box::new(stream))
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        self.subnet.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_half_the_engines_and_half_the_relays() {
        let (engine, relay, address) = parts("10.210.7.0/24".parse().unwrap()).unwrap();
        assert_eq!(
            (engine.to_string(), relay.to_string(), address.to_string()),
            (
                "10.210.7.0/25".into(),
                "10.210.7.128/25".into(),
                "10.210.7.129".into()
            )
        );
    }

    #[test]
    fn routes_of_the_kernels_table() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
                     podman1\t0001D20A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(routed(table), ["10.210.1.0/24".parse().unwrap()]);
    }

    #[test]
    fn engines_words_for_a_subnet_that_is_taken() {
        for message in [
            "subnet 10.210.1.0/24 is already used on the host or by another config",
            "Pool overlaps with other one on this address space",
            "subnet 10.210.1.0/24 is being used by a network interface",
        ] {
            assert!(is_taken(message), "{message}");
        }
        assert!(!is_taken("permission denied"));
    }
}
