//! Starts everything and stops it in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use choreo_api::labels;
use futures::StreamExt as _;
use kube::Client;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::alias::Aliases;
use crate::build::Builds;
use crate::buildplane::BuildPlanes;
use crate::context::Context;
use crate::dataplane::DataPlanes;
use crate::flow::Planner;
use crate::inputs::Inputs;
use crate::organization::{self, Organizations};
use crate::planes::{ClusterConnector, PlaneId, Planes};
use crate::promotion::Promotions;
use crate::release::Releases;
use crate::release::index::Index;
use crate::router::Router;
use crate::runtime::decode::Seen;
use crate::runtime::feed::{FeedState, Subject, follow};
use crate::runtime::metrics::Metrics;
use crate::runtime::precedence::Precedence;
use crate::runtime::worker;
use crate::runtime::{Backoff, Cache, Change, Clock, Queue, Reconcile};
use crate::shard::Shard;
use crate::view::{ControlKinds, ControlSnapshot};
use crate::write::Applier;
use crate::write::events::Events;

/// How an interrupted watch of the control plane is tried again.
const WATCH_BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(50),
    cap: Duration::from_secs(3),
    jitter: 0.3,
};

/// What the controllers need to run.
pub struct RunOptions {
    /// The control plane. Its definitions must be installed ([`crate::install::definitions`]).
    pub client: Client,
    /// Gives clients for data planes.
    pub connector: Arc<dyn ClusterConnector>,
    /// Ends them; what is being worked on is finished first.
    pub shutdown: CancellationToken,
    /// Workers for each controller.
    pub workers: usize,
    /// Workers of the release controller, which waits for data planes.
    pub release_workers: usize,
    /// For how long the clean-up of an unreachable data plane is tried before what is there is left behind.
    pub abandon_after: Duration,
    /// The time of day, for what is waited for long.
    pub clock: Clock,
    /// The organizations that are looked after.
    pub shard: Shard,
    /// Counters.
    pub metrics: Metrics,
    /// Turns true when they may act. Until then they only fill their caches.
    pub lead: watch::Receiver<bool>,
}

impl RunOptions {
    /// The usual settings.
    pub fn new(client: Client, connector: Arc<dyn ClusterConnector>, shutdown: CancellationToken) -> Self {
        Self {
            client,
            connector,
            shutdown,
            workers: 4,
            release_workers: 16,
            abandon_after: Duration::from_secs(3600),
            clock: Clock::default(),
            shard: Shard::default(),
            metrics: Metrics::default(),
            lead: watch::channel(true).1,
        }
    }
}

/// Running controllers.
pub struct Controllers {
    tasks: JoinSet<()>,
    ready: watch::Receiver<bool>,
    observer: Observer,
}

/// A look at controllers from outside, which does not keep them from stopping.
#[derive(Clone)]
pub struct Observer {
    router: Arc<Router>,
    context: Arc<Context>,
    listed: watch::Receiver<bool>,
}

impl Observer {
    /// Whether every kind of the control plane has been listed once.
    pub fn is_listed(&self) -> bool {
        *self.listed.borrow()
    }

    /// Waits until every kind of the control plane has been listed once. `false` if they were stopped before.
    pub async fn listed(&self) -> bool {
        self.listed.clone().wait_for(|listed| *listed).await.is_ok()
    }

    /// The control plane as the controllers see it.
    pub fn snapshot(&self) -> ControlSnapshot {
        self.context.snapshot()
    }

    /// Whether nothing is queued, worked on, or waiting for another try.
    pub fn is_idle(&self) -> bool {
        self.router.is_idle()
    }

    /// The clusters of data and build planes, and why those that cannot be used cannot.
    pub fn planes(&self) -> Vec<(PlaneId, Option<String>)> {
        self.context.planes.states()
    }
}

impl Controllers {
    /// A look at them that can be passed around.
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Waits until every kind has been listed and the controllers work. `false` if they were stopped before.
    pub async fn ready(&self) -> bool {
        self.ready.clone().wait_for(|ready| *ready).await.is_ok()
    }

    /// Whether nothing is queued, worked on, or waiting for another try. Changes that are on their way from the API
    /// server are not known.
    pub fn is_idle(&self) -> bool {
        self.observer.is_idle()
    }

    /// The control plane as the controllers see it.
    pub fn snapshot(&self) -> ControlSnapshot {
        self.observer.snapshot()
    }

    /// Looks at everything once more, as if everything had changed. Nothing needs it, since whatever changes is watched; it is how
    /// one sees that nothing was missed, and what an idle look costs.
    pub fn resync(&self) {
        self.observer.router.start(&self.snapshot());
    }

    /// Waits until they have stopped, which they do when their `shutdown` is cancelled. Dropping the wait ends them where they
    /// stand.
    pub async fn stopped(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Runs the controllers until `shutdown`.
pub async fn run(options: RunOptions) {
    start(options).stopped().await;
}

/// Starts the controllers.
pub fn start(options: RunOptions) -> Controllers {
    let RunOptions {
        client,
        connector,
        shutdown,
        workers,
        release_workers,
        abandon_after,
        clock,
        shard,
        metrics,
        mut lead,
    } = options;
    let began = Instant::now();
    let index = Arc::new(Index::default());
    let router = Arc::new(Router::new(&metrics, Arc::clone(&index), shard));
    let cache = {
        let router = Arc::clone(&router);
        Arc::new(Cache::new(
            move |before: &ControlSnapshot, after: &ControlSnapshot, change: &Change| {
                router.control_changed(before, after, change);
            },
        ))
    };
    router.attach(&cache);
    let kinds = ControlKinds::default();
    // Work that is being finished may still need its clients when the controllers are told to stop.
    let clients = CancellationToken::new();
    let context = Arc::new(Context {
        control: Applier::new(client.clone(), Arc::clone(&cache), "control", metrics.clone()),
        kinds: kinds.clone(),
        planes: Planes::new(
            connector,
            metrics.clone(),
            Arc::clone(&router) as _,
            clients.clone(),
        ),
        events: Events::start(client.clone(), "choreo", clients.clone()),
        abandon_after,
        clock,
    });

    let mut feeds = Vec::new();
    for (kind, resource) in kinds.iter() {
        // Of Kubernetes' own kinds only what belongs to an organization.
        let is_kubernetes = kind.group.is_empty() || kind.group.ends_with(".k8s.io");
        let selector = if is_kubernetes { labels::ORGANIZATION } else { "" };
        let subject = Subject {
            resource: resource.clone(),
            labels: selector.to_owned(),
        };
        let (state, seen) = watch::channel(FeedState::Starting);
        feeds.push((kind.clone(), seen));
        let events = subject
            .stream(client.clone())
            .filter(move |event| std::future::ready(concerns(shard, event)));
        tokio::spawn(follow(
            subject,
            events,
            Arc::clone(&cache),
            state,
            WATCH_BACKOFF,
            clients.clone(),
        ));
    }

    let (ready, is_ready) = watch::channel(false);
    let (all_listed, is_listed) = watch::channel(false);
    let mut tasks = JoinSet::new();
    {
        let (router, cache, shutdown) = (Arc::clone(&router), Arc::clone(&cache), shutdown.clone());
        tasks.spawn(async move {
            for (kind, mut feed) in feeds {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    listed = listed(&mut feed) => if !listed { return },
                }
                tracing::debug!(%kind, "listed");
            }
            all_listed.send_replace(true);
            tokio::select! {
                () = shutdown.cancelled() => return,
                leads = lead.wait_for(|lead| *lead) => if leads.is_err() { return },
            }
            router.start(&cache.snapshot());
            tracing::info!(after = ?began.elapsed(), "controllers started");
            ready.send_replace(true);
            // Kept for as long as anybody may wait for it.
            shutdown.cancelled().await;
        });
    }

    let mut pool = JoinSet::new();
    let mut launch = Launch {
        pool: &mut pool,
        metrics: &metrics,
        ready: &is_ready,
        shutdown: &shutdown,
        // What somebody said or a gate found is told before anything is rolled out because of it or of another.
        first: router.promotions().precedence().clone(),
    };
    for (name, queue) in router.plans() {
        if name == organization::NAME {
            launch.start(Organizations::new(Arc::clone(&context)), queue, workers);
        } else {
            launch.start(Planner::new(name, Arc::clone(&context)), queue, workers);
        }
    }
    launch.start(
        Releases::new(Arc::clone(&context), index),
        router.releases(),
        release_workers,
    );
    launch.start(Inputs::new(Arc::clone(&context)), router.inputs(), workers);
    launch.first = Precedence::default();
    launch.start(Aliases::new(Arc::clone(&context)), router.aliases(), workers);
    let data_planes = DataPlanes::new(Arc::clone(&context), router.data_planes().clone());
    launch.start(data_planes, router.data_planes(), workers);
    let build_planes = BuildPlanes::new(Arc::clone(&context), router.build_planes().clone());
    launch.start(build_planes, router.build_planes(), workers);
    launch.start(Builds::new(Arc::clone(&context)), router.builds(), workers);
    let promotions = Promotions::new(Arc::clone(&context), router.promotions().clone());
    launch.start(promotions, router.promotions(), workers);
    // However this ends, the watches end with it.
    let clients = clients.drop_guard();
    tasks.spawn(async move {
        while pool.join_next().await.is_some() {}
        drop(clients);
    });
    Controllers {
        tasks,
        ready: is_ready,
        observer: Observer {
            router,
            context,
            listed: is_listed,
        },
    }
}

struct Launch<'a> {
    pool: &'a mut JoinSet<()>,
    metrics: &'a Metrics,
    ready: &'a watch::Receiver<bool>,
    shutdown: &'a CancellationToken,
    /// What those that are started from now on wait for.
    first: Precedence,
}

impl Launch<'_> {
    fn start<R: Reconcile>(&mut self, controller: R, queue: &Queue<R::Key>, workers: usize) {
        let metrics = self.metrics.controller(controller.name());
        self.pool.spawn(worker::run(
            Arc::new(controller),
            queue.clone(),
            workers,
            metrics,
            self.first.clone(),
            self.ready.clone(),
            self.shutdown.clone(),
        ));
    }
}

/// Whether an event of the control plane has to be known in a shard.
fn concerns(shard: Shard, event: &watcher::Result<Event<Seen>>) -> bool {
    match event {
        Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) => {
            let (namespace, name, _) = object.address();
            shard.needs(namespace, name)
        }
        _ => true,
    }
}

/// Waits for the first list of a kind, saying what is in the way if it takes long.
async fn listed(feed: &mut watch::Receiver<FeedState>) -> bool {
    loop {
        match &*feed.borrow_and_update() {
            FeedState::Following | FeedState::Interrupted(_) => return true,
            FeedState::Failing(error) => tracing::warn!(%error, "the control plane cannot be read yet"),
            FeedState::Starting => {}
        }
        if feed.changed().await.is_err() {
            return false;
        }
    }
}
