//! The Pod Security Standards, as labels of namespaces ask for them.

use serde_json::{Value, json};

use super::{Api, deployment, until};

const NAMESPACES: &str = "/api/v1/namespaces";
const PREFIX: &str = "pod-security.kubernetes.io/";

/// A namespace with these labels, where Pods can be made.
async fn open(labels: &[(&str, &str)]) -> Api {
    let api = Api::open().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post(&api.path("v1/serviceaccounts"), account).await;
    if !labels.is_empty() {
        label(&api, labels).await;
    }
    api
}

/// Labels the namespace; gives the warnings.
async fn label(api: &Api, labels: &[(&str, &str)]) -> Vec<String> {
    let labels = labels
        .iter()
        .map(|(key, value)| (format!("{PREFIX}{key}"), json!(value)));
    let labels = json!({"metadata": {"labels": Value::Object(labels.collect())}});
    let path = format!("{NAMESPACES}/{}", api.namespace);
    let reply = api.patch(&path, "merge", labels).await;
    let warnings = reply.warnings();
    reply.is(200);
    warnings
}

fn warning(text: &str) -> String {
    format!("299 - \"{}\"", text.replace('"', "\\\""))
}

fn pod(name: &str, spec: &Value) -> Value {
    let mut whole = json!({"containers": [{"name": "a", "image": "x"}]});
    for (field, value) in spec.as_object().unwrap() {
        whole[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": whole})
}

/// A Pod that no standard has anything against.
fn good(name: &str) -> Value {
    let secure = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    pod(
        name,
        &json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "a", "image": "x", "securityContext": secure}],
            // One without a source is an emptyDir.
            "volumes": [{"name": "scratch"}],
            "automountServiceAccountToken": false,
        }),
    )
}

/// What a Pod that says nothing lacks.
const LACKS: &str = "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
     unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
     runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
     seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";

/// Until another server has heard of the labels, it lets everything in.
async fn until_refused(api: &Api) {
    let asked = format!("{}?dryRun=All", api.path("v1/pods"));
    let host = json!({"hostNetwork": true, "hostPID": true, "hostIPC": true});
    until(api, "the labels to count", async || {
        let reply = api.post(&asked, pod("host", &host)).await;
        (reply.status == 403).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_breaks_what_is_enforced_is_refused() {
    let api = open(&[("enforce", "restricted")]).await;
    until_refused(&api).await;
    let pods = api.path("v1/pods");
    let refused = api.post(&pods, pod("p", &json!({}))).await;
    assert_eq!(refused.warnings(), Vec::<String>::new());
    let status = refused.refuses(
        403,
        "Forbidden",
        &format!("pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": {LACKS}"),
    );
    assert_eq!(status["details"], json!({"name": "p", "kind": "pods"}));
    let fine = api.post(&pods, good("p")).await;
    assert_eq!(fine.warnings(), Vec::<String>::new());
    fine.has(
        201,
        json!({"spec": {"volumes": [{"name": "scratch", "emptyDir": {}}]}}),
    );
    // A name is made before it is judged.
    let mut nameless = pod("", &json!({}));
    nameless["metadata"] = json!({"generateName": "many-"});
    let status = api.post(&pods, nameless).await.is(403);
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("pods \"many-"), "{message}");
}

#[tokio::test]
async fn versions_tell_which_checks_count() {
    let api = open(&[("enforce", "restricted"), ("enforce-version", "v1.7")]).await;
    until_refused(&api).await;
    let pods = api.path("v1/pods");
    api.post(&pods, pod("p", &json!({"hostPID": true}))).await.refuses(
        403,
        "Forbidden",
        "pods \"p\" is forbidden: violates PodSecurity \"restricted:v1.7\": host namespaces (hostPID=true), runAsNonRoot != true \
         (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
    );
    label(&api, &[("enforce", "baseline"), ("enforce-version", "v1.999")]).await;
    let bad = json!({
        "hostIPC": true,
        "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}], "seLinuxOptions": {"user": "u"}},
        "containers": [{
            "name": "a", "image": "x", "ports": [{"containerPort": 80, "hostPort": 80}],
            "livenessProbe": {"tcpSocket": {"host": "elsewhere", "port": 80}},
            "securityContext": {"capabilities": {"add": ["NET_RAW"]}, "appArmorProfile": {"type": "Unconfined"}},
        }],
        "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
    });
    let expected = "pods \"p\" is forbidden: violates PodSecurity \"baseline:v1.999\": forbidden AppArmor profile (container \"a\" \
         must not set AppArmor profile type to \"Unconfined\"), non-default capabilities (container \"a\" must not include \
         \"NET_RAW\" in securityContext.capabilities.add), host namespaces (hostIPC=true), hostPath volumes (volume \"h\"), \
         hostPort (container \"a\" uses hostPort 80), probe or lifecycle host (container \"a\" uses probe or lifecycle host \
         \"elsewhere\"), seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set), forbidden \
         sysctls (net.core.somaxconn)";
    let refused = until(&api, "the new labels to count", async || {
        let reply = api.post(&pods, pod("p", &bad)).await;
        reply.text().contains("v1.999").then_some(reply)
    });
    refused.await.refuses(403, "Forbidden", expected);
}

#[tokio::test]
async fn who_only_warns_lets_in() {
    let api = open(&[
        ("warn", "baseline"),
        ("warn-version", "v1.30"),
        ("audit", "restricted"),
    ])
    .await;
    let pods = api.path("v1/pods");
    let host = pod("p", &json!({"hostIPC": true}));
    let would = |kind: &str| {
        warning(&format!(
            "would violate PodSecurity \"{kind}\": host namespaces (hostIPC=true)"
        ))
    };
    let warned = until(&api, "a warning", async || {
        let reply = api.post(&format!("{pods}?dryRun=All"), host.clone()).await;
        (!reply.warnings().is_empty()).then_some(reply)
    });
    let warned = warned.await;
    assert_eq!(warned.warnings(), [would("baseline:v1.30")]);
    warned.is(201);
    let plain = api.post(&pods, pod("p", &json!({}))).await;
    assert_eq!(plain.warnings(), Vec::<String>::new());
    plain.is(201);
    // Nothing is refused for a template, and it is always warned of. A scale is not.
    let deployments = api.path("apps/v1/deployments");
    let mut made = deployment("d");
    made["spec"]["template"]["spec"]["hostIPC"] = true.into();
    let reply = api.post(&deployments, made).await;
    assert_eq!(reply.warnings(), [would("baseline:v1.30")]);
    reply.is(201);
    let d = format!("{deployments}/d");
    let reply = api
        .patch(&d, "merge", json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    assert_eq!(reply.warnings(), [would("baseline:v1.30")]);
    reply.is(200);
    for subresource in ["scale", "status"] {
        let changed = json!({"spec": {"replicas": 0}, "status": {"replicas": 0}});
        let reply = api.patch(&format!("{d}/{subresource}"), "merge", changed).await;
        assert_eq!(reply.warnings(), Vec::<String>::new(), "{subresource}");
        reply.is(200);
    }
}

#[tokio::test]
async fn templates_of_all_kinds_are_warned_of_where_pods_are_refused() {
    let api = open(&[("enforce", "baseline")]).await;
    until_refused(&api).await;
    let selector = json!({"matchLabels": {"app": "w"}});
    let template = |policy: &str| {
        let spec =
            json!({"hostPID": true, "restartPolicy": policy, "containers": [{"name": "a", "image": "x"}]});
        json!({"metadata": {"labels": {"app": "w"}}, "spec": spec})
    };
    let running = json!({"selector": selector, "template": template("Always")});
    let job = json!({"template": template("Never")});
    let named = |body: Value| {
        let mut body = body;
        body["metadata"] = json!({"name": "w"});
        body
    };
    for (path, body) in [
        ("apps/v1/deployments", json!({"spec": running})),
        ("apps/v1/replicasets", json!({"spec": running})),
        ("apps/v1/daemonsets", json!({"spec": running})),
        (
            "apps/v1/statefulsets",
            json!({"spec": {"selector": selector, "template": template("Always"), "serviceName": "w"}}),
        ),
        (
            "v1/replicationcontrollers",
            json!({"spec": {"selector": {"app": "w"}, "template": template("Always")}}),
        ),
        ("v1/podtemplates", json!({"template": template("Always")})),
        ("batch/v1/jobs", json!({"spec": job})),
        (
            "batch/v1/cronjobs",
            json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}}}),
        ),
    ] {
        let reply = api.post(&api.path(path), named(body)).await;
        let expected = "would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
        assert_eq!(reply.warnings(), [warning(expected)], "{path}");
        reply.is(201);
    }
    // It is let in, but may not be without a Pod: this one is not judged.
    let without = json!({"metadata": {"name": "none"}, "spec": {"selector": {"app": "w"}, "replicas": 0}});
    let reply = api.post(&api.path("v1/replicationcontrollers"), without).await;
    assert_eq!(reply.warnings(), Vec::<String>::new());
}

#[tokio::test]
async fn a_pod_that_is_there_is_judged_anew_when_it_matters() {
    let api = open(&[]).await;
    let pods = api.path("v1/pods");
    api.post(&pods, pod("p", &json!({"hostPID": true}))).await.is(201);
    label(&api, &[("enforce", "baseline")]).await;
    until_refused(&api).await;
    let p = format!("{pods}/p");
    // What it already is, it may stay.
    let labelled = json!({"metadata": {"labels": {"a": "b"}}});
    api.patch(&p, "merge", labelled).await.is(200);
    api.patch(
        &format!("{p}/status"),
        "merge",
        json!({"status": {"reason": "r"}}),
    )
    .await
    .is(200);
    let expected =
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostPID=true)";
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "y"}]);
    api.patch(&p, "json", image)
        .await
        .refuses(403, "Forbidden", expected);
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}});
    api.patch(&format!("{p}/ephemeralcontainers"), "strategic-merge", debugger)
        .await
        .refuses(403, "Forbidden", expected);
}

#[tokio::test]
async fn labels_of_namespaces_have_to_make_sense() {
    let api = open(&[]).await;
    let path = format!("{NAMESPACES}/{}", api.namespace);
    let name = &api.namespace;
    let labels = |pairs: Value| json!({"metadata": {"labels": pairs}});
    let wrong = json!({"pod-security.kubernetes.io/enforce": "strict", "pod-security.kubernetes.io/warn-version": "1.30"});
    let status = api.patch(&path, "merge", labels(wrong)).await.refuses(
        422,
        "Invalid",
        &format!(
            "Namespace \"{name}\" is invalid: [metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be \
             one of privileged, baseline, restricted, metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \
             \"1.30\": must be \"latest\" or \"v1.x\"]"
        ),
    );
    assert_eq!(status["details"]["kind"], "Namespace");
    let mut created = labels(json!({"pod-security.kubernetes.io/audit": "all"}));
    created["metadata"]["name"] = format!("{name}-2").into();
    api.post(NAMESPACES, created).await.refuses(
        422,
        "Invalid",
        &format!(
            "Namespace \"{name}-2\" is invalid: metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"all\": must be one \
             of privileged, baseline, restricted"
        ),
    );
}

#[tokio::test]
async fn whoever_makes_a_namespace_stricter_hears_of_its_pods() {
    let api = open(&[]).await;
    let pods = api.path("v1/pods");
    for name in ["c", "b"] {
        let sysctls = json!({"sysctls": [{"name": name, "value": "1"}]});
        api.post(&pods, pod(name, &json!({"securityContext": sysctls})))
            .await
            .is(201);
    }
    for name in ["h1", "h2", "h3"] {
        api.post(&pods, pod(name, &json!({"hostPID": true, "hostNetwork": true})))
            .await
            .is(201);
    }
    api.post(&pods, good("good")).await.is(201);
    api.post(&pods, pod("plain", &json!({}))).await.is(201);
    let name = &api.namespace;
    let found = |level: &str, pods: &[&str]| {
        let first = format!(
            "existing pods in namespace \"{name}\" violate the new PodSecurity enforce level \"{level}\""
        );
        let all = std::iter::once(first.as_str()).chain(pods.iter().copied());
        all.map(warning).collect::<Vec<_>>()
    };
    let asked = format!("{NAMESPACES}/{name}?dryRun=All");
    let baseline = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    // Another server may not have heard of the Pods yet.
    let expected = found(
        "baseline:latest",
        &[
            "b (and 1 other pod): forbidden sysctls",
            "h1 (and 2 other pods): host namespaces",
        ],
    );
    until(&api, "the Pods to be found", async || {
        let reply = api.patch(&asked, "merge", baseline.clone()).await;
        (reply.warnings() == expected).then_some(())
    })
    .await;
    // To warn needs no look at what is there, and neither does what is not stricter.
    assert_eq!(label(&api, &[("warn", "restricted")]).await, Vec::<String>::new());
    assert_eq!(label(&api, &[("enforce", "baseline")]).await, expected);
    assert_eq!(
        label(&api, &[("enforce", "baseline")]).await,
        Vec::<String>::new()
    );
    let lacks =
        "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile";
    assert_eq!(
        label(&api, &[("enforce", "restricted"), ("enforce-version", "v1.34")]).await,
        found(
            "restricted:v1.34",
            &[
                &format!("b (and 1 other pod): forbidden sysctls, {lacks}"),
                &format!("h1 (and 2 other pods): host namespaces, {lacks}"),
                &format!("plain: {lacks}"),
            ]
            .map(|text| text as &str)
        )
    );
    assert_eq!(
        label(&api, &[("enforce", "privileged")]).await,
        Vec::<String>::new()
    );
}
