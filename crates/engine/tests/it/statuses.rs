//! What is told in statuses: a plan is not changed by what it has told itself, and every plan that reads the status of another object is
//! made again when that says something new. Controllers rely on the first: they do not look again after telling.

use std::collections::BTreeMap;

use choreo_engine::world::ObjectRef;
use choreo_engine::{AnyObject, Kind, Plan, Target, World, affected, by_change, plan};
use serde_json::{Value, json};

use super::support::*;

/// A component that is not complete, and its binding.
const BROKEN: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: broken}
spec: {owner: {projectName: default}, type: Service}
---
apiVersion: openchoreo.dev/v1alpha1
kind: ServiceBinding
metadata: {name: broken-staging}
spec: {owner: {projectName: default, componentName: broken}, environment: staging, className: default, artifactRef: none}
";

/// As an API server would have it: every object has a generation.
fn world() -> World {
    let rendered = render(&[GREETER, GITHUB, TASK, BROKEN]);
    let mut world = World::new();
    world.suppose_promoted(true);
    for object in rendered.world.iter() {
        let mut value = object.to_value().unwrap();
        value["metadata"]["generation"] = json!(2);
        value["metadata"]["uid"] = json!(object.reference().to_string());
        world.upsert(AnyObject::from_value(&value).unwrap());
    }
    world
}

fn with_status(world: &World, object: &ObjectRef, status: &Value) -> World {
    let mut value = world.get_any(object).unwrap().to_value().unwrap();
    value["status"] = status.clone();
    let mut after = world.clone();
    after.upsert(AnyObject::from_value(&value).unwrap());
    after
}

fn told(plan: &Plan) -> Option<Value> {
    let status = plan.status.clone()?;
    let mut fields = status.fields;
    let mut conditions = serde_json::to_value(status.conditions).unwrap();
    for condition in conditions.as_array_mut().unwrap() {
        condition["lastTransitionTime"] = json!("2026-01-01T00:00:00Z");
    }
    fields.insert("conditions".to_owned(), conditions);
    if let Some(generation) = status.observed_generation {
        fields.insert("observedGeneration".to_owned(), json!(generation));
    }
    Some(Value::Object(fields))
}

fn plans(world: &World) -> BTreeMap<Target, Plan> {
    let all = affected::all(world).into_iter();
    all.map(|target| (target.clone(), plan(world, &target))).collect()
}

/// The states that a release's status goes through.
fn of_release() -> Vec<Value> {
    let condition = |status: &str, reason: &str, message: &str| {
        json!([{"type": "Ready", "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    };
    let inventory = json!([{"version": "v1", "kind": "Service", "plural": "services", "name": "a"}]);
    let run = json!([{"id": "run-one", "version": "v1", "kind": "Job", "name": "report-one", "healthStatus": "Progressing",
                      "status": {"startTime": "2026-01-01T00:00:00Z"}}]);
    vec![
        json!({"inventory": inventory, "conditions": condition("False", "Progressing", "being applied for the first time")}),
        json!({"inventory": inventory, "observedGeneration": 1, "conditions": condition("True", "Ready", "of before")}),
        json!({"inventory": inventory, "observedGeneration": 2, "conditions": condition("False", "Progressing", "on its way"), "resources": run}),
        json!({"inventory": inventory, "observedGeneration": 2, "conditions": condition("False", "Degraded", "crashes"), "resources": run}),
        json!({"observedGeneration": 2, "conditions": condition("True", "Ready", "all objects are healthy"), "resources": run}),
    ]
}

#[test]
fn a_plan_is_not_changed_by_what_it_has_told() {
    let mut world = world();
    let releases: Vec<ObjectRef> = world
        .iter()
        .map(|object| object.reference())
        .filter(|r| r.kind == Kind::Release)
        .collect();
    let mut compared = 0;
    for state in std::iter::once(json!({})).chain(of_release()) {
        for release in &releases {
            world = with_status(&world, release, &state);
        }
        // Until everybody has told what they have to, each of it alone.
        for _ in 0..4 {
            for (target, _) in plans(&world) {
                let (Some(object), planned) = (target.as_object(), plan(&world, &target)) else {
                    continue;
                };
                let Some(status) = told(&planned) else { continue };
                if world.get_any(object).is_none() {
                    continue;
                }
                let after = with_status(&world, object, &status);
                assert_eq!(plan(&after, &target), planned, "{target} after {state}");
                compared += 1;
                world = after;
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn what_a_status_says_is_heard_by_all_who_read_it() {
    let mut before = world();
    let kinds = [
        Kind::Release,
        Kind::ServiceBinding,
        Kind::ScheduledTaskBinding,
        Kind::Deployment,
        Kind::Endpoint,
    ];
    let objects: Vec<ObjectRef> = before
        .iter()
        .map(|object| object.reference())
        .filter(|r| kinds.contains(&r.kind))
        .collect();
    let (mut overlooked, mut heard) = (Vec::new(), 0);
    for state in of_release() {
        for object in &objects {
            let status = match object.kind {
                Kind::Release => Some(state.clone()),
                _ => told(&plan(&before, &Target::Object(object.clone()))),
            };
            let Some(status) = status else { continue };
            let after = with_status(&before, object, &status);
            let announced = by_change(&before, &after, object);
            for (target, planned) in plans(&before) {
                let changed = plan(&after, &target) != planned;
                heard += usize::from(changed);
                if changed && !announced.contains(&target) {
                    overlooked.push(format!("{object} says {status}: {target} is not made again"));
                }
            }
            before = after;
        }
    }
    assert_eq!(overlooked, Vec::<String>::new());
    assert!(heard > 10, "{heard}");
}

#[test]
fn a_binding_hears_that_a_revision_has_proved_itself() {
    let before = world();
    let deployment = before
        .iter()
        .find(|object| object.reference().kind == Kind::Deployment)
        .unwrap();
    let binding = match &deployment {
        AnyObject::Deployment(deployment) => deployment.spec.binding_ref.clone().unwrap(),
        other => panic!("{other:?}"),
    };
    let reference = deployment.reference();
    let is_told = |before: &World, after: &World| {
        let announced = by_change(before, after, &reference);
        announced
            .iter()
            .filter_map(Target::as_object)
            .any(|object| object.key.name == binding.name)
    };
    let progressing = with_status(&before, &reference, &json!({"phase": "Progressing"}));
    assert!(!is_told(&before, &progressing));
    let proven = with_status(
        &progressing,
        &reference,
        &json!({"phase": "Complete", "proven": true}),
    );
    assert!(is_told(&progressing, &proven));
}
