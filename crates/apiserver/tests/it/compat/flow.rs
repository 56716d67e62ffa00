//! FlowSchemas and PriorityLevelConfigurations. How requests are held up is not asked here: that would take a crowd.

use serde_json::{Value, json};

use super::{Api, until};

const SCHEMAS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
const LEVELS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations";

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_server_has_schemas_and_levels() {
    let api = Api::open().await;
    let levels = api.get(LEVELS).await.is(200);
    for name in [
        "catch-all",
        "exempt",
        "global-default",
        "leader-election",
        "node-high",
        "system",
        "workload-high",
        "workload-low",
    ] {
        assert!(names(&levels).contains(&name), "{name}");
    }
    api.get(&format!("{LEVELS}/workload-low")).await.has(
        200,
        json!({
            "metadata": {"annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}},
            "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 100, "lendablePercent": 90, "borrowingLimitPercent": null,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 128, "handSize": 6, "queueLengthLimit": 50}},
            }},
            "status": {},
        }),
    );
    let condition = until(&api, "the status of a schema", async || {
        let schema = api.get(&format!("{SCHEMAS}/system-leader-election")).await.has(
            200,
            json!({
                "metadata": {"generation": 1},
                "spec": {
                    "priorityLevelConfiguration": {"name": "leader-election"}, "matchingPrecedence": 100,
                    "distinguisherMethod": {"type": "ByUser"},
                    "rules": [{
                        "subjects": [
                            {"kind": "User", "user": {"name": "system:kube-controller-manager"}},
                            {"kind": "User", "user": {"name": "system:kube-scheduler"}},
                            {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": "*"}},
                        ],
                        "resourceRules": [{
                            "verbs": ["get", "create", "update"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
                            "namespaces": ["*"],
                        }],
                    }],
                },
            }),
        );
        schema["status"]["conditions"].get(0).cloned()
    })
    .await;
    assert_eq!(condition["reason"], "Found", "{condition}");
}

#[tokio::test]
async fn tables_show_schemas_in_the_order_in_which_they_are_asked() {
    let api = Api::open().await;
    let rows = async |path: &str| {
        let table = api
            .get_as(path, "application/json;as=Table;g=meta.k8s.io;v=v1")
            .await
            .is(200);
        let names = table["columnDefinitions"].as_array().unwrap().iter();
        let names: Vec<Value> = names.map(|column| column["name"].clone()).collect();
        let rows = table["rows"].as_array().unwrap().iter();
        let rows: Vec<Value> = rows.map(|row| row["cells"].clone()).collect();
        (Value::from(names), rows)
    };
    let (columns, cells) = rows(SCHEMAS).await;
    assert_eq!(
        columns,
        json!([
            "Name",
            "PriorityLevel",
            "MatchingPrecedence",
            "DistinguisherMethod",
            "Age",
            "MissingPL"
        ])
    );
    assert_eq!(
        (&cells[0][0], &cells[0][2], &cells[0][3]),
        (&json!("exempt"), &json!(1), &json!("<none>"))
    );
    let of = |name: &str| cells.iter().position(|cells| cells[0] == name).unwrap();
    assert!(of("probes") < of("system-leader-election"));
    assert!(of("kube-controller-manager") < of("kube-scheduler"));
    assert_eq!(cells[of("kube-scheduler")][3], "ByNamespace");
    let (columns, cells) = rows(LEVELS).await;
    assert_eq!(
        columns,
        json!([
            "Name",
            "Type",
            "NominalConcurrencyShares",
            "Queues",
            "HandSize",
            "QueueLengthLimit",
            "Age"
        ])
    );
    let row = |name: &str| {
        cells
            .iter()
            .find(|cells| cells[0] == name)
            .unwrap()
            .as_array()
            .unwrap()[..6]
            .to_vec()
    };
    assert_eq!(
        row("exempt"),
        ["exempt", "Exempt", "<none>", "<none>", "<none>", "<none>"]
    );
    assert_eq!(
        row("catch-all"),
        [
            json!("catch-all"),
            json!("Limited"),
            json!(5),
            json!("<none>"),
            json!("<none>"),
            json!("<none>")
        ]
    );
    assert_eq!(
        Value::from(row("system")),
        json!(["system", "Limited", 30, 64, 6, 50])
    );
}

#[tokio::test]
async fn what_is_left_out_is_filled_in() {
    let api = Api::open().await;
    let dry = |path: &str| format!("{path}?dryRun=All");
    let named = |spec: Value| json!({"metadata": {"name": "x"}, "spec": spec});
    api.post(&dry(SCHEMAS), named(json!({"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 0})))
        .await
        .has(201, json!({"spec": {"matchingPrecedence": 1000, "distinguisherMethod": null, "rules": null}, "status": {}}));
    api.post(
        &dry(LEVELS),
        named(json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {"queues": 0}}}})),
    )
    .await
    .has(
        201,
        json!({"spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}},
        }}}),
    );
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let api = Api::open().await;
    let level = "PriorityLevelConfiguration";
    let mixed = json!({"priorityLevelConfiguration": {"name": "p"}, "rules": [
        {"subjects": []},
        {
            "subjects": [{"kind": "X"}, {"kind": "User"}, {"kind": "User", "user": {"name": ""}, "group": {"name": "g"}},
                {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": ""}}],
            "resourceRules": [
                {"verbs": ["*", "get"], "apiGroups": ["*", "a"], "resources": ["*"], "namespaces": ["*"]},
                {"verbs": ["head"], "apiGroups": ["a"], "resources": [], "namespaces": []},
            ],
            "nonResourceRules": [{"verbs": [], "nonResourceURLs": ["", "a", "/a b", "/a//b", "/a*", "/*/*", "/"]}],
        },
    ]});
    let verbs = r#"supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch""#;
    let mixed_errors = format!(
        "[spec.rules[0].subjects: Required value: subjects must contain at least one value, \
         spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty, \
         spec.rules[1].subjects[0].kind: Unsupported value: \"X\": supported values: \"Group\", \"ServiceAccount\", \"User\", \
         spec.rules[1].subjects[1].user: Required value: user is required when subject kind is 'User', \
         spec.rules[1].subjects[2].user.name: Required value, \
         spec.rules[1].subjects[2].group: Forbidden: group is forbidden when subject kind is not 'Group', \
         spec.rules[1].subjects[3].serviceAccount.namespace: Required value: must specify namespace for service account, \
         spec.rules[1].resourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs, \
         spec.rules[1].resourceRules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other api \
         groups, \
         spec.rules[1].resourceRules[1].verbs: Unsupported value: [\"head\"]: {verbs}, \
         spec.rules[1].resourceRules[1].resources: Required value: resource rules must supply at least one resource, \
         spec.rules[1].resourceRules[1].namespaces: Required value: resource rules that are not cluster scoped must supply at \
         least one namespace, \
         spec.rules[1].nonResourceRules[0].verbs: Required value: verbs must contain at least one value, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"\": must not be empty, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[1]: Invalid value: \"a\": must start with slash, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[2]: Invalid value: \"/a b\": must not contain white-space, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[3]: Invalid value: \"/a//b\": must not contain double slash, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[4]: Invalid value: \"/a*\": wildcard can only do suffix matching, \
         spec.rules[1].nonResourceRules[0].nonResourceURLs[5]: Invalid value: \"/*/*\": wildcard can only do suffix matching]"
    );
    let queue = |queuing: Value| json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}});
    for (path, kind, spec, why) in [
        (
            SCHEMAS,
            "FlowSchema",
            json!({}),
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
        ),
        (
            SCHEMAS,
            "FlowSchema",
            json!({"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 1}),
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
        ),
        (
            SCHEMAS,
            "FlowSchema",
            json!({"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": -1, "distinguisherMethod": {"type": "No"}}),
            "[spec.matchingPrecedence: Invalid value: -1: must be a positive value, spec.distinguisherMethod.type: Unsupported \
             value: {\"Type\":\"No\"}: supported values: \"ByNamespace\", \"ByUser\"]",
        ),
        (SCHEMAS, "FlowSchema", mixed, &mixed_errors),
        (LEVELS, level, json!({}), "spec.type: Required value"),
        (
            LEVELS,
            level,
            json!({"type": "Exempt"}),
            "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
        ),
        (
            LEVELS,
            level,
            json!({"type": "Limited"}),
            "spec.limited: Required value: must not be empty when type is Limited",
        ),
        (
            LEVELS,
            level,
            json!({"type": "Limited", "limited": {}}),
            "spec.limited.limitResponse.type: Required value",
        ),
        (
            LEVELS,
            level,
            json!({"type": "Limited", "exempt": {}, "limited": {
                "nominalConcurrencyShares": -1, "lendablePercent": -1, "borrowingLimitPercent": -1,
                "limitResponse": {"type": "Reject", "queuing": {}},
            }}),
            "[spec.exempt: Forbidden: must be nil if the type is Limited, spec.limited.nominalConcurrencyShares: Invalid value: -1: \
             must be a non-negative integer, spec.limited.limitResponse.queuing: Forbidden: must be nil if \
             limited.limitResponse.type is not Limited, spec.limited.lendablePercent: Invalid value: -1: must be between 0 and \
             100, inclusive, spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer]",
        ),
        (
            LEVELS,
            level,
            queue(json!({"queues": 10_000_001, "handSize": 3})),
            "[spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000, \
             spec.limited.limitResponse.queuing.handSize: Invalid value: 3: required entropy bits of deckSize 10000001 and \
             handSize 3 should not be greater than 60]",
        ),
        (
            LEVELS,
            level,
            queue(json!({"queues": 5, "handSize": 6, "queueLengthLimit": -1})),
            "[spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive, \
             spec.limited.limitResponse.queuing.handSize: Invalid value: 6: should not be greater than queues (5)]",
        ),
    ] {
        let object = json!({"metadata": {"name": "x"}, "spec": spec});
        let message = format!("{kind}.flowcontrol.apiserver.k8s.io \"x\" is invalid: {why}");
        api.post(&format!("{path}?dryRun=All"), object)
            .await
            .refuses(422, "Invalid", &message);
    }
}

#[tokio::test]
async fn what_every_server_must_have_stays_as_it_is() {
    let api = Api::open().await;
    let path = format!("{SCHEMAS}/catch-all");
    let reply = api
        .patch(
            &path,
            "merge",
            json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}}}),
        )
        .await;
    let said = reply.is(422)["message"].as_str().unwrap().to_owned();
    assert!(
        said.ends_with("spec of 'catch-all' must equal the fixed value"),
        "{said}"
    );
    let path = format!("{LEVELS}/exempt?dryRun=All");
    api.patch(
        &path,
        "merge",
        json!({"spec": {"exempt": {"nominalConcurrencyShares": 3}}}),
    )
    .await
    .has(200, json!({"spec": {"exempt": {"nominalConcurrencyShares": 3}}}));
    let reply = api.patch(&path, "merge", json!({"spec": {"limited": {}}})).await;
    let said = reply.is(422)["message"].as_str().unwrap().to_owned();
    assert!(
        said.ends_with("spec of 'exempt' except the 'spec.exempt' field must equal the fixed value]"),
        "{said}"
    );
}

#[tokio::test]
async fn a_schema_says_whether_its_level_is_there_and_counts_from_then_on() {
    let api = Api::open().await;
    let name = api.namespace.as_str();
    let rule = json!({"verbs": ["*"], "nonResourceURLs": [format!("/{name}")]});
    let schema = json!({"metadata": {"name": name}, "spec": {
        "priorityLevelConfiguration": {"name": name}, "matchingPrecedence": 5000,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "nobody"}}], "nonResourceRules": [rule]}],
    }});
    api.post(SCHEMAS, schema).await.is(201);
    let path = format!("{SCHEMAS}/{name}");
    let told = async |reason: &'static str| {
        until(&api, reason, async || {
            let schema = api.get(&path).await.is(200);
            let condition = schema["status"]["conditions"].get(0)?.clone();
            (condition["reason"] == reason).then_some((condition, schema))
        })
        .await
    };
    let (condition, schema) = told("NotFound").await;
    assert_eq!(
        (&condition["type"], &condition["status"]),
        (&json!("Dangling"), &json!("True"))
    );
    assert_eq!(
        condition["message"],
        format!(
            "This FlowSchema references the PriorityLevelConfiguration object named \"{name}\" but there is no such object"
        )
    );
    assert_eq!(schema["metadata"]["generation"], 1);
    let managers = schema["metadata"]["managedFields"].as_array().unwrap().iter();
    let status: Vec<_> = managers
        .filter(|manager| manager["subresource"] == "status")
        .collect();
    assert_eq!(
        (&status[0]["manager"], &status[0]["operation"]),
        (
            &json!("api-priority-and-fairness-config-consumer-v1"),
            &json!("Apply")
        )
    );
    let level = json!({"metadata": {"name": name}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    api.post(LEVELS, level).await.is(201);
    let (condition, _) = told("Found").await;
    assert_eq!(
        condition["message"],
        format!(
            "This FlowSchema references the PriorityLevelConfiguration object named \"{name}\" and it exists"
        )
    );
    api.delete(&format!("{LEVELS}/{name}")).await.is(200);
    told("NotFound").await;
    api.delete(&path).await.is(200);
}

#[tokio::test]
async fn answers_say_how_the_request_was_counted() {
    let api = Api::open().await;
    let schema = api.get(&format!("{SCHEMAS}/exempt")).await.is(200);
    let level = api.get(&format!("{LEVELS}/exempt")).await.is(200);
    for path in [
        api.path("v1/configmaps"),
        format!("{}/none", api.path("v1/configmaps")),
        "/version".to_owned(),
        format!("{}?watch=true&timeoutSeconds=1", api.path("v1/configmaps")),
    ] {
        let reply = api.get(&path).await;
        assert_eq!(
            json!(reply.header("x-kubernetes-pf-flowschema-uid")),
            schema["metadata"]["uid"],
            "{path}"
        );
        assert_eq!(
            json!(reply.header("x-kubernetes-pf-prioritylevel-uid")),
            level["metadata"]["uid"],
            "{path}"
        );
    }
}
