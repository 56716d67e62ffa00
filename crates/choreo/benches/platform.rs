//! How fast the platform starts, how much memory it takes at rest, and how long a component takes from `apply` to its cell.
//!
//! `cargo bench -p choreo` prints the figures with the machine and the sizes; nothing here passes or fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use choreo_store::{Key, Store, Write};
use serde_json::json;

const ROUNDS: usize = 9;
const OBJECTS: usize = 10_000;
/// After this much quiet a process is at rest.
const REST: Duration = Duration::from_secs(3);

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
}

struct Up {
    child: Child,
    folder: std::path::PathBuf,
}

impl Up {
    /// Starts it and waits until it says that it is up.
    fn start(folder: &Path) -> (Up, Duration) {
        let began = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_choreo"))
            .args([
                "up",
                "--containers",
                "simulated",
                "--api-port",
                "0",
                "--http-port",
                "0",
                "--https-port",
                "0",
                "--data-dir",
            ])
            .arg(folder)
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
            },
            took,
        )
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_choreo"));
        command
            .env("KUBECONFIG", self.folder.join("kubeconfig"))
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
