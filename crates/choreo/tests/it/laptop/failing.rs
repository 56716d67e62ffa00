//! What goes wrong with an image, as the platform tells it, and that its URL says so.

use choreo_testkit::probe;

use super::{Laptop, PUBLIC, engine, service};

/// A service whose container is not what [`service`] makes of it.
fn broken(name: &str, container: &str) -> String {
    let good = format!(
        "{{image: '{}', args: [serve, --port, '8080', --name, {name}]}}",
        probe::IMAGE
    );
    let made = service("default", name, "Public", "default", "{}");
    assert!(made.contains(&good));
    made.replace(&good, container)
}

#[test]
fn what_does_not_run_says_why() {
    let Some(host) = engine() else { return };
    let laptop = Laptop::start(host);
    let image = probe::IMAGE;
    let manifests = [
        // Nothing listens on port 1.
        broken("absent", "{image: '127.0.0.1:1/team/app:1'}"),
        broken("crashing", &format!("{{image: '{image}', args: [exit, '3']}}")),
        broken(
            "unready",
            &format!(
                "{{image: '{image}', args: [serve, --port, '8080', --unready], probes: {{readinessProbe: {{httpGet: {{path: /ready, port: 8080}}, periodSeconds: 1}}}}}}"
            ),
        ),
    ];
    laptop.up().apply(&manifests.join("---\n")).ok();
    for (name, words) in [
        ("absent", "Back-off pulling image"),
        ("crashing", "restarting failed container"),
        ("unready", "0 of 1 replicas are available"),
    ] {
        laptop.until_said(&["tree", &format!("component/{name}")], words);
        let path = format!("/default/{name}");
        laptop.until(PUBLIC, &path, |status, body| {
            status == 503 && body.contains("no healthy upstream")
        });
    }
    // The last run is over, and what it wrote is still there.
    let log = laptop.choreo(&["logs", "crashing", "--previous"]);
    assert!(log.contains("out: ending with 3"), "{log}");
}
