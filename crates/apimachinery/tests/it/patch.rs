//! The patch formats: tables from the RFCs and from recorded results, and properties.

use choreo_apimachinery::{patch, registry::Registry};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn schema(group: &str, version: &str, plural: &str) -> std::sync::Arc<choreo_apimachinery::schema::Schema> {
    Registry::builtin()
        .lookup(group, version, plural)
        .unwrap()
        .schema()
}

/// RFC 7386, appendix A.
#[rstest]
#[case(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}))]
#[case(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}))]
#[case(json!({"a": "b"}), json!({"a": null}), json!({}))]
#[case(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}))]
#[case(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}))]
#[case(json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]}))]
#[case(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}))]
#[case(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}))]
#[case(json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"]))]
#[case(json!({"a": "b"}), json!(["c"]), json!(["c"]))]
#[case(json!({"a": "foo"}), json!(null), json!(null))]
#[case(json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1}))]
#[case(json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"}))]
#[case(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}))]
fn merge_patch(#[case] doc: Value, #[case] patch: Value, #[case] expected: Value) {
    assert_eq!(patch::merge(&doc, &patch), expected);
}

/// RFC 6902, appendix A.
#[rstest]
#[case(json!({"foo": "bar"}), json!([{"op": "add", "path": "/baz", "value": "qux"}]), Some(json!({"baz": "qux", "foo": "bar"})))]
#[case(json!({"foo": ["bar", "baz"]}), json!([{"op": "add", "path": "/foo/1", "value": "qux"}]), Some(json!({"foo": ["bar", "qux", "baz"]})))]
#[case(json!({"baz": "qux", "foo": "bar"}), json!([{"op": "remove", "path": "/baz"}]), Some(json!({"foo": "bar"})))]
#[case(json!({"baz": "qux"}), json!([{"op": "replace", "path": "/baz", "value": "boo"}]), Some(json!({"baz": "boo"})))]
#[case(json!({"foo": {"bar": "baz"}, "qux": {}}), json!([{"op": "move", "from": "/foo/bar", "path": "/qux/thud"}]), Some(json!({"foo": {}, "qux": {"thud": "baz"}})))]
#[case(json!({"baz": "qux"}), json!([{"op": "test", "path": "/baz", "value": "bar"}]), None)]
#[case(json!({"foo": "bar"}), json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]), None)]
#[case(json!({"foo": ["bar"]}), json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]), Some(json!({"foo": ["bar", ["abc", "def"]]})))]
#[case(json!({"a": {"b/c": 1}}), json!([{"op": "remove", "path": "/a/b~1c"}]), Some(json!({"a": {}})))]
fn json_patch(#[case] doc: Value, #[case] patch: Value, #[case] expected: Option<Value>) {
    let result = patch::json(&doc, patch.to_string().as_bytes());
    match expected {
        Some(expected) => assert_eq!(result.unwrap(), expected),
        None => {
            let error = result.unwrap_err();
            assert_eq!(error.code, 422);
            assert_eq!(
                error.message,
                "the server rejected our request due to an error in our request"
            );
        }
    }
}

#[test]
fn a_json_patch_has_limits() {
    let malformed = patch::json(&json!({}), b"{").unwrap_err();
    assert_eq!(malformed.code, 400);
    let many: Vec<Value> = vec![json!({"op": "test", "path": "", "value": {}}); 10_001];
    let error = patch::json(&json!({}), Value::from(many).to_string().as_bytes()).unwrap_err();
    assert_eq!(error.code, 413);
    // Each copy doubles the document.
    let double: Vec<Value> = (0..40)
        .map(|i| json!({"op": "copy", "from": "", "path": format!("/{i}")}))
        .collect();
    let error = patch::json(&json!({"a": 1}), Value::from(double).to_string().as_bytes()).unwrap_err();
    assert_eq!(error.code, 422);
}

/// Results of Kubernetes' own strategic merge (k8s.io/apimachinery 0.34) for generated patches of a Deployment, without the
/// directives and nulls that it leaves to the decoder.
#[test]
fn strategic_merge_agrees_with_kubernetes() {
    let schema = schema("apps", "v1", "deployments");
    for (line, case) in include_str!("data/strategic.jsonl").lines().enumerate() {
        let case: Value = serde_json::from_str(case).unwrap();
        let result = patch::strategic(&schema, &case["doc"], &case["patch"]).unwrap();
        assert_eq!(result, case["result"], "case {line}: {case}");
    }
}

/// The documented directives, one by one.
#[rstest]
#[case::replace_map(json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}), json!({"metadata": {"labels": {"b": "2"}}}))]
#[case::delete_map(json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {"labels": {"$patch": "delete"}}}), json!({"metadata": {"labels": {}}}))]
#[case::merge_map(json!({"metadata": {"labels": {"a": "1"}}}), json!({"metadata": {"labels": {"$patch": "merge", "b": "2"}}}), json!({"metadata": {"labels": {"a": "1", "b": "2"}}}))]
#[case::delete_element(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}), json!({"spec": {"containers": [{"$patch": "delete", "name": "a"}]}}), json!({"spec": {"containers": [{"name": "b"}]}}))]
#[case::replace_list(json!({"spec": {"containers": [{"name": "a"}]}}), json!({"spec": {"containers": [{"name": "c"}, {"$patch": "replace"}]}}), json!({"spec": {"containers": [{"name": "c"}]}}))]
#[case::element_order(json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}]}}), json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}}), json!({"spec": {"containers": [{"name": "b"}, {"name": "a"}]}}))]
#[case::delete_primitives(json!({"metadata": {"finalizers": ["a", "b"]}}), json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}), json!({"metadata": {"finalizers": ["b"]}}))]
#[case::merge_primitives(json!({"metadata": {"finalizers": ["a"]}}), json!({"metadata": {"finalizers": ["b", "a"]}}), json!({"metadata": {"finalizers": ["b", "a"]}}))]
#[case::retain_keys(json!({"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}}), json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "secret"], "secret": {"secretName": "s"}}]}}), json!({"spec": {"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}}))]
#[case::atomic_list(json!({"spec": {"tolerations": [{"key": "a"}]}}), json!({"spec": {"tolerations": [{"key": "b"}]}}), json!({"spec": {"tolerations": [{"key": "b"}]}}))]
#[case::null_removes(json!({"spec": {"nodeName": "n", "hostname": "h"}}), json!({"spec": {"nodeName": null, "containers": null}}), json!({"spec": {"hostname": "h"}}))]
fn directives(#[case] doc: Value, #[case] patch: Value, #[case] expected: Value) {
    assert_eq!(
        patch::strategic(&schema("", "v1", "pods"), &doc, &patch).unwrap(),
        expected
    );
}

#[rstest]
#[case(json!({"spec": {"containers": [{"image": "x"}]}}), 422)]
#[case(json!({"metadata": {"labels": {"$patch": "unknown"}}}), 422)]
#[case(json!({"spec": {"$retainKeys": "containers"}}), 400)]
#[case(json!({"spec": {"$retainKeys": ["nodeName"], "hostname": "h"}}), 400)]
#[case(json!({"spec": {"$setElementOrder/containers": "x"}}), 400)]
#[case(json!({"spec": {"$setElementOrder/containers": [{"name": "b"}], "containers": [{"name": "a"}]}}), 422)]
#[case(json!([]), 400)]
fn malformed_strategic_patches_are_refused(#[case] patch: Value, #[case] code: u16) {
    let doc = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"containers": [{"name": "a"}]}});
    let error = patch::strategic(&schema("", "v1", "pods"), &doc, &patch).unwrap_err();
    assert_eq!(error.code, code, "{error}");
}

/// Any JSON, with the words that mean something to a patch.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (0_i64..4).prop_map(Value::from),
        prop_oneof!["[a-c]", Just("delete".to_owned()), Just("replace".to_owned())].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        let key = prop::sample::select(vec![
            "metadata",
            "spec",
            "containers",
            "name",
            "ports",
            "containerPort",
            "finalizers",
            "labels",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "$deleteFromPrimitiveList/finalizers",
            "op",
            "path",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..4)
                .prop_map(|map| { Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()) }),
        ]
    })
}

proptest! {
    #[test]
    fn no_patch_panics(doc in any_json(), patch in any_json()) {
        let _ = patch::strategic(&schema("", "v1", "pods"), &doc, &patch);
        let _ = patch::json(&doc, patch.to_string().as_bytes());
        let _ = patch::merge(&doc, &patch);
        let _ = patch::parse_object(patch.to_string().as_bytes());
    }

    #[test]
    fn merging_twice_is_merging_once(doc in any_json(), patch in any_json()) {
        let once = patch::merge(&doc, &patch);
        prop_assert_eq!(patch::merge(&once, &patch), once);
    }
}
