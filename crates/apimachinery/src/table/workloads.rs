//! Columns and cells of workloads.

use jiff::Timestamp;
use serde_json::Value;

use super::age::{age, human_duration, since_text};
use super::cells::{flag, labels, list, name, number, or_none, selector, text};
use super::{AGE, Heading, NAME, Printer, column, count, wide};

const CONTAINERS: Heading = wide("Containers", "Names of each container in the template.");
const IMAGES: Heading = wide("Images", "Images referenced by each container in the template.");
const SELECTOR: Heading = wide("Selector", "The pods that belong to it.");

pub(super) const POD: Printer = Printer {
    columns: &[
        NAME,
        column(
            "Ready",
            "The aggregate readiness state of this pod for accepting traffic.",
        ),
        column("Status", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.",
        ),
        AGE,
        wide("IP", "The address of the pod."),
        wide("Node", "The node that the pod runs on."),
        wide("Nominated Node", "The node that is being made free for the pod."),
        wide("Readiness Gates", "Conditions beyond the containers' readiness."),
    ],
    cells: pod,
};

pub(super) const DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        column("Ready", "Number of the pod with ready state"),
        column("Up-to-date", "Pods of the current template."),
        column("Available", "Pods that have been ready for long enough."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let ready = format!(
            "{}/{}",
            number(o, "/status/readyReplicas"),
            number(o, "/spec/replicas")
        );
        let (names, images) = containers(o, "/spec/template/spec/containers");
        vec![
            name(o),
            ready.into(),
            number(o, "/status/updatedReplicas").into(),
            number(o, "/status/availableReplicas").into(),
            age(o, now),
            names,
            images,
            selector(o.pointer("/spec/selector")).into(),
        ]
    },
};

pub(super) const REPLICA_SET: Printer = Printer {
    columns: &[
        NAME,
        count("Desired", "Pods that there should be."),
        count("Current", "Pods that there are."),
        count("Ready", "Pods that are ready."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let (names, images) = containers(o, "/spec/template/spec/containers");
        let selects = match o.pointer("/spec/selector") {
            // A ReplicationController has a plain map.
            Some(s) if s.get("matchLabels").is_none() && s.get("matchExpressions").is_none() => {
                labels(s.as_object())
            }
            other => selector(other),
        };
        vec![
            name(o),
            number(o, "/spec/replicas").into(),
            number(o, "/status/replicas").into(),
            number(o, "/status/readyReplicas").into(),
            age(o, now),
            names,
            images,
            selects.into(),
        ]
    },
};

pub(super) const POD_TEMPLATE: Printer = Printer {
    columns: &[
        NAME,
        column("Containers", "Names of each container in the template."),
        column("Images", "Images referenced by each container in the template."),
        column("Pod Labels", "The labels for the pod template."),
    ],
    cells: |o, _| {
        let (names, images) = containers(o, "/template/spec/containers");
        let labels = labels(o.pointer("/template/metadata/labels").and_then(Value::as_object));
        vec![name(o), names, images, labels.into()]
    },
};

pub(super) const STATEFUL_SET: Printer = Printer {
    columns: &[
        NAME,
        column("Ready", "Number of the pod with ready state"),
        AGE,
        CONTAINERS,
        IMAGES,
    ],
    cells: |o, now| {
        let ready = format!(
            "{}/{}",
            number(o, "/status/readyReplicas"),
            number(o, "/spec/replicas")
        );
        let (names, images) = containers(o, "/spec/template/spec/containers");
        vec![name(o), ready.into(), age(o, now), names, images]
    },
};

pub(super) const DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        count("Desired", "Nodes that should run the pod."),
        count("Current", "Nodes that run the pod."),
        count("Ready", "Nodes where the pod is ready."),
        count("Up-to-date", "Nodes with the current template."),
        count("Available", "Nodes where the pod has been ready for long enough."),
        column("Node Selector", "Labels of the nodes."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let (names, images) = containers(o, "/spec/template/spec/containers");
        vec![
            name(o),
            number(o, "/status/desiredNumberScheduled").into(),
            number(o, "/status/currentNumberScheduled").into(),
            number(o, "/status/numberReady").into(),
            number(o, "/status/updatedNumberScheduled").into(),
            number(o, "/status/numberAvailable").into(),
            labels(
                o.pointer("/spec/template/spec/nodeSelector")
                    .and_then(Value::as_object),
            )
            .into(),
            age(o, now),
            names,
            images,
            selector(o.pointer("/spec/selector")).into(),
        ]
    },
};

pub(super) const JOB: Printer = Printer {
    columns: &[
        NAME,
        column("Status", "Status of the job."),
        column("Completions", "Pods that are done, of those wanted."),
        column("Duration", "Time required to complete the job."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: job,
};

pub(super) const CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        column("Schedule", "When jobs are started."),
        column("Timezone", "The time zone of the schedule."),
        Heading {
            type_: "boolean",
            ..column("Suspend", "Whether no jobs are started.")
        },
        count("Active", "Jobs that are running."),
        column("Last Schedule", "When a job was started last."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let last = match o.pointer("/status/lastScheduleTime").and_then(Value::as_str) {
            None => "<none>".to_owned(),
            time => since_text(time, now),
        };
        let (names, images) = containers(o, "/spec/jobTemplate/spec/template/spec/containers");
        let suspend = if flag(o, "/spec/suspend") { "True" } else { "False" };
        vec![
            name(o),
            text(o, "/spec/schedule").into(),
            or_none(text(o, "/spec/timeZone")),
            suspend.into(),
            list(o, "/status/active").len().into(),
            last.into(),
            age(o, now),
            names,
            images,
            selector(o.pointer("/spec/jobTemplate/spec/selector")).into(),
        ]
    },
};

fn containers(o: &Value, pointer: &str) -> (Value, Value) {
    let containers = list(o, pointer);
    let join = |field: &str| -> Value {
        containers
            .iter()
            .map(|c| text(c, field))
            .collect::<Vec<_>>()
            .join(",")
            .into()
    };
    (join("/name"), join("/image"))
}

fn seconds(text: Option<&str>) -> Option<i64> {
    text?.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

fn job(o: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = number(o, "/status/succeeded");
    let completions = o.pointer("/spec/completions").and_then(Value::as_i64);
    let parallelism = number(o, "/spec/parallelism");
    let completions = match completions {
        Some(wanted) => format!("{succeeded}/{wanted}"),
        None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
        None => format!("{succeeded}/1"),
    };
    let started = seconds(o.pointer("/status/startTime").and_then(Value::as_str));
    let ended = seconds(o.pointer("/status/completionTime").and_then(Value::as_str));
    let duration = started
        .map(|s| human_duration(ended.unwrap_or(now.as_second()) - s))
        .unwrap_or_default();
    let has = |type_: &str| {
        list(o, "/status/conditions")
            .iter()
            .any(|c| c["type"] == type_ && c["status"] == "True")
    };
    let status = if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if o.pointer("/metadata/deletionTimestamp").is_some() {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let (names, images) = containers(o, "/spec/template/spec/containers");
    vec![
        name(o),
        status.into(),
        completions.into(),
        duration.into(),
        age(o, now),
        names,
        images,
        selector(o.pointer("/spec/selector")).into(),
    ]
}

/// What the containers of a pod add up to.
struct PodSummary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<i64>,
}

fn terminated(state: &Value, prefix: &str) -> String {
    let reason = text(state, "/reason");
    if !reason.is_empty() {
        return format!("{prefix}{reason}");
    }
    match number(state, "/signal") {
        0 => format!("{prefix}ExitCode:{}", number(state, "/exitCode")),
        signal => format!("{prefix}Signal:{signal}"),
    }
}

fn summarize(o: &Value) -> PodSummary {
    let inits = list(o, "/spec/initContainers");
    let is_sidecar = |name: &str| {
        inits
            .iter()
            .any(|c| text(c, "/name") == name && text(c, "/restartPolicy") == "Always")
    };
    let sidecars = inits
        .iter()
        .filter(|c| text(c, "/restartPolicy") == "Always")
        .count();
    let phase = text(o, "/status/phase");
    let mut summary = PodSummary {
        reason: Some(text(o, "/status/reason"))
            .filter(|r| !r.is_empty())
            .unwrap_or(phase)
            .to_owned(),
        ready: 0,
        total: list(o, "/spec/containers").len() + sidecars,
        restarts: 0,
        last_restart: None,
    };
    let gated = |c: &&Value| c["type"] == "PodScheduled" && text(c, "/reason") == "SchedulingGated";
    if list(o, "/status/conditions").iter().any(|c| gated(&c)) {
        summary.reason = "SchedulingGated".to_owned();
    }
    let (mut sidecar_restarts, mut sidecar_last) = (0, None);
    let mut initializing = false;
    for (i, container) in list(o, "/status/initContainerStatuses").iter().enumerate() {
        let restarts = number(container, "/restartCount");
        let last = seconds(
            container
                .pointer("/lastState/terminated/finishedAt")
                .and_then(Value::as_str),
        );
        summary.restarts += restarts;
        summary.last_restart = summary.last_restart.max(last);
        let sidecar = is_sidecar(text(container, "/name"));
        if sidecar {
            sidecar_restarts += restarts;
            sidecar_last = sidecar_last.max(last);
        }
        let state = &container["state"];
        if let Some(ended) = state.get("terminated") {
            if number(ended, "/exitCode") == 0 {
                continue;
            }
            summary.reason = terminated(ended, "Init:");
        } else if sidecar && flag(container, "/started") {
            summary.ready += usize::from(flag(container, "/ready"));
            continue;
        } else {
            let waiting = text(state, "/waiting/reason");
            summary.reason = if waiting.is_empty() || waiting == "PodInitializing" {
                format!("Init:{i}/{}", inits.len())
            } else {
                format!("Init:{waiting}")
            };
        }
        initializing = true;
        break;
    }
    let initialized = list(o, "/status/conditions")
        .iter()
        .any(|c| c["type"] == "Initialized" && c["status"] == "True");
    if initializing && !initialized {
        return summary;
    }
    summary.restarts = sidecar_restarts;
    summary.last_restart = sidecar_last;
    let mut running = false;
    for container in list(o, "/status/containerStatuses").iter().rev() {
        summary.restarts += number(container, "/restartCount");
        let last = seconds(
            container
                .pointer("/lastState/terminated/finishedAt")
                .and_then(Value::as_str),
        );
        summary.last_restart = summary.last_restart.max(last);
        let state = &container["state"];
        let waiting = text(state, "/waiting/reason");
        if !waiting.is_empty() {
            summary.reason = waiting.to_owned();
        } else if let Some(ended) = state.get("terminated") {
            summary.reason = terminated(ended, "");
        } else if flag(container, "/ready") && state.get("running").is_some() {
            running = true;
            summary.ready += 1;
        }
    }
    // Some containers are done while others run: the pod as a whole runs.
    if summary.reason == "Completed" && running {
        let ready = list(o, "/status/conditions")
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        summary.reason = if ready { "Running" } else { "NotReady" }.to_owned();
    }
    summary
}

fn pod(o: &Value, now: Timestamp) -> Vec<Value> {
    let mut summary = summarize(o);
    if o.pointer("/metadata/deletionTimestamp").is_some() {
        let lost = text(o, "/status/reason") == "NodeLost";
        let done = matches!(text(o, "/status/phase"), "Succeeded" | "Failed");
        if lost {
            summary.reason = "Unknown".to_owned();
        } else if !done {
            summary.reason = "Terminating".to_owned();
        }
    }
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts > 0 => {
            format!(
                "{} ({} ago)",
                summary.restarts,
                human_duration(now.as_second() - last)
            )
        }
        _ => summary.restarts.to_string(),
    };
    let gates = list(o, "/spec/readinessGates");
    let readiness = if gates.is_empty() {
        "<none>".to_owned()
    } else {
        let conditions = list(o, "/status/conditions");
        let holds = |gate: &&Value| {
            conditions
                .iter()
                .any(|c| c["type"] == gate["conditionType"] && c["status"] == "True")
        };
        format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
    };
    let ip = match list(o, "/status/podIPs").first() {
        Some(first) => text(first, "/ip"),
        None => text(o, "/status/podIP"),
    };
    vec![
        name(o),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(o, now),
        or_none(ip),
        or_none(text(o, "/spec/nodeName")),
        or_none(text(o, "/status/nominatedNodeName")),
        readiness.into(),
    ]
}
