//! Two managers: one acts, the other one takes over.

use std::time::{Duration, Instant};

use choreo_manager::Election;
use choreo_testkit::Bed;
use kube::api::DynamicObject;
use kube::{Client, Config};

use crate::support::{LONG, alone, apply_greeter, cell, kinds, manager, mortal, quick};

const NAMESPACE: &str = "openchoreo-system";

fn holder(lease: &DynamicObject) -> String {
    lease.data["spec"]["holderIdentity"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn lease_of(bed: &Bed, identity: &'static str) -> anyhow::Result<()> {
    let held = move |lease: &DynamicObject| holder(lease) == identity;
    bed.control
        .wait_for("Lease", NAMESPACE, "choreo-manager", "held", held)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_stops_hands_over_at_once_and_one_that_dies_is_replaced() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    // Leases of those who are asked to stop are long: a busy machine must not lose them.
    let first = manager(&bed, "first").await;
    lease_of(&bed, "first").await?;
    kinds(&bed.control).await?;
    let second = mortal(&bed, "second").await;
    bed.organization("handover").await?;
    bed.control.wait_ready("DataPlane", "handover", "default").await?;
    let standing_by = second.probe("/metrics").await;
    assert!(standing_by.contains("\nchoreo_leader 0\n"), "{standing_by}");

    let began = Instant::now();
    first.stop().await?;
    lease_of(&bed, "second").await?;
    assert!(began.elapsed() < LONG / 2, "it waited for the end of the lease");
    apply_greeter(&bed.control, "handover").await?;
    bed.control.wait_ready("Component", "handover", "greeter").await?;

    let third = manager(&bed, "third").await;
    second.kill().await;
    let began = Instant::now();
    lease_of(&bed, "third").await?;
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "the lease was not over"
    );
    // It works: what is taken away comes back.
    bed.plane.delete("Service.", &cell("handover"), "greeter").await?;
    bed.plane
        .wait_for("Service.", &cell("handover"), "greeter", "healed", |_| true)
        .await?;
    bed.control.delete("Organization", "", "handover").await?;
    third.stop().await?;
    let lease = bed
        .control
        .get("Lease", NAMESPACE, "choreo-manager")
        .await?
        .unwrap();
    assert_eq!(holder(&lease), "");
    bed.stop();
    Ok(())
}

fn candidate(config: Config, name: &str, identity: &str) -> anyhow::Result<Election> {
    Ok(Election::new(
        Client::try_from(config)?,
        "default",
        name,
        identity,
        quick(),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_is_cut_off_knows_it_before_its_lease_is_over() -> anyhow::Result<()> {
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let name = "cut-off";
    let _ = bed.control.delete("Lease", "default", name).await;
    let cut_off = candidate(bed.control_config(), name, "cut-off")?;
    let mut direct = bed.control_config();
    let other = choreo_testkit::Proxy::start(&direct).await?;
    direct = other.config(&direct);
    let held = cut_off.acquire().await;
    let healthy = candidate(direct, name, "healthy")?;
    let next = tokio::spawn(async move { healthy.acquire().await });

    // Neither refused nor answered: the worst that a network does.
    bed.control_proxy
        .rule(|asked| match asked.path.contains("cut-off") && asked.is_write() {
            true => choreo_testkit::Harm::Hang,
            false => choreo_testkit::Harm::None,
        });
    held.lost().cancelled().await;
    let lost = Instant::now();
    // `healthy` goes through both proxies; only now may it write.
    assert!(!next.is_finished(), "two held the lease at once");
    bed.control_proxy.heal();
    let next = next.await?;
    assert!(
        lost.elapsed() >= Duration::from_millis(300),
        "no time was left to stop in"
    );
    held.release().await;
    // What is not held any longer is not released either.
    let lease = bed.control.get("Lease", "default", name).await?.unwrap();
    assert_eq!(holder(&lease), "healthy");
    next.release().await;
    bed.stop();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_candidates_one_holds_the_lease_at_a_time() -> anyhow::Result<()> {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    let _alone = alone().await;
    let bed = Bed::start().await?;
    let _ = bed.control.delete("Lease", "default", "many").await;
    let holders = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for number in 0..8 {
        let election = candidate(bed.control_config(), "many", &format!("candidate-{number}"))?;
        let holders = Arc::clone(&holders);
        tasks.push(tokio::spawn(async move {
            let held = election.acquire().await;
            assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two hold it");
            tokio::task::yield_now().await;
            holders.fetch_sub(1, Ordering::SeqCst);
            held.release().await;
        }));
    }
    for task in tasks {
        task.await?;
    }
    let lease = bed.control.get("Lease", "default", "many").await?.unwrap();
    assert_eq!(lease.data["spec"]["leaseTransitions"], 7);
    bed.stop();
    Ok(())
}
