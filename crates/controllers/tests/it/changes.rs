//! What changes on one side arrives on the other, and nothing else does.

use choreo_testkit::{Platform, ready_message};
use serde_json::json;

use crate::support::{GITHUB, GREETER, cell, with_greeter};

fn image(object: &kube::api::DynamicObject) -> &str {
    object.data["spec"]["template"]["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_in_the_data_plane_is_undone() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (local, cell) = (&platform.local, cell("development"));
    let before = local.get("Deployment.apps", &cell, "greeter").await?.unwrap();
    let containers = json!([{"name": "main", "image": "evil"}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    local.merge("Deployment.apps", &cell, "greeter", patch).await?;
    let healed = |object: &kube::api::DynamicObject| {
        object.metadata.generation > before.metadata.generation && image(object) == image(&before)
    };
    local
        .wait_for("Deployment.apps", &cell, "greeter", "healed", healed)
        .await?;

    let service = local.get("Service.", &cell, "greeter").await?.unwrap();
    local.delete("Service.", &cell, "greeter").await?;
    local
        .wait_for("Service.", &cell, "greeter", "made again", |object| {
            object.metadata.uid != service.metadata.uid
        })
        .await?;

    let labels = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}});
    local.merge("Service.", &cell, "greeter", labels).await?;
    local
        .wait_for("Service.", &cell, "greeter", "labelled again", |object| {
            object.metadata.labels.as_ref().unwrap()["app.kubernetes.io/managed-by"] == "choreo"
        })
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_add_stays() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (local, cell) = (&platform.local, cell("development"));
    let patch = json!({"metadata": {"annotations": {"theirs": "1"}}, "spec": {"paused": true}});
    local.merge("Deployment.apps", &cell, "greeter", patch).await?;
    platform
        .control
        .apply_yaml(&GREETER.replace("value: info", "value: debug"))
        .await?;
    let changed = local
        .wait_for(
            "Deployment.apps",
            &cell,
            "greeter",
            "with the new value",
            |object| object.data.to_string().contains("debug"),
        )
        .await?;
    assert_eq!(changed.metadata.annotations.unwrap()["theirs"], "1");
    assert_eq!(changed.data["spec"]["paused"], true);
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_class_renders_again() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    platform
        .control
        .merge(
            "ServiceClass",
            "default",
            "default",
            json!({"spec": {"deploymentTemplate": {"replicas": 3}}}),
        )
        .await?;
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "3 replicas",
            |object| object.data["spec"]["replicas"] == 3,
        )
        .await?;
    let three = |object: &kube::api::DynamicObject| object.data["status"]["readyReplicas"] == 3;
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "3 ready",
            three,
        )
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_configuration_rolls_the_pods() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (local, cell) = (&platform.local, cell("development"));
    let before = local.get("Deployment.apps", &cell, "greeter").await?.unwrap();
    let group = platform
        .control
        .get("ConfigurationGroup", "default", "github")
        .await?
        .unwrap();
    let mut configurations = group.data["spec"]["configurations"].clone();
    configurations[0]["values"][0]["value"] = json!("https://example.com/another");
    let patch = json!({"spec": {"configurations": configurations}});
    platform
        .control
        .merge("ConfigurationGroup", "default", "github", patch)
        .await?;
    local
        .wait_for(
            "Deployment.apps",
            &cell,
            "greeter",
            "with another pod template",
            |object| object.data["spec"]["template"] != before.data["spec"]["template"],
        )
        .await?;
    let revision = |object: &kube::api::DynamicObject| object.data["status"]["revision"] == 2;
    platform
        .control
        .wait_for(
            "ServiceBinding",
            "default",
            "greeter-development",
            "revision 2",
            revision,
        )
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_no_longer_exposed_loses_its_route() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    platform
        .control
        .apply_yaml(&GREETER.replace("[Organization, Public]", "[Organization]"))
        .await?;
    platform
        .local
        .wait_all("HTTPRoute", &cell("development"), "one route", |routes| {
            routes.len() == 1
        })
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_object_is_left_alone_and_named() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let cell = cell("development");
    let foreign = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "greeter", "namespace": cell, "labels": {"theirs": "1"}},
        "spec": {"ports": [{"port": 1}], "selector": {"theirs": "1"}},
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}});
    platform.local.apply(namespace).await?;
    platform.control.apply_yaml(GITHUB).await?;
    // The cell is there first, with the foreign object in it, and then the component comes.
    platform
        .control
        .apply_yaml(&GREETER.replace("greeter", "first"))
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "first")
        .await?;
    platform.local.apply(foreign).await?;

    platform.control.apply_yaml(GREETER).await?;
    let release = platform
        .control
        .wait_unready(
            "Release",
            "default",
            "greeter-development",
            "belongs to somebody else",
        )
        .await?;
    assert!(
        ready_message(&release).contains(&format!("Service {cell}/greeter")),
        "{}",
        ready_message(&release)
    );
    let there = platform.local.get("Service.", &cell, "greeter").await?.unwrap();
    assert_eq!(there.data["spec"]["selector"], json!({"theirs": "1"}));
    // The rest is applied all the same.
    assert!(
        platform
            .local
            .get("Deployment.apps", &cell, "greeter")
            .await?
            .is_some()
    );

    platform.control.delete("Component", "default", "greeter").await?;
    platform
        .control
        .wait_gone("Release", "default", "greeter-development")
        .await?;
    assert!(
        platform.local.get("Service.", &cell, "greeter").await?.is_some(),
        "it is not ours to delete"
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_cell_namespace_is_built_again() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (local, cell) = (&platform.local, cell("development"));
    let before = local.get("Namespace.", "", &cell).await?.unwrap();
    local.delete("Namespace.", "", &cell).await?;
    local
        .wait_for("Namespace.", "", &cell, "made again", |object| {
            object.metadata.uid != before.metadata.uid
        })
        .await?;
    local
        .wait_for("Deployment.apps", &cell, "greeter", "made again", |_| true)
        .await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}
