//! What a server says of itself.

use serde_json::{Value, json};

use super::{Api, until_status};

#[tokio::test]
async fn groups_come_in_their_order() {
    let api = Api::open().await;
    let versions = api
        .get("/api")
        .await
        .has(200, json!({"kind": "APIVersions", "versions": ["v1"]}));
    assert!(versions["serverAddressByClientCIDRs"].is_array());
    let groups = api
        .get("/apis")
        .await
        .has(200, json!({"kind": "APIGroupList", "apiVersion": "v1"}));
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| g["name"].as_str().unwrap())
        .collect();
    let at = |name: &str| {
        names
            .iter()
            .position(|n| *n == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let order = [
        "apps",
        "events.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "autoscaling",
        "batch",
        "certificates.k8s.io",
        "networking.k8s.io",
        "policy",
        "rbac.authorization.k8s.io",
        "storage.k8s.io",
        "admissionregistration.k8s.io",
        "apiextensions.k8s.io",
        "scheduling.k8s.io",
        "coordination.k8s.io",
        "node.k8s.io",
        "discovery.k8s.io",
    ];
    assert!(order.iter().map(|n| at(n)).is_sorted(), "{names:?}");
    api.get("/apis/apps").await.has(200, json!({"kind": "APIGroup", "name": "apps", "preferredVersion": {"groupVersion": "apps/v1", "version": "v1"}}));
    api.get("/apis/apps/v1")
        .await
        .has(200, json!({"kind": "APIResourceList", "groupVersion": "apps/v1"}));
}

#[tokio::test]
async fn resources_are_described() {
    let api = Api::open().await;
    let list = api.get("/api/v1").await.is(200);
    let resources = list["resources"].as_array().unwrap();
    let of = |name: &str| {
        resources
            .iter()
            .find(|r| r["name"] == name)
            .unwrap_or_else(|| panic!("no {name}"))
            .clone()
    };
    let pods = of("pods");
    assert_eq!(
        (
            &pods["kind"],
            &pods["singularName"],
            &pods["namespaced"],
            &pods["shortNames"],
            &pods["categories"]
        ),
        (
            &json!("Pod"),
            &json!("pod"),
            &json!(true),
            &json!(["po"]),
            &json!(["all"])
        )
    );
    let verbs = json!([
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch"
    ]);
    assert_eq!(pods["verbs"], verbs);
    assert_eq!(of("nodes")["namespaced"], false);
    assert_eq!(of("pods/eviction")["group"], "policy");
    assert_eq!(of("serviceaccounts/token")["kind"], "TokenRequest");
    for name in [
        "pods/log",
        "pods/exec",
        "pods/binding",
        "pods/ephemeralcontainers",
        "namespaces/finalize",
        "replicationcontrollers/scale",
    ] {
        of(name);
    }
    // The same hashes as kube-apiserver's, so that caches can be shared.
    assert_eq!(pods["storageVersionHash"], "xPOwRZ+Yhw8=");
}

#[tokio::test]
async fn everything_at_once_for_those_who_ask() {
    let api = Api::open().await;
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all = api.get_as("/apis", accept).await;
    assert_eq!(
        all.header("content-type"),
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    );
    let etag = all.header("etag").to_owned();
    assert!(all.header("vary").contains("Accept"));
    let all = all.has(
        200,
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2"}),
    );
    let apps = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|g| g["metadata"]["name"] == "apps")
        .unwrap();
    let resources = apps["versions"][0]["resources"].as_array().unwrap();
    let deployments = resources.iter().find(|r| r["resource"] == "deployments").unwrap();
    assert_eq!(
        (&deployments["scope"], &deployments["responseKind"]),
        (
            &json!("Namespaced"),
            &json!({"group": "", "version": "", "kind": "Deployment"})
        )
    );
    let headers = [("accept", accept), ("if-none-match", etag.as_str())];
    let known = api.send("GET", "/apis", &headers, Vec::new()).await;
    assert_eq!(known.status, 304);
}

#[tokio::test]
async fn health_and_version() {
    let api = Api::open().await;
    for path in ["/healthz", "/livez", "/readyz", "/livez/ping"] {
        assert_eq!(api.get(path).await.text(), "ok", "{path}");
    }
    let verbose = api.get("/readyz?verbose").await;
    assert!(
        verbose.text().contains("[+]ping ok\n") && verbose.text().ends_with("readyz check passed\n"),
        "{}",
        verbose.text()
    );
    assert_eq!(api.get("/livez/none").await.status, 404);
    let version = api.get("/version").await.is(200);
    assert_eq!(version["major"], "1");
    let nowhere = api.get("/nowhere").await;
    assert_eq!(
        (nowhere.status, nowhere.text().as_str()),
        (404, "404 page not found\n")
    );
    api.get("/apis/nowhere.dev/v1/things").await.is(404);
}

#[tokio::test]
async fn documents_describe_every_kind() {
    let api = Api::open().await;
    let index = api.get("/openapi/v3").await.is(200);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let document = api.get(url).await.is(200);
    let schemas = &document["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(
        deployment["x-kubernetes-group-version-kind"],
        json!([{"group": "apps", "version": "v1", "kind": "Deployment"}])
    );
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    let operation = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"]["post"];
    assert_eq!(operation["x-kubernetes-action"], "post");
    let old: Value = api.get("/openapi/v2").await.is(200);
    assert_eq!(old["swagger"], "2.0");
    assert!(old["definitions"]["io.k8s.api.core.v1.Pod"].is_object());
}

/// Names and places of parameters, without those that ask for a test feature of one server.
fn parameters(item: &Value) -> Vec<String> {
    const TRIALS: [&str; 2] = [
        "shardSelector",
        "ignoreStoreReadErrorWithClusterBreakingPotential",
    ];
    let all = item["parameters"]
        .as_array()
        .map_or(&[][..], Vec::as_slice)
        .iter();
    let named = all.filter_map(|parameter| {
        let reference = parameter["$ref"]
            .as_str()
            .and_then(|r| r.strip_prefix("#/parameters/"));
        let name = match reference {
            // kube-apiserver's v2 has most of them in one place, under a name with a hash behind it.
            Some(reference) => reference[..reference.len() - 9].to_owned(),
            None => parameter["name"].as_str().unwrap().to_owned(),
        };
        (!TRIALS.contains(&name.as_str())).then_some(name)
    });
    named.collect()
}

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn documents_describe_every_operation() {
    let api = Api::open().await;
    let document = api.get("/openapi/v3/apis/apps/v1").await.is(200);
    let paths = &document["paths"];
    let deployments = &paths["/apis/apps/v1/namespaces/{namespace}/deployments"];
    assert_eq!(parameters(deployments), ["namespace", "pretty"]);
    assert_eq!(deployments["parameters"][0]["in"], "path");
    assert_eq!(deployments["parameters"][0]["required"], true);
    let post = &deployments["post"];
    assert_eq!(post["operationId"], "createAppsV1NamespacedDeployment");
    assert_eq!(post["tags"], json!(["apps_v1"]));
    assert_eq!(parameters(post), ["dryRun", "fieldManager", "fieldValidation"]);
    assert_eq!(
        post["parameters"][0]["schema"],
        json!({"type": "string", "uniqueItems": true})
    );
    let reference = |name: &str| json!({"schema": {"$ref": format!("#/components/schemas/io.k8s.{name}")}});
    let deployment = reference("api.apps.v1.Deployment");
    assert_eq!(
        post["requestBody"],
        json!({"required": true, "content": {"*/*": deployment}})
    );
    assert_eq!(keys(&post["responses"]), ["200", "201", "202", "401"]);
    assert_eq!(
        post["responses"]["201"]["content"],
        json!({
            "application/json": deployment, "application/yaml": deployment, "application/vnd.kubernetes.protobuf": deployment,
        })
    );
    let list = &deployments["get"];
    assert_eq!(
        list["responses"]["200"]["content"]["application/json;stream=watch"],
        reference("api.apps.v1.DeploymentList")
    );
    assert_eq!(
        parameters(list),
        [
            "allowWatchBookmarks",
            "continue",
            "fieldSelector",
            "labelSelector",
            "limit",
            "resourceVersion",
            "resourceVersionMatch",
            "sendInitialEvents",
            "timeoutSeconds",
            "watch",
        ]
    );
    let all = &paths["/apis/apps/v1/deployments"];
    assert_eq!((parameters(&all["get"]).len(), parameters(all).len()), (0, 11));
    assert_eq!(all["get"]["operationId"], "listAppsV1DeploymentForAllNamespaces");
    let one = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(parameters(one), ["name", "namespace", "pretty"]);
    assert_eq!(
        keys(&one["patch"]["requestBody"]["content"]),
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ]
    );
    assert_eq!(
        one["delete"]["requestBody"],
        json!({"content": {"*/*": reference("apimachinery.pkg.apis.meta.v1.DeleteOptions")}})
    );
    assert_eq!(
        one["delete"]["responses"]["202"]["content"]["application/yaml"],
        reference("apimachinery.pkg.apis.meta.v1.Status")
    );
    let scale = &paths["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"];
    assert_eq!(scale["operationId"], "replaceAppsV1NamespacedDeploymentScale");
    assert_eq!(
        scale["requestBody"]["content"]["*/*"],
        reference("api.autoscaling.v1.Scale")
    );
    let watch = &paths["/apis/apps/v1/watch/namespaces/{namespace}/deployments/{name}"]["get"];
    assert_eq!(watch["operationId"], "watchAppsV1NamespacedDeployment");
    assert_eq!(
        paths["/apis/apps/v1/"]["get"]["operationId"],
        "getAppsV1APIResources"
    );

    let core = api.get("/openapi/v3/api/v1").await.is(200);
    let exec = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"];
    assert_eq!(
        parameters(exec),
        [
            "command",
            "container",
            "name",
            "namespace",
            "stderr",
            "stdin",
            "stdout",
            "tty"
        ]
    );
    assert_eq!(exec["post"]["operationId"], "connectCoreV1PostNamespacedPodExec");
    assert_eq!(exec["post"]["x-kubernetes-action"], "connect");
    let log = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"];
    assert_eq!(
        log["responses"]["200"]["content"]["text/plain"],
        json!({"schema": {"type": "string"}})
    );
    // What is answered with the deleted object says so.
    let pod = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["delete"];
    assert_eq!(
        pod["responses"]["200"]["content"]["application/json"],
        reference("api.core.v1.Pod")
    );
    let below = &core["paths"]["/api/v1/namespaces/{namespace}/services/{name}/proxy/{path}"];
    assert_eq!(parameters(below), ["name", "namespace", "path", "path"]);
}

#[tokio::test]
async fn the_old_document_describes_every_operation() {
    let api = Api::open().await;
    let document = api.get("/openapi/v2").await.is(200);
    let paths = &document["paths"];
    let one = &paths["/api/v1/namespaces/{namespace}/configmaps/{name}"];
    let patch = &one["patch"];
    assert_eq!(patch["operationId"], "patchCoreV1NamespacedConfigMap");
    assert_eq!(
        parameters(patch),
        ["body", "dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let mut consumes: Vec<&str> = patch["consumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap())
        .collect();
    consumes.sort_unstable();
    assert_eq!(consumes[0], "application/apply-patch+yaml");
    assert_eq!(consumes.len(), 4);
    let put = &one["put"];
    let definition = json!({"$ref": "#/definitions/io.k8s.api.core.v1.ConfigMap"});
    assert_eq!(
        put["parameters"][0],
        json!({"name": "body", "in": "body", "required": true, "schema": definition})
    );
    assert_eq!(
        put["responses"]["201"],
        json!({"description": "Created", "schema": definition})
    );
    assert_eq!(put["schemes"], json!(["https"]));
    assert_eq!(parameters(one), ["name", "namespace", "pretty"]);
    assert_eq!(
        paths["/api/v1/namespaces/{namespace}/pods/{name}/log"]["get"]["responses"]["200"]["schema"],
        json!({"type": "string"})
    );
}

#[tokio::test]
async fn documents_exist_in_protobuf() {
    let api = Api::open().await;
    for accept in [
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf,application/json",
    ] {
        let reply = api.get_as("/openapi/v3/apis/apps/v1", accept).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("content-type"),
            "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"
        );
        // The first field is the version of the form.
        assert_eq!(reply.bytes[..7], *b"\x0a\x053.0.0");
    }
    assert_eq!(
        api.get_as("/openapi/v3/apis/apps/v1", "text/plain").await.status,
        406
    );
}

#[tokio::test]
async fn documents_describe_the_operations_of_custom_resources() {
    let api = Api::open().await;
    let version = json!({"schema": {"openAPIV3Schema": {"type": "object"}}, "subresources": {"status": {}}});
    let things = api.define("things", version).await;
    let url = format!("/openapi/v3/apis/{}/v1", things.group);
    let document = until_status(&api, 200, async || api.get(&url).await)
        .await
        .is(200);
    let root = format!("/apis/{}/v1/namespaces/{{namespace}}/things", things.group);
    let one = &document["paths"][format!("{root}/{{name}}")];
    assert_eq!(
        keys(&one["put"]["requestBody"]["content"]),
        ["application/json", "application/yaml"]
    );
    assert_eq!(
        keys(&one["patch"]["requestBody"]["content"]),
        [
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json"
        ]
    );
    assert_eq!(keys(&one["patch"]["responses"]), ["200", "401"]);
    assert_eq!(parameters(&one["get"]), ["resourceVersion"]);
    assert_eq!(
        keys(&document["paths"][format!("{root}/{{name}}/status")]),
        ["get", "parameters", "patch", "put"]
    );
    assert!(
        document["paths"]
            .get(format!("/apis/{}/v1/", things.group))
            .is_none()
    );
}
