//! From what a developer says to what runs.

use choreo_testkit::Platform;
use serde_json::json;

use crate::support::{GITHUB, GREETER, cell, with_greeter};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_greeter_waits_for_its_configuration_and_then_runs() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    control.apply_yaml(GREETER).await?;
    control
        .wait_unready("Component", "default", "greeter", "\"github\"")
        .await?;
    assert!(platform.local.list("Deployment.apps", "").await?.is_empty());

    control.apply_yaml(GITHUB).await?;
    let component = control.wait_ready("Component", "default", "greeter").await?;
    let environments = &component.data["status"]["environments"];
    assert_eq!(environments[0]["environment"], "development", "{environments}");

    for kind in ["Deployment.apps", "Service."] {
        assert!(
            platform
                .local
                .get(kind, &cell("development"), "greeter")
                .await?
                .is_some(),
            "{kind}"
        );
    }
    let routes = platform.local.list("HTTPRoute", &cell("development")).await?;
    assert_eq!(routes.len(), 2, "one for each level");
    let release = control
        .wait_ready("Release", "default", "greeter-development")
        .await?;
    let inventory = release.data["status"]["inventory"].as_array().unwrap().len();
    assert_eq!(
        inventory,
        release.data["spec"]["resources"].as_array().unwrap().len()
    );

    let endpoint = control
        .wait_ready("Endpoint", "default", "greeter-development-greeter-api")
        .await?;
    let mut urls: Vec<&str> = endpoint.data["status"]["addresses"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|address| address["url"].as_str())
        .filter(|url| url.contains("openchoreoapis"))
        .collect();
    urls.sort_unstable();
    assert_eq!(
        urls,
        [
            "http://dev-default.openchoreoapis.internal:9080/default/greeter/greeter",
            "http://dev-default.openchoreoapis.localhost:9080/default/greeter/greeter",
        ]
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn developer_objects_belong_to_their_component_and_it_to_its_project() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    for (kind, name, owner) in [
        ("Component", "greeter", "Project"),
        ("Workload", "greeter", "Component"),
        ("Service", "greeter", "Component"),
    ] {
        platform
            .control
            .wait_for(
                kind,
                "default",
                name,
                &format!("owned by its {owner}"),
                |object| {
                    object
                        .metadata
                        .owner_references
                        .iter()
                        .flatten()
                        .any(|reference| reference.kind == owner)
                },
            )
            .await?;
    }
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn order_does_not_matter() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(GREETER).unwrap();
    let mut project: Vec<serde_json::Value> = documents
        .into_iter()
        .filter(|document| !document.is_null())
        .map(|mut document| {
            document["spec"]["owner"]["projectName"] = json!("late");
            document
        })
        .collect();
    project.reverse();
    for document in project {
        platform.control.apply(document).await?;
    }
    platform
        .control
        .wait_unready("Component", "default", "greeter", "\"late\"")
        .await?;
    platform
        .control
        .apply(
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Project", "metadata": {"name": "late"},
                      "spec": {"deploymentPipelineRef": "default"}}),
        )
        .await?;
    platform.control.apply_yaml(GITHUB).await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}
