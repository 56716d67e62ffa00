//! The status of a Pod from what is known of its containers, as kubelets write it. Knows no I/O and no clock but for times of change.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, HostIP, Pod, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::state::{PodState, Record, Restart, Run, is_sidecar};
use crate::{
    agent::engine::Phase,
    core::{now, set_condition},
};

/// What of the node is in a Pod's status.
pub(super) struct Place<'a> {
    /// `docker` or `podman`.
    pub(super) runtime: &'a str,
    pub(super) host: &'a str,
}

/// The status that follows from what is known.
pub(super) fn compute(pod: &Pod, state: &PodState, place: &Place<'_>) -> PodStatus {
    let mut status = pod.status.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return status };
    let finished = is_finished(pod);
    let init: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .map(|container| of_init(pod, container, state, place))
        .collect();
    let main: Vec<_> = spec
        .containers
        .iter()
        .map(|container| of_container(pod, container, state, place))
        .collect();
    if !finished {
        let (phase, reason, message) = phase(pod, state);
        status.phase = Some(phase.to_owned());
        status.reason = reason;
        status.message = message;
    }
    let ended = is_finished(&Pod {
        status: Some(status.clone()),
        ..Pod::default()
    });
    conditions(pod, state, &mut status, &main, ended);
    status.container_statuses = Some(main);
    status.init_container_statuses = Some(init).filter(|init| !init.is_empty());
    status.start_time = status.start_time.take().or_else(|| state.start_time.map(seconds));
    status.host_ip = Some(place.host.to_owned());
    status.host_ips = Some(vec![HostIP {
        ip: place.host.to_owned(),
    }]);
    if let Some(sandbox) = &state.sandbox {
        let ip = sandbox.address.to_string();
        status.pod_ips = Some(vec![PodIP { ip: ip.clone() }]);
        status.pod_ip = Some(ip);
    }
    status.observed_generation = pod.metadata.generation.or(status.observed_generation);
    status
}

/// Whether a Pod has come to its end.
pub(super) fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn phase(pod: &Pod, state: &PodState) -> (&'static str, Option<String>, Option<String>) {
    if let Some((reason, message)) = &state.failed {
        return ("Failed", Some((*reason).to_owned()), Some(message.clone()));
    }
    let spec = super::state::spec(pod);
    let restart = Restart::of(&spec);
    let init = spec.init_containers.as_deref().unwrap_or_default();
    let record = |container: &Container| state.get(&container.name);
    if !state.initialized {
        let gave_up = init
            .iter()
            .filter(|container| !is_sidecar(container))
            .any(|container| {
                restart == Restart::Never
                    && record(container).is_some_and(|record| record.has_ended() && !record.has_succeeded())
            });
        return (if gave_up { "Failed" } else { "Pending" }, None, None);
    }
    let ends: Vec<Option<i64>> = spec
        .containers
        .iter()
        .map(|container| record(container)?.current.as_ref()?.code())
        .collect();
    let is_over =
        pod.metadata.deletion_timestamp.is_some() || ends.iter().flatten().all(|code| !restart.after(*code));
    if !ends.is_empty() && ends.iter().all(Option::is_some) && is_over && !state.any_running() {
        let succeeded = ends.iter().flatten().all(|code| *code == 0);
        return (if succeeded { "Succeeded" } else { "Failed" }, None, None);
    }
    let was_started = spec
        .containers
        .iter()
        .all(|container| record(container).is_some_and(|record| record.current.is_some()));
    (if was_started { "Running" } else { "Pending" }, None, None)
}

fn conditions(pod: &Pod, state: &PodState, status: &mut PodStatus, main: &[ContainerStatus], finished: bool) {
    let generation = pod.metadata.generation;
    let succeeded = status.phase.as_deref() == Some("Succeeded");
    let unready: Vec<_> = main
        .iter()
        .filter(|container| !container.ready)
        .map(|container| container.name.as_str())
        .collect();
    let all_ready = unready.is_empty() && !finished;
    let (reason, message) = match status.phase.as_deref() {
        _ if all_ready => (None, None),
        Some("Succeeded") => (Some("PodCompleted"), None),
        Some("Failed") => (Some("PodFailed"), None),
        _ => (
            Some("ContainersNotReady"),
            Some(format!("containers with unready status: [{}]", unready.join(" "))),
        ),
    };
    let gates = pod
        .spec
        .iter()
        .flat_map(|spec| spec.readiness_gates.iter().flatten());
    let known = status.conditions.clone().unwrap_or_default();
    let holds = |kind: &str| {
        known
            .iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    };
    let closed = gates.map(|gate| &gate.condition_type).find(|gate| !holds(gate));
    let mut set = |kind: &str, holds: bool, reason: Option<&str>, message: Option<String>| {
        set_condition(status, generation, kind, holds, reason, message);
    };
    let has_sandbox = state.sandbox.is_some() && !finished;
    set("PodReadyToStartContainers", has_sandbox, None, None);
    let init_waits: Vec<_> = pod
        .spec
        .iter()
        .flat_map(|spec| spec.init_containers.iter().flatten())
        .filter(|container| {
            let record = state.get(&container.name);
            !record
                .is_some_and(|record| record.has_succeeded() || is_sidecar(container) && record.is_started())
        })
        .map(|container| container.name.as_str())
        .collect();
    if state.initialized {
        set("Initialized", true, succeeded.then_some("PodCompleted"), None);
    } else {
        let message = format!("containers with incomplete status: [{}]", init_waits.join(" "));
        set(
            "Initialized",
            false,
            Some("ContainersNotInitialized"),
            Some(message),
        );
    }
    match closed {
        Some(gate) if all_ready => {
            let message = format!(
                "corresponding condition of pod readiness gate {gate:?} does not exist or is not True."
            );
            set("Ready", false, Some("ReadinessGatesNotReady"), Some(message));
        }
        _ => set("Ready", all_ready, reason, message.clone()),
    }
    set("ContainersReady", all_ready, reason, message);
    set("PodScheduled", true, None, None);
}

fn seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn of_init(pod: &Pod, container: &Container, state: &PodState, place: &Place<'_>) -> ContainerStatus {
    let mut status = of_container(pod, container, state, place);
    let record = state.get(&container.name);
    if is_sidecar(container) {
        return status;
    }
    status.ready = record.is_some_and(Record::has_succeeded);
    if record.is_none_or(|record| record.current.is_none() && record.waiting.is_none()) {
        status.state = Some(waiting("PodInitializing", ""));
    }
    status
}

fn of_container(pod: &Pod, container: &Container, state: &PodState, place: &Place<'_>) -> ContainerStatus {
    let known = pod
        .status
        .iter()
        .flat_map(|status| {
            let main = status.container_statuses.iter().flatten();
            main.chain(status.init_container_statuses.iter().flatten())
        })
        .find(|status| status.name == container.name);
    let mut status = ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_default(),
        started: Some(false),
        ..ContainerStatus::default()
    };
    let Some(record) = state.get(&container.name) else {
        if let Some(known) = known.filter(|_| is_finished(pod)) {
            return known.clone();
        }
        status.restart_count = known.map_or(0, |known| known.restart_count);
        status.state = Some(not_yet(pod, state));
        return status;
    };
    let current = record.current.as_ref();
    status.restart_count = current.map_or_else(
        || i32::try_from(record.next_attempt).unwrap_or(i32::MAX),
        |run| i32::try_from(run.attempt).unwrap_or(i32::MAX),
    );
    if let Some(run) = current {
        status.container_id = Some(format!("{}://{}", place.runtime, run.id));
        status.image_id = run.image_id.clone();
    }
    status.ready = record.is_ready();
    status.started = Some(record.is_started());
    let ended = |run: &Run| terminated(run, place);
    status.last_state = record.previous.as_ref().map(ended);
    let state_now = match (&record.waiting, current) {
        (Some(wait), run) => {
            // What ended is told as the last state as soon as its successor is waited for.
            if let Some(run) = run.filter(|run| run.code().is_some()) {
                status.last_state = Some(terminated(run, place));
            }
            waiting(wait.reason, &wait.message)
        }
        (None, Some(run)) => match &run.phase {
            Phase::Running => ContainerState {
                running: Some(ContainerStateRunning {
                    started_at: run.started.map(seconds),
                }),
                ..ContainerState::default()
            },
            Phase::Exited { .. } => terminated(run, place),
            Phase::Created => waiting("ContainerCreating", ""),
        },
        (None, None) => not_yet(pod, state),
    };
    status.state = Some(state_now);
    status
}

fn not_yet(pod: &Pod, state: &PodState) -> ContainerState {
    if let Some(blocked) = &state.blocked {
        return waiting(blocked.reason, &blocked.message);
    }
    let has_init = pod
        .spec
        .as_ref()
        .is_some_and(|spec| spec.init_containers.iter().flatten().next().is_some());
    if has_init && !state.initialized {
        waiting("PodInitializing", "")
    } else {
        waiting("ContainerCreating", "")
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|message| !message.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(run: &Run, place: &Place<'_>) -> ContainerState {
    let Phase::Exited {
        code,
        oom_killed,
        finished,
        error,
    } = &run.phase
    else {
        return waiting("ContainerCreating", "");
    };
    let (reason, message) = match (&run.problem, oom_killed, code) {
        (Some((reason, message)), ..) => (*reason, Some(message.clone())),
        (None, true, _) => ("OOMKilled", run.message.clone()),
        (None, false, 0) => ("Completed", run.message.clone()),
        _ => {
            let said = run.message.clone();
            (
                "Error",
                said.or_else(|| Some(error.clone()).filter(|error| !error.is_empty())),
            )
        }
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: i32::try_from(*code).unwrap_or(-1),
            reason: Some(reason.to_owned()),
            message,
            started_at: run.started.map(seconds),
            finished_at: Some(finished.map_or_else(now, seconds)),
            container_id: Some(format!("{}://{}", place.runtime, run.id)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: &Value) -> Pod {
        let object =
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "u", "generation": 1}, "spec": spec});
        serde_json::from_value(object).unwrap()
    }

    fn exited(attempt: u32, code: i64, oom_killed: bool) -> Run {
        Run {
            id: format!("id-{attempt}"),
            attempt,
            image_id: "sha256:1".into(),
            phase: Phase::Exited {
                code,
                oom_killed,
                finished: Some(Timestamp::UNIX_EPOCH),
                error: String::new(),
            },
            started: Some(Timestamp::UNIX_EPOCH),
            problem: None,
            message: None,
        }
    }

    fn computed(pod: &Pod, state: &PodState) -> Value {
        let place = Place {
            runtime: "podman",
            host: "192.0.2.1",
        };
        serde_json::to_value(compute(pod, state, &place)).unwrap()
    }

    #[test]
    fn a_crash_loop_tells_the_last_end_and_what_it_waits_for() {
        let pod = pod(&json!({"containers": [{"name": "main"}]}));
        let mut state = PodState {
            initialized: true,
            ..PodState::default()
        };
        let record = state.record("main");
        record.current = Some(exited(2, 1, false));
        record.next_attempt = 3;
        record.wait_for("CrashLoopBackOff", "back-off 20s");
        let status = computed(&pod, &state);
        let main = &status["containerStatuses"][0];
        assert_eq!(status["phase"], "Running");
        assert_eq!(
            (&main["restartCount"], &main["state"]["waiting"]["reason"]),
            (&json!(2), &json!("CrashLoopBackOff"))
        );
        assert_eq!(main["lastState"]["terminated"]["containerID"], "podman://id-2");
    }

    #[test]
    fn how_a_pod_that_is_not_restarted_ends() {
        for (code, oom, phase, reason) in [
            (0, false, "Succeeded", "Completed"),
            (1, false, "Failed", "Error"),
            (137, true, "Failed", "OOMKilled"),
        ] {
            let pod = pod(&json!({"restartPolicy": "Never", "containers": [{"name": "main"}]}));
            let mut state = PodState {
                initialized: true,
                ..PodState::default()
            };
            state.record("main").current = Some(exited(0, code, oom));
            let status = computed(&pod, &state);
            assert_eq!(status["phase"], phase);
            assert_eq!(
                status["containerStatuses"][0]["state"]["terminated"]["reason"],
                reason
            );
            let ready = status["conditions"]
                .as_array()
                .unwrap()
                .iter()
                .find(|c| c["type"] == "Ready")
                .unwrap();
            assert_eq!(ready["status"], "False");
        }
    }

    #[test]
    fn containers_wait_for_init_containers() {
        let pod = pod(&json!({"initContainers": [{"name": "setup"}], "containers": [{"name": "main"}]}));
        let mut state = PodState::default();
        state.record("setup");
        let status = computed(&pod, &state);
        assert_eq!(status["phase"], "Pending");
        let reasons = ["initContainerStatuses", "containerStatuses"]
            .map(|list| status[list][0]["state"]["waiting"]["reason"].clone());
        assert_eq!(reasons, ["PodInitializing", "PodInitializing"]);
        let initialized = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .find(|c| c["type"] == "Initialized")
            .unwrap();
        assert_eq!(
            initialized["message"],
            "containers with incomplete status: [setup]"
        );
    }

    #[test]
    fn a_pod_that_nothing_of_can_start_says_why_in_every_container() {
        let pod = pod(&json!({"containers": [{"name": "a"}, {"name": "b"}]}));
        let state = PodState {
            initialized: true,
            blocked: Some(super::super::state::Waiting {
                reason: "CreateContainerConfigError",
                message: "hostPath is refused".into(),
            }),
            ..PodState::default()
        };
        let status = computed(&pod, &state);
        for container in status["containerStatuses"].as_array().unwrap() {
            assert_eq!(container["state"]["waiting"]["message"], "hostPath is refused");
        }
        assert_eq!(status["phase"], "Pending");
    }
}
