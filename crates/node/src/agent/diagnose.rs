//! What is missing on this machine for containers to run, and what to do about it.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use super::engine::{
    ContainerEngine, ContainerSpec, DockerEngine, EngineError, NetworkMode, NetworkSpec, Phase,
};
use super::{DEFAULT_POOL, engine, relay_image};

/// Something that is missing or wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What, in a few words.
    pub what: String,
    /// What was seen.
    pub why: String,
    /// The command or step that fixes it.
    pub fix: String,
}

impl Finding {
    fn new(what: &str, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

/// The command that installs Podman on this machine.
pub fn install_hint() -> &'static str {
    if cfg!(target_os = "macos") {
        return "containers of the local data plane need Linux: on macOS Pods are simulated (see docs/reference/local-data-plane.md)";
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is = |names: &[&str]| {
        let ids = release
            .lines()
            .filter(|line| line.starts_with("ID=") || line.starts_with("ID_LIKE="));
        ids.into_iter()
            .any(|line| names.iter().any(|name| line.contains(name)))
    };
    if is(&["debian", "ubuntu"]) {
        "apt install podman netavark aardvark-dns && systemctl enable --now podman.socket"
    } else if is(&["fedora", "rhel", "centos"]) {
        "dnf install podman && systemctl enable --now podman.socket"
    } else if is(&["arch"]) {
        "pacman -S podman && systemctl enable --now podman.socket"
    } else if is(&["suse"]) {
        "zypper install podman && systemctl enable --now podman.socket"
    } else if is(&["alpine"]) {
        "apk add podman && rc-service podman start"
    } else {
        "install Podman or Docker and start its socket"
    }
}

/// Finds out what keeps containers from running here, with the engine that an [`super::Agent`] would use. Nothing found means that a container was
/// run, and removed again.
pub async fn diagnose() -> Vec<Finding> {
    diagnose_engine(None).await
}

/// As [`diagnose`], with the engine behind this socket.
pub async fn diagnose_engine(engine: Option<&str>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in ["CONTAINER_HOST", "DOCKER_HOST"] {
        let value = std::env::var(name).unwrap_or_default();
        if !value.is_empty() && !value.starts_with("unix://") {
            findings.push(Finding::new(
                &format!("{name} is not a Unix socket"),
                format!("it is {value:?}; only engines on this machine can be used, by their Unix socket"),
                format!("export {name}=unix:///run/podman/podman.sock"),
            ));
        }
    }
    match engine::find(engine).await {
        Ok(engine) => findings.extend(try_out(&engine).await),
        Err(tried) => findings.push(no_engine(&tried)),
    }
    findings
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn no_engine(tried: &[(PathBuf, String)]) -> Finding {
    let refused = tried
        .iter()
        .find(|(_, why)| why.to_ascii_lowercase().contains("permission denied"));
    if let Some((path, why)) = refused {
        let group = if path.to_string_lossy().contains("docker") {
            "usermod -aG docker \"$USER\"   # then log in again; members of this group are as good as root"
        } else {
            "systemctl --user enable --now podman.socket   # an engine of your own"
        };
        return Finding::new(
            "no permission to use the container engine",
            format!("{}: {why}", path.display()),
            group,
        );
    }
    let seen = tried
        .iter()
        .map(|(path, why)| format!("{}: {why}", path.display()));
    let seen = seen.collect::<Vec<_>>().join("; ");
    if is_on_path("podman") {
        return Finding::new(
            "the Podman service does not run",
            format!("podman is installed, and nothing listens ({seen})"),
            "systemctl enable --now podman.socket   # without systemd: podman system service --time=0 &",
        );
    }
    if is_on_path("dockerd") {
        return Finding::new(
            "the Docker service does not run",
            format!("Docker is installed, and nothing listens ({seen})"),
            "systemctl enable --now docker",
        );
    }
    Finding::new("no container engine", seen, install_hint())
}

/// A network and a container, as cells have them, of the program that asks.
async fn try_out(engine: &DockerEngine) -> Vec<Finding> {
    let socket = engine.socket().display().to_string();
    let fix_by_words = |error: &EngineError| {
        let text = error.to_string().to_ascii_lowercase();
        if text.contains("netavark") || text.contains("cni") || text.contains("iptables") {
            "apt install netavark aardvark-dns iptables"
        } else if text.contains("runc") || text.contains("crun") || text.contains("oci runtime") {
            "apt install crun   # or runc"
        } else if text.contains("newuidmap") || text.contains("subuid") {
            "apt install uidmap && usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\""
        } else {
            "docs/reference/local-data-plane.md lists what hosts are known to lack; the engine's own log may say more"
        }
    };
    let name = format!("choreo-diagnose-{:08x}", rand::random::<u32>());
    let labels: BTreeMap<String, String> = [("choreo.dev/diagnose".to_owned(), name.clone())].into();
    let subnets = DEFAULT_POOL.subnets(24).into_iter().flatten().collect::<Vec<_>>();
    let mut outcome = Err(EngineError::Refused("no subnet was tried".to_owned()));
    // From the end: cells take them from the beginning.
    for subnet in subnets.into_iter().rev().take(16) {
        let spec = NetworkSpec {
            name: name.clone(),
            subnet,
            range: subnet,
            labels: labels.clone(),
        };
        outcome = engine.create_network(&spec).await;
        if outcome.is_ok() {
            break;
        }
    }
    if let Err(error) = outcome {
        let fix = fix_by_words(&error);
        return vec![Finding::new(
            "the engine makes no networks",
            format!("{socket}: {error}"),
            fix,
        )];
    }
    let finding = match run_one(engine, &name, labels).await {
        Ok(()) => None,
        Err(error) => {
            let fix = fix_by_words(&error);
            Some(Finding::new(
                "the engine starts no containers",
                format!("{socket}: {error}"),
                fix,
            ))
        }
    };
    let _ = engine.remove(&name).await;
    let _ = engine.remove_network(&name).await;
    finding.into_iter().collect()
}

async fn run_one(
    engine: &DockerEngine,
    name: &str,
    labels: BTreeMap<String, String>,
) -> Result<(), EngineError> {
    let failed = |error: io::Error| EngineError::Refused(error.to_string());
    let executable = std::env::current_exe().map_err(failed)?;
    let image = relay_image::ensure(engine, &executable, &std::env::temp_dir()).await?;
    let spec = ContainerSpec {
        name: name.to_owned(),
        image,
        labels,
        entrypoint: Some(vec![relay_image::PROGRAM.into()]),
        command: Some(vec!["pause".into()]),
        network: NetworkMode::Network(name.to_owned(), None),
        ..ContainerSpec::default()
    };
    let id = engine.create(&spec).await?;
    engine.start(&id).await?;
    // A program that cannot run ends at once.
    tokio::time::sleep(Duration::from_millis(200)).await;
    match engine.inspect(&id).await?.phase {
        Phase::Running => Ok(()),
        Phase::Created => Err(EngineError::Refused(
            "the container was started and does not run".to_owned(),
        )),
        Phase::Exited { code, error, .. } => Err(EngineError::Refused(format!(
            "the container ended at once with exit code {code} {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_depends_on_what_was_seen() {
        let refused = [(
            PathBuf::from("/var/run/docker.sock"),
            "Permission denied (os error 13)".to_owned(),
        )];
        let finding = no_engine(&refused);
        assert!(finding.fix.contains("usermod -aG docker"), "{finding:?}");
        assert!(!install_hint().is_empty());
    }

    #[tokio::test]
    async fn a_socket_that_is_not_there_is_a_finding() {
        let findings = diagnose_engine(Some("/nonexistent/podman.sock")).await;
        let finding = findings.last().unwrap();
        assert!(finding.why.contains("/nonexistent/podman.sock"), "{finding:?}");
    }
}
