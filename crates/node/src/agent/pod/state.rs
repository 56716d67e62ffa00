//! What the agent knows of a Pod beside its object: containers, how often they failed, what they wait for.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, PodSpec};
use parking_lot::Mutex;
use tokio::{task::AbortHandle, time::Instant};

use super::probes::Health;
use crate::agent::engine::{Image, Phase};

/// First and longest wait between two starts of a container, or two pulls of an image.
pub(super) const BACK_OFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// A container that ran so long counts as healthy: it begins with the first wait again.
pub(super) const BACK_OFF_RESET: Duration = Duration::from_secs(600);

/// The container that owns the Pod's network.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) address: Ipv4Addr,
}

/// One run of a container.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) id: String,
    pub(super) attempt: u32,
    pub(super) image_id: String,
    pub(super) phase: Phase,
    pub(super) started: Option<Timestamp>,
    /// Why it did not start, if it did not: a reason such as `StartError`.
    pub(super) problem: Option<(&'static str, String)>,
    /// What it left as its last words.
    pub(super) message: Option<String>,
}

impl Run {
    pub(super) fn is_running(&self) -> bool {
        self.phase == Phase::Running
    }

    /// The code that it ended with, if it has ended.
    pub(super) fn code(&self) -> Option<i64> {
        match &self.phase {
            Phase::Exited { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn finished(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Exited { finished, .. } => *finished,
            _ => None,
        }
    }

    fn ran(&self) -> Duration {
        match (self.started, self.finished()) {
            (Some(from), Some(to)) => Duration::try_from(from.duration_until(to)).unwrap_or_default(),
            _ => Duration::ZERO,
        }
    }
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// The pull of an image.
#[derive(Default)]
pub(super) enum Pull {
    #[default]
    Idle,
    Running,
    Done(Image),
    Failed {
        error: String,
        until: Instant,
    },
}

/// Everything about one container of a Pod.
#[derive(Default)]
pub(super) struct Record {
    pub(super) current: Option<Run>,
    /// The run before, kept for its logs.
    pub(super) previous: Option<Run>,
    pub(super) waiting: Option<Waiting>,
    /// The number of the next run.
    pub(super) next_attempt: u32,
    /// Ends in a row that were too early.
    pub(super) crashes: u32,
    pub(super) not_before: Option<Instant>,
    pub(super) pull: Arc<Mutex<Pull>>,
    pub(super) pulls_failed: u32,
    pub(super) health: Arc<Mutex<Health>>,
    pub(super) prober: Option<AbortHandle>,
    /// It has been told to end; when it will be killed.
    pub(super) stopping: Option<Instant>,
    pub(super) killed: bool,
}

impl Record {
    pub(super) fn is_running(&self) -> bool {
        self.current.as_ref().is_some_and(Run::is_running)
    }

    pub(super) fn has_succeeded(&self) -> bool {
        self.current.as_ref().and_then(Run::code) == Some(0)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.current.as_ref().is_some_and(|run| run.code().is_some())
    }

    pub(super) fn is_started(&self) -> bool {
        self.is_running() && self.health.lock().started
    }

    pub(super) fn is_ready(&self) -> bool {
        let health = self.health.lock();
        self.is_running() && health.started && health.ready
    }

    /// Counts an end. Gives how long to wait before the next start: nothing after the first end.
    pub(super) fn count_end(&mut self) -> Duration {
        let ran = self.current.as_ref().map(Run::ran).unwrap_or_default();
        if ran > BACK_OFF_RESET {
            self.crashes = 0;
        }
        let wait = back_off(self.crashes);
        self.crashes += 1;
        wait
    }

    pub(super) fn wait_for(&mut self, reason: &'static str, message: impl Into<String>) {
        self.waiting = Some(Waiting {
            reason,
            message: message.into(),
        });
    }
}

/// The wait after so many ends in a row: none, 10 s, and then twice as long each time, up to 5 minutes.
pub(super) fn back_off(before: u32) -> Duration {
    match before {
        0 => Duration::ZERO,
        _ => BACK_OFF
            .0
            .saturating_mul(1 << (before - 1).min(16))
            .min(BACK_OFF.1),
    }
}

/// A duration as Go writes it: `10s`, `2m40s`, `5m0s`.
pub(super) fn go_duration(wait: Duration) -> String {
    match wait.as_secs() {
        seconds if seconds >= 60 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds => format!("{seconds}s"),
    }
}

/// Everything about a Pod.
#[derive(Default)]
pub(super) struct PodState {
    pub(super) sandbox: Option<Sandbox>,
    pub(super) next_sandbox: u32,
    pub(super) records: BTreeMap<String, Record>,
    pub(super) start_time: Option<Timestamp>,
    /// All init containers have done their part.
    pub(super) initialized: bool,
    /// The Pod has ended for a reason of its own, such as `DeadlineExceeded`.
    pub(super) failed: Option<(&'static str, String)>,
    /// Why nothing of it is started: reason and message of every container.
    pub(super) blocked: Option<Waiting>,
}

impl PodState {
    pub(super) fn record(&mut self, container: &str) -> &mut Record {
        self.records.entry(container.to_owned()).or_default()
    }

    pub(super) fn get(&self, container: &str) -> Option<&Record> {
        self.records.get(container)
    }

    pub(super) fn any_running(&self) -> bool {
        self.records.values().any(Record::is_running)
    }
}

/// How a Pod restarts its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    Always,
    OnFailure,
    Never,
}

impl Restart {
    pub(super) fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended with this code is started again.
    pub(super) fn after(self, code: i64) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// An init container that keeps running beside the others (KEP-753).
pub(super) fn is_sidecar(container: &ContainerSpec) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(super) fn spec(pod: &Pod) -> PodSpec {
    pod.spec.clone().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes() {
        let waits = [0, 1, 2, 3, 6, 50].map(|ends| back_off(ends).as_secs());
        assert_eq!(waits, [0, 10, 20, 40, 300, 300]);
        let texts = [10, 160, 300].map(|seconds| go_duration(Duration::from_secs(seconds)));
        assert_eq!(texts, ["10s", "2m40s", "5m0s"]);
    }

    #[test]
    fn a_long_run_starts_over() {
        let mut record = Record::default();
        assert_eq!(
            [record.count_end(), record.count_end(), record.count_end()].map(|wait| wait.as_secs()),
            [0, 10, 20]
        );
        let started = Timestamp::UNIX_EPOCH;
        record.current = Some(Run {
            id: String::new(),
            attempt: 3,
            image_id: String::new(),
            phase: Phase::Exited {
                code: 1,
                oom_killed: false,
                finished: Some(started + Duration::from_secs(601)),
                error: String::new(),
            },
            started: Some(started),
            problem: None,
            message: None,
        });
        assert_eq!(record.count_end(), Duration::ZERO);
    }
}
