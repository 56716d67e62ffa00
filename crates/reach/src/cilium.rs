//! `CiliumNetworkPolicy` of `cilium.io/v2`.

use std::net::IpAddr;

use choreo_cel::regex;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::Value;

use super::{Direction, EgressPorts, Party, Pod, Request, Says, Transport, View, selector::Selector};

const NAMESPACE: &str = "io.kubernetes.pod.namespace";
const NAMESPACE_LABELS: &str = "io.cilium.k8s.namespace.labels.";

/// What is read of a policy. A field that is not here makes the whole policy unreadable: to pass it over would be to
/// answer another question.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Policy {
    endpoint_selector: Selector,
    #[serde(default, rename = "description")]
    _description: Option<String>,
    #[serde(default, rename = "labels")]
    _labels: Option<Value>,
    #[serde(default)]
    ingress: Vec<Rule>,
    #[serde(default)]
    ingress_deny: Vec<Rule>,
    #[serde(default)]
    egress: Vec<Rule>,
    #[serde(default)]
    egress_deny: Vec<Rule>,
    #[serde(default)]
    enable_default_deny: DefaultDeny,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DefaultDeny {
    ingress: Option<bool>,
    egress: Option<bool>,
}

/// A rule of either direction: the other end, and what may pass.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(alias = "toEndpoints")]
    from_endpoints: Option<Vec<Selector>>,
    #[serde(alias = "toEntities")]
    from_entities: Option<Vec<String>>,
    #[serde(rename = "fromCIDR", alias = "toCIDR")]
    cidrs: Option<Vec<IpNet>>,
    #[serde(rename = "fromCIDRSet", alias = "toCIDRSet")]
    cidr_sets: Option<Vec<Set>>,
    #[serde(rename = "toFQDNs")]
    names: Option<Vec<Name>>,
    to_ports: Option<Vec<Ports>>,
    #[serde(default, rename = "authentication")]
    _authentication: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Set {
    cidr: IpNet,
    #[serde(default)]
    except: Vec<IpNet>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Name {
    match_name: Option<String>,
    match_pattern: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Ports {
    #[serde(default)]
    ports: Vec<Port>,
    rules: Option<Layer7>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Port {
    port: String,
    end_port: Option<u16>,
    #[serde(default)]
    protocol: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Layer7 {
    #[serde(default)]
    http: Vec<Http>,
    /// Which names may be asked for. It says nothing of who may be asked.
    #[serde(default, rename = "dns")]
    _dns: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Http {
    method: Option<String>,
    path: Option<String>,
}

/// Whether a rule lets a flow through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passes {
    No,
    SomeRequests,
    Yes,
}

impl Policy {
    pub(super) fn read(spec: &Value) -> Result<Self, String> {
        let policy = Self::deserialize(spec).map_err(|e| e.to_string())?;
        let rules = [
            &policy.ingress,
            &policy.ingress_deny,
            &policy.egress,
            &policy.egress_deny,
        ];
        for http in rules
            .into_iter()
            .flatten()
            .flat_map(|r| r.to_ports.iter().flatten())
            .flat_map(|p| p.rules.iter().flat_map(|l| &l.http))
        {
            for pattern in http.method.iter().chain(&http.path) {
                regex::compile(&whole(pattern)).map_err(|e| format!("{pattern:?}: {e}"))?;
            }
        }
        Ok(policy)
    }

    /// What this policy says of one end of a flow.
    pub(super) fn says(&self, namespace: &str, view: &View<'_>) -> Says {
        if !selects(&self.endpoint_selector, namespace, view.pod) {
            return Says::default();
        }
        let (allow, deny, default_deny) = match view.direction {
            Direction::Ingress => (
                &self.ingress,
                &self.ingress_deny,
                self.enable_default_deny.ingress,
            ),
            Direction::Egress => (&self.egress, &self.egress_deny, self.enable_default_deny.egress),
        };
        let best = allow.iter().map(|r| r.passes(namespace, view)).max();
        Says {
            closes: default_deny.unwrap_or(!allow.is_empty() || !deny.is_empty()),
            allows: best.is_some_and(|p| p > Passes::No),
            some_requests: best == Some(Passes::SomeRequests),
            forbids: deny.iter().any(|r| r.passes(namespace, view) > Passes::No),
        }
    }

    /// Adds the ports on which a rule lets `from` begin; whether the policy closes what it does not name.
    pub(super) fn names_networks(&self, from: &Pod) -> bool {
        let entity = |rule: &Rule| {
            let mut names = rule.from_entities.iter().flatten();
            names.any(|name| name == "all" || name.starts_with("world"))
        };
        selects(&self.endpoint_selector, &from.namespace, from)
            && (self.egress.iter())
                .any(|rule| rule.cidrs.is_some() || rule.cidr_sets.is_some() || entity(rule))
    }

    pub(super) fn egress_ports(&self, from: &Pod, to: &Party, ports: &mut EgressPorts) -> bool {
        let namespace = &from.namespace;
        if !selects(&self.endpoint_selector, namespace, from) {
            return false;
        }
        for rule in self.egress.iter().filter(|rule| rule.names_peer(namespace, to)) {
            let Some(groups) = &rule.to_ports else {
                ports.any = true;
                continue;
            };
            for group in groups {
                ports.any |= group.ports.is_empty();
                group.ports.iter().for_each(|port| port.add_to(ports, to));
            }
        }
        let rules = !self.egress.is_empty() || !self.egress_deny.is_empty();
        self.enable_default_deny.egress.unwrap_or(rules)
    }
}

impl Rule {
    fn passes(&self, namespace: &str, view: &View<'_>) -> Passes {
        if !self.names_peer(namespace, view.other) {
            return Passes::No;
        }
        match &self.to_ports {
            None => Passes::Yes,
            Some(ports) => ports.iter().map(|p| p.passes(view)).max().unwrap_or(Passes::No),
        }
    }

    /// The ways of naming the other end add up. A rule that uses none of them names everybody when it has ports, and
    /// nobody when it has not: that is how a policy denies by default.
    fn names_peer(&self, namespace: &str, other: &Party) -> bool {
        let Self {
            from_endpoints,
            from_entities,
            cidrs,
            cidr_sets,
            names,
            to_ports,
            _authentication: _,
        } = self;
        let none = from_endpoints.is_none()
            && from_entities.is_none()
            && cidrs.is_none()
            && cidr_sets.is_none()
            && names.is_none();
        if none {
            return to_ports.is_some();
        }
        let endpoint = |pod: &Pod| {
            from_endpoints
                .iter()
                .flatten()
                .any(|s| selects_peer(s, namespace, pod))
        };
        let entity = |known: &[&str]| {
            from_entities
                .iter()
                .flatten()
                .any(|e| known.contains(&e.as_str()))
        };
        let address = |a: &IpAddr| {
            cidrs.iter().flatten().any(|c| c.contains(a))
                || cidr_sets
                    .iter()
                    .flatten()
                    .any(|s| s.cidr.contains(a) && !s.except.iter().any(|e| e.contains(a)))
        };
        match other {
            // Pods have identities; rules by address are not about them.
            Party::Pod(pod) => endpoint(pod) || entity(&["all", "cluster"]),
            Party::Address(a) => {
                let family = if a.is_ipv4() { "world-ipv4" } else { "world-ipv6" };
                entity(&["all", "world", family]) || address(a)
            }
            Party::Host(host) => {
                entity(&["all", "world"])
                    || names.iter().flatten().any(|n| n.matches(host))
                    || cidrs.iter().flatten().any(|c| c.prefix_len() == 0)
                    || cidr_sets.iter().flatten().any(|s| s.cidr.prefix_len() == 0)
            }
        }
    }
}

impl Name {
    fn matches(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let plain = |text: &String| text.trim_end_matches('.').to_ascii_lowercase();
        self.match_name.as_ref().is_some_and(|n| plain(n) == host)
            || self
                .match_pattern
                .as_ref()
                .is_some_and(|p| matches_pattern(&plain(p), &host))
    }
}

/// `*` alone is any name; within a pattern it is any part of one label.
fn matches_pattern(pattern: &str, host: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (patterns, labels): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    patterns.len() == labels.len() && patterns.iter().zip(labels).all(|(p, l)| label_matches(p, l))
}

fn label_matches(pattern: &str, label: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == label,
        Some((before, after)) => label.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|i| rest.get(i..).is_some_and(|tail| label_matches(after, tail)))
        }),
    }
}

impl Ports {
    fn passes(&self, view: &View<'_>) -> Passes {
        let port = self.ports.is_empty() || self.ports.iter().any(|p| p.matches(view));
        if !port {
            return Passes::No;
        }
        let http = self.rules.as_ref().map(|r| r.http.as_slice()).unwrap_or_default();
        match (http, view.flow.request) {
            ([], _) => Passes::Yes,
            (rules, None) if rules.iter().all(|r| r.method.is_some() || r.path.is_some()) => {
                Passes::SomeRequests
            }
            (_, None) => Passes::Yes,
            (rules, Some(request)) if rules.iter().any(|r| r.matches(request)) => Passes::Yes,
            _ => Passes::No,
        }
    }
}

impl Port {
    fn add_to(&self, ports: &mut EgressPorts, to: &Party) {
        let transport = match self.protocol.to_ascii_uppercase().as_str() {
            "TCP" => Some(Transport::Tcp),
            "UDP" => Some(Transport::Udp),
            "" | "ANY" => None,
            _ => return,
        };
        match (self.port.parse::<u16>(), to) {
            (Ok(0), _) => ports.any = true,
            (Ok(first), _) => ports.add(transport, first, self.end_port.unwrap_or(first)),
            (Err(_), Party::Pod(pod)) => {
                if let Some(number) = pod.ports.get(&self.port) {
                    ports.add(transport, *number, *number);
                }
            }
            (Err(_), _) => {}
        }
    }

    fn matches(&self, view: &View<'_>) -> bool {
        if !view.flow.transport.is(&self.protocol) {
            return false;
        }
        let wanted = view.flow.port;
        match self.port.parse::<u16>() {
            Ok(0) => true,
            Ok(first) => match self.end_port {
                Some(last) => (first..=last).contains(&wanted),
                None => first == wanted,
            },
            Err(_) => view
                .target()
                .is_some_and(|pod| pod.ports.get(&self.port) == Some(&wanted)),
        }
    }
}

impl Http {
    fn matches(&self, request: &Request) -> bool {
        let fits = |pattern: &Option<String>, text: &str| {
            pattern
                .as_ref()
                .is_none_or(|p| regex::compile(&whole(p)).is_ok_and(|r| r.is_match(text)))
        };
        fits(&self.method, &request.method) && fits(&self.path, &request.path)
    }
}

/// Cilium matches the whole text.
fn whole(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

/// A label of a pod's identity by the key that policies use, with or without the source in front.
fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    let key = key
        .strip_prefix("k8s:")
        .or_else(|| key.strip_prefix("any:"))
        .unwrap_or(key);
    if key == NAMESPACE {
        return Some(&pod.namespace);
    }
    match key.strip_prefix(NAMESPACE_LABELS) {
        Some(of_namespace) => pod.namespace_label(of_namespace),
        None => pod.labels.get(key).map(String::as_str),
    }
}

/// Whether a policy is about a pod: only those of its own namespace.
fn selects(selector: &Selector, namespace: &str, pod: &Pod) -> bool {
    pod.namespace == namespace && selector.matches(|key| label(pod, key))
}

/// Whether a selector names a peer: of the policy's namespace, unless it says something of namespaces itself.
fn selects_peer(selector: &Selector, namespace: &str, pod: &Pod) -> bool {
    let elsewhere = selector
        .keys()
        .any(|key| key.contains(NAMESPACE) || key.contains(NAMESPACE_LABELS));
    (elsewhere || pod.namespace == namespace) && selector.matches(|key| label(pod, key))
}

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn a_star_is_part_of_one_label_or_any_name() {
        assert!(matches_pattern("*", "a.b.c"));
        assert!(matches_pattern("*.example.com", "api.example.com"));
        assert!(!matches_pattern("*.example.com", "a.b.example.com"));
        assert!(!matches_pattern("*.example.com", "example.com"));
        assert!(matches_pattern("api-*.example.com", "api-eu.example.com"));
        assert!(!matches_pattern("api-*.example.com", "web.example.com"));
    }
}
