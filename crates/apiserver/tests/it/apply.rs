//! Server-side apply through the API.

use serde_json::json;

use crate::support::{
    CONFIG_MAPS, CRDS, DEPLOYMENTS, TestServer, WIDGETS, config_map, deployment, widget, widgets,
};

#[tokio::test]
async fn appliers_own_what_they_set() {
    let server = TestServer::start();
    let path = format!("{CONFIG_MAPS}/a");
    let first = format!("{path}?fieldManager=one");
    let made = server
        .patch(&first, "apply", config_map("a", json!({"x": "1", "y": "1"})))
        .await
        .expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "one");
    let again = server
        .patch(&first, "apply", config_map("a", json!({"x": "1", "y": "1"})))
        .await
        .expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );

    let second = format!("{path}?fieldManager=two");
    let conflict = server
        .patch(&second, "apply", config_map("a", json!({"x": "2"})))
        .await
        .expect(409);
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"one\": .data.x"
    );
    let forced = server
        .patch(
            &format!("{second}&force=true"),
            "apply",
            config_map("a", json!({"x": "2"})),
        )
        .await
        .expect(200);
    assert_eq!(forced["data"], json!({"x": "2", "y": "1"}));
    let dropped = server
        .patch(&first, "apply", config_map("a", json!({})))
        .await
        .expect(200);
    assert_eq!(dropped["data"], json!({"x": "2"}));
    let nameless = server
        .patch(&path, "apply", config_map("a", json!({})))
        .await
        .expect(422);
    assert_eq!(
        nameless["message"],
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch"
    );
}

#[tokio::test]
async fn updates_are_accounted_for() {
    let server = TestServer::start();
    let made = server
        .request(
            "POST",
            DEPLOYMENTS,
            &[("user-agent", "tester/1.0 (linux)")],
            deployment("d").to_string(),
        )
        .await
        .expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (entry["manager"].as_str(), entry["operation"].as_str()),
        (Some("tester"), Some("Update"))
    );
    let status = format!("{DEPLOYMENTS}/d/status?fieldManager=kubelet");
    let status = server
        .patch(&status, "merge-patch", json!({"status": {"replicas": 1}}))
        .await
        .expect(200);
    let entries = status["metadata"]["managedFields"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .any(|e| e["manager"] == "kubelet" && e["subresource"] == "status"),
        "{entries:?}"
    );
}

#[tokio::test]
async fn custom_resources_are_applied_too() {
    let server = TestServer::start();
    server.post(CRDS, widgets()).await.expect(201);
    let path = format!("{WIDGETS}/a?fieldManager=one");
    let mut body = widget("a", 2);
    body["spec"]["tags"] = json!(["x"]);
    server.patch(&path, "apply", body.clone()).await.expect(201);
    body["spec"]["tags"] = json!(["y"]);
    let other = format!("{WIDGETS}/a?fieldManager=two");
    let both = server.patch(&other, "apply", body).await.expect(200);
    assert_eq!(both["spec"]["tags"], json!(["x", "y"]));
    let mut unknown = widget("a", 2);
    unknown["spec"]["colour"] = "red".into();
    let refused = server.patch(&path, "apply", unknown).await.expect(500);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .ends_with(".spec.colour: field not declared in schema"),
        "{refused}"
    );
}
