//! What files would change: against other files, and on a platform.

use std::fs;

use crate::support::{Said, Up, choreo, run_with_input};

const APP: &str = "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: app}
spec: {owner: {projectName: default}, type: Service}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: app}
spec:
  owner: {projectName: default, componentName: app}
  containers: {main: {image: \"registry.example.com/app:1\"}}
  endpoints: {http: {type: HTTP, port: 8080}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {name: app}
spec:
  owner: {projectName: default, componentName: app}
  workloadName: app
";

fn newer() -> String {
    APP.replace("app:1", "app:2")
}

#[test]
fn two_folders_differ_in_what_they_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("app.yaml"), text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (old, new) = (write("old", APP), write("new", &newer()));
    let same = choreo(["diff", "-f", &old, "--against", &old]);
    assert_eq!((same.status, same.out.as_str()), (0, ""), "{}", same.err);

    let said = choreo(["diff", "-f", &new, "--against", &old]);
    assert_eq!(said.status, 1, "{}", said.err);
    let changed: Vec<&str> = said
        .out
        .lines()
        .filter(|line| line.starts_with(['-', '+']) && !line.starts_with("---") && !line.starts_with("+++"))
        .collect();
    assert_eq!(
        changed,
        [
            "-      - image: registry.example.com/app:1",
            "+      - image: registry.example.com/app:2",
        ]
    );
    assert!(
        said.out
            .starts_with("--- Deployment dp-default-default-development"),
        "{}",
        said.out
    );

    // Another component: everything of it is new, and nothing else is told.
    let more = write("more", &format!("{APP}---{}", APP.replace("app", "other")));
    let said = choreo(["diff", "-f", &more, "--against", &old, "--name-only"]);
    assert_eq!(said.status, 1);
    assert!(
        said.out.lines().count() >= 3
            && said
                .out
                .lines()
                .all(|line| line.starts_with("+ ") && line.ends_with("/other")),
        "{}",
        said.out
    );
    // What cannot be told is no difference.
    choreo(["diff", "-f", "/nonexistent", "--against", &old]).fails(2);
    let wrong = write("wrong", &APP.replace("workloadName", "workload"));
    let error = choreo(["diff", "-f", &wrong, "--against", &old]).fails(2);
    assert!(
        error.contains("app.yaml:") && error.contains("nothing was compared"),
        "{error}"
    );
    choreo(["diff", "-f", &old]).fails(5);
}

fn diff(up: &Up, more: &[&str], manifests: &str) -> Said {
    run_with_input(up.command(["diff", "-f", "-"]).args(more), manifests)
}

#[test]
fn files_differ_from_what_is_on_the_platform() {
    let up = Up::in_memory();
    let all_new = diff(&up, &["--name-only"], APP);
    assert_eq!(all_new.status, 1, "{}", all_new.err);
    assert_eq!(
        all_new.out,
        "+ Component default/app\n+ Workload default/app\n+ Service default/app\n"
    );
    up.apply(APP).ok();
    up.choreo(["wait", "component/app", "--timeout=60s"]).ok();
    assert_eq!(diff(&up, &[], APP).ok(), "");
    assert_eq!(diff(&up, &["--rendered"], APP).ok(), "");

    let said = diff(&up, &[], &newer());
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(
        said.out
            .contains("-      image: registry.example.com/app:1\n+      image: registry.example.com/app:2"),
        "{}",
        said.out
    );
    let said = diff(&up, &["--rendered", "--name-only"], &newer());
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(
        said.out
            .starts_with("~ Deployment dp-default-default-development")
            && said.out.lines().count() == 1,
        "{}",
        said.out
    );
    // Nothing was written by looking.
    assert_eq!(diff(&up, &[], APP).ok(), "");

    // Values of Secrets are not shown, their changes are.
    let secret = |value: &str| {
        format!("{{apiVersion: v1, kind: Secret, metadata: {{name: s}}, stringData: {{token: {value}}}}}")
    };
    up.apply(&secret("first")).ok();
    let said = diff(&up, &[], &secret("second"));
    assert_eq!(said.status, 1, "{}", said.err);
    assert!(said.out.contains("+  token: (hidden, after)"), "{}", said.out);
    for value in ["second", "c2Vjb25k", "Zmlyc3Q"] {
        assert!(!said.out.contains(value), "{}", said.out);
    }
    let unknown = "{apiVersion: example.org/v1, kind: Thing, metadata: {name: a}}";
    assert!(diff(&up, &[], unknown).status > 1);
}
