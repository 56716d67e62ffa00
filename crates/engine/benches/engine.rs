//! What a plan costs: `cargo bench -p choreo-engine` prints medians; they are quoted in the documentation.
//!
//! The first argument of what is measured is the whole decision for one binding: look-ups, configuration, connections,
//! rendering of every object, revision and status. Nothing is kept between two runs but the world.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use choreo_engine::{AnyObject, Kind, ObjectRef, Target, World, affected, offline, plan};
use divan::{Bencher, black_box};
use serde_json::{Value, json};

const PLATFORM: &str = include_str!("../tests/it/fixtures/platform.yaml");

/// Components in the large world.
const COMPONENTS: usize = 1_000;

/// The program's own.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

fn main() {
    divan::main();
}

fn object(mut value: Value) -> AnyObject {
    if value["kind"] != "Organization" {
        value["metadata"]["namespace"] = "default".into();
    }
    value["apiVersion"] = "openchoreo.dev/v1alpha1".into();
    AnyObject::from_value(&value).unwrap()
}

/// A service with two APIs: one for everybody, one for the organization.
fn service(name: &str, class: &str) -> Vec<AnyObject> {
    let owner = json!({"projectName": "default", "componentName": name});
    let api = |port: u16, base: &str, level: &str| {
        json!({"type": "REST", "className": "default",
               "rest": {"backend": {"port": port, "basePath": base}, "exposeLevels": [level]}})
    };
    vec![
        object(json!({"kind": "Component", "metadata": {"name": name},
                      "spec": {"owner": {"projectName": "default"}, "type": "Service"}})),
        object(json!({"kind": "Workload", "metadata": {"name": name}, "spec": {
            "owner": owner,
            "containers": {"main": {"image": "registry.example.com/app:1", "env": [{"key": "LOG_LEVEL", "value": "info"}]}},
            "endpoints": {"orders": {"type": "REST", "port": 8080}, "admin": {"type": "REST", "port": 8081}},
        }})),
        object(json!({"kind": "Service", "metadata": {"name": name}, "spec": {
            "owner": owner, "workloadName": name, "className": class,
            "apis": {"orders": api(8080, "/orders", "Public"), "admin": api(8081, "/admin", "Organization")},
        }})),
    ]
}

fn world(components: usize) -> World {
    let mut world = World::new();
    for document in serde_saphyr::from_multiple::<Value>(PLATFORM).unwrap() {
        world.upsert(object(document));
    }
    world.upsert(object(
        json!({"kind": "ServiceClass", "metadata": {"name": "rare"}, "spec": {}}),
    ));
    for index in 0..components {
        let class = if index == 0 { "rare" } else { "default" };
        for part in service(&format!("service-{index}"), class) {
            world.upsert(part);
        }
    }
    offline::render(&world).world
}

#[divan::bench]
fn one_binding_with_two_apis(bencher: Bencher<'_, '_>) {
    let world = world(1);
    let target = Target::object(Kind::ServiceBinding, "default", "service-0-development");
    let made = plan(&world, &target);
    assert!(made.problems.is_empty(), "{:?}", made.problems);
    let resources = made
        .children
        .iter()
        .find(|child| child.kind() == "Release")
        .and_then(|release| release.object["spec"]["resources"].as_array())
        .map_or(0, Vec::len);
    assert!(resources >= 7, "only {resources} objects");
    bencher.bench(|| plan(black_box(&world), &target));
}

#[divan::bench]
fn one_component(bencher: Bencher<'_, '_>) {
    let world = world(1);
    let target = Target::object(Kind::Component, "default", "service-0");
    bencher.bench(|| plan(black_box(&world), &target));
}

#[divan::bench]
fn whom_a_class_of_one_component_affects_among_a_thousand(bencher: Bencher<'_, '_>) {
    let world = world(COMPONENTS);
    let class = ObjectRef::new(Kind::ServiceClass, "default", "rare");
    let targets = affected(&world, &class);
    assert!(
        targets.len() <= 8,
        "a class of one component affects {}",
        targets.len()
    );
    bencher.bench(|| affected(black_box(&world), &class));
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn a_folder_of_a_thousand_components_offline(bencher: Bencher<'_, '_>) {
    let mut inputs = World::new();
    for document in serde_saphyr::from_multiple::<Value>(PLATFORM).unwrap() {
        inputs.upsert(object(document));
    }
    for part in (0..COMPONENTS).flat_map(|index| service(&format!("service-{index}"), "default")) {
        inputs.upsert(part);
    }
    bencher.bench(|| offline::render(black_box(&inputs)));
}
