//! Custom resources.

use serde_json::json;

use crate::support::{CRDS, TestServer, WIDGETS, widget, widgets};

#[tokio::test]
async fn a_definition_is_served_at_once_and_takes_its_objects_along() {
    let server = TestServer::start();
    server
        .get(WIDGETS)
        .await
        .status
        .is_client_error()
        .then_some(())
        .unwrap();
    let made = server.post(CRDS, widgets()).await.expect(201);
    let conditions = made["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().all(|c| c["status"] == "True"), "{conditions:?}");
    assert_eq!(made["status"]["storedVersions"], json!(["v1"]));
    let widget = server.post(WIDGETS, widget("a", 3)).await.expect(201);
    assert_eq!(widget["spec"]["color"], "red");
    let path = format!("{CRDS}/widgets.example.dev");
    server.delete(&path).await.expect(200);
    server
        .until("the definition to go", async || {
            (server.get(&path).await.status == 404).then_some(())
        })
        .await;
    // The definition is gone from the store a moment before its objects' paths are, and nothing is written then.
    while server.get(WIDGETS).await.status != 404 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.get(WIDGETS).await.text, "404 page not found\n");
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_definition_behind_that_is_not_served() {
    let server = TestServer::start();
    {
        let post = std::pin::pin!(server.post(CRDS, widgets()));
        assert!(futures::poll!(post).is_pending());
    }
    let served = async {
        while server.get(WIDGETS).await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), served)
        .await
        .unwrap();
}

#[tokio::test]
async fn custom_resources_obey_their_schema() {
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    let wrong = server.post(WIDGETS, widget("a", 30)).await.expect(422);
    assert_eq!(wrong["reason"], "Invalid");
    server.post(WIDGETS, widget("a", 3)).await.expect(201);
    let path = format!("{WIDGETS}/a");
    let unversioned = server.put(&path, widget("a", 4)).await.expect(422);
    assert_eq!(
        unversioned["message"],
        "widgets.example.dev \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
    );
    let strategic = server.patch(&path, "strategic-merge-patch", json!({})).await;
    assert_eq!(strategic.status, 415);
    let status = server
        .patch(
            &format!("{path}/status"),
            "merge-patch",
            json!({"spec": {"size": 9}, "status": {"phase": "Up", "replicas": 2}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (
            status["spec"]["size"].as_i64(),
            status["status"]["phase"].as_str()
        ),
        (Some(3), Some("Up"))
    );
    assert_eq!(status["metadata"]["generation"], 1);
    let scale = server
        .patch(
            &format!("{path}/scale"),
            "merge-patch",
            json!({"spec": {"replicas": 5}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (
            scale["spec"]["replicas"].as_i64(),
            scale["status"]["replicas"].as_i64()
        ),
        (Some(5), Some(2))
    );
    let blue = server
        .get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dblue"))
        .await
        .expect(200);
    assert_eq!(blue["items"], json!([]));
}

#[tokio::test]
async fn definitions_survive_a_restart() {
    let store = choreo_store::Store::in_memory();
    let first = TestServer::over(store.clone());
    first.post(CRDS, widgets()).await.expect(201);
    first.post(WIDGETS, widget("a", 3)).await.expect(201);
    drop(first);
    let second = TestServer::over(store);
    second.get(&format!("{WIDGETS}/a")).await.expect(200);
}
