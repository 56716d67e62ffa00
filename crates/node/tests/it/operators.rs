//! Gateway and secrets operator.

use serde_json::{Value, json};

use crate::support::{Cluster, SERVICE};

const GATEWAY: &str = "gateway.networking.k8s.io/v1/Gateway/gateways";
const ROUTE: &str = "gateway.networking.k8s.io/v1/HTTPRoute/httproutes";
const POLICY: &str = "gateway.envoyproxy.io/v1alpha1/SecurityPolicy/securitypolicies";
const EXTERNAL: &str = "external-secrets.io/v1/ExternalSecret/externalsecrets";

async fn define(cluster: &Cluster, kind: &str) {
    let parts: Vec<_> = kind.split('/').collect();
    let [group, version, name, plural] = parts[..] else {
        panic!("{kind}")
    };
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {
            "name": format!("{plural}.{group}"),
            "annotations": {"api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api"},
        },
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": name, "plural": plural},
            "versions": [{
                "name": version, "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": schema, "status": schema}}},
            }],
        },
    });
    let api = kube::Api::<kube::core::DynamicObject>::all_with(
        cluster.client.clone(),
        &kube::core::ApiResource {
            group: "apiextensions.k8s.io".into(),
            version: "v1".into(),
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            plural: "customresourcedefinitions".into(),
        },
    );
    api.create(&Default::default(), &serde_json::from_value(definition).unwrap())
        .await
        .unwrap();
}

fn is(conditions: &Value, kind: &str, status: &str) -> bool {
    conditions
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == status)
}

#[tokio::test]
async fn routes_are_accepted_by_gateways_that_are_there() {
    let cluster = Cluster::start();
    for kind in [GATEWAY, ROUTE, POLICY] {
        define(&cluster, kind).await;
    }
    let route = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute", "metadata": {"name": "web"},
        "spec": {"parentRefs": [{"name": "public"}], "rules": [{"backendRefs": [{"name": "web", "port": 80}]}]},
    });
    cluster.create(ROUTE, route).await;
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy", "metadata": {"name": "web"},
        "spec": {"targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "web"}]},
    });
    cluster.create(POLICY, policy).await;
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "any", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    });
    cluster.create(GATEWAY, gateway).await;
    // The gateway may be seen before its route.
    cluster
        .until(GATEWAY, "public", |gateway| {
            is(&gateway["status"]["conditions"], "Programmed", "True")
                && gateway["status"]["listeners"][0]["attachedRoutes"] == 1
        })
        .await;
    let accepted = |route: &Value| is(&route["status"]["parents"][0]["conditions"], "Accepted", "True");
    let route = cluster.until(ROUTE, "web", accepted).await;
    assert!(is(
        &route["status"]["parents"][0]["conditions"],
        "ResolvedRefs",
        "False"
    ));
    assert_eq!(route["metadata"]["annotations"][choreo_node::SIMULATED], "true");
    cluster
        .until(POLICY, "web", |policy| {
            is(
                &policy["status"]["ancestors"][0]["conditions"],
                "Accepted",
                "True",
            )
        })
        .await;

    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    cluster.create(SERVICE, service).await;
    cluster
        .until(ROUTE, "web", |route| {
            is(
                &route["status"]["parents"][0]["conditions"],
                "ResolvedRefs",
                "True",
            )
        })
        .await;

    cluster
        .api(GATEWAY)
        .delete("public", &Default::default())
        .await
        .unwrap();
    cluster
        .until(ROUTE, "web", |route| route["status"]["parents"] == json!([]))
        .await;
}

#[tokio::test]
async fn external_secrets_get_simulated_values() {
    let cluster = Cluster::start();
    define(&cluster, EXTERNAL).await;
    let external = json!({
        "apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": {"name": "github"},
        "spec": {"target": {"name": "github-secret"}, "data": [{"secretKey": "TOKEN", "remoteRef": {"key": "secret/github", "property": "pat"}}]},
    });
    cluster.create(EXTERNAL, external).await;
    let external = cluster
        .until(EXTERNAL, "github", |found| {
            is(&found["status"]["conditions"], "Ready", "True")
        })
        .await;
    assert_eq!(external["status"]["conditions"][0]["reason"], "SecretSynced");
    let secrets = "v1/Secret/secrets";
    let secret = cluster.until(secrets, "github-secret", |_| true).await;
    assert_eq!(secret["metadata"]["annotations"][choreo_node::SIMULATED], "true");
    assert!(secret["data"]["TOKEN"].is_string());
    // Deleted by hand: it comes back. Deleted with its ExternalSecret: it goes.
    cluster
        .api(secrets)
        .delete("github-secret", &Default::default())
        .await
        .unwrap();
    cluster
        .until(secrets, "github-secret", |found| {
            found["metadata"]["uid"] != secret["metadata"]["uid"]
        })
        .await;
    cluster
        .api(EXTERNAL)
        .delete("github", &Default::default())
        .await
        .unwrap();
    cluster.until_all(secrets, |secrets| secrets.is_empty()).await;
}

const TCP_ROUTE: &str = "gateway.networking.k8s.io/v1/TCPRoute/tcproutes";

#[tokio::test]
async fn a_raw_listener_takes_one_route_of_its_protocol() {
    let cluster = Cluster::start();
    for kind in [GATEWAY, TCP_ROUTE] {
        define(&cluster, kind).await;
    }
    let gateway = json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": {"name": "public"},
        "spec": {"gatewayClassName": "any", "listeners": [
            {"name": "web", "port": 80, "protocol": "HTTP"}, {"name": "raw", "port": 9000, "protocol": "TCP"}]},
    });
    cluster.create(GATEWAY, gateway).await;
    let route = |name: &str, section: &str| {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "TCPRoute", "metadata": {"name": name},
            "spec": {"parentRefs": [{"name": "public", "sectionName": section}], "rules": [{"backendRefs": [{"name": "db", "port": 5432}]}]},
        })
    };
    let accepted = |route: &Value, status: &str, says: &str| {
        let conditions = &route["status"]["parents"][0]["conditions"];
        let message = conditions[0]["message"].as_str().unwrap_or_default();
        is(conditions, "Accepted", status) && message.contains(says)
    };
    cluster.create(TCP_ROUTE, route("a", "raw")).await;
    cluster.until(TCP_ROUTE, "a", |r| accepted(r, "True", "")).await;
    cluster.create(TCP_ROUTE, route("b", "raw")).await;
    cluster
        .until(TCP_ROUTE, "b", |r| {
            accepted(r, "False", "has the listener already")
        })
        .await;
    cluster.create(TCP_ROUTE, route("c", "web")).await;
    cluster
        .until(TCP_ROUTE, "c", |r| accepted(r, "False", "TCPRoute needs: TCP"))
        .await;
    // When the first goes, the next has it.
    cluster
        .api(TCP_ROUTE)
        .delete("a", &Default::default())
        .await
        .unwrap();
    cluster.until(TCP_ROUTE, "b", |r| accepted(r, "True", "")).await;
}
