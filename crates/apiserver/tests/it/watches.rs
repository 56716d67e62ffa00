//! Following changes.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, TestServer, config_map};

fn shape(events: &[Value]) -> Vec<String> {
    events
        .iter()
        .map(|e| {
            format!(
                "{} {}",
                e["type"].as_str().unwrap(),
                e["object"]["metadata"]["name"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there() {
    let server = TestServer::start();
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    let events = server
        .watch(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1"))
        .await;
    assert_eq!(shape(&events), ["ADDED a"]);
    let from = events[0]["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    server
        .patch(
            &format!("{CONFIG_MAPS}/a"),
            "merge-patch",
            json!({"data": {"k": "v"}}),
        )
        .await
        .expect(200);
    server.delete(&format!("{CONFIG_MAPS}/a")).await.expect(200);
    let events = server
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={from}&allowWatchBookmarks=true"
        ))
        .await;
    assert_eq!(shape(&events), ["MODIFIED a", "DELETED a", "BOOKMARK "]);
    assert_eq!(
        events[1]["object"]["metadata"]["resourceVersion"],
        events[2]["object"]["metadata"]["resourceVersion"]
    );
}

#[tokio::test]
async fn selectors_turn_changes_into_coming_and_going() {
    let server = TestServer::start();
    let made = server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    let from = made["metadata"]["resourceVersion"].as_str().unwrap();
    for labels in [
        json!({"on": "yes"}),
        json!({"on": "yes", "x": "1"}),
        json!({"on": null}),
    ] {
        server
            .patch(
                &format!("{CONFIG_MAPS}/a"),
                "merge-patch",
                json!({"metadata": {"labels": labels}}),
            )
            .await
            .expect(200);
    }
    let events = server
        .watch(&format!(
            "{CONFIG_MAPS}?watch=1&timeoutSeconds=1&labelSelector=on&resourceVersion={from}"
        ))
        .await;
    assert_eq!(shape(&events), ["ADDED a", "MODIFIED a", "DELETED a"]);
    assert_eq!(events[2]["object"]["metadata"]["labels"]["on"], "yes");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark() {
    let server = TestServer::start();
    server
        .post(CONFIG_MAPS, config_map("a", json!({})))
        .await
        .expect(201);
    let query = "watch=1&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let events = server.watch(&format!("{CONFIG_MAPS}?{query}")).await;
    assert_eq!(shape(&events)[..2], ["ADDED a", "BOOKMARK "]);
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    server
        .get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true"))
        .await
        .expect(422);
}

#[tokio::test]
async fn a_runtime_watcher_sees_everything() {
    let server = TestServer::start();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    for config in [
        watcher::Config::default(),
        watcher::Config::default().streaming_lists(),
    ] {
        let name = format!("c{}", config.bookmarks);
        let mut seen = watcher(api.clone(), config).applied_objects().boxed();
        server
            .post(CONFIG_MAPS, config_map(&name.to_lowercase(), json!({})))
            .await;
        let first = seen.try_next().await.unwrap().unwrap();
        assert_eq!(first.metadata.name, Some(name.to_lowercase()));
    }
}

/// The page after the one whose revision is forgotten can be had all the same, but not as part of one consistent list.
#[tokio::test]
async fn an_expired_page_comes_with_a_token_to_go_on() {
    let window = choreo_store::StoreOptions {
        history_events: 3,
        ..choreo_store::StoreOptions::default()
    };
    let server = TestServer::over(choreo_store::Store::in_memory_with(window));
    for name in ["a", "b", "c"] {
        server
            .post(CONFIG_MAPS, config_map(name, json!({})))
            .await
            .expect(201);
    }
    let first = server.get(&format!("{CONFIG_MAPS}?limit=1")).await.expect(200);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    for name in ["d", "e", "f", "g"] {
        server
            .post(CONFIG_MAPS, config_map(name, json!({})))
            .await
            .expect(201);
    }
    let expired = server
        .get(&format!("{CONFIG_MAPS}?limit=1&continue={token}"))
        .await
        .expect(410);
    assert_eq!(expired["reason"], "Expired");
    let token = expired["metadata"]["continue"].as_str().unwrap();
    let rest = server
        .get(&format!("{CONFIG_MAPS}?continue={token}"))
        .await
        .expect(200);
    let names: Vec<_> = rest["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| &i["metadata"]["name"])
        .collect();
    assert_eq!(names, ["b", "c", "d", "e", "f", "g"]);
}
