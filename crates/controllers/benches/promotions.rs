//! A thousand promotions that wait for somebody: what they take, how soon one of them goes on when it is approved, and how soon what
//! ran before is wanted again. `cargo bench -p choreo-controllers --bench promotions [-- PROMOTIONS]` prints the figures.
//!
//! The platform is in memory and in this process, with the simulated node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cap::Cap;
use choreo_testkit::{Platform, is_ready};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::core::DynamicObject;
use kube::runtime::watcher;
use serde_json::{Value, json};

/// Requests that are in flight at once.
const CONCURRENCY: usize = 16;
/// Promotions that are approved one after the other.
const SINGLE: usize = 100;
/// Ways back that are measured.
const BACK: usize = 20;
/// After this much time without a finished run of any controller, all is done.
const QUIET: Duration = Duration::from_millis(500);
/// After this much time without a change, memory is as it stays.
const REST: Duration = Duration::from_secs(8);

/// The program's own, counting: what the kernel says of a process hides what is freed before it is used again.
#[global_allocator]
static ALLOCATOR: Cap<mimalloc::MiMalloc> = Cap::new(mimalloc::MiMalloc, usize::MAX);

fn main() {
    let promotions = std::env::args()
        .skip(1)
        .find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(promotions.unwrap_or(1_000))).unwrap();
}

async fn run(promotions: usize) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{promotions} promotions at once, {threads} cores");
    let platform = Platform::start().await?;
    for document in pipeline() {
        platform.control.apply(document).await?;
    }
    let names: Vec<String> = (0..promotions).map(|index| format!("service-{index}")).collect();
    let began = Instant::now();
    let documents = names.iter().flat_map(|name| component(name, 1));
    apply(&platform, documents.collect()).await?;
    all(&platform, "ServiceBinding", &names, |binding| {
        (binding.data["spec"]["environment"] == "development" && is_ready(binding)).then(|| of(binding))
    })
    .await?;
    println!(
        "all components run in development:   {:>8.2} s",
        began.elapsed().as_secs_f64()
    );
    settle(&platform).await;
    tokio::time::sleep(REST).await;

    // A thousand that wait for an approval.
    let before = memory();
    let began = Instant::now();
    let documents = names.iter().map(|name| promotion(name, "first"));
    apply(&platform, documents.collect()).await?;
    all(&platform, "Promotion", &names, |promotion| {
        (phase(promotion) == "AwaitingApproval").then(|| of(promotion))
    })
    .await?;
    println!(
        "all promotions wait for an approval: {:>8.2} s",
        began.elapsed().as_secs_f64()
    );
    settle(&platform).await;
    tokio::time::sleep(REST).await;
    println!(
        "memory of them, everything included: {:>8.1} MB ({:.1} KB for each)",
        (memory() - before) / 1024.0,
        (memory() - before) / promotions as f64
    );

    let single = promotions.min(SINGLE);
    let mut alone = Vec::new();
    for name in &names[..single] {
        alone.push(react(&platform, std::slice::from_ref(name), "first").await?);
        // The rollout that follows is not what is measured.
        all(&platform, "Promotion", std::slice::from_ref(name), |promotion| {
            (phase(promotion) == "Succeeded").then(|| of(promotion))
        })
        .await?;
    }
    told(
        "approved one after the other, until it goes on",
        alone.into_iter().flatten().collect(),
    );
    let rest = &names[single..];
    if !rest.is_empty() {
        let all = react(&platform, rest, "first").await?;
        told("all others approved at once, until each goes on", all);
    }
    all(&platform, "Promotion", &names, |promotion| {
        (phase(promotion) == "Succeeded").then(|| of(promotion))
    })
    .await?;
    settle(&platform).await;

    // The way back, one after the other.
    let back = &names[..promotions.min(BACK)];
    apply(
        &platform,
        back.iter().flat_map(|name| component(name, 2)).collect(),
    )
    .await?;
    all(&platform, "Release", back, |release| {
        (release.metadata.name.as_deref()?.ends_with("-development") && runs(release, 2) && is_ready(release))
            .then(|| of(release))
    })
    .await?;
    settle(&platform).await;
    let mut took = Vec::new();
    for name in back {
        platform.control.apply(promotion(name, "second")).await?;
        react(&platform, std::slice::from_ref(name), "second").await?;
        platform
            .control
            .wait_for(
                "Promotion",
                "default",
                &format!("{name}-second"),
                "done",
                |promotion| phase(promotion) == "Succeeded",
            )
            .await?;
        let began = Instant::now();
        platform.control.apply(rollback(name)).await?;
        platform
            .control
            .wait_for(
                "Release",
                "default",
                &format!("{name}-staging"),
                "back",
                |release| runs(release, 1),
            )
            .await?;
        took.push(began.elapsed());
    }
    told("asked to go back, until the release is the old one", took);
    platform.stop().await;
    Ok(())
}

/// Approves promotions, as many at once as there are, and says how long each took to go on.
async fn react(platform: &Platform, names: &[String], round: &str) -> anyhow::Result<Vec<Duration>> {
    let waiting: Vec<Value> = stream::iter(names)
        .map(|name| async move {
            let name = format!("{name}-{round}");
            let object = platform
                .control
                .wait_for("Promotion", "default", &name, "waiting", |p| {
                    phase(p) == "AwaitingApproval"
                })
                .await?;
            anyhow::Ok(decision(&object))
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let began = parking_lot::Mutex::new(BTreeMap::new());
    let approve = stream::iter(waiting).map(|decision| {
        let began = &began;
        async move {
            let of = decision["spec"]["promotionRef"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            began.lock().insert(of, Instant::now());
            platform.control.apply(decision).await
        }
    });
    let approve = approve.buffer_unordered(CONCURRENCY).try_collect::<Vec<_>>();
    let watch = async {
        let api = platform.control.api("Promotion", "default").await?;
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
        let mut took = BTreeMap::new();
        while took.len() < names.len() {
            let Some(event) = events.next().await else { break };
            let (watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event? else {
                continue;
            };
            let name = object.metadata.name.clone().unwrap_or_default();
            let goes_on = !matches!(phase(&object), "" | "Pending" | "AwaitingApproval");
            if let Some(began) = began.lock().get(&name).filter(|_| goes_on) {
                took.entry(name).or_insert_with(|| began.elapsed());
            }
        }
        anyhow::Ok(took.into_values().collect())
    };
    let (_, took) = tokio::try_join!(approve, watch)?;
    Ok(took)
}

fn told(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    println!(
        "{what}: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms ({} of them)",
        ms(at(50)),
        ms(at(99)),
        ms(took.last()),
        took.len()
    );
}

fn pipeline() -> [Value; 2] {
    let object = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
               "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    [
        object(
            "DeploymentPipeline",
            "guarded",
            json!({"promotionPaths": [{"sourceEnvironmentRef": "development",
                   "targetEnvironmentRefs": [{"name": "staging", "approvals": {"minimum": 1, "users": ["bob"]}}]}]}),
        ),
        object("Project", "shop", json!({"deploymentPipelineRef": "guarded"})),
    ]
}

fn component(name: &str, version: u32) -> [Value; 3] {
    let owner = json!({"projectName": "shop", "componentName": name});
    let object = |kind: &str, spec: Value| {
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
               "metadata": {"name": name, "namespace": "default"}, "spec": spec})
    };
    [
        object(
            "Component",
            json!({"owner": {"projectName": "shop"}, "type": "Service"}),
        ),
        object(
            "Workload",
            json!({"owner": owner, "containers": {"main": {"image": format!("registry.example.com/app:{version}")}},
                   "endpoints": {"http": {"type": "HTTP", "port": 8080}}}),
        ),
        object("Service", json!({"owner": owner, "workloadName": name})),
    ]
}

fn promotion(name: &str, round: &str) -> Value {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
           "metadata": {"name": format!("{name}-{round}"), "namespace": "default"},
           "spec": {"owner": {"projectName": "shop", "componentName": name}, "requestedBy": "ann",
                    "sourceEnvironment": "development", "targetEnvironment": "staging"}})
}

fn rollback(name: &str) -> Value {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "Promotion",
           "metadata": {"name": format!("{name}-back"), "namespace": "default"},
           "spec": {"owner": {"projectName": "shop", "componentName": name}, "requestedBy": "ann",
                    "targetEnvironment": "staging", "rollbackTo": 1}})
}

fn decision(promotion: &DynamicObject) -> Value {
    let status = &promotion.data["status"];
    let name = promotion.metadata.name.clone().unwrap_or_default();
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionDecision",
           "metadata": {"name": name, "namespace": "default"},
           "spec": {"promotionRef": name, "decision": "Approved", "user": "bob",
                    "digest": status["digest"], "diff": status["diff"]}})
}

fn phase(promotion: &DynamicObject) -> &str {
    promotion.data["status"]["phase"].as_str().unwrap_or_default()
}

/// Whether a release has this version's image.
fn runs(release: &DynamicObject, version: u32) -> bool {
    let image = format!("\"registry.example.com/app:{version}\"");
    release.data["spec"]["resources"].to_string().contains(&image)
}

/// The component that an object is of.
fn of(object: &DynamicObject) -> String {
    let name = object.data["spec"]["owner"]["componentName"].as_str();
    name.unwrap_or_default().to_owned()
}

async fn apply(platform: &Platform, documents: Vec<Value>) -> anyhow::Result<()> {
    let sent = stream::iter(documents).map(|document| platform.control.apply(document));
    sent.buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<_>>()
        .await
        .map(drop)
}

/// Waits until `seen` has named each of these.
async fn all(
    platform: &Platform,
    kind: &str,
    names: &[String],
    seen: impl Fn(&DynamicObject) -> Option<String>,
) -> anyhow::Result<()> {
    let api = platform.control.api(kind, "default").await?;
    let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
    let mut left: std::collections::BTreeSet<&str> = names.iter().map(String::as_str).collect();
    while !left.is_empty() {
        let Some(event) = events.next().await else { break };
        if let watcher::Event::Apply(object) | watcher::Event::InitApply(object) = event?
            && let Some(name) = seen(&object)
        {
            left.remove(name.as_str());
        }
    }
    Ok(())
}

/// Waits until the controllers have nothing more to do.
async fn settle(platform: &Platform) {
    let runs = || -> u64 {
        let figures = platform.metrics.figures();
        figures.values().map(|f| f.succeeded + f.failed + f.depth).sum()
    };
    let mut last = runs();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = runs();
        if now == last {
            return;
        }
        last = now;
    }
}

/// What is allocated, in kilobytes.
fn memory() -> f64 {
    ALLOCATOR.allocated() as f64 / 1024.0
}
