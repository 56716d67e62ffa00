//! Writing and reading objects.

use serde_json::{Value, json};

use super::{Api, config_map, deployment};

#[tokio::test]
async fn a_new_object_is_filled_in() {
    let api = Api::open().await;
    let made = api
        .post(&api.path("apps/v1/deployments"), deployment("web"))
        .await
        .has(
            201,
            json!({
                "kind": "Deployment", "metadata": {"namespace": api.namespace, "generation": 1},
                "spec": {
                    "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
                    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
                    "template": {"spec": {
                        "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
                        "terminationGracePeriodSeconds": 30, "securityContext": {},
                        "containers": [{
                            "name": "main", "imagePullPolicy": "Always", "resources": {},
                            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                        }],
                    }},
                },
                "status": {},
            }),
        );
    for field in ["uid", "resourceVersion", "creationTimestamp"] {
        assert!(made["metadata"][field].is_string(), "{field}");
    }
    // An image with a fixed tag is not pulled each time.
    let mut tagged = deployment("tagged");
    tagged["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:1.27".into();
    api.post(&api.path("apps/v1/deployments"), tagged).await.has(
        201,
        json!({"spec": {"template": {"spec": {"containers": [{"imagePullPolicy": "IfNotPresent"}]}}}}),
    );
}

#[tokio::test]
async fn names_are_given_once_or_made_up() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.post(&path, config_map("a", json!({}))).await.is(201);
    api.post(&path, config_map("a", json!({}))).await.refuses(
        409,
        "AlreadyExists",
        "configmaps \"a\" already exists",
    );
    let made = api
        .post(
            &path,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "x-"}}),
        )
        .await
        .is(201);
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("x-") && name.len() == 7, "{name}");
    api.post(
        &path,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}}),
    )
    .await
    .refuses(
        422,
        "Invalid",
        "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
    );
    api.post(&path, config_map("Not_A_Name", json!({}))).await.has(
        422,
        json!({"reason": "Invalid", "details": {"name": "Not_A_Name", "kind": "ConfigMap", "causes": [
            {"reason": "FieldValueInvalid", "field": "metadata.name"},
        ]}}),
    );
}

#[tokio::test]
async fn writes_go_by_the_resource_version() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let first = api.post(&path, config_map("a", json!({"k": "1"}))).await.is(201);
    let one = format!("{path}/a");
    let mut second = first.clone();
    second["data"]["k"] = "2".into();
    let second = api.put(&one, &second).await.is(200);
    assert_ne!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    api.put(&one, &first).await.refuses(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again",
    );
    // A write that changes nothing is none.
    let same = api.put(&one, &second).await.is(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        second["metadata"]["resourceVersion"]
    );
    let mut other = second.clone();
    other["metadata"]["name"] = "b".into();
    api.put(&one, &other).await.refuses(
        400,
        "BadRequest",
        "the name of the object (b) does not match the name on the URL (a)",
    );
    api.get(&format!("{path}/none")).await.has(
        404,
        json!({"reason": "NotFound", "message": "configmaps \"none\" not found", "details": {"name": "none", "kind": "configmaps"}}),
    );
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec() {
    let api = Api::open().await;
    let path = api.path("apps/v1/deployments");
    api.post(&path, deployment("web")).await.is(201);
    let one = format!("{path}/web");
    let patch = async |path: &str, body: Value| {
        let patched = api.patch(path, "merge", body).await.is(200);
        patched["metadata"]["generation"].as_i64().unwrap()
    };
    assert_eq!(patch(&one, json!({"metadata": {"labels": {"a": "b"}}})).await, 1);
    assert_eq!(patch(&one, json!({"spec": {"replicas": 3}})).await, 2);
    assert_eq!(
        patch(&format!("{one}/status"), json!({"status": {"replicas": 2}})).await,
        2
    );
    // The main resource cannot change the status, nor the status the spec.
    api.patch(&one, "merge", json!({"status": {"replicas": 9}}))
        .await
        .has(200, json!({"status": {"replicas": 2}}));
    api.patch(
        &format!("{one}/status"),
        "merge",
        json!({"spec": {"replicas": 9}}),
    )
    .await
    .has(200, json!({"spec": {"replicas": 3}}));
    api.patch(&format!("{one}/scale"), "merge", json!({"spec": {"replicas": 5}}))
        .await
        .has(200, json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 5}, "status": {"replicas": 2, "selector": "app=web"}}));
}

#[tokio::test]
async fn what_cannot_change_is_refused() {
    let api = Api::open().await;
    let path = api.path("apps/v1/deployments");
    api.post(&path, deployment("web")).await.is(201);
    let other = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}}}}});
    let refused = api.patch(&format!("{path}/web"), "merge", other).await.is(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("spec.selector: Invalid value") && message.contains("field is immutable"),
        "{message}"
    );
    let path = api.path("v1/secrets");
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "immutable": true, "stringData": {"a": "b"}});
    api.post(&path, secret).await.has(
        201,
        json!({"data": {"a": "Yg=="}, "type": "Opaque", "stringData": null}),
    );
    api.patch(&format!("{path}/s"), "merge", json!({"stringData": {"a": "c"}})).await.has(
        422,
        json!({"details": {"causes": [{"reason": "FieldValueForbidden", "field": "data", "message": "Forbidden: field is immutable when `immutable` is set"}]}}),
    );
}

#[tokio::test]
async fn a_dry_run_writes_nothing() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let made = api
        .post(&format!("{path}?dryRun=All"), config_map("a", json!({})))
        .await
        .is(201);
    assert!(made["metadata"]["uid"].is_string());
    api.get(&format!("{path}/a")).await.is(404);
    api.post(&path, config_map("a", json!({}))).await.is(201);
    api.delete(&format!("{path}/a?dryRun=All")).await.is(200);
    api.get(&format!("{path}/a")).await.is(200);
    api.post(&format!("{path}?dryRun=Some"), config_map("b", json!({}))).await.refuses(
        422,
        "Invalid",
        "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"",
    );
}

#[tokio::test]
async fn finalizers_keep_an_object() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let mut object = config_map("a", json!({}));
    object["metadata"]["finalizers"] = json!(["example.dev/keep"]);
    let made = api.post(&path, object).await.is(201);
    let one = format!("{path}/a");
    let stale = json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}});
    let headers = [("content-type", "application/json")];
    let refused = api
        .send("DELETE", &one, &headers, stale.to_string().into_bytes())
        .await
        .is(409);
    assert_eq!(
        refused["message"],
        format!(
            "Operation cannot be fulfilled on ConfigMap \"a\": the UID in the precondition (other) does not match the UID in record ({}). The object might have been deleted and then recreated",
            made["metadata"]["uid"].as_str().unwrap()
        )
    );
    let marked = api.delete(&one).await.is(200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    // No new finalizers on an object that is to go.
    let more = json!({"metadata": {"finalizers": ["example.dev/keep", "example.dev/more"]}});
    api.patch(&one, "merge", more)
        .await
        .has(422, json!({"reason": "Invalid"}));
    api.patch(&one, "merge", json!({"metadata": {"finalizers": null}}))
        .await
        .is(200);
    api.get(&one).await.is(404);
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let api = Api::open().await;
    let path = api.path("apps/v1/deployments");
    let mut object = deployment("web");
    object["spec"]["replica"] = 3.into();
    object["spec"]["template"]["spec"]["containers"][0]["imagee"] = "x".into();
    let warned = api
        .post(&format!("{path}?dryRun=All&fieldValidation=Warn"), object.clone())
        .await;
    assert_eq!(
        warned.warnings(),
        [
            "299 - \"unknown field \\\"spec.replica\\\"\"",
            "299 - \"unknown field \\\"spec.template.spec.containers[0].imagee\\\"\""
        ]
    );
    assert_eq!(warned.is(201)["spec"].get("replica"), None);
    api.post(&format!("{path}?fieldValidation=Strict"), object.clone()).await.refuses(
        400,
        "BadRequest",
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.replica\", unknown field \"spec.template.spec.containers[0].imagee\"",
    );
    let ignored = api
        .post(&format!("{path}?dryRun=All&fieldValidation=Ignore"), object)
        .await;
    assert!(ignored.warnings().is_empty());
    ignored.is(201);
}

#[tokio::test]
async fn empty_lists_and_maps_are_not_there() {
    let api = Api::open().await;
    let mut object = config_map("a", json!({}));
    object["metadata"]["labels"] = json!({});
    object["metadata"]["finalizers"] = json!([]);
    let made = api.post(&api.path("v1/configmaps"), object).await.is(201);
    assert_eq!(made.get("data"), None);
    assert_eq!(
        (made["metadata"].get("labels"), made["metadata"].get("finalizers")),
        (None, None)
    );
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "a"},
        "spec": {"podSelector": {"matchLabels": {}}, "ingress": [], "policyTypes": ["Ingress"]},
    });
    let made = api
        .post(&api.path("networking.k8s.io/v1/networkpolicies"), policy)
        .await
        .is(201);
    assert_eq!(
        made["spec"],
        json!({"podSelector": {}, "policyTypes": ["Ingress"]})
    );
}

#[tokio::test]
async fn bodies_must_be_what_the_path_is_about() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.post(&path, deployment("web"))
        .await
        .has(400, json!({"reason": "BadRequest"}));
    let mut elsewhere = config_map("a", json!({}));
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    api.post(&path, elsewhere).await.refuses(
        400,
        "BadRequest",
        "the namespace of the provided object does not match the namespace sent on the request",
    );
    let xml = api
        .send(
            "POST",
            &path,
            &[("content-type", "application/xml")],
            b"<a/>".to_vec(),
        )
        .await;
    xml.refuses(
        415,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
    );
    let headers = [("content-type", "application/json")];
    api.send("POST", &path, &headers, b"{\"kind\":".to_vec())
        .await
        .has(400, json!({"reason": "BadRequest"}));
    let large = config_map("large", json!({"k": "x".repeat(3 * 1024 * 1024)}));
    api.post(&path, large)
        .await
        .has(413, json!({"reason": "RequestEntityTooLarge"}));
    let nowhere = "/api/v1/namespaces/compat-none/configmaps";
    api.post(nowhere, config_map("a", json!({}))).await.refuses(
        404,
        "NotFound",
        "namespaces \"compat-none\" not found",
    );
}
