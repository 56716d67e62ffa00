//! Promotions, as people ask for them, decide about them and look at them.

mod back;
mod gates;
mod people;
mod pipeline;
mod preview;
mod requests;
mod server;
mod sets;
mod strategies;

use std::time::Instant;

use serde_json::{Value, json};

use crate::support::{PATIENCE, Said, Up, run};
use server::{Answer, Server};

fn app(image: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: Component
metadata: {{name: cart}}
spec: {{owner: {{projectName: shop}}, type: Service}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Workload
metadata: {{name: cart}}
spec:
  owner: {{projectName: shop, componentName: cart}}
  containers: {{main: {{image: \"{image}\"}}}}
  endpoints: {{http: {{type: HTTP, port: 8080, visibility: public}}}}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Service
metadata: {{name: cart}}
spec:
  owner: {{projectName: shop, componentName: cart}}
  workloadName: cart
"
    )
}

fn read(up: &Up, object: &str) -> Value {
    serde_json::from_str(&up.choreo(["get", object, "-o", "json"]).out).unwrap_or_default()
}

/// Waits until something is so.
#[track_caller]
fn wait<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The newest artifact, once it is healthy in development.
#[track_caller]
fn built(up: &Up, image: &str) -> String {
    up.apply(&app(image)).ok();
    wait(&format!("{image} never ran in development"), || {
        let release = read(up, "release/cart-development");
        runs(&release, "cart", image).then_some(())?;
        let binding = read(up, "servicebinding/cart-development");
        let ready = binding["status"]["conditions"]
            .as_array()?
            .iter()
            .any(|c| c["type"] == "Ready" && c["status"] == "True");
        ready.then(|| {
            binding["spec"]["artifactRef"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
    })
}

/// Whether a release has a workload of this name with this image.
fn runs(release: &Value, workload: &str, image: &str) -> bool {
    release["spec"]["resources"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|r| {
            r["object"]["kind"] == "Deployment"
                && r["object"]["metadata"]["name"] == workload
                && r.pointer("/object/spec/template/spec/containers/0/image") == Some(&json!(image))
        })
}

fn in_production(up: &Up, image: &str) -> bool {
    let release = read(up, "release/cart-production");
    runs(&release, "cart", image) && !release.to_string().contains("cart-canary")
}

/// The program as somebody else, by impersonation.
fn acts_as(up: &Up, user: &str, groups: &[&str], arguments: &[&str]) -> Said {
    let text = std::fs::read_to_string(up.kubeconfig()).unwrap();
    let mut config: Value = serde_saphyr::from_str(&text).unwrap();
    for entry in config["users"].as_array_mut().unwrap() {
        entry["user"]["as"] = json!(user);
        entry["user"]["as-groups"] = json!(groups);
    }
    let file = up.folder().join(format!("kubeconfig-{user}"));
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = up.command(arguments);
    command.env("KUBECONFIG", file);
    run(&mut command)
}

/// Somebody with the right to do everything about promotions but to go past them.
const PEOPLE: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: promoter}
rules:
  - {apiGroups: [openchoreo.dev], resources: ['*'], verbs: [get, list, watch]}
  - {apiGroups: [openchoreo.dev], resources: [promotions, promotiondecisions, servicebindings], verbs: [create, patch, update]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: promoters}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: promoter}
subjects:
  - {apiGroup: rbac.authorization.k8s.io, kind: Group, name: team}
";

/// The promotions to an environment, of a component if one is named, from the first to the newest.
fn promotions(up: &Up, component: &str, environment: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&up.choreo(["get", "promotions", "-o", "json"]).ok()).unwrap();
    let mut all: Vec<Value> = list["items"].as_array().cloned().unwrap_or_default();
    all.retain(|p| {
        p["spec"]["targetEnvironment"] == environment && p["spec"]["owner"]["componentName"] == component
    });
    // Who was not looked at yet has come last.
    all.sort_by_key(|p| p["status"]["order"].as_i64().unwrap_or(i64::MAX));
    all
}

fn newest(up: &Up, environment: &str) -> Value {
    promotions(up, "cart", environment).pop().unwrap_or_default()
}

#[track_caller]
fn ended(up: &Up, environment: &str, phase: &str) -> Value {
    wait(&format!("no promotion to {environment} ended as {phase}"), || {
        Some(newest(up, environment)).filter(|p| p["status"]["phase"] == phase)
    })
}

/// A project `shop` on a pipeline with these paths, in the form of the field.
fn shop(paths: &str) -> String {
    format!(
        "
apiVersion: openchoreo.dev/v1alpha1
kind: DeploymentPipeline
metadata: {{name: guarded}}
spec:
  promotionPaths:
{paths}
---
apiVersion: openchoreo.dev/v1alpha1
kind: Project
metadata: {{name: shop}}
spec: {{deploymentPipelineRef: guarded}}
"
    )
}

/// A platform with `cart` in staging, from where the way to production demands something, and with people.
#[track_caller]
fn before_production(demands: &str) -> Up {
    let up = Up::in_memory();
    up.apply(&shop(
        &(path("development", "staging", "") + &path("staging", "production", demands)),
    ))
    .ok();
    up.apply(PEOPLE).ok();
    in_staging(&up, 1);
    up
}

/// A version of `cart` is built and promoted to staging.
#[track_caller]
fn in_staging(up: &Up, version: u32) {
    built(up, &format!("registry.example.com/cart:{version}"));
    up.choreo(["promote", "cart", "--to", "staging", "--wait"]).ok();
}

/// One path to one environment, with what it takes in flow style.
fn path(from: &str, to: &str, demands: &str) -> String {
    let demands = if demands.is_empty() {
        String::new()
    } else {
        format!(", {demands}")
    };
    format!("    - {{sourceEnvironmentRef: {from}, targetEnvironmentRefs: [{{name: {to}{demands}}}]}}\n")
}

/// What a promotion says it waits for, or how it ended.
fn says(promotion: &Value) -> String {
    let last = promotion["status"]["history"]
        .as_array()
        .and_then(|history| history.last())
        .map(|entry| entry["message"].to_string())
        .unwrap_or_default();
    format!(
        "{} {} {} {last}",
        promotion["status"]["phase"], promotion["status"]["reason"], promotion["status"]["waitsFor"]
    )
}

/// Waits until the newest promotion of `cart` to an environment says all of this.
#[track_caller]
fn until_it_says(up: &Up, environment: &str, words: &[&str]) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let newest = newest(up, environment);
        let said = says(&newest);
        if words.iter().all(|word| said.contains(word)) {
            return newest;
        }
        assert!(Instant::now() < deadline, "no {words:?} in {said}");
        std::thread::yield_now();
    }
}
