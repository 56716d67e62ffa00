//! Admission webhooks. The expected texts are those of kube-apiserver.

use axum::body::Body;
use choreo_apiserver::UserInfo;
use http::Request;
use serde_json::{Value, json};

use crate::hooks::{Hooks, Reply, patch};
use crate::support::{CONFIG_MAPS, CRDS, TestServer, WIDGETS, config_map, widget, widgets};

const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

fn allow() -> Reply {
    Reply::Review(json!({"allowed": true}))
}

async fn register(server: &TestServer, kind: &str, name: &str, hooks: Vec<Value>) {
    let plural = format!("{}s", kind.to_lowercase());
    let body = json!({"kind": kind, "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": name}, "webhooks": hooks});
    server
        .post(&format!("{REGISTRATION}/{plural}"), body)
        .await
        .expect(201);
}

async fn unregister(server: &TestServer, kind: &str, name: &str) {
    let plural = format!("{}s", kind.to_lowercase());
    server
        .delete(&format!("{REGISTRATION}/{plural}/{name}"))
        .await
        .expect(200);
}

const VALIDATING: &str = "ValidatingWebhookConfiguration";
const MUTATING: &str = "MutatingWebhookConfiguration";

#[tokio::test]
async fn a_webhook_is_told_all_about_a_write() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let server = TestServer::start();
    register(&server, VALIDATING, "v", vec![hooks.hook("/see", json!({}))]).await;
    let jane = UserInfo {
        uid: "42".into(),
        extra: [("scopes".to_owned(), vec!["a".to_owned()])].into(),
        ..UserInfo::new("jane", ["system:masters"])
    };
    let request = Request::post(format!(
        "{CONFIG_MAPS}?dryRun=All&fieldManager=me&fieldValidation=Strict"
    ))
    .header("content-type", "application/json")
    .extension(jane);
    let body = config_map("a", json!({"x": "1"}));
    server
        .send(request.body(Body::from(body.to_string())).unwrap())
        .await
        .expect(201);
    let (path, mut asked) = hooks.take().remove(0);
    assert_eq!(path, "/see");
    assert_eq!(asked["uid"].as_str().unwrap().len(), 36);
    assert_eq!(asked["object"]["data"], json!({"x": "1"}));
    assert_eq!(asked["object"]["metadata"]["name"], "a");
    for field in ["uid", "object"] {
        asked.as_object_mut().unwrap().remove(field);
    }
    assert_eq!(
        asked,
        json!({
            "kind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "resource": {"group": "", "version": "v1", "resource": "configmaps"},
            "requestKind": {"group": "", "version": "v1", "kind": "ConfigMap"},
            "requestResource": {"group": "", "version": "v1", "resource": "configmaps"},
            "name": "a", "namespace": "default", "operation": "CREATE",
            "userInfo": {"username": "jane", "uid": "42", "groups": ["system:masters", "system:authenticated"], "extra": {"scopes": ["a"]}},
            "oldObject": null, "dryRun": true,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "fieldManager": "me", "fieldValidation": "Strict"},
        })
    );
    server
        .post(CONFIG_MAPS, config_map("a", json!({"x": "1"})))
        .await
        .expect(201);
    server
        .patch(
            &format!("{CONFIG_MAPS}/a"),
            "merge-patch",
            json!({"data": {"x": "2"}}),
        )
        .await
        .expect(200);
    server.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    let asked: Vec<Value> = hooks.take().into_iter().map(|(_, asked)| asked).collect();
    let facts: Vec<_> = asked
        .iter()
        .map(|a| {
            (
                &a["operation"],
                &a["object"]["data"]["x"],
                &a["oldObject"]["data"]["x"],
                &a["options"]["kind"],
            )
        })
        .collect();
    assert_eq!(
        facts,
        [
            (
                &json!("CREATE"),
                &json!("1"),
                &json!(null),
                &json!("CreateOptions")
            ),
            (&json!("UPDATE"), &json!("2"), &json!("1"), &json!("PatchOptions")),
            (
                &json!("DELETE"),
                &json!(null),
                &json!("2"),
                &json!("DeleteOptions")
            ),
        ]
    );
}

#[tokio::test]
async fn refusals_and_failures_are_told_in_known_words() {
    let hooks = Hooks::start(|path, _| match path {
        "/deny" => Reply::Review(json!({"allowed": false})),
        "/teapot" => Reply::Review(
            json!({"allowed": false, "status": {"message": "no way", "code": 418, "reason": "Teapot"}}),
        ),
        "/reason" => Reply::Review(json!({"allowed": false, "status": {"reason": "because"}})),
        "/uid" => Reply::Review(json!({"allowed": true, "uid": "x"})),
        "/patch" => Reply::Review(json!({"allowed": true, "patch": "W10="})),
        "/broken" => Reply::Raw(500, "oops".to_owned()),
        "/slow" => Reply::Never,
        _ => allow(),
    })
    .await;
    let server = TestServer::start();
    let port = hooks.port;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = free.local_addr().unwrap().port();
    drop(free);
    let internal = "Internal error occurred: failed calling webhook";
    for (path, fields, code, reason, message) in [
        ("/deny", json!({}), 400, json!(null), "admission webhook \"deny.hooks.dev\" denied the request without explanation".to_owned()),
        ("/teapot", json!({}), 418, json!("Teapot"), "admission webhook \"teapot.hooks.dev\" denied the request: no way".to_owned()),
        ("/reason", json!({}), 400, json!("because"), "admission webhook \"reason.hooks.dev\" denied the request: because".to_owned()),
        (
            "/slow",
            json!({"timeoutSeconds": 1}),
            500,
            json!("InternalError"),
            format!("{internal} \"slow.hooks.dev\": failed to call webhook: Post \"https://127.0.0.1:{port}/slow?timeout=1s\": context deadline exceeded"),
        ),
        (
            "/broken",
            json!({}),
            500,
            json!("InternalError"),
            format!("{internal} \"broken.hooks.dev\": failed to call webhook: an error on the server (\"oops\") has prevented the request from succeeding"),
        ),
        (
            "/patch",
            json!({}),
            500,
            json!("InternalError"),
            format!("{internal} \"patch.hooks.dev\": received invalid webhook response: webhook returned response.patch but not response.patchType"),
        ),
        (
            "/gone",
            json!({"clientConfig": {"url": format!("https://127.0.0.1:{nobody}/gone"), "caBundle": hooks.bundle()}}),
            500,
            json!("InternalError"),
            format!("{internal} \"gone.hooks.dev\": failed to call webhook: Post \"https://127.0.0.1:{nobody}/gone?timeout=10s\": dial tcp 127.0.0.1:{nobody}: connect: connection refused"),
        ),
        (
            "/service",
            json!({"clientConfig": {"service": {"name": "none", "namespace": "default"}, "caBundle": hooks.bundle()}}),
            500,
            json!("InternalError"),
            format!("{internal} \"service.hooks.dev\": failed to call webhook: Post \"https://none.default.svc:443/?timeout=10s\": service \"none\" not found"),
        ),
        (
            "/condition",
            json!({"matchConditions": [{"name": "c", "expression": "object.nope == 1"}]}),
            403,
            json!("Forbidden"),
            "configmaps \"a\" is forbidden: expression 'object.nope == 1' resulted in error: no such key: nope".to_owned(),
        ),
    ] {
        register(&server, VALIDATING, "v", vec![hooks.hook(path, fields.clone())]).await;
        let refused = server.post(CONFIG_MAPS, config_map("a", json!({}))).await.expect(code);
        assert_eq!((&refused["message"], &refused["reason"]), (&json!(message), &reason), "{path}");
        unregister(&server, VALIDATING, "v").await;
        // Who refuses is heard whatever the failure policy; who cannot be asked only if that is `Fail`.
        let mut ignoring = fields;
        ignoring["failurePolicy"] = "Ignore".into();
        register(&server, VALIDATING, "v", vec![hooks.hook(path, ignoring)]).await;
        let answer = server.post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("a", json!({}))).await;
        let refuses = matches!(path, "/deny" | "/teapot" | "/reason");
        assert_eq!(answer.status == 201, !refuses, "{path}: {}", answer.text);
        unregister(&server, VALIDATING, "v").await;
    }
    register(&server, VALIDATING, "v", vec![hooks.hook("/uid", json!({}))]).await;
    let refused = server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(500);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("received invalid webhook response: expected response.uid=\""),
        "{message}"
    );
    assert!(message.ends_with("\", got \"x\""), "{message}");
}

#[tokio::test]
async fn warnings_reach_the_client() {
    let hooks =
        Hooks::start(|_, _| Reply::Review(json!({"allowed": true, "warnings": ["careful", "twice"]}))).await;
    let server = TestServer::start();
    register(&server, VALIDATING, "v", vec![hooks.hook("/warn", json!({}))]).await;
    let made = server.post(CONFIG_MAPS, config_map("a", json!({}))).await;
    let warnings: Vec<_> = made
        .headers
        .get_all("warning")
        .iter()
        .map(|w| w.to_str().unwrap())
        .collect();
    assert_eq!(warnings, [r#"299 - "careful""#, r#"299 - "twice""#]);
}

#[tokio::test]
async fn webhooks_change_objects_one_after_the_other() {
    let hooks = Hooks::start(|path, review| {
        let before = review["request"]["object"]["data"]["trail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        patch(&json!([{"op": "add", "path": "/data/trail", "value": format!("{before}{path}")}]))
    })
    .await;
    let server = TestServer::start();
    register(&server, MUTATING, "b", vec![hooks.hook("/three", json!({}))]).await;
    let first = vec![
        hooks.hook("/one", json!({"reinvocationPolicy": "IfNeeded"})),
        hooks.hook("/two", json!({})),
    ];
    register(&server, MUTATING, "a", first).await;
    let made = server
        .post(CONFIG_MAPS, config_map("x", json!({"a": "b"})))
        .await
        .expect(201);
    // The first is asked again, since the others changed the object behind it.
    assert_eq!(made["data"]["trail"], "/one/two/three/one");
    let kept = server.get(&format!("{CONFIG_MAPS}/x")).await.expect(200);
    assert_eq!(kept["data"]["trail"], "/one/two/three/one");
}

#[tokio::test]
async fn what_a_webhook_makes_is_checked_like_a_clients_document() {
    let hooks = Hooks::start(|path, _| match path {
        "/small" => patch(&json!([{"op": "replace", "path": "/spec/size", "value": 0}])),
        "/odd" => patch(&json!([{"op": "add", "path": "/spec/odd", "value": 1}, {"op": "add", "path": "/status", "value": {"phase": "x"}}])),
        _ => patch(&json!([{"op": "remove", "path": "/nope"}])),
    })
    .await;
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    let rules = json!({"rules": [{"operations": ["CREATE"], "apiGroups": ["example.dev"], "apiVersions": ["v1"], "resources": ["*"]}]});
    for (path, code, says) in [
        ("/small", 422, "spec.size: Invalid value: 0"),
        ("/nope", 500, "Internal error occurred"),
    ] {
        register(&server, MUTATING, "m", vec![hooks.hook(path, rules.clone())]).await;
        let refused = server.post(WIDGETS, widget("w", 1)).await.expect(code);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(says), "{message}");
        unregister(&server, MUTATING, "m").await;
    }
    register(&server, MUTATING, "m", vec![hooks.hook("/odd", rules)]).await;
    let made = server.post(WIDGETS, widget("w", 1)).await.expect(201);
    assert_eq!((made["spec"].get("odd"), made.get("status")), (None, None));
}

#[tokio::test]
async fn who_is_asked_depends_on_rules_selectors_and_conditions() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let server = TestServer::start();
    server
        .post(
            "/api/v1/namespaces",
            json!({"metadata": {"name": "other", "labels": {"watched": "yes"}}}),
        )
        .await
        .expect(201);
    let rule = |operations: &[&str], resources: &[&str]| json!([{"operations": operations, "apiGroups": ["", "apps"], "apiVersions": ["v1"], "resources": resources}]);
    let all = vec![
        hooks.hook("/updates", json!({"rules": rule(&["UPDATE"], &["configmaps"])})),
        hooks.hook("/namespace", json!({"namespaceSelector": {"matchLabels": {"watched": "yes"}}})),
        hooks.hook("/objects", json!({"objectSelector": {"matchLabels": {"mark": "a"}}})),
        hooks.hook("/subresources", json!({"rules": rule(&["*"], &["*/status"])})),
        hooks.hook("/all", json!({"rules": rule(&["*"], &["*/*"])})),
        hooks.hook("/cluster", json!({"rules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["*"], "scope": "Cluster"}]})),
        hooks.hook("/condition", json!({"matchConditions": [
            {"name": "who", "expression": "request.userInfo.username == 'kubernetes-admin'"},
            {"name": "what", "expression": "object != null && object.metadata.name.startsWith('c')"},
            {"name": "may", "expression": "authorizer.requestResource.check('delete').allowed()"},
        ]})),
    ];
    register(&server, VALIDATING, "v", all).await;
    hooks.take();
    let asked = || {
        let mut paths: Vec<String> = hooks.take().into_iter().map(|(path, _)| path).collect();
        paths.sort();
        paths
    };
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    assert_eq!(asked(), ["/all"]);
    server
        .post("/api/v1/namespaces/other/configmaps", config_map("c", json!({})))
        .await
        .expect(201);
    assert_eq!(asked(), ["/all", "/condition", "/namespace"]);
    let marked = json!({"metadata": {"labels": {"mark": "a"}}});
    server
        .patch(&format!("{CONFIG_MAPS}/a"), "merge-patch", marked)
        .await
        .expect(200);
    assert_eq!(asked(), ["/all", "/objects", "/updates"]);
    // The old object counts, too.
    let unmarked = json!({"metadata": {"labels": null}});
    server
        .patch(&format!("{CONFIG_MAPS}/a"), "merge-patch", unmarked)
        .await
        .expect(200);
    assert_eq!(asked(), ["/all", "/objects", "/updates"]);
    server
        .post("/api/v1/namespaces", json!({"metadata": {"name": "third"}}))
        .await
        .expect(201);
    let paths = asked();
    assert!(
        paths.contains(&"/cluster".to_owned()) && !paths.contains(&"/namespace".to_owned()),
        "{paths:?}"
    );
    server
        .patch(
            "/api/v1/namespaces/third/status",
            "merge-patch",
            json!({"status": {"conditions": [{"type": "X", "status": "True"}]}}),
        )
        .await
        .expect(200);
    let paths = asked();
    assert!(
        paths.contains(&"/subresources".to_owned()) && !paths.contains(&"/cluster".to_owned()),
        "{paths:?}"
    );
    // Nobody locks themselves out of the registration.
    let everything =
        json!([{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}]);
    register(
        &server,
        VALIDATING,
        "w",
        vec![hooks.hook("/everything", json!({"rules": everything}))],
    )
    .await;
    asked();
    unregister(&server, VALIDATING, "w").await;
    assert_eq!(asked(), Vec::<String>::new());
}

#[tokio::test]
async fn side_effects_keep_a_webhook_from_dry_runs() {
    // Only old objects can say so; today's cannot.
    let server = TestServer::start();
    let hooks = Hooks::start(|_, _| allow()).await;
    let body =
        json!({"metadata": {"name": "v"}, "webhooks": [hooks.hook("/x", json!({"sideEffects": "Some"}))]});
    let refused = server
        .post(&format!("{REGISTRATION}/validatingwebhookconfigurations"), body)
        .await
        .expect(422);
    assert_eq!(
        refused["message"],
        "ValidatingWebhookConfiguration.admissionregistration.k8s.io \"v\" is invalid: webhooks[0].sideEffects: Unsupported value: \
         \"Some\": supported values: \"None\", \"NoneOnDryRun\""
    );
}

#[tokio::test]
async fn an_old_version_is_shown_as_the_webhook_knows_it() {
    let hooks =
        Hooks::start(|_, _| patch(&json!([{"op": "add", "path": "/spec/tags", "value": ["hooked"]}]))).await;
    let server = TestServer::start();
    let mut definition = widgets();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    second["storage"] = false.into();
    definition["spec"]["versions"]
        .as_array_mut()
        .unwrap()
        .push(second);
    server.post(CRDS, definition).await.expect(201);
    let rules = |policy: &str| json!({"matchPolicy": policy, "rules": [{"operations": ["*"], "apiGroups": ["example.dev"], "apiVersions": ["v2"], "resources": ["widgets"]}]});
    register(
        &server,
        MUTATING,
        "exact",
        vec![hooks.hook("/exact", rules("Exact"))],
    )
    .await;
    register(
        &server,
        MUTATING,
        "same",
        vec![hooks.hook("/same", rules("Equivalent"))],
    )
    .await;
    let made = server.post(WIDGETS, widget("w", 1)).await.expect(201);
    assert_eq!(
        (&made["apiVersion"], &made["spec"]["tags"]),
        (&json!("example.dev/v1"), &json!(["hooked"]))
    );
    let asked = hooks.take();
    assert_eq!(asked.len(), 1);
    let (path, asked) = &asked[0];
    assert_eq!(path, "/same");
    assert_eq!(asked["object"]["apiVersion"], "example.dev/v2");
    assert_eq!(
        (&asked["kind"]["version"], &asked["requestKind"]["version"]),
        (&json!("v2"), &json!("v1"))
    );
}

#[tokio::test]
async fn a_service_is_reached_at_its_endpoints() {
    let hooks =
        Hooks::start(|_, _| Reply::Review(json!({"allowed": false, "status": {"message": "reached"}}))).await;
    let server = TestServer::start();
    let service =
        json!({"metadata": {"name": "hook"}, "spec": {"type": "ExternalName", "externalName": "localhost"}});
    server
        .post("/api/v1/namespaces/default/services", service)
        .await
        .expect(201);
    let client = json!({"service": {"name": "hook", "namespace": "default", "path": "/svc", "port": hooks.port}, "caBundle": hooks.bundle()});
    register(
        &server,
        VALIDATING,
        "v",
        vec![hooks.hook("/svc", json!({"clientConfig": client}))],
    )
    .await;
    let refused = server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(400);
    assert_eq!(
        refused["message"],
        "admission webhook \"svc.hooks.dev\" denied the request: reached"
    );
    unregister(&server, VALIDATING, "v").await;
    // A certificate that somebody else has signed is none.
    let others = Hooks::start(|_, _| allow()).await;
    let client = json!({"url": format!("https://127.0.0.1:{}/x", hooks.port), "caBundle": others.bundle()});
    register(
        &server,
        VALIDATING,
        "v",
        vec![hooks.hook("/tls", json!({"clientConfig": client}))],
    )
    .await;
    let refused = server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(500);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("tls: failed to verify certificate"), "{message}");
}

#[tokio::test]
async fn malformed_webhooks_are_refused_when_they_are_written() {
    let server = TestServer::start();
    let path = format!("{REGISTRATION}/validatingwebhookconfigurations");
    let good = |fields: Value| {
        let mut hook = json!({"name": "a.b.c", "clientConfig": {"url": "https://a"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        for (field, value) in fields.as_object().unwrap() {
            hook[field] = value.clone();
        }
        hook
    };
    for (hooks, expected) in [
        (
            vec![json!({"name": "x"})],
            "[webhooks[0].name: Invalid value: \"x\": should be a domain with at least three segments separated by dots, \
             webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun, webhooks[0].clientConfig: Required \
             value: exactly one of url or service is required, webhooks[0].admissionReviewVersions: Required value: must specify \
             one of v1, v1beta1]",
        ),
        (
            vec![good(
                json!({"rules": [{}], "failurePolicy": "X", "matchPolicy": "X", "timeoutSeconds": 31, "clientConfig": {"url": "http://a"}, "admissionReviewVersions": ["v9"]}),
            )],
            "[webhooks[0].rules[0].operations: Required value, webhooks[0].rules[0].apiGroups: Required value, \
             webhooks[0].rules[0].apiVersions: Required value, webhooks[0].rules[0].resources: Required value, \
             webhooks[0].failurePolicy: Unsupported value: \"X\": supported values: \"Fail\", \"Ignore\", webhooks[0].matchPolicy: \
             Unsupported value: \"X\": supported values: \"Equivalent\", \"Exact\", webhooks[0].timeoutSeconds: Invalid value: 31: \
             the timeout value must be between 1 and 30 seconds, webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is \
             the only allowed URL scheme; desired format: https://host[/path], webhooks[0].admissionReviewVersions: Invalid value: \
             [\"v9\"]: must include at least one of v1, v1beta1]",
        ),
        (
            vec![good(json!({
                "rules": [{"operations": ["CREATE", "*", "X"], "apiGroups": ["", "*"], "apiVersions": ["v1", "*"], "resources": ["*", "pods", "*/*", "a/b"], "scope": "X"}],
                "namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "X"}]},
            }))],
            "[webhooks[0].rules[0].operations: Invalid value: [\"CREATE\",\"*\",\"X\"]: if '*' is present, must not specify other \
             operations, webhooks[0].rules[0].operations[2]: Unsupported value: \"X\": supported values: \"*\", \"CONNECT\", \
             \"CREATE\", \"DELETE\", \"UPDATE\", webhooks[0].rules[0].apiGroups: Invalid value: [\"\",\"*\"]: if '*' is present, \
             must not specify other API groups, webhooks[0].rules[0].apiVersions: Invalid value: [\"v1\",\"*\"]: if '*' is present, \
             must not specify other API versions, webhooks[0].rules[0].resources: Invalid value: [\"*\",\"pods\",\"*/*\",\"a/b\"]: \
             if '*/*' is present, must not specify other resources, webhooks[0].rules[0].resources: Invalid value: \
             [\"*\",\"pods\",\"*/*\",\"a/b\"]: if '*' is present, must not specify other resources without subresources, \
             webhooks[0].rules[0].scope: Unsupported value: \"X\": supported values: \"*\", \"Cluster\", \"Namespaced\", \
             webhooks[0].namespaceSelector.matchExpressions[0].operator: Invalid value: \"X\": not a valid selector operator]",
        ),
        (
            vec![good(json!({})), good(json!({}))],
            "webhooks[1].name: Duplicate value: \"a.b.c\"",
        ),
        (
            vec![good(
                json!({"matchConditions": [{"name": "n", "expression": "1"}]}),
            )],
            "webhooks[0].matchConditions[0].expression: Invalid value: \"1\": must evaluate to bool but got int",
        ),
    ] {
        let refused = server
            .post(&path, json!({"metadata": {"name": "b"}, "webhooks": hooks}))
            .await
            .expect(422);
        let whole = format!(
            "ValidatingWebhookConfiguration.admissionregistration.k8s.io \"b\" is invalid: {expected}"
        );
        assert_eq!(refused["message"], whole);
    }
    let service = good(
        json!({"clientConfig": {"service": {"name": "n", "namespace": "x"}}, "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}),
    );
    let made = server
        .post(&path, json!({"metadata": {"name": "d"}, "webhooks": [service]}))
        .await
        .expect(201);
    let hook = &made["webhooks"][0];
    assert_eq!(
        (
            &hook["failurePolicy"],
            &hook["matchPolicy"],
            &hook["timeoutSeconds"],
            &hook["namespaceSelector"],
            &hook["rules"][0]["scope"],
            &hook["clientConfig"]["service"]["port"]
        ),
        (
            &json!("Fail"),
            &json!("Equivalent"),
            &json!(10),
            &json!({}),
            &json!("*"),
            &json!(443)
        )
    );
}
