//! Tokens of service accounts, limits, policies and webhooks.

use serde_json::{Value, json};

use super::{Api, config_map, deployment, here, until, until_status};
use crate::hooks::{Hooks, Reply as HookReply, patch};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

fn rules() -> Value {
    json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": ["configmaps", "deployments"]}])
}

#[tokio::test]
async fn tokens_are_issued_and_reviewed() {
    let api = Api::open().await;
    let accounts = api.path("v1/serviceaccounts");
    let made = api
        .post(&accounts, json!({"metadata": {"name": "robot"}}))
        .await
        .is(201);
    let uid = made["metadata"]["uid"].clone();
    let path = format!("{accounts}/robot/token");
    let issued = api
        .post(
            &path,
            json!({"spec": {"audiences": ["vault"], "expirationSeconds": 600}}),
        )
        .await
        .has(
            201,
            json!({"kind": "TokenRequest", "metadata": {"name": "robot", "uid": uid},
            "spec": {"audiences": ["vault"], "expirationSeconds": 600, "boundObjectRef": null}}),
        );
    let token = issued["status"]["token"].as_str().unwrap();
    let review = async |spec: Value| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        api.post(path, json!({"spec": spec})).await.is(201)["status"].clone()
    };
    let good = review(json!({"token": token, "audiences": ["vault"]})).await;
    assert_eq!(
        (&good["authenticated"], &good["audiences"]),
        (&json!(true), &json!(["vault"]))
    );
    assert_eq!(
        good["user"]["username"],
        format!("system:serviceaccount:{}:robot", api.namespace)
    );
    assert_eq!(
        good["user"]["groups"],
        json!([
            "system:serviceaccounts",
            format!("system:serviceaccounts:{}", api.namespace),
            "system:authenticated"
        ])
    );
    let other = review(json!({"token": token, "audiences": ["other"]})).await;
    assert_eq!(
        other,
        json!({"user": {}, "error": "[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences [\"other\"]]"})
    );
    assert_eq!(
        review(json!({"token": "junk"})).await,
        json!({"user": {}, "error": "invalid bearer token"})
    );
    api.post(&path, json!({"spec": {"expirationSeconds": 10}})).await.refuses(
        422,
        "Invalid",
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 10: may not specify a duration \
         less than 10 minutes",
    );
    let bound = json!({"spec": {"boundObjectRef": {"kind": "Secret", "apiVersion": "v1", "name": "none"}}});
    api.post(&path, bound)
        .await
        .refuses(404, "NotFound", "secrets \"none\" not found");
    api.post(&format!("{accounts}/nobody/token"), json!({}))
        .await
        .refuses(404, "NotFound", "serviceaccounts \"nobody\" not found");
}

#[tokio::test]
async fn limits_fill_in_and_refuse() {
    let api = Api::open().await;
    let accounts = api.path("v1/serviceaccounts");
    // Another server may have no controller for it; ours may have been faster.
    api.post(&accounts, json!({"metadata": {"name": "default"}}))
        .await;
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"cpu": "2"}},
    ]);
    api.post(
        &api.path("v1/limitranges"),
        json!({"metadata": {"name": "l"}, "spec": {"limits": limits}}),
    )
    .await
    .is(201);
    let pods = format!("{}?dryRun=All", api.path("v1/pods"));
    let pod = |containers: Value| json!({"metadata": {"name": "p"}, "spec": {"containers": containers}});
    let wide = json!({"limits": {"cpu": "1"}, "requests": {"cpu": "50m"}});
    let refused = until_status(&api, 403, async || {
        api.post(
            &pods,
            pod(json!([{"name": "a", "image": "x", "resources": wide}])),
        )
        .await
    });
    refused.await.refuses(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: cpu max limit to request ratio per Container is 10, but provided ratio is 20.000000",
    );
    api.post(&pods, pod(json!([{"name": "a", "image": "x"}]))).await.has(
        201,
        json!({
            "metadata": {"annotations": {"kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for container a; cpu limit for container a"}},
            "spec": {"containers": [{"resources": {"limits": {"cpu": "500m"}, "requests": {"cpu": "100m"}}}]},
        }),
    );
    let three: Vec<Value> = ["a", "b", "c"]
        .iter()
        .map(|name| json!({"name": name, "image": "x", "resources": {"limits": {"cpu": "1"}}}))
        .collect();
    api.post(&pods, pod(json!(three))).await.refuses(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: maximum cpu usage per Pod is 2, but limit is 3",
    );
}

#[tokio::test]
async fn policies_judge() {
    let api = Api::open().await;
    let name = &api.namespace;
    api.post(
        &api.path("v1/configmaps"),
        config_map("params", json!({"max": "2"})),
    )
    .await
    .is(201);
    let policy = json!({"metadata": {"name": name}, "spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": rules()},
        "matchConditions": [{"name": "not-params", "expression": "object.metadata.name != 'params'"}],
        "variables": [{"name": "size", "expression": "has(object.data) ? size(object.data) : 0"}],
        "validations": [
            {"expression": "variables.size <= int(params.data.max)", "messageExpression": "'at most ' + params.data.max + ', not ' + string(variables.size)", "reason": "Forbidden"},
            {"expression": "!has(object.data) || !('secret' in object.data)"},
            {"expression": "object.metadata.name != 'broken' || object.data.nope == 'x'"},
            {"expression": "authorizer.group('').resource('configmaps').namespace(request.namespace).check('create').allowed()"},
        ],
    }});
    api.post(&format!("{REGISTRATION}/validatingadmissionpolicies"), policy)
        .await
        .is(201);
    let binding = json!({"metadata": {"name": name}, "spec": {
        "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here(&api)},
        "paramRef": {"name": "params", "parameterNotFoundAction": "Deny"},
    }});
    api.post(
        &format!("{REGISTRATION}/validatingadmissionpolicybindings"),
        binding,
    )
    .await
    .is(201);
    let maps = format!("{}?dryRun=All", api.path("v1/configmaps"));
    let prefix = |object: &str| {
        format!(
            "configmaps {object:?} is forbidden: ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: "
        )
    };
    // At first a real server may not know the parameters yet, and refuses for that.
    let refused = until_status(&api, 403, async || {
        api.post(&maps, config_map("a", json!({"x": "", "y": "", "z": ""})))
            .await
    })
    .await;
    refused.refuses(403, "Forbidden", &format!("{}at most 2, not 3", prefix("a")));
    let refused = api.post(&maps, config_map("b", json!({"secret": ""}))).await;
    let text = "failed expression: !has(object.data) || !('secret' in object.data)";
    let refused = refused.refuses(422, "Invalid", &format!("{}{text}", prefix("b")));
    assert_eq!(
        refused["details"],
        json!({"name": "b", "kind": "configmaps", "causes": [{"message": format!("ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {text}")}]})
    );
    let text = "expression 'object.metadata.name != 'broken' || object.data.nope == 'x'' resulted in error: no such key: nope";
    api.post(&maps, config_map("broken", json!({"x": ""})))
        .await
        .refuses(422, "Invalid", &format!("{}{text}", prefix("broken")));
    api.post(&maps, config_map("c", json!({"x": ""}))).await.is(201);
    for plural in ["validatingadmissionpolicybindings", "validatingadmissionpolicies"] {
        api.delete(&format!("{REGISTRATION}/{plural}/{name}"))
            .await
            .is(200);
    }
}

#[tokio::test]
async fn policies_change() {
    let api = Api::open().await;
    let name = &api.namespace;
    let env = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: \
               object.spec.template.spec.containers.map(c, Object.spec.template.spec.containers{name: c.name, env: \
               [Object.spec.template.spec.containers.env{name: 'NAMESPACE', value: request.namespace}]})}}}}";
    let policy = json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": rules()}, "reinvocationPolicy": "Never", "failurePolicy": "Fail",
        "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "has(object.metadata.labels) ? [] : [JSONPatch{op: 'add', path: '/metadata/labels', value: {'a/b': 'c'}}]"}},
            {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'replace', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'd'}]"}},
        ],
    }});
    api.post(&format!("{REGISTRATION}/mutatingadmissionpolicies"), policy)
        .await
        .is(201);
    let bind = |to: &str| json!({"metadata": {"name": to}, "spec": {"policyName": to, "matchResources": {"namespaceSelector": here(&api)}}});
    api.post(
        &format!("{REGISTRATION}/mutatingadmissionpolicybindings"),
        bind(name),
    )
    .await
    .is(201);
    let maps = format!("{}?dryRun=All", api.path("v1/configmaps"));
    let changed = async || {
        let made = api.post(&maps, config_map("a", json!({}))).await.is(201);
        (made["metadata"]["labels"] == json!({"a/b": "d"})).then_some(())
    };
    until(&api, "the policy to change a ConfigMap", changed).await;

    let second = format!("{name}-env");
    let policy = json!({"metadata": {"name": second}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}]},
        "reinvocationPolicy": "Never",
        "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": env}}],
    }});
    api.post(&format!("{REGISTRATION}/mutatingadmissionpolicies"), policy)
        .await
        .is(201);
    api.post(
        &format!("{REGISTRATION}/mutatingadmissionpolicybindings"),
        bind(&second),
    )
    .await
    .is(201);
    let deployments = format!("{}?dryRun=All", api.path("apps/v1/deployments"));
    let container = until(&api, "the policy to change a Deployment", async || {
        let made = api.post(&deployments, deployment("d")).await.is(201);
        let container = made["spec"]["template"]["spec"]["containers"][0].clone();
        container.get("env").is_some().then_some(container)
    })
    .await;
    // Merged by name: the image stays.
    assert_eq!(container["image"], "nginx");
    assert_eq!(
        container["env"],
        json!([{"name": "NAMESPACE", "value": api.namespace}])
    );
    for policy in [name, &second] {
        for plural in ["mutatingadmissionpolicybindings", "mutatingadmissionpolicies"] {
            api.delete(&format!("{REGISTRATION}/{plural}/{policy}"))
                .await
                .is(200);
        }
    }
}

#[tokio::test]
async fn webhooks_change_and_judge() {
    let hooks = Hooks::start(|path, review| match path {
        "/deny" => HookReply::Review(
            json!({"allowed": false, "status": {"message": "no way", "code": 418, "reason": "Teapot"}}),
        ),
        "/warn" => HookReply::Review(json!({"allowed": true, "warnings": ["careful"]})),
        path => {
            let before = review["request"]["object"]["data"]["trail"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            patch(&json!([{"op": "add", "path": "/data/trail", "value": format!("{before}{path}")}]))
        }
    })
    .await;
    let api = Api::open().await;
    let name = &api.namespace;
    let selected = |path: &str, fields: Value| {
        let mut hook = hooks.hook(path, fields);
        hook["namespaceSelector"] = here(&api);
        hook
    };
    let labelled = |value: &str| json!({"objectSelector": {"matchLabels": {"hook": value}}, "reinvocationPolicy": "IfNeeded"});
    let never = json!({"objectSelector": {"matchLabels": {"hook": "trail"}}});
    let mutating = json!({"metadata": {"name": name}, "webhooks": [selected("/one", labelled("trail")), selected("/two", never)]});
    api.post(&format!("{REGISTRATION}/mutatingwebhookconfigurations"), mutating)
        .await
        .is(201);
    let only = |value: &str| json!({"objectSelector": {"matchLabels": {"hook": value}}});
    let validating = json!({"metadata": {"name": name}, "webhooks": [selected("/deny", only("deny")), selected("/warn", only("trail"))]});
    api.post(
        &format!("{REGISTRATION}/validatingwebhookconfigurations"),
        validating,
    )
    .await
    .is(201);
    let maps = format!("{}?dryRun=All", api.path("v1/configmaps"));
    let object = |value: &str| {
        let mut object = config_map("a", json!({"x": "y"}));
        object["metadata"]["labels"] = json!({"hook": value});
        object
    };
    let refused = until_status(&api, 418, async || api.post(&maps, object("deny")).await).await;
    refused.refuses(
        418,
        "Teapot",
        "admission webhook \"deny.hooks.dev\" denied the request: no way",
    );
    let made = until(&api, "the webhook's warning", async || {
        let made = api.post(&maps, object("trail")).await;
        (made.warnings() == [r#"299 - "careful""#]).then(|| made.is(201))
    })
    .await;
    assert_eq!(made["data"]["trail"], "/one/two/one");
    let asked = hooks.take();
    let (_, request) = asked.iter().rev().find(|(path, _)| path == "/warn").unwrap();
    assert_eq!(
        (
            &request["dryRun"],
            &request["operation"],
            &request["object"]["data"]["trail"]
        ),
        (&json!(true), &json!("CREATE"), &json!("/one/two/one"))
    );
    assert_eq!(request["options"]["dryRun"], json!(["All"]));
    for plural in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        api.delete(&format!("{REGISTRATION}/{plural}/{name}"))
            .await
            .is(200);
    }
}

#[tokio::test]
async fn fields_of_the_request_and_its_namespace_are_known_when_a_policy_is_written() {
    let api = Api::open().await;
    let asked = format!("{REGISTRATION}/validatingadmissionpolicies?dryRun=All");
    let policy = |expression: &str| {
        json!({"metadata": {"name": api.namespace}, "spec": {
            "matchConstraints": {"resourceRules": rules()}, "validations": [{"expression": expression}],
        }})
    };
    for fine in [
        "request.operation == 'CREATE' && request.options.dryRun == true && request.userInfo.extra['a'][0] == 'b'",
        "namespaceObject.metadata.labels['a'] == 'b' && namespaceObject.status.phase == 'Active'",
        "object.whatever == 1 && oldObject.whatever == 'x'",
    ] {
        api.post(&asked, policy(fine)).await.is(201);
    }
    for (wrong, expected) in [
        (
            "request.nope == 'x'",
            "ERROR: <input>:1:8: undefined field 'nope'\n | request.nope == 'x'\n | .......^",
        ),
        (
            "request.name == 1 || namespaceObject.kind == 'Namespace'",
            "ERROR: <input>:1:14: found no matching overload for '_==_' applied to '(string, int)'\n | request.name == 1 || \
             namespaceObject.kind == 'Namespace'\n | .............^\nERROR: <input>:1:37: undefined field 'kind'\n | request.name == 1 \
             || namespaceObject.kind == 'Namespace'\n | ....................................^",
        ),
    ] {
        let name = &api.namespace;
        api.post(&asked, policy(wrong)).await.refuses(
            422,
            "Invalid",
            &format!(
                "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"{name}\" is invalid: spec.validations[0].expression: Invalid \
                 value: \"{wrong}\": compilation failed: {expected}"
            ),
        );
    }
}
