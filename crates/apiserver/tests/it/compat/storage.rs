//! What admission does with storage, nodes and certificates.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Api, until};

const NODES: &str = "/api/v1/nodes";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[tokio::test]
async fn storage_is_made_with_a_finalizer() {
    let api = Api::open().await;
    let claims = api.path("v1/persistentvolumeclaims");
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": "c", "finalizers": ["example.dev/own"]}, "spec": spec});
    api.post(&format!("{claims}?dryRun=All"), claim).await.has(
        201,
        json!({"metadata": {"finalizers": ["example.dev/own", "kubernetes.io/pvc-protection"]}}),
    );
    let volume = json!({"metadata": {"name": api.namespace}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/x"},
    }});
    api.post("/api/v1/persistentvolumes?dryRun=All", volume)
        .await
        .has(
            201,
            json!({"metadata": {"finalizers": ["kubernetes.io/pv-protection"]}}),
        );
    let class = json!({"metadata": {"name": api.namespace}, "driverName": "x", "parameters": {"a": "b"}});
    api.post(
        "/apis/storage.k8s.io/v1/volumeattributesclasses?dryRun=All",
        class,
    )
    .await
    .has(
        201,
        json!({"metadata": {"finalizers": ["kubernetes.io/vac-protection"]}}),
    );
}

#[tokio::test]
async fn claims_grow_where_their_class_lets_them() {
    let api = Api::open().await;
    let classes = "/apis/storage.k8s.io/v1/storageclasses";
    let name = |kind: &str| format!("{}-{kind}", api.namespace);
    for (kind, grows) in [("grows", true), ("stays", false)] {
        let class =
            json!({"metadata": {"name": name(kind)}, "provisioner": "x", "allowVolumeExpansion": grows});
        api.post(classes, class).await.is(201);
    }
    let claims = api.path("v1/persistentvolumeclaims");
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    for (kind, class) in [
        ("grows", name("grows")),
        ("stays", name("stays")),
        ("none", String::new()),
    ] {
        let claim = json!({"metadata": {"name": kind}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}},
            "volumeName": "v",
        }});
        api.post(&claims, claim).await.is(201);
        let path = format!("{claims}/{kind}");
        let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
        api.patch(&format!("{path}/status"), "merge", bound).await.is(200);
        if kind == "grows" {
            // Another server may not have heard of the class yet.
            until(&api, "the class to be known", async || {
                let reply = api.patch(&path, "merge", grow.clone()).await;
                (reply.status == 200).then_some(())
            })
            .await;
            continue;
        }
        api.patch(&path, "merge", grow.clone()).await.refuses(
            403,
            "Forbidden",
            &format!(
                "persistentvolumeclaims \"{kind}\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass \
                 that provisions the pvc must support resize"
            ),
        );
        // To write the same size once more is not to grow.
        let same = json!({"spec": {"resources": {"requests": {"storage": "1024Mi"}}}});
        api.patch(&path, "merge", same).await.is(200);
    }
    for kind in ["grows", "stays"] {
        api.delete(&format!("{classes}/{}", name(kind))).await.is(200);
    }
}

#[tokio::test]
async fn a_new_node_is_tainted_and_its_pods_are_labelled() {
    let api = Api::open().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post(&api.path("v1/serviceaccounts"), account).await;
    let not_ready = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    let own = json!({"key": "own", "value": "x", "effect": "NoExecute"});
    let labels =
        json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1", "other": "x"});
    let node = json!({"metadata": {"name": api.namespace, "labels": labels}, "spec": {"taints": [own]}});
    api.post(NODES, node)
        .await
        .has(201, json!({"spec": {"taints": [own, not_ready]}}));

    let pods = api.path("v1/pods");
    let pod = |name: &str| {
        json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "mine"}}, "spec": {
            "containers": [{"name": "a", "image": "x"}],
        }})
    };
    let placed = json!({"topology.kubernetes.io/zone": "z1", "topology.kubernetes.io/region": "r1"});
    // Another server may not have heard of the node yet.
    let mut there = pod("there");
    there["spec"]["nodeName"] = api.namespace.as_str().into();
    let made = until(&api, "the node to be known", async || {
        let made = api.post(&format!("{pods}?dryRun=All"), there.clone()).await;
        let made = made.is(201);
        (made["metadata"]["labels"] == placed).then_some(made)
    });
    made.await;
    api.post(&pods, pod("bound")).await.has(
        201,
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "mine"}}}),
    );
    let binding = json!({"metadata": {"name": "bound"}, "target": {"apiVersion": "v1", "kind": "Node", "name": api.namespace}});
    api.post(&format!("{pods}/bound/binding"), binding).await.is(201);
    let bound = api.get(&format!("{pods}/bound")).await.is(200);
    assert_eq!(bound["metadata"]["labels"], placed);
    api.delete(&format!("{NODES}/{}", api.namespace)).await.is(200);
}

/// The base64 text of a new request for a certificate of somebody in an organization.
fn new_request(organization: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    let subject = &mut parameters.distinguished_name;
    subject.push(rcgen::DnType::OrganizationName, organization);
    let pem = parameters.serialize_request(&key).unwrap().pem().unwrap();
    STANDARD.encode(pem)
}

#[tokio::test]
async fn nobody_asks_for_a_certificate_of_a_master() {
    let api = Api::open().await;
    let request = |signer: &str, organization: &str| {
        let pem = new_request(organization);
        json!({"metadata": {"name": api.namespace}, "spec": {"request": pem, "signerName": signer, "usages": ["client auth"]}})
    };
    let asked = format!("{REQUESTS}?dryRun=All");
    let clients = "kubernetes.io/kube-apiserver-client";
    api.post(&asked, request(clients, "developers")).await.is(201);
    api.post(&asked, request("example.dev/own", "system:masters"))
        .await
        .is(201);
    let name = &api.namespace;
    api.post(&asked, request(clients, "system:masters")).await.refuses(
        403,
        "Forbidden",
        &format!(
            "certificatesigningrequests.certificates.k8s.io \"{name}\" is forbidden: use of kubernetes.io/kube-apiserver-client signer \
             with system:masters group is not allowed"
        ),
    );
}

#[tokio::test]
async fn who_approves_and_signs_must_be_allowed_to_for_the_signer() {
    let api = Api::open().await;
    let name = api.namespace.as_str();
    let pem = new_request("developers");
    let request = json!({"metadata": {"name": name}, "spec": {"request": pem, "signerName": "example.dev/own", "usages": ["client auth"]}});
    api.post(REQUESTS, request).await.is(201);
    // May write both subresources, and approve and sign for another domain.
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    let rules = |signers: &[&str]| {
        json!([
            {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval", "certificatesigningrequests/status"], "verbs": ["*"]},
            {"apiGroups": ["certificates.k8s.io"], "resources": ["signers"], "verbs": ["approve", "sign"], "resourceNames": signers},
        ])
    };
    let role = json!({"metadata": {"name": name}, "rules": rules(&["example.com/*"])});
    api.post(&format!("{rbac}/clusterroles"), role).await.is(201);
    let binding = json!({"metadata": {"name": name}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]});
    api.post(&format!("{rbac}/clusterrolebindings"), binding)
        .await
        .is(201);
    let change = async |subresource: &str, status: Value| {
        let headers = [
            ("impersonate-user", name),
            ("content-type", "application/merge-patch+json"),
        ];
        let body = json!({"status": status}).to_string().into_bytes();
        api.send(
            "PATCH",
            &format!("{REQUESTS}/{name}/{subresource}"),
            &headers,
            body,
        )
        .await
    };
    let approved = json!({"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m", "lastUpdateTime": null}]});
    let signed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "r", "message": "m"}]});
    let refused = |verb: &str| {
        format!(
            "certificatesigningrequests.certificates.k8s.io \"{name}\" is forbidden: user not permitted to {verb} requests with signerName \
             \"example.dev/own\""
        )
    };
    let mine = |reply: &super::Reply| reply.text().contains("user not permitted");
    let reply = until(&api, "the role to count", async || {
        let reply = change("approval", approved.clone()).await;
        mine(&reply).then_some(reply)
    });
    reply.await.refuses(403, "Forbidden", &refused("approve"));
    change("status", signed.clone())
        .await
        .refuses(403, "Forbidden", &refused("sign"));
    // A status that says nothing new may be written.
    change("status", json!({})).await.is(200);
    let allowed = json!({"rules": rules(&["example.dev/*"])});
    api.patch(&format!("{rbac}/clusterroles/{name}"), "merge", allowed)
        .await
        .is(200);
    let reply = until(&api, "the role to be known", async || {
        let reply = change("approval", approved.clone()).await;
        (reply.status == 200).then_some(reply)
    });
    let mut conditions = reply.await.is(200)["status"]["conditions"].clone();
    let failed = signed["conditions"][0].clone();
    conditions.as_array_mut().unwrap().push(failed);
    change("status", json!({"conditions": conditions})).await.is(200);
    for path in [
        format!("{REQUESTS}/{name}"),
        format!("{rbac}/clusterrolebindings/{name}"),
        format!("{rbac}/clusterroles/{name}"),
    ] {
        api.delete(&path).await.is(200);
    }
}

#[tokio::test]
async fn other_subresources_are_told_by_their_name() {
    let api = Api::open().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post(&api.path("v1/serviceaccounts"), account).await;
    let pods = api.path("v1/pods");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "image": "x"}]}});
    api.post(&pods, pod).await.is(201);
    let debugger = json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}]}});
    let changed = api
        .patch(
            &format!("{pods}/p/ephemeralcontainers"),
            "strategic-merge",
            debugger,
        )
        .await
        .is(200);
    let managed = changed["metadata"]["managedFields"].as_array().unwrap();
    let told: Vec<_> = managed
        .iter()
        .map(|entry| entry["subresource"].as_str())
        .collect();
    assert_eq!(told, [None, Some("ephemeralcontainers")]);
}

#[tokio::test]
async fn a_pod_s_subresources_change_their_part_alone() {
    let api = Api::open().await;
    let account = json!({"metadata": {"name": "default"}});
    api.post(&api.path("v1/serviceaccounts"), account).await;
    let pods = api.path("v1/pods");
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "a", "image": "x", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
    ]}});
    api.post(&pods, pod).await.is(201);
    let path = format!("{pods}/p");

    let larger = json!({"spec": {"containers": [{"name": "a", "image": "y", "resources": {"requests": {"cpu": "2"}}}]}});
    let refused = api.patch(&path, "strategic-merge", larger.clone()).await.is(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("spec: Forbidden: pod updates may not change fields other than"),
        "{message}"
    );
    let mut resize = larger;
    resize["metadata"]["labels"]["a"] = "b".into();
    let resized = api
        .patch(&format!("{path}/resize"), "strategic-merge", resize)
        .await
        .is(200);
    let container = &resized["spec"]["containers"][0];
    assert_eq!(
        container["resources"]["requests"],
        json!({"cpu": "2", "memory": "1Gi"})
    );
    assert_eq!(container["image"], "x");
    assert_eq!(resized["metadata"].get("labels"), None);
    let lost = json!({"spec": {"containers": [{"name": "a", "resources": {"requests": {"cpu": null}}}]}});
    let lost = api
        .patch(&format!("{path}/resize"), "strategic-merge", lost)
        .await
        .is(422);
    let message = lost["message"].as_str().unwrap();
    assert!(
        message.contains(
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed"
        ),
        "{message}"
    );

    let debugger =
        json!({"spec": {"ephemeralContainers": [{"name": "e", "image": "x"}], "activeDeadlineSeconds": 9}});
    let refused = api
        .patch(&path, "strategic-merge", debugger.clone())
        .await
        .is(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("pod updates may not change fields other than"),
        "{message}"
    );
    let part = format!("{path}/ephemeralcontainers");
    let changed = api.patch(&part, "strategic-merge", debugger).await.is(200);
    assert_eq!(changed["spec"].get("activeDeadlineSeconds"), None);
    for (change, why) in [
        (
            json!([{"op": "remove", "path": "/spec/ephemeralContainers"}]),
            "existing ephemeral containers \"e\" may not be removed",
        ),
        (
            json!([{"op": "replace", "path": "/spec/ephemeralContainers/0/image", "value": "y"}]),
            "existing ephemeral containers \"e\" may not be changed",
        ),
        (
            json!([{"op": "add", "path": "/spec/ephemeralContainers/-", "value": {"name": "f", "image": "x", "ports": [{"containerPort": 1}]}}]),
            "spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container",
        ),
    ] {
        let refused = api.patch(&part, "json", change).await.is(422);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn a_request_for_a_certificate_is_checked_and_stays_as_it_was() {
    let api = Api::open().await;
    let name = api.namespace.as_str();
    let asked = format!("{REQUESTS}?dryRun=All");
    let whole = json!({"metadata": {"name": name}, "spec": {
        "request": new_request("developers"), "signerName": "example.dev/own", "usages": ["client auth"],
        "username": "root", "groups": ["system:masters"], "extra": {"a": ["b"]},
    }});
    for (field, value, why) in [
        (
            "request",
            json!(STANDARD.encode("x")),
            "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST",
        ),
        ("usages", json!([]), "spec.usages: Required value"),
        (
            "usages",
            json!(["flying"]),
            "spec.usages[0]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\"",
        ),
        (
            "usages",
            json!(["any", "any"]),
            "spec.usages[1]: Duplicate value: \"any\"",
        ),
        (
            "signerName",
            json!("own"),
            "spec.signerName: Invalid value: \"own\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ),
        (
            "signerName",
            json!("kubernetes.io/legacy-unknown"),
            "the legacy signerName is not allowed via this API version",
        ),
        (
            "expirationSeconds",
            json!(60),
            "spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 600 seconds (10 minutes)",
        ),
    ] {
        let mut wrong = whole.clone();
        wrong["spec"][field] = value;
        let refused = api.post(&asked, wrong).await.is(422);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    let made = api.post(REQUESTS, whole).await.is(201);
    assert_ne!(made["spec"]["username"], "root");
    assert_eq!(made["spec"].get("extra").and_then(|extra| extra.get("a")), None);

    let path = format!("{REQUESTS}/{name}");
    let change = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"username": "root"}, "status": {"certificate": "eA=="}});
    let changed = api.patch(&path, "merge", change.clone()).await.is(200);
    assert_eq!(changed["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(changed["spec"], made["spec"]);
    assert!(changed["status"].get("certificate").is_none());

    let approve = json!({"spec": {"username": "root"}, "status": {"certificate": "eA==", "conditions": [
        {"type": "Approved", "status": "True", "reason": "r", "message": "m"},
    ]}});
    let refused = api
        .patch(&format!("{path}/status"), "merge", approve.clone())
        .await
        .is(422);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("updates may not add a condition of type \"Approved\""),
        "{message}"
    );
    assert!(
        message.contains("status.certificate: Invalid value: \"<certificate data>\": "),
        "{message}"
    );
    let approved = api
        .patch(&format!("{path}/approval"), "merge", approve)
        .await
        .is(200);
    assert_eq!(approved["spec"], made["spec"]);
    assert!(approved["status"].get("certificate").is_none());
    let condition = &approved["status"]["conditions"][0];
    assert!(
        condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string(),
        "{condition}"
    );
    for (conditions, why) in [
        (
            json!([]),
            "updates may not remove a condition of type \"Approved\"",
        ),
        (
            json!([condition, {"type": "Denied", "status": "True"}]),
            "Approved and Denied conditions are mutually exclusive",
        ),
        (
            json!([{"type": "Approved", "status": "False"}]),
            "status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\"",
        ),
    ] {
        let change = json!({"status": {"conditions": conditions}});
        let refused = api
            .patch(&format!("{path}/approval"), "merge", change)
            .await
            .is(422);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
    api.delete(&path).await.is(200);
}
