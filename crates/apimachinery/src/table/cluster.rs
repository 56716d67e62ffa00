//! Cells of nodes, events and other kinds of the cluster as a whole.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::age::{age, since_text};
use super::cells::{flag, list, name, number, or_none, text};

pub(super) fn event(o: &Value, now: Timestamp) -> Vec<Value> {
    let first_of = |paths: &[&str]| paths.iter().find_map(|p| o.pointer(p).and_then(Value::as_str));
    let involved = o
        .get("involvedObject")
        .or_else(|| o.get("regarding"))
        .cloned()
        .unwrap_or_default();
    let first = first_of(&["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]);
    let last = first_of(&[
        "/series/lastObservedTime",
        "/lastTimestamp",
        "/deprecatedLastTimestamp",
    ])
    .or(first);
    let times = o
        .pointer("/series/count")
        .or_else(|| o.get("count"))
        .or_else(|| o.get("deprecatedCount"));
    let times = times.and_then(Value::as_i64).filter(|n| *n > 0).unwrap_or(1);
    let source = match (text(o, "/source/component"), text(o, "/source/host")) {
        ("", _) => text(o, "/reportingComponent").to_owned(),
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    let target = match text(&involved, "/name") {
        "" => text(&involved, "/kind").to_lowercase(),
        name => format!("{}/{name}", text(&involved, "/kind").to_lowercase()),
    };
    let message = Some(text(o, "/message"))
        .filter(|m| !m.is_empty())
        .unwrap_or_else(|| text(o, "/note"));
    vec![
        since_text(last, now).into(),
        text(o, "/type").into(),
        text(o, "/reason").into(),
        target.into(),
        text(&involved, "/fieldPath").into(),
        source.into(),
        message.trim().into(),
        since_text(first, now).into(),
        times.to_string().into(),
        name(o),
    ]
}

pub(super) fn node(o: &Value, now: Timestamp) -> Vec<Value> {
    let ready = list(o, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Ready");
    let mut status = match ready {
        Some(c) if c["status"] == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(o, "/spec/unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    let labels = o.pointer("/metadata/labels").and_then(Value::as_object);
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(
            |(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
                Some(role) => Some(role).filter(|r| !r.is_empty()),
                None if key == "kubernetes.io/role" => value.as_str().filter(|r| !r.is_empty()),
                None => None,
            },
        )
        .collect();
    let address = |type_: &str| {
        let found = list(o, "/status/addresses").iter().find(|a| a["type"] == type_);
        or_none(found.map_or("", |a| text(a, "/address")))
    };
    let unknown = |pointer: &str| -> Value {
        Some(text(o, pointer))
            .filter(|t| !t.is_empty())
            .unwrap_or("<unknown>")
            .into()
    };
    vec![
        name(o),
        status.into(),
        or_none(&roles.join(",")),
        age(o, now),
        text(o, "/status/nodeInfo/kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        unknown("/status/nodeInfo/osImage"),
        unknown("/status/nodeInfo/kernelVersion"),
        unknown("/status/nodeInfo/containerRuntimeVersion"),
    ]
}

pub(super) fn autoscaler(o: &Value, now: Timestamp) -> Vec<Value> {
    let current = list(o, "/status/currentMetrics");
    let mut targets: Vec<String> = list(o, "/spec/metrics")
        .iter()
        .enumerate()
        .map(|(i, metric)| metric_target(metric, current.get(i)))
        .collect();
    // The first version of the API knows CPU alone.
    if let Some(wanted) = o
        .pointer("/spec/targetCPUUtilizationPercentage")
        .and_then(Value::as_i64)
    {
        let now = o
            .pointer("/status/currentCPUUtilizationPercentage")
            .and_then(Value::as_i64);
        targets.push(format!(
            "cpu: {}/{wanted}%",
            now.map_or("<unknown>".to_owned(), |n| format!("{n}%"))
        ));
    }
    let shown = match targets.len() {
        0 => "<none>".to_owned(),
        n if n > 2 => format!("{} + {} more...", targets[..2].join(", "), n - 2),
        _ => targets.join(", "),
    };
    let least = o
        .pointer("/spec/minReplicas")
        .map_or_else(|| "<unset>".to_owned(), super::shown);
    vec![
        name(o),
        format!(
            "{}/{}",
            text(o, "/spec/scaleTargetRef/kind"),
            text(o, "/spec/scaleTargetRef/name")
        )
        .into(),
        shown.into(),
        least.into(),
        number(o, "/spec/maxReplicas").to_string().into(),
        number(o, "/status/currentReplicas").to_string().into(),
        age(o, now),
    ]
}

/// `cpu: 20%/80%`
fn metric_target(metric: &Value, current: Option<&Value>) -> String {
    let (field, label) = match text(metric, "/type") {
        "Resource" => ("resource", text(metric, "/resource/name")),
        "ContainerResource" => ("containerResource", text(metric, "/containerResource/name")),
        "Pods" => ("pods", ""),
        "Object" => ("object", ""),
        "External" => ("external", ""),
        _ => return "<unknown type>".to_owned(),
    };
    let target = &metric[field]["target"];
    let value = current.map_or(&Value::Null, |c| &c[field]["current"]);
    let percent = |v: &Value| v.as_i64().map(|n| format!("{n}%"));
    let shown = if let Some(wanted) = percent(&target["averageUtilization"]) {
        format!(
            "{}/{wanted}",
            percent(&value["averageUtilization"]).unwrap_or("<unknown>".to_owned())
        )
    } else {
        let (key, suffix) = if target["averageValue"].is_null() {
            ("value", "")
        } else {
            ("averageValue", " (avg)")
        };
        let suffix = if field == "external" || field == "object" {
            suffix
        } else {
            ""
        };
        let now = value[key].as_str().unwrap_or("<unknown>");
        format!("{now}/{}{suffix}", super::shown(&target[key]))
    };
    if label.is_empty() {
        shown
    } else {
        format!("{label}: {shown}")
    }
}

pub(super) fn role_binding(o: &Value, now: Timestamp) -> Vec<Value> {
    let subjects = |kind: &str| -> Value {
        let names: Vec<String> = list(o, "/subjects")
            .iter()
            .filter(|s| s["kind"] == kind)
            .map(|s| {
                let name = text(s, "/name");
                if kind == "ServiceAccount" {
                    format!("{}/{name}", text(s, "/namespace"))
                } else {
                    name.to_owned()
                }
            })
            .collect();
        names.join(", ").into()
    };
    vec![
        name(o),
        format!("{}/{}", text(o, "/roleRef/kind"), text(o, "/roleRef/name")).into(),
        age(o, now),
        subjects("User"),
        subjects("Group"),
        subjects("ServiceAccount"),
    ]
}

pub(super) fn signing_request(o: &Value, now: Timestamp) -> Vec<Value> {
    let has = |type_: &str| list(o, "/status/conditions").iter().any(|c| c["type"] == type_);
    let mut condition = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        condition.push_str(",Failed");
    }
    if !text(o, "/status/certificate").is_empty() {
        condition.push_str(",Issued");
    }
    let requested = o.pointer("/spec/expirationSeconds").and_then(Value::as_i64);
    vec![
        name(o),
        age(o, now),
        or_none(text(o, "/spec/signerName")),
        text(o, "/spec/username").into(),
        requested.map_or_else(|| json!("<none>"), |s| super::human_duration(s).into()),
        condition.into(),
    ]
}

pub(super) fn flow_schema(o: &Value, now: Timestamp) -> Vec<Value> {
    let dangling = list(o, "/status/conditions")
        .iter()
        .find(|c| c["type"] == "Dangling")
        .map_or("?", |c| text(c, "/status"));
    vec![
        name(o),
        text(o, "/spec/priorityLevelConfiguration/name").into(),
        number(o, "/spec/matchingPrecedence").into(),
        or_none(text(o, "/spec/distinguisherMethod/type")),
        age(o, now),
        dangling.into(),
    ]
}

pub(super) fn priority_level(o: &Value, now: Timestamp) -> Vec<Value> {
    let limit = |path| o.pointer(path).cloned().unwrap_or_else(|| "<none>".into());
    vec![
        name(o),
        text(o, "/spec/type").into(),
        limit("/spec/limited/nominalConcurrencyShares"),
        limit("/spec/limited/limitResponse/queuing/queues"),
        limit("/spec/limited/limitResponse/queuing/handSize"),
        limit("/spec/limited/limitResponse/queuing/queueLengthLimit"),
        age(o, now),
    ]
}
