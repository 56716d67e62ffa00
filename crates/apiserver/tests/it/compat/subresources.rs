//! What webhooks and policies are shown of subresources that have a kind of their own.

use serde_json::{Value, json};

use super::{Api, deployment, here, until_status};
use crate::hooks::{Hooks, Reply as HookReply, patch};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

fn kind(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn rules() -> Value {
    json!([
        {"operations": ["CREATE", "CONNECT"], "apiGroups": [""], "apiVersions": ["v1"],
         "resources": ["pods/binding", "pods/eviction", "pods/exec", "pods/portforward", "pods/proxy", "services/proxy", "serviceaccounts/token"]},
        {"operations": ["UPDATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]},
    ])
}

/// The last question about a subresource.
fn asked(hooks: &Hooks, subresource: &str) -> Value {
    let all = hooks.take();
    let found = all
        .into_iter()
        .rev()
        .find(|(_, r)| r["subResource"] == subresource);
    found
        .unwrap_or_else(|| panic!("nobody was asked about {subresource}"))
        .1
}

#[track_caller]
fn same(found: &Value, expected: Value) {
    for (field, expected) in expected.as_object().unwrap() {
        let found = found.get(field).unwrap_or(&Value::Null);
        assert_eq!(found, expected, "{field}");
    }
}

#[tokio::test]
async fn webhooks_are_asked_about_subresources() {
    let hooks = Hooks::start(|_, review| {
        let request = &review["request"];
        if request["subResource"] == "scale" && request["object"]["spec"]["replicas"] == 5 {
            return patch(&json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]));
        }
        if request["object"]["metadata"]["labels"]["refuse"] == "yes" {
            return HookReply::Review(json!({"allowed": false, "status": {"message": "no way", "code": 403, "reason": "Forbidden"}}));
        }
        HookReply::Review(json!({"allowed": true, "warnings": ["seen"]}))
    })
    .await;
    let api = Api::open().await;
    let name = &api.namespace;
    let accounts = api.path("v1/serviceaccounts");
    api.post(&accounts, json!({"metadata": {"name": "default"}}))
        .await;
    let hook = hooks.hook("/all", json!({"rules": rules(), "namespaceSelector": here(&api)}));
    let configuration = json!({"metadata": {"name": name}, "webhooks": [hook]});
    let mutating = format!("{REGISTRATION}/mutatingwebhookconfigurations");
    api.post(&mutating, configuration).await.is(201);
    let pods = api.path("v1/pods");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    api.post(&pods, pod).await.is(201);

    // Bindings. At first a real server does not know of the webhook.
    let bind = format!("{pods}/p/binding");
    let refused = json!({"metadata": {"name": "p", "labels": {"refuse": "yes"}}, "target": {"kind": "Node", "name": "n"}});
    let dry = format!("{bind}?dryRun=All");
    let answer = until_status(&api, 403, async || api.post(&dry, refused.clone()).await).await;
    answer.refuses(
        403,
        "Forbidden",
        "admission webhook \"all.hooks.dev\" denied the request: no way",
    );
    let question = asked(&hooks, "binding");
    same(
        &question,
        json!({
            "kind": kind("", "v1", "Binding"), "requestKind": kind("", "v1", "Binding"),
            "resource": {"group": "", "version": "v1", "resource": "pods"}, "subResource": "binding",
            "requestSubResource": "binding", "name": "p", "namespace": name, "operation": "CREATE", "dryRun": true,
            "oldObject": null, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]},
        }),
    );
    let mut shown = question["object"].clone();
    shown["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(
        shown,
        json!({"kind": "Binding", "apiVersion": "v1", "metadata": {"name": "p", "namespace": name, "labels": {"refuse": "yes"}},
               "target": {"kind": "Node", "name": "n"}})
    );
    let bound = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = api.post(&bind, bound).await;
    assert_eq!(bound.warnings(), [r#"299 - "seen""#]);
    bound.is(201);

    // Scales.
    let deployments = api.path("apps/v1/deployments");
    api.post(&deployments, deployment("d")).await.is(201);
    let scale = format!("{deployments}/d/scale");
    let five = json!({"spec": {"replicas": 5}});
    api.patch(&scale, "merge", five)
        .await
        .has(200, json!({"kind": "Scale", "spec": {"replicas": 3}}));
    let question = asked(&hooks, "scale");
    same(
        &question,
        json!({
            "kind": kind("autoscaling", "v1", "Scale"), "requestKind": kind("autoscaling", "v1", "Scale"),
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"}, "name": "d", "operation": "UPDATE",
        }),
    );
    let seen = |field: &str| {
        let object = &question[field];
        (
            object["kind"].clone(),
            object["spec"].clone(),
            object["status"]["selector"].clone(),
        )
    };
    assert_eq!(
        seen("object"),
        (json!("Scale"), json!({"replicas": 5}), json!("app=d"))
    );
    assert_eq!(
        seen("oldObject"),
        (json!("Scale"), json!({"replicas": 1}), json!("app=d"))
    );
    api.get(&format!("{deployments}/d"))
        .await
        .has(200, json!({"spec": {"replicas": 3}}));

    // Tokens.
    api.post(
        &format!("{accounts}/default/token"),
        json!({"spec": {"audiences": ["a"]}}),
    )
    .await
    .is(201);
    let question = asked(&hooks, "token");
    same(
        &question,
        json!({
            "kind": kind("authentication.k8s.io", "v1", "TokenRequest"), "operation": "CREATE", "name": "default",
            "resource": {"group": "", "version": "v1", "resource": "serviceaccounts"},
        }),
    );
    assert_eq!(question["object"]["spec"]["audiences"], json!(["a"]));

    // Connections: asked about before it is found out that there is nothing to connect with.
    for (method, path, subresource, wanted) in [
        (
            "GET",
            format!("{pods}/p/exec?command=ls&command=-l&container=a&stdout=true&tty=true"),
            "exec",
            json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "tty": true, "container": "a", "command": ["ls", "-l"]}),
        ),
        (
            "POST",
            format!("{pods}/p/portforward?ports=8080"),
            "portforward",
            json!({"kind": "PodPortForwardOptions", "apiVersion": "v1", "ports": [8080]}),
        ),
        (
            "PUT",
            format!("{pods}/none/proxy/some/where"),
            "proxy",
            json!({"kind": "PodProxyOptions", "apiVersion": "v1", "path": "/some/where"}),
        ),
        (
            "GET",
            format!("{}/web:http/proxy", api.path("v1/services")),
            "proxy",
            json!({"kind": "ServiceProxyOptions", "apiVersion": "v1"}),
        ),
    ] {
        api.send(method, &path, &[], Vec::new()).await;
        let question = asked(&hooks, subresource);
        same(
            &question,
            json!({"operation": "CONNECT", "object": wanted, "oldObject": null, "options": null, "dryRun": false}),
        );
    }

    // Evictions: who judges deletions is not asked, whoever judges evictions is.
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    api.post(&format!("{pods}/p/eviction"), eviction).await.is(201);
    let question = asked(&hooks, "eviction");
    same(
        &question,
        json!({"kind": kind("policy", "v1", "Eviction"), "operation": "CREATE", "name": "p"}),
    );
    let mut shown = question["object"].clone();
    shown["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(
        shown,
        json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": "p", "namespace": name},
               "deleteOptions": {"gracePeriodSeconds": 0}})
    );
    api.delete(&format!("{mutating}/{name}")).await.is(200);
}

#[tokio::test]
async fn policies_judge_scales_and_connections() {
    let api = Api::open().await;
    let name = &api.namespace;
    let policy = json!({"metadata": {"name": name}, "spec": {
        "matchConstraints": {"resourceRules": rules()},
        "validations": [
            {"expression": "request.subResource != 'scale' || object.spec.replicas <= oldObject.spec.replicas + 1", "message": "one by one"},
            {"expression": "request.operation != 'CONNECT' || !('sh' in object.command)", "messageExpression": "'not ' + object.command[0]"},
        ],
    }});
    let (policies, bindings) = (
        format!("{REGISTRATION}/validatingadmissionpolicies"),
        format!("{REGISTRATION}/validatingadmissionpolicybindings"),
    );
    api.post(&policies, policy).await.is(201);
    let binding = json!({"metadata": {"name": name}, "spec": {
        "policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here(&api)},
    }});
    api.post(&bindings, binding).await.is(201);
    let deployments = api.path("apps/v1/deployments");
    api.post(&deployments, deployment("d")).await.is(201);
    let scale = format!("{deployments}/d/scale?dryRun=All");
    let to = |replicas: i64| json!({"spec": {"replicas": replicas}});
    let by = format!("ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request");
    let refused = until_status(&api, 422, async || api.patch(&scale, "merge", to(3)).await).await;
    refused.refuses(
        422,
        "Invalid",
        &format!("deployments.apps \"d\" is forbidden: {by}: one by one"),
    );
    api.patch(&scale, "merge", to(2)).await.is(200);
    let path = format!("{}/p/exec?command=sh", api.path("v1/pods"));
    api.get(&path)
        .await
        .refuses(422, "Invalid", &format!("pods \"p\" is forbidden: {by}: not sh"));
    for path in [bindings, policies] {
        api.delete(&format!("{path}/{name}")).await.is(200);
    }
}
