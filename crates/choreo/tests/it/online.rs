//! Commands against a running platform.

use crate::support::{Background, Up, snapshot};
use crate::up::PROJECT;

#[test]
fn objects_are_applied_shown_awaited_and_deleted() {
    let up = Up::in_memory();
    assert_eq!(up.apply(PROJECT).ok(), "project.openchoreo.dev/shop created\n");
    up.choreo(["wait", "project/shop", "--for=condition=Ready", "--timeout=60s"])
        .ok();
    assert_eq!(up.apply(PROJECT).ok(), "project.openchoreo.dev/shop unchanged\n");
    let changed = PROJECT.replace("spec: {", "spec: {description: Sells things, ");
    assert_eq!(
        up.apply(&changed).ok(),
        "project.openchoreo.dev/shop configured\n"
    );
    up.choreo(["wait", "project/shop", "--for=condition=Ready", "--timeout=60s"])
        .ok();

    snapshot!(
        "get-environments",
        up.choreo(["get", "environments"]).ok(),
        Some(&up)
    );
    snapshot!(
        "describe-pipeline",
        up.choreo(["describe", "deploymentpipeline/default"]).ok(),
        Some(&up)
    );
    assert_eq!(
        up.choreo(["get", "env", "-o", "name"]).ok(),
        "environment.openchoreo.dev/development\nenvironment.openchoreo.dev/production\nenvironment.openchoreo.dev/staging\n"
    );
    let yaml = up.choreo(["get", "project", "shop", "-o", "yaml"]).ok();
    assert!(
        yaml.starts_with("apiVersion: openchoreo.dev/v1alpha1\nkind: Project\n"),
        "{yaml}"
    );
    assert!(!yaml.contains("managedFields"), "{yaml}");
    let selected = up
        .choreo([
            "get",
            "projects",
            "-l",
            "openchoreo.dev/name=default",
            "-o",
            "name",
        ])
        .ok();
    assert_eq!(selected, "project.openchoreo.dev/default\n");

    let missing = up.choreo(["get", "project/none", "project/shop"]);
    assert!(missing.out.contains("shop"), "{}", missing.out);
    assert!(missing.fails(4).contains("\"none\" not found"));
    let unknown = up.choreo(["get", "projcts"]).fails(4);
    assert!(unknown.contains("did you mean `projects`?"), "{unknown}");

    assert_eq!(
        up.choreo(["delete", "project", "shop", "--timeout=60s"]).ok(),
        "project.openchoreo.dev/shop deleted\n"
    );
    up.choreo(["get", "project/shop"]).fails(4);
    up.choreo(["delete", "project", "shop"]).fails(4);
    up.choreo(["delete", "project", "shop", "--ignore-not-found"])
        .ok();
}

#[test]
fn a_watch_shows_what_comes_and_changes() {
    let up = Up::in_memory();
    let watch = Background::start(&mut up.command(["get", "projects", "-w", "-o", "name"]));
    watch.line_with("project.openchoreo.dev/default");
    up.apply(PROJECT).ok();
    watch.line_with("project.openchoreo.dev/shop");
}

#[test]
fn nothing_is_half_applied() {
    let up = Up::in_memory();
    // The second object is wrong in a way that files show, the third in one that only the server can know.
    let by_schema = format!(
        "{PROJECT}---\n{}",
        PROJECT
            .replace("shop", "other")
            .replace("deploymentPipelineRef", "pipeline")
    );
    let error = up.apply(&by_schema).fails(1);
    assert!(
        error.contains("spec.pipeline") && error.contains("nothing was applied"),
        "{error}"
    );
    let by_server =
        format!("{PROJECT}---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: Not_A_Name}}}}\n");
    let error = up.apply(&by_server).fails(1);
    assert!(
        error.contains("<stdin>:") && error.contains("nothing was applied"),
        "{error}"
    );
    let unknown =
        format!("{PROJECT}---\n{{apiVersion: example.org/v1, kind: Thing, metadata: {{name: a}}}}\n");
    let error = up.apply(&unknown).fails(1);
    assert!(
        error.contains("no kind Thing") && error.contains("nothing was applied"),
        "{error}"
    );
    assert!(up.apply("a: [").fails(1).contains("no YAML"));
    up.choreo(["get", "project/shop"]).fails(4);
    // A dry run writes nothing, either.
    let asked = |input: &str| {
        crate::support::run_with_input(&mut up.command(["apply", "--dry-run=server", "-f", "-"]), input).ok()
    };
    assert_eq!(
        asked(PROJECT),
        "project.openchoreo.dev/shop created (server dry run)\n"
    );
    up.choreo(["get", "project/shop"]).fails(4);
    // And says what it would do to what is there.
    let map = "{apiVersion: v1, kind: ConfigMap, metadata: {name: m}, data: {a: b}}";
    up.apply(map).ok();
    assert_eq!(asked(map), "configmap/m unchanged (server dry run)\n");
    let changed = map.replace("a: b", "a: c");
    assert_eq!(asked(&changed), "configmap/m configured (server dry run)\n");
    assert_eq!(asked(&changed), "configmap/m configured (server dry run)\n");
}

#[test]
fn an_organization_and_what_is_in_it_can_come_together() {
    let up = Up::in_memory();
    let all = "
apiVersion: openchoreo.dev/v1alpha1
kind: Project
metadata: {name: shop, namespace: acme}
spec: {deploymentPipelineRef: default}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Organization
metadata: {name: acme}
spec: {}
";
    let out = up.apply(all).ok();
    assert_eq!(
        out,
        "organization.openchoreo.dev/acme created\nproject.openchoreo.dev/shop created\n"
    );
    let elsewhere = up.choreo(["-n", "acme", "get", "projects", "-o", "name"]).ok();
    assert_eq!(elsewhere, "project.openchoreo.dev/shop\n");
    let everywhere = up.choreo(["get", "projects", "-A"]).ok();
    assert!(
        everywhere.contains("acme") && everywhere.contains("NAMESPACE"),
        "{everywhere}"
    );
}

#[test]
fn waiting_ends_with_the_reason() {
    let up = Up::in_memory();
    let waiting = PROJECT.replace("deploymentPipelineRef: default", "deploymentPipelineRef: missing");
    up.apply(&waiting).ok();
    let error = up.choreo(["wait", "project/shop", "--timeout=2s"]).fails(3);
    assert!(error.contains("missing") && error.contains("hint: "), "{error}");
    let tree = up.choreo(["tree", "project/shop"]).ok();
    assert!(tree.contains("missing"), "{tree}");
    up.choreo(["wait", "project/none", "--for=create", "--timeout=1s"])
        .fails(3);
    up.choreo(["wait", "project/none", "--for=delete"]).ok();
    up.choreo(["tree", "project/none"]).fails(4);
    up.choreo(["tree", "environment/staging"]).fails(2);
}

#[test]
fn the_kubeconfig_can_be_found_and_merged() {
    let up = Up::in_memory();
    let folder = up.folder().to_str().unwrap();
    let mut command = up.command(["kubeconfig"]);
    let path = crate::support::run(command.env_remove("KUBECONFIG").env("CHOREO_DATA_DIR", folder)).ok();
    assert_eq!(path.trim(), up.kubeconfig().to_str().unwrap());
    // Without KUBECONFIG the folder's own is used.
    let mut command = up.command(["get", "projects", "-o", "name"]);
    crate::support::run(command.env_remove("KUBECONFIG").env("CHOREO_DATA_DIR", folder)).ok();
    let merged = up.folder().join("merged");
    let merge = [
        "--kubeconfig",
        up.kubeconfig().to_str().unwrap(),
        "kubeconfig",
        "--merge",
        merged.to_str().unwrap(),
    ]
    .map(str::to_owned);
    for _ in 0..2 {
        up.choreo(&merge).ok();
    }
    let text = std::fs::read_to_string(&merged).unwrap();
    assert_eq!(text.matches("name: local").count(), 2, "{text}");
    let said = crate::support::choreo([
        "--kubeconfig",
        merged.to_str().unwrap(),
        "--context",
        "local",
        "get",
        "gateways",
        "-A",
        "-o",
        "name",
    ]);
    assert!(said.ok().contains("gateway-external"));
    let error = up.choreo(["--context", "none", "get", "projects"]).fails(2);
    assert!(error.contains("its contexts are: choreo, local"), "{error}");
}

#[test]
fn a_cell_explains_what_its_policies_allow() {
    let up = Up::in_memory();
    up.apply(crate::offline::TALK).ok();
    up.choreo([
        "wait",
        "component/front",
        "--for=condition=Ready",
        "--timeout=60s",
    ])
    .ok();
    let allowed = up.choreo(["cell", "explain", "gateway/public -> front"]).ok();
    assert!(
        allowed.contains("allowed by CiliumNetworkPolicy")
            && allowed.contains("workload endpoints[web].visibility"),
        "{allowed}"
    );
    // Policies name no path for a request that nobody describes.
    up.choreo([
        "cell",
        "explain",
        "gateway/public",
        "front",
        "--request",
        "GET /",
        "-e",
        "development",
    ])
    .ok();
    let denied = up.choreo(["cell", "explain", "gateway/organization", "front"]);
    assert_eq!(denied.status, 1, "{}", denied.out);
    let json = up.choreo(["cell", "explain", "front", "internet", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert!(
        report["paths"][0]["hops"][0]["explanation"]["egress"]["closed"]["by"].is_array(),
        "{report}"
    );
}
