//! The status of a simulated Pod: from what it is to what comes next. Knows no I/O; the time is read once.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    behavior::Behavior,
    kubelet::{back_off, behavior, completes},
};
use crate::core::{Action, now, set_condition};

/// What a look at a Pod leads to.
pub(super) struct Next {
    pub(super) status: PodStatus,
    pub(super) action: Action,
    /// Events: reason and message.
    pub(super) happened: Vec<(&'static str, String)>,
    pub(super) failed: Vec<(&'static str, String)>,
}

/// The status that follows.
pub(super) fn next(pod: &Pod) -> Next {
    let before = pod.status.clone().unwrap_or_default();
    let mut next = Next {
        status: before.clone(),
        action: Action::Wait,
        happened: Vec::new(),
        failed: Vec::new(),
    };
    let Some(spec) = &pod.spec else { return next };
    let start = before.start_time.clone().unwrap_or_else(now);
    let known = |name: &str| {
        before
            .container_statuses
            .iter()
            .flatten()
            .find(|status| status.name == name)
    };
    let containers: Vec<_> = spec
        .containers
        .iter()
        .map(|container| step(pod, container, known(&container.name), &start, &mut next))
        .collect();
    let known_init = |name: &str| {
        before
            .init_container_statuses
            .iter()
            .flatten()
            .find(|status| status.name == name)
    };
    let init: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| init(pod, container, known_init(&container.name), &start))
        .collect();

    let terminated = |status: &ContainerStatus| {
        status
            .state
            .as_ref()
            .and_then(|state| state.terminated.as_ref())
            .map(|ended| ended.exit_code)
    };
    let ended: Vec<_> = containers.iter().map(terminated).collect();
    let phase = if !ended.is_empty() && ended.iter().all(Option::is_some) {
        if ended.iter().flatten().all(|code| *code == 0) {
            "Succeeded"
        } else {
            "Failed"
        }
    } else if containers.iter().all(|status| {
        status.restart_count == 0 && status.state.as_ref().is_some_and(|state| state.waiting.is_some())
    }) {
        "Pending"
    } else {
        "Running"
    };
    let unready: Vec<_> = containers
        .iter()
        .filter(|status| !status.ready)
        .map(|status| status.name.clone())
        .collect();
    let finished = matches!(phase, "Succeeded" | "Failed");
    let ready = unready.is_empty() && !finished;
    let (reason, message) = match phase {
        _ if ready => (None, None),
        "Succeeded" => (Some("PodCompleted"), None),
        "Failed" => (Some("PodFailed"), None),
        _ => (
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: [{}]", unready.join(" "))),
        ),
    };
    let status = &mut next.status;
    let generation = pod.metadata.generation;
    let mut condition = |kind: &str, holds: bool, reason: Option<&str>, message: Option<String>| {
        set_condition(status, generation, kind, holds, reason, message);
    };
    condition("PodReadyToStartContainers", !finished, None, None);
    condition(
        "Initialized",
        true,
        (phase == "Succeeded").then_some("PodCompleted"),
        None,
    );
    condition("Ready", ready, reason, message.clone());
    condition("ContainersReady", ready, reason, message);
    condition("PodScheduled", true, None, None);
    let address = before.pod_ip.clone().unwrap_or_else(|| address(pod));
    status.phase = Some(phase.into());
    status.start_time = Some(start);
    status.host_ip = Some(crate::node::ADDRESS.into());
    status.host_ips = Some(vec![HostIP {
        ip: crate::node::ADDRESS.into(),
    }]);
    status.pod_ips = Some(vec![PodIP { ip: address.clone() }]);
    status.pod_ip = Some(address);
    status.container_statuses = Some(containers);
    status.init_container_statuses = Some(init).filter(|init| !init.is_empty());
    status.observed_generation = generation.or(status.observed_generation);
    next
}

fn step(
    pod: &Pod,
    container: &Container,
    known: Option<&ContainerStatus>,
    start: &Time,
    next: &mut Next,
) -> ContainerStatus {
    let mut failed = Vec::new();
    let behavior = behavior(pod, &container.name, &mut failed);
    let status = match behavior {
        Behavior::Healthy { delay } => {
            if completes(pod) {
                complete(container, known, start, delay, next)
            } else {
                running(container, known, start, true, next)
            }
        }
        Behavior::NotReady => running(container, known, start, false, next),
        Behavior::SlowStart { delay } => {
            let left = remaining(start, delay);
            if let Some(left) = left {
                next.action = next.action.or(Action::After(left));
            }
            running(container, known, start, left.is_none(), next)
        }
        Behavior::CrashLoop => crash(pod, container, known, start, next),
        Behavior::ImagePullError => pull_error(container, known, next),
    };
    if known.is_none() {
        next.failed.append(&mut failed);
    }
    status
}

/// The rest of `delay` since `start`; `None` when it has passed.
fn remaining(start: &Time, delay: Duration) -> Option<Duration> {
    let passed = Duration::try_from(start.0.duration_until(Timestamp::now())).unwrap_or_default();
    delay.checked_sub(passed).filter(|left| !left.is_zero())
}

fn base(container: &Container, known: Option<&ContainerStatus>) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("simulated://{image}"),
        image,
        restart_count: known.map_or(0, |known| known.restart_count),
        last_state: known.and_then(|known| known.last_state.clone()),
        container_id: known.and_then(|known| known.container_id.clone()),
        ..ContainerStatus::default()
    }
}

fn identity(container: &Container, start: &Time, restarts: i32) -> String {
    format!(
        "simulated://{}-{}-{restarts}",
        container.name,
        start.0.as_second()
    )
}

fn running(
    container: &Container,
    known: Option<&ContainerStatus>,
    start: &Time,
    ready: bool,
    next: &mut Next,
) -> ContainerStatus {
    let mut status = base(container, known);
    let since = known
        .and_then(|known| known.state.as_ref())
        .and_then(|state| state.running.as_ref())
        .and_then(|running| running.started_at.clone());
    if since.is_none() {
        let image = &status.image;
        next.happened.push((
            "Pulled",
            format!("Container image {image:?} already present on machine (simulated)"),
        ));
        next.happened.push((
            "Started",
            format!("Started container {} (simulated)", container.name),
        ));
    }
    status.container_id = Some(identity(container, start, status.restart_count));
    status.state = Some(ContainerState {
        running: Some(ContainerStateRunning {
            started_at: Some(since.unwrap_or_else(now)),
        }),
        ..ContainerState::default()
    });
    status.ready = ready;
    status.started = Some(true);
    status
}

fn ended(since: &Time, code: i32, reason: &str, id: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            reason: Some(reason.into()),
            started_at: Some(since.clone()),
            finished_at: Some(now()),
            container_id: Some(id.into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

fn complete(
    container: &Container,
    known: Option<&ContainerStatus>,
    start: &Time,
    delay: Duration,
    next: &mut Next,
) -> ContainerStatus {
    if known.is_some_and(|known| {
        known
            .state
            .as_ref()
            .is_some_and(|state| state.terminated.is_some())
    }) {
        return known.cloned().unwrap_or_default();
    }
    if let Some(left) = remaining(start, delay) {
        next.action = next.action.or(Action::After(left));
        return running(container, known, start, true, next);
    }
    let mut status = base(container, known);
    let id = identity(container, start, status.restart_count);
    status.state = Some(ended(start, 0, "Completed", &id));
    status.container_id = Some(id);
    status.started = Some(false);
    next.happened.push((
        "Started",
        format!("Started container {} (simulated)", container.name),
    ));
    status
}

fn crash(
    pod: &Pod,
    container: &Container,
    known: Option<&ContainerStatus>,
    start: &Time,
    next: &mut Next,
) -> ContainerStatus {
    let mut status = base(container, known);
    let never = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref()) == Some("Never");
    let id = identity(container, start, status.restart_count);
    if never {
        if let Some(known) = known.filter(|known| {
            known
                .state
                .as_ref()
                .is_some_and(|state| state.terminated.is_some())
        }) {
            return known.clone();
        }
        status.state = Some(ended(start, 1, "Error", &id));
        status.container_id = Some(id);
        status.started = Some(false);
        next.failed.push((
            "Failed",
            format!(
                "Error: container {} exited with code 1 (simulated)",
                container.name
            ),
        ));
        return status;
    }
    let waits = known
        .and_then(|known| known.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    let looping = waits.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff");
    let last_end = status
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref())
        .and_then(|ended| ended.finished_at.clone());
    let left = match (looping, last_end) {
        (true, Some(last)) => remaining(&last, back_off(status.restart_count)),
        _ => None,
    };
    if let Some(left) = left {
        next.action = next.action.or(Action::After(left));
        return known.cloned().unwrap_or(status);
    }
    status.restart_count += 1;
    let wait = back_off(status.restart_count);
    next.action = next.action.or(Action::After(wait));
    status.last_state = Some(ended(&now(), 1, "Error", &id));
    status.container_id = Some(id);
    status.started = Some(false);
    let wait = match wait.as_secs() {
        300 => "5m0s".to_owned(),
        seconds if seconds >= 60 => format!("{}m{}s", seconds / 60, seconds % 60),
        seconds => format!("{seconds}s"),
    };
    let (name, namespace) = (
        pod.metadata.name.as_deref().unwrap_or_default(),
        pod.metadata.namespace.as_deref().unwrap_or_default(),
    );
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let message = format!(
        "back-off {wait} restarting failed container={} pod={name}_{namespace}({uid})",
        container.name
    );
    status.state = Some(waiting("CrashLoopBackOff", &message));
    next.failed.push((
        "BackOff",
        format!(
            "Back-off restarting failed container {} in pod {name}_{namespace}({uid})",
            container.name
        ),
    ));
    status
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.into()),
            message: Some(message.into()),
        }),
        ..ContainerState::default()
    }
}

fn pull_error(container: &Container, known: Option<&ContainerStatus>, next: &mut Next) -> ContainerStatus {
    let mut status = base(container, known);
    let image = status.image.clone();
    status.image_id = String::new();
    status.container_id = None;
    status.started = Some(false);
    let reason = known.and_then(|known| known.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    let error = format!(
        "failed to pull and unpack image {image:?}: failed to resolve reference {image:?}: {image}: not found (simulated)"
    );
    status.state = Some(match reason {
        Some("ErrImagePull" | "ImagePullBackOff") => {
            if reason == Some("ErrImagePull") {
                next.happened
                    .push(("BackOff", format!("Back-off pulling image {image:?}")));
            }
            waiting(
                "ImagePullBackOff",
                &format!("Back-off pulling image {image:?}: ErrImagePull: {error}"),
            )
        }
        _ => {
            next.failed
                .push(("Failed", format!("Failed to pull image {image:?}: {error}")));
            next.failed.push(("Failed", "Error: ErrImagePull".to_owned()));
            // The change that this makes brings the next look, and with it the back-off.
            waiting("ErrImagePull", &error)
        }
    });
    status
}

fn init(pod: &Pod, container: &Container, known: Option<&ContainerStatus>, start: &Time) -> ContainerStatus {
    if let Some(known) = known {
        return known.clone();
    }
    let mut status = base(container, known);
    let id = identity(container, start, 0);
    status.ready = true;
    if container.restart_policy.as_deref() == Some("Always") && !completes(pod) {
        status.started = Some(true);
        status.state = Some(ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(start.clone()),
            }),
            ..ContainerState::default()
        });
    } else {
        status.started = Some(false);
        status.state = Some(ended(start, 0, "Completed", &id));
    }
    status.container_id = Some(id);
    status
}

/// An address of 10.244.0.0/16 from the Pod's uid. Two Pods may share one; nothing is sent to either.
fn address(pod: &Pod) -> String {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let hash = uid.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("10.244.{}.{}", (hash >> 16) % 254 + 1, (hash >> 40) % 254 + 1)
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::apis::meta::v1::ObjectMeta};

    use super::*;
    use crate::{BEHAVIOR, DELAY};

    fn pod(policy: &str, annotations: &[(&str, &str)]) -> Pod {
        let container = Container {
            name: "main".into(),
            image: Some("app:1".into()),
            ..Container::default()
        };
        Pod {
            metadata: ObjectMeta {
                name: Some("p".into()),
                namespace: Some("ns".into()),
                uid: Some("u".into()),
                annotations: Some(
                    annotations
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(PodSpec {
                containers: vec![container],
                restart_policy: Some(policy.into()),
                ..PodSpec::default()
            }),
            status: None,
        }
    }

    fn reason(status: &PodStatus) -> Option<&str> {
        status.container_statuses.as_ref()?[0]
            .state
            .as_ref()?
            .waiting
            .as_ref()?
            .reason
            .as_deref()
    }

    fn ready(status: &PodStatus) -> &str {
        let conditions = status.conditions.as_ref().unwrap();
        &conditions
            .iter()
            .find(|condition| condition.type_ == "Ready")
            .unwrap()
            .status
    }

    fn shown(status: &PodStatus) -> (&str, Option<&str>, &str) {
        (status.phase.as_deref().unwrap(), reason(status), ready(status))
    }

    /// Looks again with what came out before.
    fn again(pod: &mut Pod, next: Next) -> Next {
        pod.status = Some(next.status);
        super::next(pod)
    }

    #[test]
    fn a_pod_runs_and_then_nothing_changes() {
        let mut pod = pod("Always", &[]);
        let first = next(&pod);
        assert_eq!(
            (shown(&first.status), first.action),
            (("Running", None, "True"), Action::Wait)
        );
        let status = first.status.clone();
        assert_eq!(again(&mut pod, first).status, status);
    }

    #[test]
    fn a_crash_loop_backs_off() {
        let mut pod = pod("Always", &[(BEHAVIOR, "crash-loop")]);
        let first = next(&pod);
        assert_eq!(
            shown(&first.status),
            ("Running", Some("CrashLoopBackOff"), "False")
        );
        assert_eq!(first.action, Action::After(Duration::from_secs(10)));
        let second = again(&mut pod, first);
        assert_eq!(
            second.status.container_statuses.as_ref().unwrap()[0].restart_count,
            1
        );
        assert!(matches!(second.action, Action::After(left) if left <= Duration::from_secs(10)));
        assert_eq!(
            (back_off(3), back_off(50)),
            (Duration::from_secs(40), Duration::from_secs(300))
        );
    }

    #[test]
    fn an_image_that_is_not_there() {
        let mut pod = pod("Always", &[(BEHAVIOR, "image-pull-error")]);
        let first = next(&pod);
        assert_eq!(shown(&first.status), ("Pending", Some("ErrImagePull"), "False"));
        let second = again(&mut pod, first);
        assert_eq!(
            shown(&second.status),
            ("Pending", Some("ImagePullBackOff"), "False")
        );
        let status = second.status.clone();
        assert_eq!(again(&mut pod, second).status, status);
    }

    #[test]
    fn a_slow_start_becomes_ready_later() {
        let mut slow = pod("Always", &[(BEHAVIOR, "slow-start"), (DELAY, "1h")]);
        let first = next(&slow);
        assert_eq!(shown(&first.status), ("Running", None, "False"));
        assert!(matches!(first.action, Action::After(_)));
        let mut status = first.status;
        status.start_time = Some(Time(Timestamp::now() - SignedDuration::from_hours(2)));
        slow.status = Some(status);
        assert_eq!(shown(&next(&slow).status), ("Running", None, "True"));
    }

    #[test]
    fn a_failure_ends_when_its_annotation_goes() {
        let mut broken = pod("Always", &[(BEHAVIOR, "not-ready")]);
        let first = next(&broken);
        assert_eq!(shown(&first.status), ("Running", None, "False"));
        broken.metadata.annotations = None;
        assert_eq!(
            shown(&again(&mut broken, first).status),
            ("Running", None, "True")
        );
    }

    #[test]
    fn pods_of_jobs_end() {
        assert_eq!(
            next(&pod("Never", &[])).status.phase.as_deref(),
            Some("Succeeded")
        );
        assert_eq!(
            next(&pod("OnFailure", &[])).status.phase.as_deref(),
            Some("Succeeded")
        );
        assert_eq!(
            next(&pod("Never", &[(BEHAVIOR, "crash-loop")]))
                .status
                .phase
                .as_deref(),
            Some("Failed")
        );
        assert_eq!(
            next(&pod("OnFailure", &[(BEHAVIOR, "crash-loop")]))
                .status
                .phase
                .as_deref(),
            Some("Running")
        );
        assert_eq!(
            next(&pod("Never", &[(DELAY, "1h")])).status.phase.as_deref(),
            Some("Running")
        );
    }
}
