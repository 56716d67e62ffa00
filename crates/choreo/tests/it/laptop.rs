//! The whole platform with containers, as a developer on a laptop meets it: images run, URLs answer, limits limit, and what nobody
//! declared is refused.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
    get_with(port, host, path, "")
}

/// As [`get`], with a header in the form `name: value`.
pub(crate) fn get_with(port: u16, host: &str, path: &str, header: &str) -> (u16, String) {
    let more = if header.is_empty() {
        String::new()
    } else {
        format!("{header}\r\n")
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}connection: close\r\n\r\n"
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

#[test]
fn an_image_runs_and_its_url_answers_until_the_laptop_is_closed_and_opened_again() {
    let Some(host) = engine() else { return };
    let mut laptop = Laptop::start(host);
    let said = laptop.choreo(&[
        "run",
        probe::IMAGE,
        "--name",
        "web",
        "--port",
        "8080",
        "--public",
        "--yes",
        "--",
        "serve",
        "--port",
        "8080",
        "--name",
        "web",
    ]);
    let url = said.lines().last().unwrap();
    assert_eq!(url, format!("http://{PUBLIC}:{}/default/web", laptop.port()));
    // The address is there before the gateway's last endpoint.
    let (_, body) = laptop.until(PUBLIC, "/default/web", |status, _| status == 200);
    assert_eq!(body, "web");

    // What runs can be looked into.
    assert!(laptop.choreo(&["logs", "web"]).contains("web listens on 8080"));
    let exec = laptop.up().choreo(["exec", "web", "--", "/probe", "exit", "7"]);
    assert_eq!((exec.status, exec.out.as_str()), (7, "out: ending with 7\n"));
    assert!(laptop.choreo(&["top", "web"]).contains("web"));

    // None, and again two.
    laptop.choreo(&["scale", "web", "0", "-e", "development"]);
    laptop.until(PUBLIC, "/default/web", |status, body| {
        status == 503 && body.contains("no healthy upstream")
    });
    laptop.choreo(&["scale", "web", "2", "-e", "development"]);
    laptop.until(PUBLIC, "/default/web", |status, _| status == 200);
    let mut seen = std::collections::BTreeSet::new();
    laptop.until(PUBLIC, "/default/web/id", |_, id| {
        seen.insert(id.to_owned());
        seen.len() == 2
    });

    // New pods, one after the other, while somebody calls.
    let (stop, port) = (Arc::new(AtomicBool::new(false)), laptop.port());
    let caller = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut answers = std::collections::BTreeMap::<u16, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                *answers.entry(get(port, PUBLIC, "/default/web").0).or_default() += 1;
            }
            answers
        }
    });
    laptop.choreo(&["restart", "web", "-e", "development"]);
    let old = seen;
    let mut new = std::collections::BTreeSet::new();
    laptop.until(PUBLIC, "/default/web/id", |status, id| {
        if status == 200 && !old.contains(id) {
            new.insert(id.to_owned());
        }
        new.len() == 2
    });
    stop.store(true, Ordering::Relaxed);
    let answers = caller.join().unwrap();
    assert!(answers.len() == 1 && answers[&200] > 10, "{answers:?}");

    // The process is killed; the containers are not.
    let two_run = || {
        laptop.choreo(&["tree", "component/web"]).matches('✓').count() > 5 && laptop.containers().len() == 5
    };
    let deadline = Instant::now() + PATIENCE;
    while !two_run() {
        assert!(Instant::now() < deadline, "{:?}", laptop.containers());
        std::thread::sleep(Duration::from_millis(100));
    }
    let before = laptop.containers();
    laptop.up.take().unwrap().kill();
    assert_eq!(laptop.containers(), before);
    laptop.restart();
    laptop.until(PUBLIC, "/default/web", |status, body| {
        (status, body) == (200, "web")
    });
    assert_eq!(laptop.containers(), before);
}

#[test]
fn what_is_declared_connects_and_nothing_else() {
    let Some(host) = engine() else { return };
    let laptop = Laptop::start(host);
    let to_back = "{back: {type: api, params: {componentName: back, endpoint: http}, inject: {env: [{name: BACK, value: '{{ .host }}:{{ .port }}'}]}}}";
    let manifests = [
        "apiVersion: openchoreo.dev/v1alpha1\nkind: Project\nmetadata: {name: other, namespace: default}\nspec: {deploymentPipelineRef: default}\n"
            .to_owned(),
        "apiVersion: openchoreo.dev/v1alpha1\nkind: APIClass\nmetadata: {name: limited, namespace: default}\nspec: {restPolicy: {defaults: {rateLimit: {requests: 3, window: 1h}}}}\n"
            .to_owned(),
        "apiVersion: openchoreo.dev/v1alpha1\nkind: APIClass\nmetadata: {name: known, namespace: default}\nspec: {restPolicy: {defaults: {authentication: {type: jwt, jwt: {jwks: 'http://127.0.0.1:1/jwks', issuer: 'http://issuer'}}}}}\n"
            .to_owned(),
        service("default", "front", "Public", "default", to_back),
        service("default", "back", "Organization", "default", "{}"),
        service("default", "few", "Public", "limited", "{}"),
        service("default", "closed", "Public", "known", "{}"),
        service("other", "stranger", "Public", "default", "{}"),
    ];
    laptop.up().apply(&manifests.join("---\n")).ok();
    laptop.until(PUBLIC, "/default/front", |status, _| status == 200);
    laptop.until(ORGANIZATION, "/default/back", |status, body| {
        (status, body) == (200, "back")
    });
    laptop.until(PUBLIC, "/other/stranger", |status, _| status == 200);
    // For the organization only.
    assert_eq!(laptop.get(PUBLIC, "/default/back").0, 404);

    // Within the cell, at the address that is injected.
    let (_, environment) = laptop.get(PUBLIC, "/default/front/env");
    let back = environment
        .lines()
        .find_map(|line| line.strip_prefix("BACK="))
        .unwrap()
        .to_owned();
    let (status, body) = laptop.until(PUBLIC, &format!("/default/front/call?{back}/"), |status, _| {
        status == 200
    });
    assert!(status == 200 && body.contains("back"), "{body}");

    // Out of another cell: neither the Service nor the gateway that nobody declared.
    for target in [
        format!("{back}/"),
        format!("{ORGANIZATION}:{}/default/back", laptop.port()),
    ] {
        let (status, body) = laptop.get(PUBLIC, &format!("/other/stranger/call?{target}"));
        assert!(status >= 500, "{target}: {status} {body}");
    }

    // Three in an hour, and no fourth.
    laptop.until(PUBLIC, "/default/few", |status, _| status == 200 || status == 429);
    let answers: Vec<u16> = (0..4).map(|_| laptop.get(PUBLIC, "/default/few").0).collect();
    assert_eq!(*answers.last().unwrap(), 429, "{answers:?}");
    assert!(
        answers.iter().filter(|status| **status == 200).count() < 3,
        "{answers:?}"
    );

    // Nobody without a token.
    laptop.until(PUBLIC, "/default/closed", |status, _| status == 401);
}
