//! The proxy: listens, looks requests up, and forwards them.

pub(crate) mod body;
pub(crate) mod clock;
pub(crate) mod fetch;
pub(crate) mod forward;
pub(crate) mod headers;
pub(crate) mod http;
pub(crate) mod idle;
pub(crate) mod path;
pub(crate) mod raw;
pub(crate) mod reply;
pub(crate) mod rewind;
pub(crate) mod server;
pub(crate) mod tls;
pub(crate) mod udp;
pub(crate) mod workers;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::Authority;
use crate::config::table::Table;
use crate::dial::Dial;

/// Most connections of clients at a time, over all ports. Further ones wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 8_192;

/// What all connections share.
pub(crate) struct Proxy {
    pub(crate) table: ArcSwap<Table>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) fetch: fetch::Fetcher,
    pub(crate) authority: Option<Authority>,
    pub(crate) configs: tls::Configs,
    pub(crate) connections: Arc<Semaphore>,
    /// Connections, upgraded ones included.
    pub(crate) tasks: TaskTracker,
    /// Set when no new requests are to be taken.
    pub(crate) draining: CancellationToken,
}

impl Proxy {
    pub(crate) fn new(dial: Arc<dyn Dial>, authority: Option<Authority>) -> Arc<Self> {
        crate::policy::jwt_crypto::install();
        Arc::new(Self {
            table: ArcSwap::from_pointee(Table::default()),
            fetch: fetch::Fetcher::new(Arc::clone(&dial)),
            dial,
            authority,
            configs: tls::Configs::default(),
            connections: Arc::new(Semaphore::new(MOST_CONNECTIONS)),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
        })
    }
}
