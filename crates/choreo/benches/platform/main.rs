//! How fast the platform starts, how much memory it takes at rest, and how long a component takes from `apply` to its cell.
//!
//! `cargo bench -p choreo` prints the figures with the machine and the sizes; nothing here passes or fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod tap;

use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use choreo_store::{Key, Store, Write};
use choreo_testkit::probe;
use serde_json::json;

const ROUNDS: usize = 9;
const OBJECTS: usize = 10_000;
/// Pods of one component, on one host.
const REPLICAS: usize = 100;
/// After this much quiet a process is at rest: it has let go of what it does not use, which it looks for every five seconds.
const REST: Duration = Duration::from_secs(17);

fn main() {
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    println!(
        "machine: {}, {threads} cores; medians of {ROUNDS} runs",
        processor()
    );

    let folder = tempfile::tempdir().unwrap();
    let empty: Vec<Duration> = (0..ROUNDS)
        .map(|round| {
            let (up, took) = Up::start(&folder.path().join(round.to_string()));
            up.stop();
            took
        })
        .collect();
    println!("exec to up, empty folder:              {}", spread(empty));

    let again: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let (up, took) = Up::start(&folder.path().join("0"));
            up.stop();
            took
        })
        .collect();
    println!("exec to up, the same folder again:     {}", spread(again));

    let (up, _) = Up::start(&folder.path().join("0"));
    std::thread::sleep(REST);
    println!("memory at rest, empty:                 {} MB", up.memory());
    up.stop();

    let full = folder.path().join("full");
    Up::start(&full).0.stop();
    fill(&full);
    let filled: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let (up, took) = Up::start(&full);
            up.stop();
            took
        })
        .collect();
    println!("exec to up, {OBJECTS} objects:            {}", spread(filled));
    let (up, _) = Up::start(&full);
    std::thread::sleep(REST);
    println!("memory at rest, {OBJECTS} objects:        {} MB", up.memory());
    up.stop();

    let (up, _) = Up::start(&folder.path().join("greeter"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures");
    up.run(&["apply", "-f", fixtures.join("github.yaml").to_str().unwrap()]);
    let greeter = std::fs::read_to_string(fixtures.join("greeter.yaml")).unwrap();
    let latencies: Vec<Duration> = (0..ROUNDS).map(|round| up.greeter(&greeter, round)).collect();
    println!("apply (a process) to the cell's routes: {}", spread(latencies));
    up.stop();

    match std::env::var("CHOREO_TEST_CONTAINER_HOST") {
        Ok(host) => containers(&host),
        Err(_) => println!("with containers: NOT RUN: CHOREO_TEST_CONTAINER_HOST names no engine"),
    }
}

/// From the start of `choreo run` to the first answer of the image through the gateway, and what the engine alone takes for as many
/// containers.
fn containers(host: &str) {
    let socket = host.trim_start_matches("unix://");
    load(socket);
    let alone: Vec<Duration> = (0..ROUNDS).map(|_| engine_alone(socket)).collect();
    println!("engine: create and start 2 containers: {}", spread(alone));
    // Paths of sockets have a limit.
    let folder = tempfile::Builder::new().prefix("cb").tempdir_in("/tmp").unwrap();
    let more = ["--containers", "engine", "--in-memory"];
    let tap = tap::Tap::between(Path::new(socket), &folder.path().join("tap"));
    let (up, _) = Up::start_with(
        &folder.path().join("data"),
        &more,
        &[("CONTAINER_HOST", &tap.address())],
    );
    let run = |name: &str| {
        let began = Instant::now();
        let took = up.image(name);
        // Whatever is not a wait for the engine's answer is ours, or the start of the program in the image.
        (took, took.saturating_sub(tap.waited(began, began + took)))
    };
    let (first, ours) = run("first");
    println!(
        "choreo run to 200, the cell's first:   {} of it without the engine: {}",
        spread(vec![first]),
        spread(vec![ours])
    );
    let (times, ours) = (0..ROUNDS).map(|round| run(&format!("image-{round}"))).unzip();
    println!("choreo run to 200:                     {}", spread(times));
    println!("  of it without the engine:            {}", spread(ours));
    let before = up.memory();
    let began = Instant::now();
    up.run(&["scale", "first", &REPLICAS.to_string(), "-e", "development"]);
    up.run(&["wait", "component/first", "--timeout", "300s"]);
    while up.pods("first") < REPLICAS {
        std::thread::sleep(Duration::from_millis(100));
    }
    println!(
        "{REPLICAS} replicas:                          {:.1} s, choreo takes {} MB more",
        began.elapsed().as_secs_f64(),
        up.memory().saturating_sub(before)
    );
    up.stop();
}

/// Gives the engine the image of the probe.
fn load(socket: &str) {
    let mut load = Command::new("curl")
        .args(["--silent", "--fail", "--unix-socket", socket])
        .args(["-H", "Content-Type: application/x-tar", "--data-binary", "@-"])
        .arg("http://engine/v1.41/images/load")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    load.stdin
        .take()
        .unwrap()
        .write_all(&probe::archive().unwrap())
        .unwrap();
    assert!(load.wait().unwrap().success());
}

fn engine_alone(socket: &str) -> Duration {
    let ask = |method: &str, path: &str, body: &str| {
        let said = Command::new("curl")
            .args([
                "--silent",
                "--unix-socket",
                socket,
                "-X",
                method,
                "-H",
                "Content-Type: application/json",
                "-d",
                body,
            ])
            .arg(format!("http://engine/v1.41{path}"))
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap_or_default()
    };
    let limit = |name: &str| json!({"Name": name, "Soft": 1024, "Hard": 1024});
    let spec = json!({"Image": probe::IMAGE, "Cmd": ["sleep"], "HostConfig": {"Ulimits": [limit("nofile"), limit("nproc")]}});
    let began = Instant::now();
    let made: Vec<String> = (0..2)
        .map(|_| {
            let id = ask("POST", "/containers/create", &spec.to_string())["Id"]
                .as_str()
                .unwrap()
                .to_owned();
            ask("POST", &format!("/containers/{id}/start"), "");
            id
        })
        .collect();
    let took = began.elapsed();
    for id in made {
        ask("DELETE", &format!("/containers/{id}?force=true"), "");
    }
    took
}

struct Up {
    child: Child,
    folder: std::path::PathBuf,
    /// Where its commands find the container engine.
    engine: Option<String>,
}

impl Up {
    /// Starts it and waits until it says that it is up.
    fn start(folder: &Path) -> (Up, Duration) {
        Self::start_with(folder, &["--containers", "simulated"], &[])
    }

    fn start_with(folder: &Path, more: &[&str], env: &[(&str, &str)]) -> (Up, Duration) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_choreo"))
            .arg("up")
            .args(["--api-port", "0", "--http-port", "0", "--https-port", "0"])
            .arg("--data-dir")
            .arg(folder)
            .args(more)
            .envs(env.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.unwrap().contains("Choreo is up"));
        let took = began.elapsed();
        assert!(ready, "choreo up failed");
        // Its output must have somewhere to go.
        std::thread::spawn(move || lines.for_each(drop));
        (
            Up {
                child,
                folder: folder.to_owned(),
                engine: env
                    .iter()
                    .find(|(name, _)| *name == "CONTAINER_HOST")
                    .map(|(_, host)| (*host).to_owned()),
            },
            took,
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_choreo"));
        command
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
            .envs(self.engine.iter().map(|host| ("CONTAINER_HOST", host)))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) {
        assert!(
            self.command(arguments)
                .stdout(Stdio::null())
                .status()
                .unwrap()
                .success()
        );
    }

    /// Resident memory in MB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap_or("0 kB");
        line.split_whitespace()
            .next()
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .unwrap_or(0)
            / 1024
    }

    /// Runs the probe's image, and calls its URL until it answers.
    fn image(&self, name: &str) -> Duration {
        let began = Instant::now();
        let said = self
            .command(&[
                "run",
                probe::IMAGE,
                "--name",
                name,
                "--port",
                "8080",
                "--public",
                "--yes",
            ])
            .args(["--", "serve", "--port", "8080"])
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let url = said.lines().last().unwrap().trim_start_matches("http://");
        let (authority, path) = url.split_once('/').unwrap();
        let port: u16 = authority.rsplit(':').next().unwrap().parse().unwrap();
        loop {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            write!(
                stream,
                "GET /{path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n"
            )
            .unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            if answer.starts_with("HTTP/1.1 200") {
                return began.elapsed();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Number of ready pods of a component.
    fn pods(&self, component: &str) -> usize {
        let selector = format!("openchoreo.dev/component={component}");
        let arguments = [
            "--context",
            "local",
            "get",
            "pods",
            "-A",
            "-l",
            &selector,
            "-o",
            "json",
        ];
        let said = self.command(&arguments).output().unwrap();
        let list: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
        let is_ready = |pod: &&serde_json::Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        list["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(is_ready)
            .count()
    }

    /// Applies the greeter under another name, and waits for both of its routes in the data plane.
    fn greeter(&self, manifest: &str, round: usize) -> Duration {
        let name = format!("greeter-{round}");
        let file = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&file, manifest.replace("greeter-service", &name)).unwrap();
        let mut watch = self
            .command(&[
                "--context",
                "local",
                "get",
                "httproutes",
                "-A",
                "-w",
                "-o",
                "name",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let began = Instant::now();
        self.run(&["apply", "-f", file.to_str().unwrap()]);
        let mut seen = std::collections::BTreeSet::new();
        for line in lines.map_while(Result::ok).filter(|line| line.contains(&name)) {
            seen.insert(line);
            if seen.len() == 2 {
                break;
            }
        }
        let took = began.elapsed();
        watch.kill().unwrap();
        watch.wait().unwrap();
        took
    }

    fn stop(mut self) {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        self.child.wait().unwrap();
    }
}

/// Writes ConfigMaps of about a kilobyte into the store of a platform that is not running.
fn fill(folder: &Path) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Store::open(folder).unwrap();
        let cluster = store.cluster("control");
        for chunk in (0..OBJECTS).collect::<Vec<_>>().chunks(500) {
            let writes = chunk.iter().map(|number| {
                let name = format!("filler-{number:05}");
                let value = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "name": name, "namespace": "default", "uid": format!("00000000-0000-4000-8000-{number:012}"),
                        "creationTimestamp": "2026-01-01T00:00:00Z",
                    },
                    "data": {"content": "x".repeat(1000)},
                });
                cluster.write(Write::Create { key: Key::new("configmaps", "default", &name), value })
            });
            futures::future::try_join_all(writes).await.unwrap();
        }
        store.close();
    });
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    format!(
        "{:.0} ms (from {:.0} to {:.0})",
        ms(times[times.len() / 2]),
        ms(times[0]),
        ms(times[times.len() - 1])
    )
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or(": unknown");
    model.trim_start_matches([' ', '\t', ':']).to_owned()
}
