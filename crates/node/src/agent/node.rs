//! The Node that the agent is.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;
use k8s_openapi::{
    api::core::v1::{NodeCondition, NodeDaemonEndpoints, NodeStatus, NodeSystemInfo},
    apimachinery::pkg::api::resource::Quantity,
};
use serde_json::json;

use super::{Agent, Runtime, engine::EngineInfo};
use crate::{
    SIMULATED,
    core::{Action, Context, Result, now},
    node,
};

/// Annotation of the node: the socket of the engine that runs its Pods, for programs on the same machine.
pub const ENGINE_SOCKET: &str = "openchoreo.dev/container-engine";
/// Condition of the node: containers can connect to what listens on all addresses of this machine.
pub const HOST_REACHABLE: &str = "HostReachableFromCells";
/// Condition of the node: what of network policies does not hold here.
pub const POLICY_PARTLY_ENFORCED: &str = "NetworkPolicyPartlyEnforced";
/// As many Pods as a kubelet takes if nobody says otherwise.
const PODS: u32 = 110;

/// Makes sure that the node is there, and that it says how things are.
pub(crate) async fn reconcile(context: &Context, agent: &Agent) -> Result<Action> {
    let Some(runtime) = agent.shared.runtime.load_full() else {
        return Ok(Action::Wait);
    };
    let labels = node::labels(&runtime.info.name);
    let engine = (ENGINE_SOCKET, runtime.socket.as_str());
    let Some(found) = node::get_or_create(context, &labels, engine).await? else {
        return Ok(Action::Wait);
    };
    let annotations = found.metadata.annotations.as_ref();
    let was_simulated = annotations.is_some_and(|all| all.contains_key(SIMULATED));
    let same_engine = annotations.and_then(|all| all.get(ENGINE_SOCKET)) == Some(&runtime.socket);
    let of_type = found
        .metadata
        .labels
        .as_ref()
        .and_then(|all| all.get(node::INSTANCE_TYPE));
    if was_simulated || !same_engine || of_type != Some(&runtime.info.name) {
        let annotations = json!({SIMULATED: null, ENGINE_SOCKET: runtime.socket});
        node::patch(context, &json!({"annotations": annotations, "labels": labels})).await?;
    }
    let status = status(&runtime, found.status.as_ref());
    if found.status.as_ref() != Some(&status) {
        node::set_status(context, &status).await?;
    }
    Ok(Action::Wait)
}

/// Whether containers can connect to this machine by the bridge of their network. An engine without root has its bridges in a network
/// namespace of its own, where nobody listens.
fn host_is_reachable(info: &EngineInfo) -> bool {
    !info.rootless
}

/// The command that closes it. Connections that this machine begins, to reach Pods, go on.
fn close_host(pool: Ipv4Net) -> String {
    format!("iptables -I INPUT -s {pool} -m conntrack --ctstate NEW -j DROP")
}

fn status(runtime: &Runtime, before: Option<&NodeStatus>) -> NodeStatus {
    let info = &runtime.info;
    let resources: BTreeMap<String, Quantity> = [
        ("cpu", info.cpus.to_string()),
        ("memory", format!("{}Ki", info.memory / 1024)),
        ("pods", PODS.to_string()),
    ]
    .map(|(name, amount)| (name.to_owned(), Quantity(amount)))
    .into();
    let known: Vec<NodeCondition> = before
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let condition = |kind: &str, holds: bool, reason: &str, message: String| {
        let value = if holds { "True" } else { "False" };
        let same = known
            .iter()
            .find(|known| known.type_ == kind && known.status == value);
        NodeCondition {
            type_: kind.into(),
            status: value.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_heartbeat_time: same
                .and_then(|same| same.last_heartbeat_time.clone())
                .or_else(|| Some(now())),
            last_transition_time: same
                .and_then(|same| same.last_transition_time.clone())
                .or_else(|| Some(now())),
        }
    };
    let away = runtime.away.borrow().clone();
    let ready = match &away {
        None => condition(
            "Ready",
            true,
            "KubeletReady",
            format!("Pods run as containers of {} {}", info.name, info.version),
        ),
        Some(why) => condition(
            "Ready",
            false,
            "ContainerRuntimeUnavailable",
            format!(
                "the container engine does not answer: {why}. Pods that run go on; nothing is started, stopped or restarted until it is back"
            ),
        ),
    };
    let unlimited = runtime.limits.resources.read().clone();
    let limits = match unlimited {
        None => condition(
            "ResourceLimitsNotEnforced",
            false,
            "LimitsEnforced",
            "limits of memory and processor are set as Pods say them".to_owned(),
        ),
        Some(why) => condition(
            "ResourceLimitsNotEnforced",
            true,
            "HostRefuses",
            format!("containers run without limits of memory and processor: {why}"),
        ),
    };
    let open = host_is_reachable(info);
    let host = condition(
        HOST_REACHABLE,
        open,
        if open {
            "BridgeHasAddress"
        } else {
            "NetworksOfTheirOwn"
        },
        if open {
            format!(
                "the engine's bridge has an address in each cell: what listens on all addresses of this machine can be connected to from \
                 containers, whatever policies say. Let it listen on 127.0.0.1, or close the way: {}",
                close_host(runtime.options.pool)
            )
        } else {
            "the engine's networks are not this machine's: nothing that listens here is reachable from containers".to_owned()
        },
    );
    let policies = condition(
        POLICY_PARTLY_ENFORCED,
        true,
        "NotInsideOfNamespaces",
        "network policies hold between namespaces and to the outside; Pods of one namespace connect to each other whatever policies say, \
         and a rule for some requests lets all through"
            .to_owned(),
    );
    let mut conditions =
        node::calm(|kind, reason, message| condition(kind, false, reason, message.to_owned()));
    conditions.extend([limits, host, policies, ready]);
    NodeStatus {
        capacity: Some(resources.clone()),
        allocatable: Some(resources),
        addresses: Some(node::addresses()),
        conditions: Some(conditions),
        daemon_endpoints: before
            .and_then(|status| status.daemon_endpoints.clone())
            .or(None::<NodeDaemonEndpoints>),
        node_info: Some(NodeSystemInfo {
            architecture: info
                .architecture
                .replace("x86_64", "amd64")
                .replace("aarch64", "arm64"),
            operating_system: "linux".into(),
            os_image: info.operating_system.clone(),
            kernel_version: info.kernel.clone(),
            container_runtime_version: format!("{}://{}", info.name, info.version),
            kubelet_version: concat!("choreo-", env!("CARGO_PKG_VERSION")).into(),
            ..NodeSystemInfo::default()
        }),
        ..NodeStatus::default()
    }
}
