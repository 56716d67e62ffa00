//! Back to what ran before.

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Up};

fn app(image: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: app}}
spec: {{owner: {{projectName: default}}, type: Service}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: app}}
spec:
  owner: {{projectName: default, componentName: app}}
  containers: {{main: {{image: \"{image}\"}}}}
  endpoints: {{http: {{type: HTTP, port: 8080}}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {{name: app}}
spec:
  owner: {{projectName: default, componentName: app}}
  workloadName: app
"
    )
}

fn read(up: &Up, object: &str) -> Value {
    let said = up.choreo(["get", object, "-o", "json"]);
    serde_json::from_str(&said.out).unwrap_or_default()
}

/// Waits until the binding is ready at a revision that runs this image.
#[track_caller]
fn at_revision(up: &Up, revision: i64, image: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (binding, release) = (
            read(up, "servicebinding/app-development"),
            read(up, "release/app-development"),
        );
        let ready = binding["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True");
        let runs = release["spec"]["resources"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|resource| resource["object"]["kind"] == "Deployment")
            .any(|resource| {
                resource.pointer("/object/spec/template/spec/containers/0/image") == Some(&json!(image))
            });
        if ready && runs && binding["status"]["revision"] == revision {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "never at revision {revision}: {binding:#}"
        );
    }
}

#[test]
fn a_component_goes_back_and_stays_there_until_it_may_go_on() {
    let up = Up::in_memory();
    up.choreo(["rollback", "app", "-e", "development"]).fails(4);
    for (revision, image) in [
        (1, "registry.example.com/app:1"),
        (2, "registry.example.com/app:2"),
        (3, "registry.example.com/app:3"),
    ] {
        up.apply(&app(image)).ok();
        at_revision(&up, revision, image);
    }
    // Only saying it changes nothing.
    let said = up
        .choreo(["rollback", "app", "-e", "development", "--dry-run"])
        .ok();
    assert!(
        said.contains("from revision 3 back to revision 2") && said.contains("(dry run)"),
        "{said}"
    );
    at_revision(&up, 3, "registry.example.com/app:3");

    let said = up.choreo(["rollback", "app", "-e", "development"]).ok();
    assert!(said.contains("from revision 3 back to revision 2"), "{said}");
    at_revision(&up, 2, "registry.example.com/app:2");

    up.choreo(["rollback", "app", "-e", "development", "--to", "1"])
        .ok();
    at_revision(&up, 1, "registry.example.com/app:1");

    // A newer artifact does not replace it, until it may.
    up.apply(&app("registry.example.com/app:4")).ok();
    up.choreo(["rollback", "app", "-e", "development", "--unpin"])
        .ok();
    at_revision(&up, 4, "registry.example.com/app:4");
    let said = up
        .choreo(["rollback", "app", "-e", "development", "--unpin"])
        .ok();
    assert!(said.contains("is not pinned"), "{said}");

    let error = up
        .choreo(["rollback", "app", "-e", "development", "--to", "9"])
        .fails(4);
    assert!(
        error.contains("revision 9") && error.contains("1, 2, 3, 4"),
        "{error}"
    );
    let error = up.choreo(["rollback", "app", "-e", "production"]).fails(4);
    assert!(error.contains("it is in development"), "{error}");
}
