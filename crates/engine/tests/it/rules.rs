//! Rules between objects, as admission asks for them and as the plans report them.

use choreo_engine::rules::{self, Change, refusals};
use choreo_engine::world::Kind;
use choreo_engine::{AnyObject, ObjectRef, Target, World, plan};
use serde_json::json;

use crate::support::{GITHUB, GREETER, add, world};

fn object(kind: &str, name: &str, spec: serde_json::Value) -> AnyObject {
    AnyObject::from_value(&json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    }))
    .unwrap()
}

fn messages(world: &World, change: Change<'_>) -> Vec<String> {
    refusals(world, change)
        .into_iter()
        .map(|refusal| format!("{}: {}", refusal.field, refusal.message))
        .collect()
}

fn pipeline(name: &str, paths: &[(&str, &str)]) -> AnyObject {
    let paths: Vec<_> = paths
        .iter()
        .map(|(from, to)| json!({"sourceEnvironmentRef": from, "targetEnvironmentRefs": [{"name": to}]}))
        .collect();
    object("DeploymentPipeline", name, json!({"promotionPaths": paths}))
}

#[test]
fn a_cycle_is_refused_and_what_was_let_in_stays_writable() {
    let world = world(&[]);
    let cycle = pipeline("p", &[("a", "b"), ("b", "a")]);
    let refused = messages(&world, Change::Create(&cycle));
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("spec.promotionPaths: ") && refused[0].contains("the paths form a cycle"),
        "{refused:?}"
    );
    assert!(messages(&world, Change::Update(&cycle, &cycle)).is_empty());
    let line = pipeline("p", &[("a", "b")]);
    assert!(messages(&world, Change::Update(&cycle, &line)).is_empty());
    assert_eq!(messages(&world, Change::Update(&line, &cycle)).len(), 1);
}

fn binding(environment: &str) -> AnyObject {
    object(
        "ServiceBinding",
        "greeter-x",
        json!({"owner": {"projectName": "default", "componentName": "greeter"}, "environment": environment}),
    )
}

#[test]
fn a_binding_outside_of_the_pipeline_is_refused_by_admission_and_by_its_plan() {
    let mut world = world(&[GITHUB, GREETER]);
    assert!(messages(&world, Change::Create(&binding("development"))).is_empty());
    let elsewhere = binding("elsewhere");
    let refused = messages(&world, Change::Create(&elsewhere));
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].contains("Environment \"elsewhere\" is not in DeploymentPipeline \"default\""),
        "{refused:?}"
    );
    world.upsert(elsewhere);
    let target = Target::object(Kind::ServiceBinding, "default".to_owned(), "greeter-x".to_owned());
    let said = plan(&world, &target).problems.message();
    assert!(
        said.contains("is not in DeploymentPipeline \"default\""),
        "{said}"
    );
    // A pipeline that is not there yet says nothing.
    world.remove(&ObjectRef::new(Kind::DeploymentPipeline, "default", "default"));
    assert!(messages(&world, Change::Create(&binding("elsewhere"))).is_empty());
}

#[test]
fn two_environments_of_a_data_plane_do_not_share_a_host() {
    let mut world = world(&[]);
    let qa = |prefix: &str, plane: &str| {
        object(
            "Environment",
            "qa",
            json!({"dataPlaneRef": plane, "gateway": {"dnsPrefix": prefix}}),
        )
    };
    add(
        &mut world,
        "{apiVersion: openchoreo.dev/v1alpha1, kind: Environment, metadata: {name: first}, spec: {dataPlaneRef: default, gateway: {dnsPrefix: shared}}}",
    );
    let refused = messages(&world, Change::Create(&qa("shared", "default")));
    assert_eq!(
        refused,
        [
            "spec.gateway.dnsPrefix: \"shared\" leads to Environment \"first\" of the same data plane already: choose another prefix"
        ]
    );
    assert!(messages(&world, Change::Create(&qa("shared", "other"))).is_empty());
    assert!(messages(&world, Change::Create(&qa("own", "default"))).is_empty());
    world.upsert(qa("shared", "default"));
    for name in ["qa", "first"] {
        let target = Target::object(Kind::Environment, "default".to_owned(), name.to_owned());
        let said = plan(&world, &target).problems.message();
        assert!(said.contains("\"shared\" leads to Environment"), "{said}");
    }
}

#[test]
fn what_is_in_use_is_not_deleted_unless_forced() {
    let mut world = world(&[GITHUB, GREETER]);
    let get = |world: &World, kind: Kind, name: &str| {
        world.get_any(&ObjectRef::new(kind, "default", name)).unwrap()
    };
    for (kind, name, user) in [
        (Kind::DataPlane, "default", "Environment \"development\""),
        (Kind::Environment, "development", "DeploymentPipeline \"default\""),
        (Kind::DeploymentPipeline, "default", "Project \"default\""),
        (Kind::ServiceClass, "default", "Service \"greeter\""),
    ] {
        let object = get(&world, kind, name);
        let refused = messages(&world, Change::Delete(&object));
        assert!(
            refused.len() == 1 && refused[0].contains(user),
            "{kind:?}: {refused:?}"
        );
        let mut value = object.to_value().unwrap();
        value["metadata"]["annotations"] = json!({"openchoreo.dev/force-delete": "true"});
        let forced = AnyObject::from_value(&value).unwrap();
        assert!(messages(&world, Change::Delete(&forced)).is_empty(), "{kind:?}");
    }
    // Developers' things may go at any time.
    let component = get(&world, Kind::Component, "greeter");
    assert!(messages(&world, Change::Delete(&component)).is_empty());
    // Who is on its way out uses nothing.
    world.remove(&ObjectRef::new(Kind::Service, "default", "greeter"));
    let class = get(&world, Kind::ServiceClass, "default");
    assert!(messages(&world, Change::Delete(&class)).is_empty());
}

#[test]
fn a_set_that_has_all_its_members_takes_no_more() {
    let mut world = world(&[]);
    let promotion = |name: &str, set: Option<&str>| {
        let mut spec = json!({
            "owner": {"projectName": "default", "componentName": "greeter"},
            "sourceEnvironment": "development", "targetEnvironment": "staging",
        });
        if let Some(set) = set {
            spec["set"] = json!({"name": set, "members": 1});
        }
        object("Promotion", name, spec)
    };
    let first = promotion("a", Some("s"));
    assert!(messages(&world, Change::Create(&first)).is_empty());
    world.upsert(first.clone());
    let refused = messages(&world, Change::Create(&promotion("b", Some("s"))));
    let expected =
        r#"spec.set: SetFull: set "s" has all its 1 members already: "a"; give the set another name"#;
    assert_eq!(refused, [expected]);
    for other in [promotion("b", Some("t")), promotion("b", None)] {
        assert!(messages(&world, Change::Create(&other)).is_empty());
    }
    // The others are read for those of a set only.
    let reads = |object: &AnyObject| {
        let all = rules::reads(Kind::Promotion, false).unwrap();
        rules::reads_for(Change::Create(object), all).any(|kind| kind == Kind::Promotion)
    };
    assert!(reads(&first) && !reads(&promotion("b", None)));
}

#[test]
fn a_promotion_that_the_pipeline_does_not_lead_to_is_refused_unless_somebody_goes_past_it() {
    let mut world = world(&[]);
    world.upsert(pipeline(
        "default",
        &[("development", "staging"), ("staging", "production")],
    ));
    let promotion = |from: &str, to: &str| {
        let owner = json!({"projectName": "default", "componentName": "greeter"});
        object(
            "Promotion",
            "p",
            json!({"owner": owner, "sourceEnvironment": from, "targetEnvironment": to}),
        )
    };
    assert_eq!(
        messages(&world, Change::Create(&promotion("development", "staging"))),
        [] as [String; 0]
    );
    let refused = messages(&world, Change::Create(&promotion("development", "production")));
    assert_eq!(refused.len(), 1);
    assert!(
        refused[0].starts_with("spec.targetEnvironment: EnvironmentSkipped: ")
            && refused[0].contains("\"staging\""),
        "{refused:?}"
    );
    let refused = messages(&world, Change::Create(&promotion("staging", "development")));
    assert!(refused[0].contains("NoPath"), "{refused:?}");
    world.upsert(object(
        "PromotionBypass",
        "b",
        json!({"promotionRef": "p", "reason": "it burns", "user": "ann"}),
    ));
    assert_eq!(
        messages(&world, Change::Create(&promotion("development", "production"))),
        [] as [String; 0]
    );
    // Without a pipeline nothing can be said yet.
    assert_eq!(
        messages(&World::new(), Change::Create(&promotion("a", "b"))),
        [] as [String; 0]
    );
}
