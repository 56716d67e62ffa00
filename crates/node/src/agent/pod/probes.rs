//! Probes: whether a container has started, lives and is ready.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::handler::{Action, Target, perform};
use crate::agent::Runtime;

/// First wait between two tries before the first period is over: a server that is ready after a few milliseconds need not wait for the
/// rest of it. Such tries count only when they succeed.
const EAGER: Duration = Duration::from_millis(40);

/// What the probes of a container have found.
#[derive(Debug, Default)]
pub(super) struct Health {
    pub(super) started: bool,
    pub(super) ready: bool,
    /// Why it must be restarted.
    pub(super) must_restart: Option<String>,
}

/// The three of them, as numbers.
struct Settings {
    action: Action,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Settings {
    fn of(probe: Option<&Probe>) -> Option<Self> {
        let probe = probe?;
        let seconds = |value: Option<i32>, default: u64| {
            let value = value.and_then(|value| u64::try_from(value).ok());
            Duration::from_secs(value.filter(|value| *value > 0).unwrap_or(default))
        };
        let count = |value: Option<i32>, default: u32| {
            let value = value.and_then(|value| u32::try_from(value).ok());
            value.filter(|value| *value > 0).unwrap_or(default)
        };
        Some(Self {
            action: Action::of_probe(probe)?,
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        })
    }
}

/// What a prober works with.
struct Prober {
    runtime: Arc<Runtime>,
    pod: Arc<Pod>,
    target: Target,
    health: Arc<Mutex<Health>>,
    changed: Arc<Notify>,
}

/// Begins to look after a container that has just started, or that was found running. `before` says what was known of it then.
pub(super) fn start(
    runtime: Arc<Runtime>,
    pod: Arc<Pod>,
    target: Target,
    health: &Arc<Mutex<Health>>,
    changed: Arc<Notify>,
    before: Option<(bool, bool)>,
) -> Option<AbortHandle> {
    let container: Arc<Container> = target.container.clone();
    let startup = Settings::of(container.startup_probe.as_ref());
    let readiness = Settings::of(container.readiness_probe.as_ref());
    let liveness = Settings::of(container.liveness_probe.as_ref());
    {
        let mut health = health.lock();
        let (started, ready) = before.unwrap_or_default();
        *health = Health {
            started: started || startup.is_none(),
            ready: ready || readiness.is_none(),
            must_restart: None,
        };
    }
    if startup.is_none() && readiness.is_none() && liveness.is_none() {
        return None;
    }
    let prober = Prober {
        runtime,
        pod,
        target,
        health: health.clone(),
        changed,
    };
    let task = tokio::spawn(async move {
        if let Some(startup) = &startup
            && !prober.health.lock().started
            && !prober.startup(startup).await
        {
            return;
        }
        let readiness = async {
            if let Some(settings) = &readiness {
                prober.readiness(settings).await;
            }
        };
        let liveness = async {
            if let Some(settings) = &liveness {
                prober.liveness(settings).await;
            }
        };
        tokio::join!(readiness, liveness);
    });
    Some(task.abort_handle())
}

impl Prober {
    async fn ask(&self, settings: &Settings) -> Result<(), String> {
        perform(&self.runtime, &self.target, &settings.action, settings.timeout).await
    }

    fn set(&self, change: impl FnOnce(&mut Health)) {
        change(&mut self.health.lock());
        self.changed.notify_one();
    }

    fn unhealthy(&self, probe: &str, why: &str) {
        let message = format!("{probe} probe failed: {why}");
        self.runtime
            .context
            .recorder
            .warning(&*self.pod, "kubelet", "Unhealthy", message);
    }

    /// Tries until the first period is over, or it succeeds.
    async fn eagerly(&self, settings: &Settings) -> bool {
        sleep(settings.initial_delay).await;
        let end = Instant::now() + settings.period;
        let mut wait = EAGER;
        while Instant::now() < end {
            if self.ask(settings).await.is_ok() {
                return true;
            }
            sleep(wait.min(end.saturating_duration_since(Instant::now()))).await;
            wait *= 2;
        }
        false
    }

    /// Whether it has started; if not, it is to be restarted.
    async fn startup(&self, settings: &Settings) -> bool {
        let mut failures = 0;
        if !self.eagerly(settings).await {
            loop {
                match self.ask(settings).await {
                    Ok(()) => break,
                    Err(why) => {
                        self.unhealthy("Startup", &why);
                        failures += 1;
                        if failures >= settings.failures {
                            self.set(|health| {
                                health.must_restart =
                                    Some("failed startup probe, will be restarted".to_owned());
                            });
                            return false;
                        }
                    }
                }
                sleep(settings.period).await;
            }
        }
        self.set(|health| health.started = true);
        true
    }

    async fn readiness(&self, settings: &Settings) {
        let mut ready = self.health.lock().ready;
        let (mut successes, mut failures) = (0, 0);
        if !ready && settings.successes == 1 && self.eagerly(settings).await {
            ready = true;
            self.set(|health| health.ready = true);
        } else if ready {
            sleep(settings.initial_delay).await;
        }
        loop {
            match self.ask(settings).await {
                Ok(()) => (successes, failures) = (successes + 1, 0),
                Err(why) => {
                    (successes, failures) = (0, failures + 1);
                    self.unhealthy("Readiness", &why);
                }
            }
            let next = if successes >= settings.successes {
                true
            } else if failures >= settings.failures {
                false
            } else {
                ready
            };
            if next != ready {
                ready = next;
                self.set(|health| health.ready = next);
            }
            sleep(settings.period).await;
        }
    }

    async fn liveness(&self, settings: &Settings) {
        sleep(settings.initial_delay).await;
        let mut failures = 0;
        loop {
            match self.ask(settings).await {
                Ok(()) => failures = 0,
                Err(why) => {
                    failures += 1;
                    self.unhealthy("Liveness", &why);
                }
            }
            if failures >= settings.failures {
                self.set(|health| {
                    health.must_restart = Some("failed liveness probe, will be restarted".to_owned());
                });
                return;
            }
            sleep(settings.period).await;
        }
    }
}
