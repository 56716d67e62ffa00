//! Deletion in every order, in both planes.

use choreo_testkit::Platform;
use rstest::rstest;

use crate::support::{cell, is_greeters, with_greeter};

/// Kinds in the control plane that are derived from, or belong to, a component.
const PARTS: &[&str] = &[
    "Component",
    "Workload",
    "Service",
    "DeployableArtifact",
    "ServiceBinding",
    "Deployment",
    "Release",
    "Endpoint",
];

async fn nothing_is_left_of_the_greeter(platform: &Platform) -> anyhow::Result<()> {
    for kind in PARTS {
        let none = |objects: &[kube::api::DynamicObject]| !objects.iter().any(is_greeters);
        platform
            .control
            .wait_all(kind, "default", "nothing of the greeter", none)
            .await?;
    }
    for kind in [
        "Deployment.apps",
        "Service.",
        "HTTPRoute",
        "ReplicaSet.apps",
        "Pod.",
    ] {
        let none = |objects: &[kube::api::DynamicObject]| !objects.iter().any(is_greeters);
        platform
            .local
            .wait_all(kind, &cell("development"), "nothing of the greeter", none)
            .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_component_removes_it_from_both_planes_and_leaves_its_cell() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    platform.control.delete("Component", "default", "greeter").await?;
    nothing_is_left_of_the_greeter(&platform).await?;
    platform
        .control
        .wait_ready("Project", "default", "default")
        .await?;
    platform.stop().await;
    Ok(())
}

/// What is deleted, one after the other, without waiting in between.
#[rstest]
#[case::project(&[("Project", "default")])]
#[case::component_then_project(&[("Component", "greeter"), ("Project", "default")])]
#[case::data_plane_first(&[("DataPlane", "default"), ("Project", "default")])]
#[case::environment_first(&[("Environment", "development"), ("DataPlane", "default"), ("Project", "default")])]
#[case::pipeline_and_class_first(
    &[("DeploymentPipeline", "default"), ("ServiceClass", "default"), ("Project", "default")])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_project_removes_its_cells(#[case] deleted: &[(&str, &str)]) -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    for (kind, name) in deleted {
        platform.control.delete(kind, "default", name).await?;
    }
    nothing_is_left_of_the_greeter(&platform).await?;
    platform
        .control
        .wait_all("Release", "default", "no release", <[_]>::is_empty)
        .await?;
    platform
        .local
        .wait_gone("Namespace.", "", &cell("development"))
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_data_plane_and_then_a_restart_still_cleans_up() -> anyhow::Result<()> {
    let mut platform = with_greeter().await?;
    platform
        .control
        .delete("Environment", "default", "development")
        .await?;
    platform.control.delete("DataPlane", "default", "default").await?;
    platform
        .control
        .wait_gone("DataPlane", "default", "default")
        .await?;
    platform.stop_controllers().await;
    platform.control.delete("Project", "default", "default").await?;
    platform.start_controllers().await;
    nothing_is_left_of_the_greeter(&platform).await?;
    platform
        .local
        .wait_gone("Namespace.", "", &cell("development"))
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_derived_object_brings_it_back() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let control = &platform.control;
    for (kind, name) in [
        ("Release", "greeter-development"),
        ("Endpoint", "greeter-development-greeter-api"),
    ] {
        let before = control.get(kind, "default", name).await?.unwrap();
        control.delete(kind, "default", name).await?;
        control
            .wait_for(kind, "default", name, "made again", |object| {
                object.metadata.uid != before.metadata.uid
            })
            .await?;
    }
    control.wait_ready("Component", "default", "greeter").await?;
    platform.stop().await;
    Ok(())
}
