//! `NetworkPolicy` of `networking.k8s.io/v1`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Direction, EgressPorts, Party, Pod, Says, Transport, View, selector::Selector};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    #[serde(default)]
    pod_selector: Selector,
    #[serde(default)]
    policy_types: Vec<String>,
    #[serde(default)]
    ingress: Vec<Ingress>,
    egress: Option<Vec<Egress>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ingress {
    #[serde(default)]
    from: Vec<Peer>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Egress {
    #[serde(default)]
    to: Vec<Peer>,
    #[serde(default)]
    ports: Vec<Port>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Peer {
    pod_selector: Option<Selector>,
    namespace_selector: Option<Selector>,
    ip_block: Option<Block>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Block {
    cidr: IpNet,
    #[serde(default)]
    except: Vec<IpNet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Port {
    port: Option<Number>,
    end_port: Option<u16>,
    protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u16),
    Name(String),
}

impl Policy {
    pub(super) fn read(spec: &Value) -> Result<Self, String> {
        Self::deserialize(spec).map_err(|e| e.to_string())
    }

    /// What this policy says of one end of a flow.
    pub(super) fn says(&self, namespace: &str, view: &View<'_>) -> Says {
        let of = |key: &str| view.pod.labels.get(key).map(String::as_str);
        if !self.pod_selector.matches(of) || !self.is_about(view.direction) {
            return Says::default();
        }
        let passes = |peers: &[Peer], ports: &[Port]| {
            (peers.is_empty() || peers.iter().any(|p| p.matches(namespace, view.other)))
                && (ports.is_empty() || ports.iter().any(|p| p.matches(view)))
        };
        let allows = match view.direction {
            Direction::Ingress => self.ingress.iter().any(|r| passes(&r.from, &r.ports)),
            Direction::Egress => self.egress.iter().flatten().any(|r| passes(&r.to, &r.ports)),
        };
        Says {
            closes: true,
            allows,
            ..Says::default()
        }
    }

    /// Whether a rule lets `from` begin connections to addresses that no name tells of.
    pub(super) fn names_networks(&self, from: &Pod) -> bool {
        let of = |key: &str| from.labels.get(key).map(String::as_str);
        self.pod_selector.matches(of)
            && self.is_about(Direction::Egress)
            && (self.egress.iter().flatten())
                .any(|rule| rule.to.is_empty() || rule.to.iter().any(|peer| peer.ip_block.is_some()))
    }

    /// Adds the ports on which a rule lets `from` begin; whether the policy closes what it does not name.
    pub(super) fn egress_ports(&self, from: &Pod, to: &Party, ports: &mut EgressPorts) -> bool {
        let of = |key: &str| from.labels.get(key).map(String::as_str);
        if !self.pod_selector.matches(of) || !self.is_about(Direction::Egress) {
            return false;
        }
        let names = |rule: &&Egress| {
            rule.to.is_empty() || rule.to.iter().any(|peer| peer.matches(&from.namespace, to))
        };
        for rule in self.egress.iter().flatten().filter(names) {
            ports.any |= rule.ports.is_empty();
            rule.ports.iter().for_each(|port| port.add_to(ports, to));
        }
        true
    }

    /// Without types a policy is about ingress, and about egress when it has rules for it.
    fn is_about(&self, direction: Direction) -> bool {
        let (name, by_default) = match direction {
            Direction::Ingress => ("Ingress", true),
            Direction::Egress => ("Egress", self.egress.is_some()),
        };
        if self.policy_types.is_empty() {
            by_default
        } else {
            self.policy_types.iter().any(|t| t == name)
        }
    }
}

impl Peer {
    fn matches(&self, namespace: &str, other: &Party) -> bool {
        if let Some(block) = &self.ip_block {
            return match other {
                Party::Pod(pod) => pod.addresses.iter().any(|a| block.covers(a)),
                Party::Address(address) => block.covers(address),
                // Where it is nobody knows but that it is somewhere public.
                Party::Host(_) => block.cidr.prefix_len() == 0,
            };
        }
        let Party::Pod(pod) = other else { return false };
        let in_namespace = match &self.namespace_selector {
            Some(selector) => selector.matches(|key| pod.namespace_label(key)),
            None => pod.namespace == namespace,
        };
        let is_one = |selector: &Selector| selector.matches(|key| pod.labels.get(key).map(String::as_str));
        // A peer without any selector selects nobody.
        let selects = self.pod_selector.is_some() || self.namespace_selector.is_some();
        selects && in_namespace && self.pod_selector.as_ref().is_none_or(is_one)
    }
}

impl Block {
    fn covers(&self, address: &IpAddr) -> bool {
        self.cidr.contains(address) && !self.except.iter().any(|e| e.contains(address))
    }
}

impl Port {
    fn add_to(&self, ports: &mut EgressPorts, to: &Party) {
        let transport = match self.protocol.as_deref() {
            None | Some("TCP") => Transport::Tcp,
            Some("UDP") => Transport::Udp,
            Some(_) => return,
        };
        match (&self.port, to) {
            (None, _) => ports.add(Some(transport), 1, u16::MAX),
            (Some(Number::Number(first)), _) => {
                ports.add(Some(transport), *first, self.end_port.unwrap_or(*first));
            }
            (Some(Number::Name(name)), Party::Pod(pod)) => {
                if let Some(number) = pod.ports.get(name) {
                    ports.add(Some(transport), *number, *number);
                }
            }
            (Some(Number::Name(_)), _) => {}
        }
    }

    fn matches(&self, view: &View<'_>) -> bool {
        if self.protocol.as_deref().unwrap_or("TCP") != view.flow.transport.as_str() {
            return false;
        }
        let wanted = view.flow.port;
        match &self.port {
            None => true,
            Some(Number::Number(first)) => match self.end_port {
                Some(last) => (*first..=last).contains(&wanted),
                None => *first == wanted,
            },
            Some(Number::Name(name)) => view
                .target()
                .is_some_and(|pod| pod.ports.get(name) == Some(&wanted)),
        }
    }
}

impl Pod {
    /// A label of the pod's namespace. Every namespace has its name as a label.
    pub(super) fn namespace_label(&self, key: &str) -> Option<&str> {
        if key == "kubernetes.io/metadata.name" {
            return Some(&self.namespace);
        }
        self.namespace_labels.get(key).map(String::as_str)
    }
}

impl Transport {
    /// Whether a protocol as policies write it means this transport.
    pub(super) fn is(self, protocol: &str) -> bool {
        protocol == "ANY" || protocol.is_empty() || protocol.eq_ignore_ascii_case(self.as_str())
    }
}
