//! Conversion between the two built-in kinds that are served in more than one form: events and autoscalers.

use serde_json::{Map, Value, json};

use crate::registry::ResourceInfo;

/// Names of an Event's fields in `v1` and in `events.k8s.io/v1`.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Turns an object of a built-in kind into the version of `to`. Objects that are in it already stay as they are.
pub fn convert(object: &mut Value, to: &ResourceInfo) {
    let version = to.api_version();
    let from = object
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let Some(map) = object.as_object_mut() else { return };
    match (from.as_str(), version.as_str()) {
        ("v1", "events.k8s.io/v1") if to.kind == "Event" => rename(map, |(core, events)| (core, events)),
        ("events.k8s.io/v1", "v1") if to.kind == "Event" => rename(map, |(core, events)| (events, core)),
        ("autoscaling/v1", "autoscaling/v2") => to_metrics(map),
        ("autoscaling/v2", "autoscaling/v1") => to_percentage(map),
        _ => return,
    }
    map.insert("apiVersion".into(), version.into());
}

fn rename(
    map: &mut Map<String, Value>,
    direction: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    for pair in EVENT_FIELDS {
        let (from, to) = direction(pair);
        if let Some(value) = map.remove(from) {
            map.insert(to.into(), value);
        }
    }
}

fn part<'m>(map: &'m mut Map<String, Value>, field: &str) -> Option<&'m mut Map<String, Value>> {
    map.get_mut(field).and_then(Value::as_object_mut)
}

fn take_annotation(map: &mut Map<String, Value>, name: &str) -> Option<Value> {
    let annotations = part(part(map, "metadata")?, "annotations")?;
    let text = annotations.remove(name)?;
    let empty = annotations.is_empty();
    if empty {
        part(map, "metadata")?.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn put_annotation(map: &mut Map<String, Value>, name: &str, value: &Value) {
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut()
        && let Some(annotations) = metadata
            .entry("annotations")
            .or_insert_with(|| json!({}))
            .as_object_mut()
    {
        annotations.insert(name.into(), value.to_string().into());
    }
}

fn cpu(target: &str, value: &Value) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", target: value}})
}

/// `autoscaling/v1` knows CPU utilization only; everything else travels in annotations.
fn to_metrics(map: &mut Map<String, Value>) {
    let mut metrics = match take_annotation(map, METRICS) {
        Some(Value::Array(metrics)) => metrics,
        _ => Vec::new(),
    };
    let behavior = take_annotation(map, BEHAVIOR);
    if let Some(spec) = part(map, "spec") {
        if let Some(percentage) = spec.remove("targetCPUUtilizationPercentage") {
            metrics.push(cpu(
                "target",
                &json!({"type": "Utilization", "averageUtilization": percentage}),
            ));
        }
        if !metrics.is_empty() {
            spec.insert("metrics".into(), metrics.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = part(map, "status")
        && let Some(percentage) = status.remove("currentCPUUtilizationPercentage")
    {
        status.insert(
            "currentMetrics".into(),
            json!([cpu("current", &json!({"averageUtilization": percentage}))]),
        );
    }
}

fn to_percentage(map: &mut Map<String, Value>) {
    let is_cpu = |metric: &Value| metric["type"] == "Resource" && metric["resource"]["name"] == "cpu";
    let (mut rest, mut behavior) = (Vec::new(), None);
    if let Some(spec) = part(map, "spec") {
        if let Some(Value::Array(metrics)) = spec.remove("metrics") {
            for metric in metrics {
                let percentage = metric["resource"]["target"]["averageUtilization"].clone();
                if is_cpu(&metric) && !percentage.is_null() {
                    spec.insert("targetCPUUtilizationPercentage".into(), percentage);
                } else {
                    rest.push(metric);
                }
            }
        }
        behavior = spec.remove("behavior");
    }
    if !rest.is_empty() {
        put_annotation(map, METRICS, &rest.into());
    }
    if let Some(behavior) = behavior {
        put_annotation(map, BEHAVIOR, &behavior);
    }
    if let Some(status) = part(map, "status") {
        status.remove("conditions");
        if let Some(Value::Array(metrics)) = status.remove("currentMetrics") {
            let percentage = metrics
                .iter()
                .find(|m| is_cpu(m))
                .map(|m| m["resource"]["current"]["averageUtilization"].clone())
                .filter(|p| !p.is_null());
            if let Some(percentage) = percentage {
                status.insert("currentCPUUtilizationPercentage".into(), percentage);
            }
        }
    }
}
