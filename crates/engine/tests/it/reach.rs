//! Who may talk to whom: the evaluator against what the languages document, and what is rendered against what is declared.
#![allow(clippy::needless_pass_by_value)] // The calls read better.

use std::collections::{BTreeMap, BTreeSet};

use choreo_engine::{
    AnyObject, World, offline,
    reach::{Flow, Party, Pod, Policies, Request, Side, explain},
    render::policy::Transport,
};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

use super::support::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn pod(namespace: &str, pairs: &[(&str, &str)]) -> Party {
    Party::Pod(Pod {
        namespace: namespace.to_owned(),
        namespace_labels: labels(&[("team", namespace)]),
        labels: labels(pairs),
        ports: BTreeMap::from([("web".to_owned(), 80)]),
        ..Pod::default()
    })
}

fn policy(kind: &str, name: &str, spec: Value) -> Value {
    let version = if kind == "NetworkPolicy" {
        "networking.k8s.io/v1"
    } else {
        "cilium.io/v2"
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "a"}, "spec": spec})
}

fn ask(policies: &Policies, from: &Party, to: &Party, port: u16) -> (bool, bool) {
    let flow = Flow {
        from,
        to,
        port,
        transport: Transport::Tcp,
        request: None,
    };
    let found = policies.explain(&flow);
    (found.egress.allows(), found.ingress.allows())
}

/// The recipes and rules of the NetworkPolicy API, held against a pod `app=db` of namespace `a` on port 80.
#[rstest]
// A pod that no policy selects is open.
#[case(json!({"podSelector": {"matchLabels": {"app": "other"}}}), &[("a", true), ("b", true)])]
// Selected without rules: closed. Without policyTypes a policy is about ingress.
#[case(json!({"podSelector": {}}), &[("a", false), ("b", false)])]
#[case(json!({"podSelector": {}, "policyTypes": ["Egress"]}), &[("a", true), ("b", true)])]
// An empty rule allows everything, an empty list of rules nothing.
#[case(json!({"podSelector": {}, "ingress": [{}]}), &[("a", true), ("b", true)])]
#[case(json!({"podSelector": {}, "ingress": []}), &[("a", false), ("b", false)])]
// A selector of pods alone means the policy's own namespace.
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}), &[("a", true), ("b", false)])]
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]}), &[("a", true), ("b", true)])]
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}]}]}), &[("a", false), ("b", true)])]
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}]}]}), &[("a", false), ("b", true)])]
// Both in one peer must hold; in two peers either.
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}, "podSelector": {"matchLabels": {"app": "no"}}}]}]}), &[("a", false), ("b", false)])]
#[case(json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"team": "b"}}}, {"podSelector": {"matchLabels": {"app": "web"}}}]}]}), &[("a", true), ("b", true)])]
// Ports: one that is named, a range, another, and another protocol.
#[case(json!({"podSelector": {}, "ingress": [{"ports": [{"port": "web"}]}]}), &[("a", true), ("b", true)])]
#[case(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 70, "endPort": 90}]}]}), &[("a", true), ("b", true)])]
#[case(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 81}]}]}), &[("a", false), ("b", false)])]
#[case(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80, "protocol": "UDP"}]}]}), &[("a", false), ("b", false)])]
// Expressions.
#[case(json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}}), &[("a", true), ("b", true)])]
#[case(json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}, {"key": "tier", "operator": "DoesNotExist"}]}}), &[("a", false), ("b", false)])]
fn network_policies_mean_what_kubernetes_documents(#[case] spec: Value, #[case] expected: &[(&str, bool)]) {
    let document = policy("NetworkPolicy", "one", spec);
    let policies = Policies::of([&document]).unwrap();
    let db = pod("a", &[("app", "db")]);
    for (namespace, allowed) in expected {
        let from = pod(namespace, &[("app", "web")]);
        assert_eq!(
            ask(&policies, &from, &db, 80).1,
            *allowed,
            "from namespace {namespace}"
        );
    }
}

#[test]
fn blocks_of_addresses_have_exceptions() {
    let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}], "ports": [{"port": 443}]}]});
    let document = policy("NetworkPolicy", "out", spec);
    let policies = Policies::of([&document]).unwrap();
    let from = pod("a", &[]);
    let to = |text: &str| Party::Address(text.parse().unwrap());
    assert_eq!(ask(&policies, &from, &to("198.51.100.7"), 443), (true, true));
    assert!(!ask(&policies, &from, &to("10.1.2.3"), 443).0);
    assert!(!ask(&policies, &from, &to("198.51.100.7"), 80).0);
    assert!(ask(&policies, &from, &Party::Host("example.com".to_owned()), 443).0);
}

/// Cilium's documented rules, held against a pod of namespace `a` on port 80.
#[rstest]
#[case(json!({"endpointSelector": {"matchLabels": {"app": "other"}}, "ingress": [{}]}), &[("a", true), ("b", true)])]
// A rule that names nobody closes and opens nothing.
#[case(json!({"endpointSelector": {}, "ingress": [{}]}), &[("a", false), ("b", false)])]
#[case(json!({"endpointSelector": {}, "egress": [{}]}), &[("a", true), ("b", true)])]
#[case(json!({"endpointSelector": {}, "ingress": [{}], "enableDefaultDeny": {"ingress": false}}), &[("a", true), ("b", true)])]
// An empty selector is everybody of the namespace; an empty list is nobody.
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]}), &[("a", true), ("b", false)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": []}]}), &[("a", false), ("b", false)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "b"}}]}]}), &[("a", false), ("b", true)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": "b"}}]}]}), &[("a", false), ("b", true)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["cluster"]}]}), &[("a", true), ("b", true)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["world"]}]}), &[("a", false), ("b", false)])]
// Rules by address are not about pods.
#[case(json!({"endpointSelector": {}, "ingress": [{"fromCIDR": ["0.0.0.0/0"]}]}), &[("a", false), ("b", false)])]
// Ports without peers mean everybody.
#[case(json!({"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}]}), &[("a", true), ("b", true)])]
#[case(json!({"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": "81"}]}]}]}), &[("a", false), ("b", false)])]
// Denying wins over allowing.
#[case(json!({"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}], "ingressDeny": [{"fromEndpoints": [{}]}]}), &[("a", false), ("b", true)])]
fn cilium_policies_mean_what_cilium_documents(#[case] spec: Value, #[case] expected: &[(&str, bool)]) {
    let document = policy("CiliumNetworkPolicy", "one", spec);
    let policies = Policies::of([&document]).unwrap();
    let db = pod("a", &[("app", "db")]);
    for (namespace, allowed) in expected {
        let from = pod(namespace, &[("app", "web")]);
        assert_eq!(
            ask(&policies, &from, &db, 80).1,
            *allowed,
            "from namespace {namespace}"
        );
    }
}

#[test]
fn cilium_knows_names_and_requests() {
    let out = json!({"endpointSelector": {}, "egress": [
        {"toFQDNs": [{"matchName": "api.example.com"}], "toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]}]});
    let into = json!({"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}], "toPorts": [
        {"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET", "path": "/books/[^/]+"}]}}]}]});
    let documents = [
        policy("CiliumNetworkPolicy", "out", out),
        policy("CiliumNetworkPolicy", "in", into),
    ];
    let policies = Policies::of(&documents).unwrap();
    let (from, to) = (pod("a", &[("app", "web")]), pod("a", &[("app", "db")]));
    let host = |name: &str| Party::Host(name.to_owned());
    assert!(ask(&policies, &from, &host("API.example.com."), 443).0);
    assert!(!ask(&policies, &from, &host("api.example.com"), 80).0);
    assert!(!ask(&policies, &from, &host("evil.example.com"), 443).0);
    assert!(
        !ask(
            &policies,
            &from,
            &Party::Address("198.51.100.1".parse().unwrap()),
            443
        )
        .0
    );

    let request = |method: &str, path: &str| {
        let request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
        };
        let flow = Flow {
            from: &from,
            to: &to,
            port: 80,
            transport: Transport::Tcp,
            request: Some(&request),
        };
        policies.explain(&flow).ingress.allows()
    };
    assert!(request("GET", "/books/1"));
    assert!(!request("DELETE", "/books/1"));
    assert!(!request("GET", "/books/1/pages"));
    let flow = Flow {
        from: &from,
        to: &to,
        port: 80,
        transport: Transport::Tcp,
        request: None,
    };
    assert!(matches!(
        policies.explain(&flow).ingress,
        Side::Allowed {
            some_requests: true,
            ..
        }
    ));
}

#[test]
fn what_is_not_known_is_not_passed_over() {
    let document = policy(
        "CiliumNetworkPolicy",
        "services",
        json!({"endpointSelector": {}, "egress": [{"toServices": [{}]}]}),
    );
    let error = Policies::of([&document]).err().unwrap();
    assert!(
        error.to_string().contains("CiliumNetworkPolicy \"services\"") && error.why.contains("toServices"),
        "{error}"
    );
}

/// A random organization.
#[derive(Debug, Clone)]
struct Graph {
    components: Vec<Declared>,
    connections: BTreeSet<(usize, usize)>,
    outside: BTreeSet<(usize, usize)>,
}

#[derive(Debug, Clone)]
struct Declared {
    project: usize,
    levels: BTreeSet<&'static str>,
    staging: bool,
}

const HOSTS: [(&str, u16); 3] = [
    ("pay.example.com", 443),
    ("mail.example.com", 443),
    ("db.example.com", 5432),
];

fn graphs() -> impl Strategy<Value = Graph> {
    let levels = prop::sample::subsequence(vec!["Project", "Organization", "Public"], 0..=3);
    let component = (0..3_usize, levels, any::<bool>()).prop_map(|(project, levels, staging)| Declared {
        project,
        levels: levels.into_iter().filter(|l| *l != "Project").collect(),
        staging,
    });
    prop::collection::vec(component, 2..6).prop_flat_map(|components| {
        let n = components.len();
        let pairs = prop::collection::btree_set((0..n, 0..n), 0..8);
        let outside = prop::collection::btree_set((0..n, 0..HOSTS.len()), 0..4);
        (pairs, outside).prop_map(move |(pairs, outside)| {
            // What cannot be resolved is not deployed, which another test is about.
            let possible = |(a, b): &(usize, usize)| {
                let (from, to): (&Declared, &Declared) = (&components[*a], &components[*b]);
                a != b
                    && (from.project == to.project || !to.levels.is_empty())
                    && (!from.staging || to.staging)
            };
            Graph {
                connections: pairs.into_iter().filter(possible).collect(),
                components: components.clone(),
                outside,
            }
        })
    })
}

impl Graph {
    fn world(&self, cilium: bool) -> World {
        let mut world = World::new();
        let platform = if cilium {
            PLATFORM.replace("networkPolicy: true", "cilium: true")
        } else {
            PLATFORM.to_owned()
        };
        add(&mut world, &platform);
        let mut put = |kind: &str, name: &str, spec: Value| {
            let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
            world.upsert(AnyObject::from_value(&object).unwrap());
        };
        for i in 0..3 {
            put(
                "Project",
                &format!("p{i}"),
                json!({"deploymentPipelineRef": "default"}),
            );
        }
        for (i, declared) in self.components.iter().enumerate() {
            let name = format!("c{i}");
            let owner = json!({"projectName": format!("p{}", declared.project), "componentName": name});
            let mut connections = serde_json::Map::new();
            for (_, to) in self.connections.iter().filter(|(from, _)| *from == i) {
                let project = format!("p{}", self.components[*to].project);
                let params =
                    json!({"componentName": format!("c{to}"), "projectName": project, "endpoint": "api"});
                connections.insert(format!("to-{to}"), json!({"type": "api", "params": params}));
            }
            for (_, host) in self.outside.iter().filter(|(from, _)| *from == i) {
                let (name, port) = HOSTS[*host];
                let params = json!({"host": name, "port": port.to_string()});
                connections.insert(
                    format!("out-{host}"),
                    json!({"type": "external", "params": params}),
                );
            }
            let workload = json!({
                "containers": {"main": {"image": "a"}},
                "endpoints": {"api": {"type": "REST", "port": 80}, "admin": {"type": "HTTP", "port": 81}},
                "connections": connections,
            });
            let apis = json!({"api": {"type": "REST", "rest": {"backend": {"port": 80}, "exposeLevels": declared.levels}}});
            let mut spec = workload.clone();
            spec["owner"] = owner.clone();
            put("Workload", &name, spec);
            put(
                "Component",
                &name,
                json!({"owner": {"projectName": owner["projectName"]}, "type": "Service"}),
            );
            put(
                "Service",
                &name,
                json!({"owner": owner, "workloadName": name, "apis": apis}),
            );
            if declared.staging {
                put(
                    "ServiceBinding",
                    &format!("{name}-staging"),
                    json!({"owner": owner, "environment": "staging", "workloadSpec": workload, "apis": apis}),
                );
            }
        }
        world
    }

    fn is_in(&self, component: usize, environment: &str) -> bool {
        environment == "development" || self.components[component].staging
    }

    /// Whether a component calls another project's, in an environment.
    fn crosses(&self, from: usize) -> bool {
        let project = |i: usize| self.components[i].project;
        self.connections
            .iter()
            .any(|(a, b)| *a == from && project(*a) != project(*b))
    }

    /// Whether the organization's gateway leads to a component: it was declared, or another project asks for what is public.
    fn at_organization_gateway(&self, to: usize, environment: &str) -> bool {
        let declared = &self.components[to];
        let asked = self.connections.iter().any(|(a, b)| {
            *b == to && self.components[*a].project != declared.project && self.is_in(*a, environment)
        });
        declared.levels.contains("Organization") || declared.levels.contains("Public") && asked
    }
}

/// The pods of the components that run, by component and environment.
fn pods(rendered: &offline::Rendered) -> BTreeMap<(usize, String), Party> {
    let releases: Vec<&Value> = rendered
        .objects
        .iter()
        .filter(|o| o["kind"] == "Release")
        .collect();
    let objects = |release: &Value| -> Vec<Value> {
        release["spec"]["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["object"].clone())
            .collect()
    };
    let text_map =
        |value: &Value| -> BTreeMap<String, String> { serde_json::from_value(value.clone()).unwrap() };
    let mut namespaces = BTreeMap::new();
    for object in releases
        .iter()
        .flat_map(|r| objects(r))
        .filter(|o| o["kind"] == "Namespace")
    {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        namespaces.insert(name, text_map(&object["metadata"]["labels"]));
    }
    let mut pods = BTreeMap::new();
    for release in releases {
        let Some(component) = release["spec"]["owner"]["componentName"].as_str() else {
            continue;
        };
        let environment = release["spec"]["environmentName"].as_str().unwrap().to_owned();
        let deployment = objects(release)
            .into_iter()
            .find(|o| o["kind"] == "Deployment")
            .unwrap();
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap().to_owned();
        let party = Party::Pod(Pod {
            namespace_labels: namespaces[&namespace].clone(),
            labels: text_map(&deployment["spec"]["template"]["metadata"]["labels"]),
            namespace,
            ..Pod::default()
        });
        let index = component.trim_start_matches('c').parse().unwrap();
        pods.insert((index, environment), party);
    }
    pods
}

fn gateway(name: &str) -> Party {
    pod(
        "openchoreo-data-plane",
        &[
            ("gateway.envoyproxy.io/owning-gateway-name", name),
            (
                "gateway.envoyproxy.io/owning-gateway-namespace",
                "openchoreo-data-plane",
            ),
        ],
    )
}

fn exactly_what_was_declared(graph: &Graph, cilium: bool) -> Result<(), TestCaseError> {
    let rendered = offline::render(&graph.world(cilium));
    prop_assert_eq!(problems(&rendered), Vec::<String>::new());
    let pods = pods(&rendered);
    let declared = graph.components.len() + graph.components.iter().filter(|c| c.staging).count();
    prop_assert_eq!(pods.len(), declared);
    let all = rendered
        .objects
        .iter()
        .filter(|o| o["kind"] == "Release")
        .flat_map(|o| o["spec"]["resources"].as_array().unwrap())
        .map(|r| &r["object"]);
    let all: Vec<&Value> = all.collect();
    for object in all
        .iter()
        .filter(|o| o["kind"].as_str().unwrap().ends_with("NetworkPolicy"))
    {
        let by = &object["metadata"]["annotations"]["openchoreo.dev/declared-by"];
        prop_assert!(by.as_str().is_some_and(|b| !b.is_empty()), "{}", object);
    }
    let policies = Policies::of(all).unwrap();
    let check = |what: &str, from: &Party, to: &Party, port: u16, transport, expected: bool| {
        let flow = Flow {
            from,
            to,
            port,
            transport,
            request: None,
        };
        let found = policies.explain(&flow);
        prop_assert_eq!(found.allowed(), expected, "{} port {}: {:?}", what, port, found);
        Ok(())
    };
    let tcp = Transport::Tcp;
    let dns = pod("kube-system", &[("k8s-app", "kube-dns")]);
    let (public, organization) = (gateway("gateway-external"), gateway("gateway-internal"));
    for ((a, a_env), from) in &pods {
        let of = format!("c{a}/{a_env}");
        for ((b, b_env), to) in &pods {
            let same_cell = a_env == b_env && graph.components[*a].project == graph.components[*b].project;
            for port in [80, 81] {
                check(&format!("{of} -> c{b}/{b_env}"), from, to, port, tcp, same_cell)?;
            }
        }
        check(
            &format!("{of} -> organization gateway"),
            from,
            &organization,
            443,
            tcp,
            graph.crosses(*a),
        )?;
        check(&format!("{of} -> public gateway"), from, &public, 443, tcp, false)?;
        check(&format!("{of} -> dns"), from, &dns, 53, Transport::Udp, true)?;
        check(&format!("{of} -> dns"), from, &dns, 443, tcp, false)?;
        let stranger = pod("kube-system", &[("k8s-app", "metrics-server")]);
        check(&format!("{of} -> kube-system"), from, &stranger, 53, tcp, false)?;
        for (i, (host, port)) in HOSTS.iter().enumerate() {
            let exact = graph.outside.contains(&(*a, i));
            // NetworkPolicy knows no names: it allows the port, and the binding says so.
            let by_port = graph.outside.iter().any(|(c, h)| c == a && HOSTS[*h].1 == *port);
            let to = Party::Host((*host).to_owned());
            let expected = if cilium { exact } else { by_port };
            check(&format!("{of} -> {host}"), from, &to, *port, tcp, expected)?;
            check(&format!("{of} -> {host}"), from, &to, 8080, tcp, false)?;
        }
        let internet = Party::Address("198.51.100.1".parse().unwrap());
        check(&format!("internet -> {of}"), &internet, from, 80, tcp, false)?;
        let levels = &graph.components[*a].levels;
        check(
            &format!("public gateway -> {of}"),
            &public,
            from,
            80,
            tcp,
            levels.contains("Public"),
        )?;
        check(
            &format!("organization gateway -> {of}"),
            &organization,
            from,
            80,
            tcp,
            graph.at_organization_gateway(*a, a_env),
        )?;
        for door in [&public, &organization] {
            check(&format!("gateway -> {of}"), door, from, 81, tcp, false)?;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_allowed_is_exactly_what_was_declared_with_network_policies(graph in graphs()) {
        exactly_what_was_declared(&graph, false)?;
    }

    #[test]
    fn what_is_allowed_is_exactly_what_was_declared_with_cilium(graph in graphs()) {
        exactly_what_was_declared(&graph, true)?;
    }
}

#[test]
fn a_question_is_answered_with_the_objects_that_decide() {
    let graph = Graph {
        components: vec![
            Declared {
                project: 0,
                levels: BTreeSet::new(),
                staging: false,
            },
            Declared {
                project: 1,
                levels: BTreeSet::from(["Public"]),
                staging: false,
            },
            Declared {
                project: 1,
                levels: BTreeSet::new(),
                staging: false,
            },
        ],
        connections: BTreeSet::from([(0, 1)]),
        outside: BTreeSet::from([(0, 0)]),
    };
    let world = offline::render(&graph.world(true)).world;
    let ask = |from: &str, to: &str| explain(&world, "default", "development", from, to, None);

    // Across projects: not directly, but through the organization's gateway, which the connection opened.
    let report = ask("c0", "c1:80").unwrap();
    assert!(report.allowed());
    let direct = &report.paths[0];
    assert!(!direct.allowed());
    let Side::Closed { by } = &direct.hops[0].explanation.egress else {
        panic!("{direct:?}")
    };
    assert!(by.iter().any(|p| p.name == "deny-all"), "{by:?}");
    let through = report.paths.iter().find(|p| p.allowed()).unwrap();
    let opened: Vec<String> = through
        .hops
        .iter()
        .flat_map(|h| [&h.explanation.egress, &h.explanation.ingress])
        .filter_map(|s| match s {
            Side::Allowed { by, .. } => Some(
                by.iter()
                    .map(|p| p.declared_by.clone().unwrap())
                    .collect::<Vec<_>>(),
            ),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(
        opened,
        [
            "workload connections[to-1]",
            "ServiceBinding \"c0-development\" connections[to-1]"
        ]
    );
    assert!(!ask("c0", "c1:81").unwrap().allowed());
    assert!(ask("c1", "component/c2").unwrap().allowed());
    assert!(ask("internet", "c1:80").unwrap().allowed());
    assert!(!ask("internet", "c0:80").unwrap().allowed());
    assert!(ask("gateway/public", "c1:80").unwrap().allowed());
    // One gateway is no way to the other.
    assert_eq!(ask("gateway/public", "c1:80").unwrap().paths.len(), 1);
    assert!(ask("c0", "https://pay.example.com").unwrap().allowed());
    assert!(!ask("c0", "mail.example.com:443").unwrap().allowed());
    for (from, to, says) in [
        ("c9", "c1", "Component \"c9\" not found"),
        ("c0", "gateway/other", "gateway/public or gateway/organization"),
        ("c0", "pay.example.com", "say the port"),
    ] {
        let error = ask(from, to).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
