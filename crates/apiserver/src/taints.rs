//! Taints of nodes that are not as Pods need them, by the conditions that nodes tell of themselves.
//!
//! A node begins with a taint ([`crate::admission`]), so that nothing is scheduled to it before it is ready; here it loses it. A
//! node that has not told yet whether it is ready is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use choreo_apimachinery::status::Result;
use choreo_store::{Event, EventKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::follow::{Round, burst, rounds};
use crate::user::UserInfo;
use crate::verbs::{Subresource, Target, edit, text};

/// The name under which this controller writes.
const AGENT: &str = "node-controller";

const NODES: &str = "nodes";

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that comes of it.
const TAINTS: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", "node.kubernetes.io/unreachable"),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// Works until `shutdown`.
pub(crate) async fn run(cluster: Arc<Cluster>, shutdown: CancellationToken) {
    rounds(shutdown, || round(cluster.clone())).await;
}

async fn round(cluster: Arc<Cluster>) -> Round {
    let cluster = &cluster;
    let snapshot = cluster.store().snapshot();
    let mut watch = cluster.store().watch(Some(NODES), None, snapshot.revision())?;
    let all = snapshot.iter(NODES, None, None);
    let mut look_at: BTreeSet<String> = all.map(|node| node.key().name().to_owned()).collect();
    drop(snapshot);
    loop {
        for name in std::mem::take(&mut look_at) {
            if let Err(error) = look(cluster, &name).await {
                tracing::warn!(node = name, "the taints of a node were not written: {error}");
            }
        }
        burst(&mut watch, |event: &Event| {
            if event.kind != EventKind::Deleted {
                look_at.insert(event.object.key().name().to_owned());
            }
        })
        .await?;
    }
}

async fn look(cluster: &Arc<Cluster>, name: &str) -> Result<()> {
    let target = Target::new(cluster, ("", "v1", NODES), "", &UserInfo::system(AGENT), AGENT)?;
    let stored = cluster.store().get(&target.key(name));
    if stored.is_none_or(|node| right(&node.value()).is_none()) {
        return Ok(());
    }
    edit(&target, name, Subresource::Main, |node| {
        if let Some(taints) = right(node) {
            node["spec"]["taints"] = taints.into();
        }
    })
    .await
}

/// The taints that a node should have; none if it has them. Those that do not come of conditions are kept.
fn right(node: &Value) -> Option<Vec<Value>> {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let conditions = conditions.map_or(&[][..], Vec::as_slice);
    let mut wanted: Vec<&str> = TAINTS
        .iter()
        .filter(|(kind, status, _)| {
            let mut of = conditions.iter().filter(|condition| condition["type"] == **kind);
            of.any(|condition| condition["status"] == **status)
        })
        .map(|(_, _, key)| *key)
        .collect();
    if !conditions.iter().any(|condition| condition["type"] == "Ready") {
        wanted.push(NOT_READY);
    }
    if node["spec"]["unschedulable"] == true {
        wanted.push(UNSCHEDULABLE);
    }
    let present = node.pointer("/spec/taints").and_then(Value::as_array);
    let present = present.map_or(&[][..], Vec::as_slice);
    let is_ours = |taint: &Value| {
        let key = text(taint, "/key");
        text(taint, "/effect") == "NoSchedule"
            && (key == UNSCHEDULABLE || TAINTS.iter().any(|(_, _, of)| *of == key))
    };
    let mut taints: Vec<Value> = present
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&text(taint, "/key")))
        .cloned()
        .collect();
    for key in wanted {
        let has = |taint: &Value| is_ours(taint) && text(taint, "/key") == key;
        if !taints.iter().any(has) {
            taints.push(json!({"key": key, "effect": "NoSchedule"}));
        }
    }
    (taints != present).then_some(taints)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(conditions: &[(&str, &str)], taints: &Value) -> Value {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status)| json!({"type": kind, "status": status}))
            .collect();
        json!({"spec": {"taints": taints}, "status": {"conditions": conditions}})
    }

    fn taint(key: &str) -> Value {
        json!({"key": format!("node.kubernetes.io/{key}"), "effect": "NoSchedule"})
    }

    #[test]
    fn taints_follow_the_conditions() {
        let waits = json!([taint("not-ready")]);
        // Nothing is known yet.
        assert_eq!(right(&node(&[], &waits)), None);
        assert_eq!(right(&node(&[], &json!([]))), Some(vec![taint("not-ready")]));
        let fine = [("Ready", "True"), ("DiskPressure", "False")];
        assert_eq!(right(&node(&fine, &waits)), Some(vec![]));
        assert_eq!(right(&node(&fine, &json!([]))), None);
        let gone = [("Ready", "Unknown"), ("DiskPressure", "True")];
        assert_eq!(
            right(&node(&gone, &waits)),
            Some(vec![taint("unreachable"), taint("disk-pressure")])
        );
        let mut cordoned = node(&fine, &json!([]));
        cordoned["spec"]["unschedulable"] = true.into();
        assert_eq!(right(&cordoned), Some(vec![taint("unschedulable")]));
    }

    #[test]
    fn taints_of_others_stay() {
        let own = json!({"key": "dedicated", "value": "x", "effect": "NoSchedule"});
        let evicts = json!({"key": NOT_READY, "effect": "NoExecute"});
        let taints = json!([own, taint("not-ready"), evicts]);
        assert_eq!(
            right(&node(&[("Ready", "True")], &taints)),
            Some(vec![own, evicts])
        );
    }
}
