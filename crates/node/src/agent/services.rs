//! What the relay of a cell is told of its Services.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
};

use k8s_openapi::api::{core::v1::Service as ServiceObject, discovery::v1::EndpointSlice};

use super::Runtime;
use crate::{
    core::Name,
    relay::protocol::{Config, Port, Service, Transport},
};

/// What the relay of a namespace has to know.
pub(super) fn config(runtime: &Runtime, namespace: &str) -> Config {
    let world = &runtime.context.world;
    let slices = world.endpoint_slices.in_namespace(namespace);
    let services = world
        .services
        .in_namespace(namespace)
        .iter()
        .filter(|service| service.metadata.deletion_timestamp.is_none())
        .map(|service| describe(runtime, service, &slices))
        .collect();
    Config {
        namespace: namespace.to_owned(),
        services,
    }
}

/// The label that says whose a slice is.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The endpoints of a port of a Service that may be used: those that are ready, or if none is, those that end but still serve.
pub(crate) fn endpoints(
    slices: &[Arc<EndpointSlice>],
    service: &str,
    port: Option<&str>,
    transport: Transport,
) -> Vec<SocketAddrV4> {
    let (mut ready, mut serving) = (Vec::new(), Vec::new());
    for slice in slices.iter().filter(|slice| is_of(slice, service)) {
        let number = slice.ports.iter().flatten().find(|found| {
            found.name.as_deref().unwrap_or_default() == port.unwrap_or_default()
                && protocol_of(found.protocol.as_deref()) == Some(transport)
        });
        let Some(number) = number.and_then(|found| u16::try_from(found.port?).ok()) else {
            continue;
        };
        for endpoint in slice.endpoints.iter().flatten() {
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            let addresses = endpoint.addresses.iter().filter_map(|text| text.parse().ok());
            let all = addresses.map(|address| SocketAddrV4::new(address, number));
            if conditions.ready != Some(false) {
                ready.extend(all);
            } else if conditions.serving == Some(true) && conditions.terminating == Some(true) {
                serving.extend(all);
            }
        }
    }
    if ready.is_empty() { serving } else { ready }
}

pub(super) fn is_of(slice: &EndpointSlice, service: &str) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME))
        .is_some_and(|name| name == service)
}

pub(crate) fn protocol_of(protocol: Option<&str>) -> Option<Transport> {
    match protocol {
        None | Some("TCP") => Some(Transport::Tcp),
        Some("UDP") => Some(Transport::Udp),
        Some(_) => None,
    }
}

pub(super) fn describe(runtime: &Runtime, service: &ServiceObject, slices: &[Arc<EndpointSlice>]) -> Service {
    let name = Name::of(service);
    let spec = service.spec.clone().unwrap_or_default();
    let external = (spec.type_.as_deref() == Some("ExternalName"))
        .then(|| spec.external_name.clone())
        .flatten();
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let transport = protocol_of(port.protocol.as_deref())?;
        Some(Port {
            port: u16::try_from(port.port).ok()?,
            transport,
            endpoints: endpoints(slices, &name.name, port.name.as_deref(), transport),
        })
    });
    let ports: Vec<Port> = ports.collect();
    let (mut addresses, mut hostnames) = (BTreeSet::new(), BTreeMap::new());
    if headless {
        let all = slices.iter().filter(|slice| is_of(slice, &name.name));
        for endpoint in all.flat_map(|slice| slice.endpoints.iter().flatten()) {
            let ready = endpoint.conditions.as_ref().and_then(|c| c.ready) != Some(false);
            let found: Vec<Ipv4Addr> = endpoint
                .addresses
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect();
            if !ready {
                continue;
            }
            addresses.extend(&found);
            let pod = endpoint
                .target_ref
                .as_ref()
                .and_then(|reference| reference.name.clone())
                .and_then(|pod| runtime.context.world.pods.get(&Name::new(&name.namespace, pod)));
            let hostname = pod.as_ref().and_then(|pod| {
                let spec = pod.spec.as_ref()?;
                (spec.subdomain.as_deref() == Some(&name.name)).then(|| spec.hostname.clone())?
            });
            if let (Some(hostname), Some(address)) = (hostname, found.first()) {
                hostnames.insert(hostname, *address);
            }
        }
    }
    Service {
        name: name.name,
        headless,
        external_name: external,
        ports,
        addresses,
        hostnames,
    }
}
