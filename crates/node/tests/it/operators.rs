//! The secrets operator.

use serde_json::{Value, json};

use crate::support::Cluster;

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
