//! `choreo up` with containers: the process is killed, and the next one takes over.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Up;

/// The engine, or a word that there is none.
fn engine() -> Option<String> {
    match std::env::var("CHOREO_TEST_CONTAINER_HOST") {
        Ok(host) => Some(host),
        Err(_) if std::env::var_os("CI").is_some() => {
            panic!("CHOREO_TEST_CONTAINER_HOST is not set: in CI these tests are run")
        }
        Err(_) => {
            eprintln!(
                "NOT RUN: CHOREO_TEST_CONTAINER_HOST names no container engine (`cargo xtask test` starts one)"
            );
            None
        }
    }
}

/// An answer of the engine.
fn ask(host: &str, path: &str) -> Value {
    let socket = host.trim_start_matches("unix://");
    let output = Command::new("curl")
        .args([
            "--silent",
            "--globoff",
            "--unix-socket",
            socket,
            &format!("http://engine/v1.41{path}"),
        ])
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The ids of the containers of an installation, by their names.
fn containers(host: &str, up: &Up) -> Vec<(String, String)> {
    let instance = std::fs::read_to_string(up.folder().join("node/instance")).unwrap();
    let filter = format!(
        "%7B%22label%22%3A%5B%22choreo.dev%2Finstance%3D{}%22%5D%7D",
        instance.trim()
    );
    let list = ask(host, &format!("/containers/json?all=true&filters={filter}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = list
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| (text(&container["Names"][0]), text(&container["Id"])))
        .collect();
    all.sort();
    all
}

fn apply_pod(up: &Up, name: &str, image: &str) {
    let file = up.folder().join(format!("{name}.yaml"));
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {{name: main, image: '{image}', imagePullPolicy: Never, args: [pause]}}\n"
    );
    std::fs::write(&file, pod).unwrap();
    up.choreo(["--context", "local", "apply", "-f", file.to_str().unwrap()])
        .ok();
}

fn pod(up: &Up, name: &str) -> Value {
    let said = up.choreo([
        "--context",
        "local",
        "get",
        "pod",
        name,
        "--namespace",
        "default",
        "-o",
        "json",
    ]);
    serde_json::from_str(&said.ok()).unwrap_or_default()
}

#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + crate::support::PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_platform_that_was_killed_finds_its_containers_again() {
    let Some(host) = engine() else { return };
    let temporary = tempfile::Builder::new().prefix("cu").tempdir_in("/tmp").unwrap();
    let folder = temporary.path().join("data");
    let start = |more: &[&str]| {
        let arguments: Vec<&str> = ["--containers", "engine"]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        Up::start_with(&folder, &arguments, &[("CONTAINER_HOST", &host)])
    };
    let up = start(&[]);
    assert!(
        up.banner
            .iter()
            .any(|line| line.contains("Pods run as containers of ")),
        "{:?}",
        up.banner
    );
    // Nobody waits for an image that can only be here, and is not.
    let began = Instant::now();
    let said = up
        .choreo(["run", "localhost/not-there:1", "--name", "gone"])
        .fails(1);
    assert!(
        said.contains("there is no image localhost/not-there:1") && said.contains("docker build -t"),
        "{said}"
    );
    assert!(began.elapsed() < Duration::from_secs(30));
    // And nothing was made for it.
    up.choreo(["get", "component", "gone"]).fails(4);
    // Its sandbox brings the one image that is certainly there: our own.
    apply_pod(&up, "seed", "localhost/not-there:1");
    until("the reason of the first Pod", || {
        let waits = pod(&up, "seed");
        waits["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ErrImageNeverPull"
            && waits["status"]["podIP"].is_string()
    });
    let images = ask(&host, "/images/json");
    let mut names = images
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
    let image = names
        .find(|name| {
            name.as_str()
                .is_some_and(|name| name.starts_with("localhost/choreo-relay:"))
        })
        .unwrap();
    apply_pod(&up, "runs", image.as_str().unwrap());
    until("the second Pod", || {
        pod(&up, "runs")["status"]["phase"] == "Running"
    });
    let (before, uid) = (
        containers(&host, &up),
        pod(&up, "runs")["metadata"]["uid"].clone(),
    );
    assert_eq!(before.len(), 4, "{before:?}");
    up.kill();

    let up = start(&[]);
    until("the Pod's status", || {
        pod(&up, "runs")["status"]["phase"] == "Running"
    });
    apply_pod(&up, "later", image.as_str().unwrap());
    until("a Pod of the new process", || {
        pod(&up, "later")["status"]["phase"] == "Running"
    });
    let after = containers(&host, &up);
    assert!(
        before.iter().all(|known| after.contains(known)),
        "{before:?} {after:?}"
    );
    let same = pod(&up, "runs");
    assert_eq!(
        (
            &same["metadata"]["uid"],
            &same["status"]["containerStatuses"][0]["restartCount"]
        ),
        (&uid, &0.into())
    );
    up.kill();

    // With its objects in memory, it knows nothing of them: they are nobody's any longer, and what it makes itself goes with it.
    let up = start(&["--in-memory"]);
    apply_pod(&up, "brief", image.as_str().unwrap());
    until("a Pod that is not kept", || {
        pod(&up, "brief")["status"]["phase"] == "Running"
    });
    let names = containers(&host, &up);
    assert!(
        names.iter().all(|(name, _)| !name.contains("_runs_")),
        "{names:?}"
    );
    let instance = folder.join("node/instance");
    assert!(instance.is_file());
    up.stop();
    let up = Up::start(&folder, &["--in-memory"]);
    assert_eq!(containers(&host, &up), []);
}

#[test]
fn without_an_engine_it_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = choreo_without_engine(&[
        "up",
        "--api-port",
        "0",
        "--http-port",
        "0",
        "--https-port",
        "0",
        "--containers",
        "engine",
        "--data-dir",
        folder.path().join("a").to_str().unwrap(),
    ]);
    assert!(
        !said.out.contains("API server"),
        "nothing has begun: {}",
        said.out
    );
    let error = said.fails(1);
    assert!(
        error.contains("no container engine answers") && error.contains("--containers simulated"),
        "{error}"
    );
}

fn choreo_without_engine(arguments: &[&str]) -> crate::support::Said {
    let mut command = crate::support::program();
    command
        .args(arguments)
        .env("CONTAINER_HOST", "unix:///nonexistent/engine.sock")
        .env("PATH", "/nonexistent");
    for variable in ["DOCKER_HOST", "XDG_RUNTIME_DIR", "HOME"] {
        command.env_remove(variable);
    }
    crate::support::run(&mut command)
}
