//! What is measured, one scene after another.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use memchr::memmem;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use crate::Settings;
use crate::server::{Server, restart, start};
use crate::target::{Outcome, Target, Times, memory, ms, processor};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const NAMESPACE: &str = "choreo-load";
const GROUP: &str = "load.choreo.dev";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// How long writes come at a rate.
const PACED_SECONDS: usize = 10;
/// Lists are taken so often; the median is told.
const LISTS: usize = 21;

fn config_maps() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps")
}

fn things() -> String {
    format!("/apis/{GROUP}/v1/namespaces/{NAMESPACE}/things")
}

/// Plays the scenes that are wanted, and removes what they made.
pub(crate) async fn play(settings: &Settings) -> Outcome<()> {
    let (mut server, mut target) = start(settings, "start until ready").await?;
    let version: Value =
        serde_json::from_slice(&target.get("/version", JSON).await?).map_err(|e| e.to_string())?;
    println!(
        "server {}, {} clients, {} objects of about 1 KiB; client and server share {} cores if on one machine",
        version["gitVersion"].as_str().unwrap_or_default(),
        settings.clients,
        settings.objects,
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    clean(&target).await?;
    tell_memory(settings, "at the start");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    // One that is still there from an earlier run will do.
    let _ = target.post("/api/v1/namespaces", &namespace).await;

    let outcome = scenes(settings, &mut server, &mut target).await;
    let cleaned = clean(&target).await;
    outcome.and(cleaned)
}

async fn scenes(settings: &Settings, server: &mut Option<Server>, target: &mut Target) -> Outcome<()> {
    if settings.wants("crd") {
        definitions(settings, target).await?;
        let what = format!("start with {} definitions", settings.definitions);
        restart(settings, server, target, &what).await?;
        tell_memory(settings, "after that start");
    }
    if settings.wants("create") {
        let before = used(settings);
        let spent = Spent::begin(settings);
        let times = target
            .each(settings.clients, settings.objects, |target, nth| async move {
                let text = config_map_text(&format!("cm-{nth}"));
                target.post_text(&config_maps(), text).await.map(drop)
            })
            .await?;
        tell("create ConfigMaps", &times.rate());
        spent.tell(settings, settings.objects);
        tell_memory(settings, "with ConfigMaps");
        tell_each(settings, "memory per ConfigMap", before, settings.objects);
        let what = format!("start with {} objects", settings.objects);
        restart(settings, server, target, &what).await?;
        tell_memory(settings, "after that start");
    }
    if settings.wants("get") {
        let count = settings.objects.max(1);
        let spent = Spent::begin(settings);
        let times = target
            .each(settings.clients, count, |target, nth| async move {
                let path = format!("{}/cm-{nth}", config_maps());
                target.get(&path, JSON).await.map(drop)
            })
            .await?;
        tell("get ConfigMaps", &times.rate());
        spent.tell(settings, count);
    }
    if settings.wants("list") {
        for (name, accept) in [
            ("list ConfigMaps, JSON", JSON),
            ("list ConfigMaps, protobuf", PROTOBUF),
        ] {
            list(settings, target, name, &config_maps(), accept).await?;
        }
    }
    if settings.wants("watch") {
        watch(settings, target).await?;
    }
    if settings.wants("apply") || settings.wants("custom") {
        custom(settings, target).await?;
    }
    if settings.wants("delete") {
        let started = Instant::now();
        let collection = config_maps();
        target.must(Method::DELETE, &collection, &[], Vec::new()).await?;
        until_empty(target, &collection).await?;
        tell("delete the collection", &ms(started.elapsed()));
        tell_memory(settings, "at the end");
    }
    Ok(())
}

/// How soon a new definition is usable, and how many can be had.
async fn definitions(settings: &Settings, target: &Target) -> Outcome<()> {
    let mut usable = Vec::new();
    let started = Instant::now();
    for nth in 0..settings.definitions {
        let begun = Instant::now();
        target.post(CRDS, &definition(&format!("kinds{nth}"))).await?;
        let path = format!("/apis/{GROUP}/v1/namespaces/{NAMESPACE}/kinds{nth}");
        while target.send(Method::GET, &path, &[], Vec::new()).await?.0 != 200 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        usable.push(begun.elapsed());
    }
    let times = Times::new(usable, started.elapsed());
    tell("definition until usable", &times.spread());
    tell_memory(settings, &format!("with {} definitions", settings.definitions));
    Ok(())
}

async fn custom(settings: &Settings, target: &Target) -> Outcome<()> {
    target.post(CRDS, &definition("things")).await?;
    while target.send(Method::GET, &things(), &[], Vec::new()).await?.0 != 200 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    if settings.wants("custom") {
        let spent = Spent::begin(settings);
        let times = target
            .each(settings.clients, settings.objects, |target, nth| async move {
                let text = thing_text(&format!("t-{nth}"), nth);
                target.post_text(&things(), text).await.map(drop)
            })
            .await?;
        tell("create custom resources", &times.rate());
        spent.tell(settings, settings.objects);
        list(settings, target, "list custom resources", &things(), JSON).await?;
    }
    if settings.wants("apply") {
        let spent = Spent::begin(settings);
        let times = target
            .each(settings.clients, settings.objects, |target, nth| async move {
                let path = format!("{}/t-{nth}?fieldManager=load&force=true", things());
                let kind = [("content-type", "application/apply-patch+yaml")];
                let body = thing_text(&format!("t-{nth}"), nth + 1).into_bytes();
                target.must(Method::PATCH, &path, &kind, body).await.map(drop)
            })
            .await?;
        tell("apply custom resources", &times.rate());
        spent.tell(settings, settings.objects);
    }
    tell_memory(settings, "with custom resources");
    Ok(())
}

async fn list(
    settings: &Settings,
    target: &Target,
    name: &str,
    path: &str,
    accept: &'static str,
) -> Outcome<()> {
    let mut times = Vec::new();
    let mut size = 0;
    let spent = Spent::begin(settings);
    for _ in 0..LISTS {
        let begun = Instant::now();
        size = target.length(path, accept).await?;
        times.push(begun.elapsed());
    }
    let times = Times::new(times, Duration::ZERO);
    tell(
        name,
        &format!("median {} for {} KiB", ms(times.percentile(50)), size / 1024),
    );
    spent.tell(settings, LISTS);
    Ok(())
}

/// From the start of a write until each of many watchers has its event: a write when all have the one before, a write when the
/// one before is answered, and so many a second. At a rate, a write's time counts from when it was due, whether or not the server
/// had taken the ones before. A server that answers sooner gets more writes a second the second way, and the first and the third
/// load all alike.
async fn watch(settings: &Settings, target: &Target) -> Outcome<()> {
    let what = format!("write to {} watchers", settings.watchers);
    let before = used(settings);
    let watchers = Watchers::start(settings, target, "watch", settings.writes).await?;
    tell_memory(settings, &format!("with {} watchers", settings.watchers));
    tell_each(settings, "memory per watcher", before, settings.watchers);
    let spent = Spent::begin(settings);
    for nth in 0..settings.writes {
        let value = watched("watch", nth, watchers.epoch.elapsed());
        target.post(&config_maps(), &value).await?;
    }
    tell(&what, &watchers.times().await?.spread());
    spent.tell(settings, settings.writes);

    let watchers = Watchers::start(settings, target, "single", settings.writes).await?;
    let spent = Spent::begin(settings);
    for nth in 0..settings.writes {
        let value = watched("single", nth, watchers.epoch.elapsed());
        target.post(&config_maps(), &value).await?;
        watchers.all_have((nth + 1) * settings.watchers).await;
    }
    tell(&format!("{what}, one by one"), &watchers.times().await?.spread());
    spent.tell(settings, settings.writes);

    if settings.rate == 0 {
        return Ok(());
    }
    let writes = settings.rate * PACED_SECONDS;
    let watchers = Watchers::start(settings, target, "paced", writes).await?;
    let began = watchers.epoch.elapsed();
    let mut posts = tokio::task::JoinSet::new();
    for nth in 0..writes {
        let due = began + Duration::from_secs_f64(nth as f64 / settings.rate as f64);
        tokio::time::sleep_until((watchers.epoch + due).into()).await;
        let target = target.clone();
        posts.spawn(async move { target.post(&config_maps(), &watched("paced", nth, due)).await });
    }
    while let Some(posted) = posts.join_next().await {
        posted.map_err(|e| e.to_string())??;
    }
    tell(
        &format!("{what}, {}/s", settings.rate),
        &watchers.times().await?.spread(),
    );
    Ok(())
}

/// An object that says when it was sent.
fn watched(scene: &str, nth: usize, sent: Duration) -> Value {
    let mut value = config_map(&format!("{scene}-{nth}"));
    value["metadata"]["labels"] = json!({"scene": scene});
    value["data"]["sent"] = sent.as_nanos().to_string().into();
    value
}

/// Followers of what carries the label of one scene.
struct Watchers {
    /// What times are counted from.
    epoch: Instant,
    tasks: Vec<tokio::task::JoinHandle<Outcome<Vec<Duration>>>>,
    received: Arc<Received>,
}

/// How many events have come, to all watchers together.
#[derive(Default)]
struct Received {
    count: AtomicUsize,
    /// The number that somebody waits for.
    wanted: AtomicUsize,
    reached: Notify,
}

impl Received {
    fn one_more(&self) {
        let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if count == self.wanted.load(Ordering::SeqCst) {
            self.reached.notify_one();
        }
    }
}

impl Watchers {
    async fn start(settings: &Settings, target: &Target, scene: &str, writes: usize) -> Outcome<Watchers> {
        let list = target.get(&format!("{}?limit=1", config_maps()), JSON).await?;
        let list: Value = serde_json::from_slice(&list).map_err(|e| e.to_string())?;
        let revision = list["metadata"]["resourceVersion"].as_str().unwrap_or("0");
        let path = format!(
            "{}?watch=true&resourceVersion={revision}&timeoutSeconds=600&labelSelector=scene%3D{scene}",
            config_maps()
        );
        let epoch = Instant::now();
        let (ready, mut are_ready) = mpsc::unbounded_channel();
        let received = Arc::<Received>::default();
        let tasks = (0..settings.watchers).map(|_| {
            let (target, ready, path) = (target.clone(), ready.clone(), path.clone());
            let received = received.clone();
            tokio::spawn(async move { follow(&target, &path, writes, epoch, ready, &received).await })
        });
        let tasks = tasks.collect();
        for _ in 0..settings.watchers {
            are_ready.recv().await.ok_or("a watcher ended early")?;
        }
        Ok(Watchers {
            epoch,
            tasks,
            received,
        })
    }

    /// Waits until so many events have come, or a watcher ended early, which `times` tells.
    async fn all_have(&self, events: usize) {
        self.received.wanted.store(events, Ordering::SeqCst);
        while self.received.count.load(Ordering::SeqCst) < events
            && !self.tasks.iter().any(|task| task.is_finished())
        {
            let notified = self.received.reached.notified();
            let _ = tokio::time::timeout(Duration::from_secs(1), notified).await;
        }
    }

    async fn times(self) -> Outcome<Times> {
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await.map_err(|e| e.to_string())??);
        }
        Ok(Times::new(all, self.epoch.elapsed()))
    }
}

async fn follow(
    target: &Target,
    path: &str,
    writes: usize,
    epoch: Instant,
    ready: mpsc::UnboundedSender<()>,
    received: &Received,
) -> Outcome<Vec<Duration>> {
    let mut line = target.follow(path).await?;
    let _ = ready.send(());
    let (before, mut rest) = (memmem::Finder::new("\"sent\":\""), Vec::new());
    let mut times = Vec::with_capacity(writes);
    while times.len() < writes {
        let chunk = line.chunk().await?;
        let now = epoch.elapsed();
        rest.extend_from_slice(&chunk.ok_or("a watch ended before its events came")?);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            let event = rest.get(..end).unwrap_or_default();
            let sent = before
                .find(event)
                .and_then(|at| event.get(at + before.needle().len()..))
                .and_then(|text| text.split(|byte| *byte == b'"').next())
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok())
                .ok_or_else(|| format!("an event without its time: {}", String::from_utf8_lossy(event)))?;
            times.push(now.saturating_sub(Duration::from_nanos(sent)));
            rest.drain(..=end);
            received.one_more();
        }
    }
    Ok(times)
}

/// Removes everything that the scenes make.
async fn clean(target: &Target) -> Outcome<()> {
    let (status, _) = target
        .send(Method::DELETE, &config_maps(), &[], Vec::new())
        .await?;
    if status == 200 {
        until_empty(target, &config_maps()).await?;
    }
    let listed: Value = serde_json::from_slice(&target.get(CRDS, JSON).await?).map_err(|e| e.to_string())?;
    for definition in listed["items"].as_array().into_iter().flatten() {
        if definition["spec"]["group"] == GROUP {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            let path = format!("{CRDS}/{name}");
            target.must(Method::DELETE, &path, &[], Vec::new()).await?;
            while target.send(Method::GET, &path, &[], Vec::new()).await?.0 != 404 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    let path = format!("/api/v1/namespaces/{NAMESPACE}");
    target
        .send(Method::DELETE, &path, &[], Vec::new())
        .await
        .map(drop)
}

async fn until_empty(target: &Target, collection: &str) -> Outcome<()> {
    loop {
        let page = target.get(&format!("{collection}?limit=1"), JSON).await?;
        let page: Value = serde_json::from_slice(&page).map_err(|e| e.to_string())?;
        let empty = page["items"].as_array().is_none_or(|items| {
            // What the server itself keeps in every namespace stays.
            items
                .iter()
                .all(|item| item["metadata"]["name"] == "kube-root-ca.crt")
        });
        if empty {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {"app": "load"}},
        "data": {"key": "x".repeat(700), "other": name},
    })
}

/// The text of such an object. Written at once: making a tree first costs as much as sending it.
fn config_map_text(name: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"data":{{"key":"{:x<700}","other":"{name}"}}}}"#,
        ""
    )
}

fn thing_text(name: &str, size: usize) -> String {
    format!(
        r#"{{"apiVersion":"{GROUP}/v1","kind":"Things","metadata":{{"name":"{name}","labels":{{"app":"load"}}}},"spec":{{"size":{size},"text":"{:x<600}","list":[{{"name":"a","value":"1"}},{{"name":"b","value":"2"}}]}}}}"#,
        ""
    )
}

fn definition(plural: &str) -> Value {
    let kind = format!("{}{}", plural[..1].to_uppercase(), &plural[1..]);
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {
            "group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "minimum": 0},
                        "text": {"type": "string", "maxLength": 2000, "default": ""},
                        "list": {
                            "type": "array", "maxItems": 20, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "value": {"type": "string"},
                            }},
                        },
                    }, "x-kubernetes-validations": [{"rule": "self.size >= 0", "message": "size is never negative"}]},
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}

fn tell(what: &str, figures: &str) {
    println!("{what:<32} {figures}");
}

/// The processes whose memory is told.
fn pids(settings: &Settings) -> Vec<u32> {
    let started = settings.started.load(Ordering::Relaxed);
    let own = (started != 0).then_some(started);
    own.into_iter().chain(settings.pids.iter().copied()).collect()
}

/// Resident memory of all of them, in KiB.
fn used(settings: &Settings) -> u64 {
    pids(settings).into_iter().filter_map(memory).sum()
}

/// Processor time, which says more than the clock on a machine that others use as well.
struct Spent {
    server: Duration,
    client: Duration,
}

impl Spent {
    fn begin(settings: &Settings) -> Spent {
        let of = |pid: &str| processor(pid).unwrap_or_default();
        Spent {
            server: pids(settings).iter().map(|pid| of(&pid.to_string())).sum(),
            client: of("self"),
        }
    }

    /// Tells what has been spent since, for each of so many.
    fn tell(&self, settings: &Settings, count: usize) {
        let now = Spent::begin(settings);
        let each = |before: Duration, now: Duration| {
            now.saturating_sub(before).as_secs_f64() * 1e6 / count.max(1) as f64
        };
        let client = each(self.client, now.client);
        let server = match pids(settings).is_empty() {
            true => String::new(),
            false => format!("server {:.0} us, ", each(self.server, now.server)),
        };
        tell(
            "  processor time for each",
            &format!("{server}client {client:.0} us"),
        );
    }
}

fn tell_memory(settings: &Settings, when: &str) {
    let all: Vec<String> = pids(settings)
        .into_iter()
        .map(|pid| memory(pid).map_or("gone".to_owned(), |kib| format!("{} MiB", kib / 1024)))
        .collect();
    if !all.is_empty() {
        tell(&format!("memory {when}"), &all.join(" + "));
    }
}

/// What each of many costs, by what has come since.
fn tell_each(settings: &Settings, what: &str, before: u64, count: usize) {
    if before > 0 && count > 0 {
        let more = used(settings).saturating_sub(before);
        tell(what, &format!("{:.1} KiB", more as f64 / count as f64));
    }
}
