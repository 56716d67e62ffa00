//! A component's openings in its cell: ways in from the gateways, ways out along its connections.

use serde_json::Value;

use super::{
    Input,
    meta::Meta,
    policy::{self, Direction, Peer, Rule, Transport},
    route, service,
};
use crate::{place::Dialect, resolve::connections::EgressTo};

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
        for (level, declared_by) in &exposure.levels {
            let Some(gateway) = input.place.plane.gateways.as_ref().and_then(|g| g.of(*level)) else {
                continue;
            };
            let rule = Rule {
                pods: Some(&meta.selector),
                direction: Direction::Ingress,
                peer: Peer::Gateway(gateway.clone()),
                ports: &[(exposure.port, service::transport(exposure.type_))],
                mutual: false,
            };
            let name = meta.derived(&[&exposure.name, route::level_name(*level), "in"]);
            network.add(input, meta, &name, declared_by, &rule);
        }
    }
    for egress in &input.connections.egress {
        let (peer, ports) = match &egress.to {
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
            mutual: false,
        };
        let name = meta.derived(&[&egress.connection, "out"]);
        network.add(
            input,
            meta,
            &name,
            &format!("workload connections[{}]", egress.connection),
            &rule,
        );
    }
    network
}

impl Network {
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
