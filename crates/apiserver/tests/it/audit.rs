//! The audit. Events have the fields that kube-apiserver writes.

use axum::body::Body;
use choreo_apiserver::{Audit, UserInfo};
use http::Request;
use serde_json::{Value, json};

use crate::support::{Answer, CONFIG_MAPS, TestServer, config_map};

const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: ["RequestReceived"]
rules:
- level: None
  userGroups: ["system:masters"]
- level: RequestResponse
  omitManagedFields: true
  resources: [{group: "", resources: ["configmaps"]}]
- level: Metadata
"#;

struct Audited {
    server: TestServer,
    folder: tempfile::TempDir,
}

impl Audited {
    async fn start(policy: &str) -> Audited {
        let folder = tempfile::tempdir().unwrap();
        let (file, log) = (folder.path().join("policy.yaml"), folder.path().join("audit.log"));
        std::fs::write(&file, policy).unwrap();
        let audit = Audit::open(&file, &log).unwrap();
        let server = TestServer::with(|options| options.audit = Some(audit));
        allow(&server, "jane", "admin").await;
        Audited { server, folder }
    }

    fn events(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

/// Gives a user a role in all namespaces.
pub(crate) async fn allow(server: &TestServer, name: &str, role: &str) {
    let bound = json!({
        "metadata": {"name": format!("{name}-{role}")},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    });
    server
        .post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", bound)
        .await
        .expect(201);
}

pub(crate) async fn ask(
    server: &TestServer,
    who: &str,
    method: &str,
    path: &str,
    body: Option<Value>,
) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .header("user-agent", "tester/1.0")
        .extension(UserInfo::new(who, ["dev"]));
    let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
    server.send(request.body(body).unwrap()).await
}

#[tokio::test]
async fn who_did_what_is_written_down() {
    let audited = Audited::start(POLICY).await;
    let server = &audited.server;
    let made = ask(
        server,
        "jane",
        "POST",
        CONFIG_MAPS,
        Some(config_map("a", json!({"x": "y"}))),
    )
    .await;
    let id = made.header("audit-id").to_owned();
    made.expect(201);
    ask(server, "jane", "GET", &format!("{CONFIG_MAPS}/none"), None)
        .await
        .expect(404);
    ask(server, "joe", "GET", "/api/v1/namespaces/default/secrets", None)
        .await
        .expect(403);
    // What nobody wanted to know.
    server.get(CONFIG_MAPS).await.expect(200);
    let events = audited.events();
    assert_eq!(events.len(), 3, "{events:#?}");

    let mut event = events[0].clone();
    for field in ["requestReceivedTimestamp", "stageTimestamp"] {
        let time = event.as_object_mut().unwrap().remove(field).unwrap();
        let time = time.as_str().unwrap();
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    }
    let object = event.as_object_mut().unwrap().remove("responseObject").unwrap();
    assert_eq!(
        (&object["data"], &object["metadata"]["name"]),
        (&json!({"x": "y"}), &json!("a"))
    );
    assert_eq!(object["metadata"].get("managedFields"), None);
    assert_eq!(
        event,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": id,
            "stage": "ResponseComplete", "requestURI": CONFIG_MAPS, "verb": "create",
            "user": {"username": "jane", "groups": ["dev", "system:authenticated"]},
            "userAgent": "tester/1.0",
            "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a", "apiVersion": "v1"},
            "responseStatus": {"metadata": {}, "code": 201},
            "requestObject": config_map("a", json!({"x": "y"})),
            "annotations": {
                "authorization.k8s.io/decision": "allow",
                "authorization.k8s.io/reason": "RBAC: allowed by ClusterRoleBinding \"jane-admin\" of ClusterRole \"admin\" to User \"jane\"",
            },
        })
    );
    assert_eq!(
        events[1]["responseStatus"],
        json!({"metadata": {}, "status": "Failure", "message": "configmaps \"none\" not found", "reason": "NotFound",
            "details": {"name": "none", "kind": "configmaps"}, "code": 404})
    );
    assert_eq!(events[2]["level"], "Metadata");
    assert_eq!(events[2]["responseStatus"]["code"], 403);
    assert_eq!(
        events[2]["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(events[2].get("responseObject"), None);
}

#[tokio::test]
async fn watches_are_written_down_when_they_begin_and_end() {
    let audited = Audited::start(POLICY).await;
    let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1");
    let watched = ask(&audited.server, "jane", "GET", &path, None).await;
    assert_eq!(watched.status, 200);
    let events = audited.events();
    let stages: Vec<_> = events
        .iter()
        .map(|e| (&e["stage"], &e["verb"], &e["responseStatus"]["code"]))
        .collect();
    let (started, complete, watch) = (
        json!("ResponseStarted"),
        json!("ResponseComplete"),
        json!("watch"),
    );
    assert_eq!(
        stages,
        [(&started, &watch, &json!(200)), (&complete, &watch, &json!(200))]
    );
    assert_eq!(events[0]["auditID"], events[1]["auditID"]);
}

#[tokio::test]
async fn stages_impersonation_and_policies_show() {
    let audited = Audited::start("{kind: Policy, apiVersion: audit.k8s.io/v1, rules: [{level: Metadata, resources: [{group: \"\", resources: [configmaps]}]}]}").await;
    let server = &audited.server;
    let registration = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "false", "message": "noticed"}],
        "auditAnnotations": [{"key": "size", "valueExpression": "'entries: ' + string(size(object.data))"}],
    }});
    server
        .post(&format!("{registration}/validatingadmissionpolicies"), policy)
        .await
        .expect(201);
    let binding =
        json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Audit"]}});
    server
        .post(
            &format!("{registration}/validatingadmissionpolicybindings"),
            binding,
        )
        .await
        .expect(201);
    let headers = [("content-type", "application/json"), ("impersonate-user", "jane")];
    let body = config_map("a", json!({"x": "y"})).to_string();
    server
        .request("POST", CONFIG_MAPS, &headers, body)
        .await
        .expect(201);
    let events = audited.events();
    assert_eq!(events.len(), 2, "{events:#?}");
    assert_eq!(
        (&events[0]["stage"], events[0].get("responseStatus")),
        (&json!("RequestReceived"), None)
    );
    let done = &events[1];
    assert_eq!(done["user"]["username"], "kubernetes-admin");
    assert_eq!(
        done["impersonatedUser"],
        json!({"username": "jane", "groups": ["system:authenticated"]})
    );
    assert_eq!(done["annotations"]["p/size"], "entries: 1");
    let failures: Value = serde_json::from_str(
        done["annotations"]["validation.policy.admission.k8s.io/validation_failure"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    assert_eq!(
        failures,
        json!([{"message": "noticed", "policy": "p", "binding": "b", "expressionIndex": 0, "validationActions": ["Audit"]}])
    );
    assert_eq!(done.get("requestObject"), None);
}

#[tokio::test]
async fn patches_cannot_make_an_object_grow_for_ever() {
    let server = TestServer::start();
    let mut definition = crate::support::widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["texts"] =
        json!({"type": "object", "additionalProperties": {"type": "string"}});
    server.post(crate::support::CRDS, definition).await.expect(201);
    server
        .post(crate::support::WIDGETS, crate::support::widget("w", 1))
        .await
        .expect(201);
    let path = format!("{}/w", crate::support::WIDGETS);
    let grow = |key: &str| json!({"spec": {"texts": {key: "x".repeat(1 << 20)}}});
    for key in ["a", "b"] {
        server.patch(&path, "merge-patch", grow(key)).await.expect(200);
    }
    let refused = server.patch(&path, "merge-patch", grow("c")).await.expect(413);
    assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
    let body = json!({"metadata": {"name": "big"}, "data": {"x": "y".repeat(3 << 20)}});
    let refused = server.post(CONFIG_MAPS, body).await.expect(413);
    assert_eq!(refused["message"], "Request entity too large: limit is 3145728");
}

/// As kube-apiserver does it: at one stage only, without a user, with what was answered.
#[tokio::test]
async fn who_has_no_credentials_is_written_down() {
    use choreo_apiserver::kubeconfig::{self, Context};
    use choreo_apiserver::serve::{ServeOptions, serve, tls_settings};
    use choreo_apiserver::tls::{Pki, local_names};
    let _ = rustls::crypto::ring::default_provider().install_default();
    let audited = Audited::start("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: None, users: [jane]}, {level: RequestResponse}]").await;
    let before = audited.events().len();
    let pki = Pki::ephemeral(&local_names(), jiff::Timestamp::now()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let context = Context {
        name: "c".to_owned(),
        server: format!("https://{}", listener.local_addr().unwrap()),
        namespace: "default".to_owned(),
    };
    let shutdown = tokio_util::sync::CancellationToken::new();
    let server = &audited.server.server;
    let serving = tokio::spawn(serve(
        listener,
        tls_settings(pki.server_config().unwrap()),
        std::sync::Arc::new(server.authenticator()),
        server.router(),
        ServeOptions::default(),
        shutdown.clone(),
    ));
    let text = kubeconfig::render(&[context], pki.authority_pem(), pki.admin()).unwrap();
    let config = kube::config::Kubeconfig::from_yaml(&text).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(config, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
    config.auth_info = kube::config::AuthInfo {
        token: Some("nobody's".to_owned().into()),
        ..Default::default()
    };
    let client = kube::Client::try_from(config).unwrap();
    let request = Request::get("/api/v1/namespaces/default/pods?limit=5").body(kube::client::Body::empty());
    let answer = client.send(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 401);
    let events = audited.events();
    assert_eq!(events.len(), before + 1, "{events:#?}");
    let mut event = events.last().unwrap().clone();
    assert_eq!(event["auditID"], answer.headers()["audit-id"].to_str().unwrap());
    for field in [
        "auditID",
        "requestReceivedTimestamp",
        "stageTimestamp",
        "userAgent",
    ] {
        event.as_object_mut().unwrap().remove(field);
    }
    let status = json!({"status": "Failure", "message": "Unauthorized", "reason": "Unauthorized", "code": 401, "metadata": {}});
    let mut answered = status.clone();
    answered["kind"] = "Status".into();
    answered["apiVersion"] = "v1".into();
    assert_eq!(
        event,
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "stage": "ResponseStarted",
            "requestURI": "/api/v1/namespaces/default/pods?limit=5", "verb": "list", "user": {}, "sourceIPs": ["127.0.0.1"],
            "objectRef": {"resource": "pods", "namespace": "default", "apiVersion": "v1"},
            "responseStatus": status, "responseObject": answered,
        })
    );
    shutdown.cancel();
    serving.await.unwrap();
}

#[tokio::test]
async fn what_the_pod_security_standards_say_is_written_down() {
    let policy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: Metadata, users: [jane]}]";
    let audited = Audited::start(policy).await;
    let server = &audited.server;
    let labels = |labels: Value| json!({"metadata": {"labels": labels}});
    let pod = json!({"metadata": {"name": "p"}, "spec": {"hostPID": true, "containers": [{"name": "a", "image": "x"}]}});
    let pods = "/api/v1/namespaces/default/pods?dryRun=All";
    ask(server, "jane", "POST", pods, Some(pod.clone()))
        .await
        .expect(201);
    let asked = labels(json!({"pod-security.kubernetes.io/audit": "baseline"}));
    let namespace = "/api/v1/namespaces/default";
    server.patch(namespace, "merge-patch", asked).await.expect(200);
    ask(server, "jane", "POST", pods, Some(pod.clone()))
        .await
        .expect(201);
    let asked = labels(json!({"pod-security.kubernetes.io/enforce": "baseline"}));
    server.patch(namespace, "merge-patch", asked).await.expect(200);
    ask(server, "jane", "POST", pods, Some(pod)).await.expect(403);

    let said: Vec<(String, Value)> = audited
        .events()
        .iter()
        .map(|event| {
            let said = |key| event["annotations"][format!("pod-security.kubernetes.io/{key}")].clone();
            let enforced = said("enforce-policy").as_str().unwrap().to_owned();
            (enforced, said("audit-violations"))
        })
        .collect();
    let would = json!("would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)");
    assert_eq!(
        said,
        [
            ("privileged:latest".to_owned(), Value::Null),
            ("privileged:latest".to_owned(), would.clone()),
            ("baseline:latest".to_owned(), would),
        ]
    );
}
