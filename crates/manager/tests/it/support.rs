//! What the tests have in common.

use std::time::Duration;

use choreo_manager::{Manager, ManagerError, Options, Timings};
use choreo_testkit::{Bed, Cluster};
use kube::Config;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const GREETER: &str = include_str!("../../../../examples/greeter.yaml");
const GITHUB: &str = include_str!("../../../../examples/github.yaml");

static ALONE: Mutex<()> = Mutex::const_new(());

/// Tests share a cluster that is not embedded, and with it its managers' lease: one at a time.
pub(crate) async fn alone() -> Option<MutexGuard<'static, ()>> {
    if Bed::is_foreign() {
        Some(ALONE.lock().await)
    } else {
        None
    }
}

/// A running manager, in a runtime of its own: nothing that it began goes on when that ends.
pub(crate) struct Running {
    pub(crate) probes: std::net::SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), ManagerError>>,
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) -> Result<(), ManagerError> {
        self.stop.cancel();
        (&mut self.task).await.unwrap()
    }

    /// Ends it where it stands, as a crash does: every task of it, and with it every connection, wherever it waits.
    pub(crate) async fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            // It waits for its threads, which no asynchronous code may do.
            tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(10)))
                .await
                .unwrap();
        }
    }

    /// What it answers to a probe: status line and body.
    pub(crate) async fn probe(&self, path: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(self.probes).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: probes\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Leases that are short enough for a test to wait for their end.
pub(crate) fn quick() -> Timings {
    Timings {
        lease: Duration::from_secs(4),
        renew: Duration::from_millis(600),
        give_up: Duration::from_millis(2800),
        retry: Duration::from_millis(100),
    }
}

/// A lease that no busy machine loses.
pub(crate) const LONG: Duration = Duration::from_secs(40);

/// Leases are long: a machine that is busy with other things must not lose them, and nobody waits for their end.
pub(crate) fn options(config: Config, identity: &str) -> Options {
    let mut options = Options::new(config, identity);
    options.timings = Timings {
        lease: LONG,
        renew: Duration::from_secs(4),
        give_up: Duration::from_secs(30),
        retry: Duration::from_millis(100),
    };
    options.probes = Some(([127, 0, 0, 1], 0).into());
    options
}

/// Starts one in the runtime of the test. It ends with its main task, but for what that has begun.
pub(crate) async fn start_here(options: Options) -> Running {
    let manager = Manager::new(options).await.unwrap();
    let stop = CancellationToken::new();
    Running {
        probes: manager.probes().unwrap(),
        task: tokio::spawn(manager.run(stop.clone())),
        stop,
        runtime: None,
    }
}

pub(crate) async fn start(options: Options) -> Running {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let manager = runtime
        .spawn(async move { Manager::new(options).await })
        .await
        .unwrap()
        .unwrap();
    let stop = CancellationToken::new();
    Running {
        probes: manager.probes().unwrap(),
        task: runtime.spawn(manager.run(stop.clone())),
        stop,
        runtime: Some(runtime),
    }
}

/// A manager that goes through the proxy of the bed.
pub(crate) async fn manager(bed: &Bed, identity: &str) -> Running {
    start(options(bed.control_config(), identity)).await
}

/// As [`manager`], and soon replaced when it dies.
pub(crate) async fn mortal(bed: &Bed, identity: &str) -> Running {
    let mut options = options(bed.control_config(), identity);
    options.timings = quick();
    start(options).await
}

/// Waits until the kinds of the platform are served.
pub(crate) async fn kinds(control: &Cluster) -> anyhow::Result<()> {
    let served = |object: &kube::api::DynamicObject| {
        choreo_testkit::conditions(object)
            .iter()
            .any(|(type_, status, ..)| type_ == "Established" && status == "True")
    };
    for name in ["organizations", "dataplanes", "releases", "components"] {
        let name = format!("{name}.openchoreo.dev");
        control
            .wait_for("CustomResourceDefinition", "", &name, "established", served)
            .await?;
    }
    Ok(())
}

/// Applies the greeter to an organization.
pub(crate) async fn apply_greeter(control: &Cluster, organization: &str) -> anyhow::Result<()> {
    for yaml in [GITHUB, GREETER] {
        let place = format!("metadata:\n  namespace: {organization}\n  name:");
        let yaml = yaml.replace("metadata:\n  name:", &place);
        control.apply_yaml(&yaml).await?;
    }
    Ok(())
}

/// The cell of the organization's default project in development.
pub(crate) fn cell(organization: &str) -> String {
    choreo_api::names::cell_namespace(organization, "default", "development")
}
