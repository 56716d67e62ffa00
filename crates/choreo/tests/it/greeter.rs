//! A service from its manifest to the objects in its cell, and away again.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{Up, choreo, fixture, snapshot};

const GITHUB: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: ConfigurationGroup
metadata: {name: github}
spec:
  configurations:
    - key: repository
      values: [{value: https://github.com/example/greetings}]
    - key: pat
      values: [{value: not-a-secret}]
";

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The objects of all Releases, by Release.
fn released(up: &Up) -> BTreeMap<String, Vec<Value>> {
    let releases = json(&up.choreo(["get", "releases", "-o", "json"]).ok());
    let objects = |release: &Value| {
        let resources = release["spec"]["resources"].as_array().unwrap();
        resources
            .iter()
            .map(|resource| resource["object"].clone())
            .collect()
    };
    let items = releases["items"].as_array().unwrap();
    items
        .iter()
        .map(|release| {
            (
                release["metadata"]["name"].as_str().unwrap().to_owned(),
                objects(release),
            )
        })
        .collect()
}

#[test]
fn it_waits_runs_and_goes() {
    let up = Up::in_memory();
    let manifest = fixture("greeter.yaml");

    // It waits for the configuration that is missing, and says so.
    up.choreo(["apply", "-f", &manifest]).ok();
    let wait = [
        "wait",
        "component/greeter-service",
        "--for=condition=Ready",
        "--timeout",
    ];
    up.choreo([
        "wait",
        "servicebinding/greeter-service-development",
        "--for=condition=Ready=False",
        "--timeout=60s",
    ])
    .ok();
    let late = up.choreo(wait.iter().chain(&["3s"])).fails(3);
    assert!(late.contains("ConfigurationGroup \"github\" not found"), "{late}");
    snapshot!(
        "tree-waiting",
        up.choreo(["tree", "component/greeter-service"]).ok(),
        Some(&up)
    );

    // Once it is there, the component becomes ready.
    up.apply(GITHUB).ok();
    up.choreo(wait.iter().chain(&["60s"])).ok();
    let tree = up.choreo(["tree", "component/greeter-service"]).ok();
    snapshot!("tree-ready", tree, Some(&up));
    assert_eq!(
        tree.matches("http://").count() + tree.matches("https://").count(),
        2,
        "{tree}"
    );
    // What runs is what was rendered: a Pod of the image, marked as simulated.
    let pods = json(
        &up.choreo(["--context", "local", "get", "pods", "-A", "-o", "json"])
            .ok(),
    );
    let pod = &pods["items"][0];
    assert_eq!(
        pod["spec"]["containers"][0]["image"],
        "ghcr.io/openchoreo/samples/greeter-service:latest"
    );
    assert_eq!(pod["metadata"]["annotations"]["openchoreo.dev/simulated"], "true");

    // Offline rendering of the same files gives the same bytes.
    let group = up.folder().join("github.yaml");
    std::fs::write(&group, GITHUB).unwrap();
    let files = ["-f", &manifest, "-f", group.to_str().unwrap()];
    let rendered = json(&choreo(["render", "-o", "json"].iter().chain(&files)).ok());
    let on_server: Vec<Value> = released(&up).into_values().flatten().collect();
    let text = |objects: &[Value]| serde_json::to_string_pretty(objects).unwrap();
    assert_eq!(text(rendered.as_array().unwrap()), text(&on_server));

    // Deleting the component removes everything of it, in both planes.
    up.choreo(["delete", "component/greeter-service", "--timeout=60s"])
        .ok();
    for kind in [
        "workloads",
        "services",
        "deployableartifacts",
        "servicebindings",
        "endpoints",
    ] {
        let mut left = up.choreo(["get", kind, "-o", "name"]).ok();
        // The collector works behind the deletion.
        let deadline = std::time::Instant::now() + crate::support::PATIENCE;
        while !left.is_empty() && std::time::Instant::now() < deadline {
            left = up.choreo(["get", kind, "-o", "name"]).ok();
        }
        assert_eq!(left, "", "{kind}");
    }
    up.choreo([
        "wait",
        "release/greeter-service-development",
        "--for=delete",
        "--timeout=60s",
    ])
    .ok();
    let deployments = up
        .choreo([
            "--context",
            "local",
            "get",
            "deployments.apps",
            "-A",
            "-o",
            "name",
        ])
        .ok();
    assert_eq!(deployments, "");
}

#[test]
fn deleting_the_project_removes_the_cell() {
    let up = Up::in_memory();
    up.apply(GITHUB).ok();
    up.choreo(["apply", "-f", &fixture("greeter.yaml")]).ok();
    up.choreo(["wait", "component/greeter-service", "--timeout=60s"])
        .ok();
    let cells = up.choreo([
        "--context",
        "local",
        "get",
        "namespaces",
        "-l",
        "openchoreo.dev/project=default",
        "-o",
        "name",
    ]);
    let cells = cells.ok();
    assert_eq!(cells.lines().count(), 1, "{cells}");
    up.choreo(["delete", "project/default", "--timeout=60s"]).ok();
    up.choreo([
        "wait",
        "component/greeter-service",
        "--for=delete",
        "--timeout=60s",
    ])
    .ok();
    let name = cells.trim().trim_start_matches("namespace/");
    up.choreo([
        "--context",
        "local",
        "wait",
        &format!("namespace/{name}"),
        "--for=delete",
        "--timeout=60s",
    ])
    .ok();
    assert!(released(&up).is_empty());
}
