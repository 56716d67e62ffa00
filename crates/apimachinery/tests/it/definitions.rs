//! Custom resource definitions: what is refused, and what the rows of a good one are.

use choreo_apimachinery::crd;
use choreo_apimachinery::field::FieldPath;
use choreo_apimachinery::schema::Schema;
use rstest::rstest;
use serde_json::{Value, json};

fn definition(schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList", "shortNames": ["w"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "additionalPrinterColumns": [{"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1}],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

fn good_schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"replicas": {"type": "integer", "default": 1}, "color": {"type": "string"}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
    }})
}

fn texts(definition: &Value, old: Option<&Value>) -> Vec<String> {
    crd::validate(definition, old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_good_definition_makes_rows() {
    let definition = definition(good_schema());
    assert_eq!(texts(&definition, None), Vec::<String>::new());
    let rows = crd::rows(&definition).unwrap();
    let row = &rows[0];
    assert_eq!(
        (row.plural.as_str(), row.kind.as_str(), row.version.as_str()),
        ("widgets", "Widget", "v1")
    );
    assert!(row.status && row.is_crd && row.namespaced);
    assert_eq!(row.scale.as_ref().unwrap().spec_replicas, ".spec.replicas");
    assert_eq!(
        row.subresources
            .iter()
            .map(|s| s.name.as_str())
            .collect::<Vec<_>>(),
        ["scale", "status"]
    );
    assert_eq!(row.columns[0].priority, 1);
    assert_eq!(row.selectable_fields[0].field, "spec.color");
    let mut object = json!({"spec": {}});
    row.schema().apply_defaults(&mut object);
    assert_eq!(object, json!({"spec": {"replicas": 1}}));
}

#[test]
fn what_is_left_out_is_filled_in() {
    let mut definition = json!({"spec": {"names": {"plural": "widgets", "kind": "Widget"}}});
    crd::set_defaults(&mut definition);
    assert_eq!(
        definition,
        json!({"spec": {"names": {"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"},
            "conversion": {"strategy": "None"}}})
    );
}

#[rstest]
#[case("/metadata/name", json!("x.example.com"),
    "metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group")]
#[case("/spec/scope", json!("Global"), "spec.scope: Unsupported value: \"Global\": supported values: \"Cluster\", \"Namespaced\"")]
#[case("/spec/names/kind", json!(""), "spec.names.kind: Required value")]
#[case("/spec/names/listKind", json!("Widget"), "spec.names.listKind: Invalid value: \"Widget\": kind and listKind may not be the same")]
#[case("/spec/versions/0/storage", json!(false), "must have exactly one version marked as storage version")]
#[case("/spec/versions/0/name", json!("V1"), "spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label")]
#[case("/spec/versions/0/schema", json!({}), "spec.versions[0].schema.openAPIV3Schema: Required value")]
#[case("/spec/versions/0/subresources/scale/specReplicasPath", json!(".status.x"),
    "spec.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec")]
#[case("/spec/versions/0/additionalPrinterColumns/0/type", json!("text"),
    "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string")]
#[case("/spec/versions/0/additionalPrinterColumns/0/jsonPath", json!("spec"),
    "spec.additionalPrinterColumns[0].JSONPath: Invalid value: \"spec\": must be a simple json path starting with .")]
#[case("/spec/versions/0/selectableFields/0/jsonPath", json!(".spec.nosuch"),
    "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nosuch\": is an invalid path: does not refer to a valid field")]
#[case("/spec/versions/0/selectableFields/0/jsonPath", json!(".spec"), "must point to a field of type string, boolean or integer.")]
fn refused(#[case] pointer: &str, #[case] value: Value, #[case] expected: &str) {
    let mut definition = definition(good_schema());
    *definition.pointer_mut(pointer).unwrap() = value;
    let texts = texts(&definition, None);
    assert!(texts.iter().any(|t| t.contains(expected)), "{texts:#?}");
}

#[test]
fn names_stay() {
    let mut old = definition(good_schema());
    old["status"] =
        json!({"conditions": [{"type": "Established", "status": "True"}], "storedVersions": ["v1"]});
    let mut new = old.clone();
    new["spec"]["names"]["kind"] = json!("Gadget");
    new["spec"]["scope"] = json!("Cluster");
    assert_eq!(
        texts(&new, Some(&old)),
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "spec.names.kind: Invalid value: \"Gadget\": field is immutable",
        ]
    );
    let mut new = old.clone();
    new["spec"]["versions"][0]["name"] = json!("v2");
    assert!(
        texts(&new, Some(&old))[0]
            .starts_with("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions")
    );
}

/// Checks a schema for the property `x` of a definition.
fn schema_errors(x: Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"x": x}});
    match Schema::parse_crd_at(&schema, &FieldPath::new("s")) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

#[rstest]
#[case(json!({}), "s.properties[x].type: Required value: must not be empty for specified object fields")]
#[case(json!({"type": "array"}), "s.properties[x].items: Required value: must be specified")]
#[case(json!({"type": "text"}), "s.properties[x].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \"integer\", \"number\", \"object\", \"string\"")]
#[case(json!({"type": "object", "$ref": "#/x"}), "s.properties[x].$ref: Forbidden: $ref is not supported")]
#[case(json!({"type": "string", "pattern": "("}), "s.properties[x].pattern: Invalid value: \"(\": must be a valid regular expression, but isn't: error parsing regexp: ")]
#[case(json!({"type": "object", "anyOf": [{"type": "object"}]}), "s.properties[x].anyOf[0].type: Forbidden: must be empty to be structural")]
#[case(json!({"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": {"type": "string"}}),
    "s.properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive")]
#[case(json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
    "s.properties[x].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic")]
#[case(json!({"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}, "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": ["a"]}),
    "s.properties[x].items.properties[a].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property")]
#[case(json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a"]}),
    "s.properties[x].items.type: Invalid value: \"string\": must be object if parent array's x-kubernetes-list-type is map")]
#[case(json!({"type": "array", "items": {"type": "object"}, "x-kubernetes-list-type": "set"}), "must be atomic as item of a list with x-kubernetes-list-type=set")]
#[case(json!({"type": "string", "default": 5}), "s.properties[x].default: Invalid value: \"integer\": s.properties[x].default in body must be of type string: \"integer\"")]
#[case(json!({"type": "object", "default": {"b": 1}, "properties": {"a": {"type": "string"}}}), "s.properties[x].default: Invalid value: {\"b\":1}: must not have unknown fields")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.foo == 1"}]}), "compilation failed: ERROR: <input>:1:")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self + 'a'"}]}), "cel expression must evaluate to a bool")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self =="}]}), "Syntax error")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": ""}]}), "s.properties[x].x-kubernetes-validations[0].rule: Required value: rule is not specified")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "self == 'a'", "reason": "Odd"}]}),
    "s.properties[x].x-kubernetes-validations[0].reason: Unsupported value: \"Odd\"")]
#[case(json!({"type": "object", "x-kubernetes-validations": [{"rule": "true", "fieldPath": ".a"}]}), "fieldPath: Invalid value: \".a\": must be a valid path")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "true", "messageExpression": "1"}]}), "messageExpression must evaluate to a string")]
#[case(json!({"type": "string", "x-kubernetes-validations": [{"rule": "true", "optionalOldSelf": true}]}), "may not be set if oldSelf is not used in rule")]
#[case(json!({"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]}}),
    "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[x]")]
#[case(json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}, "x-kubernetes-validations": [
    {"rule": "self.all(a, self.all(b, a == b))"}]}), "estimated rule cost exceeds budget by factor of more than 100x")]
fn schemas_that_are_refused(#[case] schema: Value, #[case] expected: &str) {
    let errors = schema_errors(schema);
    assert!(errors.iter().any(|e| e.contains(expected)), "{errors:#?}");
}

#[test]
fn combinations_at_the_root_speak_of_declared_fields() {
    let schema = json!({"type": "object", "allOf": [{"properties": {"a": {"minimum": 1}}}]});
    let errors = Schema::parse_crd_at(&schema, &FieldPath::new("s")).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "s.properties[a]: Required value: because it is defined in s.allOf[0].properties[a]"
    );
}

#[rstest]
#[case(json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}))]
#[case(json!({"x-kubernetes-int-or-string": true, "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "a"}]}))]
#[case(json!({"type": "object", "properties": {"a": {"type": "integer"}}, "oneOf": [{"required": ["a"]}, {"properties": {"a": {"minimum": 2}}}]}))]
#[case(json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}))]
#[case(json!({"type": "object", "properties": {"a": {"type": "string"}}, "x-kubernetes-validations": [
    {"rule": "self.a == oldSelf.a", "message": "a is immutable", "fieldPath": ".a", "reason": "FieldValueForbidden"}]}))]
fn schemas_that_are_accepted(#[case] schema: Value) {
    assert_eq!(schema_errors(schema), Vec::<String>::new());
}

fn rule_errors(schema: Value, new: &Value, old: Option<&Value>) -> Vec<String> {
    let schema = Schema::parse_crd(&json!({"type": "object", "properties": {"spec": schema}}))
        .unwrap_or_else(|e| panic!("{e:#?}"));
    schema
        .check(new, old, &FieldPath::ROOT)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What kube-apiserver 1.36 said of each value, recorded from a running one.
#[test]
fn values_are_judged_like_by_the_real_server() {
    let recorded: Value = serde_json::from_str(include_str!("data/validation.json")).unwrap();
    let schema = Schema::parse_crd(&recorded["schema"]).unwrap_or_else(|e| panic!("{e:#?}"));
    for case in recorded["cases"].as_array().unwrap() {
        let mut object =
            json!({"apiVersion": "e/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": case["spec"]});
        schema.prune(&mut object);
        schema.apply_defaults(&mut object);
        let found: Value = schema
            .check(&object, None, &FieldPath::ROOT)
            .iter()
            .map(|e| json!([e.kind.cause(), e.path, e.body()]))
            .collect();
        match case.get("causes") {
            Some(causes) => assert_eq!(&found, causes, "{}", case["spec"]),
            None => {
                assert_eq!(found, json!([]), "{}", case["spec"]);
                // Go's encoder drops the fraction of 2.0.
                assert!(
                    object["spec"] == case["stored"] || case["spec"] == json!({"i": 2.0}),
                    "{object}"
                );
            }
        }
    }
}

#[test]
fn rules_report_as_they_say() {
    let schema = json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"}, "name": {"type": "string"}},
    "x-kubernetes-validations": [
        {"rule": "self.min <= self.max"},
        {"rule": "self.max < 100", "message": " max is too large ", "fieldPath": ".max"},
        {"rule": "self.max < 50", "messageExpression": "'max is ' + string(self.max)", "reason": "FieldValueForbidden", "fieldPath": ".max"},
    ]});
    let new = json!({"spec": {"min": 200, "max": 150}});
    assert_eq!(
        rule_errors(schema.clone(), &new, None),
        [
            "spec: Invalid value: failed rule: self.min <= self.max",
            "spec.max: Invalid value: max is too large",
            "spec.max: Forbidden: max is 150",
        ]
    );
    assert_eq!(
        rule_errors(schema.clone(), &json!({"spec": {"max": 1}}), None),
        ["spec: Invalid value: \"object\": no such key: min evaluating rule: self.min <= self.max"]
    );
    assert_eq!(
        rule_errors(schema, &json!({"spec": {"min": "a", "max": 150}}), None),
        [
            "spec.min: Invalid value: \"string\": spec.min in body must be of type integer: \"string\"",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ]
    );
}

#[test]
fn scalars_show_their_value() {
    let schema = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('a')", "message": "must start with a"}]});
    assert_eq!(
        rule_errors(schema, &json!({"spec": "b"}), None),
        ["spec: Invalid value: \"b\": must start with a"]
    );
}

#[test]
fn transition_rules() {
    let schema = json!({"type": "object", "properties": {
        "owner": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "owner is immutable"}]},
        "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "maxItems": 10,
            "items": {"type": "object", "required": ["k"], "properties": {"k": {"type": "string"},
                "v": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "v must not shrink"}]}}}},
        "once": {"type": "string", "x-kubernetes-validations": [
            {"rule": "oldSelf.hasValue() || self == 'first'", "optionalOldSelf": true, "message": "must begin as first"}]},
    }});
    let old = json!({"spec": {"owner": "a", "items": [{"k": "1", "v": 1}, {"k": "2", "v": 5}]}});
    let same = rule_errors(schema.clone(), &old, Some(&old));
    assert_eq!(same, Vec::<String>::new());
    let new = json!({"spec": {"owner": "b", "items": [{"k": "2", "v": 4}, {"k": "1", "v": 2}, {"k": "3", "v": 0}]}});
    assert_eq!(
        rule_errors(schema.clone(), &new, None),
        Vec::<String>::new(),
        "nothing to compare with on create"
    );
    assert_eq!(
        rule_errors(schema.clone(), &new, Some(&old)),
        [
            "spec.items[0].v: Invalid value: 4: v must not shrink",
            "spec.owner: Invalid value: \"b\": owner is immutable",
        ]
    );
    let once = |text: &str| json!({"spec": {"once": text}});
    assert_eq!(
        rule_errors(schema.clone(), &once("x"), None),
        ["spec.once: Invalid value: \"x\": must begin as first"]
    );
    assert!(rule_errors(schema.clone(), &once("first"), None).is_empty());
    assert!(rule_errors(schema, &once("x"), Some(&once("first"))).is_empty());
}

#[test]
fn rules_over_unchanged_values_let_them_pass() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "string", "x-kubernetes-validations": [{"rule": "self == 'good'", "message": "a must be good"}]},
        "b": {"type": "string"},
    }});
    let old = json!({"spec": {"a": "bad", "b": "x"}});
    assert!(
        rule_errors(
            schema.clone(),
            &json!({"spec": {"a": "bad", "b": "y"}}),
            Some(&old)
        )
        .is_empty()
    );
    assert_eq!(
        rule_errors(schema, &json!({"spec": {"a": "worse", "b": "x"}}), Some(&old)),
        ["spec.a: Invalid value: \"worse\": a must be good"]
    );
}

#[test]
fn rules_see_the_whole_resource_at_the_root() {
    let schema = Schema::parse_crd(&json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"x": {"type": "string"}}}},
        "x-kubernetes-validations": [{"rule": "self.metadata.name == self.spec.x && self.kind == 'W'", "message": "name must be x"}]}))
    .unwrap();
    let object =
        |x: &str| json!({"apiVersion": "e/v1", "kind": "W", "metadata": {"name": "n"}, "spec": {"x": x}});
    assert!(schema.check(&object("n"), None, &FieldPath::ROOT).is_empty());
    assert_eq!(schema.check(&object("m"), None, &FieldPath::ROOT).len(), 1);
}
