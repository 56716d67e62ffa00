//! Pods and policies as the judge of network policies takes them, and his reasons.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use choreo_reach::{Explanation, Flow, Party, Pod as PodParty, Policies, Side, Transport as Carrier};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{agent::Runtime, core::Name, relay::protocol::Transport};

/// The Pod of a cell that has an address.
pub(super) fn pod_at(runtime: &Runtime, namespace: &str, address: Ipv4Addr) -> Option<Arc<Pod>> {
    let text = address.to_string();
    let pods = runtime.context.world.pods.in_namespace(namespace);
    pods.into_iter().find(|pod| {
        let status = pod.status.as_ref();
        let finished = status
            .and_then(|status| status.phase.as_deref())
            .is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
        !finished && status.and_then(|status| status.pod_ip.as_ref()) == Some(&text)
    })
}

/// A Pod as policies look at it.
pub(super) fn party(runtime: &Runtime, pod: &Pod) -> PodParty {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let labels = runtime
        .context
        .world
        .namespaces
        .get(&Name::new("", &namespace))
        .and_then(|namespace| namespace.metadata.labels.clone());
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    PodParty {
        namespace,
        namespace_labels: labels.unwrap_or_default(),
        labels: pod.metadata.labels.clone().unwrap_or_default(),
        addresses: pod
            .status
            .iter()
            .filter_map(|status| status.pod_ip.as_deref()?.parse().ok())
            .collect(),
        ports: ports
            .filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?)))
            .collect(),
    }
}

/// The policies of the namespaces that a flow touches. One that cannot be judged closes everything: to pass it over could open what it
/// closes.
pub(super) fn policies(runtime: &Runtime, namespaces: &[&str]) -> Result<Policies, String> {
    let world = &runtime.context.world;
    let mut objects: Vec<Value> = Vec::new();
    for namespace in namespaces.iter().collect::<BTreeSet<_>>() {
        for policy in world.network_policies.in_namespace(namespace) {
            let mut object = serde_json::to_value(&*policy).map_err(|error| error.to_string())?;
            object["apiVersion"] = json!("networking.k8s.io/v1");
            object["kind"] = json!("NetworkPolicy");
            objects.push(object);
        }
        for policy in world.cilium_policies.in_namespace(namespace) {
            objects.push(json!({
                "apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
                "metadata": policy.metadata, "spec": policy.data.get("spec"),
            }));
        }
    }
    Policies::of(&objects).map_err(|error| error.to_string())
}

pub(super) fn carrier(transport: Transport) -> Carrier {
    match transport {
        Transport::Tcp => Carrier::Tcp,
        Transport::Udp => Carrier::Udp,
    }
}

/// Why some policy closes traffic between a Pod and others of its namespace, if one does: inside of a cell nobody stands between them.
pub(crate) fn closed_inside(runtime: &Runtime, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let policies = policies(runtime, &[namespace])
        .ok()
        .filter(|policies| !policies.is_empty())?;
    let own = Party::Pod(party(runtime, pod));
    let others = runtime.context.world.pods.in_namespace(namespace);
    // A few tell as much as all: replicas are alike.
    for other in others.iter().take(32) {
        let there = Party::Pod(party(runtime, other));
        let Party::Pod(target) = &there else { continue };
        for port in target.ports.values() {
            let flow = Flow {
                from: &own,
                to: &there,
                port: *port,
                transport: Carrier::Tcp,
                request: None,
            };
            let explanation = policies.explain(&flow);
            if !explanation.allowed() {
                let name = other.metadata.name.as_deref().unwrap_or_default();
                return Some(format!(
                    "the local data plane does not enforce policies inside of a namespace: {} may reach port {port} of Pod {name}, though {}",
                    pod.metadata.name.as_deref().unwrap_or_default(),
                    reasons(&explanation)
                ));
            }
        }
    }
    None
}

/// A gateway by one of the host names that its listeners are for.
pub(super) fn gateway_of(runtime: &Runtime, host: &str) -> Option<PodParty> {
    runtime.gateway.load_full()?;
    let gateways = runtime.context.world.foreign(crate::operators::Kind::Gateway);
    let gateway = gateways.all().into_iter().find(|gateway| {
        let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
        let mut hosts = listeners
            .into_iter()
            .flatten()
            .filter_map(|listener| listener.get("hostname")?.as_str());
        hosts.any(|pattern| match pattern.strip_prefix("*.") {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
            None => pattern == host,
        })
    })?;
    let name = Name::of(&*gateway);
    // As Envoy Gateway labels its proxies.
    let labels = [
        ("gateway.envoyproxy.io/owning-gateway-name".to_owned(), name.name),
        (
            "gateway.envoyproxy.io/owning-gateway-namespace".to_owned(),
            name.namespace.clone(),
        ),
    ];
    Some(PodParty {
        namespace: name.namespace,
        labels: labels.into(),
        ..PodParty::default()
    })
}

/// Why a flow is not let through, in words.
pub(super) fn reasons(explanation: &Explanation) -> String {
    let list = |by: &[choreo_reach::PolicyRef]| {
        let mut names: Vec<_> = by.iter().take(3).map(ToString::to_string).collect();
        if by.len() > names.len() {
            names.push(format!("{} more", by.len() - names.len()));
        }
        names.join(", ")
    };
    let side = |side: &Side, way: &str| match side {
        Side::Closed { by } => Some(format!(
            "no policy allows it on the way {way}, which is closed by {}",
            list(by)
        )),
        Side::Forbidden { by } => Some(format!("on the way {way} it is forbidden by {}", list(by))),
        Side::Open | Side::Allowed { .. } => None,
    };
    let both = [side(&explanation.egress, "out"), side(&explanation.ingress, "in")];
    both.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
