//! Data planes that do not answer, and controllers that stop.

use std::time::Duration;

use choreo_testkit::{Fault, Options, Platform, conditions};
use serde_json::json;

use crate::support::{GITHUB, GREETER, cell, deploy_greeter, is_greeters, with_greeter};

/// A change in the spec makes the controller look at once; the embedded plane is not probed by itself.
async fn touch_data_plane(platform: &Platform) -> anyhow::Result<()> {
    let description = json!({"metadata": {"annotations": {"touched": "1"}}});
    platform
        .control
        .merge("DataPlane", "default", "default", description)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_data_plane_is_a_condition_and_ends_by_itself() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    platform.faults.set(Fault::Down);
    touch_data_plane(&platform).await?;
    let plane = platform
        .control
        .wait_unready("DataPlane", "default", "default", "refused")
        .await?;
    assert!(
        conditions(&plane)
            .iter()
            .any(|(type_, status, ..)| type_ == "Connected" && status == "False")
    );
    platform
        .control
        .wait_unready("Release", "default", "greeter-development", "cannot be reached")
        .await?;

    platform
        .control
        .apply_yaml(&GREETER.replace("value: info", "value: debug"))
        .await?;
    platform.faults.set(Fault::None);
    platform
        .control
        .wait_ready("DataPlane", "default", "default")
        .await?;
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "with the new value",
            |object| object.data.to_string().contains("debug"),
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
async fn deletion_waits_for_an_unreachable_data_plane_and_can_be_forced() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    platform.faults.set(Fault::Down);
    touch_data_plane(&platform).await?;
    platform
        .control
        .wait_unready("DataPlane", "default", "default", "refused")
        .await?;
    platform.control.delete("Component", "default", "greeter").await?;
    let release = platform
        .control
        .wait_unready(
            "Release",
            "default",
            "greeter-development",
            "openchoreo.dev/force-delete",
        )
        .await?;
    assert!(conditions(&release).iter().any(|(type_, _, reason, message)| {
        type_ == "Deleting" && reason == "Unreachable" && message.contains("tried until")
    }));
    let force = json!({"metadata": {"annotations": {"openchoreo.dev/force-delete": "true"}}});
    platform
        .control
        .merge("Release", "default", "greeter-development", force)
        .await?;
    platform
        .control
        .wait_gone("Release", "default", "greeter-development")
        .await?;
    assert!(
        platform
            .local
            .get("Deployment.apps", &cell("development"), "greeter")
            .await?
            .is_some()
    );
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_gives_up_on_a_data_plane_that_stays_away() -> anyhow::Result<()> {
    let options = Options {
        abandon_after: Some(Duration::ZERO),
        ..Options::default()
    };
    let platform = Platform::start_with(options).await?;
    deploy_greeter(&platform).await?;
    platform.faults.set(Fault::Down);
    touch_data_plane(&platform).await?;
    platform
        .control
        .wait_unready("DataPlane", "default", "default", "refused")
        .await?;
    platform.control.delete("Component", "default", "greeter").await?;
    platform
        .control
        .wait_gone("Release", "default", "greeter-development")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_writes_are_tried_again() -> anyhow::Result<()> {
    let platform = Platform::start().await?;
    platform
        .control
        .wait_ready("DataPlane", "default", "default")
        .await?;
    platform.faults.set(Fault::Writes(500));
    platform.control.apply_yaml(GITHUB).await?;
    platform.control.apply_yaml(GREETER).await?;
    platform
        .control
        .wait_all("Release", "default", "a failed one", |releases| {
            releases
                .iter()
                .any(|release| choreo_testkit::ready_message(release).contains("on purpose"))
        })
        .await?;
    platform.faults.set(Fault::None);
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_in_the_middle_changes_nothing_and_loses_nothing() -> anyhow::Result<()> {
    let mut platform = Platform::start().await?;
    platform.control.apply_yaml(GITHUB).await?;
    platform.control.apply_yaml(GREETER).await?;
    // Wherever it is now.
    platform
        .control
        .wait_for("ServiceBinding", "default", "greeter-development", "made", |_| {
            true
        })
        .await?;
    platform.stop_controllers().await;
    platform.start_controllers().await;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    let deployments = platform.control.list("Deployment", "default").await?;
    assert_eq!(
        deployments.iter().filter(|object| is_greeters(object)).count(),
        1,
        "one revision"
    );
    let live = platform
        .local
        .get("Deployment.apps", &cell("development"), "greeter")
        .await?
        .unwrap();
    platform.stop_controllers().await;
    platform
        .control
        .apply_yaml(&GREETER.replace("value: info", "value: debug"))
        .await?;
    platform.start_controllers().await;
    platform
        .local
        .wait_for(
            "Deployment.apps",
            &cell("development"),
            "greeter",
            "changed",
            |object| object.data.to_string().contains("debug") && object.metadata.uid == live.metadata.uid,
        )
        .await?;
    platform.stop().await;
    Ok(())
}
