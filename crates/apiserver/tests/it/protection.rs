//! Storage in use stays, and nodes are tainted by their conditions: both as kube-controller-manager does it.

use serde_json::{Value, json};

use crate::support::TestServer;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const PODS: &str = "/api/v1/namespaces/default/pods";
const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLASSES: &str = "/apis/storage.k8s.io/v1/volumeattributesclasses";

fn claim(name: &str, class: Option<&str>) -> Value {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeAttributesClassName": class,
    });
    json!({"metadata": {"name": name}, "spec": spec})
}

async fn gone(server: &TestServer, path: &str) {
    let ask = async || (server.get(path).await.status == 404).then_some(());
    server.until(&format!("{path} to be gone"), ask).await;
}

/// Whether the object is to go and there all the same.
async fn waits(server: &TestServer, path: &str) -> bool {
    let object = server.get(path).await.expect(200);
    !object["metadata"]["deletionTimestamp"].is_null()
}

#[tokio::test]
async fn a_claim_stays_until_no_pod_uses_it() {
    let server = TestServer::start();
    for name in ["a-used", "b-free"] {
        server.post(CLAIMS, claim(name, None)).await.expect(201);
    }
    let pod = |name: &str, node: &str| {
        json!({"metadata": {"name": name}, "spec": {
            "nodeName": node, "containers": [{"name": "a", "image": "x"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a-used"}}],
        }})
    };
    server.post(PODS, pod("p", "n")).await.expect(201);
    let used = format!("{CLAIMS}/a-used");
    server.delete(&used).await.expect(200);
    let free = format!("{CLAIMS}/b-free");
    server.delete(&free).await.expect(200);
    // They are looked at in this order: when the second one is gone, the first one has been looked at as well.
    gone(&server, &free).await;
    assert!(waits(&server, &used).await);
    let now = json!({"gracePeriodSeconds": 0});
    let ended = server
        .request(
            "DELETE",
            &format!("{PODS}/p"),
            &[("content-type", "application/json")],
            now.to_string(),
        )
        .await;
    ended.expect(200);
    gone(&server, &used).await;
}

#[tokio::test]
async fn volumes_and_classes_stay_while_they_are_needed() {
    let server = TestServer::start();
    let volume = json!({"metadata": {"name": "v"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"},
    }});
    server.post(VOLUMES, volume).await.expect(201);
    let path = format!("{VOLUMES}/v");
    let phase = async |phase: &str| {
        let status = json!({"status": {"phase": phase}});
        let reply = server
            .patch(&format!("{path}/status"), "merge-patch", status)
            .await;
        reply.expect(200);
    };
    phase("Bound").await;
    let class = json!({"metadata": {"name": "fast"}, "driverName": "x", "parameters": {"a": "b"}});
    server.post(CLASSES, class).await.expect(201);
    server.post(CLAIMS, claim("c", Some("fast"))).await.expect(201);
    let fast = format!("{CLASSES}/fast");
    server.delete(&fast).await.expect(200);
    server.delete(&path).await.expect(200);
    // What nothing holds goes meanwhile, so that the others have been looked at.
    server.post(CLAIMS, claim("other", None)).await.expect(201);
    server.delete(&format!("{CLAIMS}/other")).await.expect(200);
    gone(&server, &format!("{CLAIMS}/other")).await;
    assert!(waits(&server, &fast).await);
    assert!(waits(&server, &path).await);
    phase("Released").await;
    gone(&server, &path).await;
    server.delete(&format!("{CLAIMS}/c")).await.expect(200);
    gone(&server, &fast).await;
}

#[tokio::test]
async fn what_was_not_protected_is_now() {
    let server = TestServer::start();
    server.post(CLAIMS, claim("c", None)).await.expect(201);
    let path = format!("{CLAIMS}/c");
    let bare = json!({"metadata": {"finalizers": null}});
    server.patch(&path, "merge-patch", bare).await.expect(200);
    let ask = async || {
        let claim = server.get(&path).await.expect(200);
        (claim["metadata"]["finalizers"] == json!(["kubernetes.io/pvc-protection"])).then_some(())
    };
    server.until("the finalizer to come back", ask).await;
}

#[tokio::test]
async fn a_node_that_is_ready_loses_its_taint() {
    let server = TestServer::start();
    let node = server
        .post("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    let taint = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "effect": "NoSchedule"});
    assert_eq!(node["spec"]["taints"], json!([taint("not-ready")]));
    let path = "/api/v1/nodes/n";
    let tainted = async |expected: Value| {
        let ask = async || {
            let node = server.get(path).await.expect(200);
            (node["spec"].get("taints").cloned().unwrap_or_default() == expected).then_some(())
        };
        server.until(&format!("the taints {expected}"), ask).await;
    };
    let tell = async |ready: &str| {
        let conditions = json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}});
        let reply = server
            .patch(&format!("{path}/status"), "merge-patch", conditions)
            .await;
        reply.expect(200);
    };
    tell("True").await;
    tainted(Value::Null).await;
    let cordoned = json!({"spec": {"unschedulable": true}});
    server.patch(path, "merge-patch", cordoned).await.expect(200);
    tainted(json!([taint("unschedulable")])).await;
    tell("Unknown").await;
    tainted(json!([taint("unschedulable"), taint("unreachable")])).await;
}
