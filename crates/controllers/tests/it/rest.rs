//! A platform at rest, and how much work a rollout is.

use serde_json::{Value, json};

use crate::support::{cell, with_greeter};

/// Waits until the controllers have nothing to do, and everything that they wrote has come back to them.
async fn settled(platform: &choreo_testkit::Platform) -> u64 {
    let mut writes = platform.metrics.writes();
    loop {
        // A marker through the API: what was written before it has been seen when it has.
        platform
            .control
            .merge(
                "Project",
                "default",
                "default",
                serde_json::json!({"metadata": {"annotations": {"n": writes.to_string()}}}),
            )
            .await
            .unwrap();
        let marked = || {
            let snapshot = platform.controllers().unwrap().snapshot();
            let project = choreo_controllers::runtime::ObjectRef::new(
                "openchoreo.dev",
                "Project",
                "default",
                "default",
            );
            snapshot.get(&project).is_some_and(|project| {
                project
                    .metadata
                    .annotations
                    .as_ref()
                    .is_some_and(|a| a.get("n") == Some(&writes.to_string()))
            })
        };
        while !marked() || !platform.controllers().unwrap().is_idle() {
            tokio::task::yield_now().await;
        }
        let now = platform.metrics.writes();
        if now == writes {
            return now;
        }
        writes = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_when_nothing_changes_not_even_after_a_restart() -> anyhow::Result<()> {
    let mut platform = with_greeter().await?;
    let before = settled(&platform).await;
    platform.stop_controllers().await;
    platform.start_controllers().await;
    platform
        .control
        .wait_ready("Component", "default", "greeter")
        .await?;
    let after = settled(&platform).await;
    assert_eq!(after - before, 0, "{:?}", platform.metrics.calls());
    platform.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_looks_at_everything_and_writes_nothing() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let before = settled(&platform).await;
    let runs = |name: &str| platform.metrics.figures()[name].succeeded;
    let (bindings, releases) = (runs("binding"), runs("release"));
    platform.controllers().unwrap().resync();
    let after = settled(&platform).await;
    assert!(runs("binding") > bindings && runs("release") > releases);
    assert_eq!(after - before, 0, "{:?}", platform.metrics.calls());
    platform.stop().await;
    Ok(())
}

/// A release that is as it was left is told by versions: whichever of them changes, it is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_known_is_looked_at_again_when_anything_of_it_changes() -> anyhow::Result<()> {
    let platform = with_greeter().await?;
    let (control, local) = (&platform.control, &platform.local);
    let rest = async || {
        settled(&platform).await;
        platform.controllers().unwrap().resync();
        settled(&platform).await;
    };
    // How objects tell whether they are well.
    rest().await;
    let rules = |rules: Value| json!({"spec": {"healthRules": rules}});
    let sick = json!([{"group": "apps", "kind": "Deployment", "rules": [{"state": "Degraded", "reason": "Said", "message": "so"}]}]);
    control
        .merge("DataPlane", "default", "default", rules(sick))
        .await?;
    control
        .wait_unready("Release", "default", "greeter-development", "so")
        .await?;
    rest().await;
    control
        .merge("DataPlane", "default", "default", rules(Value::Null))
        .await?;
    control
        .wait_ready("Release", "default", "greeter-development")
        .await?;
    // An object, and what somebody makes of the release itself.
    rest().await;
    let service = local
        .get("Service.", &cell("development"), "greeter")
        .await?
        .unwrap();
    local.delete("Service.", &cell("development"), "greeter").await?;
    local
        .wait_for(
            "Service.",
            &cell("development"),
            "greeter",
            "made again",
            |object| object.metadata.uid != service.metadata.uid,
        )
        .await?;
    rest().await;
    let status = json!({"status": {"objectCount": 99}});
    let api = control.api("Release", "default").await?;
    let params = kube::api::PatchParams::default();
    api.patch_status("greeter-development", &params, &kube::api::Patch::Merge(&status))
        .await?;
    control
        .wait_for(
            "Release",
            "default",
            "greeter-development",
            "told anew",
            |release| release.data["status"]["objectCount"] != 99,
        )
        .await?;
    // A pod explains what is not well, and the namespace is everything that there is.
    rest().await;
    let namespace = local.get("Namespace.", "", &cell("development")).await?.unwrap();
    local.delete("Namespace.", "", &cell("development")).await?;
    local
        .wait_for("Namespace.", "", &cell("development"), "made again", |object| {
            object.metadata.uid != namespace.metadata.uid
        })
        .await?;
    control
        .wait_ready("Release", "default", "greeter-development")
        .await?;
    platform.stop().await;
    Ok(())
}
