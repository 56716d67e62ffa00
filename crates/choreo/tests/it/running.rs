//! From an image to what runs, and what can be done with that, on a platform whose pods are simulated.

use serde_json::Value;

use crate::support::{Up, choreo, snapshot};

const IMAGE: &str = "ghcr.io/example/greeter:1.0";

fn run<'a>(up: &Up, image: &'a str, more: &[&'a str]) -> crate::support::Said {
    up.choreo([&["run", image, "--timeout", "60s"], more].concat())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The Kubernetes Deployment in the data plane.
fn deployment(up: &Up) -> Value {
    let namespace = choreo_api::names::cell_namespace("default", "default", "development");
    let get = [
        "--context",
        "local",
        "-n",
        &namespace,
        "get",
        "deployments.apps",
        "greeter",
        "-o",
        "json",
    ];
    json(&up.choreo(get).ok())
}

#[test]
fn an_image_runs_is_changed_and_ends_with_its_address() {
    let up = Up::in_memory();
    let first = run(&up, IMAGE, &["--port", "9090", "--public"]);
    assert_eq!(first.status, 0, "{}", first.err);
    let address = format!(
        "http://dev-default.openchoreoapis.localhost:{}/default/greeter\n",
        up.gateway_port()
    );
    assert_eq!(first.out, address);
    for part in [
        "the last part of the image's name",
        "component.openchoreo.dev/greeter created",
        "greeter runs in development after",
        "are simulated, so nothing answers",
        "apt install podman",
    ] {
        assert!(first.err.contains(part), "no {part:?} in:\n{}", first.err);
    }
    let container = |up: &Up| deployment(up)["spec"]["template"]["spec"]["containers"][0].clone();
    assert_eq!(container(&up)["image"], IMAGE);

    let second = "ghcr.io/example/greeter:2.0";
    let said = run(
        &up,
        second,
        &[
            "--port",
            "9090",
            "--public",
            "--env",
            "MODE=loud",
            "--",
            "--verbose",
        ],
    );
    assert_eq!(said.status, 0, "{}", said.err);
    assert!(
        said.err
            .contains(&format!("instead of {IMAGE}, which it has now")),
        "{}",
        said.err
    );
    assert!(
        said.err.contains("MODE") && !said.err.contains("loud"),
        "{}",
        said.err
    );
    assert_eq!(container(&up)["image"], second);
    assert_eq!(container(&up)["args"], serde_json::json!(["--verbose"]));

    let again = run(
        &up,
        second,
        &[
            "--port",
            "9090",
            "--public",
            "--env",
            "MODE=loud",
            "--",
            "--verbose",
        ],
    );
    assert!(
        again.err.contains("workload.openchoreo.dev/greeter unchanged"),
        "{}",
        again.err
    );

    let url = up.choreo(["open", "greeter", "--print"]).ok();
    assert_eq!(url, first.out);
    let err = up.choreo(["open", "greeter", "--endpoint", "x"]).fails(4);
    assert!(err.contains("it has no endpoint x; it has: http"), "{err}");
}

#[test]
fn pods_are_scaled_and_restarted_and_stay_so() {
    let up = Up::in_memory();
    assert_eq!(run(&up, IMAGE, &[]).status, 0);
    up.choreo(["scale", "greeter", "3", "--wait", "--timeout", "60s"])
        .ok();
    assert_eq!(deployment(&up)["spec"]["replicas"], 3);

    let template = |up: &Up| deployment(up)["spec"]["template"].clone();
    let before = template(&up);
    up.choreo(["restart", "greeter", "--wait", "--timeout", "60s"])
        .ok();
    let after = template(&up);
    let time = after["metadata"]["annotations"]["openchoreo.dev/restarted-at"].as_str();
    assert!(time.is_some_and(|time| time.ends_with('Z')), "{after}");
    assert_eq!(before["spec"], after["spec"]);
    assert_eq!(deployment(&up)["spec"]["replicas"], 3);
    assert_eq!(deployment(&up)["status"]["readyReplicas"], 3);
    let revisions = up.choreo(["get", "deployments", "-o", "name"]).ok();
    assert_eq!(revisions.lines().count(), 3, "{revisions}");

    up.choreo(["scale", "greeter", "--reset", "--wait", "--timeout", "60s"])
        .ok();
    assert_eq!(deployment(&up)["spec"]["replicas"], 1);
    assert_eq!(template(&up)["metadata"], after["metadata"]);
}

#[test]
fn simulated_pods_say_what_to_install() {
    let up = Up::in_memory();
    assert_eq!(run(&up, IMAGE, &["--port", "9090"]).status, 0);
    for arguments in [
        &["logs", "greeter"][..],
        &["logs", "greeter", "-f"],
        &["exec", "greeter", "--", "ls"],
        &["port-forward", "greeter", "0:9090"],
        &["top", "greeter"],
    ] {
        let err = up.choreo(arguments).fails(1);
        assert!(
            err.contains("the pods of greeter in development are simulated")
                && err.contains("apt install podman"),
            "{arguments:?}: {err}"
        );
    }
    let doctor = up.choreo(["doctor"]).ok();
    assert!(
        doctor.contains("This machine: pods of the local data plane are simulated"),
        "{doctor}"
    );
    let err = up.choreo(["open", "greeter"]).fails(4);
    assert!(
        err.contains("`choreo port-forward greeter PORT` reaches it without"),
        "{err}"
    );
}

#[test]
fn what_is_taken_or_makes_no_sense_is_refused() {
    let up = Up::in_memory();
    up.apply(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: report}
spec: {owner: {projectName: default}, type: ScheduledTask}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: greeter}
spec: {owner: {projectName: default}, type: Service}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: greeter}
spec: {owner: {projectName: default, componentName: greeter}, containers: {main: {image: \"a:1\"}}}
",
    )
    .ok();
    let err = run(&up, "report:1", &[]).fails(1);
    assert!(
        err.contains("the name report is taken") && err.contains("of type ScheduledTask"),
        "{err}"
    );
    // Made from a file: what the file says is not taken over unasked.
    let err = run(&up, "a:2", &["--name", "greeter"]).fails(1);
    assert!(err.contains("take these fields over with --force"), "{err}");
    run(&up, "a:2", &["--name", "greeter", "--force"]).ok();
    let err = run(&up, IMAGE, &["--project", "nowhere"]).fails(4);
    assert!(
        err.contains("there is no project nowhere in organization default"),
        "{err}"
    );
    let err = run(&up, IMAGE, &["--name", "Greeter_1"]).fails(2);
    assert!(
        err.contains("`Greeter_1` cannot be the name of a component"),
        "{err}"
    );
}

#[test]
fn a_dry_run_needs_no_server() {
    let said = choreo([
        "run",
        IMAGE,
        "--port",
        "9090",
        "--organization",
        "--env",
        "A=b=c",
        "--replicas",
        "2",
        "--dry-run",
        "--command",
        "--",
        "serve",
        "-v",
    ]);
    snapshot!("run-dry-run", said.ok(), None);
    let json = choreo(["run", IMAGE, "--dry-run", "-o", "json"]).ok();
    assert_eq!(self::json(&json)["items"].as_array().unwrap().len(), 3);
    let err = choreo(["run", "https://ghcr.io/a", "--dry-run"]).fails(2);
    assert!(err.contains("without the scheme"), "{err}");
    let err = choreo(["run", IMAGE, "--public", "--dry-run"]).fails(2);
    assert!(err.contains("--port"), "{err}");
}
