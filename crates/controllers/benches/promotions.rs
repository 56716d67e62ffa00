//! A thousand promotions that wait for somebody: what they take, how soon each reacts when it is approved (its status says so), how
//! soon it goes on (its binding wants the artifact), and how soon what ran before is wanted again. `cargo bench -p choreo-controllers
//! --bench promotions [-- PROMOTIONS]` prints the figures.
//!
//! The platform is in memory and in this process, with the simulated node.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use choreo_testkit::{Platform, is_ready};
use common::{CONCURRENCY, REST, apply, memory, settle};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::PostParams;
use kube::core::DynamicObject;
use kube::runtime::watcher;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Promotions that are approved one after the other.
const SINGLE: usize = 100;
/// Who has to approve.
const APPROVERS: [&str; 2] = ["bob", "cem"];
/// Ways back that are measured.
const BACK: usize = 20;

fn main() {
    common::run(bench);
}

async fn bench(promotions: usize) -> anyhow::Result<()> {
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

    // The first of two approvals: nothing is rolled out because of it, so that this is what a reaction takes.
    told(
        "the first of two approvals, all at once",
        approve(&platform, &names, "first", "bob").await?,
    );
    let single = promotions.min(SINGLE);
    let mut alone = Approved::default();
    for name in &names[..single] {
        let one = approve(&platform, std::slice::from_ref(name), "first", "cem").await?;
        alone.add(one);
        // The rollout that follows is not what is measured.
        all(&platform, "Promotion", std::slice::from_ref(name), |promotion| {
            (phase(promotion) == "Succeeded").then(|| of(promotion))
        })
        .await?;
    }
    told("the second one, one after the other", alone);
    let rest = &names[single..];
    if !rest.is_empty() {
        let all = approve(&platform, rest, "first", "cem").await?;
        told("the second one of all others at once", all);
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
        for person in APPROVERS {
            approve(&platform, std::slice::from_ref(name), "second", person).await?;
        }
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
    println!(
        "asked to go back, until the release is the old one: {}",
        spread(took)
    );
    platform.stop().await;
    Ok(())
}

/// What became of approvals.
#[derive(Default)]
struct Approved {
    /// Until the promotion's status said what comes of it.
    reacted: Vec<Duration>,
    /// Until the binding wanted the artifact, where that comes of it.
    moved: Vec<Duration>,
    /// From the first approval to the last reaction.
    all: Duration,
    /// The processor time of the whole process meanwhile, of which those who approve and watch here are a part.
    cpu: Duration,
}

impl Approved {
    fn add(&mut self, other: Self) {
        self.reacted.extend(other.reacted);
        self.moved.extend(other.moved);
        self.all += other.all;
        self.cpu += other.cpu;
    }
}

/// Approves promotions as somebody, as many at once as there are.
async fn approve(
    platform: &Platform,
    names: &[String],
    round: &str,
    person: &str,
) -> anyhow::Result<Approved> {
    let control = &platform.control;
    let promotions = control.api("Promotion", "default").await?;
    let bindings = control.api("ServiceBinding", "default").await?;
    let decisions = control.api("PromotionDecision", "default").await?;
    let is_last = APPROVERS.last() == Some(&person);
    let waiting: Vec<DynamicObject> = stream::iter(names)
        .map(|name| async move {
            let name = format!("{name}-{round}");
            let wait = |p: &DynamicObject| phase(p) == "AwaitingApproval";
            let object = control
                .wait_for("Promotion", "default", &name, "waiting", wait)
                .await?;
            anyhow::Ok(serde_json::from_value(decision(&object, person))?)
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let began = parking_lot::Mutex::new(BTreeMap::new());
    // What those who watch list first is theirs, and nothing is approved before.
    let listed = Semaphore::new(0);
    let watches = if is_last { 2 } else { 1 };
    let start = parking_lot::Mutex::new((Instant::now(), cpu()));
    let (params, sent) = (PostParams::default(), &began);
    let (decisions, params) = (&decisions, &params);
    let send = stream::iter(&waiting).map(|decision| async move {
        let of = decision.data["spec"]["promotionRef"].as_str().unwrap_or_default();
        let component = of
            .strip_suffix(&format!("-{round}"))
            .unwrap_or_default()
            .to_owned();
        sent.lock().insert(component, Instant::now());
        decisions.create(params, decision).await?;
        anyhow::Ok(())
    });
    let send = async {
        let _all = listed.acquire_many(watches).await?;
        *start.lock() = (Instant::now(), cpu());
        send.buffer_unordered(CONCURRENCY).try_collect::<()>().await
    };
    // For each component the first event that says so, counted from when it was asked for.
    let seen = async |api, says: &dyn Fn(&DynamicObject) -> bool| {
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
        let mut took = BTreeMap::new();
        while took.len() < names.len() {
            let Some(event) = events.next().await else { break };
            let object = match event? {
                watcher::Event::Apply(object) | watcher::Event::InitApply(object) => object,
                watcher::Event::InitDone => {
                    listed.add_permits(1);
                    continue;
                }
                _ => continue,
            };
            if let Some(began) = began.lock().get(&of(&object)).filter(|_| says(&object)) {
                took.entry(of(&object)).or_insert_with(|| began.elapsed());
            }
        }
        anyhow::Ok(took.into_values().collect::<Vec<_>>())
    };
    let reacts = async {
        let says = |promotion: &DynamicObject| {
            let waits = promotion.data["status"]["waitsFor"].as_str().unwrap_or_default();
            let ours = promotion
                .metadata
                .name
                .as_ref()
                .is_some_and(|name| name.ends_with(round));
            let goes_on = !matches!(phase(promotion), "" | "Pending" | "AwaitingApproval");
            ours && (goes_on || !is_last && waits.starts_with("1 of 2"))
        };
        let reacted = seen(promotions, &says).await?;
        let (start, before) = *start.lock();
        anyhow::Ok((reacted, start.elapsed(), cpu().saturating_sub(before)))
    };
    let moves = async {
        if !is_last {
            return Ok(Vec::new());
        }
        let says = |binding: &DynamicObject| {
            let annotations = binding.metadata.annotations.as_ref();
            let by = annotations.and_then(|all| all.get("openchoreo.dev/promoted-by"));
            by.is_some_and(|by| by.ends_with(round))
        };
        seen(bindings, &says).await
    };
    let ((), (reacted, all, cpu), moved) = tokio::try_join!(send, reacts, moves)?;
    Ok(Approved {
        reacted,
        moved,
        all,
        cpu,
    })
}

fn told(what: &str, approved: Approved) {
    let count = approved.reacted.len();
    println!("{what} ({count} of them):");
    println!(
        "  until the status says so:          {}",
        spread(approved.reacted)
    );
    if !approved.moved.is_empty() {
        println!("  until the binding wants it:        {}", spread(approved.moved));
    }
    let each = |all: Duration| all.as_secs_f64() * 1000.0 / count.max(1) as f64;
    println!(
        "  until the last says so:            {:.1} ms, {:.2} ms of a processor for each",
        approved.all.as_secs_f64() * 1000.0,
        each(approved.cpu)
    );
}

fn spread(mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |share: usize| took.get((took.len() * share / 100).min(took.len().saturating_sub(1)));
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    format!(
        "p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        ms(at(50)),
        ms(at(99)),
        ms(took.last())
    )
}

/// The processor time that this process has used. Linux counts it in hundredths of a second.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may have anything in it: user time is the 12th field, system time the 13th.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks = fields.split_whitespace().skip(11).take(2);
    Duration::from_millis(ticks.filter_map(|t| t.parse::<u64>().ok()).sum::<u64>() * 10)
}

fn pipeline() -> [Value; 2] {
    let object = |kind: &str, name: &str, spec: Value| common::object(kind, name, &spec);
    [
        object(
            "DeploymentPipeline",
            "guarded",
            json!({"promotionPaths": [{"sourceEnvironmentRef": "development",
                   "targetEnvironmentRefs": [{"name": "staging", "approvals": {"minimum": 2, "users": APPROVERS}}]}]}),
        ),
        object("Project", "shop", json!({"deploymentPipelineRef": "guarded"})),
    ]
}

fn component(name: &str, version: u32) -> [Value; 3] {
    let owner = json!({"projectName": "shop", "componentName": name});
    let object = |kind: &str, spec: Value| common::object(kind, name, &spec);
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

fn decision(promotion: &DynamicObject, person: &str) -> Value {
    let status = &promotion.data["status"];
    let name = promotion.metadata.name.clone().unwrap_or_default();
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "PromotionDecision",
           "metadata": {"name": format!("{name}-{person}"), "namespace": "default"},
           "spec": {"promotionRef": name, "decision": "Approved", "user": person,
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
