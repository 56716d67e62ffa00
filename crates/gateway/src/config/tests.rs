//! The order of matches, held against a naive reading of the Gateway API.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::{Memory, Settings, build};
use super::object::{Kind, Name};
use super::policies::ClientSettings;
use super::table::{Port, Transport};
use super::world::World;

fn object(kind: Kind, name: &str, age: i64, spec: Value) -> kube::core::DynamicObject {
    let created = jiff::Timestamp::from_second(age).unwrap();
    serde_json::from_value(json!({
        "apiVersion": format!("{}/v1", kind.group()), "kind": kind.as_str(),
        "metadata": {"name": name, "namespace": if kind.is_namespaced() { json!("default") } else { Value::Null },
            "uid": name, "resourceVersion": "1", "generation": 1, "creationTimestamp": created.to_string()},
        "spec": spec,
    }))
    .unwrap()
}

fn settings() -> Settings {
    Settings {
        address: "127.0.0.1".to_owned(),
        client: Arc::new(ClientSettings::default()),
    }
}

fn world(routes: &[Written]) -> World {
    let mut world = World::default();
    world.apply(
        Kind::GatewayClass,
        &object(
            Kind::GatewayClass,
            "local",
            0,
            json!({"controllerName": super::status::CONTROLLER}),
        ),
    );
    let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    world.apply(
        Kind::Gateway,
        &object(
            Kind::Gateway,
            "public",
            0,
            json!({"gatewayClassName": "local", "listeners": listeners}),
        ),
    );
    for route in routes {
        let spec = json!({"parentRefs": [{"name": "public"}], "hostnames": route.hosts, "rules": route.rules.iter().map(|rule| json!({
            "name": rule.id, "matches": rule.matches.iter().map(Wanted::written).collect::<Vec<_>>()})).collect::<Vec<_>>()});
        world.apply(
            Kind::HttpRoute,
            &object(Kind::HttpRoute, &route.name, route.age, spec),
        );
    }
    world
}

/// A route as it is made up.
#[derive(Clone, Debug)]
struct Written {
    name: String,
    age: i64,
    hosts: Vec<String>,
    rules: Vec<WrittenRule>,
}

#[derive(Clone, Debug)]
struct WrittenRule {
    id: String,
    matches: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    exact: bool,
    path: String,
    method: Option<&'static str>,
    headers: Vec<&'static str>,
    query: Vec<&'static str>,
}

impl Wanted {
    fn written(&self) -> Value {
        let pairs = |names: &[&str]| {
            names
                .iter()
                .map(|name| json!({"name": name, "value": "1"}))
                .collect::<Vec<_>>()
        };
        let mut value = json!({"path": {"type": if self.exact { "Exact" } else { "PathPrefix" }, "value": self.path},
            "headers": pairs(&self.headers), "queryParams": pairs(&self.query)});
        if let Some(method) = self.method {
            value["method"] = json!(method);
        }
        value
    }

    fn holds(&self, request: &Asked) -> bool {
        let path = match self.exact {
            true => request.path == self.path,
            false => {
                let prefix: Vec<&str> = self.path.split('/').filter(|part| !part.is_empty()).collect();
                let path: Vec<&str> = request.path.split('/').filter(|part| !part.is_empty()).collect();
                path.starts_with(&prefix)
            }
        };
        path && self.method.is_none_or(|method| method == request.method)
            && self.headers.iter().all(|name| request.headers.contains(name))
            && self.query.iter().all(|name| request.query.contains(name))
    }
}

#[derive(Clone, Debug)]
struct Asked {
    host: String,
    path: String,
    method: &'static str,
    headers: Vec<&'static str>,
    query: Vec<&'static str>,
}

/// The rule that the specification's text chooses: collect everything that matches, and sort by its list of criteria.
fn oracle(routes: &[Written], request: &Asked) -> Option<String> {
    let mut found = Vec::new();
    for route in routes {
        for host in &route.hosts {
            let fits = match host.strip_prefix('*') {
                Some(suffix) => request.host.ends_with(suffix) && request.host.len() > suffix.len(),
                None => *host == request.host,
            };
            if !fits {
                continue;
            }
            let plain = if host.starts_with('*') { 0 } else { host.len() };
            for (index, rule) in route.rules.iter().enumerate() {
                for (place, one) in rule
                    .matches
                    .iter()
                    .enumerate()
                    .filter(|(_, one)| one.holds(request))
                {
                    let prefix = one.path.trim_end_matches('/').len();
                    found.push((
                        (Reverse(plain), Reverse(host.len()), !one.exact, Reverse(prefix)),
                        (
                            one.method.is_none(),
                            Reverse(one.headers.len()),
                            Reverse(one.query.len()),
                        ),
                        (route.age, route.name.clone(), index, place),
                        rule.id.clone(),
                    ));
                }
            }
        }
    }
    found.into_iter().min().map(|(_, _, _, id)| id)
}

fn subset(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 0..=of.len())
}

fn path() -> impl Strategy<Value = String> {
    proptest::sample::select(&["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"][..]).prop_map(str::to_owned)
}

fn host() -> impl Strategy<Value = String> {
    proptest::sample::select(
        &[
            "a.example.com",
            "*.example.com",
            "*.com",
            "b.a.example.com",
            "*.a.example.com",
        ][..],
    )
    .prop_map(str::to_owned)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let method = proptest::sample::select(&[None, Some("GET"), Some("PUT")][..]);
    (
        any::<bool>(),
        path(),
        method,
        subset(&["x-a", "x-b"]),
        subset(&["p", "q"]),
    )
        .prop_map(|(exact, path, method, headers, query)| Wanted {
            exact,
            path,
            method,
            headers,
            query,
        })
}

fn routes() -> impl Strategy<Value = Vec<Written>> {
    let rule = proptest::collection::vec(wanted(), 1..3);
    let route = (
        proptest::collection::btree_set(host(), 1..3),
        0i64..3,
        proptest::collection::vec(rule, 1..4),
    );
    proptest::collection::vec(route, 1..6).prop_map(|all| {
        let each = all.into_iter().enumerate().map(|(i, (hosts, age, rules))| {
            // Names that are not in the order of their making.
            let name = format!("r{}", (i * 7) % 10);
            let rules = rules.into_iter().enumerate().map(|(r, matches)| WrittenRule {
                id: format!("{name}-{r}"),
                matches,
            });
            Written {
                age,
                hosts: hosts.into_iter().collect(),
                rules: rules.collect(),
                name,
            }
        });
        each.collect()
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = proptest::sample::select(
        &[
            "a.example.com",
            "b.example.com",
            "b.a.example.com",
            "x.com",
            "com",
        ][..],
    );
    let method = proptest::sample::select(&["GET", "PUT"][..]);
    (host, path(), method, subset(&["x-a", "x-b"]), subset(&["p", "q"])).prop_map(
        |(host, path, method, headers, query)| Asked {
            host: host.to_owned(),
            path,
            method,
            headers,
            query,
        },
    )
}

/// The rule that the table chooses, by the name that it has in its route.
fn chosen(world: &World, request: &Asked) -> Option<String> {
    let built = build(world, &mut Memory::default(), &BTreeMap::new(), &settings());
    let Some(Port::Http(port)) = built.table.ports.get(&(Transport::Tcp, 80)) else {
        panic!("no port")
    };
    let headers: HeaderMap = request
        .headers
        .iter()
        .map(|name| (HeaderName::from_static(name), "1".parse().unwrap()))
        .collect();
    let query: Vec<String> = request.query.iter().map(|name| format!("{name}=1")).collect();
    let method: Method = request.method.parse().unwrap();
    let listener = port.listener(&request.host)?;
    let found = listener.routes.find(
        &request.host,
        &request.path,
        &method,
        &headers,
        Some(&query.join("&")),
    )?;
    Some(found.rule.name.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn matches_are_tried_in_the_order_of_the_gateway_api(routes in routes(), request in asked()) {
        let world = world(&routes);
        prop_assert_eq!(chosen(&world, &request), oracle(&routes, &request));
    }
}

#[test]
fn a_thousand_routes_are_put_together_again_in_little_time_and_space() {
    let written = |i: usize| Written {
        name: format!("r{i}"),
        age: 0,
        hosts: vec!["dev.example.com".to_owned()],
        rules: vec![WrittenRule {
            id: format!("r{i}-0"),
            matches: vec![Wanted {
                exact: false,
                path: format!("/default/c{i}"),
                method: None,
                headers: vec![],
                query: vec![],
            }],
        }],
    };
    let all: Vec<Written> = (0..1_000).map(written).collect();
    let world = world(&all);
    let mut memory = Memory::default();
    let built = build(&world, &mut memory, &BTreeMap::new(), &settings());
    let gateway = (Kind::Gateway, Name::new("default", "public"));
    let super::status::Verdict::Gateway { listeners, .. } = &*built.verdicts[&gateway] else {
        panic!("no verdict")
    };
    assert_eq!(listeners[0].attached, 1_000);
    let request = Asked {
        host: "dev.example.com".into(),
        path: "/default/c789/x".into(),
        method: "GET",
        headers: vec![],
        query: vec![],
    };
    assert_eq!(chosen(&world, &request).as_deref(), Some("r789-0"));
}
