//! Follows a cluster: watches into a [`World`], from there tables for the proxy and statuses for the objects.

mod sockets;
mod statuses;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kube::Client;
use kube::core::ApiResource;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use sockets::Sockets;

use crate::authority::Authority;
use crate::config::build::{Built, Memory, Settings, Verdicts, build};
use crate::config::object::{Key, Kind};
use crate::config::policies::ClientSettings;
use crate::config::table::Socket;
use crate::config::world::World;
use crate::dial::Dial;
use crate::proxy::workers::Workers;
use crate::proxy::{Proxy, fetch, server};

/// Changes that come this soon after another are taken in with it.
const COALESCE: Duration = Duration::from_millis(2);
/// Longest pause between two tables while changes keep coming. The first change after a pause is taken in at once.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// How often connections are looked through for those that nobody uses.
const SWEEP: Duration = Duration::from_secs(30);

/// How the gateway runs.
pub struct Options {
    /// How pods are reached.
    pub dial: Arc<dyn Dial>,
    /// Signs certificates of listeners with the option `gateway.openchoreo.dev/issuer: local`. Without one they cannot be served.
    pub authority: Option<Authority>,
    /// Ports that are bound already. Others are bound when a Gateway names them.
    pub sockets: Sockets,
    /// The address that ports are bound at, and that statuses of Gateways give.
    pub address: IpAddr,
}

/// What the parts of the controller share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) world: Mutex<World>,
    /// How each kind that is there is asked for.
    pub(crate) resources: Mutex<BTreeMap<Kind, ApiResource>>,
    changes: Mutex<Changes>,
    changed: Notify,
    /// Watches whose first list is not complete.
    incomplete: AtomicUsize,
}

/// What may differ after a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Differs {
    /// The table.
    table: bool,
    /// Where Services' endpoints are found.
    services: bool,
}

impl Differs {
    pub(crate) fn table(table: bool) -> Self {
        Self {
            table,
            services: false,
        }
    }
}

impl std::ops::BitOrAssign for Differs {
    fn bitor_assign(&mut self, other: Self) {
        self.table |= other.table;
        self.services |= other.services;
    }
}

#[derive(Default)]
struct Changes {
    differs: Differs,
    /// Objects whose status somebody may have changed.
    statuses: HashSet<Key>,
}

impl Shared {
    /// Notes a change.
    pub(crate) fn note(&self, differs: Differs, key: Option<Key>) {
        let mut changes = self.changes.lock();
        changes.differs |= differs;
        changes.statuses.extend(key);
        drop(changes);
        self.changed.notify_one();
    }

    /// A watch begins: nothing is decided until it has given its first list.
    pub(crate) fn begin(&self) {
        self.incomplete.fetch_add(1, Ordering::SeqCst);
    }

    /// A watch has given its first list.
    pub(crate) fn complete(&self) {
        self.incomplete.fetch_sub(1, Ordering::SeqCst);
        let all = Differs {
            table: true,
            services: true,
        };
        self.note(all, None);
    }
}

/// Runs the gateway for the cluster of `client` until `shutdown`, and then lets requests under way end.
///
/// # Guarantees
/// A request sees one table from its beginning to its end. No table is made, and no status written, before every watch has given its
/// first list, so that a restart closes nothing for a moment.
///
/// # Assumptions
/// No other controller writes statuses as `openchoreo.dev/local-gateway`.
pub async fn run(client: Client, options: Options, shutdown: CancellationToken) {
    let Options {
        dial,
        authority,
        sockets,
        address,
    } = options;
    let workers = match Workers::start() {
        Ok(workers) => workers,
        Err(error) => {
            tracing::error!("the gateway serves nothing: the system gives it no threads: {error}");
            return;
        }
    };
    let proxy = Proxy::new(dial, authority);
    let shared = Arc::new(Shared {
        client,
        world: Mutex::default(),
        resources: Mutex::default(),
        changes: Mutex::default(),
        changed: Notify::new(),
        incomplete: AtomicUsize::new(0),
    });
    let mut follower = Follower {
        shared: Arc::clone(&shared),
        proxy: Arc::clone(&proxy),
        ports: sockets::Ports::new(sockets, address, workers.turn()),
        memory: Memory::default(),
        settings: Settings {
            address: address.to_string(),
            client: Arc::new(ClientSettings::default()),
        },
        verdicts: BTreeMap::new(),
        statuses: statuses::Writer::start(Arc::clone(&shared)),
    };
    let feeds = watch::start(&shared);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = follower.follow() => {}
        () = sweep(&shared) => {}
    }
    drop(feeds);
    follower.ports.close();
    proxy.draining.cancel();
    proxy.tasks.close();
    if tokio::time::timeout(server::DRAIN, proxy.tasks.wait())
        .await
        .is_err()
    {
        tracing::info!(
            "connections that did not end within {:?} were cut off",
            server::DRAIN
        );
    }
}

/// Closes connections to backends that nobody uses, so that a burst of requests leaves nothing behind.
async fn sweep(shared: &Shared) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let world = shared.world.lock();
        for port in world.services.values().flat_map(|service| &service.ports) {
            port.endpoints.sweep();
        }
        for (endpoints, _) in world
            .backends
            .values()
            .filter_map(|backend| backend.spec.as_ref().ok())
        {
            endpoints.sweep();
        }
    }
}

struct Follower {
    shared: Arc<Shared>,
    proxy: Arc<Proxy>,
    ports: sockets::Ports,
    memory: Memory,
    settings: Settings,
    verdicts: Verdicts,
    statuses: statuses::Writer,
}

impl Follower {
    async fn follow(&mut self) {
        let mut not_before = tokio::time::Instant::now();
        loop {
            self.shared.changed.notified().await;
            let soon = tokio::time::Instant::now() + COALESCE;
            tokio::time::sleep_until(soon.max(not_before)).await;
            if self.shared.incomplete.load(Ordering::SeqCst) > 0 {
                continue;
            }
            let changes = std::mem::take(&mut *self.shared.changes.lock());
            let began = Instant::now();
            let mut touched: Vec<Key> = changes.statuses.into_iter().collect();
            if changes.differs.services {
                self.find_services();
            }
            if changes.differs.table {
                touched.extend(self.renew());
            }
            let writes = touched.into_iter().filter_map(|key| {
                let verdict = Arc::clone(self.verdicts.get(&key)?);
                Some((key, verdict))
            });
            self.statuses.write(writes.collect());
            // While many objects change, most of the time belongs to others.
            let pause = began.elapsed().saturating_mul(2).min(LONGEST_PAUSE);
            not_before = tokio::time::Instant::now() + pause;
        }
    }

    /// Makes a table and puts it in use. The objects whose status is another one now.
    fn renew(&mut self) -> Vec<Key> {
        let mut built = self.build(&self.ports.unbound());
        // A port that cannot be had changes what is said of its listener.
        if self.ports.follow(&built.sockets, &self.proxy) {
            built = self.build(&self.ports.unbound());
        }
        let Built { table, verdicts, .. } = built;
        self.proxy.table.store(Arc::new(table));
        let touched = verdicts
            .iter()
            .filter(|(key, verdict)| {
                let before = self.verdicts.get(*key);
                before.is_none_or(|before| !Arc::ptr_eq(before, verdict) && before != *verdict)
            })
            .map(|(key, _)| key.clone())
            .collect();
        self.verdicts = verdicts;
        touched
    }

    fn build(&mut self, unbound: &BTreeMap<Socket, String>) -> Built {
        let mut world = self.shared.world.lock();
        let mut built = build(&world, &mut self.memory, unbound, &self.settings);
        // Before anybody else sees the world: a change of what the table was made from must not be passed over.
        world.looked_at = std::mem::take(&mut built.looked_at);
        built
    }

    /// Tells who fetches key sets where Services are.
    fn find_services(&self) {
        let world = self.shared.world.lock();
        let each = world.services.iter().flat_map(|(name, entry)| {
            let ports = entry.ports.iter();
            ports.map(|port| ((name.clone(), port.number), Arc::clone(&port.endpoints)))
        });
        let services: fetch::Services = each.collect();
        self.proxy.fetch.services.store(Arc::new(services));
    }
}
