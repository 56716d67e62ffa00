//! The container engine that tests run containers with: Podman, with storage, networks and socket of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// Names the socket to the tests; somebody else's engine is used if it is set already.
pub(crate) const HOST: &str = "CHOREO_TEST_CONTAINER_HOST";

/// What Debian's packages bring everything with that tests need.
const PACKAGES: [&str; 5] = ["podman", "netavark", "aardvark-dns", "runc", "iptables"];

/// How long the service may take to make its socket.
const START: Duration = Duration::from_secs(30);

/// An engine for the time of a test run.
pub(crate) struct Engine {
    host: String,
    /// Ends with it, if it is our own.
    _own: Option<Own>,
}

struct Own {
    service: Child,
    folder: PathBuf,
}

impl Engine {
    /// Starts Podman, which CI installs if it is not there.
    ///
    /// # Errors
    /// When there is none, or it does not start.
    pub(crate) fn start() -> Result<Self> {
        if let Ok(host) = std::env::var(HOST) {
            return Ok(Self { host, _own: None });
        }
        if !is_on_path("podman") {
            if std::env::var_os("CI").is_none() {
                bail!("podman is not installed");
            }
            install()?;
        }
        // Short: the paths of sockets have a limit.
        let folder = std::env::temp_dir().join(format!("choreo-podman-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let socket = folder.join("podman.sock");
        let service = podman(&folder)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()))
            .stdin(Stdio::null())
            .spawn()
            .context("starting podman")?;
        let mut own = Own { service, folder };
        let since = Instant::now();
        while !socket.exists() {
            if let Some(status) = own.service.try_wait()? {
                bail!("`podman system service` ended at once ({status})");
            }
            if since.elapsed() > START {
                bail!("podman made no socket within {} s", START.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(Self {
            host: format!("unix://{}", socket.display()),
            _own: Some(own),
        })
    }

    /// The socket.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // Tests leave nothing; those that failed may have.
        let _ = podman(&self.folder)
            .args(["rm", "--all", "--force", "--time", "0"])
            .status();
        let _ = podman(&self.folder)
            .args(["network", "prune", "--force"])
            .stdout(Stdio::null())
            .status();
        let _ = self.service.kill();
        let _ = self.service.wait();
        // What watches over commands that were run in containers stays for some minutes otherwise.
        for process in processes_of(&self.folder) {
            let _ = Command::new("kill").args(["-KILL", &process]).status();
        }
        let mounts = self.folder.join("root/overlay");
        let _ = Command::new("umount").arg("-q").arg(&mounts).status();
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("note: {} was not removed: {error}", self.folder.display());
        }
    }
}

/// The processes that have this folder in their command line: nobody but our Podman's own do.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.display().to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let named = all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&folder)
    });
    let ids = named.map(|entry| entry.file_name().to_string_lossy().into_owned());
    ids.filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

/// Podman apart from what else is on this machine.
fn podman(folder: &Path) -> Command {
    let mut command = Command::new("podman");
    command
        .arg("--root")
        .arg(folder.join("root"))
        .arg("--runroot")
        .arg(folder.join("run"))
        .arg("--network-config-dir")
        .arg(folder.join("networks"))
        // There may be no systemd to ask.
        .args(["--cgroup-manager", "cgroupfs", "--log-level", "error"])
        .env_remove("CONTAINER_HOST")
        .env_remove("DOCKER_HOST");
    if is_on_path("runc") {
        command.args(["--runtime", "runc"]);
    }
    command
}

fn install() -> Result<()> {
    let run = |arguments: &[&str]| {
        let status = Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()
            .context("starting apt-get")?;
        if !status.success() {
            bail!("`apt-get {}` failed ({status})", arguments.join(" "));
        }
        Ok(())
    };
    run(&["update", "-q"])?;
    let mut arguments = vec!["install", "-y", "-q", "--no-install-recommends"];
    arguments.extend(PACKAGES);
    run(&arguments)
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(system)
        .any(|folder| folder.join(program).is_file())
}
