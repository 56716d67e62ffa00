//! Rollouts while managers die. Watches on both clusters are the witnesses: what the end looks like says nothing of what happened on
//! the way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use choreo_api::v1alpha1::{InventoryEntry, ReleaseStatus};
use choreo_controllers::HttpConnector;
use choreo_manager::Timings;
use choreo_testkit::{Bed, Cluster};
use futures::StreamExt as _;
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::{Running, alone, apply_greeter, cell, kinds, options, start};

const ORGANIZATION: &str = "killed";
/// How many rollouts there are, unless `CHOREO_TEST_ROLLOUTS` says another number: the machines that run the suite are slow.
const ROLLOUTS: u64 = 32;
/// A manager dies in every so many of them.
const KILL: u64 = 2;
/// A death comes at most so long after the change: a rollout takes about half of it.
const LATEST: Duration = Duration::from_millis(500);
/// Old revisions of a binding that are kept.
const HISTORY: i64 = 10;

/// What was seen of the objects of one kind.
type Judge = Box<dyn FnMut(&Event<DynamicObject>) -> Result<(), String> + Send>;

/// Follows objects and holds every event against what may happen.
#[derive(Default)]
struct Witness {
    watches: JoinSet<()>,
    /// What should not have happened.
    wrong: Vec<watch::Receiver<Vec<String>>>,
    listed: Vec<watch::Receiver<bool>>,
}

impl Witness {
    async fn follow(
        &mut self,
        cluster: &Cluster,
        kind: &str,
        namespace: &str,
        mut judge: Judge,
    ) -> anyhow::Result<()> {
        let api = cluster.api(kind, namespace).await?;
        let what = format!("{kind} in {}", cluster.name);
        let (wrong, told) = watch::channel(Vec::new());
        let (listed, is_listed) = watch::channel(false);
        self.wrong.push(told);
        self.listed.push(is_listed);
        self.watches.spawn(async move {
            let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                let verdict = match &event {
                    // Between two lists anything can have happened.
                    Ok(Event::Init) if *listed.borrow() => Err("the witness had to begin anew".to_owned()),
                    Ok(event) => judge(event),
                    // It goes on from where it was, or begins anew, which is told above.
                    Err(_) => Ok(()),
                };
                if matches!(event, Ok(Event::InitDone)) {
                    listed.send_replace(true);
                }
                if let Err(message) = verdict {
                    wrong.send_modify(|all| all.push(format!("{what}: {message}")));
                }
            }
        });
        Ok(())
    }

    async fn ready(&mut self) {
        for listed in &mut self.listed {
            listed.wait_for(|listed| *listed).await.unwrap();
        }
    }

    fn verdict(&self) -> anyhow::Result<()> {
        let wrong: Vec<String> = self.wrong.iter().flat_map(|told| told.borrow().clone()).collect();
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

/// What a person or a controller of ours writes of an object.
fn content(object: &DynamicObject) -> Value {
    let mut value = serde_json::to_value(object).unwrap();
    let fields = value.as_object_mut().unwrap();
    // A list leaves out what kind its items are of.
    fields.retain(|field, _| !["apiVersion", "kind", "status"].contains(&field.as_str()));
    let metadata = fields["metadata"].as_object_mut().unwrap();
    metadata.retain(|field, _| {
        ["name", "namespace", "labels", "annotations", "ownerReferences"].contains(&field.as_str())
    });
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        // Kubernetes' own count of a Deployment's templates.
        annotations.remove("deployment.kubernetes.io/revision");
    }
    value
}

fn image(content: &mut Value) -> Option<u64> {
    let image = content
        .pointer_mut("/spec/template/spec/containers/0/image")?
        .take();
    Some(image.as_str()?.rsplit_once(':')?.1.parse().unwrap_or(0))
}

/// Objects of the cells: each stays the same one with the same content, but for the image, which goes from one number to the next.
fn in_the_cell(known: BTreeSet<String>) -> Judge {
    let mut seen: BTreeMap<String, (String, Value, Option<u64>)> = BTreeMap::new();
    Box::new(move |event| match event {
        Event::InitApply(object) | Event::Apply(object) => {
            let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            if !known.contains(&name) {
                // Made by the cluster itself, or somebody else's; ours are looked for in the end.
                return Ok(());
            }
            let mut content = content(object);
            let image = image(&mut content);
            let uid = object.uid().unwrap_or_default();
            let Some((old_uid, old, old_image)) =
                seen.insert(name.clone(), (uid.clone(), content.clone(), image))
            else {
                return Ok(());
            };
            if old_uid != uid {
                return Err(format!("{name} is another one"));
            }
            if old != content {
                return Err(format!("{name} was\n{old}\nand became\n{content}"));
            }
            match (old_image, image) {
                (Some(old), Some(new)) if new != old && new != old + 1 => {
                    Err(format!("{name} went from image {old} to image {new}"))
                }
                _ => Ok(()),
            }
        }
        Event::Delete(object) => {
            let name = format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any());
            if known.contains(&name) {
                Err(format!("{name} was deleted"))
            } else {
                Ok(())
            }
        }
        Event::Init | Event::InitDone => Ok(()),
    })
}

/// Revisions: one after the other, each of an artifact of its own; the oldest go.
fn revisions() -> Judge {
    let mut present: BTreeMap<i64, String> = BTreeMap::new();
    let mut artifacts: BTreeSet<String> = BTreeSet::new();
    let mut last: Option<i64> = None;
    Box::new(move |event| {
        let (Event::InitApply(object) | Event::Apply(object) | Event::Delete(object)) = event else {
            return Ok(());
        };
        let (number, uid) = (
            object.data["spec"]["revision"].as_i64().unwrap_or_default(),
            object.uid().unwrap_or_default(),
        );
        let artifact = object.data["spec"]["deploymentArtifactRef"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        if let Event::Delete(_) = event {
            let oldest = present.keys().next().copied();
            present.remove(&number);
            return match oldest == Some(number) && last.is_some_and(|last| number < last - HISTORY + 1) {
                true => Ok(()),
                false => Err(format!(
                    "revision {number} was deleted while there were {oldest:?} to {last:?}"
                )),
            };
        }
        if let Some(known) = present.get(&number) {
            return match *known == uid {
                true => Ok(()),
                false => Err(format!("revision {number} is another one")),
            };
        }
        let next = last.is_none_or(|last| number == last + 1);
        let before = last;
        last = Some(number);
        present.insert(number, uid);
        if !artifacts.insert(artifact.clone()) {
            return Err(format!(
                "revision {number} is of {artifact}, which an earlier one was of"
            ));
        }
        match next {
            true => Ok(()),
            false => Err(format!("after revision {before:?} came {number}")),
        }
    })
}

/// Objects that stay as long as their component does.
fn stay() -> Judge {
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    Box::new(move |event| match event {
        Event::InitApply(object) | Event::Apply(object) => {
            let uid = object.uid().unwrap_or_default();
            match seen.insert(object.name_any(), uid.clone()) {
                Some(old) if old != uid => Err(format!("{} is another one", object.name_any())),
                _ => Ok(()),
            }
        }
        Event::Delete(object) => Err(format!("{} was deleted", object.name_any())),
        Event::Init | Event::InitDone => Ok(()),
    })
}

/// Leases that are over soon: somebody who dies is soon replaced.
async fn short_lived(bed: &Bed, identity: &str) -> Running {
    let mut options = options(bed.control_config(), identity);
    options.timings = Timings {
        lease: Duration::from_secs(2),
        renew: Duration::from_millis(400),
        give_up: Duration::from_millis(1500),
        retry: Duration::from_millis(100),
    };
    start(options).await
}

async fn inventory(bed: &Bed) -> anyhow::Result<Vec<InventoryEntry>> {
    let mut all = Vec::new();
    for release in bed.control.list("Release", ORGANIZATION).await? {
        let status: ReleaseStatus = serde_json::from_value(release.data["status"].clone())?;
        all.extend(status.inventory);
    }
    Ok(all)
}

async fn witness(bed: &Bed) -> anyhow::Result<Witness> {
    let mut witness = Witness::default();
    let mut kinds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in inventory(bed).await? {
        let known = kinds
            .entry(format!("{}.{}", entry.kind, entry.group))
            .or_default();
        known.insert(format!("{}/{}", entry.namespace.unwrap_or_default(), entry.name));
    }
    ensure!(kinds.len() >= 5, "only {kinds:?}");
    for (kind, known) in kinds {
        witness.follow(&bed.plane, &kind, "", in_the_cell(known)).await?;
    }
    let control = &bed.control;
    witness
        .follow(control, "Deployment.openchoreo.dev", ORGANIZATION, revisions())
        .await?;
    for kind in ["Release", "ServiceBinding", "Component", "Workload"] {
        witness.follow(control, kind, ORGANIZATION, stay()).await?;
    }
    witness.ready().await;
    Ok(witness)
}

/// What dies, and what comes in its place.
async fn death(bed: &Bed, running: &mut Vec<(String, Running)>, number: u64) {
    let fresh = format!("killed-{number}");
    match number / KILL % 4 {
        // One with warm caches stands by.
        0 => {
            let next = short_lived(bed, &fresh).await;
            running.push((fresh, next));
            running.remove(0).1.kill().await;
        }
        // All at once, and the first comes back under its old name: nobody waits for the end of its lease.
        1 => {
            let mut names = Vec::new();
            for (name, manager) in running.drain(..) {
                manager.kill().await;
                names.push(name);
            }
            let name = names.swap_remove(0);
            let next = short_lived(bed, &name).await;
            running.push((name, next));
        }
        // Nobody is there until another one comes.
        2 => {
            for (_, manager) in running.drain(..) {
                manager.kill().await;
            }
            let next = short_lived(bed, &fresh).await;
            running.push((fresh, next));
        }
        // One is asked to stop while another stands by.
        _ => {
            let next = short_lived(bed, &fresh).await;
            running.push((fresh, next));
            running.remove(0).1.stop().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn managers_that_die_in_the_middle_lose_and_double_nothing() -> anyhow::Result<()> {
    let _alone = alone().await;
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse::<u64>().ok())
    };
    let rollouts = number("CHOREO_TEST_ROLLOUTS").unwrap_or(ROLLOUTS);
    let seed = number("CHOREO_TEST_SEED").unwrap_or_else(|| rand::rng().random());
    let mut chance = StdRng::seed_from_u64(seed);
    let bed = Bed::start().await?;
    let mut running = vec![("killed-0".to_owned(), short_lived(&bed, "killed-0").await)];
    kinds(&bed.control).await?;
    bed.organization(ORGANIZATION).await?;
    bed.control
        .wait_ready("DataPlane", ORGANIZATION, "default")
        .await?;
    apply_greeter(&bed.control, ORGANIZATION).await?;
    roll(&bed, 0).await?;
    arrived(&bed, 0).await?;
    bed.control
        .wait_ready("Component", ORGANIZATION, "greeter")
        .await?;
    let witness = witness(&bed).await?;

    for number in 1..=rollouts {
        roll(&bed, number).await?;
        if number % KILL == 0 {
            // At any moment of the rollout, or right after it.
            tokio::time::sleep(chance.random_range(Duration::ZERO..LATEST)).await;
            death(&bed, &mut running, number).await;
        }
        let arrived = arrived(&bed, number).await;
        let context = || format!("rollout {number} of {rollouts}, CHOREO_TEST_SEED={seed}");
        witness.verdict().with_context(context)?;
        arrived.with_context(context)?;
    }
    bed.control
        .wait_ready("Component", ORGANIZATION, "greeter")
        .await?;
    // What the last one did is told before the witnesses are asked.
    let newest = i64::try_from(rollouts)?;
    let kept = move |all: &[DynamicObject]| {
        let mut numbers: Vec<i64> = all
            .iter()
            .filter_map(|one| one.data["spec"]["revision"].as_i64())
            .collect();
        numbers.sort_unstable();
        let first = numbers.last().copied().unwrap_or_default() - HISTORY.min(newest);
        numbers.len() > 1 && numbers.iter().copied().eq(first..=first + HISTORY.min(newest))
    };
    bed.control
        .wait_all(
            "Deployment.openchoreo.dev",
            ORGANIZATION,
            "the newest revisions without a gap",
            kept,
        )
        .await?;
    // The greeter's, and its cell's.
    ensure!(bed.control.list("Release", ORGANIZATION).await?.len() == 2);
    no_orphan(&bed).await?;
    witness.verdict()?;
    drop(witness);

    bed.control.delete("Organization", "", ORGANIZATION).await?;
    bed.plane.wait_gone("Namespace.", "", &cell(ORGANIZATION)).await?;
    bed.control
        .wait_all("Release", ORGANIZATION, "no release", <[_]>::is_empty)
        .await?;
    if !Bed::is_foreign() {
        bed.control.wait_gone("Organization", "", ORGANIZATION).await?;
        for kind in [
            "Deployment.openchoreo.dev",
            "DeployableArtifact",
            "ServiceBinding",
        ] {
            ensure!(
                bed.control.list(kind, ORGANIZATION).await?.is_empty(),
                "{kind} is left"
            );
        }
    }
    for (_, manager) in running {
        manager.stop().await?;
    }
    bed.stop();
    Ok(())
}

/// Asks for the image with this number.
async fn roll(bed: &Bed, number: u64) -> anyhow::Result<()> {
    let image = format!("example.com/greeter:{number}");
    let patch = json!({"spec": {"containers": {"main": {"image": image}}}});
    bed.control
        .merge("Workload", ORGANIZATION, "greeter", patch)
        .await?;
    Ok(())
}

async fn arrived(bed: &Bed, number: u64) -> anyhow::Result<()> {
    let image = format!("example.com/greeter:{number}");
    let runs = move |object: &DynamicObject| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image
    };
    bed.plane
        .wait_for(
            "Deployment.apps",
            &cell(ORGANIZATION),
            "greeter",
            "the new image",
            runs,
        )
        .await?;
    Ok(())
}

/// Everything in the data plane is known, and everything that is known is in the data plane.
async fn no_orphan(bed: &Bed) -> anyhow::Result<()> {
    let findings =
        choreo_controllers::doctor::examine(&bed.control.client, &HttpConnector::default()).await?;
    let plane = format!("{ORGANIZATION}/default");
    let found = findings
        .iter()
        .find(|finding| finding.data_plane == plane)
        .context("no data plane")?;
    let orphans = found.orphans.clone().map_err(anyhow::Error::msg)?;
    ensure!(orphans.is_empty(), "{orphans:?}");
    let inventory = inventory(bed).await?;
    for entry in &inventory {
        let kind = format!("{}.{}", entry.kind, entry.group);
        let namespace = entry.namespace.as_deref().unwrap_or_default();
        let live = bed.plane.get(&kind, namespace, &entry.name).await?;
        ensure!(
            live.is_some(),
            "{kind} {namespace}/{} is in the inventory only",
            entry.name
        );
    }
    ensure!(
        found.objects == inventory.len(),
        "{} of {} objects",
        found.objects,
        inventory.len()
    );
    Ok(())
}
