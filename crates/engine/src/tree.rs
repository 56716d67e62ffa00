//! What a component or a project has become: a tree from what the developer wrote down to the objects in the data plane,
//! each with its health, the reason in one line and the addresses that it answers at.
//!
//! Command line and console draw the same tree.

use serde::Serialize;
use serde_json::Value;

use crate::plans::pipeline;
use crate::world::{Kind, ObjectRef, World};

/// How a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Health {
    /// As it should be.
    Good,
    /// On its way, or waiting for something that the reason names.
    Waiting,
    /// Wrong; the reason says what.
    Bad,
    /// Stopped on purpose.
    Stopped,
    /// Nothing is known, or there is nothing to know: the object only says something.
    Plain,
}

/// An object in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Namespace, for objects of the data plane that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How it is doing.
    pub health: Health,
    /// Why, as a word for programs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Why, as a line for people. Empty where there is nothing to explain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What tells it from its siblings: an environment, a revision, an image.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Where it answers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// What became of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Node>,
}

/// The kinds that a tree can begin with.
pub const ROOTS: &[Kind] = &[Kind::Component, Kind::Project];

/// The tree of a component or a project; `None` when there is no such object, or it is of another kind.
pub fn tree(world: &World, root: &ObjectRef) -> Option<Node> {
    let objects = Objects::new(world, &root.key.namespace);
    match root.kind {
        Kind::Component => objects
            .get("Component", &root.key.name)
            .map(|object| objects.component(object)),
        Kind::Project => objects
            .get("Project", &root.key.name)
            .map(|object| objects.project(object)),
        _ => None,
    }
}

/// An organization's objects as JSON, which is what all kinds have in common.
struct Objects {
    all: Vec<Value>,
    /// Environments in the order of promotion.
    environments: Vec<String>,
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn name(object: &Value) -> &str {
    text(object, "/metadata/name")
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

impl Objects {
    fn new(world: &World, namespace: &str) -> Self {
        let all = world
            .iter()
            .filter(|object| object.meta().namespace.as_deref() == Some(namespace));
        // No kind of ours can fail to be JSON.
        let all = all.filter_map(|object| object.to_value().ok()).collect();
        let mut environments: Vec<String> = vec![];
        for promotion in world.in_namespace::<choreo_api::v1alpha1::DeploymentPipeline>(namespace) {
            let Ok(order) = pipeline::order(promotion) else {
                continue;
            };
            for environment in order.environments {
                if !environments.contains(&environment) {
                    environments.push(environment);
                }
            }
        }
        Self { all, environments }
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.all
            .iter()
            .filter(move |object| text(object, "/kind") == kind)
    }

    fn get<'a>(&'a self, kind: &'a str, wanted: &str) -> Option<&'a Value> {
        self.of_kind(kind).find(|object| name(object) == wanted)
    }

    /// Objects of a kind whose spec names this owner.
    fn owned<'a>(
        &'a self,
        kind: &'a str,
        project: &'a str,
        component: &'a str,
    ) -> impl Iterator<Item = &'a Value> {
        self.of_kind(kind).filter(move |object| {
            text(object, "/spec/owner/componentName") == component
                && text(object, "/spec/owner/projectName") == project
        })
    }

    /// Where an environment stands in the order of promotion; unknown ones come last.
    fn rank(&self, environment: &str) -> (usize, String) {
        let position = self.environments.iter().position(|own| own == environment);
        (position.unwrap_or(usize::MAX), environment.to_owned())
    }

    fn project(&self, project: &Value) -> Node {
        let project_name = name(project);
        let mut node = condition_node(project);
        let mut cells: Vec<&Value> = self
            .of_kind("Release")
            .filter(|release| {
                text(release, "/spec/owner/projectName") == project_name
                    && text(release, "/spec/owner/componentName").is_empty()
            })
            .collect();
        cells.sort_by_key(|release| self.rank(text(release, "/spec/environmentName")));
        for cell in cells {
            let mut release = release_node(cell);
            release.detail = format!("cell of {}", text(cell, "/spec/environmentName"));
            node.children.push(release);
        }
        let components = self.of_kind("Component");
        for component in components.filter(|object| text(object, "/spec/owner/projectName") == project_name) {
            node.children.push(self.component(component));
        }
        node
    }

    fn component(&self, component: &Value) -> Node {
        let component_name = name(component);
        let project = text(component, "/spec/owner/projectName");
        let mut node = condition_node(component);
        node.detail = text(component, "/spec/type").to_owned();
        for kind in [
            "Build",
            "Workload",
            "Service",
            "WebApplication",
            "ScheduledTask",
            "API",
        ] {
            node.children
                .extend(self.owned(kind, project, component_name).map(condition_node));
        }
        // An artifact that no environment runs any more is history; the newest one is shown in any case.
        let bindings = self.bindings(project, component_name);
        let latest = text(component, "/status/latestArtifact");
        for artifact in self.owned("DeployableArtifact", project, component_name) {
            let used = bindings
                .iter()
                .any(|binding| text(binding, "/spec/artifactRef") == name(artifact));
            if used || name(artifact) == latest {
                let mut child = condition_node(artifact);
                child.detail = images(artifact);
                node.children.push(child);
            }
        }
        node.children
            .extend(bindings.into_iter().map(|binding| self.binding(binding)));
        node
    }

    fn bindings<'a>(&'a self, project: &'a str, component: &'a str) -> Vec<&'a Value> {
        let mut bindings: Vec<&Value> = crate::binding::KINDS
            .into_iter()
            .flat_map(|kind| self.owned(kind.as_str(), project, component))
            .collect();
        bindings.sort_by_key(|binding| self.rank(environment(binding)));
        bindings
    }

    fn binding(&self, binding: &Value) -> Node {
        let mut node = condition_node(binding);
        let environment = environment(binding);
        node.detail = environment.to_owned();
        match text(binding, "/spec/releaseState") {
            "" | "Active" => {}
            state => node.detail += &format!(", {state}"),
        }
        let release = self.get("Release", name(binding));
        // Older revisions are history; the one that the release is of is the present.
        let present = release
            .map(|release| text(release, "/spec/deploymentRef"))
            .unwrap_or_default();
        let of_binding = |object: &&Value| text(object, "/spec/bindingRef/name") == name(binding);
        let revision = |object: &&Value| object.pointer("/spec/revision").and_then(Value::as_i64);
        let deployment = match self.get("Deployment", present) {
            Some(deployment) => Some(deployment),
            None => self.of_kind("Deployment").filter(of_binding).max_by_key(revision),
        };
        let release = release.map(release_node);
        match deployment {
            Some(deployment) => {
                let mut child = condition_node(deployment);
                if let Some(revision) = revision(&deployment) {
                    child.detail = format!("revision {revision}");
                }
                child.children.extend(release);
                node.children.push(child);
            }
            None => node.children.extend(release),
        }
        for endpoint in self.of_kind("Endpoint") {
            let same_component = text(endpoint, "/spec/owner/componentName")
                == text(binding, "/spec/owner/componentName")
                && text(endpoint, "/spec/owner/projectName") == text(binding, "/spec/owner/projectName");
            let same_track = track(endpoint) == track(binding);
            if same_component && same_track && text(endpoint, "/spec/environment") == environment {
                node.children.push(endpoint_node(endpoint));
            }
        }
        node
    }
}

/// The environment of a binding.
fn environment(binding: &Value) -> &str {
    match text(binding, "/spec/environment") {
        // Bindings of APIs have another name for it.
        "" => text(binding, "/spec/environmentName"),
        environment => environment,
    }
}

/// The track of an object; the default one may be left out.
fn track(object: &Value) -> &str {
    match text(object, "/spec/track") {
        "" => "default",
        track => track,
    }
}

/// A node whose health is the object's `Ready` condition.
fn condition_node(object: &Value) -> Node {
    let ready = list(object, "/status/conditions").find(|condition| condition["type"] == "Ready");
    let (mut health, mut reason, mut message) = (Health::Plain, String::new(), String::new());
    if let Some(ready) = ready {
        text(ready, "/reason").clone_into(&mut reason);
        health = match text(ready, "/status") {
            "True" => Health::Good,
            "False" if is_failure(&reason) => Health::Bad,
            _ => Health::Waiting,
        };
        if health != Health::Good {
            first_line(text(ready, "/message")).clone_into(&mut message);
        }
    }
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        (health, reason) = (Health::Waiting, "Deleting".to_owned());
        if message.is_empty() {
            let finalizers: Vec<&str> = list(object, "/metadata/finalizers")
                .filter_map(Value::as_str)
                .collect();
            message = format!("is being deleted; waiting for {}", finalizers.join(", "));
        }
    }
    Node {
        kind: text(object, "/kind").to_owned(),
        name: name(object).to_owned(),
        namespace: None,
        health,
        reason,
        message,
        detail: String::new(),
        urls: vec![],
        children: vec![],
    }
}

/// Reasons that time alone does not heal.
fn is_failure(reason: &str) -> bool {
    [
        "Failed", "Invalid", "Error", "Degraded", "Broken", "Refused", "Conflict",
    ]
    .iter()
    .any(|word| reason.contains(word))
}

/// A release and its objects in the data plane.
fn release_node(release: &Value) -> Node {
    let mut node = condition_node(release);
    // Before anything was applied the status is empty, and the spec says what is to come.
    if list(release, "/status/resources").next().is_none() {
        for resource in list(release, "/spec/resources") {
            let object = &resource["object"];
            node.children.push(Node {
                kind: text(object, "/kind").to_owned(),
                name: name(object).to_owned(),
                namespace: object
                    .pointer("/metadata/namespace")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
                health: Health::Waiting,
                reason: "NotApplied".to_owned(),
                message: "not applied yet".to_owned(),
                detail: String::new(),
                urls: vec![],
                children: vec![],
            });
        }
        return node;
    }
    for resource in list(release, "/status/resources") {
        let state = text(resource, "/healthStatus");
        let health = match state {
            "Healthy" => Health::Good,
            "Degraded" | "Missing" => Health::Bad,
            "Suspended" => Health::Stopped,
            _ => Health::Waiting,
        };
        let message = if health == Health::Good {
            ""
        } else {
            first_line(text(resource, "/message"))
        };
        node.children.push(Node {
            kind: text(resource, "/kind").to_owned(),
            name: text(resource, "/name").to_owned(),
            namespace: resource
                .pointer("/namespace")
                .and_then(Value::as_str)
                .map(str::to_owned),
            health,
            reason: state.to_owned(),
            message: message.to_owned(),
            detail: String::new(),
            urls: vec![],
            children: vec![],
        });
    }
    node
}

fn endpoint_node(endpoint: &Value) -> Node {
    let mut node = condition_node(endpoint);
    text(endpoint, "/spec/type").clone_into(&mut node.detail);
    node.urls = list(endpoint, "/status/addresses")
        .filter(|address| text(address, "/level") != "Project")
        .map(|address| text(address, "/url").to_owned())
        .filter(|url| !url.is_empty())
        .collect();
    node
}

/// The images of an artifact's containers.
fn images(artifact: &Value) -> String {
    let containers = artifact
        .pointer("/spec/workload/containers")
        .and_then(Value::as_object);
    let images: Vec<&str> = containers
        .into_iter()
        .flat_map(|containers| containers.values())
        .map(|container| text(container, "/image"))
        .collect();
    images.join(", ")
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}
