//! What schemas say of values: expected texts are those of kube-apiserver.

use choreo_apimachinery::field::FieldPath;
use choreo_apimachinery::schema::Schema;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

fn errors(schema: &Value, value: &Value) -> Vec<String> {
    let schema = Schema::from_json(schema).unwrap();
    schema
        .validate(value, &FieldPath::ROOT)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Checks `value` as property `spec.x` of this schema.
fn check(schema: &Value, value: &Value, expected: &[&str]) {
    let schema =
        json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": schema}}}});
    assert_eq!(errors(&schema, &json!({"spec": {"x": value}})), expected);
}

#[rstest]
#[case(json!("integer"), json!("a"), "string")]
#[case(json!("string"), json!(1), "integer")]
#[case(json!("string"), json!(true), "boolean")]
#[case(json!("boolean"), json!("true"), "string")]
#[case(json!("object"), json!([]), "array")]
#[case(json!("array"), json!({}), "object")]
#[case(json!("number"), json!("1"), "string")]
#[case(json!("string"), json!(null), "null")]
fn wrong_types(#[case] type_: Value, #[case] value: Value, #[case] found: &str) {
    let expected = format!(
        "spec.x: Invalid value: \"{found}\": spec.x in body must be of type {}: \"{found}\"",
        type_.as_str().unwrap()
    );
    let mut schema = json!({"type": type_});
    if type_ == "array" {
        schema["items"] = json!({"type": "string"});
    }
    check(&schema, &value, &[&expected]);
}

#[rstest]
#[case(json!({"type": "integer"}), json!(1.0))]
#[case(json!({"type": "number"}), json!(1))]
#[case(json!({"type": "string", "nullable": true}), json!(null))]
#[case(json!({"x-kubernetes-int-or-string": true}), json!(1))]
#[case(json!({"x-kubernetes-int-or-string": true}), json!("50%"))]
#[case(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}), json!("a"))]
#[case(json!({"x-kubernetes-preserve-unknown-fields": true}), json!([1, "a", {}]))]
#[case(json!({"type": "string", "enum": ["a"]}), json!("a"))]
#[case(json!({"type": "integer", "enum": [1]}), json!(1))]
#[case(json!({"type": "string", "maxLength": 3}), json!("äöü"))]
#[case(json!({"type": "string", "pattern": "b"}), json!("abc"))]
#[case(json!({"type": "string", "format": "no-such-format"}), json!("abc"))]
#[case(json!({"type": "number", "multipleOf": 0.1}), json!(0.3))]
#[case(json!({"type": "integer", "minimum": 1, "maximum": 3}), json!(3))]
fn right_values(#[case] schema: Value, #[case] value: Value) {
    check(&schema, &value, &[]);
}

#[rstest]
#[case(json!({"x-kubernetes-int-or-string": true}), json!(true),
    "Invalid value: \"boolean\": spec.x in body must be of type integer,string: \"boolean\"")]
#[case(json!({"type": "string", "enum": ["a", "b"]}), json!("c"), "Unsupported value: \"c\": supported values: \"a\", \"b\"")]
#[case(json!({"type": "integer", "enum": [1, 2]}), json!(3), "Unsupported value: 3: supported values: \"1\", \"2\"")]
#[case(json!({"type": "string", "maxLength": 2}), json!("abc"), "Too long: may not be more than 2 bytes")]
#[case(json!({"type": "string", "minLength": 2}), json!("a"), "Invalid value: \"a\": spec.x in body should be at least 2 chars long")]
#[case(json!({"type": "string", "pattern": "^b"}), json!("abc"), "Invalid value: \"abc\": spec.x in body should match '^b'")]
#[case(json!({"type": "string", "format": "date-time"}), json!("abc"),
    "Invalid value: \"abc\": spec.x in body must be of type date-time: \"abc\"")]
#[case(json!({"type": "integer", "minimum": 1}), json!(0), "Invalid value: 0: spec.x in body should be greater than or equal to 1")]
#[case(json!({"type": "integer", "minimum": 1, "exclusiveMinimum": true}), json!(1), "Invalid value: 1: spec.x in body should be greater than 1")]
#[case(json!({"type": "integer", "maximum": 1}), json!(2), "Invalid value: 2: spec.x in body should be less than or equal to 1")]
#[case(json!({"type": "number", "maximum": 1.5, "exclusiveMaximum": true}), json!(1.5), "Invalid value: 1.5: spec.x in body should be less than 1.5")]
#[case(json!({"type": "integer", "multipleOf": 2}), json!(3), "Invalid value: 3: spec.x in body should be a multiple of 2")]
#[case(json!({"type": "array", "items": {"type": "string"}, "minItems": 1}), json!([]), "Invalid value: 0: spec.x in body should have at least 1 items")]
#[case(json!({"type": "array", "items": {"type": "string"}, "maxItems": 1}), json!(["a", "b"]), "Too many: 2: must have at most 1 item")]
#[case(json!({"type": "object", "minProperties": 1}), json!({}), "Invalid value: 0: spec.x in body should have at least 1 properties")]
#[case(json!({"type": "object", "maxProperties": 1}), json!({"a": 1, "b": 2}), "Too many: 2: must have at most 1 item")]
fn broken_constraints(#[case] schema: Value, #[case] value: Value, #[case] expected: &str) {
    check(&schema, &value, &[&format!("spec.x: {expected}")]);
}

#[test]
fn numbers_out_of_their_format() {
    check(
        &json!({"type": "integer"}),
        &json!(1.5),
        &[
            "spec.x: Invalid value: \"number\": spec.x in body must be of type integer: \"number\"",
            "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec.x",
        ],
    );
    check(
        &json!({"type": "integer", "format": "int32"}),
        &json!(1_i64 << 40),
        &["<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec.x"],
    );
}

#[test]
fn missing_and_nested() {
    let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}},
        "additionalProperties": null});
    check(&schema, &json!({}), &["spec.x.a: Required value"]);
    let schema = json!({"type": "array", "items": {"type": "object", "required": ["a"]}});
    check(&schema, &json!([{"a": 1}, {}]), &["spec.x[1].a: Required value"]);
    let schema = json!({"type": "object", "additionalProperties": {"type": "string"}});
    check(
        &schema,
        &json!({"k": 1}),
        &["spec.x.k: Invalid value: \"integer\": spec.x.k in body must be of type string: \"integer\""],
    );
}

#[test]
fn combinations() {
    let one_of = json!({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(
        &one_of,
        &json!({}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found none valid",
            "spec.x.a: Required value",
        ],
    );
    check(
        &one_of,
        &json!({"a": 1, "b": 1}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate one and only one schema (oneOf). Found 2 valid alternatives",
        ],
    );
    check(&one_of, &json!({"a": 1}), &[]);
    let any_of = json!({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(&any_of, &json!({"a": 1, "b": 1}), &[]);
    check(
        &any_of,
        &json!({}),
        &[
            "<nil>: Invalid value: \"\": \"spec.x\" must validate at least one schema (anyOf)",
            "spec.x.a: Required value",
        ],
    );
    let all_of = json!({"type": "object", "allOf": [{"required": ["a"]}, {"required": ["b"]}]});
    check(
        &all_of,
        &json!({"a": 1}),
        &[
            "spec.x.b: Required value",
            "<nil>: Invalid value: \"\": \"spec.x\" must validate all the schemas (allOf)",
        ],
    );
    let not = json!({"type": "object", "not": {"required": ["a"]}});
    check(
        &not,
        &json!({"a": 1}),
        &["<nil>: Invalid value: \"\": \"spec.x\" must not validate the schema (not)"],
    );
}

#[test]
fn unique_lists() {
    let set = json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"});
    check(
        &set,
        &json!(["a", "b", "a", "a"]),
        &["spec.x[2]: Duplicate value: \"a\""],
    );
    let map = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "p"],
        "items": {"type": "object", "properties": {"n": {"type": "string"}, "p": {"type": "string"}}}});
    check(&map, &json!([{"n": "a", "p": "x"}, {"n": "a", "p": "y"}]), &[]);
    check(
        &map,
        &json!([{"n": "a", "p": "x"}, {"n": "a", "p": "x"}]),
        &["spec.x[1]: Duplicate value: {\"n\":\"a\",\"p\":\"x\"}"],
    );
}

#[test]
fn embedded_resources() {
    let schema = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    check(
        &schema,
        &json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {}}),
        &[],
    );
    check(
        &schema,
        &json!({}),
        &["spec.x.apiVersion: Required value", "spec.x.kind: Required value"],
    );
    check(
        &schema,
        &json!({"apiVersion": "v1", "kind": "", "metadata": {"name": "a/b"}}),
        &[
            "spec.x.kind: Invalid value: \"\": must not be empty",
            "spec.x.metadata.name: Invalid value: \"a/b\": may not contain '/'",
        ],
    );
}

#[test]
fn what_was_wrong_before_may_stay() {
    let schema = Schema::from_json(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1},
        "m": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
              "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string", "maxLength": 1}}}},
        "l": {"type": "array", "items": {"type": "string", "maxLength": 1}},
        "s": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    }}))
    .unwrap();
    let old = json!({"a": "long", "m": [{"k": "1", "v": "long"}], "l": ["long"], "s": ["x", "x"]});
    let said = |new: Value| -> Vec<String> {
        schema
            .validate_update(&new, &old, &FieldPath::ROOT)
            .iter()
            .map(|e| e.path.clone())
            .collect()
    };
    assert!(said(old.clone()).is_empty());
    assert!(
        said(
            json!({"a": "long", "m": [{"k": "0"}, {"k": "1", "v": "long"}], "l": ["long"], "s": ["x", "x"]})
        )
        .is_empty()
    );
    assert_eq!(said(json!({"a": "longer"})), ["a"]);
    assert_eq!(said(json!({"m": [{"k": "1", "v": "longer"}]})), ["m[0].v"]);
    assert_eq!(
        said(json!({"l": ["long", "b"]})),
        ["l[0]"],
        "items of atomic lists belong to nothing"
    );
    assert!(
        said(json!({"s": ["x", "x", "y"]})).is_empty(),
        "lists that were not unique may stay so"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-e]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-e]|metadata|kind", inner, 0..4)
                .prop_map(|m| m.into_iter().collect()),
        ]
    })
}

/// JSON with the keywords of schemas, right and wrong.
fn any_schema() -> impl Strategy<Value = Value> {
    let keyword = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("items"),
        Just("additionalProperties"),
        Just("default"),
        Just("nullable"),
        Just("anyOf"),
        Just("enum"),
        Just("pattern"),
        Just("x-kubernetes-preserve-unknown-fields"),
        Just("x-kubernetes-embedded-resource"),
        Just("x-kubernetes-list-type"),
        Just("a"),
        Just("b"),
    ];
    let leaf = prop_oneof![
        Just(json!("object")),
        Just(json!("array")),
        Just(json!("string")),
        Just(json!("integer")),
        Just(json!("set")),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(
            json!({"type": "object", "properties": {"a": {"type": "string", "default": "x"}, "b": {"type": "object", "default": {}}}})
        ),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(keyword.clone().prop_map(str::to_owned), inner, 0..5)
                .prop_map(|m| m.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn reading_schemas_never_panics(json in any_json(), schema in any_schema()) {
        let _ = Schema::from_json(&json);
        if let Ok(schema) = Schema::from_json(&schema) {
            let again = Schema::from_json(&schema.to_json()).unwrap();
            prop_assert_eq!(again.to_json(), schema.to_json());
        }
    }

    #[test]
    fn pruning_and_defaulting_settle(schema in any_schema(), value in any_json()) {
        if let Ok(schema) = Schema::from_json(&schema) {
            let mut once = value.clone();
            let unknown = schema.unknown_fields(&value);
            prop_assert_eq!(schema.prune(&mut once), unknown);
            let mut twice = once.clone();
            prop_assert!(schema.prune(&mut twice).is_empty());
            prop_assert_eq!(&twice, &once);

            let mut defaulted = value.clone();
            schema.apply_defaults(&mut defaulted);
            let mut again = defaulted.clone();
            schema.apply_defaults(&mut again);
            prop_assert_eq!(again, defaulted);
            let _ = schema.validate(&value, &FieldPath::ROOT);
            // What an embedded object must have is asked for also where it has been missing before.
            let of_embedded = |path: &str| path.contains('.') || ["apiVersion", "kind", "metadata", "<nil>"].contains(&path) || path.starts_with("kind");
            prop_assert!(schema.validate_update(&value, &value, &FieldPath::ROOT).iter().all(|e| of_embedded(&e.path)));
        }
    }
}
