//! The end of containers and Pods: in order, within their grace, and without one if it must be.

use std::time::Duration;

use futures::future;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{api::core::v1::Container, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use tokio::time::Instant;

use super::{
    Failed, Step, Worker,
    folder::remove_folder,
    handler::{Action, perform},
    state::{self, Record, is_sidecar},
    volumes::folder,
};
use crate::agent::{
    engine::{EngineError, Phase},
    labels,
};

/// A Pod's grace if it says none.
const GRACE: Duration = Duration::from_secs(30);
/// When a container that was killed is looked at again, if nothing is heard of it.
const KILLED: Duration = Duration::from_secs(2);

impl Worker {
    /// The time that the Pod gives its containers.
    pub(super) fn grace(&self) -> Duration {
        let said = self
            .pod
            .spec
            .as_ref()
            .and_then(|spec| spec.termination_grace_period_seconds);
        said.map_or(GRACE, |seconds| Duration::from_secs(seconds.unsigned_abs()))
    }

    /// The time that a failed probe gives a container.
    pub(super) fn probe_grace(&self, container: &Container) -> Duration {
        let probes = [&container.liveness_probe, &container.startup_probe];
        let said = probes
            .into_iter()
            .flatten()
            .find_map(|probe| probe.termination_grace_period_seconds);
        said.map_or_else(
            || self.grace(),
            |seconds| Duration::from_secs(seconds.unsigned_abs()),
        )
    }

    /// Tells a container to end, and when it will be killed. Its hook runs first, in the background.
    pub(super) async fn begin_stop(&mut self, container: &Container, grace: Duration) -> Result<(), Failed> {
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.pre_stop.clone());
        let target = self.target(container);
        let record = self.state.record(&container.name);
        if record.stopping.is_some() || !record.is_running() {
            return Ok(());
        }
        let deadline = Instant::now() + grace;
        record.stopping = Some(deadline);
        if let Some(prober) = record.prober.take() {
            // A container that ends is not asked whether it lives; it is not ready, either.
            prober.abort();
        }
        record.health.lock().ready = false;
        let Some(id) = record.current.as_ref().map(|run| run.id.clone()) else {
            return Ok(());
        };
        self.look_again(deadline);
        let signal = container
            .lifecycle
            .as_ref()
            .and_then(|hooks| hooks.stop_signal.clone())
            .unwrap_or_else(|| "SIGTERM".to_owned());
        let runtime = self.runtime.clone();
        let (action, pod) = (hook.as_ref().and_then(Action::of_hook), self.pod.clone());
        let Some((action, target)) = action.zip(target) else {
            return ignore_ended(runtime.engine.kill(&id, &signal).await);
        };
        runtime.clone().tasks.spawn(async move {
            if let Err(why) = perform(&runtime, &target, &action, grace).await {
                let message = format!("PreStopHook failed: {why}");
                runtime
                    .context
                    .recorder
                    .warning(&*pod, "kubelet", "FailedPreStopHook", message);
            }
            if let Err(error) = runtime.engine.kill(&id, &signal).await {
                tracing::debug!(container = id, "was not told to end: {error}");
            }
        });
        Ok(())
    }

    /// Kills a container whose time is over.
    pub(super) async fn kill_if_due(&mut self, name: &str) -> Result<(), Failed> {
        let engine = self.runtime.engine.clone();
        let record = self.state.record(name);
        let Some(deadline) = record.stopping else {
            return Ok(());
        };
        if deadline > Instant::now() {
            self.look_again(deadline);
            return Ok(());
        }
        let Some(id) = record.current.as_ref().map(|run| run.id.clone()) else {
            return Ok(());
        };
        record.killed = true;
        ignore_ended(engine.kill(&id, "SIGKILL").await)?;
        self.desk.touched.lock().insert(id);
        self.look_again(Instant::now() + KILLED);
        Ok(())
    }

    fn spec_containers(&self, sidecars: bool) -> Vec<Container> {
        let spec = state::spec(&self.pod);
        if sidecars {
            let init = spec.init_containers.unwrap_or_default();
            init.into_iter().filter(is_sidecar).rev().collect()
        } else {
            let init = spec.init_containers.unwrap_or_default();
            let plain = init.into_iter().filter(|container| !is_sidecar(container));
            spec.containers.into_iter().chain(plain).collect()
        }
    }

    fn is_running(&self, name: &str) -> bool {
        self.state.get(name).is_some_and(Record::is_running)
    }

    /// Stops sidecars once nothing needs them, the last one first.
    pub(super) async fn stop_sidecars(&mut self) -> Result<(), Failed> {
        let grace = self.grace();
        self.stop_in_order(grace, true).await
    }

    /// Stops everything that runs.
    pub(super) async fn stop_all(&mut self) -> Result<(), Failed> {
        let grace = self.grace();
        self.stop_in_order(grace, false).await
    }

    async fn stop_in_order(&mut self, grace: Duration, only_sidecars: bool) -> Result<(), Failed> {
        if !only_sidecars {
            let mut any = false;
            for container in self.spec_containers(false) {
                if self.is_running(&container.name) {
                    any = true;
                    self.stop_one(&container, grace).await?;
                }
            }
            if any {
                return Ok(());
            }
        }
        for container in self.spec_containers(true) {
            if self.is_running(&container.name) {
                return self.stop_one(&container, grace).await;
            }
        }
        Ok(())
    }

    async fn stop_one(&mut self, container: &Container, grace: Duration) -> Result<(), Failed> {
        let is_new = self.state.record(&container.name).stopping.is_none();
        if is_new {
            self.normal("Killing", format!("Stopping container {}", container.name));
            self.begin_stop(container, grace).await?;
        }
        self.kill_if_due(&container.name).await
    }

    /// The Pod is to go: its containers first, within its grace, then everything else of it, then its object.
    pub(super) async fn terminate(&mut self) -> Result<Step, Failed> {
        let grace = grace_left(&self.pod.metadata, Timestamp::now());
        // Somebody may have become less patient since it was told to end.
        let deadline = Instant::now() + grace;
        for record in self.state.records.values_mut() {
            record.stopping = record.stopping.map(|known| known.min(deadline));
        }
        self.stop_in_order(grace, false).await?;
        self.refresh().await?;
        if self.state.any_running() {
            self.write_status().await?;
            return Ok(Step::Wait);
        }
        let nothing_left = self.state.records.is_empty() && self.state.sandbox.is_none();
        if self.pod.metadata.deletion_grace_period_seconds == Some(0) && nothing_left {
            // Only finalizers hold it.
            return Ok(Step::Done);
        }
        self.write_status().await?;
        self.clean_up().await?;
        self.runtime.context.delete(&*self.pod, Some(0)).await?;
        Ok(Step::Done)
    }

    /// Removes the runs of all containers: the sandbox that they were in is gone.
    pub(super) async fn drop_runs(&mut self) -> Result<(), Failed> {
        let mut ids = Vec::new();
        for record in self.state.records.values_mut() {
            if let Some(prober) = record.prober.take() {
                prober.abort();
            }
            *record.health.lock() = super::probes::Health::default();
            record.stopping = None;
            record.waiting = None;
            record.not_before = None;
            let runs = [record.previous.take(), record.current.take()];
            ids.extend(runs.into_iter().flatten().map(|run| run.id));
        }
        self.state.initialized = state::spec(&self.pod)
            .init_containers
            .iter()
            .flatten()
            .next()
            .is_none();
        let engine = &self.runtime.engine;
        future::try_join_all(ids.iter().map(|id| engine.remove(id))).await?;
        Ok(())
    }

    /// A Pod that has finished needs no network any longer. Its containers stay, for their logs.
    pub(super) async fn stop_sandbox(&mut self) -> Result<(), Failed> {
        let Some(sandbox) = self.state.sandbox.take() else {
            return Ok(());
        };
        match self.runtime.engine.inspect(&sandbox.id).await {
            Ok(found) if found.phase == Phase::Running => {
                ignore_ended(self.runtime.engine.kill(&sandbox.id, "SIGKILL").await)?;
            }
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                self.state.sandbox = Some(sandbox);
                return Err(error.into());
            }
        }
        Ok(())
    }

    /// Removes everything of the Pod but its object.
    pub(super) async fn clean_up(&mut self) -> Result<(), Failed> {
        let engine = self.runtime.engine.clone();
        self.drop_runs().await?;
        // Also what was not known of: a sandbox that was stopped, a container that was made when this program ended.
        let filter = format!("{}={}", labels::POD_UID, self.desk.uid);
        let left = engine.containers(&filter).await?;
        let (sandboxes, others): (Vec<_>, Vec<_>) = left
            .into_iter()
            .filter(|(_, of)| of.get(labels::INSTANCE) == Some(&self.runtime.instance))
            .partition(|(_, of)| of.get(labels::ROLE).map(String::as_str) == Some(labels::Role::SANDBOX));
        for group in [others, sandboxes] {
            future::try_join_all(group.iter().map(|(id, _)| engine.remove(id))).await?;
        }
        self.state.sandbox = None;
        self.state.records.clear();
        let in_memory = self
            .pod
            .spec
            .iter()
            .flat_map(|spec| spec.volumes.iter().flatten())
            .any(|volume| {
                let empty = volume.empty_dir.as_ref();
                empty.is_some_and(|empty| empty.medium.as_deref() == Some("Memory"))
            });
        if in_memory {
            for (name, _) in engine.volumes(&filter).await? {
                engine.remove_volume(&name).await?;
            }
        }
        remove_folder(&self.runtime, &folder(&self.runtime, &self.desk.uid)).await;
        Ok(())
    }
}

/// What is left of the time that whoever deleted a Pod gave it.
fn grace_left(metadata: &ObjectMeta, now: Timestamp) -> Duration {
    let given = metadata.deletion_grace_period_seconds;
    let given = given.map_or(GRACE, |seconds| {
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    });
    let Some(until) = metadata.deletion_timestamp.as_ref() else {
        return given;
    };
    // The time is written in whole seconds, rounded down: a short grace would be over before it began.
    let left = now.duration_until(until.0) + SignedDuration::from_secs(1);
    Duration::try_from(left).unwrap_or_default().min(given)
}

/// That a container cannot be told to end because it has ended is no error.
fn ignore_ended(outcome: Result<(), EngineError>) -> Result<(), Failed> {
    match outcome {
        Err(error) if error.is_away() => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    #[test]
    fn a_short_grace_is_not_over_before_it_began() {
        let at = |time: &str| time.parse::<Timestamp>().unwrap();
        // Deleted at 10.9 s with a second of grace: the server writes 11 s, which is 11.9 s without its fraction.
        let mut metadata = ObjectMeta {
            deletion_timestamp: Some(Time(at("2026-01-01T00:00:11Z"))),
            deletion_grace_period_seconds: Some(1),
            ..ObjectMeta::default()
        };
        let left = |metadata: &ObjectMeta, now: &str| grace_left(metadata, at(now));
        assert_eq!(left(&metadata, "2026-01-01T00:00:10.95Z"), Duration::from_secs(1));
        assert_eq!(
            left(&metadata, "2026-01-01T00:00:11.5Z"),
            Duration::from_millis(500)
        );
        assert_eq!(left(&metadata, "2026-01-01T00:00:20Z"), Duration::ZERO);
        metadata.deletion_grace_period_seconds = Some(0);
        assert_eq!(left(&metadata, "2026-01-01T00:00:10.95Z"), Duration::ZERO);
        assert_eq!(left(&ObjectMeta::default(), "2026-01-01T00:00:10.95Z"), GRACE);
    }
}
