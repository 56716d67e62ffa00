//! A platform at rest, and how much work a rollout is.

use crate::support::with_greeter;

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
