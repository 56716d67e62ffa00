//! The node that all simulated Pods are on.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{NodeCondition, NodeStatus, NodeSystemInfo},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::json;

use super::SIMULATED;
use crate::{
    ENGINE_SOCKET,
    core::{Action, Context, Result, now},
    node,
};

fn labels() -> BTreeMap<String, String> {
    node::labels("simulated")
}

/// Makes sure that the node is there and ready.
pub(crate) async fn reconcile(context: &Context) -> Result<Action> {
    if !context.options.simulator {
        return Ok(Action::Wait);
    }
    let labels = labels();
    let Some(found) = node::get_or_create(context, &labels, (SIMULATED, "true")).await? else {
        return Ok(Action::Wait);
    };
    let annotations = found.metadata.annotations.as_ref();
    // It may have run containers the last time.
    let is_marked = annotations.is_some_and(|all| all.contains_key(SIMULATED));
    if !is_marked {
        let metadata = json!({"annotations": {SIMULATED: "true", ENGINE_SOCKET: null}, "labels": labels});
        node::patch(context, &metadata).await?;
    }
    let conditions = found
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_deref());
    let is_ready = |condition: &NodeCondition| condition.type_ == "Ready" && condition.status == "True";
    if !is_marked || !conditions.unwrap_or_default().iter().any(is_ready) {
        node::set_status(context, &status()).await?;
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
    let mut conditions = node::calm(|kind, reason, message| condition(kind, "False", reason, message));
    conditions.push(condition(
        "Ready",
        "True",
        "KubeletReady",
        "the node is simulated: its Pods run nowhere",
    ));
    let labels = labels();
    NodeStatus {
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        addresses: Some(node::addresses()),
        conditions: Some(conditions),
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
