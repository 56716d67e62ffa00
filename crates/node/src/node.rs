//! What the Node object of this data plane has in common, whoever runs its Pods.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    NODE,
    core::{Context, Error, Name, Result},
};

/// Address of the node; from the range for documentation: nothing listens there, and Pods do not reach this machine by it.
pub(crate) const ADDRESS: &str = "192.0.2.1";

fn failed(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |source| Error::Api {
        action,
        kind: "Node".into(),
        name: Name::new("", NODE),
        source: Box::new(source),
    }
}

fn api(context: &Context) -> Api<Node> {
    Api::all(context.client.clone())
}

/// The labels of the node, with what runs its Pods.
pub(crate) fn labels(instance_type: &str) -> BTreeMap<String, String> {
    let mut labels = crate::schedule::labels();
    labels.insert(INSTANCE_TYPE.to_owned(), instance_type.to_owned());
    labels
}

/// The label that says what runs the node's Pods.
pub(crate) const INSTANCE_TYPE: &str = "node.kubernetes.io/instance-type";

/// The node. Nothing while it is about to go, or has just been made: its event comes back as the next task.
pub(crate) async fn get_or_create(
    context: &Context,
    labels: &BTreeMap<String, String>,
    annotation: (&str, &str),
) -> Result<Option<Arc<Node>>> {
    match context.world.nodes.get(&Name::new("", NODE)) {
        Some(node) if node.metadata.deletion_timestamp.is_some() => return Ok(None),
        Some(node) => return Ok(Some(node)),
        None => {}
    }
    let node = Node {
        metadata: ObjectMeta {
            name: Some(NODE.into()),
            labels: Some(labels.clone()),
            annotations: Some([(annotation.0.to_owned(), annotation.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Node::default()
    };
    match api(context).create(&PostParams::default(), &node).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
        Err(error) => Err(failed("create")(error)),
    }
}

/// Changes what the node says of itself.
pub(crate) async fn patch(context: &Context, metadata: &Value) -> Result<()> {
    let patch = json!({"metadata": metadata});
    let changed = api(context)
        .patch(NODE, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    changed.map(drop).map_err(failed("update"))
}

/// Writes the node's status.
pub(crate) async fn set_status(context: &Context, status: &NodeStatus) -> Result<()> {
    let patch = json!({"status": status});
    let changed = api(context)
        .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch))
        .await;
    changed.map(drop).map_err(failed("update the status of"))
}

pub(crate) fn addresses() -> Vec<NodeAddress> {
    [("InternalIP", ADDRESS), ("Hostname", NODE)]
        .map(|(kind, value)| NodeAddress {
            type_: kind.into(),
            address: value.into(),
        })
        .into()
}

/// What a kubelet says of a machine that has enough of everything, each made by `condition` from kind, reason and message; they are
/// `False`.
pub(crate) fn calm(condition: impl Fn(&str, &str, &str) -> NodeCondition) -> Vec<NodeCondition> {
    vec![
        condition(
            "MemoryPressure",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        condition(
            "DiskPressure",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        condition(
            "PIDPressure",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
    ]
}
