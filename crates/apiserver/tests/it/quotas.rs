//! LimitRanger and ResourceQuota. The expected texts are those of kube-apiserver.

use serde_json::{Value, json};

use crate::support::{Answer, CONFIG_MAPS, DEPLOYMENTS, TestServer, config_map, deployment};

const PODS: &str = "/api/v1/namespaces/default/pods";
const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const RANGES: &str = "/api/v1/namespaces/default/limitranges";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

fn container(name: &str, resources: Value) -> Value {
    json!({"name": name, "image": "x", "resources": resources})
}

async fn pod(server: &TestServer, name: &str, containers: Vec<Value>) -> Answer {
    let body = json!({"metadata": {"name": name}, "spec": {"containers": containers}});
    server.post(PODS, body).await
}

fn resources(pod: &Value) -> Vec<&Value> {
    pod["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["resources"])
        .collect()
}

async fn with_limits(server: &TestServer) {
    let limits = json!([
        {"type": "Container", "default": {"cpu": "500m", "memory": "1Gi"}, "defaultRequest": {"cpu": "100m"}, "min": {"cpu": "50m"},
            "max": {"cpu": "1", "memory": "2Gi"}, "maxLimitRequestRatio": {"cpu": "10"}},
        {"type": "Pod", "max": {"cpu": "2"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "5Gi"}},
    ]);
    server
        .post(
            RANGES,
            json!({"metadata": {"name": "l"}, "spec": {"limits": limits}}),
        )
        .await
        .expect(201);
}

#[tokio::test]
async fn containers_get_what_they_do_not_say() {
    let server = TestServer::start();
    with_limits(&server).await;
    let made = pod(&server, "a", vec![container("a", json!({}))])
        .await
        .expect(201);
    assert_eq!(
        resources(&made),
        [&json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "100m", "memory": "1Gi"}})]
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a"
    );
    let limited = container("b", json!({"limits": {"cpu": "200m"}}));
    let made = pod(&server, "b", vec![container("a", json!({})), limited])
        .await
        .expect(201);
    assert_eq!(
        resources(&made)[1],
        &json!({"limits": {"cpu": "200m", "memory": "1Gi"}, "requests": {"cpu": "200m", "memory": "1Gi"}})
    );
    assert_eq!(
        made["metadata"]["annotations"]["kubernetes.io/limit-ranger"],
        "LimitRanger plugin set: cpu, memory request for container a; cpu, memory limit for container a; memory request for \
         container b; memory limit for container b"
    );
}

#[tokio::test]
async fn limits_are_kept() {
    let server = TestServer::start();
    with_limits(&server).await;
    let one = |limits: Value, requests: Value| {
        vec![container("a", json!({"limits": limits, "requests": requests}))]
    };
    let wide = |name: &str| container(name, json!({"limits": {"cpu": "1"}}));
    for (containers, why) in [
        (
            one(json!({"cpu": "40m", "memory": "3Gi"}), json!({"cpu": "40m"})),
            "[minimum cpu usage per Container is 50m, but request is 40m, maximum memory usage per Container is 2Gi, but limit is 3Gi]",
        ),
        (
            one(json!({"cpu": "1"}), json!({"cpu": "50m"})),
            "cpu max limit to request ratio per Container is 10, but provided ratio is 20.000000",
        ),
        (
            vec![wide("a"), wide("b"), wide("c")],
            "maximum cpu usage per Pod is 2, but limit is 3",
        ),
    ] {
        let refused = pod(&server, "p", containers).await.expect(403);
        assert_eq!(refused["message"], format!("pods \"p\" is forbidden: {why}"));
    }
    let claim = |size: &str| json!({"metadata": {"name": "v"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
    let refused = server.post(CLAIMS, claim("10Gi")).await.expect(403);
    assert_eq!(
        refused["message"],
        "persistentvolumeclaims \"v\" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi"
    );
    server.post(CLAIMS, claim("2Gi")).await.expect(201);
}

#[tokio::test]
async fn contradictory_limits_are_refused() {
    let server = TestServer::start();
    let limits = json!([
        {"type": "Container", "max": {"cpu": "2"}}, {"type": "X"}, {"type": "Pod", "default": {"cpu": "1"}},
        {"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "3"}, "defaultRequest": {"cpu": "4"}},
    ]);
    let refused = server
        .post(
            RANGES,
            json!({"metadata": {"name": "l2"}, "spec": {"limits": limits}}),
        )
        .await
        .expect(422);
    assert_eq!(
        refused["message"],
        "LimitRange \"l2\" is invalid: [spec.limits[1].type: Invalid value: \"X\": must be a standard limit type or fully qualified, \
         spec.limits[2].default: Forbidden: may not be specified when `type` is 'Pod', spec.limits[3].type: Duplicate value: \
         \"Container\", spec.limits[3].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1, \
         spec.limits[3].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than max value 1, \
         spec.limits[3].defaultRequest[cpu]: Invalid value: \"4\": default request value 4 is greater than default limit value 3, \
         spec.limits[3].default[cpu]: Invalid value: \"1\": default value 3 is greater than max value 1]"
    );
    let spec = json!({"hard": {"pods": "-1", "nope": "1"}, "scopes": ["X", "BestEffort", "NotBestEffort"]});
    let refused = server
        .post(QUOTAS, json!({"metadata": {"name": "q"}, "spec": spec}))
        .await
        .expect(422);
    let message = refused["message"].as_str().unwrap();
    for part in [
        "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
        "spec.hard[nope]: Invalid value: \"nope\": must be a standard resource type or fully qualified",
        "spec.scopes: Invalid value: [\"X\",\"BestEffort\",\"NotBestEffort\"]: unsupported scope",
        "spec.scopes: Invalid value: [\"X\",\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

async fn quota(server: &TestServer, spec: Value) {
    server
        .post(QUOTAS, json!({"metadata": {"name": "q"}, "spec": spec}))
        .await
        .expect(201);
}

/// Waits until so much is used.
async fn used(server: &TestServer, expected: Value) {
    let path = format!("{QUOTAS}/q");
    let last = std::cell::RefCell::new(Value::Null);
    let reached = server.until("the use of the quota", async || {
        let status = server.get(&path).await.json()["status"].clone();
        let done = status["used"] == expected;
        *last.borrow_mut() = status;
        done.then_some(())
    });
    reached.await;
}

#[tokio::test]
async fn a_quota_bounds_what_pods_ask_for() {
    let server = TestServer::start();
    quota(
        &server,
        json!({"hard": {"pods": "2", "requests.cpu": "1", "limits.memory": "1Gi"}}),
    )
    .await;
    used(
        &server,
        json!({"pods": "0", "requests.cpu": "0", "limits.memory": "0"}),
    )
    .await;
    let full = |cpu: &str, memory: &str| {
        vec![container(
            "a",
            json!({"requests": {"cpu": cpu}, "limits": {"memory": memory}}),
        )]
    };
    let vague = vec![
        container("a", json!({})),
        container("b", json!({"requests": {"cpu": "1"}})),
    ];
    let refused = pod(&server, "p", vague).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: failed quota: q: must specify limits.memory for: a,b; requests.cpu for: a"
    );
    pod(&server, "one", full("300m", "256Mi")).await.expect(201);
    pod(&server, "two", full("200m", "256Mi")).await.expect(201);
    used(
        &server,
        json!({"pods": "2", "requests.cpu": "500m", "limits.memory": "512Mi"}),
    )
    .await;
    let refused = pod(&server, "p", full("700m", "2Gi")).await.expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: exceeded quota: q, requested: limits.memory=2Gi,pods=1,requests.cpu=700m, used: \
         limits.memory=512Mi,pods=2,requests.cpu=500m, limited: limits.memory=1Gi,pods=2,requests.cpu=1"
    );
    // What has ended, and what is gone, takes nothing any more.
    let ended = json!({"status": {"phase": "Succeeded"}});
    server
        .patch(&format!("{PODS}/one/status"), "merge-patch", ended)
        .await
        .expect(200);
    used(
        &server,
        json!({"pods": "1", "requests.cpu": "200m", "limits.memory": "256Mi"}),
    )
    .await;
    pod(&server, "three", full("700m", "512Mi")).await.expect(201);
    server.delete(&format!("{PODS}/two")).await.expect(200);
    used(
        &server,
        json!({"pods": "1", "requests.cpu": "700m", "limits.memory": "512Mi"}),
    )
    .await;
    let status = server.get(&format!("{QUOTAS}/q")).await.expect(200)["status"].clone();
    assert_eq!(
        status["hard"],
        json!({"pods": "2", "requests.cpu": "1", "limits.memory": "1Gi"})
    );
}

#[tokio::test]
async fn a_quota_counts_objects_of_any_kind() {
    let server = TestServer::start();
    // The ConfigMap and the Secret that others make in a namespace are not ours to count here.
    quota(&server, json!({"hard": {"count/configmaps": "1", "configmaps": "2", "services.nodeports": "1", "count/deployments.apps": "0"}})).await;
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    let refused = server
        .post(CONFIG_MAPS, config_map("v", json!({})))
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "configmaps \"v\" is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=1, limited: count/configmaps=1"
    );
    server
        .put(&format!("{CONFIG_MAPS}/a"), config_map("a", json!({"x": "y"})))
        .await
        .expect(200);
    let refused = server.post(DEPLOYMENTS, deployment("d")).await.expect(403);
    assert_eq!(
        refused["message"],
        "deployments.apps \"d\" is forbidden: exceeded quota: q, requested: count/deployments.apps=1, used: count/deployments.apps=0, \
         limited: count/deployments.apps=0"
    );
    let service = |ports: &[u16]| {
        let ports: Vec<Value> = ports
            .iter()
            .map(|p| json!({"name": format!("p{p}"), "port": p}))
            .collect();
        json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}})
    };
    let path = "/api/v1/namespaces/default/services";
    server.post(path, service(&[80])).await.expect(201);
    // A change counts for what it adds.
    let refused = server
        .patch(&format!("{path}/s"), "merge-patch", service(&[80, 81]))
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "services \"s\" is forbidden: exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1"
    );
}

#[tokio::test]
async fn scopes_choose_what_is_counted() {
    let server = TestServer::start();
    for (name, value) in [("low", 7), ("high", 70)] {
        let class = json!({"metadata": {"name": name}, "value": value});
        server
            .post("/apis/scheduling.k8s.io/v1/priorityclasses", class)
            .await
            .expect(201);
    }
    quota(&server, json!({"hard": {"pods": "0"}, "scopes": ["BestEffort"]})).await;
    let refused = pod(&server, "p", vec![container("a", json!({}))])
        .await
        .expect(403);
    assert_eq!(
        refused["message"],
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"
    );
    pod(
        &server,
        "p",
        vec![container("a", json!({"limits": {"cpu": "1"}}))],
    )
    .await
    .expect(201);
    server.delete(&format!("{QUOTAS}/q")).await.expect(200);
    let classes =
        json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    quota(&server, json!({"hard": {"pods": "0"}, "scopeSelector": classes})).await;
    pod(&server, "q", vec![container("a", json!({}))])
        .await
        .expect(201);
    let mut high = json!({"metadata": {"name": "h"}, "spec": {"priorityClassName": "high", "containers": [container("a", json!({}))]}});
    let refused = server.post(PODS, high.clone()).await.expect(403);
    assert!(
        refused["message"].as_str().unwrap().contains("exceeded quota"),
        "{refused}"
    );
    high["spec"]["priorityClassName"] = "low".into();
    server.post(PODS, high).await.expect(201);
}

#[tokio::test]
async fn a_crowd_cannot_exceed_a_quota() {
    let server = TestServer::start();
    quota(&server, json!({"hard": {"count/configmaps": "10"}})).await;
    let names: Vec<String> = (0..40).map(|i| format!("c{i}")).collect();
    let all = names
        .iter()
        .map(|name| server.post(CONFIG_MAPS, config_map(name, json!({}))));
    let answers = futures::future::join_all(all).await;
    let made = answers.iter().filter(|a| a.status == 201).count();
    let refused = answers.iter().filter(|a| a.status == 403).count();
    assert_eq!((made, refused), (10, 30));
}

#[tokio::test]
async fn evictions_are_taken_from_the_budget() {
    let server = TestServer::start();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    for name in ["a", "b", "c"] {
        let body = json!({"metadata": {"name": name, "labels": {"app": "x"}}, "spec": {"containers": [container("a", json!({}))]}});
        server.post(PODS, body).await.expect(201);
        let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": if name == "c" { "False" } else { "True" }}]}});
        server
            .patch(&format!("{PODS}/{name}/status"), "merge-patch", ready)
            .await
            .expect(200);
    }
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    server.post(budgets, budget).await.expect(201);
    let evict = async |name: &str, query: &str| {
        let body = json!({"kind": "Eviction", "apiVersion": "policy/v1", "metadata": {"name": name}});
        server.post(&format!("{PODS}/{name}/eviction{query}"), body).await
    };
    let status = async |allowed: i64, healthy: i64| {
        let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 1, "currentHealthy": healthy, "expectedPods": 3}});
        server
            .patch(&format!("{budgets}/b/status"), "merge-patch", status)
            .await
            .expect(200);
    };
    let refused = evict("a", "").await.expect(429);
    assert_eq!(
        refused["message"],
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    assert_eq!(
        refused["details"],
        json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server."}], "retryAfterSeconds": 10})
    );
    status(0, 1).await;
    let refused = evict("a", "").await.expect(429);
    assert_eq!(
        refused["details"],
        json!({"causes": [{"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}]})
    );
    // One that is not ready may go as long as there are enough others.
    evict("c", "").await.expect(201);
    status(1, 2).await;
    evict("a", "?dryRun=All").await.expect(201);
    evict("a", "").await.expect(201);
    let after = server.get(&format!("{budgets}/b")).await.expect(200)["status"].clone();
    assert_eq!(after["disruptionsAllowed"], 0);
    assert!(
        after["disruptedPods"]["a"].is_string() && after["disruptedPods"].get("c").is_none(),
        "{after}"
    );
    evict("b", "").await.expect(429);
}
