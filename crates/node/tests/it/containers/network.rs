//! Names, Services, and who may talk to whom.

use serde_json::{Value, json};

use super::bed::{Bed, deployment, is_ready, pod, service};
use crate::support::{DEPLOYMENT, POD, SERVICE, rolled_out};

fn ready() -> Value {
    json!({"name": "main", "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1, "failureThreshold": 1}})
}

#[tokio::test]
async fn a_service_balances_over_those_that_are_ready() {
    let Some(bed) = Bed::start().await else { return };
    bed.cluster
        .create(DEPLOYMENT, deployment("web", 2, &ready()))
        .await;
    bed.cluster.create(SERVICE, service("web", "web")).await;
    bed.pod("caller", json!({})).await;
    bed.cluster.until(DEPLOYMENT, "web", rolled_out).await;
    let caller = bed.until_ready("caller").await;
    let call = async |host: &str| bed.get(&caller, &format!("/call?{host}/")).await;
    // The caller's server may need a moment.
    let mut answers = std::collections::BTreeMap::new();
    for host in [
        "web:80",
        "web.default:80",
        "web.default.svc:80",
        "web.default.svc.cluster.local:80",
    ] {
        for _ in 0..2 {
            *answers.entry(call(host).await.unwrap()).or_insert(0) += 1;
        }
    }
    assert_eq!(
        answers.values().copied().collect::<Vec<_>>(),
        [4, 4],
        "{answers:?}"
    );

    // One that is not ready gets nothing.
    let pods = bed.cluster.list(POD).await;
    let sick = pods
        .iter()
        .find(|pod| pod["metadata"]["labels"]["app"] == "web")
        .unwrap();
    let name = sick["metadata"]["name"].as_str().unwrap();
    bed.get(sick, "/fail-ready").await.unwrap();
    bed.until_pod(name, |pod| !is_ready(pod)).await;
    bed.cluster
        .until_all("discovery.k8s.io/v1/EndpointSlice/endpointslices", |slices| {
            let all = slices
                .iter()
                .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            all.filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .count()
                == 1
        })
        .await;
    for _ in 0..4 {
        assert_ne!(call("web:80").await.unwrap(), name);
    }
    // Nobody listens on another port, and nobody has another name.
    assert!(call("web:81").await.is_err());
    assert!(call("nobody:80").await.is_err());
    bed.finish().await;
}

#[tokio::test]
async fn headless_services_datagrams_and_aliases() {
    let Some(bed) = Bed::start().await else { return };
    let mut udp = pod(
        "udp",
        json!({"containers": [{"name": "main", "args": ["serve", "--udp", "5000", "--name", "udp"]}], "hostname": "first", "subdomain": "all"}),
    );
    udp["metadata"]["labels"] = json!({"app": "udp"});
    bed.cluster.create(POD, udp).await;
    for object in [
        json!({"metadata": {"name": "udp"}, "spec": {"selector": {"app": "udp"}, "ports": [{"port": 53, "targetPort": 5000, "protocol": "UDP"}]}}),
        json!({"metadata": {"name": "all"}, "spec": {"clusterIP": "None", "selector": {"app": "udp"}, "ports": [{"port": 8080}]}}),
        json!({"metadata": {"name": "other"}, "spec": {"type": "ExternalName", "externalName": "all.default.svc.cluster.local"}}),
    ] {
        bed.cluster.create(SERVICE, object).await;
    }
    let udp = bed.until_ready("udp").await;
    let address = udp["status"]["podIP"].as_str().unwrap();
    bed.pod("caller", json!({"restartPolicy": "Never", "containers": [{"name": "main", "args": ["udp", "udp", "53", "ping"]}]})).await;
    bed.until_pod("caller", |pod| pod["status"]["phase"] == "Succeeded")
        .await;
    bed.pod("asker", json!({})).await;
    let asker = bed.until_ready("asker").await;
    for name in ["all", "first.all", "other"] {
        let found = bed.get(&asker, &format!("/lookup?{name}")).await.unwrap();
        assert_eq!(found.lines().next(), Some(address), "{name}");
    }
    bed.finish().await;
}

/// The definition of Cilium's kind, as far as it is of interest here.
fn cilium() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ciliumnetworkpolicies.cilium.io"},
        "spec": {
            "group": "cilium.io", "scope": "Namespaced",
            "names": {"plural": "ciliumnetworkpolicies", "singular": "ciliumnetworkpolicy", "kind": "CiliumNetworkPolicy"},
            "versions": [{"name": "v2", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    })
}

const CILIUM: &str = "cilium.io/v2/CiliumNetworkPolicy/ciliumnetworkpolicies";

async fn define_cilium(bed: &Bed) {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    let api = kube::Api::<CustomResourceDefinition>::all(bed.cluster.client.clone());
    let object = serde_json::from_value(cilium()).unwrap();
    api.create(&Default::default(), &object).await.unwrap();
    let established = bed
        .cluster
        .after_writes(async || {
            let found = api.get("ciliumnetworkpolicies.cilium.io").await.unwrap();
            let conditions = found.status?.conditions?;
            conditions
                .iter()
                .any(|c| c.type_ == "Established" && c.status == "True")
                .then_some(())
        })
        .await;
    assert!(established.is_some());
}

/// Asks until the answer is as wanted: policies and names come by watches.
async fn eventually(
    bed: &Bed,
    caller: &Value,
    target: &str,
    wanted: impl Fn(&Result<String, String>) -> bool,
) {
    let mut answer = Err(String::new());
    for _ in 0..100 {
        answer = bed.get(caller, &format!("/call?{target}/")).await;
        if wanted(&answer) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{target} did not become as wanted: {answer:?}");
}

#[tokio::test]
async fn cells_are_closed_to_each_other_unless_policies_open_them() {
    let Some(mut bed) = Bed::start().await else { return };
    define_cilium(&bed).await;
    let deny = json!({"metadata": {"name": "deny-all"}, "spec": {"endpointSelector": {}, "ingress": [{}], "egress": [{}]}});
    bed.namespace("shop", json!({"team": "shop"})).await;
    bed.cluster.create(CILIUM, deny.clone()).await;
    bed.pod(
        "back",
        json!({"containers": [{"name": "main", "args": ["serve", "--name", "back"]}]}),
    )
    .await;
    bed.cluster.create(SERVICE, service("back", "back")).await;
    let back = bed.until_ready("back").await;
    bed.namespace("front", json!({})).await;
    bed.cluster.create(CILIUM, deny).await;
    bed.pod("caller", json!({})).await;
    let caller = bed.until_ready("caller").await;
    let target = "back.shop:80";
    eventually(&bed, &caller, target, Result::is_err).await;
    bed.until_event(
        "ConnectionDenied",
        "Service shop/back:80: no policy allows it on the way out",
    )
    .await;
    // Neither by its address: there is no way out of a cell.
    let address = back["status"]["podIP"].as_str().unwrap();
    assert!(bed.get(&caller, &format!("/call?{address}:8080/")).await.is_err());

    let out = json!({"metadata": {"name": "to-shop"}, "spec": {"endpointSelector": {"matchLabels": {"app": "caller"}}, "egress": [{
        "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "shop", "app": "back"}}],
        "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
    }]}});
    bed.cluster.create(CILIUM, out).await;
    bed.until_event("ConnectionDenied", "on the way in").await;
    bed.cluster.namespace = "shop".into();
    let inward = json!({"metadata": {"name": "from-front"}, "spec": {"endpointSelector": {"matchLabels": {"app": "back"}}, "ingress": [{
        "fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "front"}}],
        "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
    }]}});
    bed.cluster.create(CILIUM, inward).await;
    eventually(&bed, &caller, target, |answer| answer.as_deref() == Ok("back")).await;
    assert!(bed.agent.denied() > 0);
    bed.finish().await;
}

#[tokio::test]
async fn the_world_outside_is_reached_by_name_where_a_policy_says_so() {
    use tokio::io::AsyncWriteExt;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((mut stream, _)) = server.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\noutside";
            let _ = stream.write_all(answer).await;
        }
    });
    let started = Bed::start_with(|options| {
        for host in ["api.example.test", "other.example.test"] {
            options.hosts.insert(host.into(), [127, 0, 0, 1].into());
        }
    });
    let Some(bed) = started.await else { return };
    let policy = json!({"metadata": {"name": "api"}, "spec": {"podSelector": {"matchLabels": {"app": "caller"}}, "policyTypes": ["Egress"], "egress": []}});
    bed.cluster
        .create("networking.k8s.io/v1/NetworkPolicy/networkpolicies", policy)
        .await;
    define_cilium(&bed).await;
    bed.pod("caller", json!({})).await;
    let caller = bed.until_ready("caller").await;
    let (api, other) = (
        format!("api.example.test:{port}"),
        format!("other.example.test:{port}"),
    );
    eventually(&bed, &caller, &api, |answer| {
        answer.as_ref().is_err_and(|why| why.contains("502"))
    })
    .await;
    bed.until_event("ConnectionDenied", "api.example.test").await;
    let rule = json!({"metadata": {"name": "api"}, "spec": {"endpointSelector": {"matchLabels": {"app": "caller"}}, "egress": [{
        "toFQDNs": [{"matchName": "api.example.test"}], "toPorts": [{"ports": [{"port": port.to_string(), "protocol": "TCP"}]}],
    }]}});
    bed.cluster.create(CILIUM, rule).await;
    eventually(&bed, &caller, &api, |answer| answer.as_deref() == Ok("outside")).await;
    assert!(bed.get(&caller, &format!("/call?{other}/")).await.is_err());
    // Another port of the same host is another thing.
    assert!(bed.get(&caller, "/call?api.example.test:1/").await.is_err());
    bed.finish().await;
    serving.abort();
}
