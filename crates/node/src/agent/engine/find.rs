//! Where the engine is.

use std::{env, path::PathBuf};

use super::DockerEngine;

/// Where engines usually listen, in the order in which they are tried. Where the environment names one, no other will do.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let named = ["CONTAINER_HOST", "DOCKER_HOST"]
        .into_iter()
        .filter_map(|name| env::var(name).ok())
        .filter_map(|value| value.strip_prefix("unix://").map(PathBuf::from));
    let named: Vec<PathBuf> = named.collect();
    if !named.is_empty() {
        return named;
    }
    let runtime = env::var("XDG_RUNTIME_DIR").map(PathBuf::from);
    let home = env::var("HOME").map(PathBuf::from);
    let of_user = runtime
        .iter()
        .flat_map(|dir| [dir.join("podman/podman.sock"), dir.join("docker.sock")])
        .chain(home.iter().map(|home| home.join(".docker/run/docker.sock")));
    let of_system = [
        "/run/podman/podman.sock",
        "/var/run/docker.sock",
        "/run/docker.sock",
    ]
    .map(PathBuf::from);
    let mut all: Vec<PathBuf> = Vec::new();
    for path in of_user.chain(of_system) {
        if !all.contains(&path) {
            all.push(path);
        }
    }
    all
}

/// The first engine that answers, or what each socket said. `wanted` is the only one tried if given.
pub(crate) async fn find(wanted: Option<&str>) -> std::result::Result<DockerEngine, Vec<(PathBuf, String)>> {
    let candidates = match wanted {
        Some(wanted) => vec![PathBuf::from(wanted.strip_prefix("unix://").unwrap_or(wanted))],
        None => sockets(),
    };
    let mut failed = Vec::new();
    for path in candidates {
        match DockerEngine::connect(&path.to_string_lossy()).await {
            Ok(engine) => return Ok(engine),
            Err(error) => failed.push((path, error)),
        }
    }
    Err(failed)
}
