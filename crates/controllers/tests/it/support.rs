//! What the tests have in common.

use choreo_api::names;
use choreo_testkit::Platform;
use kube::ResourceExt;
use kube::api::DynamicObject;

/// A service with two exposed levels that needs the ConfigurationGroup `github`.
pub(crate) const GREETER: &str = include_str!("../../../../examples/greeter.yaml");

/// What it needs.
pub(crate) const GITHUB: &str = include_str!("../../../../examples/github.yaml");

/// A component of the default project, as YAML.
pub(crate) fn component(name: &str, kind: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: {name}, namespace: default}}
spec: {{owner: {{projectName: default}}, type: {kind}}}
"
    )
}

/// A worker of the default project with an image, as YAML.
pub(crate) fn worker(name: &str) -> String {
    format!(
        "{}---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: {name}, namespace: default}}
spec:
  owner: {{projectName: default, componentName: {name}}}
  containers: {{main: {{image: \"example.com/{name}:1\"}}}}
",
        component(name, "worker")
    )
}

/// The namespace of the default project's cell in an environment.
pub(crate) fn cell(environment: &str) -> String {
    names::cell_namespace("default", "default", environment)
}

/// A platform with the greeter running in development.
pub(crate) async fn with_greeter() -> anyhow::Result<Platform> {
    let platform = Platform::start().await?;
    deploy_greeter(&platform).await?;
    Ok(platform)
}

pub(crate) async fn deploy_greeter(platform: &Platform) -> anyhow::Result<()> {
    platform.control.apply_yaml(GITHUB).await?;
    platform.control.apply_yaml(GREETER).await?;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    Ok(())
}

/// Whether an object was derived from the greeter.
pub(crate) fn is_greeters(object: &DynamicObject) -> bool {
    object.name_any().starts_with("greeter")
}
