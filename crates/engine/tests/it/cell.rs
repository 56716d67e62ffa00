//! What an environment lets into a cell, and who may look at it.

use choreo_engine::{AnyObject, Kind, World, offline};
use serde_json::{Value, json};

use super::services::*;
use super::support::*;

#[test]
fn an_environment_refuses_what_breaks_its_constraints() {
    let run = |rule: &str| {
        let mut world = platform(false);
        let mut environment = documents(PLATFORM)
            .into_iter()
            .find(|d| d["kind"] == "Environment" && d["metadata"]["name"] == "development")
            .unwrap();
        environment["spec"]["constraints"] = json!([{"rule": rule, "message": "images come by digest"}]);
        world.upsert(AnyObject::from_value(&environment).unwrap());
        service(&mut world, "default", "app", json!({}), json!({}));
        let rendered = offline::render(&world);
        let of_environment = ready(&rendered.world, Kind::Environment, "development");
        let of_binding = ready(&rendered.world, Kind::ServiceBinding, "app-development");
        (of_environment, of_binding)
    };
    let rule = "workload.containers.all(c, workload.containers[c].image.contains('@sha256:'))";
    let (environment, (reason, message)) = run(rule);
    assert_eq!(environment.0, "Ready");
    assert_eq!(reason, "ConstraintViolated");
    assert_eq!(
        message,
        format!(
            "Environment \"development\" refuses ServiceBinding \"app-development\": images come by digest (spec.constraints[0].rule: {rule})"
        )
    );
    for met in [
        "artifact.type == 'Service' && component.name == 'app' && component.owner.projectName == 'default'",
        "artifact.name.startsWith('app-')",
    ] {
        assert_eq!(run(met).1.0, "Progressing", "{met}");
    }
    // A rule that is wrong is said where it is written, and refuses rather than lets through.
    for (wrong, why) in [
        ("image == 'x'", "image"),
        ("workload.containers", "true"),
        ("1 +", "spec.constraints[0].rule"),
        ("artifact.nothing == 1", "nothing"),
    ] {
        let (environment, (reason, message)) = run(wrong);
        assert_eq!(reason, "ConstraintViolated", "{wrong}");
        assert!(
            message.contains("cannot be evaluated") || message.contains("neither true nor false"),
            "{message}"
        );
        if wrong != "artifact.nothing == 1" && wrong != "workload.containers" {
            assert_eq!(environment.0, "Invalid");
            assert!(environment.1.contains(why), "{}", environment.1);
        }
    }
}

#[test]
fn a_cell_has_roles_for_the_people_of_its_organization() {
    let mut world = platform(false);
    put_organization(&mut world);
    service(&mut world, "default", "app", json!({}), json!({}));
    let rendered = offline::render(&world);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let cell = rendered
        .objects
        .iter()
        .find(|o| o["kind"] == "Release" && o["spec"]["owner"].get("componentName").is_none())
        .unwrap();
    let roles: Vec<Value> = cell["spec"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["object"].clone())
        .filter(|o| o["kind"] == "RoleBinding")
        .map(|o| {
            json!([
                o["metadata"]["name"],
                o["roleRef"]["name"],
                o["subjects"][0]["name"]
            ])
        })
        .collect();
    assert_eq!(
        roles,
        [
            json!(["choreo-admin", "choreo-admin", "acme-platform"]),
            json!(["choreo-viewer", "choreo-viewer", "auditor"])
        ]
    );
}

fn put_organization(world: &mut World) {
    let access = json!([{"role": "admin", "groups": ["acme-platform"], "users": []}, {"role": "viewer", "users": ["auditor"], "groups": []}]);
    let organization = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": "default"}, "spec": {"access": access}});
    world.upsert(AnyObject::from_value(&organization).unwrap());
}
