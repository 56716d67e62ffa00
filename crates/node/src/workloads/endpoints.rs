//! EndpointSlices and Endpoints of a Service: the addresses of the Pods that it selects.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::{
        core::v1::{
            EndpointAddress, EndpointPort as OldPort, EndpointSubset, Endpoints, ObjectReference, Pod,
            Service, ServiceSpec,
        },
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{
    hash,
    pods::{is_deleting, is_finished, is_ready, label},
};
use crate::core::{Action, Context, Name, Result, owner_reference};

const SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: (&str, &str) = (
    "endpointslice.kubernetes.io/managed-by",
    "endpointslice-controller.k8s.io",
);
const OLD_MANAGED_BY: (&str, &str) = ("endpoints.kubernetes.io/managed-by", "endpoint-controller");
const HEADLESS: &str = "service.kubernetes.io/headless";

/// Name, protocol, number.
type Port = (String, String, i32);

pub(crate) async fn reconcile(context: &Context, name: &Name) -> Result<Action> {
    let service = context
        .world
        .services
        .get(name)
        .filter(|service| service.metadata.deletion_timestamp.is_none());
    let spec = service.as_ref().and_then(|service| service.spec.as_ref());
    let selected = spec.filter(|spec| {
        spec.selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty())
            && spec.type_.as_deref() != Some("ExternalName")
    });
    let (Some(service), Some(spec)) = (&service, selected) else {
        // Slices go with their owner; the old form has none.
        if service.is_none()
            && let Some(old) = context.world.endpoints.get(name)
            && label(&old.metadata, OLD_MANAGED_BY.0) == Some(OLD_MANAGED_BY.1)
        {
            context.delete(&*old, None).await?;
        }
        return Ok(Action::Wait);
    };
    let groups = groups(context, name, spec);
    write_slices(context, name, service, &groups).await?;
    write_old(context, name, service, spec, &groups).await?;
    Ok(Action::Wait)
}

/// Selected Pods that have an address, by the ports that the Service's ports mean for them.
fn groups(context: &Context, name: &Name, spec: &ServiceSpec) -> BTreeMap<Vec<Port>, Vec<Arc<Pod>>> {
    let selector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector {
        match_labels: spec.selector.clone(),
        match_expressions: None,
    };
    let mut groups: BTreeMap<Vec<Port>, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in context.world.pods.selected(&name.namespace, &selector) {
        if !is_finished(&pod) && address(&pod).is_some() {
            groups.entry(ports(spec, &pod)).or_default().push(pod);
        }
    }
    groups
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status
        .as_ref()?
        .pod_ip
        .as_deref()
        .filter(|address| !address.is_empty())
}

fn ports(spec: &ServiceSpec, pod: &Pod) -> Vec<Port> {
    let mut ports: Vec<Port> = Vec::new();
    for port in spec.ports.iter().flatten() {
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".into());
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(0)) => Some(port.port),
            Some(IntOrString::Int(number)) => Some(*number),
            Some(IntOrString::String(wanted)) => {
                let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
                let mut declared = containers
                    .filter_map(|container| container.ports.as_ref())
                    .flatten();
                let found = declared.find(|declared| {
                    declared.name.as_ref() == Some(wanted)
                        && declared.protocol.as_deref().unwrap_or("TCP") == protocol
                });
                found.map(|declared| declared.container_port)
            }
        };
        if let Some(number) = number {
            ports.push((port.name.clone().unwrap_or_default(), protocol, number));
        }
    }
    ports
}

fn reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn node(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

fn endpoint(pod: &Pod, publish_all: bool) -> Endpoint {
    let serving = is_ready(pod);
    Endpoint {
        addresses: address(pod).map(str::to_owned).into_iter().collect(),
        conditions: Some(EndpointConditions {
            ready: Some(publish_all || (serving && !is_deleting(pod))),
            serving: Some(serving),
            terminating: Some(is_deleting(pod)),
        }),
        node_name: node(pod),
        target_ref: Some(reference(pod)),
        ..Endpoint::default()
    }
}

fn labels(service: &Service, own: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    if service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.cluster_ip.as_deref() == Some("None"))
    {
        labels.insert(HEADLESS.into(), String::new());
    }
    labels.extend(
        own.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    labels
}

async fn write_slices(
    context: &Context,
    name: &Name,
    service: &Service,
    groups: &BTreeMap<Vec<Port>, Vec<Arc<Pod>>>,
) -> Result<()> {
    let publish_all = service
        .spec
        .as_ref()
        .is_some_and(|spec| spec.publish_not_ready_addresses == Some(true));
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let mut left: BTreeMap<_, _> = context
        .world
        .endpoint_slices
        .controlled_by(&name.namespace, uid)
        .into_iter()
        .filter(|slice| label(&slice.metadata, MANAGED_BY.0) == Some(MANAGED_BY.1))
        .map(|slice| (slice.metadata.name.clone().unwrap_or_default(), slice))
        .collect();
    let none = BTreeMap::from([(Vec::new(), Vec::new())]);
    for (ports, pods) in if groups.is_empty() { &none } else { groups } {
        let slice_name = format!("{}-{}", name.name, hash::short(&(ports, uid), 0)?);
        let port = |(name, protocol, number): &Port| EndpointPort {
            name: Some(name.clone()),
            protocol: Some(protocol.clone()),
            port: Some(*number),
            app_protocol: None,
        };
        let endpoints: Vec<_> = pods.iter().map(|pod| endpoint(pod, publish_all)).collect();
        let wanted = EndpointSlice {
            metadata: ObjectMeta {
                name: Some(slice_name.clone()),
                namespace: Some(name.namespace.clone()),
                labels: Some(labels(service, &[(SERVICE, &name.name), MANAGED_BY])),
                owner_references: Some(vec![owner_reference(service)]),
                ..ObjectMeta::default()
            },
            address_type: "IPv4".into(),
            endpoints: Some(endpoints).filter(|endpoints| !endpoints.is_empty()),
            ports: Some(ports.iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        };
        match left.remove(&slice_name) {
            None => match context.create(&wanted).await {
                // The namespace is going.
                Err(error) if error.is_refused() || error.is_not_found() => return Ok(()),
                Err(error) => return Err(error),
                Ok(_) => {}
            },
            Some(present) => {
                let some = |endpoints: &Option<Vec<Endpoint>>| endpoints.clone().unwrap_or_default();
                let same = some(&present.endpoints) == some(&wanted.endpoints)
                    && present.ports.clone().unwrap_or_default() == wanted.ports.clone().unwrap_or_default()
                    && present.metadata.labels == wanted.metadata.labels;
                if !same {
                    let mut changed = (*present).clone();
                    changed.endpoints = wanted.endpoints;
                    changed.ports = wanted.ports;
                    changed.metadata.labels = wanted.metadata.labels;
                    context.replace(&changed).await?;
                }
            }
        }
    }
    for slice in left.values() {
        context.delete(&**slice, None).await?;
    }
    Ok(())
}

/// The old form of the same, which some clients still read.
async fn write_old(
    context: &Context,
    name: &Name,
    service: &Service,
    spec: &ServiceSpec,
    groups: &BTreeMap<Vec<Port>, Vec<Arc<Pod>>>,
) -> Result<()> {
    let publish_all = spec.publish_not_ready_addresses == Some(true);
    let subset = |(ports, pods): (&Vec<Port>, &Vec<Arc<Pod>>)| {
        let address = |pod: &Arc<Pod>| EndpointAddress {
            ip: address(pod).unwrap_or_default().to_owned(),
            node_name: node(pod),
            target_ref: Some(reference(pod)),
            hostname: None,
        };
        let (ready, not_ready): (Vec<_>, Vec<_>) = pods
            .iter()
            .filter(|pod| publish_all || !is_deleting(pod))
            .partition(|pod| publish_all || is_ready(pod));
        let addresses = |pods: Vec<&Arc<Pod>>| {
            Some(pods.into_iter().map(address).collect::<Vec<_>>()).filter(|all| !all.is_empty())
        };
        let port = |(name, protocol, number): &Port| OldPort {
            name: Some(name.clone()).filter(|name| !name.is_empty()),
            protocol: Some(protocol.clone()),
            port: *number,
            app_protocol: None,
        };
        EndpointSubset {
            addresses: addresses(ready),
            not_ready_addresses: addresses(not_ready),
            ports: Some(ports.iter().map(port).collect::<Vec<_>>()).filter(|ports| !ports.is_empty()),
        }
    };
    let subsets: Vec<_> = groups
        .iter()
        .map(subset)
        .filter(|subset| subset.addresses.is_some() || subset.not_ready_addresses.is_some())
        .collect();
    let subsets = Some(subsets).filter(|subsets| !subsets.is_empty());
    let labels = Some(labels(service, &[OLD_MANAGED_BY]));
    match context.world.endpoints.get(name) {
        None => {
            let made = Endpoints {
                metadata: ObjectMeta {
                    name: Some(name.name.clone()),
                    namespace: Some(name.namespace.clone()),
                    labels,
                    ..ObjectMeta::default()
                },
                subsets,
            };
            match context.create(&made).await {
                Err(error) if !(error.is_refused() || error.is_not_found()) => return Err(error),
                _ => {}
            }
        }
        Some(present)
            if present.subsets.clone().unwrap_or_default() != subsets.clone().unwrap_or_default()
                || present.metadata.labels != labels =>
        {
            let mut changed = (*present).clone();
            changed.subsets = subsets;
            changed.metadata.labels = labels;
            context.replace(&changed).await?;
        }
        Some(_) => {}
    }
    Ok(())
}
