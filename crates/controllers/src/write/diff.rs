//! Would a server-side apply change anything?
//!
//! An apply that changes nothing still costs a request, and with thousands of objects at every start these are the
//! platform's whole load. The answer can be read off the live object: its managed fields say what we applied last.
//! Nothing has to be written if
//!
//! - every field that we want is there with the value that we want (fields that others added do not matter), and
//! - every field that we applied before is still wanted (else it must be removed).
//!
//! Of some objects only metadata are known. They tell as much, if a hash of what we applied is among them: whoever changes a field
//! of ours takes it over, so that as long as all of them are ours they have the values that we gave them.

use std::borrow::Cow;

use choreo_api::annotations::CONTENT;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::core::DynamicObject;
use serde_json::{Map, Value};

use crate::runtime::cache::owned_fields;

/// The fields that `manager` applied (not: updated) to an object, in the form of `fieldsV1`.
fn applied_fields<'a>(live: &'a ObjectMeta, manager: &str, subresource: &str) -> Option<Cow<'a, Value>> {
    let ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(manager)
            && entry.operation.as_deref() == Some("Apply")
            && entry.subresource.as_deref().unwrap_or_default() == subresource
    };
    live.managed_fields
        .as_ref()?
        .iter()
        .find(ours)?
        .fields_v1
        .as_ref()
        .map(|fields| owned_fields(&fields.0))
}

/// True if applying `desired` as `manager` to `live` would change it. `subresource` is empty or `status`.
pub fn needs_apply(desired: &Value, live: &DynamicObject, manager: &str, subresource: &str) -> bool {
    let Some(owned) = applied_fields(&live.metadata, manager, subresource) else {
        return true;
    };
    let owned = &*owned;
    let Some(wanted) = desired.as_object() else {
        return true;
    };
    let holds_all = wanted.iter().all(|(name, wanted)| {
        let owned = owned.get(format!("f:{name}"));
        match name.as_str() {
            "apiVersion" | "kind" => true,
            "metadata" => metadata_holds(wanted, &live.metadata, owned),
            _ => match live.data.get(name) {
                Some(live) => holds(wanted, live, owned),
                None => is_nothing(wanted),
            },
        }
    });
    !holds_all || !still_wanted(owned, Some(desired))
}

/// True if metadata alone show that applying `desired` as `manager` would change nothing. `desired` carries the hash of its
/// content in an annotation; without that nothing is known.
pub fn is_known_unchanged(desired: &Value, outline: &ObjectMeta, manager: &str) -> bool {
    let annotation = |annotations: Option<&Value>| Some(annotations?.get(CONTENT)?.as_str()?.to_owned());
    if annotation(desired.pointer("/metadata/annotations")).is_none() {
        return false;
    }
    let Some(owned) = applied_fields(outline, manager, "") else {
        return false;
    };
    let Some(wanted) = desired.as_object() else {
        return false;
    };
    let holds_all = wanted.iter().all(|(name, wanted)| {
        let owned = owned.get(format!("f:{name}"));
        match name.as_str() {
            "apiVersion" | "kind" => true,
            "metadata" => metadata_holds(wanted, outline, owned),
            _ => is_owned(wanted, owned),
        }
    });
    holds_all && still_wanted(&owned, Some(desired))
}

/// Whether fields that are ours say something else than `desired`. Whoever changes a field takes it over, so that this is the word of
/// another instance of ours, or of this one in an earlier life. Of an outline only metadata can tell.
pub fn says_otherwise(desired: &Value, live: &DynamicObject, is_outline: bool, manager: &str) -> bool {
    let Some(owned) = applied_fields(&live.metadata, manager, "") else {
        return false;
    };
    let Ok(metadata) = serde_json::to_value(&live.metadata) else {
        return false;
    };
    owned.as_object().into_iter().flatten().any(|(name, owned)| {
        let Some(field) = name.strip_prefix("f:") else {
            return false;
        };
        match field {
            "metadata" => differs(owned, desired.get(field), Some(&metadata)),
            _ if is_outline => false,
            _ => differs(owned, desired.get(field), live.data.get(field)),
        }
    })
}

/// A field that is ours differs from what is wanted.
fn differs(owned: &Value, wanted: Option<&Value>, live: Option<&Value>) -> bool {
    let parts = owned.as_object().filter(|owned| !owned.is_empty());
    let Some(parts) = parts else {
        return match (wanted, live) {
            (Some(wanted), Some(live)) => !holds(wanted, live, None),
            (Some(wanted), None) => !is_nothing(wanted),
            (None, live) => live.is_some_and(|live| !is_nothing(live)),
        };
    };
    let item = |list: Option<&Value>, keys: &Map<String, Value>| {
        let items = list.and_then(Value::as_array).into_iter().flatten();
        items.into_iter().find(|item| has_keys(item, keys)).cloned()
    };
    parts.iter().any(|(name, owned)| {
        if let Some(field) = name.strip_prefix("f:") {
            let of = |value: Option<&Value>| value.and_then(|value| value.get(field)).cloned();
            return differs(owned, of(wanted).as_ref(), of(live).as_ref());
        }
        if let Some(keys) = item_keys(name) {
            return differs(owned, item(wanted, &keys).as_ref(), item(live, &keys).as_ref());
        }
        if let Some(value) = name
            .strip_prefix("v:")
            .and_then(|value| serde_json::from_str(value).ok())
        {
            let value: Value = value;
            let has = |list: Option<&Value>| {
                list.and_then(Value::as_array)
                    .is_some_and(|list| list.contains(&value))
            };
            return has(live) && !has(wanted);
        }
        false
    })
}

/// Every field of `wanted` is ours.
fn is_owned(wanted: &Value, owned: Option<&Value>) -> bool {
    if is_nothing(wanted) {
        return true;
    }
    let Some(owned) = owned.and_then(Value::as_object) else {
        return false;
    };
    // What has no parts of its own is ours as a whole. Of a map with nothing but itself the parts are not.
    if owned.is_empty() {
        return true;
    }
    match wanted {
        Value::Object(wanted) => wanted
            .iter()
            .all(|(name, wanted)| is_owned(wanted, owned.get(&format!("f:{name}")))),
        Value::Array(items) if has_prefix(owned, "k:") => items.iter().all(|item| {
            owned.iter().any(|(name, node)| {
                item_keys(name).is_some_and(|keys| has_keys(item, &keys)) && is_owned(item, Some(node))
            })
        }),
        Value::Array(items) => items.iter().all(|item| owned.contains_key(&format!("v:{item}"))),
        _ => false,
    }
}

/// As [`holds`], but for what addresses the object, which is no field of it for the purposes of ownership.
fn metadata_holds(wanted: &Value, live: &ObjectMeta, owned: Option<&Value>) -> bool {
    let Some(wanted) = wanted.as_object() else {
        return wanted.is_null();
    };
    wanted.iter().all(|(name, wanted)| {
        let live = match name.as_str() {
            "name" | "namespace" | "uid" | "resourceVersion" | "managedFields" | "creationTimestamp" => {
                return true;
            }
            "labels" => serde_json::to_value(&live.labels),
            "annotations" => serde_json::to_value(&live.annotations),
            "finalizers" => serde_json::to_value(&live.finalizers),
            "ownerReferences" => serde_json::to_value(&live.owner_references),
            _ => serde_json::to_value(live).map(|mut all| all[name.as_str()].take()),
        };
        match live {
            Ok(Value::Null) => is_nothing(wanted),
            Ok(live) => holds(
                wanted,
                &live,
                owned.and_then(|owned| owned.get(format!("f:{name}"))),
            ),
            Err(_) => false,
        }
    })
}

/// What API servers do not keep: nothing, and the empty lists and maps of typed objects. Written again and again it would never
/// be there.
fn is_nothing(wanted: &Value) -> bool {
    match wanted {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    }
}

/// Every field of `wanted` is in `live` with that value.
fn holds(wanted: &Value, live: &Value, owned: Option<&Value>) -> bool {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => wanted.iter().all(|(name, wanted)| {
            let owned = owned.and_then(|owned| owned.get(format!("f:{name}")));
            match live.get(name) {
                Some(live) => holds(wanted, live, owned),
                None => is_nothing(wanted),
            }
        }),
        (Value::Array(wanted), Value::Array(live)) => {
            let owned = owned.and_then(Value::as_object);
            if let Some(owned) = owned.filter(|owned| has_prefix(owned, "k:")) {
                wanted.iter().all(|item| {
                    owned
                        .iter()
                        .filter_map(|(name, node)| Some((item_keys(name)?, node)))
                        .any(|(keys, node)| {
                            has_keys(item, &keys)
                                && live
                                    .iter()
                                    .any(|live| has_keys(live, &keys) && holds(item, live, Some(node)))
                        })
                })
            } else if owned.is_some_and(|owned| has_prefix(owned, "v:")) {
                wanted.iter().all(|item| live.contains(item))
            } else {
                // Atomic: ours as a whole; the server may have filled in defaults within its items.
                wanted.len() == live.len()
                    && wanted
                        .iter()
                        .zip(live)
                        .all(|(wanted, live)| holds(wanted, live, None))
            }
        }
        (Value::Number(wanted), Value::Number(live)) => wanted.as_f64() == live.as_f64(),
        _ => wanted == live,
    }
}

/// Every field of `owned` is in `wanted`.
fn still_wanted(owned: &Value, wanted: Option<&Value>) -> bool {
    let (Some(owned), Some(wanted)) = (owned.as_object(), wanted) else {
        return wanted.is_some();
    };
    owned.iter().all(|(name, node)| {
        if name == "." {
            return true;
        }
        if let Some(field) = name.strip_prefix("f:") {
            return wanted
                .get(field)
                .is_some_and(|wanted| still_wanted(node, Some(wanted)));
        }
        let items = wanted.as_array().map(Vec::as_slice).unwrap_or_default();
        if let Some(keys) = item_keys(name) {
            return items
                .iter()
                .any(|item| has_keys(item, &keys) && still_wanted(node, Some(item)));
        }
        if let Some(value) = name.strip_prefix("v:") {
            return serde_json::from_str::<Value>(value).is_ok_and(|value| items.contains(&value));
        }
        name.strip_prefix("i:")
            .and_then(|index| index.parse::<usize>().ok())
            .is_some_and(|i| i < items.len())
    })
}

fn has_prefix(map: &Map<String, Value>, prefix: &str) -> bool {
    map.keys().any(|name| name.starts_with(prefix))
}

/// The keys in the name of an associative list's item: `k:{"name":"main"}`.
fn item_keys(name: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(name.strip_prefix("k:")?).ok()
}

/// An item has these keys. A key that the item leaves out counts as equal: the server filled in its default
/// (`protocol: TCP`) before it recorded the key.
fn has_keys(item: &Value, keys: &Map<String, Value>) -> bool {
    keys.iter()
        .all(|(name, value)| item.get(name).is_none_or(|found| found == value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    /// An object as the API server keeps it after `choreo/test` applied a Deployment with one container, one port and
    /// two labels, and somebody else scaled it and added a sidecar.
    fn live() -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "a", "namespace": "ns", "uid": "1", "labels": {"x": "1", "y": "2", "theirs": "3"},
                "finalizers": ["a/b", "c/d"],
                "managedFields": [
                    {"manager": "choreo/test", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                     "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:x": {}, "f:y": {}}, "f:finalizers": {"v:\"a/b\"": {}}},
                        "f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {
                            ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                ".": {}, "f:containerPort": {}}},
                        }}}}},
                     }},
                    {"manager": "choreo/test", "operation": "Apply", "subresource": "status",
                     "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:replicas": {}}}},
                ],
            },
            "spec": {"replicas": 5, "template": {"spec": {"containers": [
                {"name": "sidecar", "image": "theirs"},
                {"name": "main", "image": "a:1", "args": ["--x"], "imagePullPolicy": "Always",
                 "ports": [{"containerPort": 80, "protocol": "TCP"}]},
            ]}}},
            "status": {"replicas": 1},
        }))
        .unwrap()
    }

    fn desired() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "a", "namespace": "ns", "labels": {"x": "1", "y": "2"}, "finalizers": ["a/b"],
            },
            "spec": {"template": {"spec": {"containers": [
                {"name": "main", "image": "a:1", "args": ["--x"], "ports": [{"containerPort": 80}]},
            ]}}},
        })
    }

    #[rstest]
    #[case::same("/spec", None, false)]
    #[case::image("/spec/template/spec/containers/0/image", Some(json!("a:2")), true)]
    #[case::atomic_list_longer("/spec/template/spec/containers/0/args", Some(json!(["--x", "y"])), true)]
    #[case::port("/spec/template/spec/containers/0/ports/0/containerPort", Some(json!(81)), true)]
    #[case::field_no_longer_wanted("/spec/template/spec/containers/0", Some(json!({"name": "main"})), true)]
    #[case::field_newly_wanted("/spec", Some(json!({"replicas": 5})), true)]
    #[case::nothing_more_wanted("/metadata", Some(json!({"labels": {"x": "1", "y": "2"}, "finalizers": ["a/b"], "annotations": {}})), false)]
    #[case::label_changed("/metadata/labels/x", Some(json!("9")), true)]
    #[case::label_dropped("/metadata/labels", Some(json!({"x": "1"})), true)]
    #[case::finalizer_added("/metadata/finalizers", Some(json!(["a/b", "e/f"])), true)]
    #[case::container_added("/spec/template/spec/containers", Some(json!([{"name": "other"}])), true)]
    fn a_change_of(#[case] at: &str, #[case] to: Option<Value>, #[case] expected: bool) {
        let mut wanted = desired();
        if let Some(to) = to {
            *wanted.pointer_mut(at).unwrap() = to;
        }
        assert_eq!(needs_apply(&wanted, &live(), "choreo/test", ""), expected);
    }

    #[test]
    fn drift_of_an_owned_field_is_seen_and_of_others_not() {
        let mut drifted = live();
        drifted.data["spec"]["template"]["spec"]["containers"][1]["image"] = json!("evil");
        assert!(needs_apply(&desired(), &drifted, "choreo/test", ""));
        let mut theirs = live();
        theirs.data["spec"]["replicas"] = json!(9);
        theirs.data["spec"]["template"]["spec"]["containers"][0]["image"] = json!("theirs:2");
        assert!(!needs_apply(&desired(), &theirs, "choreo/test", ""));
    }

    /// Typed objects have no empty lists and maps: they are never there, however often they are applied.
    #[test]
    fn what_is_empty_is_not_missed() {
        let mut wanted = desired();
        wanted["spec"]["template"]["spec"]["nodeSelector"] = json!({});
        wanted["spec"]["template"]["spec"]["containers"][0]["env"] = json!([]);
        assert!(!needs_apply(&wanted, &live(), "choreo/test", ""));
        wanted["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        assert!(needs_apply(&wanted, &live(), "choreo/test", ""));
    }

    /// Another instance of ours has written something else, or a person has taken a field away from us.
    #[rstest]
    #[case::as_wanted("/desired/spec", None, false)]
    #[case::we_want_another_image("/desired/spec/template/spec/containers/0/image", Some(json!("a:0")), true)]
    #[case::we_want_other_arguments("/desired/spec/template/spec/containers/0/args", Some(json!(["--y"])), true)]
    #[case::we_want_another_label("/desired/metadata/labels/x", Some(json!("0")), true)]
    #[case::we_do_not_want_a_label("/desired/metadata/labels", Some(json!({"x": "1"})), true)]
    #[case::we_do_not_want_a_finalizer("/desired/metadata/finalizers", Some(json!([])), true)]
    #[case::we_want_no_such_container("/desired/spec/template/spec/containers", Some(json!([])), true)]
    #[case::we_want_one_more("/desired/spec/replicas", Some(json!(7)), false)]
    fn what_is_ours_says_otherwise(#[case] at: &str, #[case] to: Option<Value>, #[case] expected: bool) {
        let mut all = json!({"desired": desired()});
        if let Some(to) = to {
            match all.pointer_mut(at) {
                Some(place) => *place = to,
                None => all["desired"]["spec"]["replicas"] = to,
            }
        }
        let mut live = live();
        assert_eq!(
            says_otherwise(&all["desired"], &live, false, "choreo/test"),
            expected
        );
        assert!(!says_otherwise(&all["desired"], &live, false, "choreo/other"));
        // What somebody else has taken from us, and changed, is drift.
        let fields = live.metadata.managed_fields.as_mut().unwrap()[0]
            .fields_v1
            .as_mut()
            .unwrap();
        fields.0 = json!({"f:metadata": {"f:annotations": {}}});
        live.data["spec"]["template"]["spec"]["containers"][1]["image"] = json!("evil");
        assert!(!says_otherwise(&all["desired"], &live, false, "choreo/test"));
    }

    /// Metadata alone, of an object that was applied with a hash of its content.
    #[rstest]
    #[case::as_applied("", None, true)]
    #[case::other_content("/desired/metadata/annotations/openchoreo.dev~1content", Some(json!("2")), false)]
    #[case::no_hash("/desired/metadata/annotations", Some(json!({})), false)]
    #[case::label_edited("/live/labels/x", Some(json!("9")), false)]
    #[case::somebody_took_an_atomic_list(
        "/fields/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"main\"}/f:args",
        None,
        false
    )]
    #[case::somebody_took_a_port_of_a_list_of_maps(
        "/fields/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"main\"}/f:ports",
        None,
        false
    )]
    #[case::somebody_took_a_scalar(
        "/fields/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"main\"}/f:image",
        None,
        false
    )]
    #[case::somebody_took_it_all("/fields/f:spec", None, false)]
    #[case::a_field_is_wanted_no_longer("/desired/spec/template/spec/containers/0", Some(json!({"name": "main"})), false)]
    #[case::a_field_is_new("/desired/spec/replicas", Some(json!(5)), false)]
    #[case::an_empty_one_is_not_missed("/desired/spec/selector", Some(json!({})), true)]
    fn metadata_tell_that_nothing_has_changed(
        #[case] at: &str,
        #[case] to: Option<Value>,
        #[case] expected: bool,
    ) {
        let mut desired = desired();
        desired["metadata"]["annotations"] = json!({CONTENT: "1"});
        let mut fields = live().metadata.managed_fields.unwrap()[0]
            .fields_v1
            .clone()
            .unwrap()
            .0;
        fields["f:metadata"]["f:annotations"] = json!({format!("f:{CONTENT}"): {}});
        let mut all = json!({
            "desired": desired, "fields": fields,
            "live": {"name": "a", "namespace": "ns", "labels": {"x": "1", "y": "2", "theirs": "3"},
                     "finalizers": ["a/b", "c/d"], "annotations": {CONTENT: "1"}},
        });
        if let Some((parent, name)) = at.rsplit_once('/') {
            match (all.pointer_mut(parent).unwrap(), to) {
                (Value::Array(items), Some(to)) => items[name.parse::<usize>().unwrap()] = to,
                (parent, Some(to)) => parent[name.replace("~1", "/")] = to,
                (parent, None) => drop(parent.as_object_mut().unwrap().remove(name).unwrap()),
            }
        }
        let mut outline: ObjectMeta = serde_json::from_value(all["live"].clone()).unwrap();
        outline.managed_fields = serde_json::from_value(json!([
            {"manager": "choreo/test", "operation": "Apply", "fieldsV1": all["fields"]},
        ]))
        .unwrap();
        assert_eq!(
            is_known_unchanged(&all["desired"], &outline, "choreo/test"),
            expected
        );
        assert!(!is_known_unchanged(&all["desired"], &outline, "choreo/other"));
    }

    #[test]
    fn what_we_never_applied_has_to_be() {
        assert!(needs_apply(&desired(), &live(), "choreo/other", ""));
    }

    #[test]
    fn the_status_is_compared_on_its_own() {
        let status = |replicas: u32| {
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
                   "status": {"replicas": replicas}})
        };
        assert!(!needs_apply(&status(1), &live(), "choreo/test", "status"));
        assert!(needs_apply(&status(2), &live(), "choreo/test", "status"));
    }
}
