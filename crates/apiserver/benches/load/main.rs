//! Load on a Kubernetes API server, the same for any: how many writes and reads a second, how long lists take, how late watches
//! are, what it costs in memory.
//!
//! # How to compare two servers
//!
//! Both on the same machine, one after the other, with nothing else to do; the figures that the goals are about are those of
//! `--clients 64 --objects 10000 --definitions 1000`, and `--only create --objects 100000` for what is recovered.
//!
//! ```text
//! cargo build --release -p choreo-apiserver --example serve
//! cargo bench -p choreo-apiserver --bench load -- --kubeconfig /tmp/api/kubeconfig \
//!     --start "target/release/examples/serve /tmp/api" --objects 10000 --definitions 1000
//!
//! etcd --data-dir /tmp/etcd & E=$!
//! cargo bench -p choreo-apiserver --bench load -- --kubeconfig /tmp/kube/kubeconfig --pid $E \
//!     --start "kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=26443 --cert-dir=/tmp/kube ..." \
//!     --objects 10000 --definitions 1000
//! ```
//!
//! Without `--start`, a server that runs already is measured, but for its starts; `--pid` then names its process. With it the
//! server is killed and started again over its 1,000 definitions and over its objects.
//!
//! | Goal | Line |
//! | --- | --- |
//! | durable creates per second at 64 clients, 10 times | `create ConfigMaps`, `create custom resources` |
//! | list of 10,000 objects, a fifth of the time | `list ConfigMaps`, `list custom resources` |
//! | p99 from a write to 100 watchers, a fifth | `write to 100 watchers` |
//! | memory, a tenth | `memory at the start`, `memory with ConfigMaps` |
//! | start to ready in 300 ms | `start until ready` |
//! | 1,000 definitions in 2 s and 200 MB | `start with 1000 definitions`, `memory with 1000 definitions` |
//! | 100,000 objects recovered in 2 s | `start with 100000 objects` |
//! | memory per object and watcher | `memory per ConfigMap`, `memory per watcher` |
//!
//! Everything goes into a namespace and a definition of its own, which are deleted afterwards. `--pid` (several, for a server
//! with a database beside it) reports the memory and processor time of processes of this machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

mod line;
mod scenes;
mod server;
mod target;

use std::process::ExitCode;
use std::sync::atomic::AtomicU32;

const USAGE: &str = "usage: cargo bench -p choreo-apiserver --bench load -- --kubeconfig FILE [options]

  --start COMMAND    starts the server, is timed, and killed at the end
  --context NAME     context of the kubeconfig
  --objects N        objects that are created, listed and deleted [5000]
  --clients N        requests under way at once [64]
  --watchers N       watches that follow the same collection [100]
  --writes N         writes whose way to the watchers is timed [200]
  --rate N           writes a second whose way to the watchers is timed, for ten seconds; 0 for none [200]
  --definitions N    definitions that are created one after another [50]
  --only A,B         scenes: crd, create, get, list, watch, apply, custom, delete
  --pid N            process whose memory and processor time are reported; may be given several times";

/// What the command line asks for.
pub(crate) struct Settings {
    pub(crate) kubeconfig: String,
    pub(crate) context: Option<String>,
    pub(crate) objects: usize,
    pub(crate) clients: usize,
    pub(crate) watchers: usize,
    pub(crate) writes: usize,
    pub(crate) rate: usize,
    pub(crate) definitions: usize,
    pub(crate) only: Vec<String>,
    pub(crate) pids: Vec<u32>,
    /// How the server is started; none when it runs already.
    pub(crate) start: Option<String>,
    /// The process that was started, or 0.
    pub(crate) started: AtomicU32,
}

impl Settings {
    fn parse(args: impl Iterator<Item = String>) -> Result<Option<Settings>, String> {
        let mut settings = Settings {
            kubeconfig: String::new(),
            context: None,
            objects: 5000,
            clients: 64,
            watchers: 100,
            writes: 200,
            rate: 200,
            definitions: 50,
            only: Vec::new(),
            pids: Vec::new(),
            start: None,
            started: AtomicU32::new(0),
        };
        let mut args = args.filter(|arg| arg != "--bench");
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} needs a value"));
            let number = |text: String| text.parse::<usize>().map_err(|e| format!("{text}: {e}"));
            match arg.as_str() {
                "--kubeconfig" => settings.kubeconfig = value()?,
                "--start" => settings.start = Some(value()?),
                "--context" => settings.context = Some(value()?),
                "--objects" => settings.objects = number(value()?)?,
                "--clients" => settings.clients = number(value()?)?.max(1),
                "--watchers" => settings.watchers = number(value()?)?,
                "--writes" => settings.writes = number(value()?)?,
                "--rate" => settings.rate = number(value()?)?,
                "--definitions" => settings.definitions = number(value()?)?,
                "--only" => settings.only = value()?.split(',').map(str::to_owned).collect(),
                "--pid" => settings
                    .pids
                    .push(value()?.parse().map_err(|e| format!("--pid: {e}"))?),
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        Ok((!settings.kubeconfig.is_empty()).then_some(settings))
    }

    pub(crate) fn wants(&self, scene: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == scene)
    }
}

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(Some(settings)) => settings,
        // Run by a command that runs all benches: there is no server to measure.
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let outcome = runtime.block_on(scenes::play(&settings));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
