//! Garbage collection and the end of namespaces.

use serde_json::{Value, json};

use crate::support::{CONFIG_MAPS, CRDS, TestServer, WIDGETS, config_map, widget, widgets};

/// Waits for the object at `path` to be gone.
async fn gone(server: &TestServer, path: &str) {
    until(server, path, "it to be gone", |answer| answer.is_none()).await;
}

/// Waits until the object at `path`, if there is one, is as wanted. The server's own controllers work in the background.
async fn until(
    server: &TestServer,
    path: &str,
    what: &str,
    wanted: impl Fn(Option<&Value>) -> bool,
) -> Option<Value> {
    let ask = async || {
        let answer = server.get(path).await;
        let found = (answer.status == 200).then(|| answer.json());
        wanted(found.as_ref()).then_some(found)
    };
    server.until(&format!("{path}: {what}"), ask).await
}

async fn owner(server: &TestServer, name: &str) -> String {
    let made = server
        .post(CONFIG_MAPS, config_map(name, json!({})))
        .await
        .expect(201);
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn reference(name: &str, uid: &str, block: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": block})
}

async fn dependent(server: &TestServer, name: &str, owners: &[Value], finalizers: &[&str]) -> String {
    let mut object = config_map(name, json!({}));
    object["metadata"]["ownerReferences"] = owners.to_vec().into();
    object["metadata"]["finalizers"] = finalizers.into();
    let made = server.post(CONFIG_MAPS, object).await.expect(201);
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn path(name: &str) -> String {
    format!("{CONFIG_MAPS}/{name}")
}

async fn delete(server: &TestServer, name: &str, propagation: &str) {
    let status = server
        .delete(&format!("{}?propagationPolicy={propagation}", path(name)))
        .await
        .status;
    assert!(status.is_success(), "{status}");
}

async fn remove_finalizers(server: &TestServer, name: &str) {
    server
        .patch(
            &path(name),
            "merge-patch",
            json!({"metadata": {"finalizers": null}}),
        )
        .await
        .expect(200);
}

#[tokio::test]
async fn background_deletion_takes_dependents_of_dependents() {
    let server = TestServer::start();
    let top = owner(&server, "top").await;
    let middle = dependent(&server, "middle", &[reference("top", &top, true)], &[]).await;
    dependent(&server, "bottom", &[reference("middle", &middle, true)], &[]).await;
    delete(&server, "top", "Background").await;
    assert_eq!(server.get(&path("top")).await.status, 404);
    gone(&server, &path("bottom")).await;
    gone(&server, &path("middle")).await;
}

#[tokio::test]
async fn an_object_goes_with_its_last_owner() {
    let server = TestServer::start();
    let (one, two) = (owner(&server, "one").await, owner(&server, "two").await);
    dependent(
        &server,
        "both",
        &[reference("one", &one, true), reference("two", &two, true)],
        &[],
    )
    .await;
    delete(&server, "one", "Background").await;
    let left = until(&server, &path("both"), "one owner", |found| {
        found.is_some_and(|found| found["metadata"]["ownerReferences"].as_array().unwrap().len() == 1)
    })
    .await;
    assert_eq!(
        left.unwrap()["metadata"]["ownerReferences"][0]["uid"],
        two.as_str()
    );
    delete(&server, "two", "Background").await;
    gone(&server, &path("both")).await;
}

#[tokio::test]
async fn owners_that_never_were_or_are_elsewhere_are_absent() {
    let server = TestServer::start();
    dependent(&server, "orphaned", &[reference("nobody", "0-0", true)], &[]).await;
    gone(&server, &path("orphaned")).await;

    let other = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    server.post("/api/v1/namespaces", other).await.expect(201);
    let there = server
        .post(
            "/api/v1/namespaces/other/configmaps",
            config_map("there", json!({})),
        )
        .await
        .expect(201);
    let uid = there["metadata"]["uid"].as_str().unwrap();
    dependent(&server, "here", &[reference("there", uid, true)], &[]).await;
    gone(&server, &path("here")).await;
    server
        .get("/api/v1/namespaces/other/configmaps/there")
        .await
        .expect(200);

    // Of the same name and another uid: that owner is gone.
    owner(&server, "namesake").await;
    dependent(&server, "mistaken", &[reference("namesake", "0-1", true)], &[]).await;
    gone(&server, &path("mistaken")).await;
}

#[tokio::test]
async fn foreground_deletion_waits_for_dependents_that_block() {
    let server = TestServer::start();
    let top = owner(&server, "top").await;
    dependent(
        &server,
        "blocks",
        &[reference("top", &top, true)],
        &["example.dev/hold"],
    )
    .await;
    dependent(
        &server,
        "blocks-not",
        &[reference("top", &top, false)],
        &["example.dev/hold"],
    )
    .await;
    delete(&server, "top", "Foreground").await;
    let deleting =
        |found: Option<&Value>| found.is_some_and(|found| !found["metadata"]["deletionTimestamp"].is_null());
    until(&server, &path("blocks"), "deletion", deleting).await;
    until(&server, &path("blocks-not"), "deletion", deleting).await;
    let top = server.get(&path("top")).await.expect(200);
    assert_eq!(top["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    remove_finalizers(&server, "blocks").await;
    gone(&server, &path("top")).await;
    server.get(&path("blocks-not")).await.expect(200);
}

#[tokio::test]
async fn a_circle_of_owners_can_be_deleted_in_the_foreground() {
    let server = TestServer::start();
    let one = owner(&server, "one").await;
    let two = dependent(&server, "two", &[reference("one", &one, true)], &[]).await;
    let owners = json!({"metadata": {"ownerReferences": [reference("two", &two, true)]}});
    server
        .patch(&path("one"), "merge-patch", owners)
        .await
        .expect(200);
    delete(&server, "one", "Foreground").await;
    gone(&server, &path("one")).await;
    gone(&server, &path("two")).await;
}

#[tokio::test]
async fn orphans_stay_without_their_owner() {
    let server = TestServer::start();
    let top = owner(&server, "top").await;
    dependent(&server, "child", &[reference("top", &top, true)], &[]).await;
    delete(&server, "top", "Orphan").await;
    gone(&server, &path("top")).await;
    let child = server.get(&path("child")).await.expect(200);
    assert!(child["metadata"]["ownerReferences"].is_null(), "{child}");
}

#[tokio::test]
async fn dependents_of_custom_resources_go_with_their_definition() {
    let server = TestServer::start();
    // The collector is at work: one that starts after a definition has gone cannot know what became of its objects.
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "0-1"});
    dependent(&server, "marker", &[absent], &[]).await;
    gone(&server, &path("marker")).await;
    server.post(CRDS, widgets()).await.expect(201);
    let widget = server.post(WIDGETS, widget("w", 1)).await.expect(201);
    let reference = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "name": "w", "uid": widget["metadata"]["uid"]});
    dependent(&server, "of-widget", &[reference], &[]).await;
    server
        .delete(&format!("{CRDS}/widgets.example.dev"))
        .await
        .expect(200);
    gone(&server, &path("of-widget")).await;
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_is_waited_for() {
    let server = TestServer::start();
    let reference = json!({"apiVersion": "example.dev/v1", "kind": "Widget", "name": "w", "uid": "0-0"});
    dependent(&server, "early", &[reference], &[]).await;
    owner(&server, "marker").await;
    dependent(
        &server,
        "after",
        &[json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "0-2"})],
        &[],
    )
    .await;
    gone(&server, &path("after")).await;
    server.get(&path("early")).await.expect(200);
    server.post(CRDS, widgets()).await.expect(201);
    gone(&server, &path("early")).await;
}

#[tokio::test]
async fn many_dependents_go() {
    let server = TestServer::start();
    let top = owner(&server, "top").await;
    for n in 0..200 {
        dependent(&server, &format!("d{n}"), &[reference("top", &top, true)], &[]).await;
    }
    delete(&server, "top", "Foreground").await;
    gone(&server, &path("top")).await;
    let left = server.get(CONFIG_MAPS).await.expect(200);
    assert_eq!(left["items"], json!([]));
}

#[tokio::test]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    let made = server.post("/api/v1/namespaces", namespace).await.expect(201);
    assert_eq!(
        (&made["spec"]["finalizers"], &made["status"]["phase"]),
        (&json!(["kubernetes"]), &json!("Active"))
    );
    let inside = |resource: &str| format!("/api/v1/namespaces/shop/{resource}");
    for n in 0..20 {
        server
            .post(&inside("configmaps"), config_map(&format!("c{n}"), json!({})))
            .await
            .expect(201);
    }
    server
        .post("/apis/example.dev/v1/namespaces/shop/widgets", widget("w", 1))
        .await
        .expect(201);
    let mut held = config_map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.dev/hold"]);
    server.post(&inside("configmaps"), held).await.expect(201);

    let deleted = server.delete("/api/v1/namespaces/shop").await.expect(200);
    assert_eq!(deleted["status"]["phase"], "Terminating");
    let refused = server
        .post(&inside("configmaps"), config_map("late", json!({})))
        .await
        .expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("because it is being terminated"),
        "{refused}"
    );
    let condition = |found: &Value, kind: &str| {
        let all = found["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        all.into_iter()
            .find(|condition| condition["type"] == kind)
            .unwrap_or_default()
    };
    let waiting = until(&server, "/api/v1/namespaces/shop", "conditions", |found| {
        let one = "Some resources are remaining: configmaps. has 1 resource instances";
        found.is_some_and(|found| condition(found, "NamespaceContentRemaining")["message"] == one)
    });
    let waiting = waiting.await.unwrap();
    assert_eq!(
        condition(&waiting, "NamespaceFinalizersRemaining")["message"],
        "Some content in the namespace has finalizers remaining: example.dev/hold in 1 resource instances"
    );
    let nothing = json!({"metadata": {"finalizers": null}});
    server
        .patch(&inside("configmaps/held"), "merge-patch", nothing)
        .await
        .expect(200);
    gone(&server, "/api/v1/namespaces/shop").await;
    server
        .get("/apis/example.dev/v1/namespaces/shop/widgets/w")
        .await
        .expect(404);
}

#[tokio::test]
async fn an_empty_namespace_goes_and_can_be_made_again() {
    let server = TestServer::start();
    for _ in 0..3 {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "again"}});
        server.post("/api/v1/namespaces", namespace).await.expect(201);
        server.delete("/api/v1/namespaces/again").await.expect(200);
        gone(&server, "/api/v1/namespaces/again").await;
    }
}
