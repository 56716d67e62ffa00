//! Worlds from YAML, and what one looks at in them.

use std::collections::BTreeSet;

use choreo_engine::{
    AnyObject, ObjectRef, Plan, Target, World,
    offline::{self, Rendered},
    plan,
    world::Kind,
};
use serde_json::Value;

pub(crate) const PLATFORM: &str = include_str!("fixtures/platform.yaml");
pub(crate) const GREETER: &str = include_str!("../../../../examples/greeter.yaml");
pub(crate) const GITHUB: &str = include_str!("../../../../examples/github.yaml");
pub(crate) const STOREFRONT: &str = include_str!("../../../../examples/storefront.yaml");

/// A task that calls the greeter, and that somebody runs by hand.
pub(crate) const TASK: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: ScheduledTaskClass
metadata: {name: default}
spec: {cronJobTemplate: {schedule: '0 * * * *'}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: report}
spec: {owner: {projectName: default}, type: ManualTask}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: report}
spec:
  owner: {projectName: default, componentName: report}
  containers: {main: {image: a, envFrom: [{configurationGroupRef: {name: github}}]}}
  connections: {greeter: {type: api, params: {componentName: greeter, endpoint: greeter-api}, inject: {env: [{name: G, value: '{{ .url }}'}]}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: ScheduledTask
metadata: {name: report}
spec: {owner: {projectName: default, componentName: report}, workloadName: report}
---
apiVersion: openchoreo.dev/v1alpha1
kind: ScheduledTaskBinding
metadata: {name: report-staging}
spec:
  owner: {projectName: default, componentName: report}
  environment: staging
  workloadSpec: {containers: {main: {image: a}}}
  runs: [one]
";

pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    yaml.split("\n---")
        .filter(|d| {
            d.lines()
                .any(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#'))
        })
        .map(|document| {
            let mut value: Value = serde_saphyr::from_str(document).unwrap();
            let cluster_scoped = value["kind"] == "Organization";
            let metadata = value["metadata"].as_object_mut().unwrap();
            if !cluster_scoped && !metadata.contains_key("namespace") {
                metadata.insert("namespace".to_owned(), Value::from("default"));
            }
            value
        })
        .collect()
}

pub(crate) fn add(world: &mut World, yaml: &str) {
    for document in documents(yaml) {
        world.upsert(AnyObject::from_value(&document).unwrap());
    }
}

/// A world of the platform and some more.
pub(crate) fn world(yamls: &[&str]) -> World {
    let mut world = World::new();
    add(&mut world, PLATFORM);
    yamls.iter().for_each(|yaml| add(&mut world, yaml));
    world
}

pub(crate) fn render(yamls: &[&str]) -> Rendered {
    offline::render(&world(yamls))
}

/// The objects of a release, as YAML.
pub(crate) fn resources(rendered: &Rendered, release: &str) -> Vec<Value> {
    let found = rendered
        .objects
        .iter()
        .find(|o| o["kind"] == "Release" && o["metadata"]["name"] == release);
    let found = found.unwrap_or_else(|| {
        panic!(
            "no release {release:?}: {:?} {:?}",
            names(rendered),
            rendered.problems
        )
    });
    found["spec"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["object"].clone())
        .collect()
}

/// `Kind name` of every derived object.
pub(crate) fn names(rendered: &Rendered) -> Vec<String> {
    let of = |o: &Value| {
        format!(
            "{} {}",
            o["kind"].as_str().unwrap(),
            o["metadata"]["name"].as_str().unwrap()
        )
    };
    rendered.objects.iter().map(of).collect()
}

/// The resource of a kind whose name starts so.
pub(crate) fn resource<'a>(resources: &'a [Value], kind: &str, prefix: &str) -> &'a Value {
    resources
        .iter()
        .find(|r| r["kind"] == kind && r["metadata"]["name"].as_str().unwrap().starts_with(prefix))
        .unwrap_or_else(|| panic!("no {kind} {prefix}* in {resources:#?}"))
}

pub(crate) fn kinds(resources: &[Value]) -> BTreeSet<String> {
    resources
        .iter()
        .map(|r| r["kind"].as_str().unwrap().to_owned())
        .collect()
}

pub(crate) fn plan_of(world: &World, kind: Kind, name: &str) -> Plan {
    let namespace = if kind == Kind::Organization { "" } else { "default" };
    plan(world, &Target::object(kind, namespace, name))
}

/// Reason and message of `Ready` in the plan of an object.
pub(crate) fn ready(world: &World, kind: Kind, name: &str) -> (String, String) {
    let plan = plan_of(world, kind, name);
    let ready = plan.status.as_ref().unwrap().condition("Ready").unwrap().clone();
    (ready.reason, ready.message)
}

/// All problems of a rendering, as text.
pub(crate) fn problems(rendered: &Rendered) -> Vec<String> {
    rendered
        .problems
        .iter()
        .map(|(target, p)| format!("{target}: {} {}", p.reason, p.message))
        .collect()
}

pub(crate) fn object(kind: Kind, name: &str) -> ObjectRef {
    ObjectRef::new(kind, "default", name)
}
