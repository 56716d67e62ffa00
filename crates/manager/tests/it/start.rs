//! A manager that starts where everything is as it should be: it reads, and writes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use choreo_testkit::{Bed, Harm, Proxy};
use parking_lot::Mutex;
use serde_json::json;

use crate::support::{Running, alone, apply_greeter, kinds, options, start};

const ORGANIZATION: &str = "start-over";
/// With no work and no write for so long, all is done.
const QUIET: Duration = Duration::from_secs(2);

/// What goes through the proxies and is no question. Leases are renewed, and tell nothing of the platform.
fn overhear(bed: &Bed) -> Arc<Mutex<Vec<String>>> {
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let listen = |proxy: &Proxy, name: &'static str| {
        let heard = Arc::clone(&heard);
        proxy.rule(move |asked| {
            // A cluster that is not embedded has what other tests have left there.
            let concerns = !Bed::is_foreign() || asked.path.contains(ORGANIZATION);
            if asked.is_write() && !asked.path.contains("/leases") && concerns {
                heard
                    .lock()
                    .push(format!("{} {name}{}", asked.method, asked.path));
            }
            Harm::None
        });
    };
    listen(&bed.control_proxy, "control");
    listen(&bed.plane_proxy, "data");
    heard
}

/// Sum of the samples of a metric whose labels contain `label`.
fn figure(metrics: &str, name: &str, label: &str) -> u64 {
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// Waits until every release was looked at while its data plane was connected, and nothing is left to do.
async fn at_rest(manager: &Running, releases: usize, heard: &Mutex<Vec<String>>) {
    let began = Instant::now();
    let (mut last, mut since) = ((0, 0), Instant::now());
    while since.elapsed() < QUIET {
        let metrics = manager.probe("/metrics").await;
        let now = (
            figure(&metrics, "choreo_reconcile_total{", ""),
            heard.lock().len(),
        );
        let looked = figure(&metrics, "choreo_reconcile_total{", "\"release\"");
        let ready = figure(&metrics, "choreo_plane_connected{", ORGANIZATION) == 1
            && looked >= releases as u64
            && figure(&metrics, "choreo_queue_depth{", "") == 0;
        if now != last || !ready {
            (last, since) = (now, Instant::now());
        }
        assert!(began.elapsed() < Duration::from_secs(110), "no rest:\n{metrics}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_writes_nothing_where_everything_is_in_place() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let heard = overhear(&bed);
    let with = async |identity: &str| start(options(bed.control_config(), identity)).await;
    let first = with("start-first").await;
    kinds(&bed.control).await?;
    bed.organization(ORGANIZATION).await?;
    bed.control
        .wait_ready("DataPlane", ORGANIZATION, "default")
        .await?;
    apply_greeter(&bed.control, ORGANIZATION).await?;
    let component = bed
        .control
        .wait_ready("Component", ORGANIZATION, "greeter")
        .await?;
    let artifact = &component.data["status"]["latestArtifact"];
    // In every environment of the pipeline.
    for environment in ["staging", "production"] {
        let name = format!("greeter-{environment}");
        let owner = json!({"projectName": "default", "componentName": "greeter"});
        bed.control
            .apply(json!({
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
                "metadata": {"name": name, "namespace": ORGANIZATION},
                "spec": {"owner": owner, "environment": environment, "className": "default", "artifactRef": artifact},
            }))
            .await?;
        bed.control
            .wait_for("Release", ORGANIZATION, &name, "applied", |release| {
                choreo_testkit::conditions(release)
                    .iter()
                    .any(|(type_, status, ..)| type_ == "Applied" && status == "True")
            })
            .await?;
    }
    let releases = bed.control.list("Release", ORGANIZATION).await?.len();
    assert_eq!(releases, 6, "three of the greeter, and three cells");
    at_rest(&first, releases, &heard).await;
    first.stop().await?;
    let before = std::mem::take(&mut *heard.lock());
    assert!(before.len() > 50, "the witness is deaf: {before:?}");

    let second = with("start-second").await;
    at_rest(&second, releases, &heard).await;
    let written = std::mem::take(&mut *heard.lock());
    assert!(written.is_empty(), "{}", written.join("\n"));
    let metrics = second.probe("/metrics").await;
    assert_eq!(figure(&metrics, "choreo_leader ", ""), 1, "it does not lead");

    bed.control.delete("Organization", "", ORGANIZATION).await?;
    bed.control
        .wait_all("Release", ORGANIZATION, "no release", <[_]>::is_empty)
        .await?;
    second.stop().await?;
    bed.stop();
    Ok(())
}
