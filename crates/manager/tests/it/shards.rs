//! Managers that share the work.

use std::collections::BTreeSet;
use std::time::Duration;

use choreo_controllers::Shard;
use choreo_manager::Timings;
use choreo_testkit::Bed;
use kube::api::DynamicObject;

use crate::support::{Running, alone, apply_greeter, cell, kinds, options, start};

async fn sharing(bed: &Bed, identity: &str) -> Running {
    let mut options = options(bed.control_config(), identity);
    options.lease = "choreo-shared".to_owned();
    options.shards = 2;
    // Whoever has a lease lets others go first for as long as `retry`, which has to be enough on a busy machine.
    options.timings = Timings {
        lease: Duration::from_secs(8),
        renew: Duration::from_secs(1),
        give_up: Duration::from_secs(6),
        retry: Duration::from_secs(1),
    };
    start(options).await
}

/// Waits until a shard's lease is held by somebody of whom `wanted` is true, and says who.
async fn holder(bed: &Bed, shard: u32, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
    let name = match shard {
        0 => "choreo-shared".to_owned(),
        shard => format!("choreo-shared-{shard}"),
    };
    let of = |lease: &DynamicObject| {
        let holder = lease.data["spec"]["holderIdentity"].as_str();
        holder.unwrap_or_default().to_owned()
    };
    let lease = bed
        .control
        .wait_for("Lease", "openchoreo-system", &name, "held", |lease| {
            !of(lease).is_empty() && wanted(&of(lease))
        })
        .await?;
    Ok(of(&lease))
}

fn leads(metrics: &str, shard: u32) -> bool {
    metrics.contains(&format!("\nchoreo_shard_leader{{shard=\"{shard}\"}} 1\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_share_the_work_and_one_takes_over_when_the_other_dies() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    for name in ["choreo-shared", "choreo-shared-1"] {
        let _ = bed.control.delete("Lease", "openchoreo-system", name).await;
    }
    // Two organizations of different shards.
    let of = |shard: u32| {
        let mut names = (0..).map(|n| format!("share-{n}"));
        names.find(|name| Shard::of(name, 2) == shard).unwrap()
    };
    let organizations = [of(0), of(1)];
    // One alone acts for both.
    let first = sharing(&bed, "one").await;
    for shard in 0..2 {
        assert_eq!(holder(&bed, shard, |_| true).await?, "one");
    }
    kinds(&bed.control).await?;
    let second = sharing(&bed, "two").await;
    let third = sharing(&bed, "three").await;
    for manager in [&second, &third] {
        while !manager.probe("/readyz").await.starts_with("HTTP/1.1 200") {
            tokio::task::yield_now().await;
        }
    }
    // When it goes, the others take one each: whoever has one already lets others go first.
    first.stop().await?;
    let mut holders = BTreeSet::new();
    for shard in 0..2 {
        holders.insert(holder(&bed, shard, |holder| holder != "one").await?);
    }
    assert_eq!(holders, BTreeSet::from(["two".to_owned(), "three".to_owned()]));

    for organization in &organizations {
        bed.organization(organization).await?;
        bed.control
            .wait_ready("DataPlane", organization, "default")
            .await?;
        apply_greeter(&bed.control, organization).await?;
        bed.control
            .wait_ready("Component", organization, "greeter")
            .await?;
    }
    // Each knows its own data plane and no other.
    for manager in [&second, &third] {
        let metrics = manager.probe("/metrics").await;
        for (shard, organization) in (0..).zip(&organizations) {
            let plane = format!("organization=\"{organization}\",name=\"default\"");
            assert_eq!(leads(&metrics, shard), metrics.contains(&plane), "{metrics}");
        }
    }

    let (dead, survivor) = match leads(&second.probe("/metrics").await, 0) {
        true => (second, third),
        false => (third, second),
    };
    dead.kill().await;
    for organization in &organizations {
        bed.plane
            .delete("Service.", &cell(organization), "greeter")
            .await?;
    }
    // The one that lives does not wait for anything, the other's is done when its lease is over.
    for organization in organizations.iter().rev() {
        bed.plane
            .wait_for("Service.", &cell(organization), "greeter", "healed", |_| true)
            .await?;
    }
    let metrics = survivor.probe("/metrics").await;
    assert!(leads(&metrics, 0) && leads(&metrics, 1), "{metrics}");
    for organization in &organizations {
        bed.control.delete("Organization", "", organization).await?;
        bed.control
            .wait_all("Release", organization, "no release", <[_]>::is_empty)
            .await?;
    }
    survivor.stop().await?;
    bed.stop();
    Ok(())
}
