//! A thousand components in three environments, from apply to every release applied; then what it costs to look at all of it
//! again. `cargo bench -p choreo-controllers --bench scale [-- COMPONENTS]` prints the figures.
//!
//! The platform is in memory and in this process, without a simulated node: what is measured is our own work and the embedded
//! API's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod common;

use std::time::{Duration, Instant};

use choreo_engine::{AnyObject, World, offline};
use choreo_testkit::{Options, Platform};
use common::{QUIET, REST, apply, memory, settle};
use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::Deserialize;
use serde_json::{Value, json};

const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];

fn main() {
    common::run(bench);
}

async fn bench(components: usize) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "{components} components in {} environments, {threads} cores",
        ENVIRONMENTS.len()
    );
    let mut platform = Platform::start_with(Options {
        without_node: true,
        with_rules: true,
        ..Options::default()
    })
    .await?;
    let documents = documents(&platform, components).await?;
    let bindings = components * ENVIRONMENTS.len();
    settle(&platform).await;
    let empty = memory();
    platform.stop_controllers().await;
    tokio::time::sleep(REST).await;
    // What they take however few objects there are: watches, connections, samples.
    let bare = empty - memory();
    platform.start_controllers().await;
    settle(&platform).await;

    let (began, processor) = (Instant::now(), processor_time());
    let sent = documents.len();
    let applying = async {
        apply(&platform, documents).await?;
        anyhow::Ok(began.elapsed())
    };
    let applied = async {
        all_applied(&platform, bindings).await?;
        anyhow::Ok((began.elapsed(), processor_time() - processor))
    };
    let (took, (done, spent)) = tokio::try_join!(applying, applied)?;
    println!(
        "{sent} objects sent:                 {:>8.2} s",
        took.as_secs_f64()
    );
    println!(
        "all {bindings} releases applied:        {:>8.2} s, {:.0} a second, {:.1} ms of a processor for each",
        done.as_secs_f64(),
        bindings as f64 / done.as_secs_f64(),
        spent.as_secs_f64() * 1e3 / bindings as f64
    );
    settle(&platform).await;
    println!(
        "all at rest:                       {:>8.2} s, {:.1} ms of a processor for each",
        (began.elapsed() - QUIET).as_secs_f64(),
        (processor_time() - processor).as_secs_f64() * 1e3 / bindings as f64
    );
    for (controller, figures) in platform.metrics.figures() {
        println!(
            "  runs of {controller:<20} {:>6.1} for a binding, {} failed",
            figures.succeeded as f64 / bindings as f64,
            figures.failed
        );
    }
    for ((plane, verb), count) in platform.metrics.calls() {
        println!(
            "  {verb:<7} in {plane:<8} {:>6.1} for a binding",
            count as f64 / bindings as f64
        );
    }
    // What was looked at last is packed a moment later.
    tokio::time::sleep(REST).await;
    let full = memory();
    println!(
        "memory, with all objects of both clusters: {:.1} KB for a binding",
        (full - empty) / bindings as f64
    );
    resync(&platform).await;
    changes(&platform, components, 0, "of what was looked at just now").await?;
    tokio::time::sleep(REST).await;
    println!(
        "  after a look at all, and a rest:  {:>8.1} KB for a binding, {} objects read",
        (memory() - empty) / bindings as f64,
        read(&platform)
    );
    changes(&platform, components, CHANGES, "of what nobody has looked at").await?;
    tokio::time::sleep(REST).await;
    let rested = memory();
    platform.stop_controllers().await;
    // Watches end a moment later.
    tokio::time::sleep(REST).await;
    let theirs = rested - memory();
    println!(
        "  of it the controllers':           {:>8.1} KB for a binding, or {:.1} KB and {:.1} MB for all",
        theirs / bindings as f64,
        (theirs - bare) / bindings as f64,
        bare / 1024.0
    );
    let before = platform.metrics.writes();
    let began = Instant::now();
    platform.start_controllers().await;
    settle(&platform).await;
    println!(
        "look at all again (controllers started anew): {:.2} s",
        (began.elapsed() - QUIET).as_secs_f64()
    );
    println!(
        "writes while looking:              {}",
        platform.metrics.writes() - before
    );
    platform.stop().await;
    Ok(())
}

/// Processor time of this process so far, as the kernel counts it: in hundredths of a second.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in parentheses, which may have spaces in it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok());
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Components that are changed one after the other.
const CHANGES: usize = 20;

/// Objects of the controllers' world that are typed, and not only kept as text.
fn read(platform: &Platform) -> usize {
    let controllers = platform.controllers();
    controllers.map_or(0, |controllers| {
        controllers.observer().snapshot().view.world.read_already()
    })
}

/// What a change of an image costs that is rolled out in the first environment, with everything that it makes others look at.
async fn changes(platform: &Platform, components: usize, first: usize, what: &str) -> anyhow::Result<()> {
    settle(platform).await;
    let (processor, reads) = (processor_time(), read(platform));
    let last = components.min(first + CHANGES);
    for index in first..last {
        let [_, mut workload, _] = component(&format!("service-{index}"));
        workload["spec"]["containers"]["main"]["image"] = "registry.example.com/app:2".into();
        apply(platform, vec![workload]).await?;
    }
    settle(platform).await;
    let count = last.saturating_sub(first).max(1);
    println!(
        "a change {what}: {:.1} ms of a processor, {:.1} objects read",
        (processor_time() - processor).as_secs_f64() * 1e3 / count as f64,
        read(platform).saturating_sub(reads) as f64 / count as f64
    );
    Ok(())
}

/// What it costs to look at everything once more, with what is known.
async fn resync(platform: &Platform) {
    let before = platform.metrics.writes();
    let began = Instant::now();
    if let Some(controllers) = platform.controllers() {
        controllers.resync();
    }
    let looked = loop {
        if platform
            .controllers()
            .is_none_or(choreo_controllers::Controllers::is_idle)
        {
            break began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    println!(
        "resync:                            {:>8.2} s",
        looked.as_secs_f64()
    );
    println!(
        "writes of the resync:              {}",
        platform.metrics.writes() - before
    );
}

/// Everything that is applied: the components, and their bindings in the later environments. The artifacts' names are a
/// function of what is applied, and are known before.
async fn documents(platform: &Platform, components: usize) -> anyhow::Result<Vec<Value>> {
    let mut world = World::new();
    for kind in [
        "Organization",
        "DataPlane",
        "Environment",
        "DeploymentPipeline",
        "Project",
        "ServiceClass",
        "APIClass",
    ] {
        let namespace = if kind == "Organization" { "" } else { "default" };
        for object in platform.control.list(kind, namespace).await? {
            let mut value = serde_json::to_value(object)?;
            value["kind"] = kind.into();
            value["apiVersion"] = "openchoreo.dev/v1alpha1".into();
            world.upsert(AnyObject::from_value(&value)?);
        }
    }
    let mut all: Vec<Value> = (0..components)
        .flat_map(|index| component(&format!("service-{index}")))
        .collect();
    for document in &all {
        world.upsert(AnyObject::from_value(document)?);
    }
    let rendered = offline::render(&world);
    for artifact in rendered
        .objects
        .iter()
        .filter(|object| object["kind"] == "DeployableArtifact")
    {
        let owner = &artifact["spec"]["owner"];
        for environment in &ENVIRONMENTS[1..] {
            let name = format!(
                "{}-{environment}",
                owner["componentName"].as_str().unwrap_or_default()
            );
            all.push(json!({
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"owner": owner, "environment": environment, "className": "default",
                         "artifactRef": artifact["metadata"]["name"]},
            }));
        }
    }
    anyhow::ensure!(
        all.len() == components * 5,
        "{} documents: {:?}",
        all.len(),
        rendered.problems
    );
    Ok(all)
}

fn component(name: &str) -> [Value; 3] {
    let owner = json!({"projectName": "default", "componentName": name});
    let object = |kind: &str, spec: Value| common::object(kind, name, &spec);
    [
        object(
            "Component",
            json!({"owner": {"projectName": "default"}, "type": "Service"}),
        ),
        object(
            "Workload",
            json!({"owner": owner, "containers": {"main": {"image": "registry.example.com/app:1"}},
                   "endpoints": {"api": {"type": "REST", "port": 8080}}}),
        ),
        object(
            "Service",
            json!({"owner": owner, "workloadName": name, "className": "default",
                   "apis": {"api": {"type": "REST", "className": "default",
                                    "rest": {"backend": {"port": 8080, "basePath": "/"}, "exposeLevels": ["Public"]}}}}),
        ),
    ]
}

/// What is read of a release here. The rest, which is most of it, is skipped.
type Told = kube::core::Object<Spec, Status>;

#[derive(Clone, Debug, Deserialize)]
struct Spec {
    owner: Owner,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Owner {
    component_name: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    conditions: Vec<Condition>,
}

/// Waits until as many releases of components say that they are applied.
async fn all_applied(platform: &Platform, bindings: usize) -> anyhow::Result<()> {
    use kube::runtime::watcher;
    let (resource, _) = platform.control.resource("Release").await?;
    let api: kube::Api<Told> =
        kube::Api::namespaced_with(platform.control.client.clone(), "default", &resource);
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let mut applied = std::collections::BTreeSet::new();
    while let Some(event) = events.next().await {
        let (watcher::Event::Apply(release) | watcher::Event::InitApply(release)) = event? else {
            continue;
        };
        let of_component = release.spec.owner.component_name.is_some();
        let conditions = release.status.map(|status| status.conditions).unwrap_or_default();
        let is_applied = conditions
            .iter()
            .any(|condition| condition.type_ == "Applied" && condition.status == "True");
        if of_component && is_applied {
            applied.insert(release.metadata.name);
        }
        if applied.len() == bindings {
            break;
        }
    }
    Ok(())
}
