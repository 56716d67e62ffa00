//! Artifacts and revisions: what is kept, what goes, and what one can go back to.

use choreo_engine::{AnyObject, Kind, World, offline, revision};
use serde_json::{Value, json};

use super::support::*;

/// Rendered, with owners as a server would have set them: only what a component or binding owns may be removed.
fn owned(world: &World) -> World {
    let mut world = world.clone();
    for mut object in offline::render(&world)
        .world
        .iter()
        .map(|o| o.to_value().unwrap())
        .collect::<Vec<_>>()
    {
        let kind = object["kind"].as_str().unwrap().to_owned();
        let owner = match kind.as_str() {
            "DeployableArtifact" => ("Component", "greeter"),
            "Deployment" | "Release" => ("ServiceBinding", "greeter-development"),
            _ => ("", ""),
        };
        object["metadata"]["uid"] = json!(format!("uid-{}-{}", kind, object["metadata"]["name"]));
        if !owner.0.is_empty() {
            object["metadata"]["ownerReferences"] = json!([{
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": owner.0, "name": owner.1,
                "uid": format!("uid-{}-\"{}\"", owner.0, owner.1), "controller": true}]);
        }
        world.upsert(AnyObject::from_value(&object).unwrap());
    }
    world
}

fn with_image(world: &World, image: &str) -> World {
    change(world, Kind::Workload, "greeter", |w| {
        w["spec"]["containers"]["main"]["image"] = json!(image);
    })
}

fn change(world: &World, kind: Kind, name: &str, edit: impl FnOnce(&mut Value)) -> World {
    let mut world = world.clone();
    let mut value = world.get_any(&object(kind, name)).unwrap().to_value().unwrap();
    edit(&mut value);
    world.upsert(AnyObject::from_value(&value).unwrap());
    world
}

fn pruned(world: &World, kind: Kind, name: &str) -> Vec<String> {
    let plan = plan_of(world, kind, name);
    plan.prune.iter().map(|r| r.key.name.clone()).collect()
}

fn artifact(world: &World) -> String {
    let binding = world
        .get_any(&object(Kind::ServiceBinding, "greeter-development"))
        .unwrap();
    binding.to_value().unwrap()["spec"]["artifactRef"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn a_revision_may_say_how_many_old_ones_are_kept() {
    let mut now = owned(&world(&[GREETER, GITHUB]));
    for image in ["a:2", "a:3", "a:4"] {
        now = owned(&with_image(&now, image));
    }
    let names = |numbers: &[i64]| -> Vec<String> {
        numbers
            .iter()
            .map(|n| format!("greeter-development-{n}"))
            .collect()
    };
    let binding = (Kind::ServiceBinding, "greeter-development");
    assert_eq!(pruned(&now, binding.0, binding.1), names(&[]));
    let limited = |number: i64, limit: i64| {
        change(
            &now,
            Kind::Deployment,
            &format!("greeter-development-{number}"),
            |d| {
                d["spec"]["revisionHistoryLimit"] = json!(limit);
            },
        )
    };
    assert_eq!(pruned(&limited(4, 1), binding.0, binding.1), names(&[1, 2]));
    assert_eq!(pruned(&limited(2, 0), binding.0, binding.1), names(&[1, 2, 3]));
}

#[test]
fn an_artifact_is_named_by_what_is_in_it() {
    let first = owned(&world(&[GREETER, GITHUB]));
    let again = owned(&world(&[GITHUB, GREETER]));
    assert_eq!(artifact(&first), artifact(&again));
    let other = owned(&with_image(&first, "greeter:2"));
    assert_ne!(artifact(&first), artifact(&other));
    let back = with_image(&other, "ghcr.io/openchoreo/samples/greeter-service:latest");
    assert_eq!(artifact(&owned(&back)), artifact(&first));
}

#[test]
fn unused_artifacts_go_and_those_in_a_history_stay() {
    let first = owned(&world(&[GREETER, GITHUB]));
    let old = artifact(&first);
    let second = owned(&with_image(&first, "greeter:2"));
    assert_ne!(artifact(&second), old);
    assert_eq!(
        pruned(&second, Kind::Component, "greeter"),
        Vec::<String>::new(),
        "revision 1 is of the old artifact"
    );
    // The history forgets it.
    let mut forgotten = second;
    forgotten.remove(&object(Kind::Deployment, "greeter-development-1"));
    assert_eq!(pruned(&forgotten, Kind::Component, "greeter"), [old.as_str()]);
    // What somebody promoted stays.
    let promoted = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {{name: greeter-staging}}, spec: {{owner: \
         {{projectName: default, componentName: greeter}}, environment: staging, artifactRef: {old}}}}}"
    );
    let mut used = forgotten.clone();
    add(&mut used, &promoted);
    assert_eq!(pruned(&used, Kind::Component, "greeter"), Vec::<String>::new());
    // As long as it is not known what is current, nothing goes.
    let broken = change(&forgotten, Kind::Service, "greeter", |s| {
        s["spec"]["className"] = json!("missing");
    });
    assert_eq!(pruned(&broken, Kind::Component, "greeter"), Vec::<String>::new());
}

#[test]
fn a_history_has_a_limit() {
    let mut world = owned(&world(&[GREETER, GITHUB]));
    for n in 2..=13 {
        world = owned(&with_image(&world, &format!("greeter:{n}")));
    }
    let binding = object(Kind::ServiceBinding, "greeter-development");
    assert_eq!(revision::history(&world, &binding).len(), 13);
    assert_eq!(
        pruned(&world, Kind::ServiceBinding, "greeter-development"),
        ["greeter-development-1", "greeter-development-2"],
        "ten are kept beside the current one"
    );
}

#[test]
fn going_back_is_the_artifact_and_the_overrides_of_a_revision() {
    let first = owned(&world(&[GREETER, GITHUB]));
    let overridden = change(&first, Kind::ServiceBinding, "greeter-development", |b| {
        b["spec"]["overrides"] = json!({"replicas": 7});
    });
    let second = owned(&overridden);
    let third = owned(&with_image(&second, "greeter:3"));
    let binding = object(Kind::ServiceBinding, "greeter-development");
    let target = revision::rollback_target(&third, &binding, 3, Some(1)).unwrap();
    assert!(target.spec.overrides.is_empty());
    let artifact_of_first = target.spec.deployment_artifact_ref.clone().unwrap();

    // What `choreo rollback` writes: the artifact, the overrides, and that it was chosen by hand.
    let pinned = change(&third, Kind::ServiceBinding, "greeter-development", |b| {
        b["spec"]["artifactRef"] = json!(artifact_of_first);
        b["spec"].as_object_mut().unwrap().remove("overrides");
        b["metadata"]["annotations"] = json!({choreo_engine::binding::PINNED: "true"});
    });
    let plan = plan_of(&pinned, Kind::ServiceBinding, "greeter-development");
    assert_eq!(
        plan.status.as_ref().unwrap().fields["revision"],
        1,
        "no copy of it, but itself"
    );
    let release = plan.children.iter().find(|c| c.kind() == "Release").unwrap();
    let original = first
        .get_any(&object(Kind::Release, "greeter-development"))
        .unwrap()
        .to_value()
        .unwrap();
    assert_eq!(release.object["spec"]["resources"], original["spec"]["resources"]);
    // The component does not put its newest artifact back.
    let component = plan_of(&pinned, Kind::Component, "greeter");
    let child = component
        .children
        .iter()
        .find(|c| c.kind() == "ServiceBinding")
        .unwrap();
    assert_eq!(child.object["spec"]["artifactRef"], json!(artifact_of_first));
}
