//! What was there before a worker began: containers of an earlier process, known by their labels.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ContainerStatus;
use tokio::time::Instant;

use super::{
    Failed, Worker, start,
    state::{self, PodState, Run, Sandbox},
};
use crate::agent::{
    engine::{Container as Found, Phase},
    labels::{self, Role},
};

impl Worker {
    /// Takes over what was there before this worker.
    pub(super) async fn adopt(&mut self) -> Result<(), Failed> {
        self.state = PodState::default();
        let ids = self
            .runtime
            .found
            .lock()
            .get(&self.desk.uid)
            .cloned()
            .unwrap_or_default();
        let simulated = |status: &ContainerStatus| {
            let id = status.container_id.as_deref().unwrap_or_default();
            id.starts_with("simulated://")
        };
        let status = self.pod.status.clone().unwrap_or_default();
        let known: Vec<ContainerStatus> = status
            .container_statuses
            .into_iter()
            .chain(status.init_container_statuses)
            .flatten()
            .filter(|status| !simulated(status))
            .collect();
        self.state.start_time = status.start_time.map(|time| time.0);
        for status in &known {
            let record = self.state.record(&status.name);
            record.next_attempt = u32::try_from(status.restart_count).unwrap_or_default();
            record.crashes = record.next_attempt;
            if status.container_id.is_some() {
                // The next one is another run.
                record.next_attempt += 1;
            }
        }
        let mut sandboxes = Vec::new();
        for id in ids {
            let found = match self.runtime.engine.inspect(&id).await {
                Ok(found) => found,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            if found.labels.get(labels::ROLE).map(String::as_str) == Some(Role::SANDBOX) {
                sandboxes.push(found);
            } else {
                self.adopt_container(&found);
            }
        }
        self.adopt_sandbox(sandboxes).await?;
        let spec = state::spec(&self.pod);
        let was_started = |name: &String| {
            self.state
                .get(name)
                .is_some_and(|record| record.current.is_some())
        };
        self.state.initialized = spec.init_containers.iter().flatten().next().is_none()
            || spec
                .containers
                .iter()
                .any(|container| was_started(&container.name));
        let all = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten());
        for container in all {
            if self
                .state
                .get(&container.name)
                .is_some_and(state::Record::is_running)
            {
                let before = known.iter().find(|status| status.name == container.name);
                let before = before.map(|status| (status.started == Some(true), status.ready));
                self.watch_health(container, before);
            }
        }
        self.runtime.found.lock().remove(&self.desk.uid);
        Ok(())
    }

    fn adopt_container(&mut self, found: &Found) {
        let name = found.labels.get(labels::CONTAINER).cloned().unwrap_or_default();
        let attempt = found
            .labels
            .get(labels::ATTEMPT)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let mut run = Run {
            id: found.id.clone(),
            attempt,
            image_id: found.image_id.clone(),
            phase: found.phase.clone(),
            started: found.started,
            problem: None,
            message: None,
        };
        if run.phase == Phase::Created {
            // It was made and never started: this program ended in between.
            run.phase = Phase::Exited {
                code: 128,
                oom_killed: false,
                finished: Some(Timestamp::now()),
                error: String::new(),
            };
            run.problem = Some((
                "ContainerCannotRun",
                "it was not started before the node agent ended".to_owned(),
            ));
        } else if run.code().is_some() {
            run.message = start::message(&self.runtime, &self.pod, &name, attempt);
        }
        let record = self.state.record(&name);
        record.next_attempt = record.next_attempt.max(attempt + 1);
        record.crashes = record.crashes.max(attempt);
        match &record.current {
            Some(known) if known.attempt > attempt => record.previous = Some(run),
            _ => record.previous = record.current.replace(run),
        }
        let ended = record.current.as_ref().and_then(Run::finished);
        if let Some(ended) = ended {
            let wait = state::back_off(record.crashes);
            let passed = Duration::try_from(ended.duration_until(Timestamp::now())).unwrap_or_default();
            record.not_before = Some(Instant::now() + wait.saturating_sub(passed));
            record.crashes += 1;
        }
    }

    async fn adopt_sandbox(&mut self, mut sandboxes: Vec<Found>) -> Result<(), Failed> {
        let attempt = |found: &Found| -> u32 {
            let text = found.labels.get(labels::ATTEMPT);
            text.and_then(|text| text.parse().ok()).unwrap_or_default()
        };
        sandboxes.sort_by_key(attempt);
        self.state.next_sandbox = sandboxes.last().map_or(0, |found| attempt(found) + 1);
        if let Some(newest) = sandboxes.last()
            && let Some(address) = newest.addresses.values().next()
            && newest.phase == Phase::Running
        {
            self.state.sandbox = Some(Sandbox {
                id: newest.id.clone(),
                address: *address,
            });
            sandboxes.pop();
        }
        if self.state.sandbox.is_none() {
            // Their network is gone with it.
            self.drop_runs().await?;
        }
        for old in sandboxes {
            self.runtime.engine.remove(&old.id).await?;
        }
        Ok(())
    }
}
