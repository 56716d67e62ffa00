//! An unmodified `kubectl` against a running platform.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{Background, Said, Up, fixture, run};

/// The kubectl to use; none outside CI means that the test is skipped, in CI that it fails.
#[allow(clippy::print_stdout)] // A skipped test must not look like a passed one.
pub(crate) fn kubectl() -> Option<PathBuf> {
    let named = std::env::var_os("CHOREO_TEST_KUBECTL").map(PathBuf::from);
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path)
            .map(|folder| folder.join("kubectl"))
            .find(|file| file.is_file())
    };
    let found = named.or_else(on_path);
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none_or(|ci| ci != "true"),
            "there is no kubectl, which CI must have"
        );
        println!("skipped: there is no kubectl (CHOREO_TEST_KUBECTL or PATH)");
    }
    found
}

struct Kubectl<'a> {
    program: PathBuf,
    up: &'a Up,
}

impl Kubectl<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        // Its caches belong to the test, too.
        command
            .env("KUBECONFIG", self.up.kubeconfig())
            .env("HOME", self.up.folder())
            .args(arguments);
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Said {
        run(&mut self.command(arguments))
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], expected: &[&str]) -> String {
        let out = self.run(arguments).ok();
        for text in expected {
            assert!(
                out.contains(text),
                "kubectl {}: no {text:?} in\n{out}",
                arguments.join(" ")
            );
        }
        out
    }
}

#[test]
fn kubectl_does_what_it_does_with_any_cluster() {
    let Some(program) = kubectl() else { return };
    let up = Up::in_memory();
    let kubectl = Kubectl { program, up: &up };
    let greeter = fixture("greeter.yaml");

    kubectl.says(
        &["get", "crds"],
        &["components.openchoreo.dev", "releases.openchoreo.dev"],
    );
    // A workload in the control plane's own cluster comes down to Pods, which nobody runs there.
    kubectl.says(&["create", "deployment", "web", "--image=nginx"], &["created"]);
    kubectl.says(
        &[
            "wait",
            "--for=jsonpath={.status.replicas}=1",
            "deployment/web",
            "--timeout=30s",
        ],
        &["condition met"],
    );
    kubectl.says(&["get", "pods", "-l", "app=web"], &["Pending"]);
    kubectl.says(&["delete", "deployment", "web"], &["deleted"]);
    kubectl.says(
        &["api-resources"],
        &["components ", "openchoreo.dev/v1alpha1", "configmaps"],
    );
    kubectl.says(
        &["explain", "component.spec"],
        &["owner", "autoDeploy", "FIELDS:"],
    );
    kubectl.says(&["get", "ns", "default"], &["Active"]);

    // Both ways of applying, the same object.
    kubectl.says(
        &["apply", "--server-side", "-f", &greeter],
        &["component.openchoreo.dev/greeter-service serverside-applied"],
    );
    kubectl.says(
        &["apply", "--server-side", "--force-conflicts", "-f", &greeter],
        &["serverside-applied"],
    );
    let project = up.folder().join("project.yaml");
    std::fs::write(&project, crate::up::PROJECT).unwrap();
    let project = project.to_str().unwrap();
    kubectl.says(
        &["apply", "-f", project],
        &["project.openchoreo.dev/shop created"],
    );
    kubectl.says(
        &["apply", "-f", project],
        &["project.openchoreo.dev/shop unchanged"],
    );

    kubectl.says(
        &["get", "components", "-o", "wide"],
        &["NAME", "PROJECT", "greeter-service", "Service"],
    );
    kubectl.says(
        &["get", "choreo"],
        &[
            "component.openchoreo.dev/greeter-service",
            "environment.openchoreo.dev/production",
        ],
    );
    kubectl.says(
        &["describe", "component", "greeter-service"],
        &["Name:", "greeter-service", "Conditions:", "Events:"],
    );

    // A watch sees a change that comes after it.
    let watch = Background::start(&mut kubectl.command(&["get", "projects", "-w", "--output-watch-events"]));
    watch.line_with("shop");
    let patch = r#"{"metadata":{"labels":{"tier":"gold"}}}"#;
    kubectl.says(
        &["patch", "project", "shop", "--type=merge", "-p", patch],
        &["patched"],
    );
    watch.line_with("MODIFIED");
    kubectl.says(
        &["get", "projects", "-l", "tier=gold", "-o", "name"],
        &["project.openchoreo.dev/shop"],
    );
    kubectl.says(
        &[
            "patch",
            "project",
            "shop",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/metadata/labels/tier"}]"#,
        ],
        &["patched"],
    );

    // A mistake is refused with field and reason, and changes nothing.
    let refused = kubectl.run(&[
        "patch",
        "component",
        "greeter-service",
        "--type=merge",
        "-p",
        r#"{"spec":{"owner":{"projectName":"other"}}}"#,
    ]);
    let refused = refused.fails(1);
    assert!(
        refused.contains("spec.owner") && refused.contains("cannot be changed"),
        "{refused}"
    );

    kubectl.says(
        &["apply", "-f", &fixture("github.yaml")],
        &["configurationgroup.openchoreo.dev/github created"],
    );
    kubectl.says(
        &[
            "wait",
            "--for=condition=Ready",
            "component/greeter-service",
            "--timeout=60s",
        ],
        &["condition met"],
    );
    kubectl.says(&["get", "events"], &["greeter-service"]);

    // The data plane is a cluster of its own.
    let namespaces = kubectl.says(
        &[
            "--context",
            "local",
            "get",
            "ns",
            "-l",
            "openchoreo.dev/project=default",
            "-o",
            "name",
        ],
        &["dp-"],
    );
    let namespace = namespaces.trim().trim_start_matches("namespace/");
    kubectl.says(
        &[
            "--context",
            "local",
            "-n",
            namespace,
            "create",
            "deployment",
            "probe",
            "--image=registry.example.com/probe:1",
        ],
        &["created"],
    );
    kubectl.says(
        &[
            "--context",
            "local",
            "-n",
            namespace,
            "scale",
            "deployment",
            "probe",
            "--replicas=2",
        ],
        &["scaled"],
    );
    kubectl.says(
        &[
            "--context",
            "local",
            "-n",
            namespace,
            "wait",
            "--for=jsonpath={.status.readyReplicas}=2",
            "deployment/probe",
            "--timeout=60s",
        ],
        &["condition met"],
    );

    kubectl.says(
        &[
            "delete",
            "component",
            "greeter-service",
            "--wait",
            "--timeout=60s",
        ],
        &["deleted"],
    );
    let gone = kubectl.run(&["get", "component", "greeter-service"]).fails(1);
    assert!(gone.contains("NotFound"), "{gone}");
}
