//! Cells of volumes, claims and quotas.

use jiff::Timestamp;
use serde_json::Value;

use super::age::age;
use super::cells::{list, name, text};

fn access_modes(o: &Value, pointer: &str) -> String {
    let modes: Vec<&str> = list(o, pointer).iter().filter_map(Value::as_str).collect();
    [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ]
    .into_iter()
    .filter(|(mode, _)| modes.contains(mode))
    .map(|(_, short)| short)
    .collect::<Vec<_>>()
    .join(",")
}

fn phase(o: &Value) -> Value {
    let deleting = o.pointer("/metadata/deletionTimestamp").is_some();
    if deleting {
        "Terminating"
    } else {
        text(o, "/status/phase")
    }
    .into()
}

fn unset(text: &str) -> Value {
    if text.is_empty() { "<unset>" } else { text }.into()
}

pub(super) fn persistent_volume(o: &Value, now: Timestamp) -> Vec<Value> {
    let claim = match (
        text(o, "/spec/claimRef/namespace"),
        text(o, "/spec/claimRef/name"),
    ) {
        (_, "") => String::new(),
        (namespace, name) => format!("{namespace}/{name}"),
    };
    vec![
        name(o),
        text(o, "/spec/capacity/storage").into(),
        access_modes(o, "/spec/accessModes").into(),
        text(o, "/spec/persistentVolumeReclaimPolicy").into(),
        phase(o),
        claim.into(),
        text(o, "/spec/storageClassName").into(),
        unset(text(o, "/spec/volumeAttributesClassName")),
        text(o, "/status/reason").into(),
        age(o, now),
        unset(text(o, "/spec/volumeMode")),
    ]
}

pub(super) fn persistent_volume_claim(o: &Value, now: Timestamp) -> Vec<Value> {
    let bound = !text(o, "/spec/volumeName").is_empty();
    let (capacity, modes) = if bound {
        (
            text(o, "/status/capacity/storage"),
            access_modes(o, "/status/accessModes"),
        )
    } else {
        ("", String::new())
    };
    vec![
        name(o),
        phase(o),
        text(o, "/spec/volumeName").into(),
        capacity.into(),
        modes.into(),
        text(o, "/spec/storageClassName").into(),
        unset(text(o, "/spec/volumeAttributesClassName")),
        age(o, now),
        unset(text(o, "/spec/volumeMode")),
    ]
}

pub(super) fn resource_quota(o: &Value, now: Timestamp) -> Vec<Value> {
    let hard = o
        .pointer("/status/hard")
        .or_else(|| o.pointer("/spec/hard"))
        .and_then(Value::as_object);
    let (mut requests, mut limits) = (Vec::new(), Vec::new());
    for (resource, allowed) in hard.into_iter().flatten() {
        let used = o
            .pointer("/status/used")
            .and_then(|u| u.get(resource))
            .map_or_else(|| "0".to_owned(), super::shown);
        let entry = format!("{resource}: {used}/{}", super::shown(allowed));
        if resource.starts_with("limits.") {
            limits.push(entry)
        } else {
            requests.push(entry)
        }
    }
    vec![
        name(o),
        requests.join(", ").into(),
        limits.join(", ").into(),
        age(o, now),
    ]
}
