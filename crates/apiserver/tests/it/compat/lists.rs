//! Collections: selectors, pages, forms.

use serde_json::json;

use super::{Api, config_map, deployment, names};

async fn three(api: &Api) -> String {
    let path = api.path("v1/configmaps");
    for (name, tier) in [("a", "front"), ("b", "back"), ("c", "back")] {
        let mut object = config_map(name, json!({"k": "v"}));
        object["metadata"]["labels"] = json!({"tier": tier, name: "yes"});
        api.post(&path, object).await.is(201);
    }
    path
}

#[tokio::test]
async fn labels_select() {
    let api = Api::open().await;
    let path = three(&api).await;
    for (selector, expected) in [
        ("tier%3Dback", vec!["b", "c"]),
        ("tier%21%3Dback", vec!["a"]),
        ("tier%20in%20(front,back),%21b", vec!["a", "c"]),
        ("tier%20notin%20(front)", vec!["b", "c"]),
        ("a", vec!["a"]),
        ("none", vec![]),
    ] {
        let list = api
            .get(&format!("{path}?labelSelector={selector}%2Ctier"))
            .await
            .is(200);
        assert_eq!(names(&list), expected, "{selector}");
    }
    let wrong = api.get(&format!("{path}?labelSelector=%3D%3D")).await.is(400);
    assert_eq!(wrong["reason"], "BadRequest");
}

#[tokio::test]
async fn fields_select() {
    let api = Api::open().await;
    let path = three(&api).await;
    let list = api
        .get(&format!("{path}?fieldSelector=metadata.name%21%3Da"))
        .await
        .is(200);
    let seen: Vec<String> = names(&list)
        .into_iter()
        .filter(|n| n != "kube-root-ca.crt")
        .collect();
    assert_eq!(seen, ["b", "c"]);
    api.get(&format!("{path}?fieldSelector=data.k%3Dv"))
        .await
        .refuses(
            400,
            "BadRequest",
            "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        );
    let pods = api.path("v1/pods");
    api.get(&format!(
        "{pods}?fieldSelector=status.phase%3DRunning,spec.nodeName%3Dx"
    ))
    .await
    .is(200);
}

#[tokio::test]
async fn pages_are_of_one_moment() {
    let api = Api::open().await;
    let path = three(&api).await;
    let first = api.get(&format!("{path}?limit=2&labelSelector=")).await.is(200);
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 1);
    api.post(&path, config_map("bb", json!({}))).await.is(201);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = api.get(&format!("{path}?limit=2&continue={token}")).await.is(200);
    assert_eq!(names(&second), ["c"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert!(
        second["metadata"]["continue"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
    );
    // With a selector nobody counts what is left.
    let some = api
        .get(&format!("{path}?limit=1&labelSelector=tier%3Dback"))
        .await
        .is(200);
    assert_eq!(some["metadata"].get("remainingItemCount"), None);
    api.get(&format!("{path}?continue=nonsense"))
        .await
        .has(400, json!({"reason": "BadRequest"}));
    api.get(&format!("{path}?limit=x"))
        .await
        .has(400, json!({"reason": "BadRequest"}));
}

#[tokio::test]
async fn resource_versions_choose_the_moment() {
    let api = Api::open().await;
    let path = three(&api).await;
    let list = api.get(&path).await.is(200);
    let version = list["metadata"]["resourceVersion"].as_str().unwrap();
    api.post(&path, config_map("d", json!({}))).await.is(201);
    let exact = api
        .get(&format!(
            "{path}?resourceVersion={version}&resourceVersionMatch=Exact&labelSelector=tier"
        ))
        .await
        .is(200);
    assert_eq!(
        (names(&exact), &exact["metadata"]["resourceVersion"]),
        (names(&exact), &list["metadata"]["resourceVersion"])
    );
    assert!(!names(&exact).contains(&"d".to_owned()));
    let newer = api
        .get(&format!(
            "{path}?resourceVersion={version}&resourceVersionMatch=NotOlderThan"
        ))
        .await
        .is(200);
    assert!(names(&newer).contains(&"c".to_owned()));
    for (parameters, field) in [
        ("resourceVersionMatch=Exact", "resourceVersionMatch"),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            "resourceVersionMatch",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Sometimes",
            "resourceVersionMatch",
        ),
    ] {
        let refused = api.get(&format!("{path}?{parameters}")).await.is(422);
        assert!(refused["message"].as_str().unwrap().contains(field), "{refused}");
    }
    api.get(&format!("{path}?resourceVersion=nonsense")).await.refuses(
        400,
        "BadRequest",
        "invalid resource version: resourceVersion: Invalid value: \"nonsense\": strconv.ParseUint: parsing \"nonsense\": invalid syntax",
    );
    let future = format!("{path}?resourceVersion=999999999999&resourceVersionMatch=NotOlderThan");
    let refused = api.get(&future).await.is(504);
    assert_eq!(refused["reason"], "Timeout");
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge"
    );
}

#[tokio::test]
async fn collections_are_deleted_by_selector() {
    let api = Api::open().await;
    let path = three(&api).await;
    let gone = api
        .delete(&format!("{path}?labelSelector=tier%3Dback"))
        .await
        .is(200);
    assert_eq!(
        (&gone["kind"], names(&gone)),
        (&json!("ConfigMapList"), vec!["b".to_owned(), "c".to_owned()])
    );
    assert_eq!(
        names(&api.get(&format!("{path}?labelSelector=tier")).await.is(200)),
        ["a"]
    );
    api.delete("/api/v1/configmaps").await.refuses(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    );
}

#[tokio::test]
async fn a_list_says_once_what_it_is_of() {
    let api = Api::open().await;
    let path = three(&api).await;
    let list = api.get(&format!("{path}?labelSelector=tier")).await.is(200);
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("ConfigMapList"), &json!("v1"))
    );
    for item in list["items"].as_array().unwrap() {
        assert_eq!(
            (item.get("kind"), item.get("apiVersion"), &item["data"]),
            (None, None, &json!({"k": "v"}))
        );
    }
    // Without anything between version and kind.
    let path = api.path("apps/v1/deployments");
    api.post(&path, deployment("web")).await.is(201);
    let list = api.get(&path).await.is(200);
    assert_eq!(list["items"][0].get("kind"), None);
    assert_eq!(list["items"][0]["spec"]["replicas"], 1);
    // Custom resources say it each.
    let schema = json!({"schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let things = api.define("things", schema).await;
    api.post(&things.path, things.object("a", json!({})))
        .await
        .is(201);
    let list = api.get(&things.path).await.is(200);
    assert_eq!(list["items"][0]["kind"], "Thing");
    api.delete(&things.definition).await.is(200);
}

#[tokio::test]
async fn tables_are_for_people() {
    let api = Api::open().await;
    let path = three(&api).await;
    let accept = "application/json;as=Table;g=meta.k8s.io;v=v1";
    let table = api.get_as(&format!("{path}/a"), accept).await.is(200);
    assert_eq!(
        (&table["kind"], &table["apiVersion"]),
        (&json!("Table"), &json!("meta.k8s.io/v1"))
    );
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(columns, ["Name", "Data", "Age"]);
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let whole = api
        .get_as(&format!("{path}/a?includeObject=Object"), accept)
        .await
        .is(200);
    assert_eq!(whole["rows"][0]["object"]["kind"], "ConfigMap");
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = api
        .get_as(&format!("{path}?labelSelector=tier"), partial)
        .await
        .is(200);
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0].get("data"), None);
}

#[tokio::test]
async fn forms_are_negotiated() {
    let api = Api::open().await;
    let path = three(&api).await;
    let yaml = api.get_as(&format!("{path}/a"), "application/yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.text().contains("kind: ConfigMap\n"), "{}", yaml.text());
    let protobuf = "application/vnd.kubernetes.protobuf";
    let read = api.get_as(&format!("{path}/a"), protobuf).await;
    assert_eq!(read.header("content-type"), protobuf);
    // What was read is written back and changes nothing.
    let before = api.get(&format!("{path}/a")).await.is(200);
    let headers = [("content-type", protobuf), ("accept", "application/json")];
    let after = api
        .send("PUT", &format!("{path}/a"), &headers, read.bytes.to_vec())
        .await
        .is(200);
    assert_eq!(
        after["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    api.get_as(&format!("{path}/a"), &format!("{protobuf};as=Table;g=meta.k8s.io;v=v1"))
        .await
        .refuses(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        );
}
