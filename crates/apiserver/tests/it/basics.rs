//! Create, read, update, delete.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, DEPLOYMENTS, TestServer, config_map, deployment};

#[tokio::test]
async fn a_typed_client_does_the_round() {
    let server = TestServer::start();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let made = api
        .create(
            &PostParams::default(),
            &ConfigMap {
                metadata: ObjectMeta {
                    name: Some("a".into()),
                    ..ObjectMeta::default()
                },
                data: Some([("k".to_owned(), "v".to_owned())].into()),
                ..ConfigMap::default()
            },
        )
        .await
        .unwrap();
    assert_eq!(made.metadata.namespace.as_deref(), Some("default"));
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let mut read = api.get("a").await.unwrap();
    assert_eq!(read.metadata, made.metadata);
    read.data = Some([("k".to_owned(), "w".to_owned())].into());
    let changed = api.replace("a", &PostParams::default(), &read).await.unwrap();
    assert_ne!(changed.metadata.resource_version, made.metadata.resource_version);
    let stale = api.replace("a", &PostParams::default(), &read).await.unwrap_err();
    assert!(matches!(stale, kube::Error::Api(e) if e.code == 409 && e.reason == "Conflict"));
    assert_eq!(api.list(&ListParams::default()).await.unwrap().items.len(), 1);
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn clusters_are_apart() {
    let server = TestServer::start();
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    server
        .get(&format!("/clusters/control{CONFIG_MAPS}/a"))
        .await
        .expect(200);
    let missing = server
        .get(&format!("/clusters/local{CONFIG_MAPS}/a"))
        .await
        .expect(404);
    assert_eq!(missing["message"], "configmaps \"a\" not found");
    assert_eq!(server.get("/clusters/mars/api").await.status, 404);
}

#[tokio::test]
async fn a_write_that_changes_nothing_keeps_the_revision() {
    let server = TestServer::start();
    let made = server.post(DEPLOYMENTS, deployment("d")).await.expect(201);
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{DEPLOYMENTS}/d");
    let same = server.put(&path, made.clone()).await.expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let patched = server
        .patch(&path, "merge-patch", json!({"spec": {"replicas": 1}}))
        .await
        .expect(200);
    let again = server
        .patch(&path, "merge-patch", json!({"spec": {"replicas": 1}}))
        .await
        .expect(200);
    assert_eq!(
        patched["metadata"]["resourceVersion"],
        again["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let server = TestServer::start();
    let made = server.post(DEPLOYMENTS, deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d");
    let mut both = made.clone();
    both["status"] = json!({"replicas": 7});
    both["spec"]["replicas"] = 3.into();
    let spec = server.put(&path, both.clone()).await.expect(200);
    assert_eq!(
        (
            spec["metadata"]["generation"].as_i64(),
            spec["spec"]["replicas"].as_i64()
        ),
        (Some(2), Some(3))
    );
    assert!(spec["status"].get("replicas").is_none());
    let patch = json!({"spec": {"replicas": 9}, "status": {"replicas": 7}});
    let status = server
        .patch(&format!("{path}/status"), "merge-patch", patch)
        .await
        .expect(200);
    assert_eq!(
        (
            status["spec"]["replicas"].as_i64(),
            status["status"]["replicas"].as_i64()
        ),
        (Some(3), Some(7))
    );
    assert_eq!(status["metadata"]["generation"], 2);
}

#[tokio::test]
async fn names_are_generated() {
    let server = TestServer::start();
    let body = json!({"metadata": {"generateName": "web-"}});
    let made = server.post(CONFIG_MAPS, body).await.expect(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let nameless = server.post(CONFIG_MAPS, json!({})).await.expect(422);
    assert_eq!(
        nameless["message"],
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[tokio::test]
async fn finalizers_and_preconditions_hold_a_deletion() {
    let server = TestServer::start();
    let mut body = config_map("a", json!({}));
    body["metadata"]["finalizers"] = json!(["example.dev/hold"]);
    let made = server.post(CONFIG_MAPS, body).await.expect(201);
    let path = format!("{CONFIG_MAPS}/a");
    let options = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let headers = [("content-type", "application/json")];
    server
        .request("DELETE", &path, &headers, options.to_string())
        .await
        .expect(409);
    let marked = server.delete(&path).await.expect(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let more = server
        .patch(
            &path,
            "merge-patch",
            json!({"metadata": {"finalizers": ["example.dev/hold", "example.dev/more"]}}),
        )
        .await;
    assert_eq!(more.status, 422);
    server
        .patch(
            &path,
            "json-patch",
            json!([{"op": "remove", "path": "/metadata/finalizers"}]),
        )
        .await
        .expect(200);
    server.get(&path).await.expect(404);
    let again = server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    assert_ne!(again["metadata"]["uid"], made["metadata"]["uid"]);
    let gone = server.delete(&path).await.expect(200);
    assert_eq!(
        (
            gone["kind"].as_str(),
            gone["status"].as_str(),
            gone["details"]["kind"].as_str()
        ),
        (Some("Status"), Some("Success"), Some("configmaps"))
    );
}

#[tokio::test]
async fn collections_are_paged_at_one_revision() {
    let server = TestServer::start();
    for i in 0..5 {
        let mut body = config_map(&format!("c{i}"), json!({}));
        body["metadata"]["labels"] = json!({"parity": if i % 2 == 0 { "even" } else { "odd" }});
        server.post(CONFIG_MAPS, body).await.expect(201);
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=2")).await.expect(200);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    server.delete(&format!("{CONFIG_MAPS}/c3")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = server
        .get(&format!("{CONFIG_MAPS}?limit=10&continue={token}"))
        .await
        .expect(200);
    let names: Vec<&str> = second["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["c2", "c3", "c4"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let even = server
        .get(&format!("{CONFIG_MAPS}?labelSelector=parity%3Deven&limit=2"))
        .await
        .expect(200);
    assert_eq!(even["items"].as_array().unwrap().len(), 2);
    assert!(even["metadata"].get("remainingItemCount").is_none());
    let by_name = server
        .get(&format!("{CONFIG_MAPS}?fieldSelector=metadata.name%3Dc1"))
        .await
        .expect(200);
    assert_eq!(by_name["items"].as_array().unwrap().len(), 1);
    server
        .get(&format!("{CONFIG_MAPS}?fieldSelector=spec.nope%3Dc1"))
        .await
        .expect(400);
    let all = server
        .delete(&format!("{CONFIG_MAPS}?labelSelector=parity"))
        .await
        .expect(200);
    assert_eq!(all["items"].as_array().unwrap().len(), 4);
    assert_eq!(server.get(CONFIG_MAPS).await.expect(200)["items"], json!([]));
    let future = server
        .get(&format!("{CONFIG_MAPS}?resourceVersion=99999"))
        .await
        .expect(504);
    assert_eq!(
        future["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

#[tokio::test]
async fn dry_runs_write_nothing() {
    let server = TestServer::start();
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=All"), config_map("a", json!({})))
        .await
        .expect(201);
    server.get(&format!("{CONFIG_MAPS}/a")).await.expect(404);
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    server
        .delete(&format!("{CONFIG_MAPS}/a?dryRun=All"))
        .await
        .expect(200);
    server.get(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    server
        .post(&format!("{CONFIG_MAPS}?dryRun=Some"), config_map("b", json!({})))
        .await
        .expect(422);
}

#[tokio::test]
async fn unknown_fields_warn_or_refuse() {
    let server = TestServer::start();
    let mut body = deployment("d");
    body["spec"]["replica"] = 1.into();
    let strict = server
        .post(&format!("{DEPLOYMENTS}?fieldValidation=Strict"), body.clone())
        .await
        .expect(400);
    assert_eq!(
        strict["message"],
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replica\""
    );
    let warned = server.post(DEPLOYMENTS, body).await;
    assert_eq!(
        warned.header("warning"),
        "299 - \"unknown field \\\"spec.replica\\\"\""
    );
    assert!(warned.expect(201)["spec"].get("replica").is_none());
}

#[tokio::test]
async fn namespaces_must_be_there() {
    let server = TestServer::start();
    let missing = server
        .post("/api/v1/namespaces/nope/configmaps", config_map("a", json!({})))
        .await
        .expect(404);
    assert_eq!(missing["message"], "namespaces \"nope\" not found");
    let forbidden = server.delete("/api/v1/namespaces/default").await.expect(403);
    assert_eq!(
        forbidden["message"],
        "namespaces \"default\" is forbidden: this namespace may not be deleted"
    );
}

#[tokio::test]
async fn strategic_patches_merge_containers_by_name() {
    let server = TestServer::start();
    server.post(DEPLOYMENTS, deployment("d")).await.expect(201);
    let patch =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "busybox"}]}}}});
    let api: Api<Deployment> = Api::default_namespaced(server.client());
    let patched = api
        .patch("d", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    assert_eq!(patched.spec.template.spec.unwrap().containers.len(), 2);
}

#[tokio::test]
async fn scale_is_a_view_of_replicas() {
    let server = TestServer::start();
    server.post(DEPLOYMENTS, deployment("d")).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d/scale");
    let scale = server.get(&path).await.expect(200);
    assert_eq!(
        (scale["kind"].as_str(), scale["status"]["selector"].as_str()),
        (Some("Scale"), Some("app=d"))
    );
    let scaled = server
        .patch(&path, "merge-patch", json!({"spec": {"replicas": 4}}))
        .await
        .expect(200);
    assert_eq!(scaled["spec"]["replicas"], 4);
    assert_eq!(
        server.get(&format!("{DEPLOYMENTS}/d")).await.expect(200)["spec"]["replicas"],
        4
    );
}

#[tokio::test]
async fn refusals_have_the_known_form() {
    let server = TestServer::start();
    assert_eq!(
        server.get("/apis/nope/v1/nonsense").await.text,
        "404 page not found\n"
    );
    let wrong = server
        .request(
            "POST",
            CONFIG_MAPS,
            &[("content-type", "application/cbor")],
            "k8s",
        )
        .await;
    assert_eq!(wrong.status, 415);
    assert_eq!(
        wrong.json()["message"],
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf"
    );
    let wrong = server
        .request("GET", CONFIG_MAPS, &[("accept", "text/html")], "")
        .await;
    assert_eq!(wrong.status, 406);
    let wrong = server.request("PUT", CONFIG_MAPS, &[], "{}").await.expect(405);
    assert_eq!(
        wrong["message"],
        "the server does not allow this method on the requested resource"
    );
    let broken = server.request("POST", CONFIG_MAPS, &[], "{").await.expect(400);
    assert_eq!(broken["reason"], "BadRequest");
    let huge = server
        .request("POST", CONFIG_MAPS, &[], vec![b' '; 4 * 1024 * 1024])
        .await
        .expect(413);
    assert_eq!(huge["message"], "Request entity too large: limit is 3145728");
    let kind = server
        .post(CONFIG_MAPS, json!({"apiVersion": "v2", "kind": "ConfigMap"}))
        .await
        .expect(400);
    assert_eq!(
        kind["message"],
        "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\""
    );
}

#[tokio::test]
async fn only_masters_are_let_in() {
    use choreo_apiserver::UserInfo;
    let server = TestServer::start();
    let ask = |user: Option<UserInfo>, path: &str| {
        let mut request = http::Request::get(path);
        if let Some(user) = user {
            request = request.extension(user);
        }
        server.send(request.body(axum::body::Body::empty()).unwrap())
    };
    let jane = UserInfo::new("jane", ["developers"]);
    let refused = ask(Some(jane.clone()), "/api/v1/namespaces/default/configmaps/a")
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "configmaps \"a\" is forbidden: User \"jane\" cannot get resource \"configmaps\" in API group \"\" in the namespace \"default\""
    );
    let refused = ask(Some(jane), "/apis/apps/v1/deployments").await.expect(403);
    assert_eq!(
        refused["message"],
        "deployments.apps is forbidden: User \"jane\" cannot list resource \"deployments\" in API group \"apps\" at the cluster scope"
    );
    assert_eq!(ask(None, CONFIG_MAPS).await.status, 401);
    assert_eq!(ask(None, "/livez").await.text, "ok");
}

/// The texts are kube-apiserver 1.36's.
#[tokio::test]
async fn repeated_keys_are_told_or_refused() {
    let server = TestServer::start();
    let json = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"dup","name":"dup2"},"data":{"x":"1","x":"2"},"foo":1,"foo":2}"#;
    let yaml =
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: dup\ndata:\n  x: \"1\"\n  x: \"2\"\nfoo: 1\n";
    let post = async |kind: &str, body: &'static str, validation: &str| {
        let path = format!("{CONFIG_MAPS}?dryRun=All&fieldValidation={validation}");
        server
            .request("POST", &path, &[("content-type", kind)], body)
            .await
    };
    let message = |answer: Value| answer["message"].as_str().unwrap().to_owned();
    let warnings = |answer: &crate::support::Answer| -> Vec<String> {
        let all = answer.headers.get_all("warning").iter();
        all.map(|w| w.to_str().unwrap().to_owned()).collect()
    };

    let refused = post("application/json", json, "Strict").await.expect(400);
    assert_eq!(
        message(refused),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         duplicate field \"metadata.name\", duplicate field \"data.x\", unknown field \"foo\""
    );
    let warned = post("application/json", json, "Warn").await;
    assert_eq!(
        warnings(&warned),
        [
            r#"299 - "duplicate field \"metadata.name\"""#,
            r#"299 - "duplicate field \"data.x\"""#,
            r#"299 - "unknown field \"foo\"""#
        ]
    );
    assert_eq!(warned.expect(201)["metadata"]["name"], "dup2");
    let refused = post("application/yaml", yaml, "Strict").await.expect(400);
    assert_eq!(
        message(refused),
        "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: \
         yaml: unmarshal errors:\n  line 7: key \"x\" already set in map, unknown field \"foo\""
    );
    let warned = post("application/yaml", yaml, "Warn").await;
    assert_eq!(
        warnings(&warned)[0],
        r#"299 - "line 7: key \"x\" already set in map""#
    );
    assert_eq!(warned.expect(201)["data"]["x"], "2");
    let ignored = post("application/json", json, "Ignore").await;
    assert_eq!((warnings(&ignored).len(), ignored.status.as_u16()), (0, 201));

    server
        .post(CONFIG_MAPS, config_map("base", json!({})))
        .await
        .expect(201);
    let patch = async |validation: &str| {
        let path = format!("{CONFIG_MAPS}/base?fieldValidation={validation}");
        let kind = [("content-type", "application/merge-patch+json")];
        server
            .request("PATCH", &path, &kind, r#"{"data":{"x":"1","x":"2"}}"#)
            .await
    };
    patch("Strict").await.expect(422);
    assert_eq!(
        warnings(&patch("Warn").await),
        [r#"299 - "duplicate field \"data.x\"""#]
    );
}
