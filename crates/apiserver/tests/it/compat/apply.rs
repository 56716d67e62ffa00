//! Server-side apply.

use serde_json::{Value, json};

use super::{Api, config_map, deployment};

fn managers(object: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    entries
        .map(|e| (text(&e["manager"]), text(&e["operation"])))
        .collect()
}

#[tokio::test]
async fn appliers_own_what_they_apply() {
    let api = Api::open().await;
    let one = format!("{}/a", api.path("v1/configmaps"));
    let by = |manager: &str| format!("{one}?fieldManager={manager}");
    let made = api
        .patch(
            &by("alice"),
            "apply",
            config_map("a", json!({"x": "1", "y": "1"})),
        )
        .await
        .has(
            201,
            json!({"metadata": {"managedFields": [{
                "manager": "alice", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {"f:x": {}, "f:y": {}}},
            }]}}),
        );
    // Nothing new, nothing written.
    let again = api
        .patch(
            &by("alice"),
            "apply",
            config_map("a", json!({"x": "1", "y": "1"})),
        )
        .await
        .is(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );

    api.patch(&by("bob"), "apply", config_map("a", json!({"x": "2"}))).await.has(
        409,
        json!({
            "reason": "Conflict", "message": "Apply failed with 1 conflict: conflict with \"alice\": .data.x",
            "details": {"causes": [{"reason": "FieldManagerConflict", "message": "conflict with \"alice\"", "field": ".data.x"}]},
        }),
    );
    // The same value is shared.
    let shared = api
        .patch(&by("bob"), "apply", config_map("a", json!({"x": "1"})))
        .await
        .is(200);
    assert_eq!(managers(&shared).len(), 2);
    let forced = format!("{}&force=true", by("bob"));
    api.patch(&forced, "apply", config_map("a", json!({"x": "2"})))
        .await
        .has(200, json!({"data": {"x": "2", "y": "1"}}));
    // What an applier leaves out goes, unless another one has it.
    let less = api
        .patch(&by("alice"), "apply", config_map("a", json!({})))
        .await
        .is(200);
    assert_eq!(less["data"], json!({"x": "2"}));
    api.patch(&one, "apply", config_map("a", json!({}))).await.refuses(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
}

#[tokio::test]
async fn lists_are_owned_by_item() {
    let api = Api::open().await;
    let path = format!("{}/web", api.path("apps/v1/deployments"));
    api.patch(&format!("{path}?fieldManager=alice"), "apply", deployment("web"))
        .await
        .is(201);
    let side = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side", "ports": [{"containerPort": 80}]}]}}},
    });
    let both = api
        .patch(&format!("{path}?fieldManager=bob"), "apply", side)
        .await
        .is(200);
    let names: Vec<&Value> = both["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names, ["main", "side"]);
    let bob = both["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .find(|e| e["manager"] == "bob")
        .unwrap();
    let owned = &bob["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"][r#"k:{"name":"side"}"#];
    assert_eq!(
        owned["f:ports"],
        json!({r#"k:{"containerPort":80,"protocol":"TCP"}"#: {".": {}, "f:containerPort": {}}})
    );
    let nothing = json!({"apiVersion": "apps/v1", "kind": "Deployment"});
    let one = api
        .patch(&format!("{path}?fieldManager=bob"), "apply", nothing)
        .await
        .is(200);
    assert_eq!(
        one["spec"]["template"]["spec"]["containers"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn updates_take_over_and_are_listed() {
    let api = Api::open().await;
    let path = api.path("v1/configmaps");
    api.patch(
        &format!("{path}/a?fieldManager=alice"),
        "apply",
        config_map("a", json!({"x": "1", "y": "1"})),
    )
    .await
    .is(201);
    let patched = api
        .patch(
            &format!("{path}/a?fieldManager=carol"),
            "merge",
            json!({"data": {"x": "2"}}),
        )
        .await
        .is(200);
    assert_eq!(
        managers(&patched),
        [
            ("alice".into(), "Apply".into()),
            ("carol".into(), "Update".into())
        ]
    );
    let alice = &patched["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!(alice["f:data"], json!({"f:y": {}}));
    let conflict = api
        .patch(
            &format!("{path}/a?fieldManager=alice"),
            "apply",
            config_map("a", json!({"x": "1", "y": "1"})),
        )
        .await
        .is(409);
    let message = conflict["message"].as_str().unwrap();
    assert!(
        message.starts_with("Apply failed with 1 conflict: conflict with \"carol\" using v1"),
        "{message}"
    );
    // An empty entry takes all of them away.
    let reset = api
        .patch(
            &format!("{path}/a"),
            "merge",
            json!({"metadata": {"managedFields": [{}]}}),
        )
        .await
        .is(200);
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[tokio::test]
async fn what_cannot_be_applied_is_told() {
    let api = Api::open().await;
    let path = format!("{}/a?fieldManager=alice", api.path("v1/configmaps"));
    let mut unknown = config_map("a", json!({}));
    unknown["foo"] = 1.into();
    let refused = api.patch(&path, "apply", unknown).await.is(500);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with(".foo: field not declared in schema"),
        "{message}"
    );
    let mut fields = config_map("a", json!({}));
    fields["metadata"]["managedFields"] = json!([{"manager": "x"}]);
    api.patch(&path, "apply", fields)
        .await
        .has(400, json!({"message": "metadata.managedFields must be nil"}));
    api.patch(&path, "apply", config_map("b", json!({})))
        .await
        .has(400, json!({"reason": "BadRequest"}));
    // A new object needs its name in the document, too; one that is there has it already.
    let nameless = b"apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n".to_vec();
    let headers = [("content-type", "application/apply-patch+yaml")];
    api.send("PATCH", &path, &headers, nameless.clone())
        .await
        .refuses(
            400,
            "BadRequest",
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        );
    api.patch(&path, "apply", config_map("a", json!({})))
        .await
        .is(201);
    api.send("PATCH", &path, &headers, nameless)
        .await
        .has(200, json!({"metadata": {"name": "a"}, "data": {"a": "b"}}));
}
