//! Custom resources.

use serde_json::{Value, json};

use super::{Api, CRDS, Defined, names};

fn version(spec: Value) -> Value {
    json!({
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
        "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": spec,
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        }}},
    })
}

/// Told beside values that are so wrong that rules cannot be run on them.
const UNCHECKED: &str = "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

async fn widgets(api: &Api) -> Defined {
    let spec = json!({
        "type": "object", "required": ["size"],
        "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 10}, "replicas": {"type": "integer"},
            "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
            "port": {"x-kubernetes-int-or-string": true}, "note": {"type": "string", "nullable": true, "pattern": "^[a-z]*$"},
            "tags": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "when": {"type": "string", "format": "date-time"},
        },
        "x-kubernetes-validations": [
            {"rule": "self.size >= oldSelf.size", "message": "size may not shrink"},
            {"rule": "!has(self.replicas) || self.replicas <= self.size", "messageExpression": "self.size > 5 ? 'too many' : 'at most the size'", "fieldPath": ".replicas", "reason": "FieldValueForbidden"},
        ],
    });
    api.define("widgets", version(spec)).await
}

#[tokio::test]
async fn a_definition_tells_its_state() {
    let api = Api::open().await;
    let widgets = widgets(&api).await;
    // A real server serves a definition a moment before it says so.
    let definition = loop {
        let definition = api.get(&widgets.definition).await.is(200);
        let conditions = definition["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        if conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True")
        {
            break definition;
        }
    };
    let condition = |kind: &str| {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        conditions.iter().find(|c| c["type"] == kind).unwrap().clone()
    };
    assert_eq!(condition("NamesAccepted")["reason"], "NoConflicts");
    assert_eq!(condition("Established")["reason"], "InitialNamesAccepted");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition["spec"]["names"]["listKind"], "WidgetList");
    assert_eq!(definition["spec"]["conversion"], json!({"strategy": "None"}));
    let resources = api.get(&format!("/apis/{}/v1", widgets.group)).await.is(200);
    let listed: Vec<&Value> = resources["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    let mut listed = listed;
    listed.sort_by_key(|name| name.as_str());
    assert_eq!(listed, ["widgets", "widgets/scale", "widgets/status"]);
    api.delete(&widgets.definition).await.is(200);
}

#[tokio::test]
async fn objects_are_pruned_defaulted_and_checked() {
    let api = Api::open().await;
    let widgets = widgets(&api).await;
    let spec = json!({"size": 3, "unknown": 1, "free": {"any": {"thing": [1]}}, "port": "http"});
    let made = api.post(&widgets.path, widgets.object("a", spec)).await.has(
        201,
        json!({"metadata": {"generation": 1}, "spec": {"color": "red", "free": {"any": {"thing": [1]}}, "port": "http"}}),
    );
    assert_eq!(made["spec"].get("unknown"), None);
    let refused = async |spec: Value| {
        let answer = api.post(&widgets.path, widgets.object("b", spec)).await.is(422);
        let causes = answer["details"]["causes"].as_array().unwrap().iter();
        causes
            .map(|c| {
                (
                    c["field"].as_str().unwrap().to_owned(),
                    c["message"].as_str().unwrap().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    let one = |field: &str, message: &str| vec![(field.to_owned(), message.to_owned())];
    assert_eq!(
        refused(json!({"size": 11})).await,
        one(
            "spec.size",
            "Invalid value: 11: spec.size in body should be less than or equal to 10"
        )
    );
    let mut with_rules = one(
        "spec.color",
        "Unsupported value: \"green\": supported values: \"red\", \"blue\"",
    );
    // Values that are wrong in such a way are not given to rules, and that is told.
    with_rules.extend(one("<nil>", UNCHECKED));
    assert_eq!(refused(json!({"size": 1, "color": "green"})).await, with_rules);
    assert_eq!(
        refused(json!({"size": 1, "tags": ["a", "a"]})).await,
        one("spec.tags[1]", "Duplicate value: \"a\"")
    );
    assert_eq!(
        refused(json!({"size": 1, "note": "A"})).await,
        one(
            "spec.note",
            "Invalid value: \"A\": spec.note in body should match '^[a-z]*$'"
        )
    );
    let mut with_rules = one(
        "spec.when",
        "Invalid value: \"soon\": spec.when in body must be of type date-time: \"soon\"",
    );
    with_rules.extend(one("<nil>", UNCHECKED));
    assert_eq!(refused(json!({"size": 1, "when": "soon"})).await, with_rules);
    assert_eq!(
        refused(json!({"size": 1, "replicas": 2})).await,
        one("spec.replicas", "Forbidden: at most the size")
    );
    let missing = api
        .post(&widgets.path, widgets.object("b", json!({})))
        .await
        .is(422);
    assert!(
        missing["message"]
            .as_str()
            .unwrap()
            .contains("spec.size: Required value"),
        "{missing}"
    );
    let wrong = api
        .post(&widgets.path, widgets.object("b", json!({"size": "x"})))
        .await
        .is(422);
    let message = wrong["message"].as_str().unwrap();
    assert!(
        message.contains(
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\""
        ),
        "{message}"
    );
    api.delete(&widgets.definition).await.is(200);
}

#[tokio::test]
async fn rules_see_the_old_object() {
    let api = Api::open().await;
    let widgets = widgets(&api).await;
    api.post(&widgets.path, widgets.object("a", json!({"size": 5})))
        .await
        .is(201);
    let one = format!("{}/a", widgets.path);
    let refused = api
        .patch(&one, "merge", json!({"spec": {"size": 4}}))
        .await
        .is(422);
    assert_eq!(
        refused["message"],
        format!(
            "Widget.{} \"a\" is invalid: spec: Invalid value: size may not shrink",
            widgets.group
        )
    );
    api.patch(&one, "merge", json!({"spec": {"size": 6}}))
        .await
        .has(200, json!({"metadata": {"generation": 2}}));
    api.patch(&one, "strategic-merge", json!({}))
        .await
        .has(415, json!({"reason": "UnsupportedMediaType"}));
    // A PUT must say what it is based on.
    api.put(&one, &widgets.object("a", json!({"size": 7}))).await.has(
        422,
        json!({"details": {"causes": [{"field": "metadata.resourceVersion", "message": "Invalid value: 0: must be specified for an update"}]}}),
    );
    api.delete(&widgets.definition).await.is(200);
}

#[tokio::test]
async fn subresources_selectors_and_columns_work() {
    let api = Api::open().await;
    let widgets = widgets(&api).await;
    for (name, color) in [("a", "red"), ("b", "blue")] {
        api.post(
            &widgets.path,
            widgets.object(name, json!({"size": 5, "color": color, "replicas": 1})),
        )
        .await
        .is(201);
    }
    let one = format!("{}/a", widgets.path);
    api.patch(&format!("{one}/scale"), "merge", json!({"spec": {"replicas": 3}}))
        .await
        .has(
            200,
            json!({"kind": "Scale", "spec": {"replicas": 3}, "status": {"replicas": 0}}),
        );
    api.patch(
        &format!("{one}/status"),
        "merge",
        json!({"status": {"replicas": 2}, "spec": {"size": 9}}),
    )
    .await
    .has(
        200,
        json!({"status": {"replicas": 2}, "spec": {"size": 5, "replicas": 3}}),
    );
    let blue = api
        .get(&format!("{}?fieldSelector=spec.color%3Dblue", widgets.path))
        .await
        .is(200);
    assert_eq!(names(&blue), ["b"]);
    let table = api
        .get_as(&one, "application/json;as=Table;g=meta.k8s.io;v=v1")
        .await
        .is(200);
    let columns: Vec<&Value> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(
        (columns, &table["rows"][0]["cells"]),
        (vec![&json!("Name"), &json!("Size")], &json!(["a", 5]))
    );
    api.get_as(&one, "application/vnd.kubernetes.protobuf")
        .await
        .headers
        .get("content-type")
        .unwrap();
    api.delete(&widgets.definition).await.is(200);
}

#[tokio::test]
async fn definitions_are_checked() {
    let api = Api::open().await;
    let group = format!("{}.example.dev", api.namespace);
    let definition = |schema: Value| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("things.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
            ]},
        })
    };
    let refused = async |schema: Value| {
        let answer = api.post(CRDS, definition(schema)).await.is(422);
        answer["details"]["causes"][0]["field"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let at = |path: &str| format!("spec.validation.openAPIV3Schema{path}");
    assert_eq!(
        refused(json!({"type": "object", "properties": {"spec": {"properties": {}}}})).await,
        at(".properties[spec].type")
    );
    assert_eq!(refused(json!({"type": "string"})).await, at(".type"));
    let rule = json!({"type": "object", "properties": {"spec": {"type": "string", "x-kubernetes-validations": [{"rule": "self.nope"}]}}});
    assert_eq!(
        refused(rule).await,
        at(".properties[spec].x-kubernetes-validations[0].rule")
    );
    let default = json!({"type": "object", "properties": {"spec": {"type": "integer", "default": "x"}}});
    assert_eq!(refused(default).await, at(".properties[spec].default"));
    let mut misnamed = definition(json!({"type": "object"}));
    misnamed["metadata"]["name"] = "other.example.dev".into();
    let answer = api.post(CRDS, misnamed).await.is(422);
    assert_eq!(answer["details"]["causes"][0]["field"], "metadata.name");
}

/// What a rule does with values is looked at when the definition is written.
#[tokio::test]
async fn rules_are_typed() {
    let api = Api::open().await;
    let group = format!("{}.example.dev", api.namespace);
    let ask = async |field: &Value, rule: Value| {
        let spec = json!({"type": "object", "properties": {"a": field}, "x-kubernetes-validations": [rule]});
        let definition = json!({
            "metadata": {"name": format!("things.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"}, "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }]},
        });
        api.post(&format!("{CRDS}?dryRun=All"), definition).await
    };
    let (number, text) = (json!({"type": "integer"}), json!({"type": "string"}));
    let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let many = json!({"type": "object", "additionalProperties": anything});
    for (field, rule, expected) in [
        (&number, "self.b > 1", ":1:5: undefined field 'b'"),
        (&anything, "self.a == 1", ":1:5: undefined field 'a'"),
        (&many, "self.a['x'] == 1", ":1:5: undefined field 'a'"),
        (&open, "self.a.b == 'x'", ":1:7: undefined field 'b'"),
        (
            &number,
            "[1, 'a'].exists(x, x == self.a)",
            ":1:5: expected type 'int' but found 'string'",
        ),
        (
            &number,
            "(self.a > 1 ? 'a' : 1) == 'a'",
            ":1:13: found no matching overload for '_?_:_' applied to '(bool, string, int)'",
        ),
        (
            &text,
            "quantity(self.a) > 1",
            ":1:18: found no matching overload for '_>_' applied to '(kubernetes.Quantity, int)'",
        ),
        (
            &number,
            "self.?a.orValue('x') == 'x'",
            ":1:16: found no matching overload for 'orValue' applied to 'optional_type(int).(string)'",
        ),
        (
            &number,
            "self.a == null",
            ":1:8: found no matching overload for '_==_' applied to '(int, null)'",
        ),
    ] {
        let refused = ask(field, json!({"rule": rule})).await.is(422);
        let message = refused["details"]["causes"][0]["message"].as_str().unwrap();
        let shown = serde_json::to_string(rule).unwrap().replace('>', "\\u003e");
        let head = format!(
            "Invalid value: {{\"Rule\":{shown},\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}}: \
             compilation failed: ERROR: <input>{expected}\n | {rule}"
        );
        assert!(message.starts_with(&head), "{rule}: {message}\nexpected {head}");
    }
    let rule = "self.b > 1 && self.c > 1";
    let refused = ask(&number, json!({"rule": rule})).await.is(422);
    let message = refused["details"]["causes"][0]["message"].as_str().unwrap();
    let both = format!(
        "ERROR: <input>:1:5: undefined field 'b'\n | {rule}\n | ....^\nERROR: <input>:1:19: undefined field 'c'\n | {rule}\n"
    );
    assert!(message.contains(&both), "{message}");
    // The length of what is looked for counts, not that of what it is looked for in.
    let prefixed = json!({"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('x')"}]});
    let lists = json!({"type": "object", "additionalProperties": {"type": "array", "items": prefixed}});
    ask(&lists, json!({"rule": "has(self.a)"})).await.is(201);
}
