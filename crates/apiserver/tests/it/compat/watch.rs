//! Following collections.

use serde_json::{Value, json};

use super::{Api, config_map};

fn shape(events: &[Value]) -> Vec<(String, String)> {
    events
        .iter()
        .filter(|e| e["object"]["metadata"]["name"] != "kube-root-ca.crt")
        .map(|e| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            (text(&e["type"]), text(&e["object"]["metadata"]["name"]))
        })
        .collect()
}

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

#[tokio::test]
async fn changes_come_in_order() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let first = api.post(&path, config_map("a", json!({}))).await.is(201);
    let from = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    api.post(&path, config_map("b", json!({}))).await.is(201);
    api.patch(&format!("{path}/a"), "merge", json!({"data": {"k": "v"}}))
        .await
        .is(200);
    api.delete(&format!("{path}/b")).await.is(200);
    let events = api.watch(&path, &format!("resourceVersion={from}")).await;
    assert_eq!(
        shape(&events),
        [pair("ADDED", "b"), pair("MODIFIED", "a"), pair("DELETED", "b")]
    );
    // A deleted object carries the revision of its deletion.
    let versions: Vec<u64> = events
        .iter()
        .map(|e| {
            e["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(versions.is_sorted(), "{versions:?}");
    let present = api.watch(&path, "fieldSelector=metadata.name%3Da").await;
    assert_eq!(shape(&present), [pair("ADDED", "a")]);
}

#[tokio::test]
async fn selectors_make_objects_come_and_go() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let first = api.post(&path, config_map("a", json!({}))).await.is(201);
    let from = first["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for tier in ["front", "back", "front"] {
        let labels = json!({"metadata": {"labels": {"tier": tier}}});
        api.patch(&format!("{path}/a"), "merge", labels).await.is(200);
    }
    let events = api
        .watch(
            &path,
            &format!("resourceVersion={from}&labelSelector=tier%3Dfront"),
        )
        .await;
    assert_eq!(
        shape(&events),
        [pair("ADDED", "a"), pair("DELETED", "a"), pair("ADDED", "a")]
    );
    assert_eq!(events[1]["object"]["metadata"]["labels"]["tier"], "front");
}

#[tokio::test]
async fn revisions_that_cannot_be_had_end_the_watch() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    let watch = format!("{path}?watch=true&timeoutSeconds=1&sendInitialEvents=true");
    let refused = api.get(&watch).await.is(422);
    assert!(
        refused["message"].as_str().unwrap().contains("sendInitialEvents"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_watch_of_one_object_and_in_other_forms() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.post(&path, config_map("a", json!({}))).await.is(201);
    api.post(&path, config_map("b", json!({}))).await.is(201);
    let select = "watch=true&timeoutSeconds=1&fieldSelector=metadata.name%3Db";
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    let events = api.get_as(&format!("{path}?{select}"), partial).await;
    let event: Value = serde_json::from_str(events.text().lines().next().unwrap()).unwrap();
    assert_eq!(event["object"]["kind"], "PartialObjectMetadata");
    let protobuf = "application/vnd.kubernetes.protobuf";
    let frames = api.get_as(&format!("{path}?{select}"), protobuf).await;
    assert_eq!(
        frames.header("content-type"),
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let length = u32::from_be_bytes(frames.bytes[..4].try_into().unwrap()) as usize;
    assert!(frames.bytes.len() >= length + 4 && frames.bytes[4..].starts_with(b"\x0a\x05ADDED"));
    api.get_as(&format!("{path}?{select}"), "application/yaml").await;
}
