//! Everything that the engine derives passes the definition of its kind: ours, Kubernetes' own and third parties'.

use choreo_api::{conditions, crds, foreign};
use choreo_apimachinery::{crd, field::FieldPath, registry::Registry};
use choreo_engine::{Target, affected, offline::Rendered, plan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::support::*;

pub(crate) fn registry() -> Registry {
    let mut registry = Registry::builtin();
    for definition in crds().iter().chain(&foreign::foreign_crds()) {
        let mut definition = serde_json::to_value(definition).unwrap();
        crd::set_defaults(&mut definition);
        registry.add_crd(crd::rows(&definition).unwrap());
    }
    registry
}

pub(crate) fn check(registry: &Registry, object: &Value, mistakes: &mut Vec<String>) {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind, name) = (text("/apiVersion"), text("/kind"), text("/metadata/name"));
    let Some(info) = registry.by_api_version(&api_version, &kind) else {
        mistakes.push(format!("{api_version} {kind}: no such kind"));
        return;
    };
    let schema = info.schema();
    let mut say = |what: String| mistakes.push(format!("{kind} {name}: {what}"));
    for path in schema.unknown_fields(object) {
        say(format!("unknown field {path}"));
    }
    for error in schema.validate(object, &FieldPath::ROOT) {
        say(format!("{error:?}"));
    }
    for error in schema.validate_cel(object, None, &FieldPath::ROOT) {
        say(format!("{error:?}"));
    }
}

pub(crate) fn check_all(registry: &Registry, rendered: &Rendered, mistakes: &mut Vec<String>) {
    for object in &rendered.objects {
        check(registry, object, mistakes);
        for resource in object["spec"]["resources"].as_array().into_iter().flatten() {
            check(registry, &resource["object"], mistakes);
        }
    }
    // And every status, with the times that the controllers add.
    let now = Time(jiff::Timestamp::UNIX_EPOCH);
    for target in affected::all(&rendered.world) {
        let Target::Object(reference) = &target else {
            continue;
        };
        let Some(status) = plan(&rendered.world, &target).status else {
            continue;
        };
        let mut object = rendered.world.get_any(reference).unwrap().to_value().unwrap();
        let mut fields = Value::Object(status.fields);
        fields["conditions"] = json!(conditions::merge(&[], status.conditions, &now));
        fields["observedGeneration"] = json!(1);
        object["status"] = fields;
        check(registry, &object, mistakes);
    }
}

#[test]
fn everything_derived_is_valid_by_its_definition() {
    let registry = registry();
    let mut mistakes = Vec::new();
    let rich = include_str!("fixtures/rich.yaml");
    let cilium = PLATFORM.replace("networkPolicy: true", "cilium: true\n    mtls: true");
    for yamls in [
        vec![GREETER, GITHUB, STOREFRONT, rich],
        vec![cilium.as_str(), GREETER, GITHUB, rich],
        vec![GREETER],
    ] {
        let rendered = render(&yamls);
        if yamls.len() > 1 {
            assert_eq!(problems(&rendered), Vec::<String>::new());
        }
        check_all(&registry, &rendered, &mut mistakes);
    }
    assert_eq!(mistakes, Vec::<String>::new());
}
