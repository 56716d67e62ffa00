//! Figures of a manager against a real API over HTTP: those of `--kubeconfig FILE`, which is control plane and data plane, or of the
//! embedded API if none is named.
//!
//! ```sh
//! cargo bench -p choreo-manager --bench cluster -- [--kubeconfig FILE] [--program FILE] [COMPONENTS]
//! ```
//!
//! `--program target/release/choreo` measures the start and the memory of `choreo manager` in a process of its own; without it there
//! is no figure of memory, since this process holds the client, what it applies and an embedded server, too. Each figure comes with
//! the goal that it has for 1,000 components; the goals of the start and of memory are for 10,000 bindings (3,334 components).
//!
//! The yardstick is the same server: what it takes in raw server-side applies of what the platform writes (its objects, and a status
//! of each), sent by the same kind of client. Whoever applies is another user than the manager, whose webhook is asked. Nothing in it needs
//! controllers of Kubernetes: a binding is done when its release is applied. Leaves its organization behind in a cluster that is
//! not embedded; use one that can be thrown away.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, missing_docs)]

mod people;
mod yardstick;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_controllers::install;
use choreo_controllers::runtime::metrics::Metrics;
use choreo_controllers::runtime::transport;
use choreo_engine::{AnyObject, World, offline};
use choreo_manager::{Manager, Options};
use choreo_testkit::{Bed, Cluster, KUBECONFIG, Proxy, TOKENS, conditions};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

const ENVIRONMENTS: [&str; 3] = ["development", "staging", "production"];
/// Requests of the one who applies that are in flight at once.
const CONCURRENCY: usize = 16;
/// Changes, and drifts, that are measured one after the other.
const SAMPLES: usize = 100;
/// After this much time without a write, all is done.
const QUIET: Duration = Duration::from_millis(400);
/// For how long a manager at rest is looked at.
const REST: Duration = Duration::from_secs(10);
/// The lease of the managers.
const LEASE: Duration = Duration::from_secs(3);

/// The program's own.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.iter().position(|argument| argument == "--kubeconfig");
    let kubeconfig = named.and_then(|at| arguments.get(at + 1)).cloned();
    let named = arguments.iter().position(|argument| argument == "--program");
    let program = named.and_then(|at| arguments.get(at + 1)).cloned();
    let components = arguments.iter().find_map(|argument| argument.parse().ok());
    let kubeconfig = kubeconfig.or_else(|| std::env::var(KUBECONFIG).ok());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(run(kubeconfig, program, components.unwrap_or(1_000)))
        .unwrap();
}

/// Where it is measured.
struct Place {
    bed: Bed,
    control: Cluster,
    plane: Cluster,
    config: kube::Config,
    organization: String,
    /// Text of a kubeconfig of the control plane.
    kubeconfig: String,
    /// The connection of the data plane, and what is in the Secret that goes with it.
    connection: Value,
    secret: Value,
    _proxy: Option<Proxy>,
}

struct Running {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    metrics: Metrics,
    probes: SocketAddr,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

async fn place(kubeconfig: Option<&str>) -> anyhow::Result<Place> {
    let bed = Bed::start().await?;
    let organization = format!("bench-{:x}", jiff::Timestamp::now().as_second());
    let Some(path) = kubeconfig else {
        return Ok(Place {
            control: bed.control.clone(),
            plane: bed.plane.clone(),
            config: bed.direct_config(),
            connection: json!({
                "server": bed.plane_url(),
                "tls": {"ca": {"secretRef": "plane-credentials"}},
                "auth": {"bearerToken": {"secretRef": "plane-credentials"}},
            }),
            secret: json!({"token": TOKENS[0], "ca.crt": bed.authority()}),
            kubeconfig: json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": {
                    "server": bed.direct_config().cluster_url.to_string().trim_end_matches('/'),
                    "certificate-authority-data": STANDARD.encode(bed.authority()),
                }}],
                "users": [{"name": "u", "user": {"token": TOKENS[0]}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            })
            .to_string(),
            organization,
            bed,
            _proxy: None,
        });
    };
    let text = std::fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&text)?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await?;
    let client = Client::try_from(config.clone())?;
    install::definitions(&client, &install::data_plane()).await?;
    let mut connection = json!({
        "server": config.cluster_url.to_string().trim_end_matches('/'),
        "auth": {"kubeconfig": {"secretRef": "plane-credentials"}},
    });
    let mut secret = json!({"kubeconfig": text.clone()});
    let mut proxy = None;
    match &config.root_cert {
        Some(certificates) => {
            let pem = |der: &Vec<u8>| {
                let text = STANDARD.encode(der);
                format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
            };
            secret["ca.crt"] = json!(certificates.iter().map(pem).collect::<String>());
            connection["tls"] = json!({"ca": {"secretRef": "plane-credentials"}});
        }
        // A data plane's certificate is always checked.
        None => {
            println!(
                "note: the kubeconfig has no authority; the data plane is behind a proxy, which costs time"
            );
            let started = Proxy::start(&config).await?;
            connection["server"] = json!(started.url());
            proxy = Some(started);
        }
    }
    Ok(Place {
        control: Cluster::new("control", client.clone()),
        plane: Cluster::new("plane", client),
        config,
        organization,
        kubeconfig: text,
        connection,
        secret,
        bed,
        _proxy: proxy,
    })
}

impl Place {
    async fn manager(&self, identity: &str, asked: bool) -> anyhow::Result<Running> {
        let mut options = Options::new(self.config.clone(), identity);
        options.defaults = false;
        options.timings.lease = LEASE;
        options.timings.give_up = Duration::from_secs(2);
        options.timings.renew = Duration::from_millis(700);
        options.timings.retry = Duration::from_millis(200);
        options.probes = Some((Ipv4Addr::LOCALHOST, 0).into());
        if asked {
            options.webhook = Some(people::webhook(&self.control.client).await?);
        }
        let manager = Manager::new(options).await?;
        let (metrics, stop) = (manager.metrics(), CancellationToken::new());
        let probes = manager.probes().context("no probes")?;
        let run = manager.run(stop.clone());
        let task = tokio::spawn(async move { run.await.unwrap() });
        Ok(Running {
            stop,
            task,
            metrics,
            probes,
        })
    }

    /// The organization, its environments and classes, and its data plane.
    async fn prepare(&self) -> anyhow::Result<()> {
        let (control, name) = (&self.control, &self.organization);
        let served = |object: &DynamicObject| {
            let all = conditions(object);
            all.iter()
                .any(|(type_, status, ..)| type_ == "Established" && status == "True")
        };
        for kind in ["organizations", "dataplanes", "releases"] {
            let kind = format!("{kind}.openchoreo.dev");
            control
                .wait_for("CustomResourceDefinition", "", &kind, "established", served)
                .await?;
        }
        let organization = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "Organization", "metadata": {"name": name}, "spec": {},
        });
        control.apply(organization).await?;
        control.wait_for("Namespace", "", name, "made", |_| true).await?;
        control
            .apply(json!({
                "apiVersion": "v1", "kind": "Secret",
                "metadata": {"name": "plane-credentials", "namespace": name}, "stringData": self.secret,
            }))
            .await?;
        let mut plane = self.bed.data_plane(name, "default", "https://replaced");
        plane["spec"]["kubernetesCluster"] = self.connection.clone();
        control.apply(plane).await?;
        for mut object in choreo_controllers::defaults::defaults_without_planes() {
            if object.metadata.namespace.is_some() {
                object.metadata.namespace = Some(name.clone());
                control.apply(serde_json::to_value(&object)?).await?;
            }
        }
        control.wait_ready("DataPlane", name, "default").await?;
        Ok(())
    }

    /// What is applied: components, and their bindings in the later environments, whose artifacts' names follow from it.
    async fn documents(&self, components: usize) -> anyhow::Result<Vec<Value>> {
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
            let namespace = match kind {
                "Organization" => "",
                _ => &self.organization,
            };
            for object in self.control.list(kind, namespace).await? {
                let mut value = serde_json::to_value(object)?;
                value["kind"] = kind.into();
                value["apiVersion"] = "openchoreo.dev/v1alpha1".into();
                world.upsert(AnyObject::from_value(&value)?);
            }
        }
        let mut all: Vec<Value> = (0..components)
            .flat_map(|index| self.component(&format!("service-{index}")))
            .collect();
        for document in &all {
            world.upsert(AnyObject::from_value(document)?);
        }
        for artifact in offline::render(&world).objects {
            if artifact["kind"] != "DeployableArtifact" {
                continue;
            }
            let owner = &artifact["spec"]["owner"];
            let component = owner["componentName"].as_str().unwrap_or_default();
            for environment in &ENVIRONMENTS[1..] {
                all.push(json!({
                    "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ServiceBinding",
                    "metadata": {"name": format!("{component}-{environment}"), "namespace": self.organization},
                    "spec": {"owner": owner, "environment": environment, "className": "default",
                             "artifactRef": artifact["metadata"]["name"]},
                }));
            }
        }
        anyhow::ensure!(all.len() == components * 5, "{} documents", all.len());
        Ok(all)
    }

    fn component(&self, name: &str) -> [Value; 3] {
        let owner = json!({"projectName": "default", "componentName": name});
        let object = |kind: &str, spec: Value| {
            json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind,
                   "metadata": {"name": name, "namespace": self.organization}, "spec": spec})
        };
        let api = json!({"type": "REST", "className": "default",
                         "rest": {"backend": {"port": 8080, "basePath": "/"}, "exposeLevels": ["Public"]}});
        let component = json!({"owner": {"projectName": "default"}, "type": "Service"});
        let workload = json!({
            "owner": owner, "containers": {"main": {"image": "registry.example.com/app:1"}},
            "endpoints": {"api": {"type": "REST", "port": 8080}},
        });
        let service =
            json!({"owner": owner, "workloadName": name, "className": "default", "apis": {"api": api}});
        [
            object("Component", component),
            object("Workload", workload),
            object("Service", service),
        ]
    }

    /// Waits until as many releases of components say that they are applied.
    async fn all_applied(&self, bindings: usize) -> anyhow::Result<()> {
        let api = self.control.api("Release", &self.organization).await?;
        let mut events = std::pin::pin!(watcher::watcher(api, watcher::Config::default()));
        let mut applied = BTreeSet::new();
        while applied.len() < bindings
            && let Some(event) = events.next().await
        {
            let (Event::Apply(release) | Event::InitApply(release)) = event? else {
                continue;
            };
            let of_component = release.data["spec"]["owner"]["componentName"].is_string();
            let all = conditions(&release);
            let is_applied = all
                .iter()
                .any(|(type_, status, ..)| type_ == "Applied" && status == "True");
            if of_component && is_applied {
                applied.insert(release.metadata.name);
            }
        }
        Ok(())
    }

    fn cell(&self) -> String {
        choreo_api::names::cell_namespace(&self.organization, "default", ENVIRONMENTS[0])
    }

    /// Changes an image, and waits until the data plane has it.
    async fn change(&self, name: &str, tag: &str) -> anyhow::Result<Duration> {
        let image = format!("registry.example.com/app:{tag}");
        let api = self.plane.api("Deployment.apps", &self.cell()).await?;
        let workloads = self.control.api("Workload", &self.organization).await?;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(watcher::watcher(api, config));
        while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
        let patch = Patch::Merge(json!({"spec": {"containers": {"main": {"image": image}}}}));
        let began = Instant::now();
        workloads.patch(name, &PatchParams::default(), &patch).await?;
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(object)) = event
                && object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str()
            {
                return Ok(began.elapsed());
            }
        }
        anyhow::bail!("the watch ended")
    }

    /// Takes a Service away, and waits until there is another one.
    async fn drift(&self, name: &str) -> anyhow::Result<Duration> {
        let api = self.plane.api("Service.", &self.cell()).await?;
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let mut events = std::pin::pin!(watcher::watcher(api.clone(), config));
        while !matches!(events.next().await, Some(Ok(Event::InitDone))) {}
        let uid = api.get(name).await?.metadata.uid;
        let began = Instant::now();
        api.delete(name, &Default::default()).await?;
        while let Some(event) = events.next().await {
            if let Ok(Event::Apply(object)) = event
                && object.metadata.uid != uid
            {
                return Ok(began.elapsed());
            }
        }
        anyhow::bail!("the watch ended")
    }
}

async fn run(kubeconfig: Option<String>, program: Option<String>, components: usize) -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    let bindings = components * ENVIRONMENTS.len();
    let which = if kubeconfig.is_some() {
        "a real"
    } else {
        "the embedded"
    };
    println!("{which} API, {components} components in 3 environments, {threads} cores");
    let place = place(kubeconfig.as_deref()).await?;
    let client = transport::client(place.config.clone(), &Metrics::default(), "control")?;
    install::definitions(&client, &install::control_plane()).await?;
    let written = yardstick::written(&place, components.clamp(200, 400))?;
    let small = yardstick::raw(&place, &yardstick::plain(written.len()), false).await?;
    let yardstick = yardstick::raw(&place, &written, true).await?;
    println!(
        "raw server-side applies:              {small:.0} a second of ConfigMaps, {yardstick:.0} a second of what the platform writes ({} objects with a status)",
        written.len()
    );

    let first = place.manager("bench-1", true).await?;
    place.prepare().await?;
    place
        .control
        .wait_for("MutatingWebhookConfiguration", "", people::NAME, "made", |_| true)
        .await?;
    let developer = people::developer(&place.config)?;
    let documents = place.documents(components).await?;
    let calls_before = calls(&first.metrics);
    let began = Instant::now();
    let apply = stream::iter(documents).map(|document| developer.apply(document));
    let apply = apply.buffer_unordered(CONCURRENCY).try_collect::<Vec<_>>();
    tokio::try_join!(apply, place.all_applied(bindings))?;
    let took = began.elapsed().as_secs_f64();
    let by_then = difference(&calls_before, &calls(&first.metrics));
    let rate = bindings as f64 / took;
    println!("all {bindings} bindings applied:           {took:.2} s, {rate:.0} a second");
    settle(&first.metrics).await;
    let spent = difference(&calls_before, &calls(&first.metrics));
    let applies: u64 = by_then
        .iter()
        .filter(|(what, _)| what.starts_with("apply"))
        .map(|(_, count)| count)
        .sum();
    let share = applies as f64 / took / yardstick * 100.0;
    println!(
        "  {:.0} applies a second by the manager, {share:.0} % of the raw ones ({})",
        applies as f64 / took,
        goal(rate >= 170.0 || share >= 60.0, "170 bindings a second, or 60 %")
    );
    for (what, count) in spent {
        println!(
            "  {what:<28} {:>8.1} for a binding",
            count as f64 / bindings as f64
        );
    }
    let mut all = Vec::new();
    for sample in 0..SAMPLES {
        all.push(place.change("service-0", &format!("change-{sample}")).await?);
        settle(&first.metrics).await;
    }
    println!("change to applied, when idle:         {}", distribution(all, 150));
    let mut all = Vec::new();
    for _ in 0..SAMPLES {
        all.push(place.drift("service-0").await?);
    }
    println!(
        "drift to healed:                      {}",
        distribution(all, 1_000)
    );
    settle(&first.metrics).await;
    let before = calls(&first.metrics);
    place.change("service-0", "rollout").await?;
    settle(&first.metrics).await;
    println!("calls of one rollout in one environment (looks whether the plane is there among them):");
    for (what, count) in difference(&before, &calls(&first.metrics)) {
        println!("  {what:<28} {count:>8}");
    }

    // One that dies: until its successor has done something.
    people::no_webhook(&place.control.client).await?;
    let second = place.manager("bench-2", false).await?;
    listed(&second.metrics).await;
    first.task.abort();
    let died = Instant::now();
    place.drift("service-0").await?;
    let took = died.elapsed().saturating_sub(LEASE);
    println!(
        "fail-over, after the lease is free:   {:.2} s at most ({})",
        took.as_secs_f64(),
        goal(took <= Duration::from_secs(3), "3 s")
    );
    // What the drift before has changed is told before it goes.
    settle(&second.metrics).await;
    second.stop().await;

    let releases = place.control.list("Release", &place.organization).await?.len();
    let began = Instant::now();
    let third = place.manager("bench-3", false).await?;
    told("start", &in_sync(third.probes, releases, began).await, bindings);
    third.stop().await;
    if let Some(program) = program {
        process(&place, &program, releases, bindings).await?;
    }
    place.bed.stop();
    Ok(())
}

/// Starts `choreo manager` as a process, and looks at it when everything is in sync.
async fn process(place: &Place, program: &str, releases: usize, bindings: usize) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, &place.kubeconfig)?;
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let began = Instant::now();
    let mut child = tokio::process::Command::new(program)
        .args([
            "manager",
            "--no-defaults",
            "--log-level",
            "error",
            "--probes",
            &free.to_string(),
        ])
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    told(
        "a process of its own, start",
        &in_sync(free, releases, began).await,
        bindings,
    );
    let id = child.id().context("it has ended")?;
    // Cached objects that nobody looks at are packed after three seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (writes, time) = (
        figure(&metrics(free).await, "choreo_api_calls_total{", is_write),
        processor(id),
    );
    tokio::time::sleep(REST).await;
    let now = figure(&metrics(free).await, "choreo_api_calls_total{", is_write);
    let share = (processor(id) - time) as f64 / REST.as_millis() as f64 * 100.0;
    println!(
        "  at rest for {} s: {} writes, {share:.2} % of a processor ({})",
        REST.as_secs(),
        now - writes,
        goal(now == writes && share < 1.0, "0 and 1 %")
    );
    let (all, own) = (memory(id, "VmRSS:"), memory(id, "RssAnon:"));
    let allowed = 40 * 1024 + 10 * bindings as u64;
    println!(
        "  memory: {} MB, {} MB of it its own ({})",
        all / 1024,
        own / 1024,
        goal(
            all <= allowed,
            &format!("40 MB and 10 KB for each binding: {} MB", allowed / 1024)
        )
    );
    child.kill().await?;
    Ok(())
}

fn goal(met: bool, what: &str) -> String {
    let verdict = if met { "met" } else { "MISSED" };
    format!("goal {what}: {verdict}")
}

/// When everything was listed, when the last release had been looked at, and what was written until then.
struct Start {
    listed: Duration,
    in_sync: Duration,
    writes: u64,
}

fn told(what: &str, start: &Start, bindings: usize) {
    println!(
        "{what} with {bindings} bindings: all listed after {:.2} s, in sync after {:.2} s, {} writes ({})",
        start.listed.as_secs_f64(),
        start.in_sync.as_secs_f64(),
        start.writes,
        goal(
            start.in_sync <= Duration::from_secs(5) && start.writes == 0,
            "5 s for 10,000, and 0"
        )
    );
}

/// Waits until a manager has looked at all releases with their data plane connected, and has nothing to do.
async fn in_sync(probes: SocketAddr, releases: usize, began: Instant) -> Start {
    let (mut listed, mut last, mut since) = (None, 0, Instant::now());
    loop {
        let text = metrics(probes).await;
        if listed.is_none() && figure(&text, "choreo_cache_synced ", |_| true) == 1 {
            listed = Some(began.elapsed());
        }
        let runs = figure(&text, "choreo_reconcile_total{", |_| true);
        let of_releases = figure(&text, "choreo_reconcile_total{controller=\"release\"", |_| true);
        let waiting = figure(&text, "choreo_queue_depth{", |_| true);
        let connected = figure(&text, "choreo_plane_connected{", |_| true);
        if runs != last || waiting > 0 {
            (last, since) = (runs, Instant::now());
        }
        if connected > 0 && of_releases >= releases as u64 && since.elapsed() > QUIET {
            return Start {
                listed: listed.unwrap_or_default(),
                in_sync: since - began,
                writes: figure(&text, "choreo_api_calls_total{", is_write),
            };
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_write(line: &str) -> bool {
    !line.contains("verb=\"get\"")
}

/// The sum of the samples that begin with `prefix`.
fn figure(text: &str, prefix: &str, wanted: fn(&str) -> bool) -> u64 {
    let lines = text
        .lines()
        .filter(|line| line.starts_with(prefix) && wanted(line));
    lines
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>() as u64
}

/// What is at `/metrics`; nothing while it does not answer.
async fn metrics(probes: SocketAddr) -> String {
    let mut answer = String::new();
    let request = async {
        let mut stream = tokio::net::TcpStream::connect(probes).await?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n")
            .await?;
        stream.read_to_string(&mut answer).await
    };
    if request.await.is_err() {
        answer.clear();
    }
    answer
}

fn distribution(mut all: Vec<Duration>, wanted: u64) -> String {
    all.sort_unstable();
    let at = |part: f64| all[((all.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1000.0;
    format!(
        "{:.0} ms median, {:.0} ms p99, {:.0} ms at most (of {}; {})",
        at(0.5),
        at(0.99),
        at(1.0),
        all.len(),
        goal(at(0.99) <= wanted as f64, &format!("p99 {wanted} ms"))
    )
}

type Calls = BTreeMap<String, u64>;

fn calls(metrics: &Metrics) -> Calls {
    let mut all = Calls::new();
    for ((plane, verb, _), count) in metrics.requests() {
        *all.entry(format!("{verb} in {plane}")).or_default() += count;
    }
    all
}

fn difference(before: &Calls, after: &Calls) -> Vec<(String, u64)> {
    let new = after.iter().map(|(what, count)| {
        let old = before.get(what).copied().unwrap_or_default();
        (what.clone(), count - old)
    });
    new.filter(|(_, count)| *count > 0).collect()
}

/// Waits until the controllers write nothing any more.
async fn settle(metrics: &Metrics) {
    let mut last = metrics.writes();
    loop {
        tokio::time::sleep(QUIET).await;
        let now = metrics.writes();
        if now == last {
            return;
        }
        last = now;
    }
}

/// Waits until a manager has listed what there is: it watches as many kinds as there are.
async fn listed(metrics: &Metrics) {
    let kinds = choreo_controllers::view::ControlKinds::default().iter().count() as u64;
    let watches = || -> u64 {
        let requests = metrics.requests();
        let watches = requests.iter().filter(|((_, verb, _), _)| *verb == "watch");
        watches.map(|(_, count)| count).sum()
    };
    while watches() < kinds {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A figure of a process' memory in kilobytes.
fn memory(process: u32, which: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or_default()
}

/// Processor time of a process in milliseconds.
fn processor(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // User and system time, in hundredths of a second.
    let ticks = |at: usize| -> u64 { fields.get(at).and_then(|n| n.parse().ok()).unwrap_or_default() };
    (ticks(11) + ticks(12)) * 10
}
