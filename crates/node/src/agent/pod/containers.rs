//! Containers of a Pod: which runs next, and what each waits for.

use std::{net::IpAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Container;
use tokio::time::Instant;

use super::{
    Failed, Worker,
    handler::{Action, Target, perform},
    image::{self, Answer},
    probes,
    start::{self, Request},
    state::{self, Restart, Run, go_duration, is_sidecar},
};
use crate::agent::engine::{ContainerSpec, EngineError, Image, Phase};

/// How long a hook after the start may take before the container counts as one that did not start.
const POST_START: Duration = Duration::from_secs(60);

/// What a container is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Main,
    Init,
    Sidecar,
}

impl Worker {
    /// Starts to pull what the first containers need, while their network is being made.
    pub(super) async fn begin_images(&mut self) -> Result<(), Failed> {
        if self.state.sandbox.is_some() {
            return Ok(());
        }
        let spec = state::spec(&self.pod);
        let (runtime, pod, changed) = (self.runtime.clone(), self.pod.clone(), self.desk.changed.clone());
        for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
            let record = self.state.record(&container.name);
            if record.current.is_some() || record.waiting.is_some() {
                continue;
            }
            match image::ensure(&runtime, &pod, container, record, &changed).await? {
                Answer::Here(image) => *record.pull.lock() = state::Pull::Done(image),
                Answer::Wait(reason, message, _) => record.wait_for(reason, message),
                Answer::Pulling => {}
            }
        }
        Ok(())
    }

    /// Brings every container forward as far as it can go now.
    pub(super) async fn drive_all(&mut self) -> Result<(), Failed> {
        let spec = state::spec(&self.pod);
        let init: Vec<Container> = spec.init_containers.clone().unwrap_or_default();
        if !self.state.initialized {
            for container in &init {
                let part = if is_sidecar(container) {
                    Part::Sidecar
                } else {
                    Part::Init
                };
                let record = self.state.record(&container.name);
                if part == Part::Init && record.has_succeeded() {
                    record.waiting = None;
                    continue;
                }
                self.drive(container, part).await?;
                let record = self.state.record(&container.name);
                let goes_on = match part {
                    Part::Sidecar => record.is_started(),
                    _ => record.has_succeeded(),
                };
                if !goes_on {
                    return Ok(());
                }
            }
            self.state.initialized = true;
        }
        let restart = Restart::of(&spec);
        let is_over = spec.containers.iter().all(|container| {
            let run = self
                .state
                .get(&container.name)
                .and_then(|record| record.current.as_ref());
            run.and_then(Run::code).is_some_and(|code| !restart.after(code))
        });
        if is_over {
            return self.stop_sidecars().await;
        }
        for container in init.iter().filter(|container| is_sidecar(container)) {
            self.drive(container, Part::Sidecar).await?;
        }
        for container in &spec.containers {
            self.drive(container, Part::Main).await?;
        }
        Ok(())
    }

    async fn drive(&mut self, container: &Container, part: Part) -> Result<(), Failed> {
        let name = &container.name;
        let restart = Restart::of(&state::spec(&self.pod));
        let record = self.state.record(name);
        if record.is_running() {
            record.waiting = None;
            let unhealthy = record.health.lock().must_restart.take();
            if let Some(why) = unhealthy.filter(|_| record.stopping.is_none()) {
                self.normal("Killing", format!("Container {name} {why}"));
                let grace = self.probe_grace(container);
                self.begin_stop(container, grace).await?;
            }
            return self.kill_if_due(name).await;
        }
        let code = record.current.as_ref().and_then(Run::code);
        if let Some(code) = code {
            let again = match part {
                Part::Main => restart.after(code),
                Part::Init => code != 0 && restart != Restart::Never,
                Part::Sidecar => true,
            };
            if !again {
                record.waiting = None;
                return Ok(());
            }
        }
        let now = Instant::now();
        if let Some(at) = record.not_before.filter(|at| *at > now) {
            self.hold_back(name, at);
            return Ok(());
        }
        self.start(container).await
    }

    /// A container that ended too often waits.
    fn hold_back(&mut self, name: &str, at: Instant) {
        let uid = self.desk.uid.clone();
        let pod = format!("{}_{}", self.desk.name.name, self.desk.name.namespace);
        let record = self.state.record(name);
        let wait = state::back_off(record.crashes.saturating_sub(1));
        let is_new = record
            .waiting
            .as_ref()
            .is_none_or(|waiting| waiting.reason != "CrashLoopBackOff");
        if is_new {
            let message = format!(
                "back-off {} restarting failed container={name} pod={pod}({uid})",
                go_duration(wait)
            );
            record.wait_for("CrashLoopBackOff", message);
            self.warn(
                "BackOff",
                format!("Back-off restarting failed container {name} in pod {pod}({uid})"),
            );
        }
        self.look_again(at);
    }

    async fn start(&mut self, container: &Container) -> Result<(), Failed> {
        let name = &container.name;
        let (runtime, pod, changed) = (self.runtime.clone(), self.pod.clone(), self.desk.changed.clone());
        let record = self.state.record(name);
        let image = match image::ensure(&runtime, &pod, container, record, &changed).await? {
            Answer::Here(image) => image,
            Answer::Pulling => {
                let shown = record.waiting.as_ref().map(|waiting| waiting.reason);
                if !matches!(shown, Some("ErrImagePull" | "ImagePullBackOff")) {
                    record.waiting = None;
                }
                return Ok(());
            }
            Answer::Wait(reason, message, until) => {
                record.wait_for(reason, message);
                if let Some(until) = until {
                    self.look_again(until);
                }
                if reason == "ErrImagePull" {
                    // The next look says that it backs off.
                    self.desk.changed.notify_one();
                }
                return Ok(());
            }
        };
        let attempt = record.next_attempt;
        let Some(sandbox) = self.state.sandbox.clone() else {
            return Ok(());
        };
        let sources = self.sources(&pod);
        let request = Request {
            runtime: &runtime,
            pod: &pod,
            container,
            image: &image,
            sandbox: &sandbox,
            volumes: &self.volumes,
            sources: &sources,
            attempt,
        };
        let (spec, invalid) = match request.build() {
            Ok(built) => built,
            Err(message) => {
                self.could_not(name, "CreateContainerConfigError", &message);
                return Ok(());
            }
        };
        if !invalid.is_empty() {
            let keys = invalid.join(", ");
            self.warn_once(
                "InvalidEnvironmentVariableNames",
                format!(
                    "Keys [{keys}] were skipped since they are considered invalid environment variable names."
                ),
            );
        }
        self.create_and_start(container, spec, &image).await
    }

    fn could_not(&mut self, name: &str, reason: &'static str, message: &str) {
        let record = self.state.record(name);
        let is_new = record
            .waiting
            .as_ref()
            .is_none_or(|waiting| waiting.message != message);
        record.wait_for(reason, message);
        if is_new {
            self.warn("Failed", format!("Error: {message}"));
        }
    }

    async fn create_and_start(
        &mut self,
        container: &Container,
        mut spec: ContainerSpec,
        image: &Image,
    ) -> Result<(), Failed> {
        let name = &container.name;
        let engine = self.runtime.engine.clone();
        self.retire(name).await?;
        let mut outcome = self.try_to_start(&spec).await;
        if let Err((_, EngineError::Refused(message))) = &outcome
            && (spec.memory.is_some() || spec.nano_cpus.is_some() || spec.cpu_shares.is_some())
            && start::is_about_limits(message)
        {
            let message = message.clone();
            (spec.memory, spec.nano_cpus, spec.cpu_shares) = (None, None, None);
            engine.remove(&spec.name).await?;
            outcome = self.try_to_start(&spec).await;
            if outcome.is_ok() {
                self.without_limits(message);
            }
        }
        let record = self.state.record(name);
        let attempt = record.next_attempt;
        let mut run = Run {
            id: String::new(),
            attempt,
            image_id: image.digest.clone().unwrap_or_else(|| image.id.clone()),
            phase: Phase::Running,
            started: Some(Timestamp::now()),
            problem: None,
            message: None,
        };
        match outcome {
            Ok(id) => run.id = id,
            Err((_, error)) if error.is_away() => return Err(error.into()),
            Err((None, error)) => {
                record.not_before = Some(Instant::now() + record.count_end().max(state::BACK_OFF.0));
                self.could_not(name, "CreateContainerError", &error.to_string());
                let at = self.state.record(name).not_before;
                at.into_iter().for_each(|at| self.look_again(at));
                return Ok(());
            }
            Err((Some(id), error)) => {
                run.id = id;
                run.phase = Phase::Exited {
                    code: 128,
                    oom_killed: false,
                    finished: Some(Timestamp::now()),
                    error: error.to_string(),
                };
                run.problem = Some(("StartError", error.to_string()));
                record.next_attempt = attempt + 1;
                record.current = Some(run);
                record.not_before = Some(Instant::now() + record.count_end());
                self.normal("Created", format!("Created container: {name}"));
                self.could_not(name, "RunContainerError", &error.to_string());
                // The next look says how long it waits.
                self.desk.changed.notify_one();
                return Ok(());
            }
        }
        record.next_attempt = attempt + 1;
        record.current = Some(run);
        record.waiting = None;
        record.not_before = None;
        self.normal("Created", format!("Created container: {name}"));
        self.normal("Started", format!("Started container {name}"));
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.post_start.as_ref());
        if let Some(action) = hook.and_then(Action::of_hook)
            && let Some(target) = self.target(container)
            && let Err(why) = perform(&self.runtime, &target, &action, POST_START).await
        {
            self.warn("FailedPostStartHook", format!("PostStartHook failed: {why}"));
            self.normal(
                "Killing",
                format!("FailedPostStartHook, will restart container {name}"),
            );
            // A container that is told to end becomes neither ready nor healthy any more.
            return self.begin_stop(container, self.grace()).await;
        }
        self.watch_health(container, None);
        Ok(())
    }

    /// Makes and starts a container. An error says whether there is one.
    async fn try_to_start(&self, spec: &ContainerSpec) -> Result<String, (Option<String>, EngineError)> {
        let id = self.runtime.create(spec).await.map_err(|error| (None, error))?;
        match self.runtime.engine.start(&id).await {
            Ok(()) => Ok(id),
            Err(error) => Err((Some(id), error)),
        }
    }

    /// The host does not let containers be limited: they run without, and everybody is told.
    fn without_limits(&mut self, message: String) {
        self.warn(
            "ResourceLimitsNotEnforced",
            format!(
                "resources are not limited: the container engine cannot set limits on this host ({message})"
            ),
        );
        *self.runtime.limits.resources.write() = Some(message);
        self.runtime.tell_node();
    }

    /// Makes room for the next run: the last one becomes the one before, and that one goes.
    async fn retire(&mut self, name: &str) -> Result<(), Failed> {
        let (runtime, pod) = (self.runtime.clone(), self.pod.clone());
        let record = self.state.record(name);
        if record.current.is_none() {
            return Ok(());
        }
        if let Some(old) = &record.previous {
            runtime.engine.remove(&old.id).await?;
            start::forget_message(&runtime, &pod, name, old.attempt);
        }
        record.previous = record.current.take();
        Ok(())
    }

    pub(super) fn target(&self, container: &Container) -> Option<Target> {
        Some(Target {
            namespace: self.desk.name.namespace.clone(),
            address: IpAddr::V4(self.state.sandbox.as_ref()?.address),
            container: Arc::new(container.clone()),
            id: self.state.get(&container.name)?.current.as_ref()?.id.clone(),
        })
    }

    /// Begins to probe a container.
    pub(super) fn watch_health(&mut self, container: &Container, before: Option<(bool, bool)>) {
        let Some(target) = self.target(container) else {
            return;
        };
        let (runtime, pod, changed) = (self.runtime.clone(), self.pod.clone(), self.desk.changed.clone());
        let record = self.state.record(&container.name);
        if let Some(old) = record.prober.take() {
            old.abort();
        }
        record.prober = probes::start(runtime, pod, target, &record.health, changed, before);
    }
}
