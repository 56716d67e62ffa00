//! The flow from a developer's files to the objects in the cell.

use choreo_engine::{AnyObject, Kind, affected, revision};
use serde_json::{Value, json};

use super::support::*;

#[test]
fn the_greeter_becomes_these_objects() {
    let rendered = render(&[GREETER, GITHUB]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    insta::assert_yaml_snapshot!("greeter-development", resources(&rendered, "greeter-development"));
}

#[test]
fn the_greeters_cell_is_closed_but_for_itself_and_dns() {
    let rendered = render(&[GREETER, GITHUB]);
    let cell = rendered.objects.iter().find(|o| {
        o["kind"] == "Release"
            && o["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with("cell-default-development")
    });
    insta::assert_yaml_snapshot!("greeter-cell", cell.unwrap()["spec"]);
}

#[test]
fn the_control_plane_gets_the_whole_chain() {
    let rendered = render(&[GREETER, GITHUB]);
    let of_ours: Vec<Value> = rendered
        .objects
        .iter()
        .filter(|o| o["apiVersion"] == "openchoreo.dev/v1alpha1" && o["kind"] != "Release")
        .cloned()
        .collect();
    insta::assert_yaml_snapshot!("greeter-control-plane", of_ours);
}

#[test]
fn order_does_not_matter() {
    let forward = render(&[GREETER, GITHUB, STOREFRONT]);
    let mut documents: Vec<Value> = [PLATFORM, GREETER, GITHUB, STOREFRONT]
        .iter()
        .flat_map(|y| documents(y))
        .collect();
    documents.reverse();
    let mut world = choreo_engine::World::new();
    documents
        .iter()
        .for_each(|d| world.upsert(AnyObject::from_value(d).unwrap()));
    let backward = choreo_engine::offline::render(&world);
    assert_eq!(
        json!(forward.objects).to_string(),
        json!(backward.objects).to_string()
    );
}

#[test]
fn the_greeter_waits_for_its_configuration_and_says_so() {
    let rendered = render(&[GREETER]);
    let expected = "ConfigurationGroup \"github\" not found in namespace \"default\": create it with values of \
                    \"repository\" for environment \"development\"; used by the workload's \
                    containers[main].env[GITHUB_REPOSITORY]";
    let (reason, message) = ready(&rendered.world, Kind::ServiceBinding, "greeter-development");
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("ConfigurationNotFound", expected)
    );
    // The artifact exists, nothing is rendered, and its appearance reaches the binding.
    assert!(
        names(&rendered)
            .iter()
            .any(|n| n.starts_with("DeployableArtifact greeter-"))
    );
    assert!(
        !names(&rendered)
            .iter()
            .any(|n| n == "Release greeter-development")
    );
    let targets = affected(&rendered.world, &object(Kind::ConfigurationGroup, "github"));
    assert!(targets.contains(&choreo_engine::Target::object(
        Kind::ServiceBinding,
        "default",
        "greeter-development"
    )));
}

/// Puts a binding's status and its release's into a rendered world, as the server would.
fn released(world: &choreo_engine::World, ready: &Value) -> choreo_engine::World {
    let mut world = world.clone();
    let release = world
        .get_any(&object(Kind::Release, "greeter-development"))
        .unwrap();
    let mut release = release.to_value().unwrap();
    release["metadata"]["generation"] = json!(3);
    release["status"] = json!({"observedGeneration": 3, "conditions": [ready]});
    world.upsert(AnyObject::from_value(&release).unwrap());
    world
}

#[test]
fn readiness_travels_up_from_the_release() {
    let rendered = render(&[GREETER, GITHUB]);
    let binding = |w: &_| ready(w, Kind::ServiceBinding, "greeter-development");
    assert_eq!(
        binding(&rendered.world).1,
        "Release \"greeter-development\" is being applied to the data plane"
    );
    let degraded = json!({"type": "Ready", "status": "False", "reason": "Degraded", "message": "Deployment greeter: pod x: back-off"});
    assert_eq!(
        binding(&released(&rendered.world, &degraded)),
        (
            "Degraded".to_owned(),
            "Deployment greeter: pod x: back-off".to_owned()
        )
    );
    let healthy = json!({"type": "Ready", "status": "True", "reason": "Healthy", "message": "all 9 objects are healthy"});
    let mut world = released(&rendered.world, &healthy);
    assert_eq!(binding(&world).0, "Healthy");

    // The component follows the binding's status, once the binding has stated it.
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-development");
    let status = plan.status.unwrap();
    let mut value = world
        .get_any(&object(Kind::ServiceBinding, "greeter-development"))
        .unwrap()
        .to_value()
        .unwrap();
    assert_eq!(ready(&world, Kind::Component, "greeter").0, "Progressing");
    let mut of_binding = Value::Object(status.fields);
    of_binding["conditions"] = json!(status.conditions);
    value["status"] = of_binding;
    world.upsert(AnyObject::from_value(&value).unwrap());
    assert_eq!(
        ready(&world, Kind::Component, "greeter"),
        ("Ready".to_owned(), "ready in development".to_owned())
    );
    let component = plan_of(&world, Kind::Component, "greeter").status.unwrap();
    assert_eq!(
        component.fields["environments"][0]["urls"],
        json!([
            "https://dev-default.apps.example.com/default/greeter/greeter",
            "https://dev-default.apps.internal/default/greeter/greeter"
        ])
    );
}

#[test]
fn a_failed_render_keeps_what_runs() {
    let rendered = render(&[GREETER, GITHUB]);
    let mut world = rendered.world;
    world.remove(&object(Kind::ConfigurationGroup, "github"));
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-development");
    assert!(plan.children.is_empty() && plan.prune.is_empty());
    let message = plan.status.unwrap().condition("Ready").unwrap().message.clone();
    assert!(
        message.ends_with("; until then the previous release stays as it is"),
        "{message}"
    );
}

fn with(
    world: &choreo_engine::World,
    kind: Kind,
    name: &str,
    change: impl FnOnce(&mut Value),
) -> choreo_engine::World {
    let mut world = world.clone();
    let mut value = world.get_any(&object(kind, name)).unwrap().to_value().unwrap();
    change(&mut value);
    world.upsert(AnyObject::from_value(&value).unwrap());
    world
}

#[test]
fn a_changed_value_rolls_the_pods_of_its_environment() {
    let rendered = render(&[GREETER, GITHUB]);
    let before = resources(&rendered, "greeter-development");
    let world = with(&rendered.world, Kind::ConfigurationGroup, "github", |g| {
        g["spec"]["configurations"][0]["values"][0]["value"] = json!("https://github.com/example/other");
    });
    let after = choreo_engine::offline::render(&world);
    let resources = resources(&after, "greeter-development");
    let hash = |all: &[Value]| {
        resource(all, "Deployment", "greeter")["spec"]["template"]["metadata"]["annotations"]["openchoreo.dev/configuration-hash"].clone()
    };
    assert_ne!(hash(&before), hash(&resources));
    assert!(
        names(&after)
            .iter()
            .any(|n| n == "Deployment greeter-development-2")
    );
}

#[test]
fn revisions_are_numbered_once_per_combination() {
    let rendered = render(&[GREETER, GITHUB]);
    let scaled = with(
        &rendered.world,
        Kind::ServiceBinding,
        "greeter-development",
        |b| {
            b["spec"]["overrides"] = json!({"replicas": 5});
        },
    );
    let scaled = choreo_engine::offline::render(&scaled);
    assert_eq!(
        resource(
            &resources(&scaled, "greeter-development"),
            "Deployment",
            "greeter"
        )["spec"]["replicas"],
        5
    );
    let back = with(&scaled.world, Kind::ServiceBinding, "greeter-development", |b| {
        b["spec"].as_object_mut().unwrap().remove("overrides");
    });
    let plan = plan_of(&back, Kind::ServiceBinding, "greeter-development");
    assert_eq!(plan.status.unwrap().fields["revision"], 1);
    let binding = object(Kind::ServiceBinding, "greeter-development");
    assert_eq!(revision::history(&back, &binding).len(), 2);
    assert_eq!(
        revision::rollback_target(&back, &binding, 2, None)
            .unwrap()
            .spec
            .revision,
        Some(1)
    );
    assert!(revision::rollback_target(&back, &binding, 1, None).is_none());
}

#[test]
fn suspended_means_no_pods_and_undeployed_means_no_release() {
    let rendered = render(&[GREETER, GITHUB]);
    let suspended = with(
        &rendered.world,
        Kind::ServiceBinding,
        "greeter-development",
        |b| {
            b["spec"]["releaseState"] = json!("Suspend");
        },
    );
    let suspended = choreo_engine::offline::render(&suspended);
    assert_eq!(
        resource(
            &resources(&suspended, "greeter-development"),
            "Deployment",
            "greeter"
        )["spec"]["replicas"],
        0
    );

    let mut undeployed = with(
        &rendered.world,
        Kind::ServiceBinding,
        "greeter-development",
        |b| {
            b["spec"]["releaseState"] = json!("Undeploy");
            b["metadata"]["uid"] = json!("u-1");
        },
    );
    let plan = plan_of(&undeployed, Kind::ServiceBinding, "greeter-development");
    assert!(plan.children.is_empty());
    assert!(
        plan.prune.is_empty(),
        "a release that the binding does not own is not its to remove"
    );
    undeployed = with(&undeployed, Kind::Release, "greeter-development", |r| {
        r["metadata"]["ownerReferences"] = json!([{"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
            "name": "greeter-development", "uid": "u-1", "controller": true}]);
    });
    let plan = plan_of(&undeployed, Kind::ServiceBinding, "greeter-development");
    assert_eq!(plan.prune, [object(Kind::Release, "greeter-development")]);
}

#[test]
fn promotion_moves_the_artifact_whatever_has_changed_since() {
    let rendered = render(&[GREETER, GITHUB]);
    let artifact = names(&rendered)
        .iter()
        .find_map(|n| n.strip_prefix("DeployableArtifact ").map(str::to_owned))
        .unwrap();
    let promoted = format!(
        "{{apiVersion: openchoreo.dev/v1alpha1, kind: ServiceBinding, metadata: {{name: greeter-staging}}, spec: {{owner: \
         {{projectName: default, componentName: greeter}}, environment: staging, artifactRef: {artifact}}}}}"
    );
    let mut world = rendered.world;
    add(&mut world, &promoted);
    // The developer and the platform move on; staging does not notice.
    let world = with(&world, Kind::Workload, "greeter", |w| {
        w["spec"]["containers"]["main"]["image"] = json!("greeter:new")
    });
    let world = with(&world, Kind::ServiceClass, "default", |c| {
        c["spec"]["deploymentTemplate"]["replicas"] = json!(9)
    });
    let after = choreo_engine::offline::render(&world);
    let development = resources(&after, "greeter-development");
    let staging = resources(&after, "greeter-staging");
    let of = |all: &[Value]| resource(all, "Deployment", "greeter")["spec"].clone();
    assert_eq!(of(&development)["replicas"], 9);
    assert_eq!(
        of(&development)["template"]["spec"]["containers"][0]["image"],
        "greeter:new"
    );
    assert_eq!(of(&staging)["replicas"], 2);
    assert_eq!(
        of(&staging)["template"]["spec"]["containers"][0]["image"],
        "ghcr.io/openchoreo/samples/greeter-service:latest"
    );
}

#[test]
fn a_component_adopts_its_parts_and_is_adopted_by_its_project() {
    let world = world(&[GREETER]);
    let plan = plan_of(&world, Kind::Component, "greeter");
    let adopted: Vec<String> = plan
        .adopt
        .iter()
        .map(|a| format!("{} -> {}", a.object, a.owner))
        .collect();
    assert_eq!(
        adopted,
        [
            "Component \"greeter\" -> Project \"default\"",
            "Workload \"greeter\" -> Component \"greeter\"",
            "Service \"greeter\" -> Component \"greeter\"",
        ]
    );
}

#[test]
fn what_is_being_deleted_plans_nothing() {
    let rendered = render(&[GREETER, GITHUB]);
    for (kind, name) in [
        (Kind::Component, "greeter"),
        (Kind::ServiceBinding, "greeter-development"),
    ] {
        let world = with(&rendered.world, kind, name, |o| {
            o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        });
        let plan = plan_of(&world, kind, name);
        assert!(plan.children.is_empty() && plan.prune.is_empty() && plan.status.is_none());
    }
    // A project on its way out starts nothing new.
    let world = with(&rendered.world, Kind::Project, "default", |o| {
        o["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    assert!(plan_of(&world, Kind::Component, "greeter").children.is_empty());
}

#[test]
fn a_binding_by_hand_is_left_alone() {
    let by_hand = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: ServiceBinding
metadata: {name: greeter-development}
spec:
  owner: {projectName: default, componentName: greeter}
  environment: development
  className: default
  workloadSpec:
    containers: {main: {image: "by-hand:1"}}
    endpoints: {web: {type: HTTP, port: 80}}
"#;
    // It goes with its component, though.
    let plan = plan_of(&world(&[GREETER, by_hand]), Kind::Component, "greeter");
    assert!(
        plan.adopt
            .iter()
            .any(|a| a.object == object(Kind::ServiceBinding, "greeter-development"))
    );
    let rendered = render(&[GREETER, GITHUB, by_hand]);
    assert_eq!(problems(&rendered), Vec::<String>::new());
    let resources = resources(&rendered, "greeter-development");
    assert_eq!(
        resource(&resources, "Deployment", "greeter")["spec"]["template"]["spec"]["containers"][0]["image"],
        "by-hand:1"
    );
    assert!(!kinds(&resources).contains("HTTPRoute"));
}

#[test]
fn nothing_that_only_a_server_knows_reaches_a_release() {
    let rendered = render(&[GREETER, GITHUB]);
    let mut world = rendered.world.clone();
    for (i, any) in rendered.world.iter().enumerate() {
        let mut value = any.to_value().unwrap();
        value["metadata"]["uid"] = json!(format!("uid-{i}"));
        value["metadata"]["resourceVersion"] = json!(format!("{i}"));
        value["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        value["metadata"]["generation"] = json!(i);
        world.upsert(AnyObject::from_value(&value).unwrap());
    }
    let on_server = choreo_engine::offline::render(&world);
    assert_eq!(
        json!(rendered.objects).to_string(),
        json!(on_server.objects).to_string()
    );
}
