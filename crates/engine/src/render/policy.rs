//! Network policies, in the language of the data plane.
//!
//! A [`Rule`] says what may pass; [`render`] writes it as a `CiliumNetworkPolicy` or a `NetworkPolicy`. What the language
//! cannot say is either refused or, where leaving it out would cut off something declared, widened and reported:
//! nothing is ever opened wider in silence.

use std::collections::BTreeMap;

pub use choreo_reach::Transport;
use serde_json::{Map, Value, json};

use crate::place::{Dialect, Gateway};

/// Which way the traffic goes, seen from the selected pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into them.
    Ingress,
    /// Out of them.
    Egress,
}

/// The other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// Pods of the same cell.
    Cell,
    /// The pods of the same cell with these labels.
    Pods(BTreeMap<String, String>),
    /// Pods of every cell of this organization.
    Organization(String),
    /// The pods of a gateway.
    Gateway(Gateway),
    /// The cluster's DNS servers.
    Dns,
    /// A DNS name.
    Host(String),
    /// A range of addresses.
    Cidr(String),
    /// Every address outside the cluster.
    World,
}

/// Requests that a permission is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requests {
    /// The method of HTTP.
    pub method: String,
    /// A regular expression for the whole path with its query.
    pub path: String,
}

/// One permission.
#[derive(Debug, Clone)]
pub struct Rule<'a> {
    /// Labels of the pods that it is for; `None` for all of the namespace.
    pub pods: Option<&'a BTreeMap<String, String>>,
    /// Which way.
    pub direction: Direction,
    /// Who is at the other end.
    pub peer: Peer,
    /// The ports; all when empty.
    pub ports: &'a [(u16, Transport)],
    /// The requests on these ports; all when empty. A language without requests allows all.
    pub requests: &'a [Requests],
    /// Whether the other end must authenticate itself.
    pub mutual: bool,
}

/// A rendered policy, and what it could not say.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The object but for its metadata.
    pub body: Map<String, Value>,
    /// The restriction that the data plane's language cannot express.
    pub inexpressible: Option<String>,
}

/// Private and special ranges: "outside the cluster" for policies that only know addresses (RFC 1918, 6598, 3927, 4193, 4291).
const INSIDE_V4: [&str; 5] = [
    "10.0.0.0/8",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
];
const INSIDE_V6: [&str; 2] = ["fc00::/7", "fe80::/10"];

const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";
const GATEWAY_NAME_LABEL: &str = "gateway.envoyproxy.io/owning-gateway-name";
const GATEWAY_NAMESPACE_LABEL: &str = "gateway.envoyproxy.io/owning-gateway-namespace";

/// The labels by which the pods of a gateway are known (Envoy Gateway sets them on its proxies).
pub fn gateway_labels(gateway: &Gateway) -> BTreeMap<String, String> {
    BTreeMap::from([
        (GATEWAY_NAME_LABEL.to_owned(), gateway.name.clone()),
        (GATEWAY_NAMESPACE_LABEL.to_owned(), gateway.namespace.clone()),
    ])
}

/// Writes a permission; `None` when the data plane has no policies at all.
pub fn render(dialect: Dialect, rule: &Rule<'_>) -> Option<Rendered> {
    match dialect {
        Dialect::Cilium => Some(cilium(rule)),
        Dialect::Kubernetes => Some(kubernetes(rule)),
        Dialect::None => None,
    }
}

/// Denies everything, both ways, to every pod of the namespace; other policies open it again.
pub fn deny_all(dialect: Dialect) -> Option<Map<String, Value>> {
    let (api_version, kind) = api(dialect)?;
    let spec = match dialect {
        // An empty rule selects nobody but switches enforcement on.
        Dialect::Cilium => json!({"endpointSelector": {}, "ingress": [{}], "egress": [{}]}),
        _ => json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}),
    };
    Some(body(api_version, kind, spec))
}

fn api(dialect: Dialect) -> Option<(&'static str, &'static str)> {
    match dialect {
        Dialect::Cilium => Some(("cilium.io/v2", "CiliumNetworkPolicy")),
        Dialect::Kubernetes => Some(("networking.k8s.io/v1", "NetworkPolicy")),
        Dialect::None => None,
    }
}

fn body(api_version: &str, kind: &str, spec: Value) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("apiVersion".to_owned(), json!(api_version));
    body.insert("kind".to_owned(), json!(kind));
    body.insert("spec".to_owned(), spec);
    body
}

fn cilium(rule: &Rule<'_>) -> Rendered {
    let selector = rule
        .pods
        .map_or_else(|| json!({}), |labels| json!({"matchLabels": labels}));
    let (side, section) = match rule.direction {
        Direction::Ingress => ("from", "ingress"),
        Direction::Egress => ("to", "egress"),
    };
    let mut entry = Map::new();
    let mut inexpressible = None;
    match &rule.peer {
        Peer::Cell => {
            entry.insert(format!("{side}Endpoints"), json!([{}]));
        }
        Peer::Pods(labels) => {
            entry.insert(format!("{side}Endpoints"), json!([{"matchLabels": labels}]));
        }
        Peer::Organization(organization) => {
            let label = format!(
                "k8s:io.cilium.k8s.namespace.labels.{}",
                choreo_api::labels::ORGANIZATION
            );
            entry.insert(
                format!("{side}Endpoints"),
                json!([{"matchLabels": {label: organization}}]),
            );
        }
        Peer::Gateway(gateway) => {
            entry.insert(
                format!("{side}Endpoints"),
                json!([{"matchLabels": {
                    "k8s:io.kubernetes.pod.namespace": gateway.namespace,
                    GATEWAY_NAME_LABEL: gateway.name,
                    GATEWAY_NAMESPACE_LABEL: gateway.namespace,
                }}]),
            );
        }
        Peer::Dns => {
            entry.insert(
                format!("{side}Endpoints"),
                json!([{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}]),
            );
        }
        Peer::Host(host) if rule.direction == Direction::Egress => {
            let name = if host.contains('*') {
                "matchPattern"
            } else {
                "matchName"
            };
            entry.insert("toFQDNs".to_owned(), json!([{name: host}]));
        }
        Peer::Host(host) => {
            inexpressible = Some(format!(
                "ingress from host {host:?}: a policy can only name addresses"
            ));
            entry.insert("fromCIDR".to_owned(), json!([]));
        }
        Peer::Cidr(cidr) => {
            entry.insert(format!("{side}CIDR"), json!([cidr]));
        }
        Peer::World => {
            entry.insert(format!("{side}Entities"), json!(["world"]));
        }
    }
    if !rule.ports.is_empty() {
        let ports: Vec<Value> = rule
            .ports
            .iter()
            .map(|(port, t)| json!({"port": port.to_string(), "protocol": t.as_str()}))
            .collect();
        let mut to_ports = json!({"ports": ports});
        // Cilium learns the addresses behind DNS names from the answers that pass here.
        if rule.peer == Peer::Dns
            && let Some(object) = to_ports.as_object_mut()
        {
            object.insert("rules".to_owned(), json!({"dns": [{"matchPattern": "*"}]}));
        }
        if !rule.requests.is_empty()
            && let Some(object) = to_ports.as_object_mut()
        {
            let http: Vec<Value> = rule
                .requests
                .iter()
                .map(|r| json!({"method": r.method, "path": r.path}))
                .collect();
            object.insert("rules".to_owned(), json!({"http": http}));
        }
        entry.insert("toPorts".to_owned(), json!([to_ports]));
    }
    if rule.mutual {
        entry.insert("authentication".to_owned(), json!({"mode": "required"}));
    }
    let spec = json!({"endpointSelector": selector, section: [entry]});
    Rendered {
        body: body("cilium.io/v2", "CiliumNetworkPolicy", spec),
        inexpressible,
    }
}

fn kubernetes(rule: &Rule<'_>) -> Rendered {
    let selector = rule
        .pods
        .map_or_else(|| json!({}), |labels| json!({"matchLabels": labels}));
    let (side, section, policy_type) = match rule.direction {
        Direction::Ingress => ("from", "ingress", "Ingress"),
        Direction::Egress => ("to", "egress", "Egress"),
    };
    let mut inexpressible = rule
        .mutual
        .then(|| "mutual authentication within the cell: NetworkPolicy has no such rule".to_owned());
    let peers = match &rule.peer {
        Peer::Cell => json!([{"podSelector": {}}]),
        Peer::Pods(labels) => json!([{"podSelector": {"matchLabels": labels}}]),
        Peer::Organization(organization) => {
            json!([{"namespaceSelector": {"matchLabels": {choreo_api::labels::ORGANIZATION: organization}}}])
        }
        Peer::Gateway(gateway) => json!([{
            "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: gateway.namespace}},
            "podSelector": {"matchLabels": {GATEWAY_NAME_LABEL: gateway.name, GATEWAY_NAMESPACE_LABEL: gateway.namespace}},
        }]),
        Peer::Dns => json!([{
            "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }]),
        Peer::Host(host) => {
            let ports: Vec<String> = rule.ports.iter().map(|(port, _)| port.to_string()).collect();
            inexpressible = Some(format!(
                "traffic with host {host:?} only: NetworkPolicy knows no DNS names, so every address outside the cluster is allowed on port {}",
                ports.join(", ")
            ));
            outside()
        }
        Peer::Cidr(cidr) => json!([{"ipBlock": {"cidr": cidr}}]),
        Peer::World => outside(),
    };
    let mut entry = Map::new();
    entry.insert(side.to_owned(), peers);
    if !rule.ports.is_empty() {
        let ports: Vec<Value> = rule
            .ports
            .iter()
            .map(|(port, t)| json!({"port": port, "protocol": t.as_str()}))
            .collect();
        entry.insert("ports".to_owned(), json!(ports));
    }
    let spec = json!({"podSelector": selector, "policyTypes": [policy_type], section: [entry]});
    Rendered {
        body: body("networking.k8s.io/v1", "NetworkPolicy", spec),
        inexpressible,
    }
}

fn outside() -> Value {
    json!([
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": INSIDE_V4}},
        {"ipBlock": {"cidr": "::/0", "except": INSIDE_V6}},
    ])
}
