//! Reach: who may talk to whom, judged by a set of network policies and nothing else.
//!
//! [`Policies::explain`] follows the rules that the two languages document: a pod that no policy selects in a direction
//! is open in it; one that is selected may do what the policies that select it allow together, and nothing more. It knows
//! nothing of how the platform renders policies, so that it can be held against them.
//!
//! Sources: the NetworkPolicy API of Kubernetes (`networking.k8s.io/v1`), and Cilium's documentation of policy
//! enforcement and of the layers 3, 4 and 7.
//!
//! Caveats: addresses of Services are not modelled, a policy is held against the pods behind them, which is where it is
//! enforced. A host whose addresses nobody knows is taken to be at a public address, so an `ipBlock` matches it only when
//! it covers all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use serde::Serialize;
use serde_json::Value;

mod cilium;
mod kubernetes;
mod selector;

/// Annotation of a policy: the declaration that it came from.
pub const DECLARED_BY: &str = "openchoreo.dev/declared-by";

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }
}

/// A pod, as far as policies look at it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// The labels of its namespace.
    pub namespace_labels: BTreeMap<String, String>,
    /// Its own labels.
    pub labels: BTreeMap<String, String>,
    /// Its addresses, where they are known.
    pub addresses: Vec<IpAddr>,
    /// The names of its ports.
    pub ports: BTreeMap<String, u16>,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// A pod of the cluster.
    Pod(Pod),
    /// A DNS name outside of the cluster.
    Host(String),
    /// An address outside of the cluster.
    Address(IpAddr),
}

/// A request inside a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The method of HTTP.
    pub method: String,
    /// The path, with the query if there is one.
    pub path: String,
}

/// What one party wants of another.
#[derive(Debug, Clone)]
pub struct Flow<'a> {
    /// Who begins.
    pub from: &'a Party,
    /// Who is meant.
    pub to: &'a Party,
    /// On which port of the latter.
    pub port: u16,
    /// Over what.
    pub transport: Transport,
    /// Which request; without one it is about the connection.
    pub request: Option<&'a Request>,
}

/// A policy, by its object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// `NetworkPolicy` or `CiliumNetworkPolicy`.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The declaration that it came from, as its annotation says.
    pub declared_by: Option<String>,
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)?;
        match &self.declared_by {
            Some(by) => write!(f, " ({by})"),
            None => Ok(()),
        }
    }
}

/// What the policies of one end say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    /// No policy is about it: it is open.
    Open,
    /// Policies are about it, and these allow it.
    #[serde(rename_all = "camelCase")]
    Allowed {
        /// Those that allow it.
        by: Vec<PolicyRef>,
        /// Whether only some requests are let through, and it was not said which one is meant.
        some_requests: bool,
    },
    /// Policies are about it, and none allows it.
    Closed {
        /// Those that close it.
        by: Vec<PolicyRef>,
    },
    /// A policy forbids it, whatever others allow.
    Forbidden {
        /// Those that forbid it.
        by: Vec<PolicyRef>,
    },
}

impl Side {
    /// Whether this end lets it through.
    pub fn allows(&self) -> bool {
        matches!(self, Self::Open | Self::Allowed { .. })
    }
}

/// What becomes of a flow, and because of what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// On the way out of the one who begins.
    pub egress: Side,
    /// On the way in to the one who is meant.
    pub ingress: Side,
}

impl Explanation {
    /// Whether both ends let it through.
    pub fn allowed(&self) -> bool {
        self.egress.allows() && self.ingress.allows()
    }
}

/// Why a document cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name:?} cannot be judged: {why}")]
pub struct NotUnderstood {
    /// The document's kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What in it is not known here.
    pub why: String,
}

/// Ports of another party that a pod may connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EgressPorts {
    /// Every port may be one.
    pub any: bool,
    /// Those that rules name, first and last of a range.
    pub named: BTreeSet<(Transport, u16, u16)>,
}

impl EgressPorts {
    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        !self.any && self.named.is_empty()
    }

    fn add(&mut self, transport: Option<Transport>, first: u16, last: u16) {
        let both = [Transport::Tcp, Transport::Udp];
        for each in both
            .into_iter()
            .filter(|each| transport.is_none_or(|one| one == *each))
        {
            self.named.insert((each, first, last));
        }
    }
}

/// What one policy says of one end of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Says {
    /// It selects the pod in this direction, so that the pod is closed but for what is allowed.
    closes: bool,
    /// It allows the flow.
    allows: bool,
    /// It allows some requests of the flow only.
    some_requests: bool,
    /// It forbids the flow.
    forbids: bool,
}

/// The end of a flow that a policy is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

/// The flow as one end sees it.
struct View<'a> {
    pod: &'a Pod,
    other: &'a Party,
    direction: Direction,
    flow: &'a Flow<'a>,
}

impl View<'_> {
    /// The pod whose ports are meant: that which is connected to.
    fn target(&self) -> Option<&Pod> {
        match self.flow.to {
            Party::Pod(pod) => Some(pod),
            _ => None,
        }
    }
}

enum Rules {
    Kubernetes(Box<kubernetes::Policy>),
    Cilium(Box<cilium::Policy>),
}

/// A set of network policies, in both languages.
#[derive(Default)]
pub struct Policies {
    all: Vec<(PolicyRef, Rules)>,
}

impl Policies {
    /// Takes the network policies out of some objects; what is no network policy is passed over.
    ///
    /// # Errors
    /// The first policy that uses something that is not known here: to leave it out would give a wrong answer.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Value>) -> Result<Self, NotUnderstood> {
        let mut policies = Self::default();
        for object in objects {
            let text = |pointer: &str| {
                object
                    .pointer(pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned()
            };
            let kind = text("/kind");
            let spec = object.get("spec").unwrap_or(&Value::Null);
            let rules = match (text("/apiVersion").split('/').next(), kind.as_str()) {
                (Some("networking.k8s.io"), "NetworkPolicy") => {
                    kubernetes::Policy::read(spec).map(|p| Rules::Kubernetes(Box::new(p)))
                }
                (Some("cilium.io"), "CiliumNetworkPolicy") => {
                    cilium::Policy::read(spec).map(|p| Rules::Cilium(Box::new(p)))
                }
                _ => continue,
            };
            let name = text("/metadata/name");
            let rules = rules.map_err(|why| NotUnderstood {
                kind: kind.clone(),
                name: name.clone(),
                why,
            })?;
            let annotations = object.pointer("/metadata/annotations");
            let reference = PolicyRef {
                kind,
                namespace: text("/metadata/namespace"),
                name,
                declared_by: annotations
                    .and_then(|a| a.get(DECLARED_BY))
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            };
            policies.all.push((reference, rules));
        }
        policies.all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(policies)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a flow is allowed, and by which objects.
    pub fn explain(&self, flow: &Flow<'_>) -> Explanation {
        Explanation {
            egress: self.side(flow.from, flow.to, Direction::Egress, flow),
            ingress: self.side(flow.to, flow.from, Direction::Ingress, flow),
        }
    }

    /// The ports on which the policies of a pod let it begin a connection to another party, so far as they say so. Rules
    /// that forbid are not looked at: what matters is where an attempt is to be expected.
    pub fn egress_ports(&self, from: &Pod, to: &Party) -> EgressPorts {
        let mut ports = EgressPorts::default();
        let mut closed = false;
        for (reference, rules) in &self.all {
            if reference.namespace == from.namespace {
                closed |= match rules {
                    Rules::Kubernetes(policy) => policy.egress_ports(from, to, &mut ports),
                    Rules::Cilium(policy) => policy.egress_ports(from, to, &mut ports),
                };
            }
        }
        ports.any |= !closed;
        ports
    }

    /// Whether a pod may begin connections to addresses, rather than to names: it is open, or some rule names a network. If not,
    /// nothing is allowed by what a name turns out to be.
    pub fn reaches_networks(&self, from: &Pod) -> bool {
        let mut closed = false;
        for (reference, rules) in &self.all {
            if reference.namespace != from.namespace {
                continue;
            }
            let (names, closes) = match rules {
                Rules::Kubernetes(policy) => (
                    policy.names_networks(from),
                    policy.egress_ports(from, &Party::Host(String::new()), &mut EgressPorts::default()),
                ),
                Rules::Cilium(policy) => (
                    policy.names_networks(from),
                    policy.egress_ports(from, &Party::Host(String::new()), &mut EgressPorts::default()),
                ),
            };
            if names {
                return true;
            }
            closed |= closes;
        }
        !closed
    }

    fn side(&self, subject: &Party, other: &Party, direction: Direction, flow: &Flow<'_>) -> Side {
        // Policies are about pods only.
        let Party::Pod(pod) = subject else {
            return Side::Open;
        };
        let view = View {
            pod,
            other,
            direction,
            flow,
        };
        let (mut closes, mut allows, mut forbids) = (Vec::new(), Vec::new(), Vec::new());
        let mut all_requests = false;
        for (reference, rules) in &self.all {
            if reference.namespace != pod.namespace {
                continue;
            }
            let says = match rules {
                Rules::Kubernetes(policy) => policy.says(&reference.namespace, &view),
                Rules::Cilium(policy) => policy.says(&reference.namespace, &view),
            };
            if says.closes {
                closes.push(reference.clone());
            }
            if says.allows {
                allows.push(reference.clone());
                all_requests |= !says.some_requests;
            }
            if says.forbids {
                forbids.push(reference.clone());
            }
        }
        if !forbids.is_empty() {
            Side::Forbidden { by: forbids }
        } else if !allows.is_empty() {
            Side::Allowed {
                by: allows,
                some_requests: !all_requests,
            }
        } else if !closes.is_empty() {
            Side::Closed { by: closes }
        } else {
            Side::Open
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, app: &str) -> Pod {
        Pod {
            namespace: namespace.into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            ..Pod::default()
        }
    }

    fn policies(api: &str, kind: &str, spec: &Value) -> Policies {
        let object = json!({"apiVersion": api, "kind": kind, "metadata": {"name": "p", "namespace": "a"}, "spec": spec});
        Policies::of([&object]).unwrap()
    }

    #[test]
    fn addresses_count_where_a_rule_names_networks_or_none_closes() {
        let web = pod("a", "web");
        assert!(Policies::default().reaches_networks(&web));
        let select = json!({"matchLabels": {"app": "web"}});
        let cilium = |egress: Value| {
            let spec = json!({"endpointSelector": select, "egress": egress});
            policies("cilium.io/v2", "CiliumNetworkPolicy", &spec)
        };
        assert!(!cilium(json!([{"toFQDNs": [{"matchName": "api.example.com"}]}])).reaches_networks(&web));
        assert!(cilium(json!([{"toCIDR": ["203.0.113.0/24"]}])).reaches_networks(&web));
        assert!(cilium(json!([{"toEntities": ["world-ipv4"]}])).reaches_networks(&web));
        let other = cilium(json!([{"toFQDNs": [{"matchName": "api.example.com"}]}]));
        assert!(other.reaches_networks(&pod("a", "other")), "nothing closes it");
        let kubernetes = |egress: Value| {
            let spec = json!({"podSelector": select, "policyTypes": ["Egress"], "egress": egress});
            policies("networking.k8s.io/v1", "NetworkPolicy", &spec)
        };
        assert!(!kubernetes(json!([])).reaches_networks(&web));
        assert!(!kubernetes(json!([{"to": [{"podSelector": {}}]}])).reaches_networks(&web));
        assert!(
            kubernetes(json!([{"to": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}])).reaches_networks(&web)
        );
        assert!(kubernetes(json!([{"ports": [{"port": 443}]}])).reaches_networks(&web));
    }

    #[test]
    fn ports_of_a_host_are_those_that_rules_name() {
        let spec = json!({"endpointSelector": {"matchLabels": {"app": "web"}}, "egress": [
            {"toFQDNs": [{"matchName": "api.example.com"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]},
        ]});
        let policies = policies("cilium.io/v2", "CiliumNetworkPolicy", &spec);
        let host = |name: &str| Party::Host(name.to_owned());
        let named = policies.egress_ports(&pod("a", "web"), &host("api.example.com"));
        assert_eq!(
            named,
            EgressPorts {
                any: false,
                named: [(Transport::Tcp, 443, 443)].into()
            }
        );
        assert!(
            policies
                .egress_ports(&pod("a", "web"), &host("example.org"))
                .is_empty()
        );
        // No policy is about this one, so that it is open.
        assert!(
            policies
                .egress_ports(&pod("a", "other"), &host("example.org"))
                .any
        );
    }

    #[test]
    fn ports_of_a_range_and_without_a_number() {
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
            {"to": [{"ipBlock": {"cidr": "198.51.100.0/24"}}], "ports": [{"port": 8000, "endPort": 8010}]},
            {"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]},
        ]});
        let policies = policies("networking.k8s.io/v1", "NetworkPolicy", &spec);
        let address = |text: &str| Party::Address(text.parse().unwrap());
        let from = pod("a", "web");
        let ranged = policies.egress_ports(&from, &address("198.51.100.7"));
        assert_eq!(
            (ranged.any, ranged.named),
            (false, [(Transport::Tcp, 8000, 8010)].into())
        );
        assert!(policies.egress_ports(&from, &address("192.0.2.1")).any);
        assert!(policies.egress_ports(&from, &address("203.0.113.1")).is_empty());
    }
}
