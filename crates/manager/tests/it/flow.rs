//! A manager on an empty cluster, with a data plane that is another one.

use choreo_testkit::Bed;
use serde_json::json;

use crate::support::{alone, apply_greeter, cell, kinds, manager};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_an_empty_cluster_it_becomes_ready_by_itself_and_the_greeter_flows() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let manager = manager(&bed, "a").await;
    kinds(&bed.control).await?;
    bed.organization("flow").await?;
    bed.control.wait_ready("DataPlane", "flow", "default").await?;
    apply_greeter(&bed.control, "flow").await?;
    bed.control.wait_ready("Component", "flow", "greeter").await?;
    let deployed = bed.plane.get("Deployment.apps", &cell("flow"), "greeter").await?;
    assert!(deployed.is_some());

    assert!(manager.probe("/healthz").await.starts_with("HTTP/1.1 200"));
    let ready = manager.probe("/readyz").await;
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    let metrics = manager.probe("/metrics").await;
    for line in [
        "choreo_leader 1",
        "choreo_cache_synced 1",
        r#"choreo_plane_connected{role="data",organization="flow",name="default",cluster=""} 1"#,
        r#"choreo_queue_depth{controller="release"} 0"#,
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is not in\n{metrics}"
        );
    }
    let applied = metrics
        .lines()
        .find(|line| line.starts_with(r#"choreo_http_requests_total{plane="data",verb="apply",code="201"}"#));
    assert!(applied.is_some(), "{metrics}");

    // Everything that is there is known, but for what somebody else has left there.
    let connector = choreo_controllers::HttpConnector::default();
    let found = choreo_controllers::doctor::examine(&bed.control.client, &connector).await?;
    let of_flow = |found: &[choreo_controllers::doctor::Finding]| {
        let here = found.iter().find(|finding| finding.data_plane == "flow/default");
        here.map(|finding| (finding.objects, finding.orphans.clone()))
    };
    let (objects, orphans) = of_flow(&found).unwrap();
    assert!(objects >= 8, "{objects}");
    assert_eq!(orphans, Ok(Vec::new()));
    bed.plane
        .apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "stray", "namespace": "default", "labels": {
                "app.kubernetes.io/managed-by": "choreo", "openchoreo.dev/component": "old",
            }},
        }))
        .await?;
    let found = choreo_controllers::doctor::examine(&bed.control.client, &connector).await?;
    let orphans = of_flow(&found).unwrap().1.unwrap();
    let said: Vec<String> = orphans
        .iter()
        .map(|orphan| format!("{} of {}", orphan.object, orphan.belonged_to))
        .collect();
    assert_eq!(said, ["ConfigMap default/stray of component old"]);

    bed.control.delete("Organization", "", "flow").await?;
    manager.stop().await?;
    bed.stop();
    Ok(())
}
