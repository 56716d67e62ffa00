//! A table that is made from the one before is the one that is made from nothing, whatever has changed in between; and what is passed
//! over as no change is none.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Secret, Service};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::build::{Built, Memory, Settings, build};
use super::object::{Kind, Name};
use super::policies::ClientSettings;
use super::table::Port;
use super::world::World;

#[derive(Clone, Copy, Debug)]
enum What {
    Route,
    Service,
    Security,
    Traffic,
    Secret,
    Grant,
    Gateway,
    Namespace,
    Filter,
}

/// A change: of what, of which of them, to which form; form 0 is none.
type Change = (What, usize, usize);

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let what = prop_oneof![
        4 => Just(What::Route),
        2 => Just(What::Service),
        2 => Just(What::Security),
        1 => Just(What::Traffic),
        2 => Just(What::Secret),
        1 => Just(What::Grant),
        1 => Just(What::Gateway),
        1 => Just(What::Namespace),
        1 => Just(What::Filter),
    ];
    proptest::collection::vec((what, 0..3_usize, 0..5_usize), 1..40)
}

fn object(kind: Kind, namespace: &str, name: &str, version: u64, spec: Value) -> kube::core::DynamicObject {
    let version_text = version.to_string();
    serde_json::from_value(json!({
        "apiVersion": format!("{}/v1", kind.group()), "kind": kind.as_str(),
        "metadata": {"name": name, "namespace": if kind.is_namespaced() { json!(namespace) } else { Value::Null },
            "uid": name, "resourceVersion": version_text, "generation": version, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

const SPACES: [&str; 2] = ["default", "other"];

fn route(i: usize, form: usize) -> Value {
    let backend = match form {
        1 => json!({"name": "s0", "port": 80}),
        2 => json!({"name": "s1", "port": 80, "weight": 3}),
        3 => json!({"name": "s2", "namespace": "other", "port": 80}),
        _ => json!({"name": "absent", "port": 80}),
    };
    let filters = match form {
        4 => {
            json!([{"type": "ExtensionRef", "extensionRef": {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": "f0"}}])
        }
        _ => json!([]),
    };
    json!({"parentRefs": [{"name": "public", "namespace": "default"}], "hostnames": [format!("h{}.example.com", i % 2)],
        "rules": [{"name": "first", "matches": [{"path": {"type": "PathPrefix", "value": format!("/{i}")}}], "filters": filters, "backendRefs": [backend]},
            {"backendRefs": [{"name": "s0", "port": 80}]}]})
}

fn security(form: usize) -> Value {
    let target = match form % 3 {
        0 => json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "public"}),
        1 => json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r0"}),
        _ => {
            json!({"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "r1", "sectionName": "first"})
        }
    };
    match form {
        1 => json!({"targetRefs": [target], "basicAuth": {"users": {"name": "users0"}}}),
        2 => json!({"targetRefs": [target], "cors": {"allowOrigins": ["https://a.example.com"]}}),
        3 => json!({"targetRefs": [target], "authorization": {"defaultAction": "Deny"}}),
        _ => json!({"targetRefs": [target], "unheardOf": true}),
    }
}

fn gateway(form: usize) -> Value {
    let namespaces = match form {
        1 | 2 => json!({"from": "All"}),
        3 => json!({"from": "Selector", "selector": {"matchLabels": {"team": "t1"}}}),
        _ => json!({"from": "Same"}),
    };
    let mut listeners = vec![
        json!({"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.example.com", "allowedRoutes": {"namespaces": namespaces}}),
    ];
    if form == 2 {
        listeners.insert(0, json!({"name": "second", "port": 81, "protocol": "HTTP", "allowedRoutes": {"namespaces": namespaces}}));
    }
    json!({"gatewayClassName": "local", "listeners": listeners})
}

/// Carries a change out. Whether the controller would make a new table.
fn apply(world: &mut World, (what, i, form): Change, version: u64) -> bool {
    let space = SPACES[i % 2];
    let mut put = |kind: Kind, namespace: &str, name: String, spec: Value| match form {
        0 => world.remove(kind, &Name::new(namespace, &name)),
        _ => world.apply(kind, &object(kind, namespace, &name, version, spec)),
    };
    match what {
        What::Route => put(Kind::HttpRoute, space, format!("r{i}"), route(i, form)),
        What::Security => put(Kind::SecurityPolicy, space, format!("p{i}"), security(form)),
        What::Traffic => {
            let spec = json!({"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": format!("r{i}")}],
                "timeout": {"http": {"requestTimeout": format!("{form}s")}}});
            put(Kind::BackendTrafficPolicy, space, format!("t{i}"), spec)
        }
        What::Grant => {
            let spec = json!({"from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "default"}],
                "to": [{"group": "", "kind": "Service"}]});
            put(Kind::ReferenceGrant, "other", "g".to_owned(), spec)
        }
        What::Gateway => put(Kind::Gateway, "default", "public".to_owned(), gateway(form)),
        What::Filter => {
            let spec = json!({"directResponse": {"statusCode": 200 + form}});
            put(Kind::HttpRouteFilter, space, "f0".to_owned(), spec)
        }
        What::Service => {
            let (namespace, name) = (if i == 2 { "other" } else { "default" }, format!("s{i}"));
            let key = Name::new(namespace, &name);
            let changed = if form == 0 {
                world.remove_service(&key)
            } else {
                let ports = json!([{"port": 78 + form, "appProtocol": if form == 3 { json!("kubernetes.io/h2c") } else { Value::Null }}, {"port": 80, "name": "p"}]);
                let service: Service = serde_json::from_value(
                    json!({"metadata": {"name": name, "namespace": namespace}, "spec": {"ports": ports}}),
                )
                .unwrap();
                world.apply_service(&service)
            };
            changed && world.looked_at.services.contains(&key)
        }
        What::Secret => {
            let key = Name::new("default", &format!("users{i}"));
            let changed = if form == 0 {
                world.secrets.remove(&key).is_some()
            } else {
                let text = format!("user{form}:{{SHA}}EfatjsUqKYSrqv18O1FlA3hcIHI=");
                let secret: Secret =
                    serde_json::from_value(json!({"metadata": {"name": &*key.name, "namespace": "default"},
                    "data": {".htpasswd": k8s_openapi::ByteString(text.into_bytes())}}))
                    .unwrap();
                world.apply_secret(&secret)
            };
            changed && world.looked_at.secrets.contains(&key)
        }
        What::Namespace => {
            let labels = (form > 0).then(|| BTreeMap::from([("team".to_owned(), format!("t{form}"))]));
            world.apply_namespace(space, labels)
        }
    }
}

/// Table and verdicts as text.
fn describe(built: &Built) -> Vec<String> {
    let mut all: Vec<String> = built
        .verdicts
        .iter()
        .map(|(key, verdict)| format!("{key:?} {verdict:?}"))
        .collect();
    for (socket, port) in &built.table.ports {
        let Port::Http(port) = port else {
            panic!("only HTTP is used here")
        };
        for listener in &port.listeners {
            let lines = listener.routes.dump();
            all.extend(
                lines
                    .into_iter()
                    .map(|line| format!("{socket:?} {} {line}", listener.host)),
            );
        }
    }
    all.sort();
    all
}

fn new_world() -> World {
    let mut world = World::default();
    let class = json!({"controllerName": super::status::CONTROLLER});
    world.apply(
        Kind::GatewayClass,
        &object(Kind::GatewayClass, "", "local", 1, class),
    );
    for change in [
        (What::Gateway, 0, 1),
        (What::Service, 0, 2),
        (What::Service, 1, 2),
        (What::Route, 0, 1),
        (What::Route, 1, 2),
    ] {
        apply(&mut world, change, 1);
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_table_made_from_the_last_one_is_the_one_made_from_nothing(changes in changes()) {
        let settings = Settings { address: "127.0.0.1".to_owned(), client: Arc::new(ClientSettings::default()) };
        let mut world = new_world();
        let mut memory = Memory::default();
        let mut make = |world: &mut World| {
            let mut built = build(world, &mut memory, &BTreeMap::new(), &settings);
            world.looked_at = std::mem::take(&mut built.looked_at);
            describe(&built)
        };
        let mut last = make(&mut world);
        for (i, change) in changes.into_iter().enumerate() {
            let differs = apply(&mut world, change, i as u64 + 2);
            if differs {
                last = make(&mut world);
            }
            let whole = build(&world, &mut Memory::default(), &BTreeMap::new(), &settings);
            prop_assert_eq!(&last, &describe(&whole), "after {:?}", change);
        }
    }
}

#[test]
fn what_has_not_changed_is_not_made_again() {
    let settings = Settings {
        address: "127.0.0.1".to_owned(),
        client: Arc::new(ClientSettings::default()),
    };
    let mut world = new_world();
    let mut memory = Memory::default();
    let first = build(&world, &mut memory, &BTreeMap::new(), &settings);
    apply(&mut world, (What::Route, 0, 2), 9);
    let second = build(&world, &mut memory, &BTreeMap::new(), &settings);
    let same = |namespace: &str, name: &str| {
        let key = (Kind::HttpRoute, Name::new(namespace, name));
        Arc::ptr_eq(&first.verdicts[&key], &second.verdicts[&key])
    };
    assert!(same("other", "r1"));
    assert!(!same("default", "r0"));
}
