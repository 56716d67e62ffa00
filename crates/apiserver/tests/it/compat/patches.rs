//! Patches of three kinds.

use serde_json::json;

use super::{Api, config_map, deployment};

#[tokio::test]
async fn json_patches_do_what_they_say() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.post(&path, config_map("a", json!({"x": "1", "y": "2"})))
        .await
        .is(201);
    let one = format!("{path}/a");
    let patch = json!([
        {"op": "test", "path": "/data/x", "value": "1"}, {"op": "replace", "path": "/data/x", "value": "3"},
        {"op": "remove", "path": "/data/y"}, {"op": "add", "path": "/metadata/labels", "value": {"a~b": "c"}},
        {"op": "copy", "from": "/data/x", "path": "/data/z"}, {"op": "move", "from": "/data/z", "path": "/data/w"},
    ]);
    // A label with a tilde is no label.
    api.patch(&one, "json", patch.clone())
        .await
        .has(422, json!({"reason": "Invalid"}));
    let mut good = patch;
    good[3]["value"] = json!({"ab": "c"});
    api.patch(&one, "json", good).await.has(
        200,
        json!({"data": {"x": "3", "w": "3"}, "metadata": {"labels": {"ab": "c"}}}),
    );
    let failing = json!([{"op": "test", "path": "/data/x", "value": "1"}]);
    api.patch(&one, "json", failing)
        .await
        .has(422, json!({"reason": "Invalid"}));
    api.patch(&one, "json", json!({"op": "add"}))
        .await
        .has(400, json!({"reason": "BadRequest"}));
}

#[tokio::test]
async fn merge_patches_replace_lists_and_remove_with_null() {
    let api = Api::open().await;
    let path = api.path("apps/v1/deployments");
    api.post(&path, deployment("web")).await.is(201);
    let patch = json!({
        "metadata": {"annotations": {"a": "b"}},
        "spec": {"template": {"spec": {"containers": [{"name": "other", "image": "other"}]}}, "strategy": {"rollingUpdate": null, "type": "Recreate"}},
    });
    let patched = api.patch(&format!("{path}/web"), "merge", patch).await.has(
        200,
        json!({"spec": {"template": {"spec": {"containers": [{"name": "other"}]}}, "strategy": {"type": "Recreate"}}}),
    );
    assert_eq!(patched["spec"]["strategy"].get("rollingUpdate"), None);
}

#[tokio::test]
async fn strategic_patches_merge_lists_by_key() {
    let api = Api::open().await;
    let path = api.path("apps/v1/deployments");
    let mut object = deployment("web");
    object["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    api.post(&path, object).await.is(201);
    let one = format!("{path}/web");
    let containers = |containers| json!({"spec": {"template": {"spec": {"containers": containers}}}});
    api.patch(
        &one,
        "strategic-merge",
        containers(json!([{"name": "side", "image": "side"}])),
    )
    .await
    .has(
        200,
        containers(json!([{"name": "side"}, {"name": "main", "image": "nginx"}])),
    );
    let env =
        json!([{"name": "main", "env": [{"name": "A", "$patch": "delete"}, {"name": "C", "value": "3"}]}]);
    let patched = api.patch(&one, "strategic-merge", containers(env)).await.is(200);
    let main = patched["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    let main = main.iter().find(|c| c["name"] == "main").unwrap();
    let mut left: Vec<&str> = main["env"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["name"].as_str().unwrap())
        .collect();
    left.sort_unstable();
    assert_eq!(left, ["B", "C"]);
    let order = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "main"}, {"name": "side"}], "containers": [{"name": "side", "$patch": "delete"}],
    }}}});
    api.patch(&one, "strategic-merge", order)
        .await
        .has(200, containers(json!([{"name": "main"}])));
    let replace =
        json!({"spec": {"template": {"metadata": {"labels": {"$patch": "replace", "app": "web"}}}}});
    api.patch(&one, "strategic-merge", replace).await.is(200);
    let retain = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
    let patched = api.patch(&one, "strategic-merge", retain).await.is(200);
    assert_eq!(patched["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[tokio::test]
async fn unknown_patch_types_are_refused() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.post(&path, config_map("a", json!({}))).await.is(201);
    let headers = [("content-type", "application/json")];
    let refused = api
        .send("PATCH", &format!("{path}/a"), &headers, b"{}".to_vec())
        .await
        .is(415);
    assert_eq!(refused["reason"], "UnsupportedMediaType");
    assert_eq!(refused["message"], "415: Unsupported Media Type");
}
