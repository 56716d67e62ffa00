//! `choreo manager` as a cluster runs it: processes, signals, and what they log.

use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use choreo_testkit::{Bed, KUBECONFIG, TOKENS};
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, follow, program};

const ORGANIZATION: &str = "process";
const LEASE: &str = "process-manager";
const LEASE_SECONDS: u64 = 3;

struct Manager {
    child: Child,
    log: Receiver<String>,
    identity: String,
}

impl Manager {
    /// Starts one, and waits until it says who it is.
    fn start(kubeconfig: &std::path::Path) -> Self {
        let mut child = program()
            .args([
                "manager",
                "--probes",
                "127.0.0.1:0",
                "--no-defaults",
                "--lease",
                LEASE,
            ])
            .args(["--lease-duration", &LEASE_SECONDS.to_string(), "--kubeconfig"])
            .arg(kubeconfig)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = follow(child.stderr.take().unwrap());
        let mut manager = Self {
            child,
            log,
            identity: String::new(),
        };
        let started = manager.said(|line| line["message"] == "manager started");
        manager.identity = started["identity"].as_str().unwrap().to_owned();
        manager
    }

    /// The next line of the log of which `wanted` is true. Every line must be JSON.
    #[track_caller]
    fn said(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self
                .log
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    let line: Value =
                        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it is not in the log"),
                Err(mpsc::RecvTimeoutError::Disconnected) => panic!("it has ended"),
            }
        }
    }

    fn signal(&self, name: &str) {
        let status = std::process::Command::new("kill")
            .args([format!("-{name}"), self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end.
    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file with the kubeconfig of the bed's control plane.
fn kubeconfig(bed: &Bed, folder: &TempDir) -> std::path::PathBuf {
    if let Some(path) = std::env::var_os(KUBECONFIG) {
        return path.into();
    }
    let path = folder.path().join("kubeconfig");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {
            "server": bed.direct_config().cluster_url.to_string().trim_end_matches('/'),
            "certificate-authority-data": STANDARD.encode(bed.authority()),
        }}],
        "users": [{"name": "u", "user": {"token": TOKENS[0]}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

async fn holder(bed: &Bed, identity: &str) -> anyhow::Result<()> {
    bed.control
        .wait_for("Lease", "openchoreo-system", LEASE, "held", |lease| {
            lease.data["spec"]["holderIdentity"] == identity
        })
        .await?;
    Ok(())
}

/// Asks for an image, and waits until the data plane has it.
async fn roll(bed: &Bed, tag: &str) -> anyhow::Result<()> {
    let image = format!("example.com/greeter:{tag}");
    let patch = json!({"spec": {"containers": {"main": {"image": image}}}});
    bed.control
        .merge("Workload", ORGANIZATION, "greeter", patch)
        .await?;
    let runs = |object: &DynamicObject| {
        object.data["spec"]["template"]["spec"]["containers"][0]["image"] == image.as_str()
    };
    let cell = choreo_api::names::cell_namespace(ORGANIZATION, "default", "development");
    bed.plane
        .wait_for("Deployment.apps", &cell, "greeter", "the new image", runs)
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_hands_over_when_it_is_asked_to_stop_and_is_replaced_when_it_is_killed() -> anyhow::Result<()> {
    let bed = Bed::start().await?;
    let folder = TempDir::new()?;
    let kubeconfig = kubeconfig(&bed, &folder);
    let _ = bed.control.delete("Lease", "openchoreo-system", LEASE).await;
    let mut first = Manager::start(&kubeconfig);
    holder(&bed, &first.identity).await?;
    for kind in ["organizations", "dataplanes", "releases", "components"] {
        let name = format!("{kind}.openchoreo.dev");
        let established = |object: &DynamicObject| {
            let all = choreo_testkit::conditions(object);
            all.iter()
                .any(|(type_, status, ..)| type_ == "Established" && status == "True")
        };
        bed.control
            .wait_for("CustomResourceDefinition", "", &name, "established", established)
            .await?;
    }
    bed.organization(ORGANIZATION).await?;
    bed.control
        .wait_ready("DataPlane", ORGANIZATION, "default")
        .await?;
    for yaml in [
        include_str!("../../../../examples/github.yaml"),
        include_str!("../../../../examples/greeter.yaml"),
    ] {
        let place = format!("metadata:\n  namespace: {ORGANIZATION}\n  name:");
        bed.control
            .apply_yaml(&yaml.replace("metadata:\n  name:", &place))
            .await?;
    }
    bed.control
        .wait_ready("Component", ORGANIZATION, "greeter")
        .await?;
    let mut second = Manager::start(&kubeconfig);
    second.said(|line| line["message"] == "standing by");

    // Asked to stop in the middle of a rollout: it ends well, and the next one has the lease at once.
    let patch = json!({"spec": {"containers": {"main": {"image": "example.com/greeter:term"}}}});
    bed.control
        .merge("Workload", ORGANIZATION, "greeter", patch)
        .await?;
    first.signal("TERM");
    let status = tokio::task::spawn_blocking(move || first.ended()).await?;
    assert!(status.success(), "{status}");
    let began = Instant::now();
    holder(&bed, &second.identity).await?;
    assert!(
        began.elapsed() < Duration::from_secs(LEASE_SECONDS),
        "it was not handed over"
    );
    roll(&bed, "term").await?;

    // Killed: its lease runs out, and nobody takes it before.
    let third = Manager::start(&kubeconfig);
    third.said(|line| line["message"] == "standing by");
    second.signal("KILL");
    second.ended();
    roll(&bed, "kill").await?;
    holder(&bed, &third.identity).await?;

    // What goes wrong is logged with the object that it is about.
    bed.plane_proxy.rule(
        |asked| match asked.is_write() && asked.path.contains("/deployments/") {
            true => choreo_testkit::Harm::Refuse(500, None),
            false => choreo_testkit::Harm::None,
        },
    );
    let patch = json!({"spec": {"containers": {"main": {"image": "example.com/greeter:refused"}}}});
    bed.control
        .merge("Workload", ORGANIZATION, "greeter", patch)
        .await?;
    third.said(|line| {
        let span = &line["span"];
        span["controller"] == "release"
            && span["key"] == format!("{ORGANIZATION}/greeter-development").as_str()
    });
    bed.plane_proxy.heal();
    roll(&bed, "healed").await?;

    bed.control.delete("Organization", "", ORGANIZATION).await?;
    bed.control
        .wait_all("Release", ORGANIZATION, "no release", <[_]>::is_empty)
        .await?;
    bed.stop();
    Ok(())
}
