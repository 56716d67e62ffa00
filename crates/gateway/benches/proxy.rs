//! The gateway beside nginx: the same backend, the same load, one after the other on the same machine, several rounds.
//!
//! `cargo bench -p choreo-gateway`. It needs `wrk` and, for the comparison, `nginx` (Debian: `nginx-light`); what is not there is
//! reported as NOT RUN. Both proxies have as many threads as the machine has processors.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program of its own, whose output is the result"
)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use choreo_apiserver::{ApiServer, Options as ApiOptions, UserInfo};
use choreo_gateway::{CONTROLLER, Dial, Options, Sockets, Stream, Target};
use choreo_store::Store;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// The program's own.
#[global_allocator]
static ALLOCATOR: choreo_allocator::Allocator = choreo_allocator::Allocator;

const ROUNDS: usize = 3;
const SECONDS: u32 = 5;
const ROUTES: usize = 1_000;

/// Every pod is the backend.
struct To(SocketAddr);

#[async_trait]
impl Dial for To {
    async fn dial(&self, _: &Target) -> io::Result<Box<dyn Stream>> {
        let stream = tokio::net::TcpStream::connect(self.0).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // SIGTERM by nginx's own means would need its pid file; a child that is killed takes its workers with it when they see it gone.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn nginx(folder: &Path, name: &str, workers: usize, http: &str) -> Option<Running> {
    let folder = folder.join(name);
    std::fs::create_dir(&folder).unwrap();
    let at = folder.display();
    let config = format!(
        "worker_processes {workers}; daemon off; pid {at}/pid; error_log {at}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {at}/a; proxy_temp_path {at}/b; fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n{http}\n}}\n"
    );
    std::fs::write(folder.join("nginx.conf"), config).unwrap();
    let child = Command::new("nginx")
        .arg("-p")
        .arg(&folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    Some(Running(child))
}

/// Waits until somebody listens.
fn wait(port: u16) {
    let until = Instant::now() + Duration::from_secs(10);
    while std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        assert!(Instant::now() < until, "nobody listens on {port}");
        std::thread::yield_now();
    }
}

/// Requests a second, and the median and 99th percentile in microseconds.
fn wrk(port: u16, connections: u32) -> Option<(f64, f64, f64)> {
    let threads = connections.min(2);
    let output = Command::new("wrk")
        .args(["--latency", "-H", "Host: bench.localhost"])
        .arg(format!("-t{threads}"))
        .arg(format!("-c{connections}"))
        .arg(format!("-d{SECONDS}s"))
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{text}");
    let after = |mark: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(mark).map(|rest| rest.trim().to_owned()))
    };
    let time = |text: String| -> f64 {
        let (number, scale) = match () {
            () if text.ends_with("us") => (&text[..text.len() - 2], 1.0),
            () if text.ends_with("ms") => (&text[..text.len() - 2], 1_000.0),
            () => (&text[..text.len() - 1], 1_000_000.0),
        };
        number.parse::<f64>().unwrap() * scale
    };
    Some((
        after("Requests/sec:")?.parse().ok()?,
        time(after("50%")?),
        time(after("99%")?),
    ))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: group.into(),
        version: version.into(),
        api_version: if group.is_empty() {
            version.into()
        } else {
            format!("{group}/{version}")
        },
        kind: kind.into(),
        plural: plural.into(),
    }
}

fn http_routes(client: &Client) -> Api<DynamicObject> {
    Api::default_namespaced_with(
        client.clone(),
        &resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    )
}

async fn create(client: &Client, resource: &ApiResource, namespaced: bool, mut object: Value) {
    object["apiVersion"] = json!(resource.api_version);
    object["kind"] = json!(resource.kind);
    let api: Api<DynamicObject> = match namespaced {
        true => Api::default_namespaced_with(client.clone(), resource),
        false => Api::all_with(client.clone(), resource),
    };
    api.create(&Default::default(), &serde_json::from_value(object).unwrap())
        .await
        .unwrap();
}

fn route(name: &str, prefix: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"parentRefs": [{"name": "public"}], "hostnames": ["bench.localhost"],
        "rules": [{"matches": [{"path": {"type": "PathPrefix", "value": prefix}}], "backendRefs": [{"name": "web", "port": 80}]}]}})
}

/// The gateway on a port, in front of the backend.
async fn gateway(backend: u16) -> (Client, u16, CancellationToken) {
    let server = ApiServer::new(Store::in_memory(), ApiOptions::default()).unwrap();
    let shutdown = CancellationToken::new();
    server.start_controllers(&shutdown);
    let client = server.cluster_client("control", &UserInfo::admin());
    for definition in choreo_api::foreign::foreign_crds() {
        let group = &definition.spec.group;
        if group.ends_with("networking.k8s.io") || group.ends_with("envoyproxy.io") {
            Api::all(client.clone())
                .create(&Default::default(), &definition)
                .await
                .unwrap();
        }
    }
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let mut sockets = Sockets::default();
    let port = sockets.bind_tcp(local, 0).unwrap();
    let options = Options {
        dial: Arc::new(To(SocketAddr::from((Ipv4Addr::LOCALHOST, backend)))),
        authority: None,
        sockets,
        address: local,
    };
    tokio::spawn(choreo_gateway::run(client.clone(), options, shutdown.clone()));
    let api = |kind: &str, plural: &str| resource("gateway.networking.k8s.io", "v1", kind, plural);
    let class = json!({"metadata": {"name": "local"}, "spec": {"controllerName": CONTROLLER}});
    create(&client, &api("GatewayClass", "gatewayclasses"), false, class).await;
    let listener = json!({"name": "http", "port": port, "protocol": "HTTP", "hostname": "*.localhost"});
    let spec = json!({"metadata": {"name": "public"}, "spec": {"gatewayClassName": "local", "listeners": [listener]}});
    create(&client, &api("Gateway", "gateways"), true, spec).await;
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}});
    create(&client, &resource("", "v1", "Service", "services"), true, service).await;
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": true}}], "ports": [{"name": "", "port": 8080, "protocol": "TCP"}]});
    create(
        &client,
        &resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
        true,
        slice,
    )
    .await;
    create(&client, &api("HTTPRoute", "httproutes"), true, route("web", "/")).await;
    accepted(&client, "web").await;
    (client, port, shutdown)
}

async fn accepted(client: &Client, name: &str) {
    let api = http_routes(client);
    loop {
        let found = api.get(name).await.unwrap();
        let condition = found.data.pointer("/status/parents/0/conditions/0");
        if condition.is_some_and(|c| {
            c["status"] == "True" && c["observedGeneration"] == json!(found.metadata.generation)
        }) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .unwrap_or(f64::NAN)
}

fn main() {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    println!(
        "machine: {workers} processors; backend: nginx, 12 bytes; {ROUNDS} rounds of {SECONDS} s; medians"
    );
    let backend = free_port();
    let body =
        format!("server {{ listen 127.0.0.1:{backend}; location / {{ return 200 'hello world\\n'; }} }}");
    let Some(_backend) = nginx(folder.path(), "backend", 1, &body) else {
        println!("nginx: NOT RUN: it is not installed (apt-get install nginx-light)");
        return;
    };
    wait(backend);
    if wrk(backend, 1).is_none() {
        println!("load: NOT RUN: wrk is not installed (apt-get install wrk)");
        return;
    }
    let proxy = free_port();
    let http = format!(
        "upstream b {{ server 127.0.0.1:{backend}; keepalive 128; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{proxy}; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ''; \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Request-Id $request_id; }} }}"
    );
    let _proxy = nginx(folder.path(), "proxy", workers, &http).unwrap();
    wait(proxy);
    let (client, port, shutdown) = runtime.block_on(gateway(backend));
    for connections in [64, 8, 1] {
        let (mut direct, mut theirs, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            direct.push(wrk(backend, connections).unwrap());
            theirs.push(wrk(proxy, connections).unwrap());
            ours.push(wrk(port, connections).unwrap());
        }
        let of = |runs: &[(f64, f64, f64)]| {
            (
                median(runs.iter().map(|run| run.0).collect()),
                median(runs.iter().map(|run| run.1).collect()),
                median(runs.iter().map(|run| run.2).collect()),
            )
        };
        let (direct, theirs, ours) = (of(&direct), of(&theirs), of(&ours));
        println!("{connections} connections:");
        for (name, run) in [("backend alone", direct), ("nginx", theirs), ("gateway", ours)] {
            println!(
                "  {name:14} {:8.0} requests/s   p50 {:6.0} us   p99 {:6.0} us",
                run.0, run.1, run.2
            );
        }
        println!(
            "  gateway / nginx {:.0} %, p99 over the backend alone: nginx +{:.0} us, gateway +{:.0} us",
            100.0 * ours.0 / theirs.0,
            theirs.2 - direct.2,
            ours.2 - direct.2
        );
    }
    runtime.block_on(many_routes(&client));
    shutdown.cancel();
}

/// What one change costs among many routes.
async fn many_routes(client: &Client) {
    let api = resource("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes");
    let change = async |i: usize| {
        let began = Instant::now();
        let patch = json!({"spec": {"rules": [{"backendRefs": [{"name": "web", "port": 80}], "timeouts": {"request": format!("{}s", i + 20)}}]}});
        http_routes(client)
            .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
            .await
            .unwrap();
        accepted(client, "web").await;
        began.elapsed().as_secs_f64() * 1_000.0
    };
    let mut alone = Vec::new();
    for i in 0..9 {
        alone.push(change(i).await);
    }
    let before = resident();
    let began = Instant::now();
    for i in 0..ROUTES {
        create(
            client,
            &api,
            true,
            route(&format!("r{i}"), &format!("/default/c{i}")),
        )
        .await;
    }
    accepted(client, &format!("r{}", ROUTES - 1)).await;
    let all = began.elapsed().as_secs_f64();
    let grown = resident() - before;
    let mut among = Vec::new();
    for i in 0..9 {
        among.push(change(100 + i).await);
    }
    println!(
        "{ROUTES} routes: all accepted after {all:.1} s; {:.0} KB each, with the API's own copies; a change until it is accepted: {:.1} ms alone, {:.1} ms among them",
        grown / ROUTES as f64,
        median(alone),
        median(among)
    );
}
