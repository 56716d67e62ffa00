//! Server-side apply: recorded results of the reference implementation, the documented behaviour, and properties.

use std::sync::Arc;

use choreo_apimachinery::{
    apply::{self, Manager},
    registry::{LazySchema, Registry, ResourceInfo},
    schema::Schema,
    status::ApiError,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn builtin(group: &str, plural: &str) -> ResourceInfo {
    (**Registry::builtin().lookup(group, "v1", plural).unwrap()).clone()
}

/// A kind with a list and a map of each sort.
fn every_sort() -> ResourceInfo {
    let item = json!({"type": "object", "properties": {
        "name": {"type": "string"},
        "value": {"type": "number"},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
    }});
    let items = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item});
    let schema = json!({"type": "object", "properties": {
        "num": {"type": "number"},
        "str": {"type": "string"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        "amap": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
        "alist": {"type": "array", "items": {"type": "string"}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "items": items,
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "properties": {
                "port": {"type": "number"},
                "protocol": {"type": "string", "default": "TCP"},
                "name": {"type": "string"},
            }}},
        "sub": {"type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}, "items": items}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    ResourceInfo {
        kind: "Sorts".into(),
        is_crd: true,
        schema: LazySchema::from(Arc::new(Schema::from_json(&schema).unwrap())),
        ..builtin("", "configmaps")
    }
}

const THEN: &str = "2026-01-01T00:00:00Z";
const NOW: &str = "2026-01-01T00:05:00Z";

fn by<'a>(name: &'a str, time: &'a str) -> Manager<'a> {
    Manager {
        name,
        subresource: "",
        time,
    }
}

fn managed(object: &Value) -> Map<String, Value> {
    object["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            (
                entry["manager"].as_str().unwrap().to_owned(),
                entry["fieldsV1"].clone(),
            )
        })
        .collect()
}

fn content(object: &Value) -> Value {
    let mut object = object.clone();
    for key in ["metadata", "apiVersion", "kind"] {
        object.as_object_mut().unwrap().remove(key);
    }
    object
}

fn typed(info: &ResourceInfo, fields: &Value) -> Value {
    let mut object = json!({"apiVersion": info.api_version(), "kind": info.kind});
    object
        .as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    object
}

/// Sequences of applies and updates with what structured-merge-diff (v6) made of them.
#[test]
fn sequences_agree_with_the_reference_implementation() {
    let info = every_sort();
    for (line, steps) in include_str!("data/apply.jsonl").lines().enumerate() {
        let steps: Vec<Value> = serde_json::from_str(steps).unwrap();
        let mut live: Option<Value> = None;
        for (number, step) in steps.iter().enumerate() {
            let at = format!("sequence {line}, step {number}: {step}");
            let manager = by(step["manager"].as_str().unwrap(), NOW);
            let mut object = typed(&info, &step["object"]);
            if step["op"] == "update" {
                apply::update(&info, live.as_ref(), &mut object, &manager);
            } else {
                match apply::apply(&info, live.as_ref(), &object, &manager, step["force"] == true) {
                    Ok(applied) => object = applied,
                    Err(error) => {
                        assert_eq!(error.code, 409, "{at}");
                        assert_eq!(conflicts(&error), step["conflicts"], "{at}");
                        continue;
                    }
                }
            }
            assert_eq!(content(&object), step["result"], "{at}");
            assert_eq!(Value::Object(managed(&object)), step["managers"], "{at}");
            live = Some(object);
        }
    }
}

/// `manager.path`, sorted.
fn conflicts(error: &ApiError) -> Value {
    let causes = &error.details.as_ref().unwrap().causes;
    let mut all: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}{}", cause.message.split('"').nth(1).unwrap(), cause.field))
        .collect();
    all.sort();
    all.into()
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx:1", "ports": [{"containerPort": 80}]}]},
            },
        },
    })
}

#[test]
fn fields_of_an_update_are_those_that_a_cluster_shows() {
    let mut created = deployment();
    apply::update(
        &builtin("apps", "deployments"),
        None,
        &mut created,
        &by("kubectl-create", THEN),
    );
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{
            "manager": "kubectl-create",
            "operation": "Update",
            "apiVersion": "apps/v1",
            "time": THEN,
            "fieldsType": "FieldsV1",
            "fieldsV1": {
                "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                "f:spec": {
                    "f:replicas": {},
                    "f:selector": {},
                    "f:template": {
                        "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
                        "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
                            ".": {},
                            "f:image": {},
                            "f:name": {},
                            "f:ports": {".": {}, "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                        }}},
                    },
                },
            },
        }])
    );
}

#[test]
fn conflicts_are_worded_as_by_kubernetes() {
    let info = builtin("apps", "deployments");
    let mut live = deployment();
    apply::update(&info, None, &mut live, &by("kubectl-create", THEN));
    let mut config = deployment();
    config["spec"]["replicas"] = 3.into();
    let one = apply::apply(&info, Some(&live), &config, &by("ci", NOW), false).unwrap_err();
    assert_eq!(one.code, 409);
    assert_eq!(
        one.message,
        "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: .spec.replicas"
    );
    config["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2".into();
    let two = apply::apply(&info, Some(&live), &config, &by("ci", NOW), false).unwrap_err();
    assert_eq!(
        two.message,
        "Apply failed with 2 conflicts: conflicts with \"kubectl-create\" using apps/v1:\n- .spec.replicas\n- \
         .spec.template.spec.containers[name=\"web\"].image"
    );
    let forced = apply::apply(&info, Some(&live), &config, &by("ci", NOW), true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 3);
    assert!(
        managed(&forced)["kubectl-create"]["f:spec"]
            .get("f:replicas")
            .is_none()
    );
}

#[test]
fn what_the_applier_omits_goes_unless_somebody_else_has_it() {
    let info = builtin("apps", "deployments");
    let first = apply::apply(&info, None, &deployment(), &by("ci", THEN), false).unwrap();
    let mut labels_only = deployment();
    labels_only.as_object_mut().unwrap().remove("spec");
    labels_only["spec"] = json!({"replicas": 2});
    let shared = apply::apply(&info, Some(&first), &labels_only, &by("scaler", THEN), false).unwrap();

    let mut without = deployment();
    without["spec"].as_object_mut().unwrap().remove("replicas");
    without["metadata"].as_object_mut().unwrap().remove("labels");
    let second = apply::apply(&info, Some(&shared), &without, &by("ci", NOW), false).unwrap();
    assert_eq!(second["spec"]["replicas"], 2, "the scaler applies it, too");
    assert_eq!(
        second["metadata"]["labels"],
        json!({"app": "web"}),
        "so does it the label"
    );
    let alone = apply::apply(&info, Some(&first), &without, &by("ci", NOW), false).unwrap();
    assert!(alone["spec"].get("replicas").is_none());
    assert!(alone["metadata"].get("labels").is_none());
}

#[test]
fn an_apply_that_changes_nothing_changes_no_byte() {
    let info = builtin("apps", "deployments");
    let first = apply::apply(&info, None, &deployment(), &by("ci", THEN), false).unwrap();
    let again = apply::apply(&info, Some(&first), &deployment(), &by("ci", NOW), false).unwrap();
    assert_eq!(again, first);
    let mut same = first.clone();
    apply::update(&info, Some(&first), &mut same, &by("someone", NOW));
    assert_eq!(same, first);
}

#[test]
fn what_was_there_before_the_first_apply_is_kept() {
    let info = builtin("apps", "deployments");
    let mut untracked = deployment();
    untracked["metadata"]["uid"] = "1".into();
    let applied = apply::apply(
        &info,
        Some(&untracked),
        &json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"paused": true}}),
        &by("ci", NOW),
        false,
    )
    .unwrap();
    assert_eq!(applied["spec"]["replicas"], 2);
    assert!(managed(&applied).contains_key("before-first-apply"));
}

#[test]
fn kubectl_takes_over_what_it_applied_on_the_client_side() {
    let info = builtin("", "configmaps");
    let config = |value: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": value}});
    let mut live = config("1");
    live["metadata"]["annotations"] =
        json!({"kubectl.kubernetes.io/last-applied-configuration": config("1").to_string()});
    apply::update(&info, None, &mut live, &by("kubectl-client-side-apply", THEN));
    assert_eq!(
        apply::apply(&info, Some(&live), &config("2"), &by("other", NOW), false)
            .unwrap_err()
            .code,
        409
    );
    let taken = apply::apply(&info, Some(&live), &config("2"), &by("kubectl", NOW), false).unwrap();
    assert_eq!(taken["data"]["a"], "2");
    let annotation = &taken["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
    let last: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
    assert_eq!(last["data"]["a"], "2");
}

#[test]
fn an_empty_entry_resets_the_managers() {
    let info = builtin("", "configmaps");
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let live = apply::apply(&info, None, &config, &by("ci", THEN), false).unwrap();
    for reset in [json!([]), json!([{}])] {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = reset;
        apply::update(&info, Some(&live), &mut new, &by("kubectl", NOW));
        assert!(new["metadata"].get("managedFields").is_none());
    }
    let mut forgetful = live.clone();
    forgetful["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    apply::update(&info, Some(&live), &mut forgetful, &by("kubectl", NOW));
    assert_eq!(forgetful, live);
}

#[test]
fn status_has_managers_of_its_own() {
    let info = builtin("apps", "deployments");
    let live = apply::apply(&info, None, &deployment(), &by("ci", THEN), false).unwrap();
    let mut new = live.clone();
    new["status"] = json!({"replicas": 2});
    let controller = Manager {
        name: "controller",
        subresource: "status",
        time: NOW,
    };
    apply::update(&info, Some(&live), &mut new, &controller);
    let entries = new["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(entries[1]["fieldsV1"], json!({"f:status": {"f:replicas": {}}}));
    // Through the main resource status is nobody's.
    let mut config = deployment();
    config["status"] = json!({"replicas": 7});
    let applied = apply::apply(&info, Some(&new), &config, &by("ci", NOW), false).unwrap();
    assert!(managed(&applied)["ci"].get("f:status").is_none());
}

#[test]
fn only_the_latest_updates_are_kept_apart() {
    let info = builtin("", "configmaps");
    let mut live: Option<Value> = None;
    for number in 0..14 {
        let mut new = live.clone().unwrap_or_else(
            || json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}),
        );
        new["data"][format!("k{number}")] = "v".into();
        let (name, time) = (format!("m{number}"), format!("2026-01-01T00:{number:02}:00Z"));
        apply::update(&info, live.as_ref(), &mut new, &by(&name, &time));
        live = Some(new);
    }
    let managers = managed(&live.unwrap());
    assert_eq!(managers.len(), 10);
    assert_eq!(
        managers["ancient-changes"]["f:data"],
        json!({".": {}, "f:k0": {}, "f:k1": {}, "f:k2": {}, "f:k3": {}, "f:k4": {}})
    );
}

#[test]
fn configurations_that_do_not_fit_are_refused() {
    let info = builtin("apps", "deployments");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut config = deployment();
        change(&mut config);
        apply::apply(&info, None, &config, &by("ci", NOW), false).unwrap_err()
    };
    let unknown = refused(&|c| c["spec"]["replica"] = 1.into());
    assert_eq!(
        (unknown.code, unknown.message.as_str()),
        (
            500,
            "failed to create typed patch object (shop/web; apps/v1, Kind=Deployment): .spec.replica: field not declared in \
             schema"
        )
    );
    // In a list that is replaced as a whole, too.
    let inside = refused(&|c| {
        c["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "a"}, {"keys": "b"}]);
    });
    assert!(
        inside
            .message
            .ends_with(": .spec.template.spec.tolerations[1].keys: field not declared in schema"),
        "{}",
        inside.message
    );
    let twice = refused(&|c| {
        let container = c["spec"]["template"]["spec"]["containers"][0].clone();
        c["spec"]["template"]["spec"]["containers"]
            .as_array_mut()
            .unwrap()
            .push(container);
    });
    assert!(
        twice
            .message
            .ends_with(".spec.template.spec.containers: duplicate entries for key [name=\"web\"]")
    );
    let kind = refused(&|c| c["kind"] = "DaemonSet".into());
    assert_eq!(
        (kind.code, kind.message.as_str()),
        (400, "invalid object type: apps/v1, Kind=DaemonSet")
    );
    let managed = refused(&|c| c["metadata"]["managedFields"] = json!([]));
    assert_eq!(
        (managed.code, managed.message.as_str()),
        (400, "metadata.managedFields must be nil")
    );
}

/// An apply of a large keyed list takes time in proportion to its length: ten times the elements, not a hundred times.
#[test]
fn large_lists_are_merged() {
    let info = every_sort();
    let config = |from: usize| {
        let items: Vec<Value> = (from..from + 5000)
            .map(|i| json!({"name": format!("n{i}")}))
            .collect();
        typed(&info, &json!({"items": items}))
    };
    let live = apply::apply(&info, None, &config(0), &by("a", THEN), false).unwrap();
    let merged = apply::apply(&info, Some(&live), &config(2500), &by("b", NOW), false).unwrap();
    assert_eq!(merged["items"].as_array().unwrap().len(), 7500);
}

fn any_content() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let items = prop::collection::btree_map(name.clone(), prop::option::of(0..3), 0..3).prop_map(|items| {
        let items = items.into_iter().map(|(name, value)| match value {
            Some(value) => json!({"name": name, "value": value}),
            None => json!({"name": name}),
        });
        items.collect::<Value>()
    });
    let labels = prop::collection::btree_map(name.clone(), "[xy]", 0..3).prop_map(|m| json!(m));
    let set = prop::collection::btree_set(name, 0..3).prop_map(|s| json!(s));
    let field = |key: &'static str, value: BoxedStrategy<Value>| {
        prop::option::of(value).prop_map(move |v| v.map(|v| (key.to_owned(), v)))
    };
    (
        field("num", (0..3).prop_map(Value::from).boxed()),
        field("labels", labels.clone().boxed()),
        field("amap", labels.clone().boxed()),
        field("set", set.clone().boxed()),
        field("alist", set.boxed()),
        field("items", items.boxed()),
        field("free", labels.boxed()),
    )
        .prop_map(|(a, b, c, d, e, f, g)| {
            Value::Object([a, b, c, d, e, f, g].into_iter().flatten().collect())
        })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(live in any_content(), config in any_content()) {
        let info = every_sort();
        let live = apply::apply(&info, None, &typed(&info, &live), &by("a", THEN), false).unwrap();
        let once = apply::apply(&info, Some(&live), &typed(&info, &config), &by("b", THEN), true).unwrap();
        let twice = apply::apply(&info, Some(&once), &typed(&info, &config), &by("b", NOW), false).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn appliers_of_different_fields_commute(left in any_content(), right in any_content()) {
        let info = every_sort();
        let mut right = right;
        for key in left.as_object().unwrap().keys() {
            right.as_object_mut().unwrap().remove(key);
        }
        let (mut left, mut right) = (left, right);
        left["str"] = "x".into();
        right["sub"] = json!({"a": 1});
        let run = |order: [(&str, &Value); 2]| {
            let mut live: Option<Value> = None;
            for (name, config) in order {
                live = Some(apply::apply(&info, live.as_ref(), &typed(&info, config), &by(name, THEN), false).unwrap());
            }
            live.unwrap()
        };
        prop_assert_eq!(run([("l", &left), ("r", &right)]), run([("r", &right), ("l", &left)]));
    }

    #[test]
    fn who_applies_nothing_leaves_no_trace(live in any_content(), config in any_content()) {
        let info = every_sort();
        let live = apply::apply(&info, None, &typed(&info, &live), &by("a", THEN), false).unwrap();
        if let Ok(both) = apply::apply(&info, Some(&live), &typed(&info, &config), &by("b", NOW), false) {
            let gone = apply::apply(&info, Some(&both), &typed(&info, &json!({})), &by("b", NOW), false).unwrap();
            prop_assert!(!managed(&gone).contains_key("b"));
            prop_assert_eq!(managed(&gone).get("a").cloned(), managed(&live).get("a").cloned());
        }
    }

    #[test]
    fn nothing_panics(live in any_content(), config in any_content(), fields in "\\PC{0,12}") {
        let info = every_sort();
        let mut live = typed(&info, &live);
        live["metadata"] = json!({"managedFields": [{
            "manager": "x", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {fields: {}, "f:items": {"k:{\"name\":1}": {".": {}}, "v:1": {}}},
        }]});
        let _ = apply::apply(&info, Some(&live), &typed(&info, &config), &by("b", NOW), false);
        let mut new = typed(&info, &config);
        apply::update(&info, Some(&live), &mut new, &by("b", NOW));
    }
}

/// What an apply through `status` comes to without a look at the rest of the object.
#[test]
fn an_apply_to_the_status_is_the_same_without_the_rest() {
    let condition =
        |type_: &str, status: &str| json!({"type": type_, "status": status, "reason": "R", "message": "m"});
    let configs = [
        json!({"replicas": 2, "conditions": [condition("Available", "True"), condition("Progressing", "False")]}),
        json!({"replicas": 3, "conditions": [condition("Available", "True")]}),
        json!({"conditions": [condition("Available", "False")]}),
        json!({}),
        json!(null),
    ];
    let kinds = [builtin("apps", "deployments"), {
        let info = builtin("apps", "deployments");
        ResourceInfo { is_crd: true, ..info }
    }];
    let through = |name, time| Manager {
        subresource: "status",
        ..by(name, time)
    };
    let (mut applied, mut refused) = (0, 0);
    for info in &kinds {
        let mut live = apply::apply(info, None, &deployment(), &by("owner", THEN), false).unwrap();
        let mut edited = live.clone();
        edited["spec"]["paused"] = true.into();
        apply::update(info, Some(&live), &mut edited, &by("kubectl-edit", THEN));
        live = edited;
        // Every order of two appliers and an updater, with and without force.
        for round in 0..configs.len().pow(3) {
            let pick = |place: u32| &configs[round / configs.len().pow(place) % configs.len()];
            let mut object = live.clone();
            for (step, name) in ["a", "b", "a"].into_iter().enumerate() {
                let mut config =
                    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
                config["status"] = pick(u32::try_from(step).unwrap()).clone();
                if round % 7 == 0 {
                    // Reset by the strategy, but said.
                    config["spec"] = json!({"replicas": 9, "paused": false});
                    config["metadata"]["labels"] = json!({"by": name});
                }
                if name == "b" && round % 3 == 0 {
                    let mut updated = object.clone();
                    updated["status"] = config["status"].clone();
                    apply::update(info, Some(&object), &mut updated, &through("updater", THEN));
                    object = updated;
                    continue;
                }
                let manager = through(name, NOW);
                let whole = apply::apply(info, Some(&object), &config, &manager, round % 2 == 0);
                let part = apply::apply_status(info, &object, &config, &manager, round % 2 == 0);
                match (whole, part) {
                    (Ok(whole), Ok(part)) => {
                        for field in ["apiVersion", "kind", "metadata", "status"] {
                            assert_eq!(
                                part.get(field),
                                whole.get(field),
                                "{field} of {config} over {object}"
                            );
                        }
                        assert_eq!(part.get("spec").is_some(), config.get("spec").is_some());
                        object = whole;
                        applied += 1;
                    }
                    (Err(whole), Err(part)) => {
                        assert_eq!(part.message, whole.message);
                        refused += 1;
                    }
                    (whole, part) => panic!("{whole:?} and {part:?} for {config} over {object}"),
                }
            }
        }
    }
    assert!(
        applied > 300 && refused > 20,
        "{applied} applied, {refused} refused"
    );
    // Who had it before anybody was tracked, has all of it.
    let mut config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    config["status"] = configs[0].clone();
    let manager = through("a", NOW);
    assert_eq!(
        apply::apply_status(&kinds[0], &deployment(), &config, &manager, false).unwrap(),
        apply::apply(&kinds[0], Some(&deployment()), &config, &manager, false).unwrap()
    );
}
