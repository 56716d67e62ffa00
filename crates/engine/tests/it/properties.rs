//! What holds for any input.

use std::collections::BTreeSet;

use choreo_engine::{AnyObject, World, offline, template::Template};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::support::*;

/// A random project of services: who has which endpoint exposed how, and who connects to whom.
#[derive(Debug, Clone)]
struct Shape {
    levels: Vec<Vec<&'static str>>,
    connections: Vec<(usize, usize)>,
}

fn shapes() -> impl Strategy<Value = Shape> {
    let level = prop::sample::subsequence(vec!["Project", "Organization", "Public"], 0..=3);
    prop::collection::vec(level, 1..5).prop_flat_map(|levels| {
        let n = levels.len();
        prop::collection::vec((0..n, 0..n), 0..6).prop_map(move |connections| Shape {
            levels: levels.clone(),
            connections,
        })
    })
}

fn objects(shape: &Shape) -> Vec<Value> {
    let mut all = Vec::new();
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    for (i, levels) in shape.levels.iter().enumerate() {
        let name = format!("c{i}");
        let owner = json!({"projectName": "default", "componentName": name});
        let mut connections = serde_json::Map::new();
        for (_, to) in shape.connections.iter().filter(|(from, _)| *from == i) {
            let inject = json!({"env": [{"name": format!("C{to}"), "value": "{{ .url }}"}]});
            let params = json!({"componentName": format!("c{to}"), "endpoint": "api"});
            connections.insert(
                format!("to-{to}"),
                json!({"type": "api", "params": params, "inject": inject}),
            );
        }
        all.push(object(
            "Component",
            &name,
            json!({"owner": {"projectName": "default"}, "type": "Service"}),
        ));
        all.push(object(
            "Workload",
            &name,
            json!({"owner": owner, "containers": {"main": {"image": "a"}}, "endpoints": {"api": {"type": "REST", "port": 80}}, "connections": connections}),
        ));
        let rest = json!({"backend": {"port": 80}, "exposeLevels": levels});
        all.push(object(
            "Service",
            &name,
            json!({"owner": owner, "workloadName": name, "apis": {"api": {"type": "REST", "rest": rest}}}),
        ));
    }
    all
}

fn loaded(objects: &[Value]) -> World {
    let mut world = world(&[]);
    objects
        .iter()
        .for_each(|o| world.upsert(AnyObject::from_value(o).unwrap()));
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rendering_twice_and_in_any_order_gives_the_same_bytes(shape in shapes(), seed in any::<u64>()) {
        let objects = objects(&shape);
        let mut shuffled = objects.clone();
        // A fixed walk over the list by the seed stands in for every order in which files may be read.
        for i in (1..shuffled.len()).rev() {
            let j = usize::try_from(seed.rotate_left(u32::try_from(i % 64).unwrap()) % (i as u64 + 1)).unwrap();
            shuffled.swap(i, j);
        }
        let once = offline::render(&loaded(&objects));
        prop_assert!(once.problems.is_empty(), "{:?}", once.problems);
        let again = offline::render(&loaded(&shuffled));
        prop_assert_eq!(json!(once.objects).to_string(), json!(again.objects).to_string());
        // A settled world stays settled.
        let settled = offline::render(&once.world);
        prop_assert_eq!(json!(once.objects).to_string(), json!(settled.objects).to_string());
    }

    #[test]
    fn exactly_what_is_declared_is_exposed(shape in shapes()) {
        let rendered = offline::render(&loaded(&objects(&shape)));
        for (i, levels) in shape.levels.iter().enumerate() {
            let resources = resources(&rendered, &format!("c{i}-development"));
            let declared: BTreeSet<String> = levels.iter().filter(|l| **l != "Project").map(|l| l.to_lowercase()).collect();
            let of = |kind: &str, direction: &str| -> BTreeSet<String> {
                let all = resources.iter().filter(|r| r["kind"] == kind);
                let all = all.filter(|r| direction.is_empty() || r["spec"].get(direction).is_some());
                all.map(|r| {
                    let by = r["metadata"]["annotations"]["openchoreo.dev/declared-by"].as_str().unwrap();
                    by.rsplit_once('[').unwrap().1.trim_end_matches(']').to_lowercase()
                }).collect()
            };
            prop_assert_eq!(&of("HTTPRoute", ""), &declared);
            prop_assert_eq!(&of("NetworkPolicy", "ingress"), &declared);
            prop_assert!(of("NetworkPolicy", "egress").is_empty(), "connections within a project open nothing");
        }
    }

    #[test]
    fn names_fit_their_limits(component in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?", environment in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?", endpoint in "[a-z]{1,40}") {
        let owner = json!({"projectName": "default", "componentName": component});
        let object = |kind: &str, name: &str, spec: Value| {
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec})
        };
        let world = loaded(&[
            object("Environment", &environment, json!({"dataPlaneRef": "default"})),
            object("DeploymentPipeline", "default", json!({"promotionPaths": [{"sourceEnvironmentRef": environment, "targetEnvironmentRefs": []}]})),
            object("Component", &component, json!({"owner": {"projectName": "default"}, "type": "Service", "autoDeploy": false})),
            object("ServiceBinding", "by-hand", json!({
                "owner": owner, "environment": environment,
                "workloadSpec": {"containers": {"main": {"image": "a"}}, "endpoints": {&endpoint: {"type": "HTTP", "port": 80, "visibility": "public"}}},
            })),
        ]);
        let rendered = offline::render(&world);
        for resource in resources(&rendered, "by-hand") {
            let name = resource["metadata"]["name"].as_str().unwrap();
            prop_assert!(name.len() <= 63, "{name}");
            for value in resource["metadata"]["labels"].as_object().unwrap().values() {
                prop_assert!(value.as_str().unwrap().len() <= 63);
            }
            for host in resource["spec"]["hostnames"].as_array().into_iter().flatten() {
                prop_assert!(host.as_str().unwrap().split('.').all(|label| label.len() <= 63), "{host}");
            }
        }
    }

    #[test]
    fn any_text_is_a_template_or_an_error(text in ".{0,40}") {
        let _ = Template::parse(&text);
    }
}
