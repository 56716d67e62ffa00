//! Counters of the controllers, for `/metrics` and for tests that count work.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the duration buckets, in milliseconds; one more bucket holds what is longer.
pub const DURATION_BUCKETS_MS: [u64; 8] = [1, 5, 10, 50, 100, 500, 1_000, 10_000];

/// Counters of one controller.
#[derive(Debug, Default)]
pub struct ControllerMetrics {
    depth: AtomicU64,
    added: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    durations: [AtomicU64; DURATION_BUCKETS_MS.len() + 1],
    micros: AtomicU64,
}

/// A controller's counters at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ControllerFigures {
    /// Keys ready and not yet taken.
    pub depth: u64,
    /// Keys that became ready.
    pub added: u64,
    /// Runs that ended well.
    pub succeeded: u64,
    /// Runs that ended with an error.
    pub failed: u64,
    /// Runs that panicked: a defect in this program.
    pub panicked: u64,
    /// Runs by duration, by [`DURATION_BUCKETS_MS`].
    pub durations: Vec<u64>,
    /// How long all runs took together.
    pub total: Duration,
}

impl ControllerFigures {
    fn add(&mut self, other: &Self) {
        self.depth += other.depth;
        self.added += other.added;
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.panicked += other.panicked;
        for (mine, theirs) in self.durations.iter_mut().zip(&other.durations) {
            *mine += theirs;
        }
        self.total += other.total;
    }
}

impl ControllerMetrics {
    pub(crate) fn set_depth(&self, depth: usize) {
        self.depth.store(depth as u64, Relaxed);
    }

    pub(crate) fn added(&self) {
        self.added.fetch_add(1, Relaxed);
    }

    pub(crate) fn ran(&self, ok: bool, took: Duration) {
        let counter = if ok { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Relaxed);
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Relaxed);
        let bucket = DURATION_BUCKETS_MS
            .iter()
            .position(|bound| millis <= *bound)
            .unwrap_or(DURATION_BUCKETS_MS.len());
        if let Some(bucket) = self.durations.get(bucket) {
            bucket.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn panicked(&self) {
        self.panicked.fetch_add(1, Relaxed);
    }

    /// The counters now.
    pub fn figures(&self) -> ControllerFigures {
        ControllerFigures {
            depth: self.depth.load(Relaxed),
            added: self.added.load(Relaxed),
            succeeded: self.succeeded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panicked: self.panicked.load(Relaxed),
            durations: self.durations.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            total: Duration::from_micros(self.micros.load(Relaxed)),
        }
    }
}

/// Requests by plane, verb and status code.
type Requests = BTreeMap<(&'static str, &'static str, u16), u64>;

/// All counters of a running set of controllers. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    controllers: Arc<Mutex<BTreeMap<&'static str, Arc<ControllerMetrics>>>>,
    calls: Arc<Mutex<BTreeMap<(&'static str, &'static str), u64>>>,
    requests: Arc<Mutex<Requests>>,
}

impl Metrics {
    /// The counters of the controller of this name, made on first use.
    pub fn controller(&self, name: &'static str) -> Arc<ControllerMetrics> {
        Arc::clone(self.controllers.lock().entry(name).or_default())
    }

    /// Counters of another set of controllers, which count their requests together with these.
    #[must_use]
    pub fn sibling(&self) -> Self {
        Self {
            controllers: Arc::default(),
            calls: Arc::clone(&self.calls),
            requests: Arc::clone(&self.requests),
        }
    }

    /// The figures of several sets of controllers, added up.
    pub fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> BTreeMap<&'static str, ControllerFigures> {
        let mut sum: BTreeMap<&'static str, ControllerFigures> = BTreeMap::new();
        for (name, figures) in all.flat_map(Self::figures) {
            match sum.entry(name) {
                Entry::Vacant(entry) => drop(entry.insert(figures)),
                Entry::Occupied(mut entry) => entry.get_mut().add(&figures),
            }
        }
        sum
    }

    /// Counts one call of the Kubernetes API: `plane` is `control` or `data`.
    pub(crate) fn called(&self, plane: &'static str, verb: &'static str) {
        *self.calls.lock().entry((plane, verb)).or_insert(0) += 1;
    }

    /// Counts one request over HTTP with the status of its answer; 0 if there was none.
    pub(crate) fn requested(&self, plane: &'static str, verb: &'static str, status: u16) {
        *self.requests.lock().entry((plane, verb, status)).or_insert(0) += 1;
    }

    /// Requests over HTTP so far by plane, verb and status of the answer (0: none came). Those of clients inside the process
    /// are not among them.
    pub fn requests(&self) -> BTreeMap<(&'static str, &'static str, u16), u64> {
        self.requests.lock().clone()
    }

    /// API calls so far by plane (`control`, `data`) and verb.
    pub fn calls(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.calls.lock().clone()
    }

    /// API calls so far that change something.
    pub fn writes(&self) -> u64 {
        self.calls
            .lock()
            .iter()
            .filter(|((_, verb), _)| *verb != "get")
            .map(|(_, count)| count)
            .sum()
    }

    /// How many keys wait for a worker, over all controllers.
    pub fn backlog(&self) -> u64 {
        let controllers = self.controllers.lock();
        controllers
            .values()
            .map(|metrics| metrics.depth.load(Relaxed))
            .sum()
    }

    /// The figures of every controller, by name.
    pub fn figures(&self) -> BTreeMap<&'static str, ControllerFigures> {
        self.controllers
            .lock()
            .iter()
            .map(|(name, metrics)| (*name, metrics.figures()))
            .collect()
    }
}
