//! What admission fills in from classes.

use serde_json::{Value, json};

use super::{Api, until, until_status};

fn pod(name: &str, fields: Value) -> Value {
    let mut spec = json!({"containers": [{"name": "a", "image": "x"}]});
    for (field, value) in fields.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": name}, "spec": spec})
}

/// Pods need an account, which another server may have no controller for.
async fn open() -> Api {
    let api = Api::open().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post(&api.path("v1/serviceaccounts"), account).await;
    api
}

#[tokio::test]
async fn pods_have_a_priority_and_bear_that_their_node_is_away() {
    let api = open().await;
    let pods = api.path("v1/pods");
    let away = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    api.post(&pods, pod("plain", json!({}))).await.has(
        201,
        json!({"spec": {
            "priority": 0, "priorityClassName": null, "preemptionPolicy": "PreemptLowerPriority",
            "tolerations": [away("not-ready"), away("unreachable")],
        }}),
    );
    // What a Pod says for itself counts.
    let own = json!([{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}]);
    api.post(&pods, pod("own", json!({"tolerations": own})))
        .await
        .has(
            201,
            json!({"spec": {"tolerations": [own[0], away("unreachable")]}}),
        );
    let all = json!([{"operator": "Exists"}]);
    api.post(&pods, pod("all", json!({"tolerations": all})))
        .await
        .has(201, json!({"spec": {"tolerations": all}}));
    // An update that leaves the priority out keeps it.
    let replaced = pod(
        "plain",
        json!({"tolerations": [away("not-ready"), away("unreachable")]}),
    );
    let present = api.get(&format!("{pods}/plain")).await.is(200);
    let mut replaced_spec = present.clone();
    replaced_spec["spec"].as_object_mut().unwrap().remove("priority");
    replaced_spec["metadata"]["labels"] = json!({"a": "b"});
    assert!(replaced["spec"].get("priority").is_none());
    api.put(&format!("{pods}/plain"), &replaced_spec).await.has(
        200,
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"priority": 0}}),
    );

    api.post(&pods, pod("none", json!({"priorityClassName": "nobody-knows"})))
        .await
        .refuses(
            403,
            "Forbidden",
            "pods \"none\" is forbidden: no PriorityClass with name nobody-knows was found",
        );
    api.post(&pods, pod("made-up", json!({"priority": 7}))).await.refuses(
        403,
        "Forbidden",
        "pods \"made-up\" is forbidden: the integer value of priority (7) must not be provided in pod spec; priority admission \
         controller computed 0 from the given PriorityClass name",
    );
    for (name, value) in [
        ("system-cluster-critical", 2_000_000_000),
        ("system-node-critical", 2_000_001_000),
    ] {
        api.get(&format!("/apis/scheduling.k8s.io/v1/priorityclasses/{name}"))
            .await
            .has(
                200,
                json!({"value": value, "preemptionPolicy": "PreemptLowerPriority"}),
            );
        api.delete(&format!("/apis/scheduling.k8s.io/v1/priorityclasses/{name}"))
            .await
            .refuses(
                403,
                "Forbidden",
                &format!("priorityclasses.scheduling.k8s.io {name:?} is forbidden: this is a system priority class and cannot be deleted"),
            );
    }
}

#[tokio::test]
async fn pods_take_priority_and_overhead_from_their_classes() {
    let api = open().await;
    let name = &api.namespace;
    let class = json!({"metadata": {"name": name}, "value": 1234, "preemptionPolicy": "Never"});
    api.post("/apis/scheduling.k8s.io/v1/priorityclasses", class)
        .await
        .is(201);
    let runtime = json!({
        "metadata": {"name": name}, "handler": "h", "overhead": {"podFixed": {"cpu": "250m"}},
        "scheduling": {"nodeSelector": {"kind": "micro"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
    });
    api.post("/apis/node.k8s.io/v1/runtimeclasses", runtime)
        .await
        .is(201);
    let pods = format!("{}?dryRun=All", api.path("v1/pods"));
    let asked = pod("a", json!({"priorityClassName": name, "runtimeClassName": name}));
    let made = until_status(&api, 201, async || api.post(&pods, asked.clone()).await).await;
    let made = made.has(
        201,
        json!({"spec": {
            "priority": 1234, "priorityClassName": name, "preemptionPolicy": "Never",
            "overhead": {"cpu": "250m"}, "nodeSelector": {"kind": "micro"},
        }}),
    );
    let borne = made["spec"]["tolerations"].as_array().unwrap();
    assert_eq!(borne.len(), 3, "{borne:?}");
    assert_eq!(borne[2], json!({"key": "k", "operator": "Exists"}));
    let other = json!({"runtimeClassName": name, "nodeSelector": {"kind": "large"}});
    api.post(&pods, pod("a", other)).await.refuses(
        403,
        "Forbidden",
        "pods \"a\" is forbidden: conflict: runtimeClass.scheduling.nodeSelector[kind] = micro; pod.spec.nodeSelector[kind] = large",
    );
    api.post(&pods, pod("a", json!({"runtimeClassName": "nope"})))
        .await
        .refuses(
            403,
            "Forbidden",
            "pods \"a\" is forbidden: pod rejected: RuntimeClass \"nope\" not found",
        );
    api.post(&pods, pod("a", json!({"overhead": {"cpu": "1"}})))
        .await
        .refuses(
            403,
            "Forbidden",
            "pods \"a\" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        );
    for path in [
        "scheduling.k8s.io/v1/priorityclasses",
        "node.k8s.io/v1/runtimeclasses",
    ] {
        api.delete(&format!("/apis/{path}/{name}")).await.is(200);
    }
}

#[tokio::test]
async fn claims_and_ingresses_get_the_default_class() {
    let api = open().await;
    let name = &api.namespace;
    let storage = json!({
        "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p",
    });
    api.post("/apis/storage.k8s.io/v1/storageclasses", storage)
        .await
        .is(201);
    let ingress = json!({
        "metadata": {"name": name, "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "example.dev/c"},
    });
    api.post("/apis/networking.k8s.io/v1/ingressclasses", ingress)
        .await
        .is(201);
    let claims = format!("{}?dryRun=All", api.path("v1/persistentvolumeclaims"));
    let claim = |fields: Value| {
        let mut claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        for (field, value) in fields.as_object().unwrap() {
            claim["spec"][field] = value.clone();
        }
        claim
    };
    until(&api, "the default class of storage", async || {
        let made = api.post(&claims, claim(json!({}))).await.is(201);
        (made["spec"]["storageClassName"] == name.as_str()).then_some(())
    })
    .await;
    api.post(&claims, claim(json!({"storageClassName": ""})))
        .await
        .has(201, json!({"spec": {"storageClassName": ""}}));
    let ingresses = format!("{}?dryRun=All", api.path("networking.k8s.io/v1/ingresses"));
    let ingress = |metadata: Value| json!({"metadata": metadata, "spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}});
    until(&api, "the default class of Ingresses", async || {
        let made = api.post(&ingresses, ingress(json!({"name": "i"}))).await.is(201);
        (made["spec"]["ingressClassName"] == name.as_str()).then_some(())
    })
    .await;
    let old = json!({"name": "i", "annotations": {"kubernetes.io/ingress.class": "x"}});
    api.post(&ingresses, ingress(old))
        .await
        .has(201, json!({"spec": {"ingressClassName": null}}));
    for path in [
        "storage.k8s.io/v1/storageclasses",
        "networking.k8s.io/v1/ingressclasses",
    ] {
        api.delete(&format!("/apis/{path}/{name}")).await.is(200);
    }
}

#[tokio::test]
async fn the_deletion_of_a_class_answers_with_it() {
    let api = Api::open().await;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let class = json!({"metadata": {"name": api.namespace}, "provisioner": "p"});
    api.post(classes, class).await.is(201);
    api.delete(&format!("{classes}/{}", api.namespace))
        .await
        .has(200, json!({"kind": "StorageClass", "provisioner": "p"}));
}
