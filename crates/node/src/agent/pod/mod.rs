//! One worker for each Pod: it compares what the Pod says with what there is, does what is missing, and writes down how things are.

mod adopt;
mod containers;
mod env;
mod folder;
mod handler;
mod image;
mod probes;
mod refuse;
mod sandbox;
mod start;
mod state;
mod status;
mod stop;
mod volumes;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Runtime,
    engine::{Container as Found, EngineError, Phase},
};
use crate::core::{Error as ApiError, Name};
use state::{PodState, Waiting};
use volumes::{VolumeError, Volumes};

pub(super) use folder::remove_folder;
pub(crate) use volumes::make_folder;

/// First and longest wait after something that the worker could not do.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));
/// Wait after a status was written by somebody else at the same time.
const CONFLICT: Duration = Duration::from_millis(5);

/// What a worker is told through.
pub(super) struct Desk {
    pub(super) name: Name,
    pub(super) uid: String,
    pub(super) changed: Arc<Notify>,
    pub(super) touched: Arc<Mutex<BTreeSet<String>>>,
    pub(super) resync: Arc<AtomicBool>,
}

/// A worker at work.
struct Worker {
    runtime: Arc<Runtime>,
    desk: Desk,
    pod: Arc<Pod>,
    state: PodState,
    adopted: bool,
    volumes: Volumes,
    /// When to look again, if nothing happens before.
    next: Option<Instant>,
    sandbox_failures: u32,
    sandbox_not_before: Option<Instant>,
    /// Warnings that were given once.
    said: BTreeSet<String>,
}

enum Step {
    Wait,
    Done,
}

/// Something that is tried again.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// Works for a Pod until it is gone.
pub(super) async fn run(runtime: &Arc<Runtime>, desk: Desk) {
    let mut worker = Worker {
        runtime: runtime.clone(),
        desk,
        pod: Arc::default(),
        state: PodState::default(),
        adopted: false,
        volumes: Volumes::default(),
        next: None,
        sandbox_failures: 0,
        sandbox_not_before: None,
        said: BTreeSet::new(),
    };
    let mut failures = 0;
    loop {
        runtime.present().await;
        let wake = match Box::pin(worker.step()).await {
            Ok(Step::Done) => return,
            Ok(Step::Wait) => {
                failures = 0;
                worker.next
            }
            Err(failed) => {
                let wait = match &failed {
                    Failed::Api(error) if error.is_conflict() => CONFLICT,
                    _ => RETRY.0.saturating_mul(1 << failures.min(12)).min(RETRY.1),
                };
                failures += 1;
                tracing::debug!(pod = %worker.desk.name, ?wait, "will be tried again: {failed}");
                Some(Instant::now() + wait)
            }
        };
        tokio::select! {
            () = worker.desk.changed.notified() => {}
            () = until(wake) => {}
        }
        if runtime.tasks.is_closed() {
            return;
        }
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Worker {
    fn look_again(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |known| known.min(at)));
    }

    fn normal(&self, reason: &str, message: impl Into<String>) {
        let recorder = &self.runtime.context.recorder;
        recorder.normal(&*self.pod, "kubelet", reason, message.into());
    }

    fn warn(&self, reason: &str, message: impl Into<String>) {
        let recorder = &self.runtime.context.recorder;
        recorder.warning(&*self.pod, "kubelet", reason, message.into());
    }

    /// Warns, but says the same thing only once.
    fn warn_once(&mut self, reason: &str, message: String) {
        if self.said.insert(format!("{reason} {message}")) {
            self.warn(reason, message);
        }
    }

    async fn step(&mut self) -> Result<Step, Failed> {
        self.next = None;
        let found = self.runtime.context.world.pods.get(&self.desk.name);
        let Some(pod) = found.filter(|pod| pod.metadata.uid.as_ref() == Some(&self.desk.uid)) else {
            if !self.adopted {
                self.adopt().await?;
            }
            self.clean_up().await?;
            return Ok(Step::Done);
        };
        self.pod = pod;
        if !self.adopted {
            self.adopt().await?;
            self.adopted = true;
        }
        self.refresh().await?;
        if self.pod.metadata.deletion_timestamp.is_some() {
            return self.terminate().await;
        }
        if status::is_finished(&self.pod) {
            self.stop_sandbox().await?;
            return Ok(Step::Wait);
        }
        self.sync().await?;
        self.write_status().await?;
        Ok(Step::Wait)
    }

    /// Looks at the containers that something has happened to.
    async fn refresh(&mut self) -> Result<(), Failed> {
        let everything = self.desk.resync.swap(false, Ordering::SeqCst);
        let touched = std::mem::take(&mut *self.desk.touched.lock());
        let is_meant = |id: &String| everything || touched.contains(id);
        if let Some(sandbox) = self.state.sandbox.clone()
            && is_meant(&sandbox.id)
        {
            let runs = match self.runtime.engine.inspect(&sandbox.id).await {
                Ok(found) => found.phase == Phase::Running,
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(self.again(everything, touched, error)),
            };
            if !runs && !status::is_finished(&self.pod) && self.pod.metadata.deletion_timestamp.is_none() {
                self.normal(
                    "SandboxChanged",
                    "Pod sandbox changed, it will be killed and re-created.",
                );
                self.state.sandbox = None;
                self.drop_runs().await?;
                self.runtime.engine.remove(&sandbox.id).await?;
            } else if !runs {
                self.state.sandbox = None;
            }
        }
        let running: Vec<(String, String)> = self
            .state
            .records
            .iter()
            .filter_map(|(name, record)| Some((name.clone(), record.current.as_ref()?.id.clone())))
            .filter(|(_, id)| is_meant(id))
            .collect();
        for (name, id) in running {
            match self.runtime.engine.inspect(&id).await {
                Ok(found) => self.note(&name, found),
                Err(error) if error.is_not_found() => self.note_lost(&name),
                Err(error) => return Err(self.again(everything, touched, error)),
            }
        }
        Ok(())
    }

    /// What was not looked at is looked at the next time.
    fn again(&self, everything: bool, touched: BTreeSet<String>, error: EngineError) -> Failed {
        if everything {
            self.desk.resync.store(true, Ordering::SeqCst);
        }
        self.desk.touched.lock().extend(touched);
        error.into()
    }

    fn note(&mut self, name: &str, found: Found) {
        let (runtime, pod) = (self.runtime.clone(), self.pod.clone());
        let record = self.state.record(name);
        let Some(run) = record.current.as_mut() else {
            return;
        };
        let was_running = run.is_running();
        run.started = found.started.or(run.started);
        if found.phase == Phase::Created {
            return;
        }
        run.phase = found.phase;
        if was_running && !run.is_running() {
            run.message = start::message(&runtime, &pod, name, run.attempt);
            let limit = start::memory_limit(&pod, name).filter(|_| runtime.limits.resources.read().is_none());
            let told = record.stopping.is_some() || record.killed;
            if let (Some(limit), false) = (limit, told)
                && let Phase::Exited {
                    code: 137,
                    oom_killed: oom_killed @ false,
                    ..
                } = &mut run.phase
            {
                // Podman cannot see it with cgroups of version 1. Nobody else kills containers here.
                *oom_killed = true;
                run.message.get_or_insert_with(|| {
                    format!("killed (signal 9) while its memory was limited to {limit}; the container engine does not say why")
                });
            }
            self.ended(name);
        }
    }

    /// Somebody has removed the container.
    fn note_lost(&mut self, name: &str) {
        let record = self.state.record(name);
        if let Some(run) = record.current.as_mut().filter(|run| run.is_running()) {
            run.phase = Phase::Exited {
                code: 137,
                oom_killed: false,
                finished: Some(Timestamp::now()),
                error: String::new(),
            };
            let message = "The container could not be located when the pod was looked at".to_owned();
            run.problem = Some(("ContainerStatusUnknown", message));
            self.ended(name);
        }
    }

    /// A container has ended: nothing asks after its health any longer, and the next run waits its time.
    fn ended(&mut self, name: &str) {
        let record = self.state.record(name);
        if let Some(prober) = record.prober.take() {
            prober.abort();
        }
        *record.health.lock() = probes::Health::default();
        record.stopping = None;
        record.killed = false;
        let wait = record.count_end();
        record.not_before = Some(Instant::now() + wait);
    }

    async fn sync(&mut self) -> Result<(), Failed> {
        let pod = self.pod.clone();
        let spec = state::spec(&pod);
        let start = *self.state.start_time.get_or_insert_with(Timestamp::now);
        if let Some(seconds) = spec.active_deadline_seconds
            && self.state.failed.is_none()
        {
            let limit = Duration::from_secs(seconds.unsigned_abs());
            let passed = Duration::try_from(start.duration_until(Timestamp::now())).unwrap_or_default();
            match limit.checked_sub(passed).filter(|left| !left.is_zero()) {
                Some(left) => self.look_again(Instant::now() + left),
                None => {
                    let message = "Pod was active on the node longer than the specified deadline";
                    self.normal("DeadlineExceeded", message);
                    self.state.failed = Some(("DeadlineExceeded", message.to_owned()));
                }
            }
        }
        if self.state.failed.is_some() {
            return self.stop_all().await;
        }
        self.unmark().await?;
        for message in refuse::ignored(&pod) {
            self.warn_once("FieldNotSupported", message);
        }
        if let Some(message) = refuse::refusal(&pod) {
            self.block("CreateContainerConfigError", message);
            return Ok(());
        }
        self.begin_images().await?;
        if !self.ensure_sandbox().await? {
            return Ok(());
        }
        if !self.prepare_volumes().await? {
            return Ok(());
        }
        self.state.blocked = None;
        self.drive_all().await
    }

    /// Nothing of the Pod can start.
    fn block(&mut self, reason: &'static str, message: String) {
        let event = if reason == "CreateContainerConfigError" {
            "Failed"
        } else {
            "FailedMount"
        };
        let text = if event == "Failed" {
            format!("Error: {message}")
        } else {
            message.clone()
        };
        self.warn_once(event, text);
        self.state.blocked = Some(Waiting { reason, message });
    }

    /// A Pod that was simulated before is not any longer.
    async fn unmark(&mut self) -> Result<(), Failed> {
        let annotations = self.pod.metadata.annotations.as_ref();
        if annotations.is_some_and(|annotations| annotations.contains_key(crate::SIMULATED)) {
            let patch = serde_json::json!({"metadata": {"annotations": {crate::SIMULATED: null}}});
            let context = &self.runtime.context;
            self.pod = context.merge::<Pod>(&self.desk.name, &patch).await?;
        }
        Ok(())
    }

    /// Whether the Pod's volumes are there.
    async fn prepare_volumes(&mut self) -> Result<bool, Failed> {
        let (runtime, pod) = (self.runtime.clone(), self.pod.clone());
        let sources = self.sources(&pod);
        match volumes::prepare(&runtime, &sources, &pod).await {
            Ok(volumes) => {
                if let Some(renew) = volumes.renew {
                    let left = Duration::try_from(Timestamp::now().duration_until(renew)).unwrap_or_default();
                    self.look_again(Instant::now() + left.max(Duration::from_secs(10)));
                }
                self.volumes = volumes;
                Ok(true)
            }
            // What has started goes on with what it has.
            Err(error) if self.state.any_running() => {
                self.warn_once("FailedMount", error.message().to_owned());
                Ok(true)
            }
            Err(VolumeError::Missing(message)) => {
                self.block(
                    "ContainerCreating",
                    format!("MountVolume.SetUp failed: {message}"),
                );
                Ok(false)
            }
            Err(VolumeError::Unsupported(message)) => {
                self.block("CreateContainerConfigError", message);
                Ok(false)
            }
        }
    }

    fn sources<'a>(&'a self, pod: &'a Pod) -> env::Sources<'a> {
        let address = self
            .state
            .sandbox
            .as_ref()
            .map(|sandbox| sandbox.address.to_string());
        env::Sources {
            world: &self.runtime.context.world,
            pod,
            pod_address: address.unwrap_or_default(),
            host_address: crate::node::ADDRESS,
            cpus: self.runtime.info.cpus,
            memory: self.runtime.info.memory,
        }
    }

    async fn write_status(&mut self) -> Result<(), Failed> {
        let place = status::Place {
            runtime: &self.runtime.info.name,
            host: self.runtime.host_address(),
        };
        let next = status::compute(&self.pod, &self.state, &place);
        if self.pod.status.as_ref() == Some(&next) {
            return Ok(());
        }
        let mut changed = (*self.pod).clone();
        changed.status = Some(next);
        match self.runtime.context.replace_status(&changed).await {
            Ok(written) => {
                self.pod = written;
                Ok(())
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
