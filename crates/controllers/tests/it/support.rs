//! What the tests have in common.

use choreo_api::names;
use choreo_testkit::Platform;
use kube::ResourceExt;
use kube::api::DynamicObject;

/// A service with two exposed levels that needs the ConfigurationGroup `github`.
pub(crate) const GREETER: &str = include_str!("../../../../examples/greeter.yaml");

/// What it needs.
pub(crate) const GITHUB: &str = include_str!("../../../../examples/github.yaml");

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
