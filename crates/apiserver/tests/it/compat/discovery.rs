//! What a server says of itself.

use serde_json::{Value, json};

use super::Api;

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
