//! What a binding of a guarded environment runs, whatever is written into it.

use choreo_api::v1alpha1::{Environment, Promotion};
use choreo_engine::promotion::{self, LaneKey, machine};
use choreo_engine::{AnyObject, Kind, World, offline};
use serde_json::{Value, json};

use super::support::*;

const GUARDED: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: DeploymentPipeline
metadata: {name: default}
spec:
  promotionPaths:
    - sourceEnvironmentRef: development
      targetEnvironmentRefs:
        - name: staging
          approvals: {minimum: 1}
          strategy: {type: Canary, steps: [{weight: 10}], testers: {name: x-test, value: 'yes'}}
    - sourceEnvironmentRef: staging
      targetEnvironmentRefs: [{name: production}]
";

fn artifact(world: &World) -> String {
    let all: Vec<_> = world.all::<choreo_api::v1alpha1::DeployableArtifact>().collect();
    let of_greeter = |a: &&&std::sync::Arc<choreo_api::v1alpha1::DeployableArtifact>| {
        a.spec
            .owner
            .as_ref()
            .is_some_and(|o| o.component_name == "greeter")
    };
    all.iter()
        .find(of_greeter)
        .unwrap()
        .metadata
        .name
        .clone()
        .unwrap()
}

fn binding(artifact: &str) -> AnyObject {
    AnyObject::from_value(&json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
        "metadata": {"name": "greeter-staging", "namespace": "default"},
        "spec": {"owner": {"projectName": "default", "componentName": "greeter"}, "environment": "staging",
                 "artifactRef": artifact},
    }))
    .unwrap()
}

fn promotion(artifact: &str, status: &Value) -> AnyObject {
    AnyObject::from_value(&json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
        "metadata": {"name": "p", "namespace": "default", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"owner": {"projectName": "default", "componentName": "greeter"},
                 "sourceEnvironment": "development", "targetEnvironment": "staging", "artifactRef": artifact,
                 "requestedBy": "ann"},
        "status": status,
    }))
    .unwrap()
}

fn guarded() -> (World, String) {
    let mut world = offline::render(&world(&[GITHUB, GREETER])).world;
    add(&mut world, GUARDED);
    let artifact = artifact(&world);
    (world, artifact)
}

fn key() -> LaneKey {
    LaneKey {
        namespace: "default".to_owned(),
        component: "greeter".to_owned(),
        track: "default".to_owned(),
        environment: "staging".to_owned(),
    }
}

#[test]
fn what_was_not_promoted_does_not_run_and_is_a_request() {
    let (mut world, artifact) = guarded();
    world.upsert(binding(&artifact));
    let (reason, message) = ready(&world, Kind::ServiceBinding, "greeter-staging");
    assert_eq!(reason, "AwaitingPromotion", "{message}");
    assert!(
        plan_of(&world, Kind::ServiceBinding, "greeter-staging")
            .children
            .is_empty()
    );
    let wanted = promotion::wanted(&world, &key());
    assert_eq!(wanted.len(), 1);
    assert_eq!(wanted[0].spec.artifact_ref.as_deref(), Some(artifact.as_str()));
    assert!(wanted[0].spec.from_binding);
    // Asked for once, until something is written again.
    let mut refused = serde_json::to_value(&wanted[0]).unwrap();
    refused["status"] = json!({"phase": "Rejected", "artifact": artifact, "order": 1});
    world.upsert(AnyObject::from_value(&refused).unwrap());
    assert_eq!(promotion::wanted(&world, &key()), Vec::<Promotion>::new());
    let mut written = binding(&artifact).to_value().unwrap();
    written["metadata"]["generation"] = json!(3);
    let mut later = world.clone();
    later.upsert(AnyObject::from_value(&written).unwrap());
    let again = promotion::wanted(&later, &key());
    assert_eq!(again.len(), 1);
    assert_ne!(again[0].metadata.name, wanted[0].metadata.name);
    // What a promotion has it say is not asked for by it.
    written["metadata"]["annotations"] = json!({promotion::PROMOTED_BY: wanted[0].metadata.name});
    later.upsert(AnyObject::from_value(&written).unwrap());
    assert_eq!(promotion::wanted(&later, &key()), Vec::<Promotion>::new());
    assert!(
        plan_of(&world, Kind::ServiceBinding, "greeter-staging")
            .children
            .is_empty()
    );
    // Let in, it runs.
    let released = json!({"phase": "Succeeded", "artifact": artifact, "released": true, "order": 2});
    world.upsert(promotion(&artifact, &released));
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-staging");
    assert!(plan.children.iter().any(|child| child.kind() == "Release"));
}

#[test]
fn without_demands_a_binding_runs_what_it_says() {
    let mut world = offline::render(&world(&[GITHUB, GREETER])).world;
    let artifact = artifact(&world);
    world.upsert(binding(&artifact));
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-staging");
    assert!(plan.children.iter().any(|child| child.kind() == "Release"));
    assert_eq!(promotion::wanted(&world, &key()), Vec::<Promotion>::new());
}

#[test]
fn a_canary_is_two_workloads_and_shares_of_every_route() {
    let (mut world, artifact) = guarded();
    world.upsert(binding(&artifact));
    let rolling = json!({
        "phase": "RollingOut", "artifact": artifact, "previousArtifact": artifact, "released": true, "accepted": true,
        "startTime": "2026-01-01T00:00:01Z", "rollout": {"step": 0},
    });
    world.upsert(promotion(&artifact, &rolling));
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-staging");
    let release = plan
        .children
        .iter()
        .find(|child| child.kind() == "Release")
        .unwrap();
    let all: Vec<Value> = release.object["spec"]["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["object"].clone())
        .collect();
    let named = |kind: &str, name: &str| {
        all.iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
            .unwrap_or_else(|| panic!("no {kind} {name}"))
    };
    let (old, new) = (
        named("Deployment", "greeter"),
        named("Deployment", "greeter-canary"),
    );
    named("Service", "greeter-canary");
    assert_eq!(
        new["metadata"]["annotations"][promotion::CANDIDATE],
        json!(artifact)
    );
    // Neither selects the other's pods, and all are of one release.
    let selector = |o: &Value| o["spec"]["selector"]["matchLabels"].clone();
    assert_ne!(selector(old), selector(new));
    let release_of =
        |o: &Value| o["spec"]["template"]["metadata"]["labels"]["openchoreo.dev/release"].clone();
    assert_eq!(release_of(old), release_of(new));
    let route = all.iter().find(|o| o["kind"] == "HTTPRoute").unwrap();
    let rules = route["spec"]["rules"].as_array().unwrap();
    assert_eq!(rules.len(), 2, "{route:#}");
    assert_eq!(rules[0]["matches"][0]["headers"][0]["name"], "x-test");
    assert_eq!(rules[0]["backendRefs"][0]["name"], "greeter-canary");
    let weights: Vec<(&Value, &Value)> = rules[1]["backendRefs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| (&b["name"], &b["weight"]))
        .collect();
    assert_eq!(
        weights,
        [
            (&json!("greeter"), &json!(90)),
            (&json!("greeter-canary"), &json!(10))
        ]
    );
    // Stopped, the old one has everything, though the binding was never touched.
    let stopped = json!({
        "phase": "RolledBack", "reason": "Aborted", "artifact": artifact, "previousArtifact": artifact, "accepted": true,
        "startTime": "2026-01-01T00:00:01Z", "completionTime": "2026-01-01T00:00:02Z",
    });
    world.upsert(promotion(&artifact, &stopped));
    let plan = plan_of(&world, Kind::ServiceBinding, "greeter-staging");
    let text = serde_json::to_string(&plan.children.iter().map(|c| &c.object).collect::<Vec<_>>()).unwrap();
    assert!(!text.contains("greeter-canary"), "{text}");
}

#[test]
fn a_blue_green_rollout_has_an_address_of_its_own_until_it_is_over() {
    let (mut world, artifact) = guarded();
    add(
        &mut world,
        &GUARDED.replace(
            "{type: Canary, steps: [{weight: 10}], testers: {name: x-test, value: 'yes'}}",
            "{type: BlueGreen}",
        ),
    );
    world.upsert(binding(&artifact));
    let rolling = json!({
        "phase": "RollingOut", "artifact": artifact, "previousArtifact": artifact, "released": true, "accepted": true,
        "startTime": "2026-01-01T00:00:01Z", "rollout": {"step": 0},
    });
    world.upsert(promotion(&artifact, &rolling));
    let objects = |world: &World| -> Vec<Value> {
        let plan = plan_of(world, Kind::ServiceBinding, "greeter-staging");
        let release = plan
            .children
            .iter()
            .find(|child| child.kind() == "Release")
            .unwrap();
        let resources = release.object["spec"]["resources"].as_array().unwrap();
        resources.iter().map(|r| r["object"].clone()).collect()
    };
    let all = objects(&world);
    let routes: Vec<(Value, Value)> = all
        .iter()
        .filter(|o| o["kind"] == "HTTPRoute")
        .map(|o| {
            let rule = &o["spec"]["rules"][0];
            (
                rule["matches"][0]["path"]["value"].clone(),
                rule["backendRefs"].clone(),
            )
        })
        .collect();
    let preview: Vec<_> = routes
        .iter()
        .filter(|(path, _)| path.as_str().unwrap().contains("/greeter-canary"))
        .collect();
    let usual: Vec<_> = routes
        .iter()
        .filter(|(path, _)| !path.as_str().unwrap().contains("/greeter-canary"))
        .collect();
    assert!(!preview.is_empty() && preview.len() == usual.len(), "{routes:?}");
    for (_, backends) in &preview {
        assert_eq!(backends.as_array().unwrap().len(), 1);
        assert_eq!(backends[0]["name"], "greeter-canary");
    }
    for (_, backends) in &usual {
        assert_eq!(
            (&backends[0]["weight"], &backends[1]["weight"]),
            (&json!(100), &json!(0))
        );
    }
    // Whatever guards a route guards the one to the preview.
    let guards = |name: &str| {
        all.iter()
            .filter(|o| {
                o.pointer("/spec/targetRefs/0/name")
                    .is_some_and(|n| n.as_str().unwrap().starts_with(name))
            })
            .count()
    };
    assert_eq!(
        guards("greeter-canary-"),
        all.iter()
            .filter(|o| o.pointer("/spec/targetRefs/0/name").is_some())
            .count()
            / 2
    );
    let addresses = promotion::preview_addresses(&world, &key());
    assert!(
        !addresses.is_empty()
            && addresses
                .iter()
                .all(|address| address.contains("/greeter-canary")),
        "{addresses:?}"
    );
    let done = json!({"phase": "Succeeded", "artifact": artifact, "released": true, "order": 1});
    world.upsert(promotion(&artifact, &done));
    assert!(!json!(objects(&world)).to_string().contains("greeter-canary"));
    assert_eq!(promotion::preview_addresses(&world, &key()), Vec::<String>::new());
}

#[test]
fn of_one_second_the_order_in_which_the_server_took_them_counts() {
    let (mut world, artifact) = guarded();
    let named = |name: &str, version: &str, uid: &str| {
        let mut object = promotion(&artifact, &Value::Null).to_value().unwrap();
        object["metadata"]["name"] = json!(name);
        object["metadata"]["resourceVersion"] = json!(version);
        object["metadata"]["uid"] = json!(uid);
        object.as_object_mut().unwrap().remove("status");
        AnyObject::from_value(&object).unwrap()
    };
    // Numbers, not texts; and what others write to it afterwards does not move it.
    world.upsert(named("z", "9", "1"));
    world.upsert(named("a", "10", "2"));
    world.upsert(named("z", "11", "1"));
    let lane = promotion::lane(&world, &key(), &promotion::Reports::new(), 1_767_225_601_000);
    let outcome = machine::step(&lane, 1_767_225_601_000);
    let order = |name: &str| {
        let at = lane.members.iter().position(|m| &*m.request.id == name).unwrap();
        outcome.states[at].order
    };
    assert_eq!((order("z"), order("a")), (1, 2));
    // Made anew it is another one.
    world.upsert(named("z", "12", "3"));
    let place = |name: &str| promotion::place_of(&world, world.get::<Promotion>("default", name).unwrap());
    assert!(place("a") < place("z"));
}

#[test]
fn of_what_one_person_said_within_a_second_the_last_counts() {
    let (mut world, artifact) = guarded();
    world.upsert(promotion(&artifact, &Value::Null));
    let decision = |name: &str, version: &str, what: &str| {
        AnyObject::from_value(&json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionDecision",
            "metadata": {"name": name, "namespace": "default", "resourceVersion": version, "uid": name,
                         "creationTimestamp": "2026-01-01T00:00:01Z"},
            "spec": {"promotionRef": "p", "decision": what, "user": "bob"},
        }))
        .unwrap()
    };
    let said = |world: &World| -> Vec<String> {
        let lane = promotion::lane(world, &key(), &promotion::Reports::new(), 1_767_225_602_000);
        lane.members[0]
            .facts
            .decisions
            .iter()
            .map(|d| d.id.to_string())
            .collect()
    };
    world.upsert(decision("z", "9", "Approved"));
    world.upsert(decision("a", "10", "Withdrawn"));
    assert_eq!(said(&world), ["z", "a"]);
    // After a new start nothing but the record knows, and it does.
    let mut anew = World::new();
    for object in world.iter() {
        anew.upsert(object);
    }
    let recorded = json!({"decisions": [{"name": "z", "user": "bob", "decision": "Approved"}, {"name": "a", "user": "bob", "decision": "Withdrawn"}]});
    anew.upsert(promotion(&artifact, &recorded));
    anew.upsert(decision("z", "99", "Approved"));
    anew.upsert(decision("m", "50", "Approved"));
    assert_eq!(said(&anew), ["z", "a", "m"]);
}

#[test]
fn what_was_said_about_another_promotion_of_the_name_does_not_count_again() {
    let (mut world, artifact) = guarded();
    world.upsert(promotion(&artifact, &Value::Null));
    let decision = |name: &str, time: &str| {
        AnyObject::from_value(&json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionDecision",
            "metadata": {"name": name, "namespace": "default", "uid": name, "creationTimestamp": time},
            "spec": {"promotionRef": "p", "decision": "Approved", "user": "bob"},
        }))
        .unwrap()
    };
    world.upsert(decision("before", "2025-12-31T23:59:59Z"));
    world.upsert(decision("same-second", "2026-01-01T00:00:00Z"));
    let lane = promotion::lane(&world, &key(), &promotion::Reports::new(), 1_767_225_602_000);
    let counted = &lane.members[0].facts.decisions;
    assert_eq!(
        counted.iter().map(|d| &*d.id).collect::<Vec<_>>(),
        ["same-second"]
    );
}

fn member(artifact: &str, name: &str, set: &Value, status: &Value) -> AnyObject {
    let mut object = promotion(artifact, status).to_value().unwrap();
    object["metadata"]["name"] = json!(name);
    object["spec"]["set"] = set.clone();
    AnyObject::from_value(&object).unwrap()
}

#[test]
fn how_a_member_of_a_set_ended_is_needed_until_all_have_ended() {
    let (mut world, artifact) = guarded();
    let member =
        |name: &str, set: &Value, phase: &str| member(&artifact, name, set, &json!({"phase": phase}));
    let set = json!({"name": "s", "members": 2});
    world.upsert(member("alone", &Value::Null, "Succeeded"));
    world.upsert(member("a", &set, "Succeeded"));
    world.upsert(member("b", &set, "RollingOut"));
    let settled = |world: &World, name: &str| {
        let found = world.get::<Promotion>("default", name).unwrap();
        promotion::is_settled(world, found)
    };
    assert!(settled(&world, "alone") && !settled(&world, "a"));
    world.upsert(member("b", &set, "RolledBack"));
    assert!(settled(&world, "a"));
}

#[test]
fn one_more_than_a_set_has_members_is_refused_and_leads_nobody() {
    let (mut world, artifact) = guarded();
    world.upsert(binding(&artifact));
    let set = json!({"name": "s", "members": 2});
    for name in ["c", "b"] {
        world.upsert(member(&artifact, name, &set, &json!({"accepted": true})));
    }
    // It would lead them by its name, and was there in the same second.
    world.upsert(member(&artifact, "a", &set, &json!({})));
    let facts = |world: &World| {
        let lane = promotion::lane(world, &key(), &promotion::Reports::new(), 1_767_225_602_000);
        let of = |name: &str| {
            let found = lane.members.iter().find(|m| &*m.request.id == name).unwrap();
            let rules: Vec<String> = found.facts.refusals.iter().map(|r| r.rule.to_string()).collect();
            (found.facts.set.unwrap(), rules.contains(&"SetFull".to_owned()))
        };
        ["a", "b", "c"].map(of)
    };
    let [(extra, refused), (first, let_in), (second, _)] = facts(&world);
    assert!(refused && extra.broken && !extra.leads && !extra.may_start);
    assert!(!let_in && first.leads && !first.broken);
    assert!(!second.leads && !second.broken);
    // Whoever came first and was let in stays in, whatever is seen first after a restart.
    let mut restarted = World::new();
    for object in world.iter().filter(|o| o.reference().kind != Kind::Promotion) {
        restarted.upsert(object.clone());
    }
    restarted.upsert(member(&artifact, "a", &set, &json!({})));
    for name in ["b", "c"] {
        restarted.upsert(member(&artifact, name, &set, &json!({"accepted": true})));
    }
    let [(extra, _), (first, _), (second, _)] = facts(&restarted);
    assert!(extra.broken && !first.broken && !second.broken);
    // An emergency is let through, and concerns itself alone.
    let mut urgent = restarted;
    urgent.upsert(
        AnyObject::from_value(&json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionBypass",
            "metadata": {"name": "now", "namespace": "default", "uid": "now"},
            "spec": {"promotionRef": "a", "reason": "it burns", "user": "ann"},
        }))
        .unwrap(),
    );
    let lane = promotion::lane(&urgent, &key(), &promotion::Reports::new(), 1_767_225_602_000);
    for found in &lane.members {
        let set = found.facts.set;
        match &*found.request.id {
            "a" => assert_eq!((set, found.facts.bypass.is_some()), (None, true)),
            _ => assert!(!set.unwrap().broken),
        }
    }
    // Another person's set of that name is another one.
    let mut other = member(&artifact, "a", &set, &json!({})).to_value().unwrap();
    other["spec"]["requestedBy"] = json!("bob");
    world.upsert(AnyObject::from_value(&other).unwrap());
    let [(extra, refused), ..] = facts(&world);
    assert!(!refused && !extra.broken && !extra.may_start);
}

#[test]
fn a_skipped_environment_is_refused_by_name() {
    let (world, artifact) = guarded();
    let mut spec = choreo_api::v1alpha1::PromotionSpec {
        source_environment: Some("development".to_owned()),
        target_environment: "production".to_owned(),
        ..Default::default()
    };
    spec.owner.project_name = "default".to_owned();
    spec.owner.component_name = "greeter".to_owned();
    let rules = |spec: &choreo_api::v1alpha1::PromotionSpec| -> Vec<String> {
        promotion::refusals(&world, "default", spec, Some(&artifact))
            .into_iter()
            .map(|refusal| refusal.rule.to_string())
            .collect()
    };
    assert!(
        rules(&spec).contains(&"EnvironmentSkipped".to_owned()),
        "{:?}",
        rules(&spec)
    );
    spec.source_environment = Some("production".to_owned());
    spec.target_environment = "development".to_owned();
    assert!(rules(&spec).contains(&"NoPath".to_owned()), "{:?}", rules(&spec));
    spec.source_environment = Some("development".to_owned());
    spec.target_environment = "staging".to_owned();
    // Offline nothing runs, so nothing is healthy.
    assert_eq!(rules(&spec), ["ArtifactNotHealthy"]);
}

#[test]
fn a_status_says_a_state_without_loss() {
    use machine::{Bypass, Check, Entry, Finding, Phase, Reason, State};
    let state = State {
        order: 3,
        failing: Some(12_000),
        phase: Phase::RollingOut,
        reason: Reason::None,
        accepted: true,
        digest: Some("sha256:a".into()),
        previous: Some("old".into()),
        released: true,
        applied: true,
        complete: true,
        step: 2,
        step_since: 1_000,
        step_ready: Some(2_000),
        started: Some(1_000),
        ended: None,
        bypass: Some(Bypass {
            by: "ann".into(),
            why: "fire".into(),
            at: 3_000,
        }),
        approved_by: vec!["bob".into()],
        checks: vec![Check {
            name: "smoke".into(),
            round: 1,
            attempt: 2,
            started: 4_000,
            finding: Some(Finding::Inconclusive),
            message: "503".into(),
        }],
        log: vec![Entry {
            at: 1_000,
            phase: Phase::RollingOut,
            message: "go".into(),
        }],
    };
    let status = serde_json::to_value(promotion::status(&state, Some(10), None)).unwrap();
    let AnyObject::Promotion(object) = promotion("new", &status) else {
        panic!("no promotion")
    };
    assert_eq!(promotion::restore(&object), state);
}

#[test]
fn freezes_begin_and_end_where_their_time_zone_says() {
    let environment = |freeze: Value| -> Environment {
        serde_json::from_value(json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "e"},
            "spec": {"freezes": [freeze]},
        }))
        .unwrap()
    };
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    // Friday 16:00 in Berlin, which is 15:00 UTC in winter, until Monday 08:00.
    let weekend = environment(json!({
        "name": "weekend", "schedule": "0 16 * * 5", "duration": "64h", "timeZone": "Europe/Berlin",
    }));
    let until = |environment: &Environment, time: &str| {
        promotion::freeze::active(environment, at(time)).map(|f| f.until)
    };
    assert_eq!(until(&weekend, "2026-01-09T14:59:59Z"), None);
    assert_eq!(
        until(&weekend, "2026-01-09T15:00:00Z"),
        Some(Some(at("2026-01-12T07:00:00Z")))
    );
    assert_eq!(
        until(&weekend, "2026-01-12T06:59:59Z"),
        Some(Some(at("2026-01-12T07:00:00Z")))
    );
    assert_eq!(until(&weekend, "2026-01-12T07:00:00Z"), None);
    // In summer it begins an hour earlier in UTC.
    assert_eq!(until(&weekend, "2026-07-10T13:59:59Z"), None);
    assert!(until(&weekend, "2026-07-10T14:00:00Z").is_some());
    let once = environment(json!({"name": "audit", "until": "2026-01-01T00:00:00Z"}));
    assert_eq!(
        until(&once, "2025-12-31T23:59:59Z"),
        Some(Some(at("2026-01-01T00:00:00Z")))
    );
    assert_eq!(until(&once, "2026-01-01T00:00:00Z"), None);
    // A freeze that cannot be understood is on.
    let mistake = environment(json!({
        "name": "m", "schedule": "0 16 * * 5", "duration": "1h", "timeZone": "Nowhere/Land",
    }));
    assert!(until(&mistake, "2026-01-07T00:00:00Z").is_some());
}
