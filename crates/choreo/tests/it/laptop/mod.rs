//! The whole platform with containers, as a developer on a laptop meets it: images run, URLs answer, limits limit, and what nobody
//! declared is refused.

mod declared;
mod failing;
mod lifetime;
mod shares;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use choreo_testkit::probe;
use serde_json::Value;

use crate::support::{PATIENCE, Up};

const PUBLIC: &str = "dev-default.openchoreoapis.localhost";
const ORGANIZATION: &str = "dev-default.openchoreoapis.internal";

/// The engine, with the probe's image in it; `None`, and a word about it, where tests may do without.
pub(crate) fn engine() -> Option<String> {
    let host = match std::env::var("CHOREO_TEST_CONTAINER_HOST") {
        Ok(host) => host,
        Err(_) if std::env::var_os("CI").is_some() => {
            panic!("CHOREO_TEST_CONTAINER_HOST is not set: in CI these tests are run")
        }
        Err(_) => {
            eprintln!(
                "NOT RUN: CHOREO_TEST_CONTAINER_HOST names no container engine (`cargo xtask test` starts one)"
            );
            return None;
        }
    };
    let mut load = Command::new("curl")
        .args([
            "--silent",
            "--fail-with-body",
            "--unix-socket",
            host.trim_start_matches("unix://"),
        ])
        .args([
            "-X",
            "POST",
            "-H",
            "Content-Type: application/x-tar",
            "--data-binary",
            "@-",
        ])
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
    assert!(
        load.wait().unwrap().success(),
        "the engine did not take the probe's image"
    );
    Some(host)
}

/// A platform whose containers are removed when the test is over, however it ends.
pub(crate) struct Laptop {
    up: Option<Up>,
    host: String,
    folder: tempfile::TempDir,
}

impl Laptop {
    pub(crate) fn start(host: String) -> Self {
        // Paths of sockets have a limit.
        let folder = tempfile::Builder::new().prefix("cl").tempdir_in("/tmp").unwrap();
        let mut laptop = Self {
            up: None,
            host,
            folder,
        };
        laptop.restart();
        laptop
    }

    fn restart(&mut self) {
        let engine = [("CONTAINER_HOST", self.host.as_str())];
        let up = Up::start_with(&self.data(), &["--containers", "engine"], &engine);
        self.up = Some(up);
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn up(&self) -> &Up {
        self.up.as_ref().unwrap()
    }

    /// The gateway's port for HTTP.
    pub(crate) fn port(&self) -> u16 {
        self.up().gateway_port()
    }

    fn get(&self, host: &str, path: &str) -> (u16, String) {
        get(self.port(), host, path)
    }

    /// As [`Laptop::get`], with a header.
    fn get_with(&self, host: &str, path: &str, header: &str) -> (u16, String) {
        ask(self.port(), host, path, &format!("{header}\r\n"))
    }

    /// Applies objects to the local data plane itself, past the platform.
    fn apply_below(&self, manifests: &str) {
        let file = self.folder.path().join("below.yaml");
        std::fs::write(&file, manifests).unwrap();
        self.choreo(&["--context", "local", "apply", "-f", file.to_str().unwrap()]);
    }

    /// Waits until the gateway answers with this status and says what the test wants.
    #[track_caller]
    fn until(&self, host: &str, path: &str, mut wanted: impl FnMut(u16, &str) -> bool) -> (u16, String) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, body) = self.get(host, path);
            if wanted(status, &body) {
                return (status, body);
            }
            assert!(
                Instant::now() < deadline,
                "{host}{path} still answers {status}: {body}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn choreo(&self, arguments: &[&str]) -> String {
        self.up().choreo(arguments).ok()
    }

    /// Waits until a command says something.
    #[track_caller]
    fn until_said(&self, arguments: &[&str], words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.choreo(arguments);
            if said.contains(words) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{arguments:?} does not say {words:?}: {said}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until the gateway has taken the last change of a route in.
    #[track_caller]
    fn until_accepted(&self, kind: &str, namespace: &str, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let arguments = [
                "--context",
                "local",
                "get",
                kind,
                name,
                "--namespace",
                namespace,
                "-o",
                "json",
            ];
            let found: Value = serde_json::from_str(&self.choreo(&arguments)).unwrap();
            let accepted = &found["status"]["parents"][0]["conditions"][0];
            if accepted["status"] == "True"
                && accepted["observedGeneration"] == found["metadata"]["generation"]
            {
                return;
            }
            assert!(Instant::now() < deadline, "{found:#}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The engine's ids of the platform's containers.
    fn containers(&self) -> Vec<String> {
        let instance = std::fs::read_to_string(self.data().join("node/instance")).unwrap();
        let filter = format!(
            "%7B%22label%22%3A%5B%22choreo.dev%2Finstance%3D{}%22%5D%7D",
            instance.trim()
        );
        let asked = Command::new("curl")
            .args([
                "--silent",
                "--globoff",
                "--unix-socket",
                self.host.trim_start_matches("unix://"),
            ])
            .arg(format!("http://engine/v1.41/containers/json?filters={filter}"))
            .output()
            .unwrap();
        let list: Value = serde_json::from_slice(&asked.stdout).unwrap();
        let ids = list
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["Id"].as_str().unwrap().to_owned());
        let mut ids: Vec<String> = ids.collect();
        ids.sort();
        ids
    }
}

impl Drop for Laptop {
    /// Containers outlive the process: what a test made is taken away through the objects that it was made from.
    fn drop(&mut self) {
        let Some(up) = &self.up else { return };
        let _ = up.choreo(["delete", "project", "--all", "--wait", "--timeout", "60s"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Path::new(&self.data()).exists() && !self.containers().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(100));
        }
        if !std::thread::panicking() {
            assert_eq!(
                self.containers(),
                [] as [String; 0],
                "containers were left behind"
            );
        }
    }
}

/// One request over a connection of its own.
pub(crate) fn get(port: u16, host: &str, path: &str) -> (u16, String) {
    ask(port, host, path, "")
}

/// As [`get`], with a header in the form `name: value`.
pub(crate) fn get_with(port: u16, host: &str, path: &str, header: &str) -> (u16, String) {
    ask(port, host, path, &format!("{header}\r\n"))
}

/// One request with more headers, each with its line's end.
fn ask(port: u16, host: &str, path: &str, headers: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\n{headers}connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_owned())
}

/// A service of the probe: `serve` with a name, and whatever else the manifest says.
fn service(project: &str, name: &str, levels: &str, class: &str, connections: &str) -> String {
    let image = probe::IMAGE;
    format!(
        "apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: {name}, namespace: default}}
spec: {{owner: {{projectName: {project}}}, type: Service}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: {name}, namespace: default}}
spec:
  owner: {{projectName: {project}, componentName: {name}}}
  containers: {{main: {{image: '{image}', args: [serve, --port, '8080', --name, {name}]}}}}
  endpoints: {{http: {{type: HTTP, port: 8080}}}}
  connections: {connections}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {{name: {name}, namespace: default}}
spec:
  owner: {{projectName: {project}, componentName: {name}}}
  workloadName: {name}
  apis: {{http: {{type: HTTP, className: {class}, rest: {{backend: {{port: 8080, basePath: /}}, exposeLevels: [{levels}]}}}}}}
"
    )
}
