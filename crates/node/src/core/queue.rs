//! Tasks: each at most once at a time, again when something changed meanwhile, later when it failed or asked for it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use super::{Context, Error, Name, perform};
use crate::operators::Kind;

/// Tasks that run at once.
const AT_ONCE: usize = 16;

/// First and longest wait after an error.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Wait after a conflict: the event that brings the newer version is on its way and starts the task anyway.
const CONFLICT: Duration = Duration::from_millis(5);

/// Something to bring in order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    Deployment(Name),
    ReplicaSet(Name),
    StatefulSet(Name),
    DaemonSet(Name),
    Job(Name),
    CronJob(Name),
    /// A HorizontalPodAutoscaler.
    Autoscaler(Name),
    /// A PodDisruptionBudget.
    Budget(Name),
    /// The endpoints of a Service.
    Endpoints(Name),
    /// The node itself.
    Node,
    /// A Pod, as scheduler and kubelet see it.
    Pod(Name),
    /// A PersistentVolumeClaim.
    Claim(Name),
    /// The network of a namespace; the name is empty.
    Cell(Name),
    /// The ConfigMaps and Secrets of a namespace, which Pods may have mounted; the name is empty.
    Contents(Name),
    /// An object of somebody else's operator.
    Foreign(Kind, Name),
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Task::Deployment(name) => write!(f, "Deployment {name}"),
            Task::ReplicaSet(name) => write!(f, "ReplicaSet {name}"),
            Task::StatefulSet(name) => write!(f, "StatefulSet {name}"),
            Task::DaemonSet(name) => write!(f, "DaemonSet {name}"),
            Task::Job(name) => write!(f, "Job {name}"),
            Task::CronJob(name) => write!(f, "CronJob {name}"),
            Task::Autoscaler(name) => write!(f, "HorizontalPodAutoscaler {name}"),
            Task::Budget(name) => write!(f, "PodDisruptionBudget {name}"),
            Task::Endpoints(name) => write!(f, "endpoints of Service {name}"),
            Task::Node => write!(f, "Node {}", crate::NODE),
            Task::Pod(name) => write!(f, "Pod {name}"),
            Task::Claim(name) => write!(f, "PersistentVolumeClaim {name}"),
            Task::Cell(name) => write!(f, "network of namespace {}", name.namespace),
            Task::Contents(name) => write!(f, "contents of volumes in namespace {}", name.namespace),
            Task::Foreign(kind, name) => write!(f, "{} {name}", kind.name()),
        }
    }
}

/// What a task wants next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// To be called when something changes.
    Wait,
    /// To be called after this time, if not before.
    After(Duration),
}

impl Action {
    /// The sooner of two wishes.
    pub(crate) fn or(self, other: Action) -> Action {
        match (self, other) {
            (Action::After(one), Action::After(two)) => Action::After(one.min(two)),
            (Action::Wait, other) => other,
            (after, Action::Wait) => after,
        }
    }
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<Task>,
    /// Those in `ready`.
    queued: BTreeSet<Task>,
    /// Those that run; whether to run again.
    running: BTreeMap<Task, bool>,
    /// When to run again.
    times: BTreeSet<(Instant, Task)>,
    time_of: BTreeMap<Task, Instant>,
    failures: BTreeMap<Task, u32>,
}

impl Queue {
    fn add(&mut self, task: Task) {
        if let Some(again) = self.running.get_mut(&task) {
            *again = true;
        } else if self.queued.insert(task.clone()) {
            self.ready.push_back(task);
        }
    }

    fn later(&mut self, task: &Task, wait: Duration) {
        let time = Instant::now() + wait;
        if let Some(known) = self.time_of.get(task).copied() {
            if known <= time {
                return;
            }
            self.times.remove(&(known, task.clone()));
        }
        self.time_of.insert(task.clone(), time);
        self.times.insert((time, task.clone()));
    }

    fn start(&mut self) -> Option<Task> {
        let task = self.ready.pop_front()?;
        self.queued.remove(&task);
        self.running.insert(task.clone(), false);
        if let Some(time) = self.time_of.remove(&task) {
            self.times.remove(&(time, task.clone()));
        }
        Some(task)
    }

    fn ended(&mut self, task: &Task, outcome: Result<Action, Error>) {
        let again = self.running.remove(task).unwrap_or(false);
        match outcome {
            Ok(action) => {
                self.failures.remove(task);
                if let Action::After(wait) = action {
                    self.later(task, wait);
                }
            }
            Err(error) => {
                let first = if error.is_conflict() { CONFLICT } else { RETRY.0 };
                let failures = self.failures.entry(task.clone()).or_insert(0);
                let wait = first.saturating_mul(1 << (*failures).min(16)).min(RETRY.1);
                *failures += 1;
                tracing::debug!(%task, ?wait, "will be tried again: {error}");
                self.later(task, wait);
            }
        }
        if again {
            self.add(task.clone());
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while self.times.first().is_some_and(|(time, _)| *time <= now) {
            if let Some((_, task)) = self.times.pop_first() {
                self.time_of.remove(&task);
                self.add(task);
            }
        }
    }
}

/// Works until the senders are gone.
pub(crate) async fn work(context: &Arc<Context>, mut tasks: mpsc::UnboundedReceiver<Task>) {
    let mut queue = Queue::default();
    let mut running = JoinSet::new();
    loop {
        while running.len() < AT_ONCE {
            let Some(task) = queue.start() else { break };
            let context = context.clone();
            running.spawn(async move {
                let outcome = perform(&context, &task).await;
                (task, outcome)
            });
        }
        let next = queue.times.first().map(|(time, _)| *time);
        tokio::select! {
            task = tasks.recv() => match task {
                Some(task) => {
                    queue.add(task);
                    while let Ok(more) = tasks.try_recv() {
                        queue.add(more);
                    }
                }
                None => return,
            },
            Some(ended) = running.join_next() => match ended {
                Ok((task, outcome)) => queue.ended(&task, outcome),
                Err(error) => {
                    // Whose it was is not known: those that run are all looked at again, later.
                    tracing::error!("a task ended: {error}");
                    for (task, _) in std::mem::take(&mut queue.running) {
                        queue.later(&task, RETRY.1);
                    }
                }
            },
            () = sleep_until(next) => queue.due(),
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
