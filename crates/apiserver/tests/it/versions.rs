//! Several versions of a custom resource: conversion with and without a webhook, storage versions, defaults on read.

use choreo_store::Key;
use serde_json::{Value, json};

use crate::hook::Hook;
use crate::support::{CRDS, TestServer};

const V1: &str = "/apis/example.dev/v1/namespaces/default/places";
const V2: &str = "/apis/example.dev/v2/namespaces/default/places";

/// `places`: in v1 one text `host:port`, in v2 two fields.
fn definition(storage: &str, conversion: Value) -> Value {
    let version = |name: &str, spec: Value| {
        json!({
            "name": name, "served": true, "storage": name == storage, "subresources": {"status": {}},
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": spec},
                "status": {"type": "object", "properties": {"seen": {"type": "boolean"}}},
            }}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "places.example.dev"},
        "spec": {
            "group": "example.dev", "scope": "Namespaced", "names": {"plural": "places", "kind": "Place"},
            "conversion": conversion,
            "versions": [
                version("v1", json!({"address": {"type": "string"}})),
                version("v2", json!({
                    "host": {"type": "string"}, "port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "tcp"},
                })),
            ],
        },
    })
}

fn webhook(config: Value) -> Value {
    json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": config}})
}

/// Converts places. A place called `broken` cannot be converted, one called `renamed` gets another name.
fn convert(review: Value) -> Value {
    let wanted = review["request"]["desiredAPIVersion"].as_str().unwrap();
    let mut result = json!({"status": "Success"});
    let mut converted = Vec::new();
    for object in review["request"]["objects"].as_array().unwrap() {
        let mut object = object.clone();
        if object["metadata"]["name"] == "broken" {
            result = json!({"status": "Failed", "message": "cannot read it"});
        }
        if object["metadata"]["name"] == "renamed" {
            object["metadata"]["name"] = "other".into();
        }
        object["apiVersion"] = wanted.into();
        object["metadata"]["annotations"]["converted-to"] = wanted.into();
        // What a webhook does to the rest of the metadata does not count.
        object["metadata"]["generation"] = 77.into();
        object["unknown"] = "to be pruned".into();
        let spec = object["spec"].take();
        object["spec"] = if wanted.ends_with("v2") {
            let (host, port) = spec["address"].as_str().unwrap().split_once(':').unwrap();
            json!({"host": host, "port": port.parse::<i64>().unwrap()})
        } else {
            json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"])})
        };
        converted.push(object);
    }
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {"uid": review["request"]["uid"], "result": result, "convertedObjects": converted},
    })
}

fn v2(name: &str, port: u64) -> Value {
    json!({"apiVersion": "example.dev/v2", "kind": "Place", "metadata": {"name": name}, "spec": {"host": "h", "port": port}})
}

fn stored(server: &TestServer, name: &str) -> Value {
    let key = Key::new("example.dev/places", "default", name);
    let object = server.server.store().cluster("control").get(&key).unwrap();
    (*object.value()).clone()
}

#[tokio::test]
async fn a_webhook_converts_in_both_directions() {
    let server = TestServer::start();
    let hook = Hook::start(convert).await;
    server
        .post(CRDS, definition("v1", webhook(hook.by_url("/convert"))))
        .await
        .expect(201);
    let made = server.post(V2, v2("a", 80)).await.expect(201);
    assert_eq!(made["spec"], json!({"host": "h", "port": 80, "protocol": "tcp"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let kept = stored(&server, "a");
    assert_eq!(
        (&kept["apiVersion"], &kept["spec"]),
        (&json!("example.dev/v1"), &json!({"address": "h:80"}))
    );
    assert_eq!(kept.get("unknown"), None);

    let other = server.get(&format!("{V1}/a")).await.expect(200);
    assert_eq!(other["spec"], json!({"address": "h:80"}));
    assert_eq!(other["metadata"]["annotations"]["converted-to"], "example.dev/v1");
    let patch = json!({"spec": {"port": 81}});
    let patched = server
        .patch(&format!("{V2}/a"), "merge-patch", patch)
        .await
        .expect(200);
    assert_eq!(patched["spec"]["port"], 81);
    let again = server.get(&format!("{V1}/a")).await.expect(200);
    assert_eq!(again["spec"]["address"], "h:81");

    // A list is converted at once, and what was converted lately is not asked for again.
    server.post(V2, v2("b", 1)).await.expect(201);
    let list = server.get(V2).await.expect(200);
    let before = hook.calls();
    assert_eq!(server.get(V2).await.expect(200)["items"], list["items"]);
    assert_eq!(hook.calls(), before);
    let ports: Vec<&Value> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["spec"]["port"])
        .collect();
    assert_eq!(ports, [81, 1]);

    let events = server.watch(&format!("{V2}?watch=true&timeoutSeconds=1")).await;
    let seen: Vec<&Value> = events.iter().map(|e| &e["object"]["spec"]["port"]).collect();
    assert_eq!(seen, [81, 1]);
    assert_eq!(
        server.delete(&format!("{V2}/b")).await.expect(200)["status"],
        "Success"
    );
}

#[tokio::test]
async fn what_a_webhook_does_wrong_is_told() {
    let server = TestServer::start();
    let hook = Hook::start(convert).await;
    server
        .post(CRDS, definition("v1", webhook(hook.by_url("/"))))
        .await
        .expect(201);
    for (name, why) in [
        (
            "broken",
            "conversion webhook for example.dev/v2, Kind=Place failed: cannot read it",
        ),
        (
            "renamed",
            "metadata.name must not change from \"renamed\" to \"other\"",
        ),
    ] {
        let refused = server.post(V2, v2(name, 1)).await.expect(500);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
        assert_eq!(refused["reason"], "InternalError");
    }
    // Nobody there: objects in the stored version are served all the same.
    let one = json!({"apiVersion": "example.dev/v1", "kind": "Place", "metadata": {"name": "a"}, "spec": {"address": "h:1"}});
    server.post(V1, one).await.expect(201);
    let mut nowhere = hook.by_url("/");
    nowhere["url"] = "https://127.0.0.1:1/convert".into();
    let path = format!("{CRDS}/places.example.dev");
    let patch = json!({"spec": {"conversion": {"webhook": {"clientConfig": nowhere}}}});
    server.patch(&path, "merge-patch", patch).await.expect(200);
    server.get(&format!("{V1}/a")).await.expect(200);
    let refused = server.get(&format!("{V2}/a")).await.expect(500);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("failed: Post \"https://127.0.0.1:1/convert?timeout=30s\""),
        "{message}"
    );
    let events = server.watch(&format!("{V2}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(events[0]["type"], "ERROR");
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_found_by_its_endpoints() {
    let server = TestServer::start();
    let hook = Hook::start(convert).await;
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hook"}, "spec": {"ports": [{"port": 443}]},
    });
    server
        .post("/api/v1/namespaces/default/services", service)
        .await
        .expect(201);
    server
        .post(CRDS, definition("v1", webhook(hook.by_service("/convert"))))
        .await
        .expect(201);
    let refused = server.post(V2, v2("a", 1)).await.expect(500);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("no endpoints available"),
        "{refused}"
    );
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "hook"},
        "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": hook.port()}]}],
    });
    let wrong = server
        .post("/api/v1/namespaces/default/endpoints", endpoints.clone())
        .await
        .expect(201);
    assert_eq!(wrong["subsets"][0]["addresses"][0]["ip"], "10.0.0.1");
    // Loopback addresses are not allowed in Endpoints, so that the store gets it directly.
    let key = Key::new("endpoints", "default", "hook");
    let store = server.server.store().cluster("control");
    let mut value = endpoints;
    value["subsets"][0]["addresses"][0]["ip"] = "127.0.0.1".into();
    let expect = store.get(&key).unwrap().revision();
    store
        .write(choreo_store::Write::Update { key, value, expect })
        .await
        .unwrap();
    server.post(V2, v2("a", 1)).await.expect(201);
}

#[tokio::test]
async fn objects_are_brought_to_a_new_storage_version_when_they_are_written() {
    let server = TestServer::start();
    let hook = Hook::start(convert).await;
    let conversion = webhook(hook.by_url("/"));
    server
        .post(CRDS, definition("v1", conversion.clone()))
        .await
        .expect(201);
    server.post(V2, v2("a", 80)).await.expect(201);
    let path = format!("{CRDS}/places.example.dev");
    let mut changed = definition("v2", conversion);
    changed["metadata"] = server.get(&path).await.expect(200)["metadata"].clone();
    let changed = server.put(&path, changed).await.expect(200);
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    assert_eq!(stored(&server, "a")["apiVersion"], "example.dev/v1");
    let read = server.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(read["spec"]["port"], 80);
    // What storage migrations do: write what was read.
    server.put(&format!("{V2}/a"), read.clone()).await.expect(200);
    assert_eq!(stored(&server, "a")["apiVersion"], "example.dev/v2");
    assert_eq!(
        server.get(&format!("{V1}/a")).await.expect(200)["spec"]["address"],
        "h:80"
    );
    // From now on the same write is none.
    let now = server.get(&format!("{V2}/a")).await.expect(200);
    let same = server.put(&format!("{V2}/a"), now.clone()).await.expect(200);
    assert_eq!(
        same["metadata"]["resourceVersion"],
        now["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn without_a_webhook_versions_share_what_both_know() {
    let server = TestServer::start();
    server
        .post(CRDS, definition("v1", json!({"strategy": "None"})))
        .await
        .expect(201);
    let one = json!({"apiVersion": "example.dev/v1", "kind": "Place", "metadata": {"name": "a"}, "spec": {"address": "h:1"}});
    server.post(V1, one).await.expect(201);
    let two = server.get(&format!("{V2}/a")).await.expect(200);
    assert_eq!(
        (&two["apiVersion"], &two["spec"]),
        (&json!("example.dev/v2"), &json!({"protocol": "tcp"}))
    );
}

#[tokio::test]
async fn objects_get_defaults_that_are_newer_than_they_are() {
    let server = TestServer::start();
    let path = format!("{CRDS}/places.example.dev");
    server
        .post(CRDS, definition("v1", json!({"strategy": "None"})))
        .await
        .expect(201);
    for name in ["a", "b"] {
        let one =
            json!({"apiVersion": "example.dev/v1", "kind": "Place", "metadata": {"name": name}, "spec": {}});
        server.post(V1, one).await.expect(201);
    }
    let add = json!([{
        "op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/zone",
        "value": {"type": "string", "default": "z1"},
    }]);
    server.patch(&path, "json-patch", add).await.expect(200);
    let before = stored(&server, "a")["metadata"]["resourceVersion"].clone();
    let read = server.get(&format!("{V1}/a")).await.expect(200);
    assert_eq!(
        (&read["spec"]["zone"], &read["metadata"]["resourceVersion"]),
        (&json!("z1"), &before)
    );
    let list = server.get(V1).await.expect(200);
    assert_eq!(list["items"][1]["spec"]["zone"], "z1");
    let events = server.watch(&format!("{V1}?watch=true&timeoutSeconds=1")).await;
    assert_eq!(events[0]["object"]["spec"]["zone"], "z1");
    assert_eq!(stored(&server, "a")["spec"].get("zone"), None);
}
