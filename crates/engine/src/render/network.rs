//! A component's openings in its cell: ways in from the gateways, ways out along its connections.

use choreo_api::{labels, v1alpha1::common::EndpointType};
use serde_json::Value;

use super::{
    Input,
    meta::Meta,
    policy::{self, Direction, Peer, Requests, Rule, Transport},
    route, service,
};
use crate::{
    expose::{Exposure, Upstream},
    operations::{self, MOST_OPERATIONS},
    place::Dialect,
    resolve::connections::EgressTo,
};

/// The policies, and what they cannot say.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) objects: Vec<Value>,
    pub(super) unenforced: Vec<String>,
}

pub(super) fn render(input: &Input<'_>, meta: &Meta) -> Network {
    let mut network = Network::default();
    // Without a default denial everything is open already; a policy that selects the pods would close it.
    if !input.place.default_deny || input.place.plane.dialect == Dialect::None {
        return network;
    }
    for exposure in input.exposures {
        let sibling;
        let pods = match &exposure.upstream {
            Upstream::Own => &meta.selector,
            Upstream::Sibling { component, track } => {
                sibling = labels::Labels::new().component(component).track(track).build();
                &sibling
            }
            // The gateway is not of this cell: what it may reach outside is not the cell's to say.
            Upstream::External(_) => continue,
        };
        let requests = network.requests(input, exposure);
        for (level, declared_by) in &exposure.levels {
            let Some(gateway) = input.place.plane.gateways.as_ref().and_then(|g| g.of(*level)) else {
                continue;
            };
            let rule = Rule {
                pods: Some(pods),
                direction: Direction::Ingress,
                peer: Peer::Gateway(gateway.clone()),
                ports: &[(exposure.port, service::transport(exposure.type_))],
                requests: &requests,
                mutual: false,
            };
            let name = meta.derived(&[&exposure.name, route::level_name(*level), "in"]);
            network.add(input, meta, &name, declared_by, &rule);
        }
    }
    for egress in &input.connections.egress {
        let declared_by = format!("workload connections[{}]", egress.connection);
        let (peer, ports) = match &egress.to {
            // Out of these pods the cell is open to itself; the resource is closed to all whom nobody lets in.
            EgressTo::Resource(pods, ports) => {
                let rule = Rule {
                    pods: Some(pods),
                    direction: Direction::Ingress,
                    peer: Peer::Pods(meta.selector.clone()),
                    ports,
                    requests: &[],
                    mutual: false,
                };
                let name = meta.derived(&[&egress.connection, "resource"]);
                network.add(input, meta, &name, &declared_by, &rule);
                continue;
            }
            EgressTo::Gateway(gateway) => (Peer::Gateway(gateway.clone()), Vec::new()),
            EgressTo::Host(host, port) => (Peer::Host(host.clone()), vec![(*port, Transport::Tcp)]),
            EgressTo::Address(address, port) => (
                Peer::Cidr(ipnet::IpNet::from(*address).to_string()),
                vec![(*port, Transport::Tcp)],
            ),
        };
        let rule = Rule {
            pods: Some(&meta.selector),
            direction: Direction::Egress,
            peer,
            ports: &ports,
            requests: &[],
            mutual: false,
        };
        let name = meta.derived(&[&egress.connection, "out"]);
        network.add(input, meta, &name, &declared_by, &rule);
    }
    network
}

impl Network {
    /// The requests that an endpoint's schema describes, where the data plane's policies can tell requests apart.
    fn requests(&mut self, input: &Input<'_>, exposure: &Exposure) -> Vec<Requests> {
        if input.place.plane.dialect != Dialect::Cilium || exposure.levels.is_empty() {
            return Vec::new();
        }
        if let Some(why) = &exposure.unreadable {
            self.unenforced.push(format!(
                "{why}, so all requests to endpoint {:?} are let through",
                exposure.name
            ));
        }
        let described = &exposure.described;
        if described.operations.len() > MOST_OPERATIONS {
            self.unenforced.push(format!(
                "endpoint {:?} has {} operations, more than the {MOST_OPERATIONS} that a network policy can list, so all requests are let through",
                exposure.name,
                described.operations.len()
            ));
            return Vec::new();
        }
        // A gRPC path is whole by itself. Where nobody gives a base path, the document's own may stand in front or not.
        let prefixes: Vec<&str> = if exposure.type_ == EndpointType::GRPC {
            vec!["/"]
        } else if exposure.base_path != "/" {
            vec![&exposure.base_path]
        } else if described.server_path.len() > 1 {
            vec!["/", &described.server_path]
        } else {
            vec!["/"]
        };
        let mut requests: Vec<Requests> = described
            .operations
            .iter()
            .flat_map(|o| {
                prefixes.iter().map(|prefix| Requests {
                    method: o.method.clone(),
                    path: operations::pattern_with_query(prefix, &o.path),
                })
            })
            .collect();
        requests.sort();
        requests.dedup();
        requests
    }

    fn add(&mut self, input: &Input<'_>, meta: &Meta, name: &str, declared_by: &str, rule: &Rule<'_>) {
        let Some(rendered) = policy::render(input.place.plane.dialect, rule) else {
            return;
        };
        self.unenforced.extend(
            rendered
                .inexpressible
                .map(|what| format!("{declared_by}: {what}")),
        );
        let text = |key: &str| {
            rendered
                .body
                .get(key)
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let mut object = meta.declared(&text("apiVersion"), &text("kind"), name, declared_by);
        object.extend(rendered.body.into_iter().filter(|(key, _)| key == "spec"));
        self.objects.push(Value::Object(object));
    }
}
