//! What must hold for any input at all. Each function takes arbitrary bytes, tries them, and panics if something does not hold.
//!
//! They are called from two sides: by the targets in `fuzz/` with whatever libFuzzer comes up with, and by the tests below,
//! which make up inputs on a stable toolchain with every run of the tests.

use std::sync::Arc;

use serde_json::Value;

use crate::apply::{self, Manager};
use crate::crd;
use crate::field::FieldPath;
use crate::patch;
use crate::registry::{Registry, ResourceInfo};
use crate::schema::Schema;
use crate::selector::{FieldSelector, LabelSelector};

/// Objects of the kinds whose schemas have every kind of list and map.
fn kind() -> Option<Arc<ResourceInfo>> {
    Registry::builtin().lookup("apps", "v1", "deployments").cloned()
}

/// The documents of an input: JSON texts with zero bytes in between. None if one of them is no JSON object.
fn documents(data: &[u8]) -> Option<Vec<Value>> {
    data.split(|byte| *byte == 0)
        .map(|text| {
            serde_json::from_slice::<Value>(text)
                .ok()
                .filter(Value::is_object)
        })
        .collect()
}

/// Patches of all three kinds applied to a document: document, zero byte, patch.
pub fn patches(data: &[u8]) {
    let Some(at) = data.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (document, patch) = (&data[..at], &data[at + 1..]);
    let Ok(document) = serde_json::from_slice::<Value>(document) else {
        return;
    };
    let _ = patch::json(&document, patch);
    let Ok(patch) = serde_json::from_slice::<Value>(patch) else {
        return;
    };
    let merged = patch::merge(&document, &patch);
    assert_eq!(
        patch::merge(&merged, &patch),
        merged,
        "a merge patch says what is to be"
    );
    if let (Some(kind), true, true) = (kind(), document.is_object(), patch.is_object()) {
        let _ = patch::strategic(&kind.schema(), &document, &patch);
    }
}

/// Configurations that managers apply one after another, by force: documents with zero bytes in between.
pub fn applies(data: &[u8]) {
    let (Some(kind), Some(configs)) = (kind(), documents(data)) else {
        return;
    };
    let mut live: Option<Value> = None;
    for (nth, config) in configs.iter().take(6).enumerate() {
        let name = ["alice", "bob", "carol"][nth % 3];
        let by = |time| Manager {
            name,
            subresource: "",
            time,
        };
        let Ok(applied) = apply::apply(&kind, live.as_ref(), config, &by("2026-01-01T00:00:00Z"), true)
        else {
            continue;
        };
        let again = apply::apply(&kind, Some(&applied), config, &by("2027-01-01T00:00:00Z"), false);
        assert_eq!(
            again.as_ref(),
            Ok(&applied),
            "applying what has just been applied changes nothing"
        );
        live = Some(applied);
    }
    // An update by somebody else must cope with whatever was applied.
    if let Some(live) = live {
        let mut new = live.clone();
        new["spec"] = Value::Null;
        let manager = Manager {
            name: "dave",
            subresource: "",
            time: "2026-01-01T00:00:00Z",
        };
        apply::update(&kind, Some(&live), &mut new, &manager);
    }
}

/// Selectors as they stand in queries.
pub fn selectors(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(selector) = LabelSelector::parse(text) {
        let printed = selector.to_string();
        let read = LabelSelector::parse(&printed);
        assert_eq!(
            read.map(|s| s.to_string()),
            Ok(printed),
            "a selector reads as it is printed"
        );
    }
    let _ = FieldSelector::parse(text);
}

/// A definition and objects of it: the definition's schema, zero byte, objects with zero bytes in between.
pub fn definitions(data: &[u8]) {
    let Some(mut documents) = documents(data) else {
        return;
    };
    let schema = documents.remove(0);
    let mut definition = serde_json::json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    });
    crd::set_defaults(&mut definition);
    if !crd::validate(&definition, None).is_empty() {
        return;
    }
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let Ok(schema) = Schema::from_json(schema) else {
        return;
    };
    let mut old: Option<Value> = None;
    for mut object in documents {
        schema.prune(&mut object);
        assert!(
            schema.unknown_fields(&object).is_empty(),
            "what was pruned knows nothing unknown"
        );
        schema.apply_defaults(&mut object);
        let once = object.clone();
        schema.apply_defaults(&mut object);
        assert_eq!(object, once, "defaults are set once");
        let _ = schema.check(&object, old.as_ref(), &FieldPath::ROOT);
        old = Some(object);
    }
}

#[cfg(test)]
#[path = "../../../fuzz/near_seeds.rs"]
mod near_seeds;

#[cfg(test)]
mod tests {
    use super::near_seeds::near_the_seeds;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    /// Names that mean something to schemas and patches, so that inputs come past the first check.
    fn name() -> impl Strategy<Value = String> {
        prop_oneof![
            8 => prop::sample::select(vec![
                "spec", "template", "metadata", "containers", "name", "image", "ports", "containerPort", "protocol", "env",
                "value", "labels", "selector", "matchLabels", "replicas", "strategy", "rollingUpdate", "volumes", "emptyDir",
                "tolerations", "finalizers", "annotations", "apiVersion", "kind", "managedFields", "$patch", "$retainKeys",
                "$setElementOrder/containers", "$deleteFromPrimitiveList/finalizers",
            ]).prop_map(str::to_owned),
            1 => "[a-z$/~]{0,6}",
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            prop::sample::select(vec![
                "a",
                "b",
                "main",
                "TCP",
                "80",
                "apps/v1",
                "Deployment",
                "delete",
                "replace",
                "merge",
                ""
            ])
            .prop_map(Value::from),
            (-3_i64..100).prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
            any::<f64>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(name(), inner, 0..5)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    /// A document that is nearly a Deployment.
    fn deployment() -> impl Strategy<Value = Value> {
        (value(), value(), value(), value()).prop_map(|(first, second, labels, more)| {
            let mut pod = json!({"containers": [{"name": "main", "image": first}, second]});
            if let (Some(pod), Value::Object(more)) = (pod.as_object_mut(), more) {
                pod.extend(more);
            }
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": labels},
                "spec": {"template": {"spec": pod}},
            })
        })
    }

    /// What somebody may well apply to a Deployment, so that applies get as far as merging. Nothing in it is empty: typed
    /// objects have no empty lists, and nobody would own them.
    fn config() -> impl Strategy<Value = Value> {
        let text = || prop::sample::select(vec!["a", "b", ""]);
        let port = (
            80_u16..83,
            prop::option::of(prop::sample::select(vec!["TCP", "UDP"])),
            prop::option::of(text()),
        );
        let port = port.prop_map(|(number, protocol, name)| {
            let mut port = json!({"containerPort": number});
            if let Some(protocol) = protocol {
                port["protocol"] = protocol.into();
            }
            if let Some(name) = name {
                port["name"] = name.into();
            }
            port
        });
        let unique = |items: Vec<Value>, key: fn(&Value) -> String| {
            let keyed: std::collections::BTreeMap<String, Value> =
                items.into_iter().map(|i| (key(&i), i)).collect();
            keyed.into_values().collect::<Vec<Value>>()
        };
        let container = (
            prop::sample::select(vec!["main", "side", "third"]),
            prop::option::of(text()),
            prop::option::of(prop::collection::vec(port, 1..3)),
            prop::option::of(prop::collection::vec(text(), 1..3)),
        )
            .prop_map(move |(name, image, ports, args)| {
                let mut container = json!({"name": name});
                if let Some(image) = image {
                    container["image"] = image.into();
                }
                if let Some(ports) = ports {
                    let key = |port: &Value| {
                        format!(
                            "{}{}",
                            port["containerPort"],
                            port["protocol"].as_str().unwrap_or("TCP")
                        )
                    };
                    container["ports"] = unique(ports, key).into();
                }
                if let Some(args) = args {
                    container["args"] = args.into();
                }
                container
            });
        let labels = prop::collection::btree_map(text(), text(), 1..3);
        let finalizers = prop::collection::btree_set(prop::sample::select(vec!["x/a", "x/b", "x/c"]), 1..3);
        (
            prop::option::of(labels),
            prop::option::of(finalizers),
            prop::option::of(0_u8..4),
            prop::option::of(prop::collection::vec(container, 1..4)),
        )
            .prop_map(move |(labels, finalizers, replicas, containers)| {
                let mut config =
                    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
                if let Some(labels) = labels {
                    config["metadata"]["labels"] = json!(labels);
                }
                if let Some(finalizers) = finalizers {
                    config["metadata"]["finalizers"] = json!(finalizers);
                }
                if let Some(replicas) = replicas {
                    config["spec"]["replicas"] = replicas.into();
                }
                if let Some(containers) = containers {
                    let key = |container: &Value| container["name"].to_string();
                    config["spec"]["template"]["spec"]["containers"] = unique(containers, key).into();
                }
                config
            })
    }

    /// A schema that is nearly structural.
    fn schema() -> impl Strategy<Value = Value> {
        let type_ = prop::sample::select(vec!["object", "string", "integer", "number", "boolean", "array"]);
        let leaf = (type_, value(), value()).prop_map(|(type_, default, values)| {
            let mut schema = json!({"type": type_});
            if !default.is_null() {
                schema["default"] = default;
            }
            if values.is_array() {
                schema["enum"] = values;
            }
            if type_ == "array" {
                schema["items"] = json!({"type": "string"});
            }
            schema
        });
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                (
                    prop::collection::btree_map(name(), inner.clone(), 0..4),
                    any::<bool>()
                )
                    .prop_map(|(properties, open)| {
                        let mut schema = json!({"type": "object", "properties": properties});
                        if open {
                            schema["x-kubernetes-preserve-unknown-fields"] = true.into();
                        }
                        schema
                    }),
                inner
                    .clone()
                    .prop_map(|values| json!({"type": "object", "additionalProperties": values})),
                inner.prop_map(|items| json!({"type": "array", "maxItems": 5, "items": items})),
            ]
        })
    }

    fn joined(documents: &[Value]) -> Vec<u8> {
        let texts: Vec<String> = documents.iter().map(Value::to_string).collect();
        texts.join("\0").into_bytes()
    }

    #[test]
    fn seeds() {
        near_the_seeds("applies", super::applies);
        near_the_seeds("definitions", super::definitions);
        near_the_seeds("patches", super::patches);
        near_the_seeds("selectors", super::selectors);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_patch_of_any_document(document in prop_oneof![deployment(), value()], patch in prop_oneof![deployment(), value()]) {
            super::patches(&joined(&[document, patch]));
        }

        #[test]
        fn any_json_patch(
            document in value(),
            op in prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test", "other"]),
            (path, from) in ("(/[a-z0-9~-]{0,3}){0,3}", "(/[a-z0-9~-]{0,3}){0,3}"),
            value in value(),
        ) {
            super::patches(&joined(&[document, json!([{"op": op, "path": path, "from": from, "value": value}])]));
        }

        #[test]
        fn any_configurations(configs in prop::collection::vec(deployment(), 1..5)) {
            super::applies(&joined(&configs));
        }

        #[test]
        fn configurations_that_fit(configs in prop::collection::vec(config(), 1..6)) {
            super::applies(&joined(&configs));
        }

        #[test]
        fn patches_that_fit(document in config(), patch in config()) {
            super::patches(&joined(&[document, patch]));
        }

        /// Of managers whose fields have nothing in common it does not matter who comes first.
        #[test]
        fn who_shares_nothing_may_come_in_any_order(first in config(), second in config()) {
            let (mut first, mut second) = (first, second);
            // What one of them may own is a different half of the object each.
            first["spec"] = Value::Null;
            second["metadata"] = json!({"name": "web"});
            let kind = super::kind().unwrap();
            let apply = |live: Option<&Value>, config: &Value, name| {
                let manager = super::Manager { name, subresource: "", time: "2026-01-01T00:00:00Z" };
                super::apply::apply(&kind, live, config, &manager, false).unwrap()
            };
            let one = apply(Some(&apply(None, &first, "alice")), &second, "bob");
            let other = apply(Some(&apply(None, &second, "bob")), &first, "alice");
            prop_assert_eq!(one, other);
        }

        #[test]
        fn any_selector(text in "[a-z!=, ()/.-]{0,24}|[a-z]{1,3} (in|notin) \\([a-z,]{0,6}\\)|[a-z]{1,3}(=|==|!=)[a-z]{0,3}(,[a-z]{1,3})?") {
            super::selectors(text.as_bytes());
        }

        #[test]
        fn any_definition(spec in schema(), objects in prop::collection::vec(value(), 1..3)) {
            let root = json!({"type": "object", "properties": {"spec": spec}});
            let objects = objects.into_iter().map(|spec| {
                json!({"apiVersion": "example.dev/v1", "kind": "Thing", "metadata": {"name": "a"}, "spec": spec})
            });
            let documents: Vec<Value> = std::iter::once(root).chain(objects).collect();
            super::definitions(&joined(&documents));
        }

        #[test]
        fn any_bytes(data in prop::collection::vec(any::<u8>(), 0..64)) {
            super::patches(&data);
            super::applies(&data);
            super::selectors(&data);
            super::definitions(&data);
        }
    }
}
