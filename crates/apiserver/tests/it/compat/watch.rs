//! Following collections.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{reflector, watcher};
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

/// A cache that is kept by watches which end every second, as a controller's is, while many clients write.
#[tokio::test]
async fn an_informer_keeps_up_with_churn() {
    let api = Api::open().await;
    let maps: kube::Api<ConfigMap> = kube::Api::namespaced(api.client.clone(), &api.namespace);
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels("churn=yes").timeout(1);
    let mut stream = Box::pin(reflector(writer, watcher(maps.clone(), config)));
    let (changed, mut changes) = tokio::sync::watch::channel(());
    let followed = tokio::spawn(async move {
        while let Some(event) = stream.next().await {
            event.unwrap();
            changed.send_replace(());
        }
    });
    let path = api.path("v1/configmaps");
    let work = (0..6).map(|worker| {
        let (api, path) = (&api, &path);
        async move {
            for nth in 0..40 {
                let name = format!("c{worker}-{nth}");
                let mut object = config_map(&name, json!({"n": "0"}));
                object["metadata"]["labels"] = json!({"churn": "yes"});
                api.post(path, object).await.is(201);
                let one = format!("{path}/{name}");
                api.patch(&one, "merge", json!({"data": {"n": "1"}}))
                    .await
                    .is(200);
                match nth % 4 {
                    0 => drop(api.delete(&one).await.is(200)),
                    // It leaves the selection, and comes back.
                    1 => {
                        api.patch(&one, "merge", json!({"metadata": {"labels": {"churn": "no"}}}))
                            .await
                            .is(200);
                        api.patch(&one, "merge", json!({"metadata": {"labels": {"churn": "yes"}}}))
                            .await
                            .is(200);
                    }
                    _ => {}
                }
            }
        }
    });
    futures::future::join_all(work).await;
    let list = api
        .get(&format!("{path}?labelSelector=churn%3Dyes"))
        .await
        .is(200);
    let text = |v: &Value| v.as_str().unwrap().to_owned();
    let expected: BTreeMap<String, String> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| {
            (
                text(&i["metadata"]["name"]),
                text(&i["metadata"]["resourceVersion"]),
            )
        })
        .collect();
    assert_eq!(expected.len(), 6 * 30);
    let cached = || -> BTreeMap<String, String> {
        let objects = reader.state();
        let pairs = objects
            .iter()
            .map(|o| (o.metadata.name.clone(), o.metadata.resource_version.clone()));
        pairs
            .map(|(name, version)| (name.unwrap(), version.unwrap()))
            .collect()
    };
    let caught_up = tokio::time::timeout(Duration::from_secs(60), async {
        while cached() != expected {
            changes.changed().await.unwrap();
        }
    });
    caught_up.await.unwrap();
    followed.abort();
}
