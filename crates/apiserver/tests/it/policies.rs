//! Admission policies. The expected texts are those of kube-apiserver.

use serde_json::{Value, json};

use crate::support::{
    Answer, CONFIG_MAPS, CRDS, DEPLOYMENTS, TestServer, WIDGETS, config_map, deployment, widget, widgets,
};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules() -> Value {
    json!({"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": ["configmaps", "deployments"]}]})
}

/// Makes or replaces the policy `p` of a kind with its binding `b`.
async fn set(server: &TestServer, kind: &str, spec: Value, binding: Value) {
    let plural = match kind {
        "Validating" => "validatingadmissionpolicies",
        _ => "mutatingadmissionpolicies",
    };
    let bindings = plural.replace("policies", "policybindings");
    for path in [
        format!("{REGISTRATION}/{plural}/p"),
        format!("{REGISTRATION}/{bindings}/b"),
    ] {
        server.delete(&path).await;
    }
    let mut spec = spec;
    if spec.get("matchConstraints").is_none() {
        spec["matchConstraints"] = rules();
    }
    let mut binding = binding;
    binding["policyName"] = "p".into();
    server
        .post(
            &format!("{REGISTRATION}/{plural}"),
            json!({"metadata": {"name": "p"}, "spec": spec}),
        )
        .await
        .expect(201);
    server
        .post(
            &format!("{REGISTRATION}/{bindings}"),
            json!({"metadata": {"name": "b"}, "spec": binding}),
        )
        .await
        .expect(201);
}

fn deny() -> Value {
    json!({"validationActions": ["Deny"]})
}

async fn attempt(server: &TestServer) -> Answer {
    server
        .post(
            &format!("{CONFIG_MAPS}?dryRun=All"),
            config_map("m", json!({"a": "x"})),
        )
        .await
}

#[tokio::test]
async fn a_policy_denies_what_breaks_its_rules() {
    let server = TestServer::start();
    let rule = json!({"validations": [{"expression": "object.metadata.name.startsWith(\"ok\")"}]});
    set(&server, "Validating", rule, deny()).await;
    let refused = attempt(&server).await.expect(422);
    let text = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: object.metadata.name.startsWith(\"ok\")";
    assert_eq!(
        refused["message"],
        format!("configmaps \"m\" is forbidden: {text}")
    );
    assert_eq!(refused["reason"], "Invalid");
    assert_eq!(
        refused["details"],
        json!({"name": "m", "kind": "configmaps", "causes": [{"message": text}]})
    );
    server
        .post(CONFIG_MAPS, config_map("ok", json!({})))
        .await
        .expect(201);
    // Secrets are none of its business, and neither are deletions.
    server
        .post(
            "/api/v1/namespaces/default/secrets",
            json!({"metadata": {"name": "s"}}),
        )
        .await
        .expect(201);
    server.delete(&format!("{CONFIG_MAPS}/ok")).await.expect(200);
}

#[tokio::test]
async fn messages_reasons_and_actions() {
    let server = TestServer::start();
    let prefix =
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    for (spec, code, reason, message) in [
        (
            json!({"validations": [{"expression": "false", "message": "no"}]}),
            422,
            "Invalid",
            "no",
        ),
        (
            json!({"validations": [{"expression": "false", "messageExpression": "'no ' + object.data.a", "message": "m", "reason": "Forbidden"}]}),
            403,
            "Forbidden",
            "no x",
        ),
        (
            json!({"validations": [{"expression": "false", "messageExpression": "''", "message": "m"}]}),
            422,
            "Invalid",
            "m",
        ),
        (
            json!({"validations": [{"expression": "object.data.nope == '1'"}]}),
            422,
            "Invalid",
            "expression 'object.data.nope == '1'' resulted in error: no such key: nope",
        ),
        (
            json!({"variables": [{"name": "v", "expression": "object.data.nope"}], "validations": [{"expression": "variables.v == '1'"}]}),
            422,
            "Invalid",
            "expression 'variables.v == '1'' resulted in error: composited variable \"v\" fails to evaluate: no such key: nope",
        ),
        (
            json!({"matchConditions": [{"name": "c", "expression": "object.nope == 1"}], "validations": [{"expression": "false"}]}),
            422,
            "Invalid",
            "expression 'object.nope == 1' resulted in error: no such key: nope",
        ),
        (
            json!({"variables": [{"name": "n", "expression": "namespaceObject.metadata.name"}, {"name": "q", "expression": "quantity('2')"}],
                "validations": [{"expression": "variables.n != 'default' || variables.q.isLessThan(quantity('1'))", "messageExpression": "variables.n"}]}),
            422,
            "Invalid",
            "default",
        ),
        (
            json!({"validations": [{"expression": "!authorizer.requestResource.check('create').allowed()", "message": "may"}]}),
            422,
            "Invalid",
            "may",
        ),
        (
            json!({"validations": [{"expression": "request.operation != 'CREATE' || has(request.subResource) || request.namespace != 'default'", "message": "request"}]}),
            422,
            "Invalid",
            "request",
        ),
    ] {
        set(&server, "Validating", spec.clone(), deny()).await;
        let refused = attempt(&server).await.expect(code);
        assert_eq!(
            (&refused["message"], &refused["reason"]),
            (&json!(format!("{prefix}{message}")), &json!(reason))
        );
        // The same as a warning.
        set(
            &server,
            "Validating",
            spec,
            json!({"validationActions": ["Warn"]}),
        )
        .await;
        let warned = attempt(&server).await;
        assert_eq!(warned.status, 201, "{}", warned.text);
        let shown = message.replace('\\', "\\\\").replace('"', "\\\"");
        let expected = format!(
            "299 - \"Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': {shown}\""
        );
        assert_eq!(warned.header("warning"), expected);
    }
    for lets_in in [
        json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.nope == '1'"}]}),
        json!({"matchConditions": [{"name": "c", "expression": "object.metadata.name == 'other'"}], "validations": [{"expression": "false"}]}),
        json!({"variables": [{"name": "unused", "expression": "object.nope"}], "validations": [{"expression": "true"}]}),
        json!({"validations": [{"expression": "oldObject == null && object.data.a == 'x'"}]}),
    ] {
        set(&server, "Validating", lets_in, deny()).await;
        attempt(&server).await.expect(201);
    }
}

#[tokio::test]
async fn parameters_come_from_objects() {
    let server = TestServer::start();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConditions": [{"name": "params", "expression": "!object.metadata.name.startsWith('param')"}],
        "validations": [{"expression": "object.data.a == params.data.a", "messageExpression": "'want ' + params.data.a"}],
    });
    let bound = |reference: Value| json!({"validationActions": ["Deny"], "paramRef": reference});
    for (name, a) in [("param-1", "x"), ("param-2", "y")] {
        let mut params = config_map(name, json!({"a": a}));
        params["metadata"]["labels"] = json!({"set": "all", "of": name});
        server.post(CONFIG_MAPS, params).await.expect(201);
    }
    let prefix =
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
    let none =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    for (reference, refused) in [
        (
            json!({"name": "param-1", "parameterNotFoundAction": "Deny"}),
            None,
        ),
        (
            json!({"name": "param-2", "parameterNotFoundAction": "Deny"}),
            Some("want y"),
        ),
        (
            json!({"selector": {"matchLabels": {"of": "param-1"}}, "parameterNotFoundAction": "Deny"}),
            None,
        ),
        (
            json!({"selector": {"matchLabels": {"set": "all"}}, "parameterNotFoundAction": "Deny"}),
            Some("want y"),
        ),
        (json!({"name": "none", "parameterNotFoundAction": "Allow"}), None),
        (
            json!({"name": "none", "parameterNotFoundAction": "Deny"}),
            Some(none),
        ),
        (
            json!({"name": "param-1", "namespace": "kube-system", "parameterNotFoundAction": "Deny"}),
            Some(none),
        ),
    ] {
        set(&server, "Validating", spec.clone(), bound(reference.clone())).await;
        let answer = attempt(&server).await;
        match refused {
            None => assert_eq!(answer.status, 201, "{reference}: {}", answer.text),
            Some(why) => assert_eq!(
                answer.expect(422)["message"],
                format!("{prefix}{why}"),
                "{reference}"
            ),
        }
    }
    set(&server, "Validating", spec.clone(), deny()).await;
    let refused = attempt(&server).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.starts_with(&format!(
            "{prefix}expression 'object.data.a == params.data.a' resulted in error: no such "
        )),
        "{message}"
    );
    let mut unknown = spec;
    unknown["paramKind"] = json!({"apiVersion": "no.such/v1", "kind": "X"});
    set(
        &server,
        "Validating",
        unknown,
        bound(json!({"name": "x", "parameterNotFoundAction": "Deny"})),
    )
    .await;
    let refused = attempt(&server).await.expect(422);
    assert_eq!(
        refused["message"],
        "configmaps \"m\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find \
         resource referenced by paramKind: 'no.such/v1, Kind=X'"
    );
}

#[tokio::test]
async fn bindings_narrow_a_policy() {
    let server = TestServer::start();
    server
        .post(
            "/api/v1/namespaces",
            json!({"metadata": {"name": "other", "labels": {"strict": "yes"}}}),
        )
        .await
        .expect(201);
    let never = json!({"validations": [{"expression": "false"}]});
    let mut bound = deny();
    bound["matchResources"] = json!({"namespaceSelector": {"matchLabels": {"strict": "yes"}}, "excludeResourceRules": [
        {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*"]},
    ]});
    set(&server, "Validating", never, bound).await;
    attempt(&server).await.expect(201);
    server
        .post("/api/v1/namespaces/other/configmaps", config_map("m", json!({})))
        .await
        .expect(422);
    server
        .post("/apis/apps/v1/namespaces/other/deployments", deployment("d"))
        .await
        .expect(201);
    // A policy without a binding does nothing.
    server
        .delete(&format!("{REGISTRATION}/validatingadmissionpolicybindings/b"))
        .await
        .expect(200);
    server
        .post("/api/v1/namespaces/other/configmaps", config_map("m", json!({})))
        .await
        .expect(201);
}

#[tokio::test]
async fn policies_know_custom_resources() {
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    let spec = json!({
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.dev"], "apiVersions": ["*"], "resources": ["widgets", "widgets/status"]}]},
        "validations": [
            {"expression": "oldObject == null || object.spec.size <= oldObject.spec.size + 1", "message": "grow slowly"},
            {"expression": "!has(object.status) || !has(object.status.phase) || object.status.phase != 'Bad'", "message": "never bad"},
        ],
    });
    set(&server, "Validating", spec, deny()).await;
    server.post(WIDGETS, widget("w", 1)).await.expect(201);
    let path = format!("{WIDGETS}/w");
    let refused = server
        .patch(&path, "merge-patch", json!({"spec": {"size": 5}}))
        .await
        .expect(422);
    assert_eq!(
        refused["message"],
        "widgets.example.dev \"w\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: grow slowly"
    );
    server
        .patch(&path, "merge-patch", json!({"spec": {"size": 2}}))
        .await
        .expect(200);
    let status = json!({"status": {"phase": "Bad"}});
    server
        .patch(&format!("{path}/status"), "merge-patch", status)
        .await
        .expect(422);
}

fn apply(expression: &str) -> Value {
    json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]})
}

fn json_patch(expression: &str) -> Value {
    json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]})
}

#[tokio::test]
async fn a_policy_changes_objects() {
    let server = TestServer::start();
    for (spec, data, finalizers) in [
        (
            apply("Object{data: {'b': object.data.a + '!'}}"),
            json!({"a": "x", "b": "x!"}),
            json!(null),
        ),
        (
            apply("Object{metadata: Object.metadata{finalizers: ['a.b/c']}, data: {'a': 'y'}}"),
            json!({"a": "y"}),
            json!(["a.b/c"]),
        ),
        (
            json_patch("[JSONPatch{op: 'add', path: '/data/b', value: 'z'}]"),
            json!({"a": "x", "b": "z"}),
            json!(null),
        ),
        (
            json_patch(
                "[JSONPatch{op: 'test', path: '/data/a', value: 'no'}, JSONPatch{op: 'add', path: '/data/b', value: 'z'}]",
            ),
            json!({"a": "x"}),
            json!(null),
        ),
        (
            json_patch(
                "has(object.data.a) ? [JSONPatch{op: 'move', from: '/data/a', path: '/data/' + jsonpatch.escapeKey('c')}] : []",
            ),
            json!({"c": "x"}),
            json!(null),
        ),
    ] {
        set(&server, "Mutating", spec, json!({})).await;
        let made = attempt(&server).await.expect(201);
        assert_eq!(
            (&made["data"], &made["metadata"]["finalizers"]),
            (&data, &finalizers)
        );
    }
    // Lists with keys merge by key: the container stays, and gets a variable.
    let sidecar = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
                   [Object.spec.template.spec.containers{name: 'main', env: [Object.spec.template.spec.containers.env{name: 'A', value: 'b'}]}]}}}}";
    set(&server, "Mutating", apply(sidecar), json!({})).await;
    let made = server.post(DEPLOYMENTS, deployment("d")).await.expect(201);
    let containers = &made["spec"]["template"]["spec"]["containers"];
    assert_eq!(
        (&containers[0]["image"], &containers[0]["env"]),
        (&json!("nginx:1"), &json!([{"name": "A", "value": "b"}]))
    );
    assert_eq!(containers.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_policy_cannot_do_is_refused() {
    let server = TestServer::start();
    for (spec, why) in [
        (
            apply("Object{data: {'a': object.nope}}"),
            "expression 'Object{data: {'a': object.nope}}' resulted in error: no such key: nope",
        ),
        (
            apply("Object{nope: 1}"),
            "error applying patch: failed to convert patch object to typed object: .nope: field not declared in schema",
        ),
        (
            apply(
                "Object{metadata: Object.metadata{ownerReferences: [Object.metadata.ownerReferences{uid: 'u', name: 'n', kind: 'k', apiVersion: 'v1'}]}}",
            ),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .metadata.ownerReferences[0]",
        ),
        (
            json_patch("[JSONPatch{op: 'remove', path: '/nope'}]"),
            "JSON Patch: ",
        ),
    ] {
        set(&server, "Mutating", spec.clone(), json!({})).await;
        let refused = attempt(&server).await.expect(403);
        let message = refused["message"].as_str().unwrap();
        assert!(
            message.starts_with(&format!("policy 'p' with binding 'b' denied request: {why}")),
            "{message}"
        );
        assert_eq!(refused["reason"], "Invalid");
        let mut ignoring = spec;
        ignoring["failurePolicy"] = "Ignore".into();
        set(&server, "Mutating", ignoring, json!({})).await;
        assert_eq!(attempt(&server).await.expect(201)["data"], json!({"a": "x"}));
    }
}

#[tokio::test]
async fn a_policy_that_may_is_asked_again() {
    let server = TestServer::start();
    let first = json!({
        "matchConstraints": rules(), "reinvocationPolicy": "IfNeeded",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{data: {'seen': string(size(object.data))}}"}}],
    });
    let second = json!({
        "matchConstraints": rules(), "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{data: {'more': 'yes'}}"}}],
    });
    for (name, spec) in [("a", first), ("b", second)] {
        let policy = json!({"metadata": {"name": name}, "spec": spec});
        server
            .post(&format!("{REGISTRATION}/mutatingadmissionpolicies"), policy)
            .await
            .expect(201);
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name}});
        server
            .post(
                &format!("{REGISTRATION}/mutatingadmissionpolicybindings"),
                binding,
            )
            .await
            .expect(201);
    }
    let made = attempt(&server).await.expect(201);
    // At first there was one entry; the second time there are three.
    assert_eq!(made["data"], json!({"a": "x", "more": "yes", "seen": "3"}));
}

#[tokio::test]
async fn malformed_policies_are_refused_when_they_are_written() {
    let server = TestServer::start();
    let line = "spec.validations: Required value: validations or auditAnnotations must contain at least one item, \
                spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item";
    for (kind, spec, expected) in [
        ("ValidatingAdmissionPolicy", json!({}), format!("[spec.matchConstraints: Required value, {line}]")),
        ("ValidatingAdmissionPolicy", json!({"matchConstraints": rules()}), format!("[{line}]")),
        (
            "ValidatingAdmissionPolicy",
            json!({"matchConstraints": rules(), "validations": [
                {"expression": ""},
                {"expression": "true", "message": "a\nb", "reason": "X"},
                {"expression": "nope"},
                {"expression": "1"},
                {"expression": "true", "messageExpression": "1", "message": " "},
            ]}),
            "[spec.validations[0].expression: Required value: expression is not specified, spec.validations[1].message: Invalid \
             value: \"a\\nb\": must not contain line breaks, spec.validations[1].reason: Unsupported value: \"X\": supported values: \
             \"Forbidden\", \"Invalid\", \"RequestEntityTooLarge\", spec.validations[2].expression: Invalid value: \"nope\": \
             compilation failed: ERROR: <input>:1:1: undeclared reference to 'nope' (in container '')\n | nope\n | ^, \
             spec.validations[3].expression: Invalid value: \"1\": must evaluate to bool but got int, \
             spec.validations[4].messageExpression: Invalid value: \"1\": must evaluate to string but got int, \
             spec.validations[4].message: Invalid value: \" \": must be non-empty if specified]"
                .to_owned(),
        ),
        (
            "ValidatingAdmissionPolicy",
            json!({
                "matchConstraints": rules(),
                "validations": [{"expression": "variables.a && params.x == 1"}],
                "variables": [{"name": "a-b", "expression": "1"}, {"name": "a", "expression": ""}, {"name": "if", "expression": "variables.later"}],
            }),
            "[spec.variables[0].name: Invalid value: \"a-b\": must be a valid CEL identifier, spec.variables[1].expression: Required \
             value: expression is not specified, spec.variables[2].name: Invalid value: \"if\": must be a valid CEL identifier, \
             spec.variables[2].expression: Invalid value: \"variables.later\": compilation failed: ERROR: <input>:1:10: undefined \
             field 'later'\n | variables.later\n | .........^, spec.validations[0].expression: Invalid value: \"variables.a && \
             params.x == 1\": compilation failed: ERROR: <input>:1:16: undeclared reference to 'params' (in container '')\n | \
             variables.a && params.x == 1\n | ...............^]"
                .to_owned(),
        ),
        ("ValidatingAdmissionPolicyBinding", json!({}), "[spec.policyName: Required value, spec.validationActions: Required value: at least one validation action is required]".to_owned()),
        (
            "ValidatingAdmissionPolicyBinding",
            json!({"policyName": "p", "validationActions": ["Deny", "Warn", "X", "Deny"]}),
            "[spec.validationActions[2]: Unsupported value: \"X\": supported values: \"Audit\", \"Deny\", \"Warn\", \
             spec.validationActions[3]: Duplicate value: \"Deny\", spec.validationActions: Invalid value: \
             [\"Deny\",\"Warn\",\"X\",\"Deny\"]: must not contain both Deny and Warn (repeating the same validation failure information \
             in the API response and headers serves no purpose)]"
                .to_owned(),
        ),
        (
            "ValidatingAdmissionPolicyBinding",
            json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "X"}}),
            "[spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: Forbidden: name and \
             selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Unsupported value: \"X\": supported values: \
             \"Deny\", \"Allow\"]"
                .to_owned(),
        ),
        (
            "MutatingAdmissionPolicy",
            json!({}),
            "[spec.matchConstraints: Required value, spec.mutations: Required value: mutations must contain at least one item, \
             spec.reinvocationPolicy: Required value]"
                .to_owned(),
        ),
        (
            "MutatingAdmissionPolicy",
            json!({"matchConstraints": rules(), "reinvocationPolicy": "Never", "mutations": [
                {"patchType": "X"},
                {"patchType": "JSONPatch"},
                {"patchType": "JSONPatch", "jsonPatch": {"expression": "1"}},
                {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}},
                {"patchType": "JSONPatch", "applyConfiguration": {"expression": "Object{}"}},
            ]}),
            "[spec.mutations[0].patchType: Unsupported value: \"X\": supported values: \"ApplyConfiguration\", \"JSONPatch\", \
             spec.mutations[1].jsonPatch: Required value: must be specified when patchType is JSONPatch, \
             spec.mutations[2].jsonPatch.expression: Invalid value: \"1\": must evaluate to list(JSONPatch) but got int, \
             spec.mutations[3].applyConfiguration.expression: Invalid value: \"1\": must evaluate to Object but got int, \
             spec.mutations[4].jsonPatch: Required value: must be specified when patchType is JSONPatch, \
             spec.mutations[4].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is \
             JSONPatch]"
                .to_owned(),
        ),
    ] {
        let plural = kind.to_lowercase().replace("policy", "policies").replace("policiesbinding", "policybindings");
        let body = json!({"metadata": {"name": "x"}, "spec": spec});
        let refused = server.post(&format!("{REGISTRATION}/{plural}"), body).await.expect(422);
        assert_eq!(refused["message"], format!("{kind}.admissionregistration.k8s.io \"x\" is invalid: {expected}"));
    }
}

#[tokio::test]
async fn what_is_probably_wrong_with_expressions_is_in_the_status() {
    let server = TestServer::start();
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = |expression: &str| {
        let rule = json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]});
        json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": expression}]}})
    };
    let observed = async |generation: i64| {
        let ask = async || {
            let policy = server.get(&format!("{path}/p")).await.expect(200);
            (policy["status"]["observedGeneration"] == generation).then_some(policy)
        };
        server.until("the policy to be looked at", ask).await["status"].clone()
    };
    server
        .post(path, policy("object.spec.replica > 1"))
        .await
        .expect(201);
    let warning = "apps/v1, Kind=Deployment: ERROR: <input>:1:12: undefined field 'replica'\n | object.spec.replica > 1\n | ...........^\n";
    assert_eq!(
        observed(1).await,
        json!({"observedGeneration": 1, "typeChecking": {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": warning}]}})
    );
    let right = json!({"spec": policy("object.spec.replicas > 1")["spec"]});
    server
        .patch(&format!("{path}/p"), "merge-patch", right)
        .await
        .expect(200);
    assert_eq!(
        observed(2).await,
        json!({"observedGeneration": 2, "typeChecking": {}})
    );
}
