//! Commands that need no server.

use crate::support::{choreo, fixture, program, run_with_input, snapshot};

#[test]
fn help_and_version() {
    snapshot!("help", choreo(["--help"]).ok(), None);
    let version = choreo(["version"]).ok();
    assert!(
        version.starts_with(concat!("choreo ", env!("CARGO_PKG_VERSION"))),
        "{version}"
    );
    for shell in ["bash", "zsh", "fish"] {
        assert!(choreo(["completion", shell]).ok().contains("choreo"));
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    choreo(["no-such-command"]).fails(2);
    choreo(["get"]).fails(2);
    choreo(["render"]).fails(2);
    choreo(["up", "--api-port", "70000"]).fails(2);
}

#[test]
fn without_a_platform_commands_say_how_to_start_one() {
    let error = choreo(["get", "components"]).fails(5);
    assert!(
        error.contains("no kubeconfig") && error.contains("choreo up"),
        "{error}"
    );
    choreo(["get", "components", "--kubeconfig", "/nonexistent/kubeconfig"]).fails(1);
}

#[test]
fn rendering_waits_for_what_is_missing_and_shows_the_rest() {
    let said = choreo(["render", "-f", &fixture("greeter.yaml"), "-o", "name"]);
    snapshot!(
        "render-waiting",
        said.transcript().replace(env!("CARGO_MANIFEST_DIR"), "."),
        None
    );
}

#[test]
fn rendering_twice_gives_the_same_bytes() {
    let files = ["-f", &fixture("greeter.yaml"), "-f", &fixture("github.yaml")];
    let once = choreo(["render"].iter().chain(&files)).ok();
    assert_eq!(once, choreo(["render"].iter().chain(&files)).ok());
    snapshot!("render", once, None);
    let other = choreo(["render", "-e", "production"].iter().chain(&files)).fails(1);
    assert!(other.contains("production"), "{other}");
}

#[test]
fn mistakes_have_file_line_and_column() {
    let said = choreo(["validate", "-f", &fixture("mistakes.yaml")]);
    assert_eq!(said.status, 1);
    snapshot!(
        "validate-mistakes",
        said.transcript().replace(env!("CARGO_MANIFEST_DIR"), "."),
        None
    );
    let said = run_with_input(program().args(["validate", "-f", "-"]), "kind: [\n");
    let error = said.fails(1);
    assert!(
        error.starts_with("<stdin>:") && error.contains("no YAML"),
        "{error}"
    );
}

#[test]
fn what_may_still_come_is_a_warning_and_strict_makes_it_an_error() {
    let file = fixture("greeter.yaml");
    let said = choreo(["validate", "-f", &file]);
    assert!(
        said.err
            .contains("warning: ConfigurationGroup \"github\" not found"),
        "{}",
        said.err
    );
    assert_eq!(said.ok(), "3 objects valid, 1 warning\n");
    choreo(["validate", "--strict", "-f", &file]).fails(1);
    assert_eq!(
        choreo(["validate", "--strict", "-f", &file, "-f", &fixture("github.yaml")]).ok(),
        "4 objects valid\n"
    );
}

#[test]
fn short_and_older_forms_are_converted() {
    let short = "
apiVersion: choreo.dev/v1
kind: Component
metadata: {name: catalog, namespace: default}
spec:
  type: Service
  image: registry.example.com/catalog:1.0.0
  endpoints:
    - {name: http, port: 8080, path: /catalog, visibility: public}
";
    let said = run_with_input(program().args(["convert", "-f", "-"]), short);
    snapshot!("convert-short", said.transcript(), None);
    let error = run_with_input(
        program().args(["convert", "-f", "-"]),
        "{apiVersion: choreo.dev/v1, kind: Nonsense}\n",
    )
    .fails(1);
    assert!(
        error.contains("<stdin>:1:") && error.contains("Nonsense"),
        "{error}"
    );
}

#[test]
fn definitions_are_printed() {
    let ours = choreo(["crds", "-o", "name"]).ok();
    assert!(
        ours.lines().any(|name| name == "components.openchoreo.dev"),
        "{ours}"
    );
    let foreign = choreo(["crds", "--foreign", "-o", "name"]).ok();
    assert!(
        foreign
            .lines()
            .any(|name| name == "httproutes.gateway.networking.k8s.io"),
        "{foreign}"
    );
    assert!(
        choreo(["crds"])
            .ok()
            .starts_with("apiVersion: apiextensions.k8s.io/v1\n")
    );
}

/// A service that is public and calls one system outside.
pub(crate) const TALK: &str = "\
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {name: front}
spec: {owner: {projectName: default}, type: Service}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {name: front}
spec:
  owner: {projectName: default, componentName: front}
  containers: {main: {image: a}}
  endpoints: {web: {type: HTTP, port: 8080, visibility: public}}
  connections: {pay: {type: external, params: {url: 'https://pay.example.com'}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {name: front}
spec: {owner: {projectName: default, componentName: front}, workloadName: front}
";

#[test]
fn a_cell_explains_who_may_talk_to_whom() {
    let ask = |question: &[&str]| {
        let arguments = ["cell", "explain"].iter().chain(question).chain(&["-f", "-"]);
        run_with_input(program().args(arguments), TALK)
    };
    snapshot!(
        "cell-explain-allowed",
        ask(&["gateway/public", "front"]).ok(),
        None
    );
    assert_eq!(
        ask(&["gateway/public -> front"]).ok(),
        ask(&["gateway/public", "->", "front"]).ok()
    );
    ask(&["front", "https://pay.example.com"]).ok();
    let denied = ask(&["front", "other.example.com:443"]);
    assert_eq!(denied.status, 1);
    snapshot!("cell-explain-denied", denied.transcript(), None);
    let unknown = ask(&["front", "nobody"]).fails(4);
    assert!(unknown.contains("Component \"nobody\" not found"), "{unknown}");
    ask(&["front", "-"]).fails(2);
}
