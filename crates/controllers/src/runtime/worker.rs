//! Runs a controller: takes keys from its queue and reconciles them with a bounded number of workers.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::metrics::ControllerMetrics;
use super::precedence::Precedence;
use super::queue::{Outcome, Queue};

/// How a run that went well ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing to do until something changes.
    Settled,
    /// To be looked at again after this time (a countdown, a probe), unless something changes before.
    After(Duration),
    /// As `After`, and before everything that only changed: somebody waits for this very time.
    FirstAfter(Duration),
}

/// A run that did not reach its end and is to be tried again.
///
/// A user's mistake is no such error: it is a condition on the object, and the run ends well.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Retry {
    /// What was attempted, on which object, and what came back.
    pub message: String,
    /// A wait that the other side asked for.
    pub at_least: Duration,
    /// A lost race (a conflict, a name just taken): normal, not worth a warning.
    pub expected: bool,
}

impl Retry {
    /// An error without a wish for how long to wait.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            at_least: Duration::ZERO,
            expected: false,
        }
    }
}

/// One controller's step: brings the world nearer to what the object at `key` asks for.
///
/// Calls for one key never overlap; calls for different keys do.
pub trait Reconcile: Send + Sync + 'static {
    /// What identifies a piece of work.
    type Key: Ord + Clone + fmt::Display + Send + Sync + 'static;

    /// The controller's name: in logs, metrics, and as field manager `choreo/<name>`.
    fn name(&self) -> &'static str;

    /// Reads caches, writes differences.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Next, Retry>> + Send;
}

/// Runs `workers` workers until `shutdown`; returns when each has finished what it held.
///
/// Nothing runs before `ready` turns true: a controller that acts on a half-filled cache takes what it has not read
/// yet for deleted. No run begins while something goes `first`, for as long as [`Precedence::clear`] waits.
pub async fn run<R: Reconcile>(
    controller: Arc<R>,
    queue: Queue<R::Key>,
    workers: usize,
    metrics: Arc<ControllerMetrics>,
    first: Precedence,
    mut ready: watch::Receiver<bool>,
    shutdown: CancellationToken,
) {
    tokio::select! {
        () = shutdown.cancelled() => return,
        result = ready.wait_for(|ready| *ready) => if result.is_err() { return },
    }
    let mut set = JoinSet::new();
    for _ in 0..workers.max(1) {
        let (controller, queue, metrics) = (Arc::clone(&controller), queue.clone(), Arc::clone(&metrics));
        let (first, shutdown) = (first.clone(), shutdown.clone());
        set.spawn(async move {
            while let Some(key) = queue.next().await {
                // The key is held meanwhile, so that whatever else happens to it is one run.
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => {}
                    () = first.clear() => {}
                }
                let outcome = step(&*controller, &key, &metrics).await;
                queue.done(&key, outcome);
            }
        });
    }
    shutdown.cancelled().await;
    queue.close();
    while set.join_next().await.is_some() {}
}

async fn step<R: Reconcile>(controller: &R, key: &R::Key, metrics: &ControllerMetrics) -> Outcome {
    // Whatever is logged in between carries the key, at every level of the log.
    let span = tracing::error_span!("reconcile", controller = controller.name(), key = %key);
    let started = Instant::now();
    // One key's defect must not take the controller down with all other keys.
    let run = AssertUnwindSafe(controller.reconcile(key))
        .catch_unwind()
        .instrument(span)
        .await;
    let took = started.elapsed();
    match run {
        Ok(Ok(next)) => {
            metrics.ran(true, took);
            tracing::trace!(controller = controller.name(), key = %key, ?took, ?next, "reconciled");
            match next {
                Next::Settled => Outcome::Settled,
                Next::After(wait) => Outcome::After(wait),
                Next::FirstAfter(wait) => Outcome::FirstAfter(wait),
            }
        }
        Ok(Err(retry)) => {
            metrics.ran(false, took);
            if retry.expected {
                tracing::debug!(controller = controller.name(), key = %key, error = %retry, "will be tried again");
            } else {
                tracing::warn!(controller = controller.name(), key = %key, error = %retry, "will be tried again");
            }
            Outcome::Failed {
                at_least: retry.at_least,
            }
        }
        Err(_) => {
            metrics.ran(false, took);
            metrics.panicked();
            tracing::error!(controller = controller.name(), key = %key, "reconcile panicked");
            Outcome::Failed {
                at_least: Duration::from_secs(1),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::backoff::Backoff;
    use parking_lot::Mutex;
    use std::collections::BTreeMap;

    struct Scripted {
        /// Runs so far, by key.
        runs: Mutex<BTreeMap<String, u32>>,
        active: Mutex<BTreeMap<String, u32>>,
        finished: watch::Sender<u32>,
    }

    impl Scripted {
        /// With the number of runs that went well.
        fn new() -> (Arc<Self>, watch::Receiver<u32>) {
            let (finished, finishes) = watch::channel(0);
            let controller = Self {
                runs: Mutex::default(),
                active: Mutex::default(),
                finished,
            };
            (Arc::new(controller), finishes)
        }
    }

    impl Reconcile for Scripted {
        type Key = String;

        fn name(&self) -> &'static str {
            "scripted"
        }

        async fn reconcile(&self, key: &String) -> Result<Next, Retry> {
            let run = {
                let mut runs = self.runs.lock();
                let run = runs.entry(key.clone()).or_insert(0);
                *run += 1;
                *run
            };
            let overlap = {
                let mut active = self.active.lock();
                let active = active.entry(key.clone()).or_insert(0);
                *active += 1;
                *active
            };
            assert_eq!(overlap, 1, "two runs of {key} at once");
            tokio::time::sleep(Duration::from_millis(5)).await;
            *self.active.lock().get_mut(key).unwrap() -= 1;
            if key == "panics" && run == 1 {
                panic!("defect");
            }
            if key == "fails" && run < 3 {
                return Err(Retry::new("not yet"));
            }
            self.finished.send_modify(|finished| *finished += 1);
            Ok(Next::Settled)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_runs_before_ready_and_failures_and_panics_are_retried() {
        let metrics = Arc::new(ControllerMetrics::default());
        let queue = Queue::new(Backoff::default(), Arc::clone(&metrics));
        let (controller, mut finishes) = Scripted::new();
        let (ready, is_ready) = watch::channel(false);
        let shutdown = CancellationToken::new();
        for key in ["works", "fails", "panics"] {
            queue.add(key.to_owned());
        }
        let run = tokio::spawn(run(
            Arc::clone(&controller),
            queue,
            4,
            Arc::clone(&metrics),
            Precedence::default(),
            is_ready,
            shutdown.clone(),
        ));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(controller.runs.lock().is_empty());
        ready.send_replace(true);
        finishes.wait_for(|finished| *finished == 3).await.unwrap();
        shutdown.cancel();
        run.await.unwrap();
        let runs = controller.runs.lock().clone();
        assert_eq!(
            runs,
            BTreeMap::from([("fails".into(), 3), ("panics".into(), 2), ("works".into(), 1)])
        );
        let figures = metrics.figures();
        assert_eq!((figures.succeeded, figures.failed, figures.panicked), (3, 3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_begins_while_something_goes_first() {
        let metrics = Arc::new(ControllerMetrics::default());
        let queue = Queue::new(Backoff::default(), Arc::clone(&metrics));
        let urgent = Queue::new(Backoff::default(), Arc::clone(&metrics));
        let (controller, mut finishes) = Scripted::new();
        let (_ready, is_ready) = watch::channel(true);
        let shutdown = CancellationToken::new();
        urgent.add_first("word".to_owned());
        queue.add("works".to_owned());
        let run = tokio::spawn(run(
            Arc::clone(&controller),
            queue.clone(),
            1,
            metrics,
            urgent.precedence().clone(),
            is_ready,
            shutdown.clone(),
        ));
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(controller.runs.lock().is_empty());
        // What happens to the key meanwhile is seen by the run that it waits for.
        queue.add("works".to_owned());
        let word = urgent.next().await.unwrap();
        urgent.done(&word, Outcome::Settled);
        finishes.wait_for(|finished| *finished == 2).await.unwrap();
        shutdown.cancel();
        run.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_waits_for_what_is_being_worked_on() {
        let metrics = Arc::new(ControllerMetrics::default());
        let queue = Queue::new(Backoff::default(), Arc::clone(&metrics));
        let (controller, finishes) = Scripted::new();
        let (_ready, is_ready) = watch::channel(true);
        let shutdown = CancellationToken::new();
        queue.add("works".to_owned());
        let run = tokio::spawn(run(
            Arc::clone(&controller),
            queue,
            1,
            metrics,
            Precedence::default(),
            is_ready,
            shutdown.clone(),
        ));
        tokio::time::sleep(Duration::from_millis(1)).await;
        shutdown.cancel();
        run.await.unwrap();
        assert_eq!(*finishes.borrow(), 1);
    }
}
