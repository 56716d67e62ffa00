//! From what a developer says to what runs.

use choreo_testkit::{Options, Platform};
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

/// Who names an owner that is there belongs to it from the first moment on, whatever the controllers do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admission_writes_down_the_owner() -> anyhow::Result<()> {
    let mut platform = Platform::start_with(Options {
        with_rules: true,
        ..Options::default()
    })
    .await?;
    platform
        .control
        .wait_ready("Project", "default", "default")
        .await?;
    platform.stop_controllers().await;
    let control = &platform.control;
    let owners = |object: &kube::core::DynamicObject| -> Vec<(String, String)> {
        let all = object.metadata.owner_references.iter().flatten();
        all.map(|owner| (owner.kind.clone(), owner.uid.clone())).collect()
    };
    let uid = |object: &kube::core::DynamicObject| object.metadata.uid.clone().unwrap_or_default();
    let object = |kind: &str, name: &str, spec: serde_json::Value| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "spec": spec});
    let owner = json!({"projectName": "default", "componentName": "owned"});
    // Before its owner: the plans see to it later.
    let early = control
        .apply(object(
            "Workload",
            "early",
            json!({"owner": owner, "containers": {"main": {"image": "a"}}}),
        ))
        .await?;
    assert_eq!(owners(&early), []);
    let component = control
        .apply(object(
            "Component",
            "owned",
            json!({"owner": {"projectName": "default"}, "type": "Service"}),
        ))
        .await?;
    let project = control.get("Project", "default", "default").await?.unwrap();
    assert_eq!(owners(&component), [("Project".to_owned(), uid(&project))]);
    let service = json!({"owner": owner, "workloadName": "early", "className": "default"});
    let service = control.apply(object("Service", "owned", service)).await?;
    assert_eq!(owners(&service), [("Component".to_owned(), uid(&component))]);
    // Whoever applies the same again takes nothing away.
    let again = json!({"owner": owner, "workloadName": "early", "className": "default"});
    let again = control.apply(object("Service", "owned", again)).await?;
    assert_eq!(owners(&again), owners(&service));

    platform.start_controllers().await;
    platform
        .control
        .wait_for("Workload", "default", "early", "adopted", |workload| {
            owners(workload) == [("Component".to_owned(), uid(&component))]
        })
        .await?;
    platform.stop().await;
    Ok(())
}
