//! Types, traits and managed resources, from what is shipped to what runs.

use choreo_api::names;
use choreo_testkit::Platform;
use serde_json::{Value, json};

use crate::support::{cell, worker};

const MAILER: &str = r#"
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: mailer, namespace: default}
spec:
  owner: {projectName: default}
  type: worker
  traits: [{name: persistent-volume, instanceName: spool, parameters: {mountPath: /spool}}]
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: mailer, namespace: default}
spec:
  owner: {projectName: default, componentName: mailer}
  containers: {main: {image: "example.com/mailer:1"}}
  connections:
    db: {type: managed, params: {resourceRef: orders}, inject: {env: [{name: DB_URL, value: "postgresql://{{ .username }}:{{ .password }}@{{ .host }}"}]}}
"#;

const ORDERS: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: ManagedResource
metadata: {name: orders, namespace: default}
spec: {type: postgres}
";

/// The password in the data plane, as the Secret has it.
async fn password(platform: &Platform) -> anyhow::Result<Option<String>> {
    let name = names::resource_objects("orders");
    let secret = platform.local.get("Secret.", &cell("development"), &name).await?;
    Ok(secret.and_then(|s| s.data["data"]["password"].as_str().map(str::to_owned)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_may_say_where_its_metrics_are() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let watched = MAILER
        .replace(
            "{name: persistent-volume, instanceName: spool, parameters: {mountPath: /spool}}",
            "{name: pod-monitor, instanceName: metrics, parameters: {port: 9100}}",
        )
        .replace("  connections:\n", "")
        .lines()
        .filter(|line| !line.trim_start().starts_with("db: {type: managed"))
        .collect::<Vec<_>>()
        .join("\n");
    platform.control.apply_yaml(&watched).await?;
    platform
        .control
        .wait_ready("Component", "default", "mailer")
        .await?;
    let monitors = platform.local.list("PodMonitor", &cell("development")).await?;
    let [monitor] = monitors.as_slice() else {
        anyhow::bail!("{} monitors", monitors.len());
    };
    assert_eq!(monitor.data["spec"]["podMetricsEndpoints"][0]["portNumber"], 9100);
    let deployments = platform.local.list("Deployment", &cell("development")).await?;
    assert_eq!(
        monitor.data["spec"]["selector"]["matchLabels"],
        deployments[0].data["spec"]["selector"]["matchLabels"]
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_volume_and_a_database_runs_and_its_password_is_nowhere_else() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    // Keeps the cell there when the others go.
    control.apply_yaml(&worker("neighbour")).await?;
    control.apply_yaml(MAILER).await?;
    control
        .wait_unready(
            "Component",
            "default",
            "mailer",
            "ManagedResource \"orders\" not found",
        )
        .await?;
    control.apply_yaml(ORDERS).await?;
    control.wait_ready("Component", "default", "mailer").await?;
    control.wait_ready("ManagedResource", "default", "orders").await?;
    let namespace = cell("development");
    assert!(
        platform
            .local
            .get("PersistentVolumeClaim.", &namespace, "mailer-spool")
            .await?
            .is_some()
    );

    let made_up = password(&platform).await?.unwrap_or_default();
    assert!(made_up.len() > 40, "base64 of 32 letters");
    for kind in [
        "Release",
        "DeployableArtifact",
        "ComponentBinding",
        "Deployment.openchoreo.dev",
        "Event.",
    ] {
        for object in control.list(kind, "default").await? {
            assert!(!serde_json::to_string(&object)?.contains(&made_up), "{kind}");
        }
    }

    // Another revision of the consumer, and of the resource, leave the password alone.
    control
        .merge(
            "ManagedResource",
            "default",
            "orders",
            json!({"spec": {"environmentConfigs": {"development": {"cpu": "200m"}}}}),
        )
        .await?;
    let server = names::resource_objects("orders");
    platform
        .local
        .wait_for("StatefulSet.apps", &namespace, &server, "changed", |o| {
            let cpu = o
                .data
                .pointer("/spec/template/spec/containers/0/resources/requests/cpu");
            cpu.and_then(Value::as_str) == Some("200m")
        })
        .await?;
    assert_eq!(password(&platform).await?.as_deref(), Some(made_up.as_str()));

    // The server goes with its last consumer. What its storage is protected by stays with the storage.
    control.delete("Component", "default", "mailer").await?;
    platform
        .local
        .wait_gone("StatefulSet.apps", &namespace, &server)
        .await?;
    assert_eq!(password(&platform).await?.as_deref(), Some(made_up.as_str()));
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_says_what_is_wrong_with_it_and_who_uses_it() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    let control = &platform.control;
    control
        .apply_yaml(
            "
apiVersion: openchoreo.dev/v1alpha1
kind: ComponentType
metadata: {name: broken, namespace: default}
spec:
  resources:
    - id: settings
      template: {apiVersion: v1, kind: ConfigMap, metadata: {name: '${metadata.nmae}'}}
",
        )
        .await?;
    control
        .wait_unready("ComponentType", "default", "broken", "did you mean \"name\"?")
        .await?;
    control.wait_ready("ComponentType", "default", "worker").await?;
    control.wait_ready("Trait", "default", "autoscaling").await?;
    control.wait_ready("ResourceType", "default", "redis").await?;
    platform.stop().await;
    Ok(())
}
