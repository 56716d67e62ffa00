//! Two managers that both believe that they lead: one that was cut off and has not noticed, or two installations by mistake. The
//! lease is there so that it does not happen; what is held here is that it does no harm.

use std::time::Duration;

use choreo_testkit::Bed;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::json;

use crate::support::{Running, alone, apply_greeter, cell, kinds, options, start};

/// As long as nobody has written anything, neither will.
const QUIET: Duration = Duration::from_secs(2);

async fn with_lease(bed: &Bed, name: &str) -> anyhow::Result<Running> {
    let _ = bed.control.delete("Lease", "openchoreo-system", name).await;
    let mut options = options(bed.control_config(), name);
    options.lease = name.to_owned();
    let manager = start(options).await;
    bed.control
        .wait_for("Lease", "openchoreo-system", name, "held", |lease| {
            lease.data["spec"]["holderIdentity"] == name
        })
        .await?;
    Ok(manager)
}

/// Writes of a manager to both clusters so far, without those of its lease.
async fn writes(manager: &Running) -> u64 {
    let metrics = manager.probe("/metrics").await;
    let calls = metrics
        .lines()
        .filter(|line| line.starts_with("choreo_api_calls_total{"));
    let writes = calls.filter(|line| {
        ["apply", "patch", "delete"]
            .iter()
            .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    writes
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
        .sum()
}

/// The revisions, with the artifact and the hash of the configuration of each.
async fn revisions(bed: &Bed, organization: &str) -> anyhow::Result<Vec<String>> {
    let all = bed
        .control
        .list("Deployment.openchoreo.dev", organization)
        .await?;
    let told = |revision: &DynamicObject| {
        let spec = &revision.data["spec"];
        let of = |field: &str| spec[field].to_string();
        format!(
            "{}: {} {}",
            of("revision"),
            of("deploymentArtifactRef"),
            of("configurationHash")
        )
    };
    Ok(all.iter().map(told).collect())
}

/// Kubernetes' own count of the templates that a Deployment has had.
fn template(deployment: &DynamicObject) -> u64 {
    let annotation = &deployment.annotations()["deployment.kubernetes.io/revision"];
    annotation.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_both_lead_do_not_fight() -> anyhow::Result<()> {
    let _alone = alone().await;
    let organization = "rivals";
    let bed = Bed::start().await?;
    let one = with_lease(&bed, "rival-one").await?;
    kinds(&bed.control).await?;
    let other = with_lease(&bed, "rival-other").await?;
    bed.organization(organization).await?;
    bed.control
        .wait_ready("DataPlane", organization, "default")
        .await?;
    apply_greeter(&bed.control, organization).await?;
    bed.control
        .wait_ready("Component", organization, "greeter")
        .await?;
    let live = bed
        .plane
        .get("Deployment.apps", &cell(organization), "greeter")
        .await?
        .unwrap();
    let before = revisions(&bed, organization).await?;
    for number in 1..=3 {
        let image = format!("example.com/greeter:{number}");
        let patch = json!({"spec": {"containers": {"main": {"image": image}}}});
        bed.control
            .merge("Workload", organization, "greeter", patch)
            .await?;
        let runs = |object: &DynamicObject| {
            object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str()
        };
        bed.plane
            .wait_for(
                "Deployment.apps",
                &cell(organization),
                "greeter",
                "the new image",
                runs,
            )
            .await?;
        bed.control
            .wait_ready("Component", organization, "greeter")
            .await?;
    }
    // Whoever came second found it done: one revision and one template for each change.
    let now = bed
        .plane
        .get("Deployment.apps", &cell(organization), "greeter")
        .await?
        .unwrap();
    assert_eq!(now.metadata.uid, live.metadata.uid);
    assert_eq!(template(&now), template(&live) + 3);
    let revisions = revisions(&bed, organization).await?;
    assert_eq!(
        revisions.len(),
        before.len() + 3,
        "one for each change: {revisions:#?}"
    );

    // And it ends: a fight would go on for as long as both are there.
    let mut last = None;
    let began = std::time::Instant::now();
    loop {
        let now = writes(&one).await + writes(&other).await;
        if last.replace(now) == Some(now) {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(100),
            "{now} writes, and no end of it"
        );
        tokio::time::sleep(QUIET).await;
    }
    assert!(last.unwrap_or_default() > 0, "nothing was counted");

    bed.control.delete("Organization", "", organization).await?;
    bed.control
        .wait_all("Release", organization, "no release", <[_]>::is_empty)
        .await?;
    bed.plane.wait_gone("Namespace.", "", &cell(organization)).await?;
    one.stop().await?;
    other.stop().await?;
    bed.stop();
    Ok(())
}
