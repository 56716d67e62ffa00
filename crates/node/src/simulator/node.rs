//! The node that all simulated Pods are on.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Node, NodeAddress, NodeCondition, NodeStatus, NodeSystemInfo},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::{NODE, SIMULATED};
use crate::core::{Action, Context, Error, Name, Result, now};

/// Address of the node; from the range for documentation, since nothing listens there.
pub(super) const ADDRESS: &str = "192.0.2.1";

fn labels() -> BTreeMap<String, String> {
    let mut labels = crate::schedule::labels();
    labels.insert(
        "node.kubernetes.io/instance-type".to_owned(),
        "simulated".to_owned(),
    );
    labels
}

/// Makes sure that the node is there and ready.
pub(crate) async fn reconcile(context: &Context) -> Result<Action> {
    if !context.options.simulator {
        return Ok(Action::Wait);
    }
    let failed = |action| {
        move |source| Error::Api {
            action,
            kind: "Node".into(),
            name: Name::new("", NODE),
            source: Box::new(source),
        }
    };
    let api = Api::<Node>::all(context.client.clone());
    let node = match context.world.nodes.get(&Name::new("", NODE)) {
        Some(node) if node.metadata.deletion_timestamp.is_some() => return Ok(Action::Wait),
        Some(node)
            if node
                .metadata
                .annotations
                .as_ref()
                .is_none_or(|all| !all.contains_key(SIMULATED)) =>
        {
            // It ran containers the last time.
            let patch = json!({
                "metadata": {"annotations": {SIMULATED: "true"}, "labels": labels()},
                "status": {"conditions": []},
            });
            let changed = api
                .patch(NODE, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            changed.map_err(failed("update"))?;
            let patch = json!({"status": status()});
            let changed = api
                .patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            changed.map_err(failed("update the status of"))?;
            return Ok(Action::Wait);
        }
        Some(node) => node,
        None => {
            let node = Node {
                metadata: ObjectMeta {
                    name: Some(NODE.into()),
                    labels: Some(labels()),
                    annotations: Some([(SIMULATED.to_owned(), "true".to_owned())].into()),
                    ..ObjectMeta::default()
                },
                ..Node::default()
            };
            // Its event comes back as the next task, which sets the status.
            return match api.create(&PostParams::default(), &node).await {
                Ok(_) => Ok(Action::Wait),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Action::Wait),
                Err(error) => Err(failed("create")(error)),
            };
        }
    };
    let conditions = node
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let is_ready = |condition: &NodeCondition| condition.type_ == "Ready" && condition.status == "True";
    if !conditions.unwrap_or_default().iter().any(is_ready) {
        let patch = json!({"status": status()});
        api.patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .map_err(failed("update the status of"))?;
    }
    Ok(Action::Wait)
}

fn status() -> NodeStatus {
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", "1024"),
        ("memory", "4Ti"),
        ("ephemeral-storage", "16Ti"),
        ("pods", "100000"),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
    .into();
    let condition = |kind: &str, value: &str, reason: &str, message: &str| NodeCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message.into()),
        last_heartbeat_time: Some(now()),
        last_transition_time: Some(now()),
    };
    let address = |kind: &str, value: &str| NodeAddress {
        type_: kind.into(),
        address: value.into(),
    };
    let labels = labels();
    NodeStatus {
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        addresses: Some(vec![address("InternalIP", ADDRESS), address("Hostname", NODE)]),
        conditions: Some(vec![
            condition(
                "MemoryPressure",
                "False",
                "KubeletHasSufficientMemory",
                "kubelet has sufficient memory available",
            ),
            condition(
                "DiskPressure",
                "False",
                "KubeletHasNoDiskPressure",
                "kubelet has no disk pressure",
            ),
            condition(
                "PIDPressure",
                "False",
                "KubeletHasSufficientPID",
                "kubelet has sufficient PID available",
            ),
            condition(
                "Ready",
                "True",
                "KubeletReady",
                "the node is simulated: its Pods run nowhere",
            ),
        ]),
        node_info: Some(NodeSystemInfo {
            architecture: labels.get("kubernetes.io/arch").cloned().unwrap_or_default(),
            operating_system: "linux".into(),
            os_image: "simulated".into(),
            kernel_version: "simulated".into(),
            container_runtime_version: concat!("simulated://", env!("CARGO_PKG_VERSION")).into(),
            kubelet_version: concat!("choreo-", env!("CARGO_PKG_VERSION")).into(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}
